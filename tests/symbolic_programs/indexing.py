"""Reading and writing at positions: slice, dynamic_slice, gather, scatter, and their users."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.symbolic_programs.rows import Row, b8, f32, i32, row

X = f32("b", 4)
IDS = i32("m")
TABLE = np.arange(40, dtype=np.float32).reshape(10, 4)

ROWS: dict[str, Row] = {
    # Slices.
    "slice_from": row(lambda x: (x[1:], x[:, 1:]), X, sizes=[1, 3]),
    "slice_to": row(lambda x: x[:-1], X, sizes=[1, 3]),
    "slice_at_most": row(lambda x: x[:2], X, sizes=[0, 1, 3]),
    "slice_inside": row(lambda x: x[1:-1], X, constraints=["b >= 2"], sizes=[2, 5]),
    "slice_steps": row(lambda x: (x[::2], x[:, ::3]), X, sizes=[0, 1, 2, 3]),
    "slice_steps_from": row(lambda x: x[1::2], X, sizes=[1, 2, 3]),
    "slice_backwards": row(lambda x: x[::-1, ::-2], X),
    "slice_steps_of_a_dim": row(
        lambda x, y: lax.slice(x, (0, 0), x.shape, (1, y.shape[0])), f32("b", 4), f32("n")
    ),
    "slice_of_known_length": row(
        lambda x: lax.slice(x, (x.shape[0] - 2, 0), (x.shape[0], 2)),
        X,
        constraints=["b >= 2"],
        sizes=[2, 5],
    ),
    "first_and_last": row(lambda x: (x[0], x[-1], x[:, -1]), X, sizes=[1, 3]),
    "middle": row(
        lambda x: lax.dynamic_index_in_dim(x, x.shape[0] // 2, keepdims=False), X, sizes=[1, 3]
    ),
    "ellipsis": row(lambda x: x[..., 0, :], f32("b", "n", 2, 3)),
    # Dynamic slices.
    "dynamic_slice": row(lambda x, i: lax.dynamic_slice_in_dim(x, i, 2, 1), X, i32()),
    "dynamic_slice_rows": row(
        lambda x, i: lax.dynamic_slice(x, (i, 0), (1, 3)), X, i32(), sizes=[1, 3]
    ),
    "dynamic_slice_of_half": row(
        lambda x, i: lax.dynamic_slice_in_dim(x, i, x.shape[0] // 2), X, i32()
    ),
    "dynamic_index": row(
        lambda x, i: lax.dynamic_index_in_dim(x, i, keepdims=False), X, i32(), sizes=[1, 3]
    ),
    "dynamic_update_slice": row(
        lambda x, i: lax.dynamic_update_slice(x, jnp.ones((1, 2)), (i, 1)), X, i32(), sizes=[1, 3]
    ),
    "dynamic_update_of_columns": row(
        lambda x, y, i: lax.dynamic_update_slice_in_dim(x, y, i, 1), X, f32("b", 2), i32()
    ),
    "cache_of_keys": row(
        lambda cache, new, at: lax.dynamic_update_slice(cache, new, (0, at, 0)),
        f32("b", "n", 4),
        f32("b", 1, 4),
        i32(),
        sizes=[0, 1, 3],
    ),
    "batched_dynamic_slice": row(
        jax.vmap(lambda x, i: lax.dynamic_slice_in_dim(x, i, 2)), X, i32("b")
    ),
    "batched_dynamic_update": row(
        jax.vmap(lambda x, i: lax.dynamic_update_slice_in_dim(x, jnp.ones(2), i, 0)), X, i32("b")
    ),
    # Gather.
    "embedding": row(lambda ids: jnp.asarray(TABLE)[ids], i32("b", "n")),
    "take_rows": row(lambda x, i: jnp.take(x, i, axis=0, mode="clip"), X, IDS, sizes=[1, 3]),
    "take_columns": row(lambda x, i: jnp.take(x, i, axis=1), X, IDS),
    "take_or_fill": row(lambda x, i: x.at[i].get(mode="fill", fill_value=-7), X, IDS, sizes=[1, 3]),
    "take_wrapped": row(lambda x, i: jnp.take(x, i, axis=1, mode="wrap"), X, IDS),
    "take_flat": row(lambda x, i: jnp.take(x, i, mode="clip"), X, IDS, sizes=[1, 3]),
    "index_rows": row(lambda x, i: x[i], X, IDS, sizes=[1, 3]),
    "index_rows_of_rows": row(lambda x, i: x[i], f32("b", "n", 2), i32("m", "k"), sizes=[1, 3]),
    "index_points": row(lambda x, i, j: x[i, j], X, IDS, IDS, sizes=[1, 3]),
    "index_row_by_row": row(lambda x, i: x[jnp.arange(x.shape[0]), i], X, i32("b")),
    "index_each_and_slice": row(lambda x, i: x[:, i, 1:], f32("b", 3, 4), IDS),
    "index_by_constants": row(lambda x: x[:, np.array([3, 0, 0])], X),
    "index_diagonal": row(lambda x: x[:, [0, 1], [1, 2]], f32("b", 2, 3)),
    "take_along_axis": row(
        lambda x, i: jnp.take_along_axis(x, i, axis=1, mode="clip"), X, i32("b", 2)
    ),
    "take_along_rows": row(
        lambda x, i: jnp.take_along_axis(x, i, 0, mode="clip"), X, i32("m", 4), sizes=[1, 3]
    ),
    "gather_batched": row(
        jax.vmap(lambda x, i: x[i]), f32("b", "n", 2), i32("b", "m"), sizes=[1, 3]
    ),
    "gather_windows": row(
        lambda x: x[jnp.arange(x.shape[0] - 1)[:, None] + jnp.arange(2)],
        X,
        constraints=["b >= 2"],
        sizes=[2, 5],
    ),
    "one_hot": row(lambda i: (jax.nn.one_hot(i, 5), jax.nn.one_hot(i, i.shape[0])), i32("b")),
    "masked": row(lambda x, m: jnp.where(m, x, 0).sum(1), X, b8("b", 4)),
    "delete": row(lambda x: jnp.delete(x, 1, axis=1), X),
    "insert": row(lambda x: jnp.insert(x, 2, 9.0, axis=1), X),
    # Scatter.
    "set_rows": row(lambda x, i: x.at[i].set(1.0), X, i32(1), sizes=[1, 3]),
    "set_slice": row(lambda x: x.at[1:].set(0), X, sizes=[1, 3]),
    "set_column": row(lambda x, y: x.at[:, 2].set(y), X, f32("b")),
    "add_rows": row(lambda x, i, y: x.at[i].add(y), X, IDS, f32("m", 4), sizes=[1, 3]),
    "add_columns": row(lambda x, i: x.at[:, i].add(2.0), X, IDS),
    "add_or_drop": row(lambda x, i: x.at[i].add(1.0, mode="drop"), X, IDS, sizes=[0, 1, 3]),
    "add_points": row(lambda x, i, j: x.at[i, j].add(1.0), X, IDS, IDS, sizes=[1, 3]),
    "multiply_rows": row(lambda x, i: x.at[i].multiply(2.0), X, IDS, sizes=[1, 3]),
    "max_of_rows": row(lambda x, i, y: x.at[i].max(y), X, IDS, f32("m", 4), sizes=[1, 3]),
    "min_of_rows": row(lambda x, i, y: x.at[i].min(y), X, IDS, f32("m", 4), sizes=[1, 3]),
    "set_row_by_row": row(lambda x, i: x.at[jnp.arange(x.shape[0]), i].set(5.0), X, i32("b")),
    "scatter_batched": row(
        jax.vmap(lambda x, i, y: x.at[i].add(y)),
        f32("b", "n"),
        i32("b", 2),
        f32("b", 2),
        sizes=[1, 3],
    ),
    "segment_sum": row(
        lambda x, i: jax.ops.segment_sum(x, i, num_segments=3), f32("b", 4), i32("b")
    ),
    "segment_sum_of_unknown": row(
        lambda x, i, y: jax.ops.segment_sum(x, i, num_segments=y.shape[0]),
        f32("b", 4),
        i32("b"),
        f32("n"),
    ),
    "segment_max": row(lambda x, i: jax.ops.segment_max(x, i, 3), f32("b", 4), i32("b")),
    "message_passing": row(
        lambda x, a, z: jax.ops.segment_sum(jnp.take(x, a, 0, mode="clip"), z, x.shape[0]),
        X,
        IDS,
        IDS,
        sizes=[1, 3],
    ),
    "bincount": row(lambda i: jnp.bincount(jnp.abs(i), length=5), i32("b")),
    "histogram": row(lambda x: jnp.histogram(x, bins=4, range=(-2, 2))[0], f32("b")),
    # Searching.
    "searchsorted_in_constants": row(lambda v: jnp.searchsorted(np.arange(5.0), v), f32("b")),
    "nonzero_of_known_number": row(
        lambda x: jnp.nonzero(x > 0, size=3, fill_value=-1), f32("b", 4), sizes=[1, 3]
    ),
    "where_of_known_number": row(lambda x: jnp.argwhere(x > 0, size=4), f32("b"), sizes=[1, 3]),
    "interpolation": row(
        lambda x: jnp.interp(x, np.array([-1.0, 0, 1]), np.array([0.0, 5, 6])), f32("b")
    ),
    "digitize": row(lambda x: jnp.digitize(x, np.array([-1.0, 0, 1])), f32("b")),
}
