"""Reading at computed positions: gather, GatherV2, GatherNd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from savax.errors import ShapeMismatchError
from savax.function.evaluation._plan_values import static_value
from savax.function.ops._indexing import all_of, clamped, in_bounds, index_columns, index_grid
from savax.function.ops._operands import static_int
from savax.function.ops._registry import evaluates, folds, lowers
from savax.function.ops._sizes import all_known, at_least, is_known, product
from savax.function.ops._slices import fixed_start, iota, lower_slice, lower_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol
    from savax.types import DType


# Lowering. A gather reads one window of the operand per index vector. Axes of the result are
# labelled on the way: ("batch", i) is the i-th axis of the index array, ("axis", d) the operand's
# axis d; the last step puts them in JAX's order.

_Label = tuple[str, int]


@dataclass(frozen=True)
class _Gather:
    """The parts of a gather's dimension numbers.

    Attributes:
      batch: sizes of the index array without its last axis.
      mapped: operand axis -> column of starts.
      batching: operand axis -> batch axis with the same position.
      window: length of the window per operand axis.
      collapsed: operand axes that the result doesn't have.
      offset_dims: result axes that are window axes.
    """

    batch: tuple[Any, ...]
    mapped: dict[int, Symbol]
    batching: dict[int, int]
    window: tuple[Any, ...]
    collapsed: frozenset[int]
    offset_dims: tuple[int, ...]

    def labels(self) -> list[_Label]:
        """Returns the axes of the result in JAX's order."""
        rank = len(self.batch) + len(self.offset_dims)
        axes = iter(
            d for d in range(len(self.window)) if d not in self.collapsed and d not in self.batching
        )
        batch = iter(range(len(self.batch)))
        offsets = set(self.offset_dims)
        return [
            ("axis", next(axes)) if i in offsets else ("batch", next(batch)) for i in range(rank)
        ]


@lowers("gather")
def _lower_gather(
    g: GraphBuilder,
    operand: Symbol,
    indices: Symbol,
    *,
    dimension_numbers: Any,
    slice_sizes: Sequence[Any],
    mode: Any,
    fill_value: Any,
    indices_are_sorted: bool,
    unique_indices: bool,
) -> Symbol:
    d = dimension_numbers
    columns = index_columns(g, indices)
    gather = _Gather(
        batch=tuple(indices.shape[:-1]),
        mapped=dict(zip(d.start_index_map, columns, strict=True)),
        batching=dict(zip(d.operand_batching_dims, d.start_indices_batching_dims, strict=True)),
        window=tuple(slice_sizes),
        collapsed=frozenset(d.collapsed_slice_dims),
        offset_dims=tuple(d.offset_dims),
    )
    if not gather.batch:
        # JAX itself writes a constant index with a promise for slices that it has checked.
        window = _fixed_window(g, operand, gather, mode.name == "PROMISE_IN_BOUNDS")
        if window is not None:
            return window
    strided = _strided_window(g, operand, gather)
    if strided is not None:
        return strided
    rooms = {axis: operand.shape[axis] - gather.window[axis] for axis in gather.mapped}
    mask = None
    if mode.name == "FILL_OR_DROP":
        mask = all_of(g, [in_bounds(g, gather.mapped[axis], rooms[axis]) for axis in rooms])
    for axis, room in rooms.items():  # JAX reads the nearest window, promise or not
        gather.mapped[axis] = clamped(g, gather.mapped[axis], room)
    result = _gathered(g, operand, gather)
    if mask is None:
        return result
    shape = g.out[0].shape
    mask = g.reshape(
        mask,
        tuple(
            size if label[0] == "batch" else 1
            for label, size in zip(gather.labels(), shape, strict=True)
        ),
    )
    fill = g.scalar(_fill_value(fill_value, operand.dtype), operand)
    return g.op("SelectV2", mask, result, fill, shape=shape)


