"""Run by TensorFlow, the other forms of ops give what JAX gives, at the ends of domains too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy import special

import savax as sx
from savax.portability import CONSUMERS
from savax.saved_model import SaveOptions, save

tf = pytest.importorskip("tensorflow")

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.tf

_INF, _NAN = np.inf, np.nan
_LINE = np.linspace(-12, 12, 97, dtype=np.float32)
_UNIT = np.linspace(-1, 1, 81, dtype=np.float32)
_TINY = np.array([0.0, -0.0, 1e-30, -1e-30, 1e-7, -1e-7, 3e-4, -3e-4], np.float32)
_ENDS = np.array([_INF, -_INF, _NAN], np.float32)
_HUGE = np.array([1e10, -1e10, 1e25, -1e25, 87.0, -87.0], np.float32)
_BITS = np.array([0, 1, -1, 5, -5, 2**31 - 1, -(2**31), 0x55555555, 12345, -99999], np.int32)
_SHIFTS = np.array([0, 1, 31, 16, 32, 5, 7, 40, 3, 30], np.int32)

# Functions, arguments, and the relative error that is allowed, in units of float32's last place.
FLOATS: dict[str, tuple[Any, np.ndarray, float]] = {
    "expm1": (jnp.expm1, np.concatenate([_LINE, _TINY, _ENDS, _HUGE]), 4),
    "log1p": (jnp.log1p, np.concatenate([_UNIT, _TINY, _ENDS, abs(_HUGE), abs(_LINE)]), 4),
    "tan": (jnp.tan, np.concatenate([_UNIT, _TINY, _ENDS]), 4),
    "asin": (jnp.arcsin, np.concatenate([_UNIT, _TINY, _ENDS, [1.5]]), 4),
    "acos": (jnp.arccos, np.concatenate([_UNIT, _TINY, _ENDS, [1.5]]), 4),
    "atan": (jnp.arctan, np.concatenate([_LINE, _TINY, _ENDS, _HUGE]), 4),
    "sinh": (jnp.sinh, np.concatenate([_LINE, _TINY, _ENDS, _HUGE]), 40),
    "cosh": (jnp.cosh, np.concatenate([_LINE, _TINY, _ENDS, _HUGE]), 40),
    "asinh": (jnp.arcsinh, np.concatenate([_LINE, _TINY, _ENDS, _HUGE]), 8),
    "acosh": (jnp.arccosh, np.concatenate([1 + abs(_LINE), _ENDS, abs(_HUGE), [0.5]]), 8),
    "atanh": (jnp.arctanh, np.concatenate([_UNIT, _TINY, _ENDS, [1.5]]), 8),
    "erf": (special.erf, np.concatenate([_LINE, _TINY, _ENDS, _HUGE]), 4),
    "erfc": (special.erfc, np.concatenate([_LINE[_LINE < 9], _TINY, _ENDS]), 400),
    "lgamma": (special.gammaln, np.concatenate([_LINE, abs(_HUGE[:2]), _ENDS]), 60),
    "digamma": (special.digamma, np.concatenate([_LINE[_LINE > -6], abs(_HUGE[:2])]), 200),
    "fmod": (lambda x: lax.rem(x, jnp.float32(2.5)), np.concatenate([_LINE, _TINY]), 4),
    "tanh_of_sum": (lambda x: jnp.tanh(x + 1), np.concatenate([_LINE, _ENDS]), 4),
}
INTEGERS: dict[str, tuple[Any, np.ndarray]] = {
    "div": (lambda x: lax.div(x, jnp.int32(-7)), _BITS[_BITS != -(2**31)]),
    "rem": (lambda x: lax.rem(x, jnp.int32(-7)), _BITS[_BITS != -(2**31)]),
    "floor_divide": (lambda x: x // -7, _BITS[_BITS != -(2**31)]),
    "mod": (lambda x: x % -7, _BITS[_BITS != -(2**31)]),
    "and": (lambda x: x & x[::-1], _BITS),
    "or": (lambda x: x | x[::-1], _BITS),
    "not": (lambda x: ~x, _BITS),
    "shift_left": (lambda x: lax.shift_left(x, _SHIFTS), _BITS),
    "shift_left_by_constant": (lambda x: lax.shift_left(x, jnp.int32(31)), _BITS),
    "population_count": (lax.population_count, _BITS),
    "unsigned_and": (lambda x: x & _BITS[::-1].astype(np.uint32), _BITS.astype(np.uint32)),
    "unsigned_shift_right": (
        lambda x: lax.shift_right_logical(x, _SHIFTS.astype(np.uint32)),
        _BITS.astype(np.uint32),
    ),
    "unsigned_less": (
        lambda x: (x < jnp.uint32(2**31 + 5)) & (x <= x) & ~(x > jnp.uint32(2**32 - 2)),
        _BITS.astype(np.uint32),
    ),
    "unsigned_shift_left": (
        lambda x: lax.shift_left(x, _SHIFTS.astype(np.uint32)),
        _BITS.astype(np.uint32),
    ),
}
_POINTS = np.array([[2, 1], [0, 0], [2, 1], [1, 0]], np.int32)
ARRAYS: dict[str, Any] = {
    "cumprod": lambda x: jnp.cumprod(x, axis=1),
    "cumprod_reverse": lambda x: lax.cumprod(x, axis=0, reverse=True),
    "cumlogsumexp": lambda x: lax.cumlogsumexp(x, axis=1, reverse=True),
    "scatter_add": lambda x: x.at[_POINTS[:, 0], _POINTS[:, 1]].add(x[0]),
    "scatter_add_rows": lambda x: x.at[_POINTS[:, 0]].add(x.T),
    "scatter_max": lambda x: x.at[_POINTS[:, 0], _POINTS[:, 1]].max(x[0] * 2),
    "scatter_min": lambda x: x.at[_POINTS[:, 0]].min(x.T),
    "scatter_mul": lambda x: x.at[_POINTS[:, 0]].mul(x.T),
    "scatter_out_of_bounds": lambda x: x.at[np.array([1, 9, 1], np.int32)].mul(x[:3], mode="drop"),
    "groups": lambda x: lax.conv_general_dilated(
        x[None, :, :, None] * jnp.arange(1.0, 5.0),
        jnp.arange(72.0).reshape(3, 3, 2, 4),
        (1, 2),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=2,
    ),
    "bits_to_float": lambda x: lax.bitcast_convert_type(
        x.astype(jnp.int32) * 0 + _PATTERNS.reshape(4, 4), jnp.float32
    ),
}
LOOPS: dict[str, Any] = {
    "from_the_start": lambda x: lax.scan(lambda c, r: (c + r, (c * r, r > c)), x[:, 0], x.T)[1],
    "from_the_end": lambda x: lax.scan(
        lambda c, r: (c + r, (r, c.sum())), x[:, 0], x.T, reverse=True
    )[1],
    "of_unknown_length": lambda x: lax.scan(lambda c, r: (c + r, c), x[:, 0], x[:, :1] * x[:, 0])[
        1
    ],
    "of_integers": lambda x: lax.scan(
        lambda c, r: (c + 1, ((r > 0).astype(jnp.int32) + c, c)), 0, x.T
    )[1],
}
_PATTERNS = np.array(
    [
        *(0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x3F812345, 0x7F7FFFFF, 0x7F800000, 0x7FC00000),
        *(-(2**31), -1082130432, -8388608, 0x40490FDB, 0x00400000, 0x7F000000, 0x10000000),
    ],
    np.int32,
)


def exported(function: Any, spec: sx.TensorSpec, path: Path, target: str) -> Any:
    module = sx.Module()
    module.f = sx.function(function, input_signature=[spec], target=target)
    save(module, path, module.f, SaveOptions())
    return tf.saved_model.load(path).f


@pytest.mark.parametrize("name", FLOATS)
def test_functions_of_floats(name: str, tmp_path: Path) -> None:
    function, values, places = FLOATS[name]
    values = values.astype(np.float32)
    want = np.asarray(jax.jit(function)(values))
    got = exported(function, sx.TensorSpec([None]), tmp_path / "m", "litert")(values).numpy()
    where = np.isfinite(want) & (np.abs(want) > 1e-30)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(got[np.isinf(want)], want[np.isinf(want)])
    if name not in ("lgamma", "digamma", "acosh", "cosh", "acos", "erfc", "fmod"):
        np.testing.assert_array_equal(np.signbit(got[values == 0]), np.signbit(want[values == 0]))
    tolerance = places * np.finfo(np.float32).eps
    absolute = tolerance if name in ("lgamma", "digamma", "acos", "tanh_of_sum") else 1e-30
    np.testing.assert_allclose(got[where], want[where], rtol=tolerance, atol=absolute)


@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("name", INTEGERS)
def test_functions_of_integers(name: str, consumer: str, tmp_path: Path) -> None:
    function, values = INTEGERS[name]
    if consumer == "tfjs" and not ("div" in name or name in ("rem", "mod")):
        pytest.skip("TF.js has no bits")
    spec = sx.TensorSpec([len(values)], values.dtype)
    want = np.asarray(jax.jit(function)(values))
    got = exported(function, spec, tmp_path / "m", consumer)(values).numpy()
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ARRAYS)
def test_functions_of_arrays(name: str, tmp_path: Path) -> None:
    function = ARRAYS[name]
    x = np.random.default_rng(0).uniform(-2, 2, (4, 4)).astype(np.float32)
    want = np.asarray(jax.jit(function)(x))
    target = "openvino" if name == "bits_to_float" else "tfjs" if name == "groups" else "portable"
    spec = sx.TensorSpec([4, 4]) if name == "bits_to_float" else sx.TensorSpec([None, 4])
    if name in ("cumprod_reverse", "groups", "scatter_out_of_bounds"):
        spec = sx.TensorSpec([4, 4])
    got = exported(function, spec, tmp_path / "m", target)(x).numpy()
    if name == "bits_to_float":
        tiny = np.abs(want) < np.finfo(np.float32).tiny  # which processors may flush
        np.testing.assert_array_equal(got[~tiny], want[~tiny])
        return
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOOPS)
def test_loops_that_stack_arrays_of_unknown_size(name: str, tmp_path: Path) -> None:
    function = LOOPS[name]
    run = exported(function, sx.TensorSpec([None, 4]), tmp_path / "m", "litert")
    x = np.random.default_rng(0).uniform(-2, 2, (3, 4)).astype(np.float32)
    special_rows = np.float32([[-0.0, np.inf, 1, -0.0], [np.nan, 1, -np.inf, 2]])
    inputs = [x, x[:1]] if name == "of_unknown_length" else [x, x[:0], special_rows]
    for values in inputs:
        got, want = run(values), jax.jit(function)(values)
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_array_equal(one.numpy(), other)
            if one.dtype.is_floating:
                np.testing.assert_array_equal(np.signbit(one.numpy()), np.signbit(other))


def test_gradients_of_loops_that_stack_arrays_of_unknown_size(tmp_path: Path) -> None:
    def function(x: Any) -> Any:
        return lax.scan(lambda c, r: (c * r, jnp.sin(c) * r), x[:, 0], x.T)[1]

    run = exported(function, sx.TensorSpec([None, 4]), tmp_path / "m", "litert")
    x = tf.constant(np.random.default_rng(0).uniform(-2, 2, (3, 4)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(run(x) ** 2)
    want = jax.grad(lambda x: (function(x) ** 2).sum())(x.numpy())
    np.testing.assert_allclose(tape.gradient(total, x), want, rtol=1e-5)
