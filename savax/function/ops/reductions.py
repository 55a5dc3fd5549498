"""Sums and other reductions over axes, and the positions of extremes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function.lowering._sunk_transposes import channels_last
from savax.function.ops._registry import evaluates, folds, lowers
from savax.function.ops._sizes import all_known
from savax.function.ops.custom_reductions import combiner, lower_reduction
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jax import Array

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol
    from savax.types import DType


# Lowerings.


@lowers("reduce_sum")
def _lower_reduce_sum(g: GraphBuilder, x: Symbol, *, axes: Sequence[int]) -> Symbol:
    return _reduced(g, "Sum", x, axes)


@lowers("reduce_prod")
def _lower_reduce_prod(g: GraphBuilder, x: Symbol, *, axes: Sequence[int]) -> Symbol:
    return _reduced(g, "Prod", x, axes)


@lowers("reduce_max")
def _lower_reduce_max(g: GraphBuilder, x: Symbol, *, axes: Sequence[int]) -> Symbol:
    return _reduced(g, "Any" if x.dtype.is_bool else "Max", x, axes)


@lowers("reduce_min")
def _lower_reduce_min(g: GraphBuilder, x: Symbol, *, axes: Sequence[int]) -> Symbol:
    return _reduced(g, "All" if x.dtype.is_bool else "Min", x, axes)


@lowers("reduce_and")
def _lower_reduce_and(g: GraphBuilder, x: Symbol, *, axes: Sequence[int]) -> Symbol:
    if x.dtype.is_bool:
        return _reduced(g, "All", x, axes)
    return _bitwise_reduced(g, "BitwiseAnd", x, axes, -1)


@lowers("reduce_or")
def _lower_reduce_or(g: GraphBuilder, x: Symbol, *, axes: Sequence[int]) -> Symbol:
    if x.dtype.is_bool:
        return _reduced(g, "Any", x, axes)
    return _bitwise_reduced(g, "BitwiseOr", x, axes, 0)


@lowers("reduce_xor")
def _lower_reduce_xor(g: GraphBuilder, x: Symbol, *, axes: Sequence[int]) -> Symbol:
    if not x.dtype.is_bool:
        return _bitwise_reduced(g, "BitwiseXor", x, axes, 0)
    count = _reduced(g, "Sum", g.cast(x, "int32"), axes)
    odd = g.op("FloorMod", count, g.scalar(2, count))
    return g.op("Equal", odd, g.scalar(1, odd))


def _reduced(g: GraphBuilder, op: str, x: Symbol, axes: Sequence[int]) -> Symbol:
    if not axes:
        return x
    if x.dtype.is_complex and op in ("Max", "Min"):
        return _complex_extreme(g, op, x, axes)
    kept = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    source = channels_last(x)
    if source is not None and {0, 1}.isdisjoint(axes) and len(axes) == x.ndim - 2:
        x, axes = source, tuple(range(1, x.ndim - 1))  # those between examples and channels
    return g.op(op, x, np.array(axes, np.int32), shape=kept, keep_dims=False)


def _complex_extreme(g: GraphBuilder, op: str, x: Symbol, axes: Sequence[int]) -> Symbol:
    largest = op == "Max"
    worst = g.scalar(-np.inf if largest else np.inf, x)

    def combine(first: tuple[Array, ...], second: tuple[Array, ...]) -> tuple[Array, ...]:
        return ((lax.max if largest else lax.min)(first[0], second[0]),)

    return lower_reduction(g, [x, worst], combine, axes)[0]


def _bitwise_reduced(
    g: GraphBuilder, op: str, x: Symbol, axes: Sequence[int], identity: int
) -> Symbol:
    """Folds halves of each axis onto each other: TensorFlow has no bitwise reductions."""
    if not all_known([x.shape[axis] for axis in axes]):
        start = g.const(np.array(identity).astype(x.dtype.numpy_dtype), x.dtype)
        return lower_reduction(g, [x, start], _BITWISE[op], axes)[0]
    for axis in sorted(axes, reverse=True):
        size = x.shape[axis]
        if size == 0:
            shape = (*x.shape[:axis], *x.shape[axis + 1 :])
            x = g.full(np.array(identity).astype(x.dtype.numpy_dtype), shape, x.dtype)
            continue
        while size > 1:
            half = size // 2
            pair = g.op(op, _part(g, x, axis, 0, half), _part(g, x, axis, half, 2 * half))
            odd = [_part(g, x, axis, 2 * half, size)] if size % 2 else []
            x = g.concat([pair, *odd], axis)
            size -= half
        x = g.squeeze(x, (axis,))
    return x


def _part(g: GraphBuilder, x: Symbol, axis: int, start: int, limit: int) -> Symbol:
    starts = tuple(start if i == axis else 0 for i in range(len(x.shape)))
    limits = tuple(limit if i == axis else size for i, size in enumerate(x.shape))
    return g.slice(x, starts, limits)


_BITWISE: dict[str, Any] = {
    "BitwiseAnd": lambda first, second: (first[0] & second[0],),
    "BitwiseOr": lambda first, second: (first[0] | second[0],),
    "BitwiseXor": lambda first, second: (first[0] ^ second[0],),
}

# Reductions that are one op, by the primitive that combines two elements.
_BY_COMBINER = {
    "add": (_lower_reduce_sum, "AddV2"),
    "mul": (_lower_reduce_prod, "Mul"),
    "max": (_lower_reduce_max, "Maximum"),
    "min": (_lower_reduce_min, "Minimum"),
    "and": (_lower_reduce_and, "BitwiseAnd"),
    "or": (_lower_reduce_or, "BitwiseOr"),
    "xor": (_lower_reduce_xor, "BitwiseXor"),
}
_BOOL_COMBINERS = {"and": "LogicalAnd", "or": "LogicalOr", "xor": "NotEqual"}
_BOOL_COMBINERS |= {"max": "LogicalOr", "min": "LogicalAnd"}


@lowers("reduce")
def _lower_reduce(
    g: GraphBuilder, *operands: Symbol, computation: Any, jaxpr: Any, dimensions: Sequence[int]
) -> tuple[Symbol, ...]:
    body = getattr(jaxpr, "jaxpr", jaxpr)
    name = body.eqns[0].primitive.name if len(body.eqns) == 1 else None
    if len(operands) != 2 or name not in _BY_COMBINER or set(body.eqns[0].invars) != {*body.invars}:
        return lower_reduction(g, operands, combiner(jaxpr), dimensions)
    x, initial = operands
    reduce, op = _BY_COMBINER[name]
    if x.dtype.is_bool:
        op = _BOOL_COMBINERS[name]
    return (g.op(op, reduce(g, x, axes=dimensions), initial, shape=g.out[0].shape),)


@lowers("argmax")
def _lower_argmax(g: GraphBuilder, x: Symbol, *, axes: Sequence[int], index_dtype: Any) -> Symbol:
    return _lower_arg_extreme(g, "ArgMax", x, axes[0])


@lowers("argmin")
def _lower_argmin(g: GraphBuilder, x: Symbol, *, axes: Sequence[int], index_dtype: Any) -> Symbol:
    return _lower_arg_extreme(g, "ArgMin", x, axes[0])


def _lower_arg_extreme(g: GraphBuilder, op: str, x: Symbol, axis: int) -> Symbol:
    dtype = g.out[0].dtype
    index = _position(g, op, x, axis)
    if x.dtype.is_floating:
        # JAX gives the position of the first NaN, TensorFlow passes over NaN.
        is_nan = g.op("NotEqual", x, x)
        first_nan = _position(g, "ArgMax", g.cast(is_nan, "int32"), axis)
        index = g.op("SelectV2", _reduced(g, "Any", is_nan, (axis,)), first_nan, index)
    return g.cast(index, dtype)


def _position(g: GraphBuilder, op: str, x: Symbol, axis: int) -> Symbol:
    if x.dtype.is_bool:
        x = g.cast(x, "int32")
    wide = g.out[0].dtype.name in ("int64", "uint64", "uint32")
    dtype = as_dtype("int64" if wide else "int32")
    return g.op(op, x, np.array(axis, np.int32), output_type=dtype, shape=g.out[0].shape)


# Evaluations.


def axes_of(rank: int, axis: Any) -> tuple[int, ...]:
    """Returns a static operand of axes, negative ones counted from the end, without repeats."""
    found = {int(a) % rank for a in np.asarray(axis).reshape(-1)} if rank else set()
    return tuple(sorted(found))


def _kept_shape(x: Any, axes: tuple[int, ...], keep_dims: bool) -> tuple[int, ...]:
    if keep_dims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    return tuple(size for axis, size in enumerate(x.shape) if axis not in axes)


def _reduce(reducer: Any, x: Array, axis: Any, keep_dims: bool) -> Array:
    x = jnp.asarray(x)
    axes = axes_of(x.ndim, axis)
    return reducer(x, axes).reshape(_kept_shape(x, axes, keep_dims)) if axes else x


@evaluates("Sum", static=("reduction_indices",))
def _sum(x: Array, reduction_indices: Any, *, keep_dims: bool) -> Array:
    return _reduce(lax.reduce_sum, x, reduction_indices, keep_dims)


@evaluates("Prod", static=("reduction_indices",))
def _prod(x: Array, reduction_indices: Any, *, keep_dims: bool) -> Array:
    return _reduce(lax.reduce_prod, x, reduction_indices, keep_dims)


@evaluates("Max", static=("reduction_indices",))
def _max(x: Array, reduction_indices: Any, *, keep_dims: bool) -> Array:
    return _reduce(lax.reduce_max, x, reduction_indices, keep_dims)


@evaluates("Min", static=("reduction_indices",))
def _min(x: Array, reduction_indices: Any, *, keep_dims: bool) -> Array:
    return _reduce(lax.reduce_min, x, reduction_indices, keep_dims)


@evaluates("All", static=("reduction_indices",))
def _all(x: Array, reduction_indices: Any, *, keep_dims: bool) -> Array:
    return _reduce(lax.reduce_and, x, reduction_indices, keep_dims)


@evaluates("Any", static=("reduction_indices",))
def _any(x: Array, reduction_indices: Any, *, keep_dims: bool) -> Array:
    return _reduce(lax.reduce_or, x, reduction_indices, keep_dims)


@evaluates("Mean", static=("reduction_indices",))
def _mean(x: Array, reduction_indices: Any, *, keep_dims: bool) -> Array:
    x = jnp.asarray(x)
    axes = axes_of(x.ndim, reduction_indices)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        return jnp.mean(x, axis=axes, keepdims=keep_dims)
    # TensorFlow divides as integers do.
    total = _reduce(lax.reduce_sum, x, reduction_indices, keep_dims)
    count = jnp.asarray(math.prod(x.shape[axis] for axis in axes)).astype(x.dtype)
    return lax.div(total, jnp.broadcast_to(count, total.shape))


@evaluates("EuclideanNorm", static=("reduction_indices",))
def _euclidean_norm(x: Array, reduction_indices: Any, *, keep_dims: bool) -> Array:
    x = jnp.asarray(x)
    squares = jnp.multiply(x, jnp.conj(x))
    total = _reduce(lax.reduce_sum, squares, reduction_indices, keep_dims)
    if jnp.issubdtype(x.dtype, jnp.integer):
        return jnp.sqrt(total.astype(jnp.float32)).astype(x.dtype)
    return jnp.sqrt(total)


@evaluates("L2Loss")
def _l2_loss(t: Array) -> Array:
    return jnp.sum(jnp.square(t)) / 2


@evaluates("ArgMax", static=("dimension",))
def _arg_max(x: Array, dimension: Any, *, output_type: DType) -> Array:
    return _arg_extreme(lax.argmax, x, dimension, -np.inf).astype(output_type.numpy_dtype)


@evaluates("ArgMin", static=("dimension",))
def _arg_min(x: Array, dimension: Any, *, output_type: DType) -> Array:
    return _arg_extreme(lax.argmin, x, dimension, np.inf).astype(output_type.numpy_dtype)


def _arg_extreme(find: Any, x: Array, dimension: Any, worst: float) -> Array:
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.floating):  # TensorFlow passes over NaN
        x = jnp.where(jnp.isnan(x), jnp.asarray(worst, x.dtype), x)
    found: Array = find(x, int(dimension) % x.ndim, jnp.int32)
    return found


# Numpy forms.


@folds("Sum")
def _fold_sum(x: Any, reduction_indices: Any, *, keep_dims: bool) -> Any:
    return np.sum(x, axes_of(np.ndim(x), reduction_indices), dtype=x.dtype, keepdims=keep_dims)


@folds("Prod")
def _fold_prod(x: Any, reduction_indices: Any, *, keep_dims: bool) -> Any:
    return np.prod(x, axes_of(np.ndim(x), reduction_indices), dtype=x.dtype, keepdims=keep_dims)


@folds("Max")
def _fold_max(x: Any, reduction_indices: Any, *, keep_dims: bool) -> Any:
    axes = axes_of(np.ndim(x), reduction_indices)
    return np.max(x, axes, keepdims=keep_dims, initial=_limit(x.dtype, lowest=True))


@folds("Min")
def _fold_min(x: Any, reduction_indices: Any, *, keep_dims: bool) -> Any:
    axes = axes_of(np.ndim(x), reduction_indices)
    return np.min(x, axes, keepdims=keep_dims, initial=_limit(x.dtype, lowest=False))


def _limit(dtype: Any, *, lowest: bool) -> Any:
    if jnp.issubdtype(dtype, np.integer):
        bounds = np.iinfo(dtype)
        return bounds.min if lowest else bounds.max
    return -np.inf if lowest else np.inf


@folds("All")
def _fold_all(x: Any, reduction_indices: Any, *, keep_dims: bool) -> Any:
    return np.all(x, axes_of(np.ndim(x), reduction_indices), keepdims=keep_dims)


@folds("Any")
def _fold_any(x: Any, reduction_indices: Any, *, keep_dims: bool) -> Any:
    return np.any(x, axes_of(np.ndim(x), reduction_indices), keepdims=keep_dims)
