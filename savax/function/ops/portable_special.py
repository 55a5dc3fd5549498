"""Special functions for readers that lack them, by polynomials, exp and log.

These forms are used only where a graph is written for such a reader; see ``docs/portability.md``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

from savax.function.ops._registry import replaces
from savax.function.ops._traced import traced
from savax.function.ops.portable_elementary import POLYNOMIAL_DTYPES, polynomial_of

if TYPE_CHECKING:
    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

# erf(x) / x as a polynomial in x^2 on [0, 1], to 2e-9 of its value, lowest power first.
_ERF = (
    *(1.12837917, -0.376126269, 0.112835975, -0.0268543288),
    *(0.00518931194, -0.0008018855, 7.88249712e-05),
)
# erfc(x) exp(x^2) / t as a polynomial in t = 1 / (1 + x / 2) for x >= 1, to 4e-9 of its value.
_ERFC = (
    *(0.2820842, 0.282386706, 0.243389443, 0.199055143, -0.0083783654),
    *(0.229404221, -0.414747621, 0.227661423, -0.0406686561),
)

# C. Lanczos, "A precision approximation of the gamma function" (1964), for g = 7 and 9 terms.
_LANCZOS_G = 7.0
_LANCZOS_MIDDLE = _LANCZOS_G + 0.5
_LANCZOS_BASE = 0.99999999999980993227684700473478
_LANCZOS = (
    *(676.520368121885098567009190444019, -1259.13921672240287047156078755283),
    *(771.3234287776530788486528258894, -176.61502916214059906584551354),
    *(12.507343278686904814458936853, -0.13857109526572011689554707),
    *(9.984369578019570859563e-6, 1.50563273514931155834e-7),
)


@replaces("Erf")
def _erf(g: GraphBuilder, x: Symbol) -> Symbol | None:
    if x.dtype.name not in POLYNOMIAL_DTYPES:
        return None
    size = g.op("Abs", x)
    inner = _erf_inside(g, x, size)
    outer = g.op("Sub", g.scalar(1, x), _erfc_outside(g, size))
    outer = g.op("Mul", outer, g.op("Sign", x))
    return g.op("SelectV2", g.op("Less", size, g.scalar(1, x)), inner, outer)


@replaces("Erfc")
def _erfc(g: GraphBuilder, x: Symbol) -> Symbol | None:
    if x.dtype.name not in POLYNOMIAL_DTYPES:
        return None
    size = g.op("Abs", x)
    inner = g.op("Sub", g.scalar(1, x), _erf_inside(g, x, size))
    tail = _erfc_outside(g, size)
    mirrored = g.op("Sub", g.scalar(2, x), tail)
    outer = g.op("SelectV2", g.op("Less", x, g.scalar(0, x)), mirrored, tail)
    return g.op("SelectV2", g.op("Less", size, g.scalar(1, x)), inner, outer)


def _erf_inside(g: GraphBuilder, x: Symbol, size: Symbol) -> Symbol:
    """Returns erf between -1 and 1, and anything finite elsewhere."""
    y = g.op("Minimum", size, g.scalar(1, x))
    return g.op("Mul", x, polynomial_of(g, g.op("Square", y), _ERF))


def _erfc_outside(g: GraphBuilder, size: Symbol) -> Symbol:
    """Returns erfc of values of at least one."""
    y = g.op("Maximum", size, g.scalar(1, size))
    denominator = g.op("AddV2", g.op("Mul", y, g.scalar(0.5, size)), g.scalar(1, size))
    t = g.op("RealDiv", g.scalar(1, size), denominator)
    # Beyond 12 the result is zero in these types, and the square would overflow further out.
    y = g.op("Minimum", y, g.scalar(12, size))
    tail = g.op("Mul", g.op("Exp", g.op("Neg", g.op("Square", y))), t)
    return g.op("Mul", tail, polynomial_of(g, t, _ERFC))


@replaces("Lgamma")
def _lgamma(g: GraphBuilder, x: Symbol) -> Symbol | None:
    return traced(g, _log_gamma, x)[0] if x.dtype.is_floating else None


class _Lanczos(NamedTuple):
    """The parts of Lanczos' formula for the gamma function of ``z + 1``.

    Attributes:
      z: ``x - 1``; ``-x`` where the formula of reflection is used.
      total: the sum.
      slope: its derivative with respect to ``z``.
      logarithm: ``log(z + g + 1/2)``; the factor of the power is ``z + 1/2``.
    """

    z: Any
    total: Any
    slope: Any
    logarithm: Any


def _lanczos(x: Any, reflected: Any) -> _Lanczos:
    z = jnp.where(reflected, -x, x - 1)
    total: Any = _LANCZOS_BASE
    slope: Any = 0.0
    for k, coefficient in enumerate(_LANCZOS):
        total = total + coefficient / (z + k + 1)
        slope = slope - coefficient / ((z + k + 1) * (z + k + 1))
    # By log1p, which keeps digits.
    logarithm = math.log(_LANCZOS_MIDDLE) + jnp.log1p(z / _LANCZOS_MIDDLE)
    return _Lanczos(z, total, slope, logarithm)


def _log_gamma(x: Any) -> Any:
    reflected = x < 0.5
    z, total, _, logarithm = _lanczos(x, reflected)
    upper = z + 0.5 - (z + _LANCZOS_MIDDLE) / logarithm
    result = math.log(math.sqrt(2 * math.pi)) + upper * logarithm + jnp.log(total)
    size = jnp.abs(x)
    fraction = size - jnp.floor(size)
    nearest = jnp.where(fraction > 0.5, 1 - fraction, fraction)
    sine = jnp.log(jnp.sin(math.pi * nearest))
    mirrored = jnp.where(jnp.isfinite(sine), math.log(math.pi) - sine - result, -sine)
    return jnp.where(jnp.isinf(x), jnp.inf, jnp.where(reflected, mirrored, result))


@replaces("Digamma")
def _digamma(g: GraphBuilder, x: Symbol) -> Symbol | None:
    return traced(g, _psi, x)[0] if x.dtype.is_floating else None


def _psi(x: Any) -> Any:
    reflected = x < 0.5
    z, total, slope, logarithm = _lanczos(x, reflected)
    result = logarithm + slope / total - _LANCZOS_G / (z + _LANCZOS_MIDDLE)
    # Only the distance to the nearest integer counts, which keeps the tangent's digits.
    distance = x + jnp.floor(jnp.abs(x) + 0.5)
    mirrored = result - math.pi * jnp.cos(math.pi * distance) / jnp.sin(math.pi * distance)
    pole = (x <= 0) & (x == jnp.floor(x))
    return jnp.where(pole, jnp.nan, jnp.where(reflected, mirrored, result))
