"""Exponentials, trigonometry, error and gamma functions, element by element."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp
import jax.scipy.special as jsp
from jax import lax

from savax.function.ops._detours import HALVES, in_float
from savax.function.ops._registry import Pair, evaluates, lowers, register_pairs
from savax.function.ops._traced import traced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jax import Array

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

PAIRS = (
    Pair("exp", "Exp", lax.exp),
    Pair("expm1", "Expm1", lax.expm1),
    Pair("log", "Log", lax.log),
    Pair("tanh", "Tanh", lax.tanh),
    Pair("logistic", "Sigmoid", lax.logistic),
    Pair("sin", "Sin", lax.sin),
    Pair("cos", "Cos", lax.cos),
    Pair("tan", "Tan", lax.tan),
    Pair("asin", "Asin", lax.asin),
    Pair("acos", "Acos", lax.acos),
    Pair("atan", "Atan", lax.atan),
    Pair("sinh", "Sinh", lax.sinh),
    Pair("cosh", "Cosh", lax.cosh),
    Pair("asinh", "Asinh", lax.asinh),
    Pair("acosh", "Acosh", lax.acosh),
    Pair("atanh", "Atanh", lax.atanh),
    Pair("erfc", "Erfc", lax.erfc),
)
register_pairs(PAIRS)

# M. Giles, "Approximating the erfinv function" (2010), table 5: coefficients of polynomials in
# w - 2.5 for w < 5 and in sqrt(w) - 3 otherwise, with w = -log(1 - x^2), highest power first.
_ERF_INV_CENTRE = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087),
    *(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
)
_ERF_INV_TAIL = (
    *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773),
    *(-0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
)


# Lowerings.


@lowers("exp2")
def _lower_exp2(g: GraphBuilder, x: Symbol) -> Symbol:
    return g.op("Pow", g.scalar(2, x), x)


@lowers("cbrt")
def _lower_cbrt(g: GraphBuilder, x: Symbol) -> Symbol:
    wide = g.cast(x, "float32") if x.dtype.name in HALVES else x
    root = g.op("Pow", g.op("Abs", wide), g.scalar(1 / 3, wide))
    signed = g.op("SelectV2", g.op("Less", wide, g.scalar(0, wide)), g.op("Neg", root), root)
    is_zero = g.op("Equal", wide, g.scalar(0, wide))  # a zero keeps its sign
    return g.cast(g.op("SelectV2", is_zero, wide, signed), x.dtype)


@lowers("erf")
def _lower_erf(g: GraphBuilder, x: Symbol) -> Symbol:
    if x.dtype.name == "float64":
        # TensorFlow's kernel gives NaN for large arguments; erf(6) is 1 to the last bit.
        x = g.op("Minimum", g.op("Maximum", x, g.scalar(-6.0, x)), g.scalar(6.0, x))
    return g.op("Erf", x)


@lowers("erf_inv")
def _lower_erf_inv(g: GraphBuilder, x: Symbol) -> Symbol:
    if x.dtype.name == "float64":
        return _erf_inv_of_doubles(g, x)
    # TensorFlow's float32 kernel loses half the digits around zero, and no converter has it.
    y = g.cast(x, "float32")
    w = g.op("Neg", g.op("Log1p", g.op("Neg", g.op("Square", y))))
    centre = _polynomial(g, g.op("Sub", w, g.scalar(2.5, w)), _ERF_INV_CENTRE)
    limit = g.scalar(5.0, w)
    is_centre = g.op("Less", w, limit)
    # What isn't chosen has finite derivatives too: zero times infinity is NaN.
    far = g.op("Sqrt", g.op("SelectV2", is_centre, limit, w))
    tail = _polynomial(g, g.op("Sub", far, g.scalar(3.0, w)), _ERF_INV_TAIL)
    factor = g.op("SelectV2", is_centre, centre, tail)
    infinite = g.op("Equal", g.op("Abs", y), g.scalar(1.0, y))
    scaled = g.op("StopGradient", g.op("Mul", y, g.scalar(float("inf"), y)))
    return g.cast(g.op("SelectV2", infinite, scaled, g.op("Mul", factor, y)), x.dtype)


def _erf_inv_of_doubles(g: GraphBuilder, x: Symbol) -> Symbol:
    """Works around TensorFlow's kernel, which loses digits around zero and around one."""
    y = g.op("Erfinv", x)
    error = g.op("Sub", g.op("Erf", y), x)
    density = g.op("Exp", g.op("Neg", g.op("Square", y)))
    slope = g.op("Mul", g.scalar(2 / math.sqrt(math.pi), x), density)
    near = g.op("Sub", y, g.op("RealDiv", error, slope))  # a step of Newton's method
    size = g.op("Abs", x)
    # The quantile of the normal distribution is exact in its lower tail.
    tail = g.op("Mul", g.op("Sub", g.scalar(1, x), size), g.scalar(0.5, x))
    quantile = g.op("Mul", g.op("Ndtri", tail), g.scalar(math.sqrt(0.5), x))
    far = g.op("SelectV2", g.op("Less", x, g.scalar(0, x)), quantile, g.op("Neg", quantile))
    result = g.op("SelectV2", g.op("Less", size, g.scalar(0.5, x)), near, far)
    is_zero = g.op("Equal", x, g.scalar(0, x))  # a zero keeps its sign
    return g.op("SelectV2", is_zero, x, result)


