"""Programs of every family, with arguments at which they have derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jax import lax

if TYPE_CHECKING:
    from collections.abc import Callable


def array(*shape: int) -> np.ndarray:
    """Returns normal numbers that depend on the shape only."""
    rng = np.random.default_rng(list(shape))
    return rng.standard_normal(shape).astype(np.float32)


MATRIX = array(4, 4) + 4 * np.eye(4, dtype=np.float32)
POSITIVE = MATRIX @ MATRIX.T
X = array(4, 5)
IMAGES = array(2, 7, 7, 4)
ROWS = jnp.array([0, 2, 0])
NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, kernel, strides=(1, 1), padding="SAME", **options):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NHWC, **options)


def pool(x, initial, combine, padding="SAME"):
    return lax.reduce_window(x, initial, combine, (1, 3, 3, 1), (1, 2, 2, 1), padding)


def batch_norm(x, scale, offset):
    normal = (x - x.mean((0, 1, 2))) * lax.rsqrt(x.var((0, 1, 2)) + 1e-3)
    return normal * scale + offset


def recurrent(x, w):
    def step(h, row):
        h = jnp.tanh(h @ w + row)
        return h, h * 2

    return lax.scan(step, jnp.zeros(5), x)


def recurrent_cell(x, w):
    """An LSTM, from the last row to the first, with its inputs by index."""

    def step(state, i):
        h, c = state
        a, b, d, e = jnp.split(x[i] @ w + jnp.tile(h, 4), 4)
        c = jax.nn.sigmoid(a) * c + jax.nn.sigmoid(b) * jnp.tanh(d)
        return (jax.nn.sigmoid(e) * jnp.tanh(c), c), h

    return lax.scan(step, (jnp.zeros(5), jnp.zeros(5)), jnp.arange(4), reverse=True)


def nested_loops(x):
    def row_step(c, row):
        return lax.scan(lambda a, b: (a * b + 1, a), c, row)[0], c

    return lax.scan(row_step, jnp.float32(1), x)


def choice_in_loop(x):
    def step(c, row):
        return lax.cond(row[0] > 0, lambda: c * row, lambda: c - row), c

    return lax.scan(step, jnp.ones(5), x)


def remembered_loop(x):
    return lax.scan(jax.checkpoint(lambda c, row: (jnp.sin(c * row), c)), jnp.ones(5), x)


def logarithm_loop(x):
    return lax.scan(lambda c, row: (jnp.logaddexp(c, row), c), jnp.ones(5), x)


@jax.custom_vjp
def reversed_gradient(x):
    return x * 2


reversed_gradient.defvjp(lambda x: (x * 2, x), lambda x, ct: (-ct * x,))


@jax.custom_vjp
def own_exponential(x):
    return jnp.exp(x)


def _exponential_forward(x):
    y = own_exponential(x)
    return y, y


own_exponential.defvjp(_exponential_forward, lambda y, ct: (2 * ct * y,))


@jax.custom_jvp
def pair(x, y):
    return x * 2 + y, y * x


@pair.defjvp
def _pair_jvp(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    return pair(x, y), (dx * x * 5 + dy, dy * 3 + dx)


def root(x):
    """The real root of a cubic equation, by Newton's method."""

    def solve(f, y):
        return lax.fori_loop(0, 10, lambda _, y: y - f(y) / (3 * y * y), y)

    def equation(y):
        return y**3 - x.sum() - 5

    return lax.custom_root(equation, jnp.float32(1.0), solve, lambda g, y: y / g(1.0))


def conjugate_gradients(a, b):
    return jax.scipy.sparse.linalg.cg(lambda v: a @ v, b, tol=1e-8)[0]


def eigen(a):
    values, vectors = jnp.linalg.eigh(a)
    return (vectors * jnp.sin(values)) @ vectors.T


def elementwise(x):
    y = jnp.sin(x) * jnp.exp(x) + jnp.log1p(x * x) + jnp.expm1(x) + lax.rsqrt(x * x + 1)
    y += jnp.tan(x) + jnp.arctan(x) + jnp.sinh(x) + jnp.arcsinh(x) + lax.erf(x) + jnp.cbrt(x)
    return y + lax.logistic(x) + jnp.exp2(x) + x**3 + jnp.abs(x) ** 1.5 + jnp.mod(x, 1.5)


def special(x):
    y = lax.lgamma(x * x + 1) + lax.digamma(x * x + 1) + lax.erfc(x) + lax.erf_inv(jnp.tanh(x))
    y += jnp.arctan2(x, x + 3) + jax.scipy.special.xlogy(x * x, x * x + 1) + lax.bessel_i0e(x)
    return y + jnp.sinc(x) + jnp.logaddexp(x, x * 2) + lax.igamma(x * x + 1, x * x + 2)


