"""Products, convolutions, images, Fourier transforms, decompositions, random numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.symbolic_programs.rows import Row, c64, f32, i32, row, u32

X = f32("b", 4)
IMAGE = f32("b", "n", "m", 2)
PLANE = f32("b", 6, 5, 2)
KEY = u32(2)
MATRICES = f32("b", 3, 3)
W = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
KERNEL = np.linspace(-1, 1, 3 * 3 * 2 * 4, dtype=np.float32).reshape(3, 3, 2, 4)
NHWC = ("NHWC", "HWIO", "NHWC")


def _conv(x: jax.Array, kernel: Any = KERNEL, padding: Any = "SAME", **options: Any) -> jax.Array:
    steps = options.pop("strides", (1, 1))
    return lax.conv_general_dilated(x, kernel, steps, padding, dimension_numbers=NHWC, **options)


def _transposed(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``lax.conv_transpose`` pads by numpy, and ``conv_general_dilated`` by known numbers."""
    n, m = kernel.shape[:2]
    space = [(n - 1, n - 1, 1), (m - 1, m - 1, 2)]
    spread = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *space, (0, 0, 0)])
    return _conv(spread, kernel, "VALID")


def _definite(x: jax.Array) -> jax.Array:
    return x @ x.mT + 2 * jnp.eye(x.shape[-1])


def _resized(x: jax.Array, *, method: str, factor: int = 2) -> jax.Array:
    shape = (x.shape[0], x.shape[1] * factor, x.shape[2] * factor, x.shape[3])
    return jax.image.resize(x, shape, method)


def _attention(q: jax.Array, k: jax.Array) -> jax.Array:
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(2)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), k)


def _drawn(sample: Any, *specs: Any, **options: Any) -> Row:
    """A row for random numbers whose first argument is a key."""
    return row(
        lambda key, *args: sample(jax.random.wrap_key_data(key), *args), KEY, *specs, **options
    )


