"""Bits of integers: logic, shifts and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function.ops._registry import evaluates, folds, lowers

if TYPE_CHECKING:
    from jax import Array

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


# Lowerings. JAX reads the shift amount as unsigned and defines what amounts beyond the width give;
# TensorFlow clips the amount to the width less one.


@lowers("shift_left")
def _lower_shift_left(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    return _or_zero(g, g.op("LeftShift", x, y), y)


@lowers("shift_right_logical")
def _lower_shift_right_logical(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    return _or_zero(g, shift_right_logical(g, x, y), y)


def shift_right_logical(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    """Shifts zeros in from the left; the amounts must be less than the width."""
    if x.dtype.is_unsigned:
        return g.op("RightShift", x, y)
    unsigned = f"u{x.dtype.name}"
    shifted = g.op("RightShift", g.cast(x, unsigned), g.cast(y, unsigned))
    return g.cast(shifted, x.dtype)


@lowers("shift_right_arithmetic")
def _lower_shift_right_arithmetic(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    dtype = x.dtype
    if dtype.is_unsigned:
        x, y = g.cast(x, dtype.name[1:]), g.cast(y, dtype.name[1:])
    if not _in_width(y):
        last = g.scalar(_width(y) - 1, y)
        y = g.op("SelectV2", _beyond_width(g, y), last, y)
    return g.cast(g.op("RightShift", x, y), dtype)


def _width(x: Symbol) -> int:
    return x.dtype.size * 8


def _in_width(y: Symbol) -> bool:
    return y.constant is not None and bool(np.all((y.constant >= 0) & (y.constant < _width(y))))


def _beyond_width(g: GraphBuilder, y: Symbol) -> Symbol:
    beyond = g.op("GreaterEqual", y, g.scalar(_width(y), y))
    if y.dtype.is_unsigned:
        return beyond
    return g.op("LogicalOr", beyond, g.op("Less", y, g.scalar(0, y)))


def _or_zero(g: GraphBuilder, shifted: Symbol, y: Symbol) -> Symbol:
    if _in_width(y):
        return shifted
    return g.op("SelectV2", _beyond_width(g, y), g.scalar(0, shifted), shifted)


@lowers("population_count")
def _lower_population_count(g: GraphBuilder, x: Symbol) -> Symbol:
    return g.cast(g.op("PopulationCount", x), x.dtype)


@lowers("clz")
def _lower_clz(g: GraphBuilder, x: Symbol) -> Symbol:
    # Fill every bit below the highest one, then count what is left above.
    width, amount = _width(x), 1
    filled = x
    while amount < width:
        shifted = shift_right_logical(g, filled, g.scalar(amount, x))
        filled = g.op("BitwiseOr", filled, shifted)
        amount *= 2
    ones = g.cast(g.op("PopulationCount", filled), x.dtype)
    return g.op("Sub", g.scalar(width, x), ones)


# Evaluations.


@evaluates("BitwiseAnd")
def _bitwise_and(x: Array, y: Array) -> Array:
    return jnp.bitwise_and(x, y)


folds("BitwiseAnd")(np.bitwise_and)


@evaluates("BitwiseOr")
def _bitwise_or(x: Array, y: Array) -> Array:
    return jnp.bitwise_or(x, y)


folds("BitwiseOr")(np.bitwise_or)


@evaluates("BitwiseXor")
def _bitwise_xor(x: Array, y: Array) -> Array:
    return jnp.bitwise_xor(x, y)


folds("BitwiseXor")(np.bitwise_xor)


@evaluates("Invert")
def _invert(x: Array) -> Array:
    return jnp.bitwise_not(x)


folds("Invert")(np.bitwise_not)


@evaluates("LeftShift")
def _left_shift(x: Array, y: Array) -> Array:
    x = jnp.asarray(x)
    return jnp.left_shift(x, jnp.clip(y, 0, _last_bit(x)))


@folds("LeftShift")
def _fold_left_shift(x: Any, y: Any) -> Any:
    return np.left_shift(x, np.clip(y, 0, _last_bit(x)))


@evaluates("RightShift")
def _right_shift(x: Array, y: Array) -> Array:
    x = jnp.asarray(x)
    return jnp.right_shift(x, jnp.clip(y, 0, _last_bit(x)))


@folds("RightShift")
def _fold_right_shift(x: Any, y: Any) -> Any:
    return np.right_shift(x, np.clip(y, 0, _last_bit(x)))


def _last_bit(x: Any) -> Any:
    """Returns the largest amount that TensorFlow shifts by."""
    return x.dtype.type(x.dtype.itemsize * 8 - 1)


@evaluates("PopulationCount")
def _population_count(x: Array) -> Array:
    return lax.population_count(jnp.asarray(x)).astype(jnp.uint8)
