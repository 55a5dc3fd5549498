"""Small JAX programs that together are lowered to the ops of the table in savax.portability.

Each takes ``x``, float32 of shape [batch, 5] between -3 and 3, and returns one array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import special

Program = Callable[[Any], Any]

_IDS = np.array([2, 0, 2, 1, 1], np.int32)
_WEIGHTS = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)
_WIDE = np.linspace(-1, 1, 5 * 60_000, dtype=np.float32).reshape(5, 60_000)  # 1.2 MB
_IMAGE_KERNEL = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 2, 2, 3)


def _ints(x: Any) -> Any:
    return jnp.round(x * 9).astype(jnp.int32)


def _inside(x: Any) -> Any:
    """Returns values between -1 and 1."""
    return x / 3.1


def _positive(x: Any) -> Any:
    return jnp.abs(x) + 0.1


def _image(x: Any) -> Any:
    """Returns images of 2 channels, [batch, 5, 5, 2]."""
    plane = x[:, :, None] * x[:, None, :]
    return jnp.stack([plane, plane + 1], axis=-1)


def _convolved(x: Any, kernel: Any, **options: Any) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(_image(x), kernel, dimension_numbers=numbers, **options)


def _pooled(x: Any, start: Any, combine: Any) -> Any:
    return lax.reduce_window(_image(x), start, combine, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@jax.custom_jvp
def _smooth(x: Any) -> Any:
    return jnp.log1p(jnp.exp(x))


_smooth.defjvp(
    lambda primals, tangents: (_smooth(*primals), jax.nn.sigmoid(primals[0]) * tangents[0])
)


@jax.custom_vjp
def _clipped(x: Any) -> Any:
    return x * 2


_clipped.defvjp(lambda x: (x * 2, None), lambda _, g: (jnp.clip(g, -1, 1) * 2,))


ELEMENTARY: dict[str, Program] = {
    "abs": jnp.abs,
    "neg": lambda x: -x,
    "sign": jnp.sign,
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "round": jnp.round,
    "exp": jnp.exp,
    "expm1": jnp.expm1,
    "log": lambda x: jnp.log(_positive(x)),
    "log1p": lambda x: jnp.log1p(_positive(x)),
    "sqrt": lambda x: jnp.sqrt(_positive(x)),
    "rsqrt": lambda x: lax.rsqrt(_positive(x)),
    "square": jnp.square,
    "power": lambda x: jnp.power(_positive(x), x),
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": lambda x: jnp.tan(_inside(x)),
    "asin": lambda x: jnp.arcsin(_inside(x)),
    "acos": lambda x: jnp.arccos(_inside(x)),
    "atan": jnp.arctan,
    "atan2": lambda x: jnp.arctan2(x, x[:, ::-1]),
    "atan2_of_scalar": lambda x: jnp.arctan2(x, jnp.float32(2)),
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "tanh": jnp.tanh,
    "tanh_of_product": lambda x: jnp.tanh(x @ _WEIGHTS + 1),
    "asinh": jnp.arcsinh,
    "acosh": lambda x: jnp.arccosh(1 + _positive(x)),
    "atanh": lambda x: jnp.arctanh(_inside(x)),
    "logistic": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "custom_jvp": lambda x: _smooth(x),
    "custom_vjp": lambda x: _clipped(x),
    "bfloat16": lambda x: (x.astype(jnp.bfloat16) * 2).astype(jnp.float32),
    "erf": special.erf,
    "erfc": special.erfc,
    "erf_inv": lambda x: special.erfinv(_inside(x)),
    "lgamma": special.gammaln,
    "digamma": lambda x: special.digamma(x),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "clip": lambda x: jnp.clip(x, -1, 1),
    "softmax": lambda x: jax.nn.softmax(x),
    "add_sub_mul_div": lambda x: (x + 1) * (x - 2) / _positive(x),
    "minimum": lambda x: jnp.minimum(x, x[:, ::-1]),
    "maximum": lambda x: jnp.maximum(x, x[:, ::-1]),
    "fmod": lambda x: jnp.fmod(x, 2.0),
    "remainder": lambda x: jnp.remainder(x, 2.0),
    "where_beside_infinite": lambda x: jnp.where(x > 0, x, jnp.exp(x * 100)),
    "where_beside_nan": lambda x: jnp.where(x > 0, jnp.sqrt(x), x),
    "stop_gradient": lambda x: lax.stop_gradient(x) * 2,
}
INTEGERS: dict[str, Program] = {
    "arithmetic": lambda x: _ints(x) * 3 - _ints(x)[:, ::-1] + 1,
    "div": lambda x: lax.div(_ints(x), jnp.int32(4)),
    "rem": lambda x: lax.rem(_ints(x), jnp.int32(4)),
    "floor_divide": lambda x: _ints(x) // 4,
    "mod": lambda x: _ints(x) % 4,
    "compare": lambda x: (_ints(x) > 3) | ~(_ints(x) <= -2) & (_ints(x) != 0),
    "where": lambda x: jnp.where(x >= 0, _ints(x), -_ints(x)),
    "and": lambda x: _ints(x) & 0x5A,
    "or": lambda x: _ints(x) | 0x5A,
    "xor": lambda x: _ints(x) ^ 0x5A,
    "not": lambda x: ~_ints(x),
    "shift_left": lambda x: _ints(x) << 3,
    "shift_left_by": lambda x: _ints(x) << jnp.abs(_ints(x)[:, ::-1]),
    "shift_right": lambda x: _ints(x) >> 2,
    "population_count": lambda x: lax.population_count(_ints(x)),
    "is_finite": lambda x: jnp.isfinite(x / jnp.round(x)),
    "random_uniform": lambda x: x + jax.random.uniform(jax.random.key(0), (5,)),
    "random_normal": lambda x: x + jax.random.normal(jax.random.key(1), (5,)),
}
ARRAYS: dict[str, Program] = {
    "sum": lambda x: x.sum(axis=1),
    "mean": lambda x: x.mean(axis=1),
    "prod": lambda x: x.prod(axis=1),
    "max": lambda x: x.max(axis=1),
    "min": lambda x: x.min(axis=1),
    "all_any": lambda x: (x > 0).all(axis=1) | (x > 2).any(axis=1),
    "argmax": lambda x: jnp.argmax(x, axis=1),
    "argmin": lambda x: jnp.argmin(x, axis=1),
    "sort": lambda x: jnp.sort(x, axis=1),
    "argsort": lambda x: jnp.argsort(x, axis=1),
    "top_k": lambda x: lax.top_k(x, 2)[0],
    "cumsum": lambda x: jnp.cumsum(x, axis=1),
    "cumprod": lambda x: jnp.cumprod(x, axis=1),
    "cumprod_reverse": lambda x: lax.cumprod(x, axis=1, reverse=True),
    "cumlogsumexp": lambda x: lax.cumlogsumexp(x, axis=1),
    "cummax": lambda x: lax.cummax(x, axis=1),
    "reshape": lambda x: x.reshape(-1, 1),
    "transpose": lambda x: x.T,
    "transposed_sizes_of_one": lambda x: jnp.transpose(
        (x @ x.T).reshape(x.shape[0], 1, 1, -1), (2, 0, 1, 3)
    ),
    "transposed_parts": lambda x: (
        jnp.tile(x, (1, 2)).T.reshape(2, 5, -1).transpose(2, 0, 1)
        * jnp.concatenate([x, x]).T.reshape(5, 2, -1).transpose(2, 1, 0)
    ),
    "broadcast": lambda x: jnp.broadcast_to(x[:, None, :], (x.shape[0], 3, 5)),
    "concatenate": lambda x: jnp.concatenate([x, x[:, :2]], axis=1),
    "stack": lambda x: jnp.stack([x, x + 1], axis=1),
    "pad": lambda x: jnp.pad(x, ((1, 0), (0, 2)), constant_values=7),
    "slice": lambda x: x[:, 1:4:2],
    "reverse": lambda x: x[:, ::-1],
    "roll": lambda x: jnp.roll(x, 2, axis=1),
    "squeeze": lambda x: x[:, :1].squeeze(1),
    "iota": lambda x: x + jnp.arange(x.shape[0])[:, None],
    "one_hot": lambda x: jax.nn.one_hot(jnp.abs(_ints(x))[:, 0] % 3, 3),
    "tril": lambda x: jnp.tril(x[:, :, None] * x[:, None, :]),
    "diag": lambda x: jnp.diag(x[0]),
    "gather": lambda x: x[:, jnp.array([3, 0])],
    "take_along_axis": lambda x: jnp.take_along_axis(x, jnp.abs(_ints(x)) % 5, axis=1),
    "dynamic_slice": lambda x: lax.dynamic_slice(x, (0, jnp.abs(_ints(x))[0, 0] % 3), (1, 2)),
    "scatter_set": lambda x: x.at[:, 1].set(7.0),
    "scatter_add": lambda x: jnp.zeros(3).at[_IDS].add(x[0]),
    "scatter_max": lambda x: jnp.zeros(3).at[_IDS].max(x[0]),
    "scatter_min": lambda x: jnp.zeros(3).at[_IDS].min(x[0]),
    "scatter_mul": lambda x: jnp.ones(3).at[_IDS].mul(x[0]),
    "segment_sum": lambda x: jax.ops.segment_sum(x.T, _IDS, 3),
}
PRODUCTS: dict[str, Program] = {
    "matmul": lambda x: x @ _WEIGHTS,
    "batch_matmul": lambda x: (x[:, :, None] * x[:, None, :]) @ _WEIGHTS,
    "einsum": lambda x: jnp.einsum("bi,bj->bij", x, x @ _WEIGHTS),
    "einsum_of_weights": lambda x: jnp.einsum("ab,cad->cbd", _WEIGHTS, _image(x)[..., 0]),
    "matmul_of_weights": lambda x: (_WEIGHTS.T @ x.T).reshape(2, 2, -1).transpose(2, 1, 0),
    "conv": lambda x: _convolved(x, _IMAGE_KERNEL, window_strides=(1, 1), padding="SAME"),
    "conv_dilated": lambda x: _convolved(
        x, _IMAGE_KERNEL, window_strides=(1, 1), padding="VALID", rhs_dilation=(2, 2)
    ),
    "conv_padded": lambda x: _convolved(
        x, _IMAGE_KERNEL, window_strides=(2, 2), padding=((1, 0), (0, 1))
    ),
    "conv_groups": lambda x: lax.conv_general_dilated(
        jnp.concatenate([_image(x), _image(x) + 2], axis=3),
        jnp.concatenate([_IMAGE_KERNEL, -_IMAGE_KERNEL], axis=3),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=2,
    ),
    "conv_depthwise": lambda x: _convolved(
        x,
        _IMAGE_KERNEL[:, :, :1, :2],
        window_strides=(2, 2),
        padding="SAME",
        feature_group_count=2,
    ),
    "conv_channels_first": lambda x: lax.conv_general_dilated(
        jnp.moveaxis(_image(x), 3, 1),
        _IMAGE_KERNEL,
        (2, 2),
        "SAME",
        dimension_numbers=("NCHW", "HWIO", "NCHW"),
    ),
    "conv_transpose": lambda x: lax.conv_transpose(_image(x), _IMAGE_KERNEL, (2, 2), "SAME"),
    "max_pool": lambda x: _pooled(x, -jnp.inf, lax.max),
    "avg_pool": lambda x: _pooled(x, 0.0, lax.add) / 4,
    "resize": lambda x: jax.image.resize(_image(x), (x.shape[0], 10, 10, 2), "bilinear"),
    "cholesky": lambda x: jnp.linalg.cholesky(_WEIGHTS.T @ _WEIGHTS * x[0, 0] ** 2 + jnp.eye(4)),
    "fft": lambda x: jnp.abs(jnp.fft.fft(x)),
    "rfft": lambda x: jnp.abs(jnp.fft.rfft(x)),
    "bessel_i0e": special.i0e,
    "nextafter": lambda x: jnp.nextafter(x, x + 1),
}
CLOSURES: dict[str, Program] = {
    "product": lambda x: (x @ _WIDE)[:, ::7_000],
    "gather": lambda x: jnp.asarray(_WIDE.T)[jnp.abs(_ints(x))],
    "in_a_loop": lambda x: lax.fori_loop(
        0, 3, jax.jit(lambda i, y: y + jnp.asarray(_WIDE)[:, i] * i), x
    ),
}
CONTROL: dict[str, Program] = {
    "cond": lambda x: lax.cond(x.sum() > 1, lambda y: y + 1, lambda y: y * 2, x),
    "switch": lambda x: lax.switch(
        jnp.abs(_ints(x))[0, 0] % 3, [lambda y: y, lambda y: y + 1, lambda y: -y], x
    ),
    "while": lambda x: lax.while_loop(lambda y: jnp.abs(y).sum() < 100, lambda y: y * 2, x),
    "scan": lambda x: lax.scan(lambda c, r: (c + r, c * r), jnp.zeros(5), x)[1],
    "scan_of_batches": lambda x: lax.scan(lambda c, r: (c + r, c * r), x[:, 0], x.T)[1],
    "scan_of_integers_from_the_end": lambda x: lax.scan(
        lambda c, r: (c + r, c - r), _ints(x)[:, 0], _ints(x).T, reverse=True
    )[1],
    "scan_of_batches_of_unknown_length": lambda x: lax.scan(
        lambda c, r: (c + r, c > r), x[:, 0], x @ x.T
    )[1],
    "scan_in_scan": lambda x: lax.scan(
        lambda c, r: (c + r, lax.scan(lambda d, s: (d * s, d + s), r, x.T)[1]), x[:, 0], x.T
    )[1],
}

FAMILIES = {
    "elementary": ELEMENTARY,
    "integers": INTEGERS,
    "arrays": ARRAYS,
    "products": PRODUCTS,
    "closures": CLOSURES,
    "control": CONTROL,
}
PROGRAMS: dict[str, Program] = {
    f"{family}_{name}": program
    for family, programs in FAMILIES.items()
    for name, program in programs.items()
}