def _fixed_window(
    g: GraphBuilder, operand: Symbol, gather: _Gather, trusted: bool
) -> Symbol | None:
    """Writes a gather of one window whose place is known as a slice."""
    starts: list[Any] = []
    for axis, (size, length) in enumerate(zip(operand.shape, gather.window, strict=True)):
        start = 0
        if axis in gather.mapped:
            column = gather.mapped[axis]
            start = column.dim if column.constant is None else int(column.constant)
            if start is None:
                return None
            inside = at_least(start, 0) and at_least(size - length, start)
            if not inside and not trusted:
                return None  # dynamic paths clamp or fill
            if not inside:
                start = start if (fixed := fixed_start(size, start, length)) is None else fixed
        starts.append(start)
    limits = [start + length for start, length in zip(starts, gather.window, strict=True)]
    return lower_slice(g, operand, starts, limits, drop=gather.collapsed)


def _strided_window(g: GraphBuilder, operand: Symbol, gather: _Gather) -> Symbol | None:
    """Writes a gather at constant, evenly spaced positions of one axis as a strided slice."""
    if len(gather.batch) != 1 or gather.batching or not gather.mapped:
        return None
    starts, steps = [0] * operand.ndim, [1] * operand.ndim
    along = None
    for axis, column in gather.mapped.items():
        if column.constant is None or not column.constant.size:
            return None
        spacing = set(np.diff(column.constant).tolist())
        starts[axis] = int(column.constant[0])
        if spacing - {0}:
            if along is not None or len(spacing) > 1 or min(spacing) < 0:
                return None
            along, steps[axis] = axis, spacing.pop()
        room = operand.shape[axis] - gather.window[axis]
        if starts[axis] < 0 or not at_least(room, int(column.constant[-1])):
            return None
    if along is None or along not in gather.collapsed:
        return None
    limits = [start + length for start, length in zip(starts, gather.window, strict=True)]
    limits[along] = int(gather.mapped[along].constant[-1]) + 1  # type: ignore[index]
    drop = gather.collapsed - {along}
    result = lower_slice(g, operand, starts, limits, steps, drop=drop)
    labels: list[_Label] = [
        ("batch", 0) if axis == along else ("axis", axis)
        for axis in range(operand.ndim)
        if axis not in drop
    ]
    return _arranged(g, result, labels, gather)


def _gathered(g: GraphBuilder, operand: Symbol, gather: _Gather) -> Symbol:
    """Writes a gather whose starts lie inside the operand."""
    free = [
        axis
        for axis in range(len(operand.shape))
        if axis not in gather.mapped and axis not in gather.batching
    ]
    limits = [gather.window[a] if a in free else s for a, s in enumerate(operand.shape)]
    operand = lower_slice(g, operand, [0] * len(limits), limits)
    indexed = [
        axis
        for axis in gather.mapped
        if not (gather.window[axis] == operand.shape[axis] and axis not in gather.collapsed)
    ]
    if not gather.batch and not gather.batching and len(indexed) != 1:
        zero = g.const(np.int32(0))
        starts = [gather.mapped.get(axis, zero) for axis in range(len(operand.shape))]
        window = lower_window(g, operand, starts, gather.window)
        return g.squeeze(window, tuple(sorted(gather.collapsed)))
    if len(indexed) == 1:
        result, labels = _along_axis(g, operand, gather, indexed[0])
    elif indexed or gather.batching:
        result, labels = _at_points(g, operand, gather, indexed)
    else:
        labels = [("axis", axis) for axis in range(len(operand.shape))]
        labels = [("batch", i) for i in range(len(gather.batch))] + labels
        lead = g.reshape(operand, (*(1,) * len(gather.batch), *operand.shape))
        result = g.broadcast(lead, (*gather.batch, *operand.shape))
    return _arranged(g, result, labels, gather)


