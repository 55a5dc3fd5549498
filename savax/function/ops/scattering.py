"""Writing at computed positions: scatter and its reductions, ScatterNd, TensorScatter*."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from savax.function.ops._indexing import all_of, clamped, in_bounds, index_columns, index_grid
from savax.function.ops._registry import evaluates, folds, lowers
from savax.function.ops._sizes import is_known, lower_pad, product
from savax.function.ops._slices import lower_slice, lower_window, lower_window_update
from savax.function.ops.custom_scatter import lower_scatter_one_by_one, update_function
from savax.function.ops.shaping import sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol
    from savax.types import DType


# Lowerings.

# What writes updates at points at once, and what joins an update with what is there.
_SCATTERING_OPS = {
    "set": "TensorScatterUpdate",
    "min": "TensorScatterMin",
    "max": "TensorScatterMax",
}
_JOINING_OPS = {"add": "AddV2", "sub": "Sub", "mul": "Mul", "min": "Minimum", "max": "Maximum"}


@dataclass(frozen=True)
class _Scatter:
    """A scatter with its numbers resolved.

    Attributes:
      batch: sizes of the index array without its last axis.
      starts: indexed operand axis -> column of starts, or 0.
      batching: operand axis -> batch axis with the same position.
      window: length of the window per operand axis.
      absent: operand axes that the updates don't have.
      update_axes: the updates' axes, in the order: batch, then the operand's axes.
      mask: where a whole window lies inside the operand; None: everywhere.
    """

    batch: tuple[Any, ...]
    starts: dict[int, Any]
    batching: dict[int, int]
    window: tuple[Any, ...]
    absent: frozenset[int]
    update_axes: tuple[int, ...]
    mask: Symbol | None


@dataclass(frozen=True)
class _ScatterRule:
    """The lowering of one scatter primitive; how updates are joined is its only difference."""

    kind: str

    def __call__(
        self,
        g: GraphBuilder,
        operand: Symbol,
        indices: Symbol,
        updates: Symbol,
        *,
        dimension_numbers: Any,
        mode: Any,
        update_jaxpr: Any,
        update_consts: Any,
        indices_are_sorted: bool,
        unique_indices: bool,
    ) -> Symbol:
        combine: Any = None
        if self.kind == "set" and update_jaxpr is not None:  # x.at[...].apply(f)
            combine = update_function(update_jaxpr, update_consts)
        elif operand.dtype.is_complex and self.kind in ("min", "max"):
            combine = lax.min if self.kind == "min" else lax.max
        if combine is not None:
            return lower_scatter_one_by_one(
                g,
                operand,
                indices,
                updates,
                numbers=dimension_numbers,
                mode=mode,
                combine=combine,
            )
        if operand.dtype.is_bool and self.kind in ("min", "max"):
            bits = g.cast(operand, "int32"), g.cast(updates, "int32")
            joined = _scattered(g, self.kind, bits[0], indices, bits[1], dimension_numbers, mode)
            return g.cast(joined, "bool")
        return _scattered(g, self.kind, operand, indices, updates, dimension_numbers, mode)


lowers("scatter")(_ScatterRule("set"))
for _kind in _JOINING_OPS:
    lowers(f"scatter-{_kind}")(_ScatterRule(_kind))


def _scattered(
    g: GraphBuilder,
    kind: str,
    operand: Symbol,
    indices: Symbol,
    updates: Symbol,
    numbers: Any,
    mode: Any,
) -> Symbol:
    scatter = _resolved(g, operand, indices, updates, numbers, mode)
    updates = g.transpose(updates, scatter.update_axes)
    if all(is_known(size) and size == 1 for size in scatter.batch) and not scatter.batching:
        return _scattered_once(g, kind, operand, updates, scatter)
    return _scattered_many(g, kind, operand, updates, scatter)


def _resolved(
    g: GraphBuilder, operand: Symbol, indices: Symbol, updates: Symbol, d: Any, mode: Any
) -> _Scatter:
    rank = operand.ndim
    batching = dict(zip(d.operand_batching_dims, d.scatter_indices_batching_dims, strict=True))
    absent = frozenset(d.inserted_window_dims) | frozenset(batching)
    window_axes = sorted(d.update_window_dims)
    window: list[Any] = [1] * rank
    for axis, at in zip((a for a in range(rank) if a not in absent), window_axes, strict=True):
        window[axis] = updates.shape[at]
    batch_axes = [at for at in range(updates.ndim) if at not in window_axes]
    columns = dict(zip(d.scatter_dims_to_operand_dims, index_columns(g, indices), strict=True))
    rooms = {axis: operand.shape[axis] - window[axis] for axis in columns}
    mask = None
    # A promise isn't checked, except where that costs nothing: XLA drops what is outside.
    constant = all(column.constant is not None for column in columns.values())
    if mode.name == "FILL_OR_DROP" or (mode.name == "PROMISE_IN_BOUNDS" and constant):
        mask = all_of(g, [in_bounds(g, columns[axis], rooms[axis]) for axis in columns])
    if mode.name == "CLIP" or mask is not None:
        columns = {axis: clamped(g, column, rooms[axis]) for axis, column in columns.items()}
    starts: dict[int, Any] = {}
    for axis in range(rank):
        if axis in batching or (window[axis] != operand.shape[axis] and axis not in columns):
            starts[axis] = 0
        elif axis in columns and (window[axis] != operand.shape[axis] or axis in absent):
            starts[axis] = columns[axis]
    return _Scatter(
        batch=tuple(indices.shape[:-1]),
        starts=starts,
        batching=batching,
        window=tuple(window),
        absent=absent,
        update_axes=(*batch_axes, *window_axes),
        mask=mask,
    )


def _scattered_once(
    g: GraphBuilder, kind: str, operand: Symbol, update: Symbol, scatter: _Scatter
) -> Symbol:
    """Writes a scatter of a single window: a slice is read, joined and put back."""
    update = g.reshape(update, scatter.window)
    zero = g.const(np.int32(0))
    starts = [zero] * operand.ndim
    for axis, start in scatter.starts.items():
        starts[axis] = zero if isinstance(start, int) else g.reshape(start, ())
    if kind != "set":
        old = lower_window(g, operand, starts, scatter.window)
        update = g.op(_JOINING_OPS[kind], old, update, shape=scatter.window)
    result = lower_window_update(g, operand, update, starts)
    if scatter.mask is None:
        return result
    inside = g.reshape(scatter.mask, ())
    return g.op("SelectV2", inside, result, operand, shape=operand.shape)


def _scattered_many(
    g: GraphBuilder, kind: str, operand: Symbol, updates: Symbol, scatter: _Scatter
) -> Symbol:
    indexed = list(scatter.starts)
    rest = [axis for axis in range(operand.ndim) if axis not in scatter.starts]
    lead = len(scatter.batch)
    own = [axis for axis in range(operand.ndim) if axis not in scatter.absent]
    windows = {axis: scatter.window[axis] for axis in indexed if axis in own}
    order = [lead + own.index(axis) for axis in (*windows, *rest)]
    updates = g.transpose(updates, [*range(lead), *order])
    operand = g.transpose(operand, [*indexed, *rest])
    starts = dict(scatter.starts)
    keep = scatter.mask
    if keep is not None:
        keep = g.reshape(keep, (*keep.shape, *(1,) * (updates.ndim - lead)))
    if not indexed:
        g.unsupported("a scatter of several windows that all cover the whole operand")
    whole = operand.shape
    if kind == "set" and scatter.mask is not None:
        at = next(i for i, axis in enumerate(indexed) if axis not in scatter.batching)
        length = scatter.window[indexed[at]]
        starts[indexed[at]] = _or_outside(g, scatter, starts[indexed[at]], whole[at])
        config = [(0, length if i == at else 0, 0) for i in range(operand.ndim)]
        operand = lower_pad(g, operand, g.scalar(_zero(operand.dtype), operand), config)
    grid = index_grid(g, starts, scatter.batch, windows, scatter.batching)
    result = _joined(g, kind, operand, grid, updates, keep)
    result = lower_slice(g, result, [0] * result.ndim, whole)
    back = [[*indexed, *rest].index(axis) for axis in range(operand.ndim)]
    return g.transpose(result, back)


def _or_outside(g: GraphBuilder, scatter: _Scatter, column: Any, size: Any) -> Symbol:
    """Moves the windows that leave the operand behind its end, to rows that are cut off again."""
    if isinstance(column, int):
        column = g.full(column, scatter.batch, "int32")
    outside = g.cast(g.dim(size), column.dtype)
    return g.op("SelectV2", scatter.mask, column, outside, shape=column.shape)


def _joined(
    g: GraphBuilder,
    kind: str,
    operand: Symbol,
    grid: Symbol,
    updates: Symbol,
    keep: Symbol | None,
) -> Symbol:
    """Joins updates with the operand at the points of an index grid."""
    shape = operand.shape
    if kind == "mul":
        return _multiplied(g, operand, grid, updates, keep)
    if kind != "set" and keep is not None:
        neutral = g.scalar(_neutral(kind, operand.dtype), operand)
        updates = g.op("SelectV2", keep, updates, neutral, shape=updates.shape)
    grid, updates = _none_if_empty(g, operand, grid, updates)
    written: Symbol
    if kind in _SCATTERING_OPS:
        written = g.op(_SCATTERING_OPS[kind], operand, grid, updates, shape=shape)
    else:
        extent = g.cast(g.dims(shape), grid.dtype)
        written = g.op("ScatterNd", grid, updates, extent, shape=shape)
        if kind == "sub" or not _is_zero(operand):
            written = g.op(_JOINING_OPS[kind], operand, written, shape=shape)
    return written


def _none_if_empty(
    g: GraphBuilder, operand: Symbol, grid: Symbol, updates: Symbol
) -> tuple[Symbol, Symbol]:
    """Leaves out all points if the operand is empty: TensorFlow refuses to write even nothing."""
    batch, depth = grid.shape[:-1], grid.shape[-1]
    # Axes that the points have too are empty together with them.
    risks = [size for size in operand.shape if not is_known(size) and size not in batch]
    if not risks:
        return grid, updates
    points = product(batch)
    some = g.op("Minimum", g.dim(product(risks)), g.const(np.int32(1)), shape=())
    end = g.reshape(g.op("Mul", g.dim(points), some, shape=()), (1,))
    zero, one = np.array([0], np.int32), np.array([1], np.int32)
    flat = [g.reshape(grid, (points, depth))]
    flat.append(g.reshape(updates, (points, *updates.shape[len(batch) :])))
    kept = [g.op("StridedSlice", x, zero, end, one, begin_mask=1, shape=x.shape) for x in flat]
    return kept[0], kept[1]


def _multiplied(
    g: GraphBuilder, operand: Symbol, grid: Symbol, updates: Symbol, keep: Symbol | None
) -> Symbol:
    """Multiplies by the product of all updates of a point; TensorFlow has no TensorScatterMul."""
    depth = int(grid.shape[-1])
    strides = [product(operand.shape[i + 1 : depth]) for i in range(depth)]
    weights = g.cast(g.dims(tuple(strides)), grid.dtype)
    points = g.op("Mul", grid, weights, shape=grid.shape)
    ids = g.op("Sum", points, np.array([-1], np.int32), shape=grid.shape[:-1], keep_dims=False)
    if keep is not None:  # a negative segment is dropped
        keep = g.squeeze(keep, range(len(ids.shape), keep.ndim))
        ids = g.op("SelectV2", g.broadcast(keep, ids.shape), ids, g.scalar(-1, ids))
    count = product(operand.shape[:depth])
    rest = operand.shape[depth:]
    factor = g.op("UnsortedSegmentProd", updates, ids, g.dim(count), shape=(count, *rest))
    return g.op("Mul", operand, g.reshape(factor, operand.shape), shape=operand.shape)


def _is_zero(operand: Symbol) -> bool:
    value = operand.scalar.constant if operand.scalar is not None else operand.constant
    return value is not None and not np.any(value)


def _zero(dtype: DType) -> Any:
    return np.zeros((), dtype.numpy_dtype)


def _neutral(kind: str, dtype: DType) -> Any:
    """Returns what leaves every element as it is when joined."""
    if kind in ("add", "sub"):
        return _zero(dtype)
    if dtype.is_integer:
        limits = ml_dtypes.iinfo(dtype.numpy_dtype)  # type: ignore[no-untyped-call]
        return limits.min if kind == "max" else limits.max
    return -np.inf if kind == "max" else np.inf


# Evaluations. TensorFlow's CPU kernels refuse an index out of range and its GPU kernels ignore it;
# a compiled program can't refuse, so it ignores it.


def columns_of(indices: Any, shape: Sequence[int]) -> tuple[Any, ...]:
    """Returns index columns that never wrap: negative ones point past the end."""
    indices = jnp.asarray(indices)
    columns = []
    for i in range(indices.shape[-1]):
        column = indices[..., i]
        outside = jnp.asarray(min(shape[i], jnp.iinfo(column.dtype).max), column.dtype)  # type: ignore[no-untyped-call]
        column = jnp.where((column < 0) | (column > outside), outside, column)
        fits = shape[i] < np.iinfo(np.int32).max
        columns.append(column.astype(jnp.int32) if fits else column)
    return tuple(columns)


def _scatter_sum(shape: Sequence[int], indices: Any, updates: Any) -> Any:
    zeros = jnp.zeros(shape, updates.dtype)
    if updates.dtype == np.bool_:
        return zeros.at[columns_of(indices, shape)].max(updates, mode="drop")
    return zeros.at[columns_of(indices, shape)].add(updates, mode="drop")


@evaluates("ScatterNd", static=("shape",), ignores=("bad_indices_policy",))
def _scatter_nd(indices: Any, updates: Any, shape: Any) -> Any:
    return _scatter_sum(sizes(shape), indices, updates)


@folds("ScatterNd")
def _scatter_nd_static(indices: Any, updates: Any, shape: Any) -> Any:
    result = np.zeros(sizes(shape), updates.dtype)
    np.add.at(result, tuple(np.moveaxis(indices, -1, 0)), updates)
    return result


@evaluates("TensorScatterUpdate", ignores=("bad_indices_policy",))
def _tensor_scatter_update(tensor: Any, indices: Any, updates: Any) -> Any:
    columns = columns_of(indices, tensor.shape)
    return jnp.asarray(tensor).at[columns].set(updates, mode="drop")


@folds("TensorScatterUpdate")
def _tensor_scatter_update_static(tensor: Any, indices: Any, updates: Any) -> Any:
    result = np.array(tensor)
    result[tuple(np.moveaxis(indices, -1, 0))] = updates
    return result


@evaluates("TensorScatterAdd", ignores=("bad_indices_policy",))
def _tensor_scatter_add(tensor: Any, indices: Any, updates: Any) -> Any:
    return jnp.asarray(tensor).at[columns_of(indices, tensor.shape)].add(updates, mode="drop")


@evaluates("TensorScatterSub", ignores=("bad_indices_policy",))
def _tensor_scatter_sub(tensor: Any, indices: Any, updates: Any) -> Any:
    return jnp.asarray(tensor).at[columns_of(indices, tensor.shape)].subtract(updates, mode="drop")


@evaluates("TensorScatterMax", ignores=("bad_indices_policy",))
def _tensor_scatter_max(tensor: Any, indices: Any, updates: Any) -> Any:
    return jnp.asarray(tensor).at[columns_of(indices, tensor.shape)].max(updates, mode="drop")


@evaluates("TensorScatterMin", ignores=("bad_indices_policy",))
def _tensor_scatter_min(tensor: Any, indices: Any, updates: Any) -> Any:
    return jnp.asarray(tensor).at[columns_of(indices, tensor.shape)].min(updates, mode="drop")


# The ops that TensorFlow runs in place; positions out of range are counted modulo the rows.


def _inplace_rule(method: str) -> Any:
    def update(x: Any, i: Any, v: Any) -> Any:
        rows = max(x.shape[0], 1)
        index = jnp.asarray(i) % np.int32(rows)
        return getattr(jnp.asarray(x).at[index], method)(v)

    return update


for _op, _method in {"Add": "add", "Sub": "subtract", "Update": "set"}.items():
    evaluates(f"Inplace{_op}")(_inplace_rule(_method))
