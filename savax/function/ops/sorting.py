"""Sorting, largest elements, and searching in sorted rows."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function.ops._detours import float_limits
from savax.function.ops._orders import parts
from savax.function.ops._registry import evaluates, lowers
from savax.types import as_dtype

if TYPE_CHECKING:
    from jax import Array

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol
    from savax.types import DType


# Lowerings. TensorFlow sorts with TopKV2 only: descending, along the last axis, the first of equal
# elements first.


@lowers("top_k")
def _lower_top_k(g: GraphBuilder, x: Symbol, *, k: Any, axis: int) -> tuple[Symbol, ...]:
    x = _last_axis(g, x, axis)
    kind = x.dtype
    shape = (*x.shape[:-1], k)
    values, indices = g.op(
        "TopKV2",
        _comparable(g, x),
        g.dim(k),
        sorted=True,
        index_type=as_dtype("int32"),
        shapes=[shape, shape],
    )
    if kind.is_floating:
        values = _taken(g, x, indices)
    results = g.cast(values, kind), g.cast(indices, g.out[1].dtype)
    return tuple(_restored_axis(g, result, axis) for result in results)


@lowers("sort")
def _lower_sort(
    g: GraphBuilder, *operands: Symbol, dimension: int, is_stable: bool, num_keys: int
) -> tuple[Symbol, ...]:
    rows = [_last_axis(g, x, dimension) for x in operands]
    if len(rows) == 1 and not rows[0].dtype.is_complex:
        return (_restored_axis(g, _sorted_values(g, rows[0]), dimension),)
    # From the last key to the first, each sort keeps the order of the ones before among equals.
    order: Symbol | None = None
    for key in reversed(rows[:num_keys]):
        for part in _key_parts(g, key):
            sorted_part = part if order is None else _taken(g, part, order)
            _, step = _descending(g, sorted_part)
            order = step if order is None else _taken(g, order, step)
    assert order is not None
    return tuple(_restored_axis(g, _taken(g, x, order), dimension) for x in rows)


def _comparable(g: GraphBuilder, x: Symbol) -> Symbol:
    """Returns values in whose order NaN comes first, as it does for JAX and not for TensorFlow.

    Infinity gives its place to NaN, and takes that of the largest number.
    """
    if x.dtype.is_bool:
        return g.cast(x, "int32")
    if not x.dtype.is_floating:
        return x
    largest = g.scalar(float(float_limits(x.dtype.numpy_dtype).max), x)
    is_nan = g.op("NotEqual", x, x)
    return g.op("SelectV2", is_nan, g.scalar(float("inf"), x), g.op("Minimum", x, largest))


def _last_axis(g: GraphBuilder, x: Symbol, axis: int) -> Symbol:
    rank = len(x.shape)
    axis %= rank
    return g.transpose(x, (*(i for i in range(rank) if i != axis), axis))


def _restored_axis(g: GraphBuilder, x: Symbol, axis: int) -> Symbol:
    rank = len(x.shape)
    axis %= rank
    return g.transpose(x, (*range(axis), rank - 1, *range(axis, rank - 1)))


def _descending(g: GraphBuilder, x: Symbol) -> tuple[Symbol, Symbol]:
    """Returns the rows in descending order, and where each element was."""
    values, indices = g.op(
        "TopKV2",
        x,
        g.dim(x.shape[-1]),
        sorted=True,
        index_type=as_dtype("int32"),
        shapes=[x.shape, x.shape],
    )
    return values, indices


def _taken(g: GraphBuilder, x: Symbol, indices: Symbol) -> Symbol:
    batch_dims = len(x.shape) - 1
    axis = np.array(batch_dims, np.int32)
    return g.op("GatherV2", x, indices, axis, batch_dims=batch_dims, shape=indices.shape)


def _mirrored(g: GraphBuilder, x: Symbol) -> Symbol:
    """Returns values in the opposite order; it is its own inverse."""
    if x.dtype.is_integer:  # -1 - x: the negative of the least integer would overflow
        last = np.iinfo(x.dtype.numpy_dtype).max if x.dtype.is_unsigned else -1
        return g.op("Sub", g.scalar(last, x), x)
    return g.op("Neg", x)


def _key_parts(g: GraphBuilder, key: Symbol) -> list[Symbol]:
    """Returns arrays whose descending order is the ascending order of a key, the last decides."""
    if key.dtype.is_bool:
        return [_mirrored(g, g.cast(key, "int32"))]
    if key.dtype.is_complex:
        real, imag = parts(g, key)
        return [*_key_parts(g, imag), *_key_parts(g, real)]
    if not key.dtype.is_floating:
        return [_mirrored(g, key)]
    is_nan = g.op("NotEqual", key, key)
    finite = g.op("SelectV2", is_nan, g.scalar(float("inf"), key), key)
    return [_mirrored(g, finite), _mirrored(g, g.cast(is_nan, "int32"))]


def _sorted_values(g: GraphBuilder, x: Symbol) -> Symbol:
    if x.dtype.is_bool:
        return g.op("NotEqual", _sorted_values(g, g.cast(x, "int32")), np.array(0, np.int32))
    part = _key_parts(g, x)[0]
    values = _mirrored(g, _descending(g, part)[0])
    if not x.dtype.is_floating:
        return values
    # The NaNs were sorted as infinities: as many last elements become NaN again.
    size = x.shape[-1]
    is_nan = g.cast(g.op("NotEqual", x, x), "int32")
    axes = np.array([-1], np.int32)
    number = g.op("Sum", is_nan, axes, keep_dims=True, shape=(*x.shape[:-1], 1))
    zero, one = np.array(0, np.int32), np.array(1, np.int32)
    positions = g.op("Range", zero, g.dim(size), one, shape=(size,))
    last = g.op("GreaterEqual", g.op("AddV2", positions, number), g.dim(size))
    return g.op("SelectV2", last, g.scalar(float("nan"), x), values)


# Evaluations.


@evaluates("TopKV2", static=("k",), ignores=("sorted",))
def _top_k_v2(x: Array, k: Any, *, index_type: DType) -> tuple[Array, Array]:
    values, indices = _largest(jnp.asarray(x), int(k))
    return values, indices.astype(index_type.numpy_dtype)


@evaluates("TopK", ignores=("sorted",))
def _top_k(x: Array, *, k: int) -> tuple[Array, Array]:
    values, indices = _largest(jnp.asarray(x), k)
    return values, indices.astype(jnp.int32)


def _largest(x: Array, k: int) -> tuple[Array, Array]:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        values, indices = lax.top_k(x, k)
        return values, indices
    # For JAX 0.0 is larger than -0.0; for TensorFlow they are equal, the first comes first.
    plain = lax.stop_gradient(jnp.where(x == 0, jnp.zeros_like(x), x))
    indices = lax.top_k(plain, k)[1]
    return jnp.take_along_axis(x, indices, axis=-1), indices


@evaluates("ApproxTopK")
def _approx_top_k(
    input: Array,
    *,
    k: int,
    reduction_dimension: int,
    recall_target: float,
    is_max_k: bool,
    reduction_input_size_override: int,
    aggregate_to_topk: bool,
) -> Any:
    best = lax.approx_max_k if is_max_k else lax.approx_min_k
    return tuple(
        best(
            jnp.asarray(input),
            k,
            reduction_dimension=reduction_dimension,
            recall_target=recall_target,
            reduction_input_size_override=reduction_input_size_override,
            aggregate_to_topk=aggregate_to_topk,
        )
    )


@evaluates("NthElement", static=("n",))
def _nth_element(x: Array, n: Any, *, reverse: bool) -> Array:
    x = jnp.sort(x, axis=-1)
    element: Array = x[..., x.shape[-1] - 1 - int(n) if reverse else int(n)]
    return element


@evaluates("InTopKV2")
def _in_top_k_v2(predictions: Array, targets: Array, k: Array) -> Array:
    return _in_top_k(predictions, targets, k)


@evaluates("InTopK")
def _in_top_k_v1(predictions: Array, targets: Array, *, k: int) -> Array:
    return _in_top_k(predictions, targets, k)


def _in_top_k(predictions: Array, targets: Array, k: Any) -> Array:
    """Whether fewer than k classes score above the target; scores that aren't finite never do."""
    predictions, targets = jnp.asarray(predictions), jnp.asarray(targets)
    classes = predictions.shape[1]
    valid = (targets >= 0) & (targets < classes)
    index = jnp.clip(targets, 0, classes - 1)[:, None]
    score = jnp.take_along_axis(predictions, index, axis=1)
    finite = jnp.isfinite(score[:, 0]) & jnp.all(
        jnp.isfinite(predictions) | (predictions <= score), axis=1
    )
    above = jnp.sum(predictions > score, axis=1, dtype=jnp.int32)
    found: Array = valid & finite & (above < k)
    return found


@evaluates("LowerBound")
def _lower_bound(sorted_inputs: Array, values: Array, *, out_type: DType) -> Array:
    return _bound(sorted_inputs, values, "left", out_type)


@evaluates("UpperBound")
def _upper_bound(sorted_inputs: Array, values: Array, *, out_type: DType) -> Array:
    return _bound(sorted_inputs, values, "right", out_type)


def _bound(rows: Array, values: Array, side: str, out_type: DType) -> Array:
    search = functools.partial(jnp.searchsorted, side=side)
    found: Array = jax.vmap(search)(rows, values)
    return found.astype(out_type.numpy_dtype)