def _along_axis(
    g: GraphBuilder, operand: Symbol, gather: _Gather, axis: int
) -> tuple[Symbol, list[_Label]]:
    """Gathers along one axis, position by position along the batching axes: GatherV2."""
    order = [*gather.batching, *(d for d in range(operand.ndim) if d not in gather.batching)]
    lead = list(gather.batching.values())
    batch_order = [*lead, *(i for i in range(len(gather.batch)) if i not in lead)]
    operand = g.transpose(operand, order)
    column = g.transpose(gather.mapped[axis], batch_order)
    labels: list[_Label] = [("batch", i) for i in lead]
    at = order.index(axis)
    labels += [("axis", d) for d in order[len(lead) : at]]
    labels += [("batch", i) for i in batch_order[len(lead) :]]
    length = gather.window[axis]
    if not (is_known(length) and length == 1):
        steps = iota(g, length, column.dtype.numpy_dtype)
        column = g.op("AddV2", g.expand_dims(column, -1), steps, shape=(*column.shape, length))
        labels.append(("axis", axis))
    labels += [("axis", d) for d in order[at + 1 :]]
    sizes = (*operand.shape[:at], *column.shape[len(lead) :], *operand.shape[at + 1 :])
    result = g.op(
        "GatherV2", operand, column, np.array(at, np.int32), batch_dims=len(lead), shape=sizes
    )
    return result, labels


def _at_points(
    g: GraphBuilder, operand: Symbol, gather: _Gather, indexed: Sequence[int]
) -> tuple[Symbol, list[_Label]]:
    """Gathers at points of several axes: GatherNd."""
    points = [*gather.batching, *indexed]
    rest = [axis for axis in range(operand.ndim) if axis not in points]
    operand = g.transpose(operand, [*points, *rest])
    windows = {a: gather.window[a] for a in indexed if a not in gather.collapsed}
    starts = {axis: gather.mapped.get(axis, 0) for axis in points}
    grid = index_grid(g, starts, gather.batch, windows, gather.batching)
    labels: list[_Label] = [("batch", i) for i in range(len(gather.batch))]
    labels += [("axis", axis) for axis in (*windows, *rest)]
    inner = operand.shape[len(points) :]
    sizes = (*grid.shape[:-1], *inner)
    if all_known(inner):
        return g.op("GatherNd", operand, grid, shape=sizes), labels
    # TensorFlow's GatherNd fails where elements of no size are asked for; one index doesn't.
    flat = g.reshape(operand, (product(operand.shape[: len(points)]), *inner))
    steps = [product(operand.shape[i + 1 : len(points)]) for i in range(len(points))]
    offsets = g.op("Mul", grid, g.cast(g.dims(tuple(steps)), grid.dtype), shape=grid.shape)
    last = np.array([grid.ndim - 1], np.int32)
    place = g.op("Sum", offsets, last, shape=grid.shape[:-1], keep_dims=False)
    return g.op("GatherV2", flat, place, np.array(0, np.int32), shape=sizes), labels


def _arranged(g: GraphBuilder, result: Symbol, labels: list[_Label], gather: _Gather) -> Symbol:
    """Puts the axes of a result in JAX's order, and adds those of size 1 that were left out."""
    wanted = gather.labels()
    dropped = [i for i, label in enumerate(labels) if label not in wanted]
    if dropped:  # a collapsed axis that was kept: its size is 1
        result = g.squeeze(result, dropped)
        labels = [label for label in labels if label in wanted]
    result = g.transpose(result, [labels.index(label) for label in wanted if label in labels])
    sizes = iter(result.shape)
    shape = [next(sizes) if label in labels else 1 for label in wanted]
    return g.reshape(result, tuple(shape))


def _fill_value(fill_value: Any, dtype: DType) -> Any:
    """Returns what JAX reads outside of an array: NaN, the lowest, the largest, or True."""
    if fill_value is not None:
        return fill_value
    if dtype.is_bool:
        return True
    if dtype.is_integer:
        limits = ml_dtypes.iinfo(dtype.numpy_dtype)  # type: ignore[no-untyped-call]
        return limits.max if dtype.is_unsigned else limits.min
    return np.nan


# Evaluations. TensorFlow's CPU kernels refuse an index out of range and its GPU kernels read zeros;
# a compiled program can't refuse, so it reads the nearest element.


@evaluates("GatherV2", static=("axis",))
def _gather_v2(params: Any, indices: Any, axis: Any, *, batch_dims: int) -> Any:
    if batch_dims < 0:
        batch_dims += len(indices.shape)
    at = static_int(axis) % max(len(params.shape), 1)
    return _take(jnp.asarray(params), _narrowed(indices, params.shape[at]), at, batch_dims)