@lowers("log1p")
def _lower_log1p(g: GraphBuilder, x: Symbol) -> Symbol:
    result = g.op("Log1p", x)
    if not x.dtype.is_complex:
        return result
    # TensorFlow's imaginary part of the logarithm of zero is NaN.
    at_zero = g.op("Equal", x, g.scalar(-1, x))
    return g.op("SelectV2", at_zero, g.scalar(complex(-math.inf, 0), x), result)


@lowers("atan2")
def _lower_atan2(g: GraphBuilder, y: Symbol, x: Symbol) -> Symbol:
    if not x.dtype.is_complex:
        return g.op("Atan2", y, x)

    def angle(y: Array, x: Array) -> Array:
        return -1j * jnp.log((x + 1j * y) / jnp.sqrt(x * x + y * y))

    return traced(g, angle, y, x)[0]


def _polynomial(g: GraphBuilder, x: Symbol, coefficients: Sequence[float]) -> Symbol:
    result = g.scalar(coefficients[0], x)
    for coefficient in coefficients[1:]:
        result = g.op("AddV2", g.op("Mul", result, x), g.scalar(coefficient, x))
    return result


@lowers("lgamma")
def _lower_lgamma(g: GraphBuilder, x: Symbol) -> Symbol:
    return in_float(g, "Lgamma", x)


@lowers("digamma")
def _lower_digamma(g: GraphBuilder, x: Symbol) -> Symbol:
    return in_float(g, "Digamma", x)


@lowers("bessel_i0e")
def _lower_bessel_i0e(g: GraphBuilder, x: Symbol) -> Symbol:
    return in_float(g, "BesselI0e", x)


@lowers("bessel_i1e")
def _lower_bessel_i1e(g: GraphBuilder, x: Symbol) -> Symbol:
    return in_float(g, "BesselI1e", x)


@lowers("igamma")
def _lower_igamma(g: GraphBuilder, a: Symbol, x: Symbol) -> Symbol:
    # At the ends of the domain: TensorFlow has no limit for a = 0, and doesn't look at a if x is 0.
    result = in_float(g, "Igamma", a, x)
    result = g.op("SelectV2", _is_limit(g, a, x), g.scalar(1, x), result)
    at_zero = g.op("SelectV2", g.op("Greater", a, g.scalar(0, a)), result, g.scalar(math.nan, x))
    return g.op("SelectV2", g.op("Equal", x, g.scalar(0, x)), at_zero, result)


def _is_limit(g: GraphBuilder, a: Symbol, x: Symbol) -> Symbol:
    """Returns where the first parameter is zero and the argument positive."""
    zero = g.scalar(0, a)
    return g.op("LogicalAnd", g.op("Equal", a, zero), g.op("Greater", x, zero))


@lowers("igammac")
def _lower_igammac(g: GraphBuilder, a: Symbol, x: Symbol) -> Symbol:
    result = in_float(g, "Igammac", a, x)
    return g.op("SelectV2", _is_limit(g, a, x), g.scalar(0, x), result)


@lowers("zeta")
def _lower_zeta(g: GraphBuilder, x: Symbol, q: Symbol) -> Symbol:
    return in_float(g, "Zeta", x, q)


@lowers("polygamma")
def _lower_polygamma(g: GraphBuilder, m: Symbol, x: Symbol) -> Symbol:
    return in_float(g, "Polygamma", m, x)