def activations(x):
    nn = jax.nn
    y = nn.gelu(x) + nn.gelu(x, approximate=False) + nn.silu(x) + nn.elu(x) + nn.selu(x)
    y += nn.softplus(x) + nn.leaky_relu(x) + nn.relu(x) + nn.relu6(3 * x) + nn.celu(x)
    return y + nn.hard_swish(x) + nn.log_sigmoid(x) + nn.squareplus(x) + nn.hard_tanh(x)


def attention(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, is_causal=True)


def spectrum(x):
    return jnp.abs(jnp.fft.rfft(x)) ** 2, jnp.fft.irfft(jnp.fft.rfft(x) * 2)


QKV = tuple(array(2, n, 2, 4) for n in (3, 3, 3))

# Name: function, then its arguments; it is differentiated with respect to those of floats.
PROGRAMS: dict[str, tuple[Callable[..., Any], *tuple[Any, ...]]] = {
    "dense": (lambda x, w, b: jax.nn.relu(x @ w + b), X, array(5, 3), array(3)),
    "dense_of_sequences": (lambda x, w: jnp.tanh(x @ w), array(2, 3, 4), array(4, 5)),
    "einsum": (lambda a, b: jnp.einsum("bqhd,bkhd->bhqk", a, b), *QKV[:2]),
    "conv": (lambda x, k: conv(x, k, (2, 2)), IMAGES, array(3, 3, 4, 6)),
    "conv_dilated": (
        lambda x, k: conv(x, k, padding="VALID", rhs_dilation=(2, 2)),
        IMAGES,
        array(3, 3, 4, 3),
    ),
    "conv_in_groups": (
        lambda x, k: conv(x, k, feature_group_count=2),
        IMAGES,
        array(3, 3, 2, 6),
    ),
    "conv_depthwise": (
        lambda x, k: conv(x, k, feature_group_count=4),
        IMAGES,
        array(3, 3, 1, 4),
    ),
    "conv_channels_first": (
        lambda x, k: lax.conv(x, k, (1, 1), "SAME"),
        array(2, 3, 7, 7),
        array(4, 3, 3, 3),
    ),
    "conv_transposed": (
        lambda x, k: lax.conv_transpose(x, k, (2, 2), "SAME"),
        array(2, 5, 5, 3),
        array(3, 3, 3, 4),
    ),
    "max_pool": (lambda x: pool(x, -jnp.inf, lax.max), IMAGES),
    "min_pool": (lambda x: pool(x, jnp.inf, lax.min, "VALID"), IMAGES),
    "average_pool": (
        lambda x: pool(x, 0.0, lax.add) / pool(jnp.ones_like(x), 0.0, lax.add),
        IMAGES,
    ),
    "batch_norm": (batch_norm, IMAGES, array(4), array(4) + 1),
    "layer_norm": (lambda x, scale: jax.nn.standardize(x, -1) * scale, X, array(5)),
    "softmax": (lambda x: (jax.nn.softmax(x) ** 2, jax.nn.log_softmax(x, 0)), X),
    "masked_softmax": (lambda x: jax.nn.softmax(x, where=x > -0.5), X),
    "log_sum_exp": (lambda x: jax.nn.logsumexp(x, axis=-1), X),
    "attention": (attention, *QKV),
    "gather": (lambda t: t[jnp.array([[0, 2], [1, -1]])] ** 2, X),
    "take_along_axis": (
        lambda t, i: jnp.take_along_axis(t, i, 1) ** 2,
        X,
        np.eye(4, 2, dtype=np.int32),
    ),
    "scatter_add": (lambda t, u: t.at[ROWS].add(u) ** 2, X, array(3, 5)),
    "scatter_set": (lambda t, u: t.at[ROWS[:2]].set(u) ** 2, X, array(2, 5)),
    "scatter_max": (lambda t, u: t.at[ROWS[:2]].max(u) ** 2, X, array(2, 5)),
    "segment_sum": (lambda x: jax.ops.segment_sum(x, jnp.array([0, 1, 0, 2]), 3) ** 2, X),
    "segment_max": (lambda x: jax.ops.segment_max(x, jnp.array([0, 1, 0, 2]), 3) ** 2, X),
    "dynamic_slice": (lambda x, i: lax.dynamic_slice(x, (i, 0), (2, 3)) ** 2, X, np.int32(1)),
    "dynamic_update": (
        lambda x, u, i: lax.dynamic_update_slice(x, u, (i, 0)) ** 2,
        X,
        array(2, 3),
        np.int32(1),
    ),
    "sort": (lambda x: jnp.sort(x, 0) * jnp.arange(4.0)[:, None], X),
    "sort_by_key": (lambda x, y: lax.sort((x, y), num_keys=1)[1] * jnp.arange(5.0), X, X[::-1]),
    "top_k": (lambda x: lax.top_k(x, 2)[0] * jnp.arange(2.0), X),
    "median": (lambda x: jnp.median(x, -1), X),
    "sums_so_far": (lambda x: (jnp.cumsum(x, 1) ** 2, lax.cumsum(x, 0, reverse=True) ** 2), X),
    "products_so_far": (lambda x: (jnp.cumprod(x, 1), lax.cumlogsumexp(x, 1), lax.cummax(x)), X),
    "associative_scan": (lambda x: lax.associative_scan(lambda a, b: a * b + a, x), X),
    "scan": (recurrent, X, array(5, 5)),
    "scan_of_a_cell": (recurrent_cell, array(4, 3), array(3, 20)),
    "nested_scans": (nested_loops, X),
    "fori": (lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) * 2 + x, x), X),
    "cond": (lambda x: lax.cond(x.sum() > 0, jnp.sin, lambda x: x**2, x), X),
    "switch": (lambda x, i: lax.switch(i, [jnp.sin, jnp.cos, jnp.tanh], x), X, np.int32(1)),
    "cond_in_scan": (choice_in_loop, X),
    "checkpoint_in_scan": (remembered_loop, X),
    "derivatives_of_jax_in_scan": (logarithm_loop, X),
    "reduce": (lambda x: (x.max(1) ** 2, x.min(0) ** 2, x.prod(1), x.std(1), jnp.nanmean(x)), X),
    "norm": (lambda x: jnp.linalg.norm(x, axis=1), X),
    "where": (lambda x, y: jnp.where(x > 0, x * y, y**2), X, array(5)),
    "clamp": (lambda x, low: lax.clamp(low, x, 2.0 + low) + jnp.clip(x, -0.5, 0.5) ** 2, X, -X),
    "elementwise": (elementwise, X),
    "special": (special, X),
    "activations": (activations, X),
    "activations_at_zero": (lambda x: jax.nn.relu(x) + jax.nn.relu6(x), array(3) * 0),
    "special_at_zero": (lambda x: jnp.sinc(x) + lax.erf_inv(x) + jnp.logaddexp(x, x), array(3) * 0),
    "pad": (lambda x: (lax.pad(x, 0.0, ((-1, 2, 1), (0, -1, 0))), jnp.pad(x, 1, "reflect")), X),
    "concatenate": (lambda x: jnp.concatenate([x, jnp.roll(x, 2, 1), x[::-1, ::2]], 1) ** 2, X),
    "resize": (lambda x: jax.image.resize(x, (2, 9, 9, 4), "bilinear"), IMAGES),
    "fourier": (spectrum, array(4, 6)),
    "complex": (lambda x: jnp.real((x + 1j * x) ** 2 * jnp.exp(1j * x)), X),
    "stop_gradient": (lambda x: lax.stop_gradient(x) * x, X),
    "random_mask": (lambda x: x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape), X),
    "custom_vjp": (lambda x: reversed_gradient(x) ** 2, X),
    "custom_vjp_that_calls_itself": (lambda x: own_exponential(x) * x, X),
    "custom_jvp": (lambda x, y: (lambda a, b: a**2 + b)(*pair(x, y)), X, array(5)),
    "custom_root": (root, np.abs(array(4))),
    "solve": (jnp.linalg.solve, MATRIX, array(4, 2)),
    "solve_for_a_vector": (jnp.linalg.solve, MATRIX, array(4)),
    "solve_many": (jnp.linalg.solve, np.stack([MATRIX, MATRIX + 1]), array(2, 4, 3)),
    "solve_one_matrix_for_many": (
        lambda a, b: jax.vmap(lambda b: jnp.linalg.solve(a, b))(b),
        MATRIX,
        array(2, 4, 3),
    ),
    "solve_positive": (lambda a, b: jsl.solve(a, b, assume_a="pos"), POSITIVE, array(4, 2)),
    "solve_triangular": (lambda a, b: jsl.solve_triangular(a, b, lower=True), MATRIX, array(4, 2)),
    "solve_by_products": (conjugate_gradients, POSITIVE, array(4)),
    "inverse": (jnp.linalg.inv, MATRIX),
    "inverses": (jnp.linalg.inv, np.stack([MATRIX, MATRIX + 1])),
    "determinant": (lambda a: (jnp.linalg.det(a) / 100, jnp.linalg.slogdet(a)[1]), MATRIX),
    "cholesky": (jnp.linalg.cholesky, POSITIVE),
    "qr": (jnp.linalg.qr, array(5, 3)),
    "singular_values": (lambda a: jnp.linalg.svd(a, compute_uv=False), array(5, 3)),
    "eigh": (eigen, POSITIVE),
    "lu": (lambda a: jsl.lu(a)[1:], MATRIX),
    "pseudo_inverse": (jnp.linalg.pinv, array(5, 3)),
}
