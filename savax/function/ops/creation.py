"""Tensors made from sizes and single values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from savax.function.evaluation._plan_values import TensorListValue
from savax.function.ops._operands import as_size
from savax.function.ops._registry import evaluates, folds, lowers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jax import Array

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol
    from savax.types import DType, Shape


# Lowerings.


@lowers("iota")
def _lower_iota(
    g: GraphBuilder, *sizes: Symbol, dtype: Any, shape: Sequence[Any], dimension: int
) -> Symbol:
    if sizes:
        g.unsupported("sizes of iota that are computed")
    size = shape[dimension]
    start, step = np.array(0, np.int32), np.array(1, np.int32)
    values = g.cast(g.op("Range", start, g.dim(size), step, shape=(size,)), dtype)
    aligned = tuple(size if axis == dimension else 1 for axis in range(len(shape)))
    return g.broadcast(g.reshape(values, aligned), tuple(shape))


# Evaluations.


@evaluates("Fill", static=("dims",), ignores=("index_type",))
@folds("Fill")
def _fill(dims: Any, value: Any) -> Any:
    shape = tuple(as_size(size) for size in np.asarray(dims))
    if isinstance(value, np.ndarray) and all(isinstance(size, int) for size in shape):
        return np.full(shape, value, value.dtype)
    return jnp.full(shape, value, value.dtype)


@evaluates("Range", static=("start", "limit", "delta"))
@folds("Range")
def _range(start: Any, limit: Any, delta: Any) -> Any:
    bounds: list[Any] = [np.asarray(bound) for bound in (start, limit, delta)]
    dtype = next((b.dtype for b in bounds if b.dtype != np.dtype(object)), np.dtype(np.int32))
    if any(b.dtype == np.dtype(object) for b in bounds):  # symbolic dims
        first, limit, step = (as_size(b.item()) for b in bounds)
        return jnp.arange(first, limit, step, dtype=dtype)
    return np.arange(*bounds).astype(dtype)


@evaluates("FakeParam")
def _fake_param(*, dtype: DType, shape: Shape) -> Any:
    """Returns what stands for a result that a branch doesn't have; nothing reads it."""
    return np.zeros([size or 0 for size in shape or ()], dtype.numpy_dtype)


@evaluates("LinSpace", static=("num",))
def _lin_space(start: Array, stop: Array, num: Any) -> Array:
    spaced: Array = jnp.linspace(start, stop, int(num), dtype=jnp.result_type(start))
    return spaced


@evaluates("ZerosLike")
def _zeros_like(x: Array | TensorListValue) -> Array | TensorListValue:
    if isinstance(x, TensorListValue):
        return x if x.buffer is None else x.with_buffer(jnp.zeros_like(x.buffer))
    return jnp.zeros(np.shape(x), x.dtype)


@folds("ZerosLike")
def _fold_zeros_like(x: Any) -> Any:
    empty = b"" if x.dtype == object else 0  # strings
    return np.full(x.shape, empty, x.dtype)


@evaluates("OnesLike")
def _ones_like(x: Array) -> Array:
    return jnp.ones(np.shape(x), x.dtype)


folds("OnesLike")(np.ones_like)


@evaluates("Empty", static=("shape",), ignores=("init",))
def _empty(shape: Any, *, dtype: DType) -> Array:
    return jnp.zeros(tuple(int(size) for size in shape), dtype.numpy_dtype)
