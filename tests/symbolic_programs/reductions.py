"""Reductions, running reductions, sorting, windows, and normalization."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.symbolic_programs.rows import Row, c64, f32, i32, row

X = f32("b", 4)
IMAGE = f32("b", "n", "m", 2)
AT_LEAST_TWO = {"constraints": ["b >= 2"], "sizes": [2, 5]}


def _own_sum(x: jax.Array) -> jax.Array:
    result: jax.Array = lax.reduce(x, np.float32(0), lambda a, b: a + b * 1, (0,))
    return result


def _largest_with_place(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    def larger(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        first = (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
        return jnp.where(first, a[0], b[0]), jnp.where(first, a[1], b[1])

    places = lax.broadcasted_iota(jnp.int32, x.shape, 0)
    start = np.float32(-np.inf), np.int32(2**31 - 1)
    value, place = lax.reduce((x, places), start, larger, (0,))
    return value, place


def _windows(x: jax.Array, *, reducer: str, size: int, step: int, padding: str) -> jax.Array:
    kind, start = {"sum": (lax.add, 0.0), "max": (lax.max, -np.inf), "min": (lax.min, np.inf)}[
        reducer
    ]
    window, steps = (1, size, size, 1), (1, step, step, 1)
    result: jax.Array = lax.reduce_window(x, np.float32(start), kind, window, steps, padding)
    return result


def _layer_norm(x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def _batch_norm(x: jax.Array) -> jax.Array:
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(variance + 1e-3)


ROWS: dict[str, Row] = {
    # Reductions.
    "sum": row(lambda x: (x.sum(0), x.sum(1), x.sum()), X),
    "sum_kept": row(lambda x: x.sum(0, keepdims=True) + x, X),
    "product": row(lambda x: (x.prod(0), x.prod(1)), X),
    "extremes": row(lambda x: (x.max(0), x.min(0), x.max(1)), X, sizes=[1, 3]),
    "extremes_of_any": row(lambda x: jnp.max(x, axis=0, initial=-9.0), X),
    "truth": row(lambda x: ((x > 0).all(0), (x > 0).any(1), (x > 0).all()), X),
    "bits": row(
        lambda x: (jnp.bitwise_or.reduce(x, axis=0), jnp.bitwise_xor.reduce(x, axis=1)), i32("b", 4)
    ),
    "bits_of_all": row(lambda x: jnp.bitwise_and.reduce(x, axis=0), i32("b", 4)),
    "mean": row(lambda x: (x.mean(0), x.mean(1), x.mean()), X, sizes=[1, 3]),
    "variance": row(lambda x: (x.var(0), x.std(1)), X, sizes=[1, 3]),
    "average": row(
        lambda x, w: jnp.average(x, 0, weights=jnp.abs(w) + 1), X, f32("b"), sizes=[1, 3]
    ),
    "norm": row(lambda x: (jnp.linalg.norm(x, axis=0), jnp.linalg.norm(x)), X),
    "count_nonzero": row(lambda x: jnp.count_nonzero(x > 0, axis=0), X),
    "ptp": row(lambda x: jnp.ptp(x, axis=0), X, sizes=[1, 3]),
    "logsumexp": row(lambda x: (jax.nn.logsumexp(x, 0), jax.nn.logsumexp(x, 1)), X, sizes=[1, 3]),
    "softmax": row(lambda x: (jax.nn.softmax(x, 0), jax.nn.log_softmax(x)), X, sizes=[1, 3]),
    "argmax": row(lambda x: (x.argmax(0), x.argmin(0), x.argmax()), X, sizes=[1, 3]),
    "argmax_known_axis": row(lambda x: (x.argmax(1), x.argmin(-1, keepdims=True)), X),
    "nan_reductions": row(lambda x: (jnp.nansum(x, 0), jnp.nanmean(x, 0)), X, sizes=[1, 3]),
    "complex_sum": row(lambda x: (x.sum(0), x.prod(0)), c64("b", 4)),
    "complex_extreme": row(
        lambda x: lax.reduce_max_p.bind(x, axes=(0,), out_sharding=None), c64("b", 4), sizes=[1, 3]
    ),
    "own_reduction": row(_own_sum, X),
    "own_reduction_of_pairs": row(_largest_with_place, X, sizes=[1, 3]),
    # Running reductions.
    "cumsum": row(lambda x: (x.cumsum(0), x.cumsum(1), x.cumsum()), X),
    "cumprod": row(lambda x: jnp.cumprod(x, 0), X),
    "cumulative_extremes": row(
        lambda x: (lax.cummax(x, 0), lax.cummin(x, 0)), X, sizes=[0, 1, 3, 9]
    ),
    "cumulative_extremes_reversed": row(
        lambda x: lax.cummax(x, 0, reverse=True), i32("b", 4), sizes=[0, 1, 6]
    ),
    "cumulative_extremes_complex": row(lambda x: lax.cummin(x, 0), c64("b", 4), sizes=[0, 1, 6]),
    "cumlogsumexp": row(lambda x: (lax.cumlogsumexp(x, 0), lax.cumlogsumexp(x, 1)), X),
    "cumlogsumexp_complex": row(
        lambda x: lax.cumlogsumexp(x, 0, reverse=True), c64("b", 4), rtol=1e-4, atol=1e-4
    ),
    "cumsum_reversed": row(lambda x: lax.cumsum(x, 0, reverse=True), X),
    "associative_scan": row(lambda x: lax.associative_scan(jnp.maximum, x, axis=1), X),
    "diff": row(lambda x: (jnp.diff(x, axis=0), jnp.diff(x, 2, axis=1)), X, **AT_LEAST_TWO),
    # Order.
    "sort": row(lambda x: (jnp.sort(x, 0), jnp.sort(x, 1), -jnp.sort(-x)), X),
    "sort_flat": row(lambda x: jnp.sort(x, axis=None), X),
    "sort_descending": row(lambda x: jnp.sort(x, descending=True), X),
    "argsort": row(lambda x: (jnp.argsort(x, 0), jnp.argsort(x, 1)), X),
    "sort_by_key": row(lambda k, x: lax.sort((k, x), dimension=0, num_keys=1), i32("b"), f32("b")),
    "sort_by_two_keys": row(lambda k, x: jnp.lexsort((x, k)), i32("b"), f32("b")),
    "top_k": row(lambda x: lax.top_k(x, 2), X),
    "top_k_of_unknown": row(lambda x: lax.top_k(x, 2), f32(3, "b"), **AT_LEAST_TWO),
    "top_k_of_a_dim": row(
        lambda x, y: lax.top_k(x, y.shape[0]), f32("b + n"), f32("b"), sizes=[1, 3]
    ),
    "median": row(lambda x: (jnp.median(x, 1), jnp.quantile(x, 0.3, axis=1)), X),
    "median_of_unknown": row(lambda x: jnp.median(x, axis=0), X, sizes=[1, 2, 5]),
    "unique_of_known_number": row(
        lambda x: jnp.unique(x, size=4, fill_value=-9), i32("b"), sizes=[1, 5]
    ),
    "ranks": row(lambda x: jnp.argsort(jnp.argsort(x)), f32("b")),
    # Windows.
    "sum_pool": row(
        lambda x: _windows(x, reducer="sum", size=2, step=1, padding="VALID"), IMAGE, sizes=[1, 4]
    ),
    "max_pool": row(
        lambda x: _windows(x, reducer="max", size=2, step=2, padding="VALID"), IMAGE, sizes=[1, 4]
    ),
    "max_pool_same": row(
        lambda x: _windows(x, reducer="max", size=3, step=2, padding="SAME"), IMAGE, sizes=[1, 4]
    ),
    "sum_pool_same": row(
        lambda x: _windows(x, reducer="sum", size=3, step=2, padding="SAME"), IMAGE, sizes=[1, 4]
    ),
    "min_pool": row(
        lambda x: _windows(x, reducer="min", size=2, step=1, padding="SAME"), IMAGE, sizes=[1, 4]
    ),
    "pool_of_everything": row(
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, *x.shape[1:3], 1), (1, 1, 1, 1), "VALID"),
        IMAGE,
    ),
    "window_of_a_dim": row(
        lambda x, y: lax.reduce_window(x, -np.inf, lax.max, (y.shape[0],), (1,), "SAME"),
        f32("b"),
        f32("n"),
        sizes=[1, 3],
    ),
    "moving_average": row(
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3), (1, 1), [(0, 0), (2, 0)]) / 3,
        f32("b", "n"),
    ),
    "pool_gradient": row(
        jax.grad(lambda x: _windows(x, reducer="max", size=2, step=2, padding="VALID").sum()),
        f32("b", 4, 4, 2),
        sizes=[1, 3],  # TensorFlow's oneDNN kernel ends the process for an empty batch
    ),
    # Normalization.
    "layer_norm": row(_layer_norm, f32("b", "n", 4)),
    "layer_norm_of_unknown": row(_layer_norm, f32(3, "b"), sizes=[1, 3]),
    "batch_norm": row(_batch_norm, IMAGE, sizes=[1, 3]),
    "standardize": row(lambda x: jax.nn.standardize(x, axis=0), X, sizes=[1, 3]),
    "group_norm": row(
        lambda x: _layer_norm(x.reshape(x.shape[0], -1, 2)).reshape(x.shape), X, sizes=[1, 3]
    ),
    "cross_entropy": row(
        lambda x, i: (
            -jnp.take_along_axis(jax.nn.log_softmax(x), jnp.abs(i)[:, None], 1, mode="clip").mean()
        ),
        X,
        i32("b"),
        sizes=[1, 3],
    ),
}
