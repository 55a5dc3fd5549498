"""Elementary functions for readers that lack them, by exp, log, tanh and atan2.

These forms are used only where a graph is written for such a reader; see ``docs/portability.md``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from savax.function.ops._registry import replaces

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

_REAL = frozenset({"float16", "float32", "float64"})

# The polynomials here have the digits of these.
POLYNOMIAL_DTYPES = frozenset({"float16", "float32"})


# Exponentials and logarithms that are exact around zero.


@replaces("Expm1")
def _expm1(g: GraphBuilder, x: Symbol) -> Symbol | None:
    if x.dtype.name not in _REAL:
        return None
    # exp(x) - 1 = tanh(x / 2) (exp(x) + 1), without a difference of nearly equal numbers.
    half = g.op("Tanh", g.op("Mul", x, g.scalar(0.5, x)))
    return g.op("Mul", half, g.op("AddV2", g.op("Exp", x), g.scalar(1, x)))


@replaces("Log1p")
def _log1p(g: GraphBuilder, x: Symbol) -> Symbol | None:
    if x.dtype.name not in POLYNOMIAL_DTYPES:
        return None
    near = g.op("Less", g.op("Abs", x), g.scalar(_NEAR, x))
    inside = g.op("SelectV2", near, x, g.scalar(0, x))
    series = g.op("Mul", inside, polynomial_of(g, inside, _LOG1P))
    far = g.op("Log", g.op("AddV2", x, g.scalar(1, x)))
    return g.op("SelectV2", near, series, far)


_NEAR = 0.25


# log(1 + x) / x on [-_NEAR, _NEAR], to 2e-9 of its value, lowest power first.
_LOG1P = (
    *(1.0, -0.499999939, 0.333333177, -0.250012933, 0.200019829),
    *(-0.165931663, 0.14198176, -0.140264833, 0.12665454),
)


def polynomial_of(g: GraphBuilder, x: Symbol, coefficients: Sequence[float]) -> Symbol:
    """Returns a polynomial of a tensor; coefficients are of the lowest power first."""
    result = g.scalar(coefficients[-1], x)
    for coefficient in reversed(coefficients[:-1]):
        result = g.op("AddV2", g.op("Mul", result, x), g.scalar(coefficient, x))
    return result


@replaces("Tanh")
def _tanh(g: GraphBuilder, x: Symbol) -> Symbol:
    """Keeps a reader from joining it with the sum before it."""
    return g.op("Neg", g.op("Tanh", g.op("Neg", x)))


# Trigonometry.


@replaces("Tan")
def _tan(g: GraphBuilder, x: Symbol) -> Symbol | None:
    return _if_real(x) and g.op("RealDiv", g.op("Sin", x), g.op("Cos", x))


@replaces("Atan")
def _atan(g: GraphBuilder, x: Symbol) -> Symbol | None:
    return _if_real(x) and g.op("Atan2", x, g.op("OnesLike", x))


@replaces("Atan2")
def _atan2(g: GraphBuilder, y: Symbol, x: Symbol, *, shape: Any) -> Symbol | None:
    """Gives the operands one shape, for a reader that doesn't broadcast them."""
    if tuple(y.shape) == tuple(x.shape):
        return None
    ones = g.full(1, shape, x.dtype)
    y, x = (g.op("Mul", operand, ones) for operand in (y, x))
    return g.op("Atan2", y, x)


@replaces("Asin")
def _asin(g: GraphBuilder, x: Symbol) -> Symbol | None:
    return _if_real(x) and g.op("Atan2", x, _other_leg(g, x))


@replaces("Acos")
def _acos(g: GraphBuilder, x: Symbol) -> Symbol | None:
    return _if_real(x) and g.op("Atan2", _other_leg(g, x), x)


def _other_leg(g: GraphBuilder, x: Symbol) -> Symbol:
    """Returns the square root of 1 - x^2, exact around one."""
    one = g.scalar(1, x)
    return g.op("Sqrt", g.op("Mul", g.op("Sub", one, x), g.op("AddV2", one, x)))


