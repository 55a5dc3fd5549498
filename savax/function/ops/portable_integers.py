"""Arithmetic of integers and bits for readers that lack it.

These forms are used only where a graph is written for such a reader; see ``docs/portability.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from savax.function.ops._registry import replaces
from savax.function.ops._traced import traced

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol
    from savax.types import DType


# Quotients and remainders, from the quotient of the sizes, on whose rounding all agree.

_SIGNED = frozenset({"int32", "int64"})


@replaces("FloorDiv")
def _floor_div(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol | None:
    if x.dtype.name not in _SIGNED:
        return None
    quotient, rest = _quotient_of_sizes(g, x, y)
    up = g.op("Cast", g.op("NotEqual", rest, g.scalar(0, x)), DstT=x.dtype)
    below = g.op("Sub", g.op("Neg", quotient), up)
    return g.op("SelectV2", _differ(g, x, y), below, quotient)


@replaces("TruncateDiv")
def _truncate_div(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol | None:
    if x.dtype.name not in _SIGNED:
        return None
    quotient, _ = _quotient_of_sizes(g, x, y)
    return g.op("SelectV2", _differ(g, x, y), g.op("Neg", quotient), quotient)


@replaces("FloorMod")
def _floor_mod(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol | None:
    if x.dtype.name not in _SIGNED:
        return None
    return g.op("Sub", x, g.op("Mul", g.op("FloorDiv", x, y), y))


def _differ(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    """Returns where the signs of two numbers differ."""
    return g.op("NotEqual", g.op("Less", x, g.scalar(0, x)), g.op("Less", y, g.scalar(0, y)))


def _quotient_of_sizes(g: GraphBuilder, x: Symbol, y: Symbol) -> tuple[Symbol, Symbol]:
    """Returns quotient and remainder of the absolute values."""
    x, y = g.op("Abs", x), g.op("Abs", y)
    quotient = g.op("FloorDiv", x, y)  # consumers differ for negative numbers alone
    return quotient, g.op("Sub", x, g.op("Mul", quotient, y))


# Bits of int32 by sums: a + b is (a ^ b) + 2 (a & b). Those of uint32 are moved there.

_HALF_BITS = 16


def _in_int32(rule: Callable[..., Symbol]) -> Callable[..., Symbol | None]:
    """Returns a rule for int32 as one for int32 and uint32."""

    def moved(g: GraphBuilder, *operands: Symbol) -> Symbol | None:
        dtype = operands[0].dtype
        if dtype.name not in ("int32", "uint32"):
            return None
        return g.cast(rule(g, *(g.cast(x, "int32") for x in operands)), dtype)

    return moved


def _and(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    bits = g.scalar(_HALF_BITS, x)
    size = g.scalar(1 << _HALF_BITS, x)
    upper = [g.op("RightShift", part, bits) for part in (x, y)]
    lower = [
        g.op("Sub", part, g.op("Mul", half, size)) for part, half in zip((x, y), upper, strict=True)
    ]
    high, low = (_half_and(g, *halves) for halves in (upper, lower))
    return g.op("AddV2", g.op("Mul", high, size), low)


def _half_and(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    """Returns the common bits of numbers whose sum doesn't overflow."""
    twice = g.op("Sub", g.op("AddV2", x, y), g.op("BitwiseXor", x, y))
    return g.op("RightShift", twice, g.scalar(1, x))