@lowers("regularized_incomplete_beta")
def _lower_betainc(g: GraphBuilder, a: Symbol, b: Symbol, x: Symbol) -> Symbol:
    # With one parameter zero all weight is at one end, which TensorFlow has no value for.
    result = in_float(g, "Betainc", a, b, x)
    zero, one = g.scalar(0, x), g.scalar(1, x)
    inside = g.op(
        "LogicalAnd", g.op("GreaterEqual", x, zero), g.op("LessEqual", x, one), shape=x.shape
    )
    for first, second, full in (
        (a, b, g.op("Greater", x, zero)),
        (b, a, g.op("GreaterEqual", x, one)),
    ):
        at_end = g.op("LogicalAnd", g.op("Equal", first, zero), g.op("Greater", second, zero))
        weight = g.op("SelectV2", full, one, zero, shape=x.shape)
        result = g.op("SelectV2", g.op("LogicalAnd", at_end, inside), weight, result)
    return result


# Evaluations.


@evaluates("Log1p")
def _log1p(x: Array) -> Array:
    return lax.log1p(x)


@evaluates("Atan2")
def _atan2(y: Array, x: Array) -> Array:
    return jnp.arctan2(y, x)


@evaluates("Erf")
def _erf(x: Array) -> Array:
    return lax.erf(x)


@evaluates("Erfinv")
def _erfinv(x: Array) -> Array:
    return lax.erf_inv(x)


@evaluates("Ndtri")
def _ndtri(x: Array) -> Array:
    return jsp.ndtri(x)


@evaluates("Lgamma")
def _lgamma(x: Array) -> Array:
    return lax.lgamma(x)


@evaluates("Digamma")
def _digamma(x: Array) -> Array:
    return lax.digamma(x)


@evaluates("Igamma")
def _igamma(a: Array, x: Array) -> Array:
    return lax.igamma(*jnp.broadcast_arrays(a, x))


@evaluates("Igammac")
def _igammac(a: Array, x: Array) -> Array:
    return lax.igammac(*jnp.broadcast_arrays(a, x))


@evaluates("Zeta")
def _zeta(x: Array, q: Array) -> Array:
    return lax.zeta(*jnp.broadcast_arrays(x, q))


@evaluates("Polygamma")
def _polygamma(a: Array, x: Array) -> Array:
    return lax.polygamma(*jnp.broadcast_arrays(a, x))


@evaluates("Betainc")
def _betainc(a: Array, b: Array, x: Array) -> Array:
    return lax.betainc(*jnp.broadcast_arrays(a, b, x))


@evaluates("BesselI0")
def _bessel_i0(x: Array) -> Array:
    return jsp.i0(x)


@evaluates("BesselI0e")
def _bessel_i0e(x: Array) -> Array:
    return lax.bessel_i0e(x)


@evaluates("BesselI1")
def _bessel_i1(x: Array) -> Array:
    return jsp.i1(x)


@evaluates("BesselI1e")
def _bessel_i1e(x: Array) -> Array:
    return lax.bessel_i1e(x)


@evaluates("Expint")
def _expint(x: Array) -> Array:
    integral: Array = jsp.expi(x)
    return integral


@evaluates("Spence")
def _spence(x: Array) -> Array:
    return jsp.spence(x)


# The result is zero for x = 0 whatever y is; the inner select keeps gradients free of NaN.


@evaluates("Xdivy")
def _xdivy(x: Array, y: Array) -> Array:
    zero = jnp.equal(x, 0)
    return jnp.where(zero, jnp.zeros_like(x), jnp.divide(x, jnp.where(zero, jnp.ones_like(y), y)))


@evaluates("Xlogy")
def _xlogy(x: Array, y: Array) -> Array:
    zero = jnp.equal(x, 0)
    logarithm = jnp.log(jnp.where(zero, jnp.ones_like(y), y))
    return jnp.where(zero, jnp.zeros_like(x), jnp.multiply(x, logarithm))


@evaluates("Xlog1py")
def _xlog1py(x: Array, y: Array) -> Array:
    zero = jnp.equal(x, 0)
    logarithm = jnp.log1p(jnp.where(zero, jnp.zeros_like(y), y))
    return jnp.where(zero, jnp.zeros_like(x), jnp.multiply(x, logarithm))
