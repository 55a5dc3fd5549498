"""Shapes and creation: reshape, broadcast, pad, concatenate, iota, and dims computed from dims."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.symbolic_programs.rows import Row, b8, f32, i32, row

X = f32("b", 4)

ROWS: dict[str, Row] = {
    # Reshape.
    "reshape_to_one_axis": row(lambda x: x.reshape(-1), X),
    "reshape_in_halves": row(lambda x: x.reshape(x.shape[0] * 2, 2), X),
    "reshape_pairs_of_rows": row(lambda x: x.reshape(-1, 8), f32("2*b", 4)),
    "reshape_to_columns": row(lambda x: x.reshape(4, -1), X),
    "reshape_with_two_unknown": row(
        lambda x: x.reshape(-1, x.shape[0], 4), f32("b", "4*n"), sizes=[1, 3]
    ),
    "reshape_as_another": row(lambda x, y: x.reshape(y.shape), f32("b", "n"), f32("n", "b")),
    "reshape_of_a_product": row(
        lambda x, y: x.reshape(y.shape[0], -1), f32("b*n"), f32("b"), sizes=[1, 3]
    ),
    "ravel_and_back": row(lambda x: jnp.sin(x.ravel()).reshape(x.shape), f32("b", "n")),
    "expand_dims": row(lambda x: x[:, None, :, None], X),
    "squeeze": row(lambda x: x.squeeze((1, 3)), f32("b", 1, 4, 1)),
    "transpose": row(lambda x: x.transpose(2, 0, 1), f32("b", "n", 4)),
    "swap_and_move": row(lambda x: (x.swapaxes(0, 1), jnp.moveaxis(x, 0, -1)), f32("b", 2, "n")),
    "atleast": row(lambda x: (jnp.atleast_2d(x), jnp.atleast_3d(x)), f32("b")),
    # Broadcast.
    "broadcast_rows": row(lambda x: jnp.broadcast_to(x[0, :2], (x.shape[0], 2)), X, sizes=[1, 3]),
    "broadcast_a_constant": row(lambda x: jnp.broadcast_to(np.arange(4.0), x.shape), X),
    "broadcast_in_dim": row(
        lambda x: lax.broadcast_in_dim(x, (3, *x.shape, 2), (1, 2)), f32("b", "n")
    ),
    "broadcast_two": row(lambda x, y: jnp.broadcast_arrays(x, y), f32("b", 1), f32(1, "n")),
    "broadcasting_add": row(lambda x, y: x[:, None] + y, f32("b", 4), f32("n", 1)),
    # TensorFlow's kernels take five runs of axes; these have six and seven.
    "outer_product": row(jnp.kron, f32("b", 4, 4), f32("n", 2, 3)),
    "comparison_of_many_axes": row(
        lambda x, y: x[:, None, :, None, :, None] > y[None, :, None, :, None, :],
        f32("b", 2, 3),
        f32(2, "n", 2),
    ),
    "broadcast_many_axes": row(
        lambda x: jnp.broadcast_to(x[:, None, :, None, :, None], (*x.shape[:1], 2, 3, 4, 2, 5)),
        f32("b", 3, 2),
    ),
    "selection_of_many_axes": row(
        lambda x, y: jnp.where(
            x[:, None, :, None, :, None, :] > 0, y[:, None, :, None, :, None], 2.0
        ),
        f32("b", 2, 3, 2),
        f32(3, 2, 2),
    ),
    "full": row(lambda x: (jnp.ones(x.shape), jnp.full((x.shape[0], 2), 7, jnp.int32)), X),
    "zeros_like": row(lambda x: jnp.zeros_like(x, shape=(x.shape[0] + 1,)), X),
    # Repetition and order.
    "tile": row(lambda x: jnp.tile(x, (2, 3)), X),
    "tile_by_a_dim": row(lambda x: jnp.tile(x, (x.shape[0], 1)), X),
    "repeat": row(lambda x: jnp.repeat(x, 3, axis=0), X),
    "repeat_by_a_dim": row(lambda x: jnp.repeat(x, x.shape[0], axis=1), X),
    "reverse": row(lambda x: (x[::-1], jnp.flip(x)), X),
    "roll": row(lambda x: (jnp.roll(x, 2, 0), jnp.roll(x, -1, 1)), X),
    "roll_by_half": row(lambda x: jnp.roll(x, x.shape[0] // 2, axis=0), X),
    "roll_flat": row(lambda x: jnp.roll(x, 3), X),
    "rotate": row(lambda x: jnp.rot90(x), f32("b", "n")),
    # Joining and parting.
    "concatenate": row(lambda x, y: jnp.concatenate([x, y]), X, f32("n", 4)),
    "concatenate_thrice": row(lambda x: jnp.concatenate([x, x, x[:, ::-1]], axis=0), X),
    "concatenate_with_constant": row(lambda x: jnp.concatenate([x, np.ones((2, 4))]), X),
    "concatenate_known_axis": row(lambda x, y: jnp.concatenate([x, y], 1), X, f32("b", 2)),
    "stack": row(lambda x: jnp.stack([x, x * 2], axis=1), X),
    "split": row(lambda x: jnp.split(x, 2, axis=1), X),
    "split_at": row(lambda x: jnp.split(x, [1, 3], axis=1), X),
    "split_unknown_axis": row(lambda x: jnp.split(x, 3), f32("3*b", 2)),
    "lax_split": row(lambda x: lax.split(x, (x.shape[0] - 4, 4)), f32("b + 4", 2)),
    "array_split": row(lambda x: jnp.array_split(x, 3, axis=1), X),
    "append": row(lambda x, y: jnp.append(x, y), f32("b", 2), f32("n")),
    "block": row(lambda x: jnp.block([[x, x], [x, x + 1]]), X),
    # Pad.
    "pad": row(lambda x: jnp.pad(x, ((1, 2), (0, 3))), X),
    "pad_by_a_dim": row(lambda x: jnp.pad(x, ((0, x.shape[0]), (0, 0))), X),
    "pad_to_a_dim": row(
        lambda x, y: lax.pad(x, 0.0, [(0, y.shape[0] - x.shape[0], 0), (0, 0, 0)]),
        X,
        f32("b + n", 1),
    ),
    "pad_between": row(lambda x: lax.pad(x, 1.0, [(1, 0, 2), (0, 1, 1)]), X, sizes=[1, 3]),
    "pad_less": row(lambda x: lax.pad(x, 1.0, [(-1, 2, 0), (2, -1, 0)]), X, sizes=[1, 3]),
    "pad_or_cut": row(
        lambda x: lax.pad(x, 0.0, [(x.shape[0] - 3, 5, 0), (0, 0, 0)]), X, sizes=[1, 2, 3, 5]
    ),
    "pad_edge": row(lambda x: jnp.pad(x, ((1, 2), (0, 1)), mode="edge"), X, sizes=[1, 3]),
    "pad_wrap": row(lambda x: jnp.pad(x, ((0, 0), (2, 3)), mode="wrap"), X),
    "pad_reflect": row(lambda x: jnp.pad(x, ((0, 0), (2, 1)), mode="reflect"), X),
    "pad_symmetric": row(lambda x: jnp.pad(x, ((0, 0), (2, 1)), mode="symmetric"), X),
    "pad_reflect_rows": row(
        lambda x: jnp.pad(x, ((1, 1), (0, 0)), mode="reflect"),
        X,
        constraints=["b >= 2"],
        sizes=[2, 5],
    ),
    # Numbers made of dims.
    "iota": row(lambda x: (jnp.arange(x.shape[0]), lax.iota(jnp.float32, x.shape[0])), X),
    "iota_along": row(lambda x: lax.broadcasted_iota(jnp.int32, (2, x.shape[0], 3), 1), X),
    "iota_known_axis": row(lambda x: lax.broadcasted_iota(jnp.int32, (x.shape[0], 3), 1), X),
    "arange_from_to": row(lambda x: jnp.arange(x.shape[0], 2 * x.shape[0] + 3), X),
    "arange_steps": row(lambda x: jnp.arange(0, 3 * x.shape[0], 2), X),
    "linspace": row(
        lambda x: jnp.linspace(0, 1, x.shape[0]), X, constraints=["b >= 2"], sizes=[2, 5]
    ),
    "linspace_known": row(lambda x: jnp.linspace(x[:, 0], x[:, 1], 5, axis=1), X),
    "eye": row(lambda x: (jnp.eye(x.shape[0]), jnp.eye(x.shape[0], 3, 1)), X),
    "triangles": row(lambda x: (jnp.tril(x), jnp.triu(x, 1)), f32("b", "n")),
    "tri": row(lambda x: jnp.tri(x.shape[0], x.shape[0] + 1, -1, dtype=jnp.bool_), X),
    "causal_mask": row(
        lambda x: jnp.where(jnp.arange(x.shape[0])[:, None] >= jnp.arange(x.shape[0]), x, -1e9),
        f32("b", "b"),
    ),
    "diagonal": row(lambda x: (jnp.diagonal(x, 1, 1, 2), jnp.trace(x, 0, 1, 2)), f32("b", 3, 3)),
    "diagonal_unknown": row(lambda x: jnp.diagonal(x), f32("b", "b")),
    "diag_of_a_vector": row(lambda x: jnp.diag(x), f32("b")),
    "meshgrid": row(lambda x, y: jnp.meshgrid(x, y, indexing="ij"), f32("b"), f32("n")),
    "vander": row(lambda x: jnp.vander(x, 3), f32("b")),
    "outer_equal": row(lambda x, y: x[:, None] == y[None], i32("b"), i32("n")),
    "positions": row(
        lambda x: jnp.sin(jnp.arange(x.shape[1])[:, None] / 10.0 ** jnp.arange(x.shape[2])),
        f32("b", "n", 4),
    ),
    # Elementwise with dims.
    "mean_by_size": row(lambda x: x.sum(0) / max(x.shape[0], 1), X, sizes=[1, 3]),
    "times_size": row(lambda x: x * x.shape[0] + x.size, X),
    "float_of_size": row(lambda x: jnp.sqrt(jnp.float32(x.shape[0])) * x, X),
    "select": row(lambda p, x, y: jnp.where(p[:, None], x, y), b8("b"), X, X),
    "select_n": row(lambda i, x: lax.select_n(i, x, x + 1, x + 2), i32("b", 4), X),
    "clamp": row(lambda x, y: lax.clamp(-0.5, x, 0.5) + jnp.clip(x, y, y + 1), X, X),
    "convert": row(lambda x: (x.astype(jnp.int32), x > 0, x.astype(jnp.bfloat16)), X),
    "bitcast": row(lambda x: lax.bitcast_convert_type(x, jnp.uint16), X),
    "bitcast_wider": row(
        lambda x: lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.uint8), jnp.uint32), X
    ),
    # Dims made of dims.
    "sum_of_dims": row(lambda x, y: jnp.zeros(x.shape[0] + y.shape[0]), f32("b"), f32("n")),
    "product_of_dims": row(lambda x, y: jnp.ones(x.shape[0] * y.shape[0]), f32("b"), f32("n")),
    "square_of_a_dim": row(lambda x: jnp.ones(x.shape[0] ** 2 + 1), f32("b")),
    "half_of_a_dim": row(lambda x: (x[: x.shape[0] // 2], x[x.shape[0] // 2 :]), X),
    "rest_of_a_dim": row(lambda x: jnp.ones((x.shape[0] % 2, 3)), X, sizes=[0, 1, 2, 3]),
    "largest_dim": row(
        lambda x, y: jnp.ones(jax.core.max_dim(x.shape[0], y.shape[0])), f32("b"), f32("n")
    ),
    "smallest_dim": row(
        lambda x, y: x[: jax.core.min_dim(x.shape[0], y.shape[0])],
        f32("b"),
        f32("n"),
        sizes=[1, {"b": 4, "n": 2}],
    ),
    "difference_of_dims": row(lambda x, y: y[x.shape[0] :], f32("b"), f32("b + n"), sizes=[1, 3]),
    "ceiling": row(lambda x: jnp.ones(-(-x.shape[0] // 4)), f32("b"), sizes=[0, 1, 4, 5]),
    "padded_to_multiple": row(
        lambda x: jnp.pad(x, (0, -x.shape[0] % 4)), f32("b"), sizes=[0, 1, 3, 4, 5]
    ),
    "size_of_one_given_as_sum": row(
        lambda x, y: (jnp.zeros(y.shape[0]), x.shape[0] * jnp.ones(2)), f32("b + n"), f32("b")
    ),
    "size_known_by_a_sum_only": row(
        lambda x, y: jnp.arange(x.shape[0] - y.shape[0]) + 0 * x.shape[0], f32("b + n"), f32("b")
    ),
    "size_known_by_a_product_only": row(
        lambda x, y: x.reshape(y.shape[0], -1) + jnp.arange(x.shape[0] // y.shape[0]),
        f32("b*n"),
        f32("b"),
        sizes=[1, 3],
    ),
    "third_of_a_dim": row(lambda x: jnp.zeros(x.shape[0] // 3), f32("3*b + 1")),
    "same_dim_in_all": row(
        lambda x, y, z: x @ y + z, f32("b", "b"), f32("b", 4), X, sizes=[0, 1, 3]
    ),
}
