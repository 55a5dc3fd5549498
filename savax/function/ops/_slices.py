"""Writing slices and windows of a tensor as TensorFlow ops, shared by slice, gather and scatter."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from jax import core

from savax.function.ops._sizes import all_known, as_index, at_least, clamp, is_known, with_rank

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


def lower_slice(
    g: GraphBuilder,
    operand: Symbol,
    starts: Sequence[Any],
    limits: Sequence[Any],
    strides: Sequence[Any] | None = None,
    drop: Collection[int] = (),
) -> Symbol:
    """Writes ``operand[start:limit:stride, ...]``, each bound a number or an expression.

    Bounds counted from the end of an unknown dimension become negative constants, and bounds that
    only cap it stay plain numbers, as a person would write them.

    Args:
      g: the graph builder.
      operand: what to slice.
      starts: first position per axis.
      limits: position behind the last per axis.
      strides: positive steps; None: 1.
      drop: axes of which one position is taken, and that the result doesn't have.
    """
    steps = tuple(strides) if strides else (1,) * len(starts)
    lengths = tuple(map(_length, starts, limits, steps))
    axes = range(len(lengths))
    if not drop and all(
        length == size for length, size in zip(lengths, operand.shape, strict=True)
    ):
        return operand
    # StridedSlice would lose a known length of an unknown axis: its bounds may be cut off.
    kept = [axis for axis in axes if axis not in drop]
    sized = any(is_known(lengths[a]) and not is_known(operand.shape[a]) for a in kept)
    if sized and all(step == 1 for step in steps):
        return g.squeeze(_sized_slice(g, operand, starts, lengths), drop)
    begin_mask = end_mask = shrink_mask = 0
    begins: list[Any] = []
    ends: list[Any] = []
    for axis, (size, start, limit) in enumerate(zip(operand.shape, starts, limits, strict=True)):
        begins.append(_from_end(start, size))
        if axis in drop:
            shrink_mask |= 1 << axis
            first = begins[-1]
            ends.append(first + 1 if is_known(first) else start + 1)
            continue
        begin_mask |= (is_known(start) and start == 0) << axis
        end_mask |= bool(limit == size) << axis
        ends.append(0 if limit == size else _plain_limit(limit, size, start))
    result = g.op(
        "StridedSlice",
        operand,
        g.dims(tuple(begins)),
        g.dims(tuple(ends)),
        g.dims(steps),
        begin_mask=begin_mask,
        end_mask=end_mask,
        shrink_axis_mask=shrink_mask,
        shape=tuple(length for axis, length in enumerate(lengths) if axis not in drop),
    )
    return result if all_known(steps) else with_rank(g, result)


def _sized_slice(
    g: GraphBuilder, operand: Symbol, starts: Sequence[Any], lengths: Sequence[Any]
) -> Symbol:
    """Writes a slice by its lengths, which TensorFlow then knows."""
    to_the_end = [
        -1 if not is_known(length) and start + length == size else length
        for start, length, size in zip(starts, lengths, operand.shape, strict=True)
    ]
    begins, window = g.dims(tuple(starts)), g.dims(tuple(to_the_end))
    return g.op("Slice", operand, begins, window, shape=tuple(lengths))


def squeezed_slice(g: GraphBuilder, window: Symbol, axes: Collection[int]) -> Symbol | None:
    """Writes the squeeze of a slice as one StridedSlice that drops the axes; None if it can't."""
    node = window.node
    if node is None or node.op not in ("StridedSlice", "Slice"):
        return None
    if node.op == "StridedSlice" and (
        node.attrs.get("shrink_axis_mask") or node.attrs.get("new_axis_mask")
    ):
        return None
    operand = node.inputs[0]
    steps = node.inputs[3].constant if node.op == "StridedSlice" else np.ones(window.ndim, np.int32)
    starts = _vector_values(node.inputs[1])
    if starts is None or steps is None or (steps < 1).any():
        return None
    starts = [
        size + start if is_known(start) and start < 0 else start
        for start, size in zip(starts, operand.shape, strict=True)
    ]
    limits = [
        start + (length - 1) * int(step) + 1
        for start, length, step in zip(starts, window.shape, steps, strict=True)
    ]
    return lower_slice(g, operand, starts, limits, [int(step) for step in steps], drop=axes)


def _vector_values(vector: Symbol) -> list[Any] | None:
    if vector.constant is not None:
        return [int(value) for value in vector.constant]
    if vector.node is None or vector.node.op != "Pack":
        return None
    values = [known_value(element) for element in vector.node.inputs]
    return None if any(value is None for value in values) else values


def _length(start: Any, limit: Any, stride: Any) -> Any:
    length = limit - start
    return length if is_known(stride) and stride == 1 else (length + (stride - 1)) // stride


def _from_end(start: Any, size: Any) -> Any:
    """A start as a number where it lies at a fixed distance from the end."""
    if is_known(start):
        return int(start)
    distance = start - size
    if is_known(distance) and distance < 0 and at_least(start, 0):
        return int(distance)
    return start


def _plain_limit(limit: Any, size: Any, start: Any) -> Any:
    """A limit as a number where TensorFlow's own bounds give the same slice."""
    if is_known(limit):
        return int(limit)
    distance = limit - size
    if is_known(distance) and distance < 0 and at_least(limit, 0):
        return int(distance)
    # JAX writes `x[:5]` of an unknown size as the limit min(size, 5): a StridedSlice stops there.
    if is_known(start):
        for number in map(int, re.findall(r"\d+", str(limit))):
            if core.min_dim(size, number) == limit:
                return number
    return limit