def _if_real(x: Symbol) -> Symbol | None:
    return x if x.dtype.name in _REAL else None


# Hyperbolic functions.


@replaces("Sinh")
def _sinh(g: GraphBuilder, x: Symbol) -> Symbol | None:
    if x.dtype.name not in _REAL:
        return None
    size = g.op("Abs", x)
    rise, fall = _halves(g, size)
    less = g.op("Expm1", g.op("Minimum", size, g.scalar(1, x)))
    quotient = g.op("RealDiv", less, g.op("AddV2", less, g.scalar(1, x)))
    near = g.op("Mul", g.op("AddV2", less, quotient), g.scalar(0.5, x))
    result = g.op("SelectV2", g.op("Less", size, g.scalar(1, x)), near, g.op("Sub", rise, fall))
    return _with_sign(g, x, result)


@replaces("Cosh")
def _cosh(g: GraphBuilder, x: Symbol) -> Symbol | None:
    return _if_real(x) and g.op("AddV2", *_halves(g, g.op("Abs", x)))


def _halves(g: GraphBuilder, size: Symbol) -> tuple[Symbol, Symbol]:
    """Returns exp(x) / 2 and exp(-x) / 2; the first is finite as long as cosh(x) is."""
    half = g.scalar(math.log(2), size)
    rise = g.op("Exp", g.op("Sub", size, half))
    return rise, g.op("Exp", g.op("Neg", g.op("AddV2", size, half)))


@replaces("Asinh")
def _asinh(g: GraphBuilder, x: Symbol) -> Symbol | None:
    if x.dtype.name not in _REAL:
        return None
    size = g.op("Abs", x)
    limit = g.scalar(_LARGE[x.dtype.name], x)
    y = g.op("Minimum", size, limit)
    square = g.op("Mul", y, y)
    root = g.op("Sqrt", g.op("AddV2", square, g.scalar(1, x)))
    rest = g.op("RealDiv", square, g.op("AddV2", root, g.scalar(1, x)))
    near = g.op("Log1p", g.op("AddV2", y, rest))
    far = g.op("AddV2", g.op("Log", size), g.scalar(math.log(2), x))
    return _with_sign(g, x, g.op("SelectV2", g.op("Less", size, limit), near, far))


# Beyond these, x^2 + 1 is x^2 to the last bit, or x^2 overflows soon.
_LARGE = {"float16": 128.0, "float32": 1e8, "float64": 1e16}


@replaces("Acosh")
def _acosh(g: GraphBuilder, x: Symbol) -> Symbol | None:
    if x.dtype.name not in _REAL:
        return None
    limit = g.scalar(_LARGE[x.dtype.name], x)
    y = g.op("Sub", g.op("Minimum", x, limit), g.scalar(1, x))
    root = g.op("Sqrt", g.op("Mul", y, g.op("AddV2", y, g.scalar(2, x))))
    near = g.op("Log1p", g.op("AddV2", y, root))
    far = g.op("AddV2", g.op("Log", x), g.scalar(math.log(2), x))
    return g.op("SelectV2", g.op("Less", x, limit), near, far)


@replaces("Atanh")
def _atanh(g: GraphBuilder, x: Symbol) -> Symbol | None:
    if x.dtype.name not in _REAL:
        return None
    size = g.op("Abs", x)
    twice = g.op("AddV2", size, size)
    ratio = g.op("RealDiv", twice, g.op("Sub", g.scalar(1, x), size))
    result = g.op("Mul", g.op("Log1p", ratio), g.scalar(0.5, x))
    return _with_sign(g, x, result)


def _with_sign(g: GraphBuilder, x: Symbol, size: Symbol) -> Symbol:
    """Gives a result that isn't negative the sign of the argument; a zero stays the argument."""
    signed = g.op("SelectV2", g.op("Less", x, g.scalar(0, x)), g.op("Neg", size), size)
    return g.op("SelectV2", g.op("Equal", x, g.scalar(0, x)), x, signed)