ROWS: dict[str, Row] = {
    # Products.
    "dense": row(lambda x: x @ W, X),
    "matmul": row(jnp.matmul, f32("b", "n"), f32("n", "m")),
    "matmul_batched": row(jnp.matmul, f32("b", "n", 3), f32("b", 3, "m")),
    "matmul_broadcast": row(jnp.matmul, f32("b", 1, "n", 3), f32(2, 3, "m")),
    "matvec": row(jnp.matmul, f32("b", "n"), f32("n")),
    "vecmat": row(jnp.matmul, f32("n"), f32("n", "b")),
    "inner_and_outer": row(lambda x, y: (jnp.inner(x, x), jnp.outer(x, y)), f32("b"), f32("n")),
    "tensordot": row(lambda x, y: jnp.tensordot(x, y, 2), f32("b", "n", 3), f32("n", 3, 2)),
    "dot_general": row(
        lambda x, y: lax.dot_general(x, y, (((2,), (1,)), ((0,), (2,)))),
        f32("b", 2, "n"),
        f32(3, "n", "b"),
    ),
    "gram": row(lambda x: (x @ x.T, x.T @ x), X),
    "kron": row(jnp.kron, f32("b", 2), f32("n", 3)),
    "einsum_trace": row(lambda x: jnp.einsum("bii->b", x), MATRICES),
    "einsum_diagonal": row(lambda x: jnp.einsum("bii->bi", x), MATRICES),
    "einsum_bilinear": row(lambda x, y: jnp.einsum("bi,ij,bj->b", x, W, y), X, f32("b", 3)),
    "einsum_ellipsis": row(lambda x: jnp.einsum("...i,ij->...j", x, W), f32("b", "n", 4)),
    "einsum_outer": row(lambda x, y: jnp.einsum("bi,nj->bnij", x, y), X, f32("n", 2)),
    "attention": row(_attention, f32("b", "n", 2, 2), f32("b", "m", 2, 2)),
    "attention_of_nn": row(
        lambda q, k: jax.nn.dot_product_attention(q, k, k, is_causal=True),
        f32("b", "n", 2, 4),
        f32("b", "n", 2, 4),
        sizes=[1, 3],
    ),
    "distances": row(lambda x, y: ((x[:, None] - y) ** 2).sum(-1), X, f32("n", 4)),
    "polynomial": row(lambda x: jnp.polyval(np.array([1.0, -2, 3]), x), f32("b")),
    "cross": row(jnp.cross, f32("b", 3), f32("b", 3)),
    # Convolutions. With an empty batch TensorFlow's oneDNN kernel returns a wrong shape.
    "conv": row(_conv, IMAGE, sizes=[1, 3]),
    "conv_of_a_batch": row(_conv, PLANE, sizes=[1, 3]),
    "conv_valid": row(partial(_conv, padding="VALID"), IMAGE, sizes=[2, 4]),
    "conv_strided": row(partial(_conv, strides=(2, 2)), IMAGE, sizes=[1, 3, 4]),
    "conv_padded": row(partial(_conv, padding=[(1, 2), (0, 1)]), IMAGE, sizes=[2, 3]),
    "conv_dilated": row(partial(_conv, rhs_dilation=(2, 1)), IMAGE, sizes=[1, 4]),
    "conv_depthwise": row(
        partial(_conv, kernel=KERNEL.reshape(3, 3, 1, 8), feature_group_count=2),
        IMAGE,
        sizes=[1, 3],
    ),
    "conv_transposed": row(
        lambda x: lax.conv_transpose(x, KERNEL, (2, 2), "SAME", dimension_numbers=NHWC),
        IMAGE,
        sizes=[1, 3],
    ),
    "conv_transposed_by_unknown_kernel": row(
        _transposed,
        f32("b", 4, 5, 2),
        f32("n", "m", 2, 3),
        sizes=[{"b": 1, "n": 1, "m": 4}, {"b": 2, "n": 5, "m": 3}],
        constraints=("n >= 1", "m >= 1"),
    ),
    "conv_transposed_valid": row(
        lambda x: lax.conv_transpose(x, KERNEL, (2, 2), "VALID", dimension_numbers=NHWC),
        IMAGE,
        sizes=[1, 3],
    ),
    "conv_channels_first": row(
        lambda x: lax.conv_general_dilated(x, KERNEL.transpose(3, 2, 0, 1), (1, 1), "SAME"),
        f32("b", 2, "n", "m"),
        sizes=[1, 3],
    ),
    "conv_of_a_line": row(
        lambda x: lax.conv_general_dilated(
            x, KERNEL[0], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        ),
        f32("b", "n", 2),
        sizes=[1, 3],
    ),
    "conv_causal": row(
        lambda x: lax.conv_general_dilated(
            x, KERNEL[0], (1,), [(4, 0)], rhs_dilation=(2,), dimension_numbers=("NWC", "WIO", "NWC")
        ),
        f32("b", "n", 2),
        sizes=[1, 3],
    ),
    "conv_of_a_volume": row(
        lambda x: lax.conv_general_dilated(
            x, KERNEL[None], (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        ),
        f32("b", 2, "n", 3, 2),
        sizes=[1, 3],
    ),
    "conv_of_grouped_volumes": row(
        lambda x: lax.conv_general_dilated(
            x,
            KERNEL.reshape(1, 3, 3, 1, 8),
            (1, 1, 1),
            "SAME",
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
            feature_group_count=2,
        ),
        f32("b", 2, "n", 3, 2),
        sizes=[1, 3],
    ),
    "conv_of_wide_integers": row(
        lambda x: lax.conv_general_dilated(
            x, np.arange(6, dtype=np.int32).reshape(1, 2, 3), (2,), [(1, 1)]
        ),
        i32("b", 2, "n"),
        sizes=[2, 3],
    ),
    "conv_kernel_gradient": row(
        jax.grad(lambda k, x: (_conv(x, k) ** 2).sum()),
        f32(3, 3, 2, 4),
        PLANE,
        sizes=[1, 2],
        rtol=1e-4,
        atol=1e-4,
    ),
    "conv_of_each_with_its_own": row(
        jax.vmap(lambda x, k: _conv(x[None], k)[0]),
        f32("b", 4, 4, 2),
        f32("b", 3, 3, 2, 2),
        sizes=[1, 3],
    ),
    "patches": row(
        lambda x: lax.conv_general_dilated_patches(
            x, (2, 2), (1, 1), "VALID", dimension_numbers=NHWC
        ),
        IMAGE,
        sizes=[1, 3],
    ),
    "pixel_shuffle": row(
        lambda x: (
            x.reshape(*x.shape[:3], 2, 2, 1)
            .transpose(0, 1, 3, 2, 4, 5)
            .reshape(x.shape[0], 2 * x.shape[1], -1, 1)
        ),
        f32("b", "n", "m", 4),
        sizes=[1, 3],
    ),
    # Images.
    "resize_nearest": row(partial(_resized, method="nearest"), PLANE, sizes=[0, 2]),
    "resize_linear": row(partial(_resized, method="linear"), PLANE, sizes=[0, 2]),
    "resize_cubic": row(partial(_resized, method="cubic"), PLANE, sizes=[0, 2], rtol=1e-4),
    "resize_of_unknown": row(partial(_resized, method="linear"), IMAGE, sizes=[1, 3]),
    "resize_of_unknown_nearest": row(
        partial(_resized, method="nearest", factor=3), IMAGE, sizes=[1, 3]
    ),
    "resize_to_known": row(
        lambda x: jax.image.resize(x, (x.shape[0], 3, 7, 2), "linear", antialias=False),
        IMAGE,
        sizes=[1, 3],
    ),
    # Fourier transforms.
    "fft": row(lambda x: jnp.fft.fft(x), c64("b", 4)),
    "fft_of_unknown": row(
        lambda x: (jnp.fft.fft(x, axis=0), jnp.fft.ifft(x, axis=0)),
        c64("b", 4),
        sizes=[1, 3],
        atol=1e-4,
    ),
    "fft2": row(lambda x: jnp.fft.fft2(x), c64("n", "b", 4), sizes=[1, 3], atol=1e-4),
    "rfft": row(lambda x: jnp.fft.rfft(x), X, atol=1e-4),
    "rfft2_of_unknown": row(lambda x: jnp.fft.rfft2(x), f32(2, "b", 4), sizes=[1, 3], atol=1e-4),
    "irfft": row(lambda x: jnp.fft.irfft(x, 6), c64("b", 4), atol=1e-4),
    "fftshift": row(lambda x: jnp.fft.fftshift(x), X, sizes=[1, 3]),
    # Decompositions.
    "cholesky": row(lambda x: jnp.linalg.cholesky(_definite(x)), MATRICES),
    "cholesky_of_unknown": row(
        lambda x: jnp.linalg.cholesky(_definite(x)), f32("b", "b"), sizes=[1, 3]
    ),
    "qr": row(lambda x: jnp.abs(jnp.linalg.qr(x)[1]), MATRICES, rtol=1e-4),
    "svd": row(lambda x: jnp.linalg.svd(x, compute_uv=False), f32("b", 2, 3), rtol=1e-4),
    "eigh": row(lambda x: jnp.linalg.eigvalsh(_definite(x)), MATRICES, rtol=1e-4),
    "solve": row(
        lambda x, y: jnp.linalg.solve(_definite(x), y), MATRICES, f32("b", 3, 2), rtol=1e-4
    ),
    "solve_of_unknown": row(
        lambda x, y: jnp.linalg.solve(_definite(x), y),
        f32("b", "b"),
        f32("b"),
        sizes=[1, 3],
        rtol=1e-3,
        atol=1e-4,
    ),
    "inverse": row(lambda x: jnp.linalg.inv(_definite(x)), MATRICES, rtol=1e-4),
    "determinant": row(lambda x: jnp.linalg.slogdet(_definite(x)), MATRICES, rtol=1e-4),
    "triangular_solve": row(
        lambda x, y: jax.scipy.linalg.solve_triangular(jnp.tril(_definite(x)), y, lower=True),
        f32("b", "b"),
        f32("b", 2),
        sizes=[1, 3],
        rtol=1e-4,
    ),
    "qr_with_exchanged_columns": row(
        lambda x: jax.scipy.linalg.qr(x, mode="economic", pivoting=True), f32("n", "m"), rtol=1e-4
    ),
    "qr_with_exchanged_columns_full": row(
        lambda x: lax.linalg.qr(x, pivoting=True),
        f32("b", "n", 3),
        sizes=[1, 3, {"b": 2, "n": 2}],
        rtol=1e-4,
    ),
    "geqrf": row(lambda x: jnp.linalg.qr(x, mode="raw"), f32("b", "n", "m"), rtol=1e-4),
    "hessenberg": row(
        lambda x: lax.linalg.hessenberg(x), f32("b", "n", "n"), sizes=[0, 1, 3], rtol=1e-4
    ),
    "lu": row(lambda x: lax.linalg.lu(x)[:2], f32("b", "n"), sizes=[1, 3], rtol=1e-4),
    "lu_batched": row(lambda x: lax.linalg.lu(x), MATRICES, rtol=1e-4),
    "matrix_power": row(lambda x: jnp.linalg.matrix_power(x, 3), MATRICES, rtol=1e-4, atol=1e-4),
    "tridiagonal_solve": row(
        lambda d, y: lax.linalg.tridiagonal_solve(0 * d + 0.5, jnp.abs(d) + 3, 0 * d - 0.5, y),
        f32("b", 4),
        f32("b", 4, 2),
        sizes=[1, 3],
        rtol=1e-4,
    ),
    # Random numbers.
    "random_bits": _drawn(lambda k, x: jax.random.bits(k, x.shape), X),
    "random_uniform": _drawn(lambda k, x: jax.random.uniform(k, (x.shape[0], 3)), X),
    "random_normal": _drawn(lambda k, x: jax.random.normal(k, (x.shape[0] + 1,)), X),
    "random_integers": _drawn(lambda k, x: jax.random.randint(k, x.shape, 0, 10), X),
    "random_split": _drawn(lambda k, x: jax.random.key_data(jax.random.split(k, x.shape[0])), X),
    "random_keys_of_rows": _drawn(
        lambda k, x: jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(k, i)))(
            jnp.arange(x.shape[0])
        ),
        X,
    ),
    "dropout": _drawn(lambda k, x: jnp.where(jax.random.bernoulli(k, 0.5, x.shape), x * 2, 0), X),
    "random_categorical": _drawn(lambda k, x: jax.random.categorical(k, x), X),
    "random_choice": _drawn(lambda k, x: jax.random.choice(k, x, (2,)), X, sizes=[1, 3]),
    "random_gumbel": _drawn(lambda k, x: jax.random.gumbel(k, x.shape), X),
    "random_bits_of_rbg": row(
        lambda key, x: jax.random.bits(jax.random.wrap_key_data(key, impl="rbg"), x.shape),
        u32(4),
        f32("b", 3),
        sizes=[1, 3],
    ),
    "random_split_of_unsafe_rbg": row(
        lambda key, x: jax.random.key_data(
            jax.random.split(jax.random.wrap_key_data(key, impl="unsafe_rbg"), x.shape[0])
        ),
        u32(4),
        X,
        sizes=[1, 3],
    ),
}
