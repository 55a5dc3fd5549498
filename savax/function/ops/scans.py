"""Running sums, products and extremes along an axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function.ops._orders import extremum
from savax.function.ops._registry import evaluates, folds, lowers
from savax.function.ops._sizes import is_known
from savax.function.ops._traced import traced

if TYPE_CHECKING:
    from jax import Array

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


# Lowerings.


@lowers("cumsum")
def _lower_cumsum(g: GraphBuilder, x: Symbol, *, axis: int, reverse: bool) -> Symbol:
    return _scanned(g, "Cumsum", x, axis, reverse)


@lowers("cumprod")
def _lower_cumprod(g: GraphBuilder, x: Symbol, *, axis: int, reverse: bool) -> Symbol:
    return _scanned(g, "Cumprod", x, axis, reverse)


@lowers("cumlogsumexp")
def _lower_cumlogsumexp(g: GraphBuilder, x: Symbol, *, axis: int, reverse: bool) -> Symbol:
    if not x.dtype.is_complex:
        return _scanned(g, "CumulativeLogsumexp", x, axis, reverse)
    if not is_known(x.shape[axis]):
        return _doubled(g, jnp.logaddexp, x, axis, reverse)

    def scan(x: Array) -> Array:
        result: Array = lax.associative_scan(jnp.logaddexp, x, reverse=reverse, axis=axis)
        return result

    return traced(g, scan, x)[0]


def _scanned(g: GraphBuilder, op: str, x: Symbol, axis: int, reverse: bool) -> Symbol:
    return g.op(op, x, np.array(axis, np.int32), exclusive=False, reverse=reverse, shape=x.shape)


@lowers("cummax")
def _lower_cummax(g: GraphBuilder, x: Symbol, *, axis: int, reverse: bool) -> Symbol:
    return _running_extreme(g, "Maximum", x, axis, reverse)


@lowers("cummin")
def _lower_cummin(g: GraphBuilder, x: Symbol, *, axis: int, reverse: bool) -> Symbol:
    return _running_extreme(g, "Minimum", x, axis, reverse)


def _running_extreme(g: GraphBuilder, op: str, x: Symbol, axis: int, reverse: bool) -> Symbol:
    """Combines with the array shifted by 1, 2, 4, …: TensorFlow has no such scan."""
    size = x.shape[axis]
    if not is_known(size):
        return _doubled(g, lax.max if op == "Maximum" else lax.min, x, axis, reverse)
    shift = 1
    while shift < size:
        left = _part(g, x, axis, 0, size - shift)
        combined = extremum(g, left, _part(g, x, axis, shift, size), largest=op == "Maximum")
        if reverse:
            x = g.concat([combined, _part(g, x, axis, size - shift, size)], axis)
        else:
            x = g.concat([_part(g, x, axis, 0, shift), combined], axis)
        shift *= 2
    return x


def _part(g: GraphBuilder, x: Symbol, axis: int, start: int, limit: int) -> Symbol:
    starts = tuple(start if i == axis else 0 for i in range(len(x.shape)))
    limits = tuple(limit if i == axis else size for i, size in enumerate(x.shape))
    return g.slice(x, starts, limits)


def _doubled(g: GraphBuilder, combine: Any, x: Symbol, axis: int, reverse: bool) -> Symbol:
    """Combines with the array shifted by 1, 2, 4, ... in a loop, since the axis is of any size."""

    def scan(x: Array) -> Array:
        size = x.shape[axis]
        place = lax.iota(jnp.int32, size)
        column = (size, *(1 for _ in x.shape[axis + 1 :]))

        def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
            shift, x = state
            source = place + shift if reverse else place - shift
            inside = ((source >= 0) & (source < size)).reshape(column)
            other = jnp.take(x, source, axis=axis, mode="clip")
            return shift * 2, jnp.where(inside, combine(other, x), x)

        start = jnp.ones((), jnp.int32), x
        result: Array = lax.while_loop(lambda state: state[0] < size, step, start)[1]
        return result

    return traced(g, scan, x)[0]


# Evaluations.


@evaluates("Cumsum", static=("axis",))
def _cumsum(x: Array, axis: Any, *, exclusive: bool, reverse: bool) -> Array:
    return _scan(lax.cumsum, x, axis, exclusive, reverse, 0)


@evaluates("Cumprod", static=("axis",))
def _cumprod(x: Array, axis: Any, *, exclusive: bool, reverse: bool) -> Array:
    return _scan(lax.cumprod, x, axis, exclusive, reverse, 1)


@evaluates("CumulativeLogsumexp", static=("axis",))
def _cumulative_logsumexp(x: Array, axis: Any, *, exclusive: bool, reverse: bool) -> Array:
    return _scan(lax.cumlogsumexp, x, axis, exclusive, reverse, -np.inf)


def _scan(scan: Any, x: Array, axis: Any, exclusive: bool, reverse: bool, neutral: Any) -> Array:
    x = jnp.asarray(x)
    dim = int(axis) % x.ndim
    if exclusive and x.shape[dim] != 0:
        edge = list(x.shape)
        edge[dim] = 1
        border = jnp.full(edge, neutral, x.dtype)
        size = x.shape[dim]
        if reverse:
            x = jnp.concatenate([lax.slice_in_dim(x, 1, size, axis=dim), border], dim)
        else:
            x = jnp.concatenate([border, lax.slice_in_dim(x, 0, size - 1, axis=dim)], dim)
    scanned: Array = scan(x, dim, reverse)
    return scanned


@folds("Cumsum")
def _fold_cumsum(x: Any, axis: Any, *, exclusive: bool, reverse: bool) -> Any:
    return _fold_scan(np.cumsum, x, int(axis), exclusive, reverse, 0)


@folds("Cumprod")
def _fold_cumprod(x: Any, axis: Any, *, exclusive: bool, reverse: bool) -> Any:
    return _fold_scan(np.cumprod, x, int(axis), exclusive, reverse, 1)


def _fold_scan(scan: Any, x: Any, axis: int, exclusive: bool, reverse: bool, neutral: int) -> Any:
    ordered = np.flip(x, axis) if reverse else x
    result = scan(ordered, axis=axis, dtype=x.dtype)
    if exclusive:
        result = np.roll(result, 1, axis)
        np.moveaxis(result, axis, 0)[:1] = neutral
    return np.flip(result, axis) if reverse else result
