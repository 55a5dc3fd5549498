"""Elementwise primitives of JAX give the same numbers as TensorFlow ops."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

pytest.importorskip("tensorflow")

from lowering_check import check_lowering
from special_values import (
    COMPLEX,
    FLOATS,
    INTEGERS,
    SIGNED,
    as_numpy,
    special_pairs,
    special_values,
    tolerance,
)

pytestmark = pytest.mark.tf

UNARY = [
    *((name, FLOATS + COMPLEX) for name in ("exp", "expm1", "log", "sqrt", "rsqrt")),
    *((name, FLOATS + COMPLEX) for name in ("tanh", "logistic", "sin", "cos", "tan")),
    *((name, FLOATS) for name in ("asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh")),
    *((name, FLOATS) for name in ("atanh", "erf", "erfc", "floor", "ceil", "is_finite", "log1p")),
    *((name, FLOATS) for name in ("cbrt", "erf_inv", "bessel_i0e", "bessel_i1e", "round")),
    *((name, FLOATS + INTEGERS + COMPLEX) for name in ("neg", "square", "sign")),
    ("exp2", ("float32", "float64", "float16")),  # JAX loses half the digits in bfloat16
    ("abs", FLOATS + SIGNED + COMPLEX),
    ("bitwise_not", (*INTEGERS, "bool")),
    ("population_count", INTEGERS),
    ("clz", INTEGERS),
    *((name, ("complex64", "complex128")) for name in ("real", "imag", "conj")),
]
BINARY = [
    *((name, FLOATS + INTEGERS) for name in ("add", "sub", "mul", "div", "rem")),
    *((name, (*FLOATS, *INTEGERS, "bool")) for name in ("max", "min")),
    *((name, (*FLOATS, *INTEGERS, "bool")) for name in ("lt", "le", "gt", "ge")),
    *((name, (*FLOATS, *INTEGERS, "bool", "complex64")) for name in ("eq", "ne")),
    *((name, FLOATS) for name in ("pow", "atan2")),
    *((name, (*INTEGERS, "bool")) for name in ("bitwise_and", "bitwise_or", "bitwise_xor")),
    *((name, INTEGERS) for name in ("shift_left", "shift_right_logical")),
    ("shift_right_arithmetic", INTEGERS),
    ("nextafter", ("float32", "float64")),
    *((name, ("complex64",)) for name in ("add", "sub", "mul")),
    ("complex", ("float32", "float64")),
]


def rows(table: list[tuple[str, Any]]) -> list[Any]:
    return [
        pytest.param(name, dtype, id=f"{name}-{dtype}")
        for name, dtypes in table
        for dtype in dtypes
    ]


@pytest.mark.parametrize(("name", "dtype"), rows(UNARY))
def test_unary_primitive_agrees_on_special_values(name: str, dtype: str) -> None:
    loose = {"erf_inv": 1e-4, "sinh": 1e-5, "cosh": 1e-5}.get(name, 0)
    if name == "erf_inv" and dtype == "float64":
        loose = 1e-10
    with jax.enable_x64(True):
        x = special_values(dtype)
        rtol = max(tolerance(dtype), loose)
        check_lowering(getattr(lax, name), x, rtol=rtol, atol=1e-30)


@pytest.mark.parametrize(("name", "dtype"), rows(BINARY))
def test_binary_primitive_agrees_on_pairs_of_special_values(name: str, dtype: str) -> None:
    with jax.enable_x64(True):
        x, y = special_pairs(dtype)
        check_lowering(getattr(lax, name), x, y, rtol=tolerance(dtype), atol=1e-30)


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_gamma_function_agrees(name: str, dtype: str) -> None:
    with jax.enable_x64(True):
        x = np.array([0.3, 1.5, 2.2, 5.0, 30.0, -0.7]).astype(special_values(dtype).dtype)
        check_lowering(getattr(lax, name), x, rtol=tolerance(dtype) * 5, atol=1e-6)


@pytest.mark.parametrize("name", ["igamma", "igammac", "zeta"])
def test_function_of_two_arguments_agrees(name: str) -> None:
    x, y = np.array([1.5, 2.0, 3.5], np.float32), np.array([0.5, 1.0, 4.0], np.float32)
    check_lowering(getattr(lax, name), x, y, rtol=1e-4)


def test_polygamma_and_betainc_agree() -> None:
    a, x = np.array([1.0, 2.0, 3.0], np.float32), np.array([0.5, 0.2, 0.9], np.float32)
    check_lowering(lax.polygamma, a, x, rtol=1e-4)
    check_lowering(lax.betainc, a, a + 1, x, rtol=1e-4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_round_agrees_for_both_methods(dtype: str) -> None:
    with jax.enable_x64(True):
        below_half = np.nextafter(np.float16(0.5), np.float16(0))
        x = np.append(special_values(dtype), np.array(below_half, as_numpy(dtype)))
        check_lowering(lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), x)
        check_lowering(lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN), x)


@pytest.mark.parametrize("exponent", [-3, -1, 0, 1, 2, 3, 7, 10])
def test_integer_pow_agrees(exponent: int) -> None:
    x = np.array([-2.0, -0.5, 0.0, 1.5, 3.0], np.float32)
    check_lowering(lambda x: lax.integer_pow(x, exponent), x)
    if exponent >= 0:
        check_lowering(lambda x: lax.integer_pow(x, exponent), special_values("int32"))


def test_pow_takes_an_integer_exponent() -> None:
    x, y = np.array([2.0, 0.5, -3.0], np.float32), np.array([3, -2, 2], np.int32)
    check_lowering(lax.pow, x, y)


@pytest.mark.parametrize("divisor", [3, -4, 0])
def test_division_by_a_constant_needs_no_guard_unless_it_is_zero(divisor: int) -> None:
    x = special_values("int32")
    lowered = check_lowering(lambda x: (lax.div(x, divisor), lax.rem(x, divisor)), x)
    assert ("SelectV2" in lowered.ops()) == (divisor == 0)


@pytest.mark.parametrize("amount", [0, 5, 31, 32])
def test_shift_by_a_constant(amount: int) -> None:
    x = special_values("int32")
    check_lowering(
        lambda x: (x << amount, x >> amount, lax.shift_right_logical(x, np.int32(amount))), x
    )


def test_clamp_agrees_for_scalar_and_full_bounds() -> None:
    x = special_values("float32")
    check_lowering(lambda x: lax.clamp(np.float32(-1), x, np.float32(1)), x)
    check_lowering(lambda x, y: lax.clamp(-y, x, y), x, np.full_like(x, 2))


def test_select_n_agrees_for_bool_and_integer_predicates() -> None:
    x, y = special_pairs("int16")
    check_lowering(lambda x, y: lax.select_n(x < y, x, y), x, y)
    which = (np.arange(x.size) % 3).astype(np.int32)
    check_lowering(lambda w, x, y: lax.select_n(w, x, y, x + y), which, x, y)
    check_lowering(lambda p, x, y: lax.select_n(p, x, y), np.array(True), x, y)


def test_scalar_and_empty_and_unknown_sizes() -> None:
    def fn(x: Any, y: Any) -> Any:
        return jnp.maximum(x * 2 + y, 0) - jnp.exp(-x) / (1 + y**2)

    check_lowering(fn, np.float32(1.5), np.float32(2))
    check_lowering(fn, np.ones((0, 3), np.float32), np.ones(3, np.float32))
    x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(4, 3)
    lowered = check_lowering(fn, x, np.ones(3, np.float32), specs=[(None, 3), None])
    assert "BroadcastTo" not in lowered.ops()


def test_activations_of_jax_nn_agree() -> None:
    x = np.linspace(-3, 3, 20, dtype=np.float32).reshape(4, 5)
    for fn in (jax.nn.relu, jax.nn.gelu, jax.nn.silu, jax.nn.softplus, jax.nn.elu, jax.nn.selu):
        check_lowering(fn, x, specs=[(None, 5)])
    check_lowering(lambda x: jax.nn.gelu(x, approximate=False), x, specs=[(None, 5)])


def test_what_changes_no_value_adds_at_most_a_stop_gradient() -> None:
    def fn(x: Any) -> Any:
        return lax.stop_gradient(lax.optimization_barrier(jnp.copy(x)))

    assert check_lowering(fn, np.ones(3, np.float32)).ops() in ([], ["StopGradient"])


def test_gradients_of_jax_agree() -> None:
    def loss(x: Any) -> Any:
        return jnp.sum(jnp.tanh(x) * jnp.sqrt(1 + x * x) / (2 + jnp.sin(x)))

    check_lowering(jax.grad(loss), np.linspace(-2, 2, 8, dtype=np.float32))