def _or(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    return g.op("AddV2", g.op("BitwiseXor", x, y), g.op("BitwiseAnd", x, y))


def _not(g: GraphBuilder, x: Symbol) -> Symbol:
    return g.op("Sub", g.scalar(-1, x), x)


def _shifted_left(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    """Multiplies by a power of two; the product wraps as the shift does."""
    powers = (np.int64(1) << np.arange(33)).astype(np.int32)  # the last is zero, as is the shift
    if y.constant is not None:
        places = y.constant.astype(np.int64)
        places = np.where((places < 0) | (places > 31), 32, places)
        return g.op("Mul", x, g.const(powers[places]))
    outside = g.scalar(32, y)
    inside = g.op("GreaterEqual", y, g.scalar(0, y))
    place = g.op("SelectV2", inside, g.op("Minimum", y, outside), outside)
    factor = g.op("GatherV2", g.const(powers), place, g.const(0), shape=y.shape)
    return g.op("Mul", x, factor)


def _shifted_right(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    """Shifts without regard to the sign, for readers that take uint32 for int32."""
    zero, one = g.scalar(0, y), g.scalar(1, y)
    kept = g.op("LeftShift", g.scalar(1, x), g.op("Sub", g.scalar(32, y), y))
    mask = g.op("SelectV2", g.op("Equal", y, zero), g.scalar(-1, x), g.op("Sub", kept, one))
    return g.op("BitwiseAnd", g.op("RightShift", x, y), mask)


@replaces("RightShift")
def _right_shift(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol | None:
    return _in_int32(_shifted_right)(g, x, y) if x.dtype.name == "uint32" else None


replaces("BitwiseAnd")(_in_int32(_and))
replaces("BitwiseOr")(_in_int32(_or))
replaces("Invert")(_in_int32(_not))
replaces("LeftShift")(_in_int32(_shifted_left))


@replaces("PopulationCount")
def _population_count(g: GraphBuilder, x: Symbol) -> Symbol | None:
    if x.dtype.name not in ("int32", "uint32"):
        return None
    return g.cast(traced(g, _count_bits, g.cast(x, "int32"))[0], "uint8")


def _count_bits(x: Any) -> Any:
    """Adds up bits in fields of 2, 4, 8, 16 and 32 bits."""
    total = jnp.zeros_like(x)
    for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F)):
        field = jnp.int32(mask)
        total = (x & field) + ((x >> jnp.int32(shift)) & field)
        x = total
    return ((total & 0xFF) + ((total >> 8) & 0xFF) + ((total >> 16) & 0xFF)) + (total >> 24 & 0xFF)


# Comparisons of uint32, by int32 with the highest bit turned.


def _turned(g: GraphBuilder, x: Symbol) -> Symbol:
    return g.op("BitwiseXor", g.cast(x, "int32"), g.const(np.int32(-(2**31))))


def _compares(op: str) -> Callable[..., Symbol | None]:
    def rule(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol | None:
        if x.dtype.name != "uint32":
            return None
        return g.op(op, _turned(g, x), _turned(g, y))

    return rule


for _op in ("Less", "LessEqual", "Greater", "GreaterEqual"):
    replaces(_op)(_compares(_op))


# Floats by their bits, as random numbers are made.

_MANTISSA_BITS = 23
_EXPONENTS = np.concatenate([[0.0], np.ldexp(1.0, np.arange(-126, 128)), [np.inf]]).astype("f")


@replaces("Bitcast")
def _bitcast(g: GraphBuilder, x: Symbol, *, type: DType) -> Symbol | None:
    if type.name != "float32" or x.dtype.name not in ("int32", "uint32"):
        return None
    bits = g.cast(x, "int32")
    shifted = g.op("RightShift", bits, g.scalar(_MANTISSA_BITS, bits))
    exponent = g.op("BitwiseAnd", shifted, g.scalar(255, bits))
    mantissa = g.op("BitwiseAnd", bits, g.scalar((1 << _MANTISSA_BITS) - 1, bits))
    fraction = g.op("Mul", g.cast(mantissa, type), g.scalar(2.0**-_MANTISSA_BITS, type))
    scale = g.op("GatherV2", g.const(_EXPONENTS), exponent, g.const(0), shape=x.shape)
    normal = g.op("Mul", scale, g.op("AddV2", fraction, g.scalar(1, type)))
    zero, last = g.scalar(0, bits), g.scalar(255, bits)
    small = g.op("Mul", fraction, g.scalar(2.0**-126, type))
    size = g.op("SelectV2", g.op("Equal", exponent, zero), small, normal)
    special = g.op("LogicalAnd", g.op("Equal", exponent, last), g.op("NotEqual", mantissa, zero))
    size = g.op("SelectV2", special, g.scalar(np.nan, type), size)
    return g.op("SelectV2", g.op("Less", bits, zero), g.op("Neg", size), size)
