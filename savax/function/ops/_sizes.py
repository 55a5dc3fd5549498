"""Questions about sizes that may be unknown, and padding by such sizes, shared by op families."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from jax import core

from savax.function._jax_names import InconclusiveDimensionOperation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


def is_known(size: Any) -> TypeGuard[int]:
    """Whether a size is a number, not an expression of unknown dimensions."""
    return isinstance(size, (int, np.integer))


def all_known(sizes: Sequence[Any]) -> bool:
    """Whether every size of a shape is a number."""
    return all(is_known(size) for size in sizes)


def at_least(size: Any, bound: Any) -> bool | None:
    """Whether ``size >= bound`` for every value of the unknown dimensions; None if undecided."""
    if is_known(size) and is_known(bound):
        return int(size) >= int(bound)
    try:
        return bool(size >= bound)
    except InconclusiveDimensionOperation:
        return None


def product(sizes: Sequence[Any]) -> Any:
    """Returns the number of elements of a shape, an expression if a size is unknown."""
    total: Any = 1
    for size in sizes:
        total = total * size
    return total


def as_index(g: GraphBuilder, index: Symbol) -> Symbol:
    """Returns an index tensor in a dtype that every TensorFlow kernel takes."""
    if index.dtype.name in ("int32", "int64"):
        return index
    return g.cast(index, "int64" if index.dtype.name in ("uint32", "uint64") else "int32")


def clamp(g: GraphBuilder, index: Symbol, limit: Any) -> Symbol:
    """Returns ``min(max(index, 0), limit)``; the limit is a size, known or not."""
    zero = g.scalar(0, index)
    bound = g.scalar(int(limit), index) if is_known(limit) else g.cast(g.dim(limit), index.dtype)
    if index.constant is not None and is_known(limit):
        return g.const(np.clip(index.constant, 0, max(int(limit), 0)), index.dtype)
    return g.op("Maximum", g.op("Minimum", index, bound), zero)


def lower_pad(g: GraphBuilder, operand: Symbol, value: Symbol, config: Sequence[Any]) -> Symbol:
    """Writes JAX's pad: per axis ``(low, high, interior)``, negative amounts cut off.

    Args:
      g: the graph builder.
      operand: what to pad.
      value: scalar of the operand's dtype.
      config: per axis the elements to add before, after, and between neighbours.
    """
    for axis, (_, _, interior) in enumerate(config):
        if not is_known(interior) or interior:
            operand = _spread(g, operand, value, axis, interior)
    grow: list[tuple[Any, Any]] = []
    cut: list[tuple[Any, Any]] = []
    for low, high, _ in config:
        pairs = [_grow_and_cut(amount) for amount in (low, high)]
        grow.append((pairs[0][0], pairs[1][0]))
        cut.append((pairs[0][1], pairs[1][1]))
    if any(not is_known(a) or a for pair in grow for a in pair):
        shape = tuple(
            low + size + high for size, (low, high) in zip(operand.shape, grow, strict=True)
        )
        flat = [amount for pair in grow for amount in pair]
        paddings = g.reshape(g.dims(tuple(flat)), (len(grow), 2))
        operand = g.op("PadV2", operand, paddings, value, shape=shape)
        if not all_known(flat):
            operand = with_known_sizes(g, operand)
    if any(not is_known(a) or a for pair in cut for a in pair):
        starts = tuple(low for low, _ in cut)
        limits = tuple(size - high for size, (_, high) in zip(operand.shape, cut, strict=True))
        operand = g.slice(operand, starts, limits)
    return operand


def _grow_and_cut(amount: Any) -> tuple[Any, Any]:
    if at_least(amount, 0):
        return amount, 0
    if at_least(-amount, 0):
        return 0, -amount
    return core.max_dim(amount, 0), core.max_dim(-amount, 0)


def with_known_sizes(g: GraphBuilder, x: Symbol) -> Symbol:
    """Says again which sizes are known: some ops forget all of them where one is computed."""
    if all_known(x.shape) or not any(map(is_known, x.shape)):
        return x
    return with_rank(g, x)


def with_rank(g: GraphBuilder, x: Symbol) -> Symbol:
    """Says the shape again: StridedSlice doesn't even know the rank where a step is computed."""
    return g.op("Reshape", x, g.dims(x.shape), shape=x.shape)


def _spread(g: GraphBuilder, operand: Symbol, value: Symbol, axis: int, interior: Any) -> Symbol:
    """Puts ``interior`` padding elements between neighbours along an axis."""
    before, size, after = operand.shape[:axis], operand.shape[axis], operand.shape[axis + 1 :]
    if is_known(size) and size == 0:
        return operand
    column = g.reshape(operand, (*before, size, 1, *after))
    amounts: list[Any] = [0] * (2 * column.ndim)
    amounts[2 * axis + 3] = interior
    paddings = g.reshape(g.dims(tuple(amounts)), (column.ndim, 2))
    wide = g.op("PadV2", column, paddings, value, shape=(*before, size, interior + 1, *after))
    flat = g.reshape(wide, (*before, size * (interior + 1), *after))
    starts = (0,) * len(flat.shape)
    limits = (*before, size * (interior + 1) - interior, *after)
    return g.slice(flat, starts, limits)