@evaluates("Gather")
def _gather(params: Any, indices: Any) -> Any:
    return _take(jnp.asarray(params), _narrowed(indices, params.shape[0]), 0, 0)


def _narrowed(indices: Any, size: int) -> Any:
    """Returns indices as int32 where the axis is short enough, clipped before they lose bits."""
    indices = jnp.asarray(indices)
    if size > np.iinfo(np.int32).max or indices.dtype == jnp.int32:
        return indices
    if indices.dtype.itemsize < 4:
        return indices.astype(jnp.int32)
    bounds = (jnp.asarray(bound, indices.dtype) for bound in (0, max(size - 1, 0)))
    return jnp.clip(indices, *bounds).astype(jnp.int32)


def _take(params: Any, indices: Any, axis: int, batch_dims: int) -> Any:
    if not batch_dims:
        return jnp.take(params, indices, axis, mode="clip")
    lead = params.shape[:batch_dims]
    if indices.shape[:batch_dims] != lead:
        raise ShapeMismatchError(
            f"GatherV2: params {params.shape} and indices {indices.shape} must share their first "
            f"{batch_dims} axes."
        )
    # One axis per index column: the batch axes count themselves, the others come along whole.
    params = jnp.moveaxis(params, axis, batch_dims)
    columns = []
    for i, size in enumerate(lead):
        shape = [1] * indices.ndim
        shape[i] = size
        columns.append(jnp.arange(size, dtype=jnp.int32).reshape(shape))
    result = params.at[(*columns, indices)].get(mode="clip")
    picked = list(range(batch_dims, indices.ndim))
    return jnp.moveaxis(result, picked, [axis + i for i in range(len(picked))])


@folds("GatherV2")
def _gather_v2_static(params: Any, indices: Any, axis: Any, *, batch_dims: int) -> Any:
    at = static_int(axis) % max(params.ndim, 1)
    if not batch_dims:
        return np.take(params, indices, at)
    return np.asarray(_gather_v2(params, indices, axis, batch_dims=batch_dims))


@folds("Gather")
def _gather_static(params: Any, indices: Any) -> Any:
    return np.take(params, indices, 0)


@evaluates("GatherNd", ignores=("bad_indices_policy",))
def _gather_nd(params: Any, indices: Any) -> Any:
    depth = indices.shape[-1]
    columns = [_narrowed(indices[..., i], params.shape[i]) for i in range(depth)]
    if not columns:
        return jnp.broadcast_to(params, (*indices.shape[:-1], *params.shape))
    return jnp.asarray(params).at[tuple(columns)].get(mode="clip")


@folds("GatherNd")
def _gather_nd_static(params: Any, indices: Any) -> Any:
    depth = indices.shape[-1]
    if not depth:
        return np.broadcast_to(params, (*indices.shape[:-1], *params.shape))
    columns = [np.clip(indices[..., i], 0, params.shape[i] - 1) for i in range(depth)]
    return params[tuple(columns)]


@evaluates("ReverseSequence")
def _reverse_sequence(input: Any, seq_lengths: Any, *, seq_dim: int, batch_dim: int) -> Any:
    length = input.shape[seq_dim]
    position = jnp.arange(length, dtype=jnp.int32).reshape(
        [length if axis == seq_dim else 1 for axis in range(input.ndim)]
    )
    lengths = as_int32(seq_lengths).reshape(
        [input.shape[batch_dim] if axis == batch_dim else 1 for axis in range(input.ndim)]
    )
    source = jnp.where(position < lengths, lengths - 1 - position, position)
    return jnp.take_along_axis(jnp.asarray(input), source, seq_dim, mode="clip")


def as_int32(indices: Any) -> Any:
    """Returns indices that are known to be small as int32."""
    return jnp.asarray(indices).astype(jnp.int32)


@evaluates("Where", with_context=True)
def _where(ctx: Any, input: Any) -> Any:
    known = static_value(input)
    if known is None:
        ctx.needs_value("input", "the number of results is the number of true elements")
    return np.argwhere(np.asarray(known)).astype(np.int64)


@folds("Where")
def _where_static(input: Any) -> Any:
    return np.argwhere(input).astype(np.int64)