def known_value(symbol: Symbol) -> Any:
    """Returns a scalar as a number or a dim expression; None if it is neither."""
    if symbol.constant is not None:
        return int(symbol.constant)
    return symbol.dim


def lower_window(
    g: GraphBuilder, operand: Symbol, starts: Sequence[Symbol], window: Sequence[Any]
) -> Symbol:
    """Writes the window of given sizes at computed starts, moved inside the operand as JAX does."""
    fixed = _fixed_starts(operand.shape, starts, window)
    if fixed is not None:
        ends = [start + length for start, length in zip(fixed, window, strict=True)]
        return lower_slice(g, operand, fixed, ends)
    begins = _clamped_starts(g, operand.shape, starts, window)
    lengths = [
        -1 if not is_known(length) and length == size else length
        for length, size in zip(window, operand.shape, strict=True)
    ]
    return g.op(
        "Slice",
        operand,
        g.op("Pack", begins, axis=0, shape=(len(begins),)),
        g.dims(tuple(lengths)),
        shape=tuple(window),
    )


def _fixed_starts(
    shape: Sequence[Any], starts: Sequence[Symbol], window: Sequence[Any]
) -> list[Any] | None:
    """Starts as numbers or dim expressions; None if one has to be computed or clamped."""
    fixed: list[Any] = []
    for size, start, length in zip(shape, starts, window, strict=True):
        position = fixed_start(size, known_value(start), length)
        if position is None:
            return None
        fixed.append(position)
    return fixed


def fixed_start(size: Any, start: Any, length: Any) -> Any:
    """Returns where a window lies after JAX has moved it inside an axis; None if undecided.

    Args:
      size: of the axis.
      start: a number, a dim expression, or None.
      length: of the window.
    """
    room = size - length
    if is_known(room) and room == 0:
        return 0
    if start is None:
        return None
    if is_known(start) and is_known(room):
        return min(max(int(start), 0), int(room))
    if at_least(start, 0) and at_least(room, start):
        return start
    if at_least(0, start) and at_least(room, 0):
        return 0
    return None


def _clamped_starts(
    g: GraphBuilder, shape: Sequence[Any], starts: Sequence[Symbol], window: Sequence[Any]
) -> list[Symbol]:
    begins = []
    for size, start, length in zip(shape, starts, window, strict=True):
        room = size - length
        if is_known(room) and room == 0:
            begins.append(g.const(np.int32(0)))
            continue
        begins.append(g.cast(clamp(g, as_index(g, start), room), "int32"))
    return begins


def lower_window_update(
    g: GraphBuilder, operand: Symbol, update: Symbol, starts: Sequence[Symbol]
) -> Symbol:
    """Writes ``operand`` with a window replaced, moved inside the operand as JAX does."""
    shape, window = operand.shape, update.shape
    if all(size == length for size, length in zip(shape, window, strict=True)):
        return update
    if any(is_known(length) and length == 0 for length in window):
        return operand
    fixed = _fixed_starts(shape, starts, window)
    if fixed is not None:
        return _replaced(g, operand, update, fixed, 0)
    begins = _clamped_starts(g, shape, starts, window)
    inside: Symbol | None = None
    for axis, (size, length, begin) in enumerate(zip(shape, window, begins, strict=True)):
        if size == length:
            continue
        position = g.op("Sub", iota(g, size), begin, shape=(size,))
        if is_known(length) and length == 1:  # the update broadcasts along the axis
            hit = g.op("Equal", position, np.int32(0), shape=(size,))
        else:
            last = g.op("Sub", g.dim(length), np.int32(1), shape=())
            near = g.op("Minimum", g.op("Maximum", position, np.int32(0)), last, shape=(size,))
            hit = g.op("Equal", position, near, shape=(size,))
            taken = (*update.shape[:axis], size, *update.shape[axis + 1 :])
            update = g.op("GatherV2", update, near, np.array(axis, np.int32), shape=taken)
        hit = g.reshape(hit, (size, *(1,) * (len(shape) - axis - 1)))
        inside = hit if inside is None else g.op("LogicalAnd", inside, hit)
    assert inside is not None  # some axis differs
    return g.op("SelectV2", inside, update, operand, shape=shape)


def _replaced(
    g: GraphBuilder, operand: Symbol, update: Symbol, starts: Sequence[Any], axis: int
) -> Symbol:
    """Joins the parts before and behind a window at fixed starts with the window, axis by axis."""
    if axis == len(starts) or all(
        size == length
        for size, length in zip(operand.shape[axis:], update.shape[axis:], strict=True)
    ):
        return update
    size, length, start = operand.shape[axis], update.shape[axis], starts[axis]

    def part(low: Any, high: Any) -> Symbol:
        lows = [0] * len(operand.shape)
        highs = list(operand.shape)
        lows[axis], highs[axis] = low, high
        return lower_slice(g, operand, lows, highs)

    if size == length:
        return _replaced(g, operand, update, starts, axis + 1)
    parts = [_replaced(g, part(start, start + length), update, starts, axis + 1)]
    if not (is_known(start) and start == 0):
        parts.insert(0, part(0, start))
    if start + length != size:
        parts.append(part(start + length, size))
    return g.concat(parts, axis)


def iota(g: GraphBuilder, size: Any, dtype: Any = np.int32) -> Symbol:
    """Returns the vector 0, 1, ... of a size that may be unknown."""
    if is_known(size):
        return g.const(np.arange(int(size), dtype=dtype))
    values = g.op("Range", np.int32(0), g.dim(size), np.int32(1), shape=(size,))
    return g.cast(values, dtype)
