"""Arithmetic and rounding, element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function.evaluation._plan_values import TensorListValue
from savax.function.ops._detours import filled, in_float
from savax.function.ops._idioms import find_difference, find_quotient
from savax.function.ops._orders import extremum
from savax.function.ops._registry import Pair, evaluates, folds, lowers, register_pairs
from savax.function.ops._traced import traced
from savax.function.ops.tensor_lists import summed_lists
from savax.types import as_dtype

if TYPE_CHECKING:
    from jax import Array

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


def _add(x: Any, y: Any) -> Any:
    if isinstance(x, TensorListValue) or isinstance(y, TensorListValue):
        return summed_lists((x, y))
    return jnp.add(x, y)


PAIRS = (
    Pair("add", "AddV2", _add, np.add, also=("Add",)),
    Pair("add_any", "AddV2", _add, np.add, also=("Add",)),
    Pair("sqrt", "Sqrt", lax.sqrt, np.sqrt),
    Pair("rsqrt", "Rsqrt", lax.rsqrt),
    Pair("floor", "Floor", lax.floor, np.floor),
    Pair("ceil", "Ceil", lax.ceil, np.ceil),
)
register_pairs(PAIRS)


# Lowerings.


@lowers("mul")
def _lower_mul(g: GraphBuilder, x: Symbol, y: Symbol, *, out_dtype: Any = None) -> Symbol:
    if out_dtype is not None:
        x, y = g.cast(x, out_dtype), g.cast(y, out_dtype)
    return _squared(g, x) if x is y and _is_narrow_difference(x) else g.op("Mul", x, y)


@lowers("square")
def _lower_square(g: GraphBuilder, x: Symbol) -> Symbol:
    return _squared(g, x)


def _squared(g: GraphBuilder, x: Symbol) -> Symbol:
    if _is_narrow_difference(x):
        return g.op("Mul", x, g.op("BitwiseOr", x, x))
    return g.op("Square", x)


def _is_narrow_difference(x: Symbol) -> bool:
    """Whether TensorFlow's optimizer would make a SquaredDifference of x * x that has no kernel."""
    difference = x.node is not None and x.node.op == "Sub"
    return difference and x.dtype.is_integer and x.dtype.name not in ("int32", "int64")


@lowers("sub")
def _lower_sub(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    found = find_difference(g, x, y)
    return g.op("Sub", x, y) if found is None else found


@lowers("div")
def _lower_div(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    found = find_quotient(g, x, y)
    if found is not None:
        return found
    if not x.dtype.is_integer:
        return g.op("RealDiv", x, y)
    # JAX gives -1 (all bits set) for division by zero, where TensorFlow fails.
    quotient = g.op(_truncating(x), x, _nonzero(g, y))
    if _never_zero(y):
        return quotient
    all_bits = np.iinfo(x.dtype.numpy_dtype).max if x.dtype.is_unsigned else -1
    return g.op("SelectV2", _is_zero(g, y), g.scalar(all_bits, x), quotient)


@lowers("rem")
def _lower_rem(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    if not x.dtype.is_integer:
        # TensorFlow has no gradient of TruncateMod.
        size = in_float(g, "FloorMod", g.op("Abs", x), g.op("Abs", y))
        return g.op("Mul", size, g.op("Sign", x))
    # x - (x / y) * y is x for y = 0, JAX's answer, and has more kernels than TruncateMod.
    quotient = g.op(_truncating(x), x, _nonzero(g, y))
    return g.op("Sub", x, g.op("Mul", quotient, y))


def _truncating(x: Symbol) -> str:
    return "FloorDiv" if x.dtype.is_unsigned else "TruncateDiv"


def _never_zero(y: Symbol) -> bool:
    return y.constant is not None and bool(np.all(y.constant != 0))


def _is_zero(g: GraphBuilder, y: Symbol) -> Symbol:
    return g.op("Equal", y, g.scalar(0, y))


def _nonzero(g: GraphBuilder, y: Symbol) -> Symbol:
    """Returns the divisor with ones for zeros, which TensorFlow's integer kernels refuse."""
    return y if _never_zero(y) else g.op("SelectV2", _is_zero(g, y), g.scalar(1, y), y)


@lowers("neg")
def _lower_neg(g: GraphBuilder, x: Symbol) -> Symbol:
    return g.op("Sub", g.scalar(0, x), x) if x.dtype.is_unsigned else g.op("Neg", x)


@lowers("abs")
def _lower_abs(g: GraphBuilder, x: Symbol) -> Symbol:
    if x.dtype.is_complex:
        return g.op("ComplexAbs", x, Tout=g.out[0].dtype)
    return x if x.dtype.is_unsigned else g.op("Abs", x)


@lowers("sign")
def _lower_sign(g: GraphBuilder, x: Symbol) -> Symbol:
    return g.op("Minimum", x, g.scalar(1, x)) if x.dtype.is_unsigned else g.op("Sign", x)


@lowers("round")
def _lower_round(g: GraphBuilder, x: Symbol, *, rounding_method: Any) -> Symbol:
    if rounding_method == lax.RoundingMethod.TO_NEAREST_EVEN:
        return g.op("Round", x)
    # Halves go away from zero. Adding 0.5 first would round 0.49999997 up.
    magnitude = g.op("Abs", x)
    whole = g.op("Floor", magnitude)
    up = g.op("GreaterEqual", g.op("Sub", magnitude, whole), g.scalar(0.5, x))
    rounded = g.op("AddV2", whole, g.cast(up, x.dtype))
    signed = g.op("SelectV2", g.op("Less", x, g.scalar(0, x)), g.op("Neg", rounded), rounded)
    is_zero = g.op("Equal", x, g.scalar(0, x))  # a zero keeps its sign
    return g.op("SelectV2", is_zero, g.op("StopGradient", x), signed)


@lowers("max")
def _lower_max(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    return extremum(g, x, y, largest=True)


@lowers("min")
def _lower_min(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    return extremum(g, x, y, largest=False)


@lowers("clamp")
def _lower_clamp(g: GraphBuilder, low: Symbol, x: Symbol, high: Symbol) -> Symbol:
    return _lower_min(g, _lower_max(g, x, low), high)


@lowers("pow")
def _lower_pow(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    return g.op("Pow", x, g.cast(y, x.dtype))  # the exponent may be an integer


@lowers("integer_pow")
def _lower_integer_pow(g: GraphBuilder, x: Symbol, *, y: int) -> Symbol:
    if y == 0:
        return filled(g, 1, x)
    if y < 0:
        return g.op("Reciprocal", _lower_integer_pow(g, x, y=-y))
    half = _squared(g, _lower_integer_pow(g, x, y=y // 2)) if y > 1 else x
    return g.op("Mul", half, x) if y % 2 and y > 1 else half


@lowers("nextafter")
def _lower_nextafter(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    if x.dtype.name in ("float32", "float64"):
        return g.op("NextAfter", x, y)
    return _next_half(g, x, y)


def _next_half(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    """Writes the neighbour of a 16-bit float by its bits, which count up with the magnitude."""
    wide_x, wide_y = g.cast(x, "float32"), g.cast(y, "float32")
    bits = g.cast(g.op("Bitcast", x, type=as_dtype("int16"), shape=x.shape), "int32")
    zero = g.op("Equal", wide_x, g.scalar(0, wide_x))
    down = g.op("Less", wide_y, wide_x)
    inwards = g.op("NotEqual", g.op("Less", wide_x, g.scalar(0, wide_x)), down)
    moved = g.op("AddV2", bits, g.op("SelectV2", inwards, g.const(-1), g.const(1)))
    least = g.op("SelectV2", down, g.const(-(2**15) + 1), g.const(1))
    moved = g.op("SelectV2", zero, least, moved)
    neighbour = g.op("Bitcast", g.cast(moved, "int16"), type=x.dtype, shape=moved.shape)
    neighbour = g.op("SelectV2", g.op("Equal", wide_x, wide_y), y, neighbour)
    is_nan = g.op("LogicalOr", g.op("NotEqual", wide_x, wide_x), g.op("NotEqual", wide_y, wide_y))
    return g.op("SelectV2", is_nan, g.op("AddV2", x, y), neighbour)


@lowers("stop_gradient")
def _lower_stop_gradient(g: GraphBuilder, x: Symbol) -> Symbol:
    return g.op("StopGradient", x)


@lowers("copy", "copy_p")
def _lower_copy(g: GraphBuilder, x: Symbol) -> Symbol:
    return x


@lowers("name")
def _lower_name(g: GraphBuilder, x: Symbol, *, name: str) -> Symbol:
    return x


@lowers("optimization_barrier")
def _lower_optimization_barrier(g: GraphBuilder, *operands: Symbol) -> tuple[Symbol, ...]:
    return operands


@lowers("mulhi")
def _lower_mulhi(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol:
    bits = x.dtype.size * 8
    if bits > 32:
        return traced(g, _high_word, x, y)[0]
    wide = "uint64" if x.dtype.is_unsigned else "int64"
    product = g.op("Mul", g.cast(x, wide), g.cast(y, wide))
    return g.cast(g.op("RightShift", product, g.scalar(bits, product)), x.dtype)


def _high_word(x: Array, y: Array) -> Array:
    """Returns the upper half of the 128-bit product of 64-bit integers."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    a, b = x.astype(jnp.uint64), y.astype(jnp.uint64)
    a_low, a_high, b_low, b_high = a & mask, a >> half, b & mask, b >> half
    middle = a_high * b_low + ((a_low * b_low) >> half)
    crossed = (middle & mask) + a_low * b_high
    high = a_high * b_high + (middle >> half) + (crossed >> half)
    if x.dtype == jnp.int64:  # a negative factor counts 2^64 too much
        zero = np.uint64(0)
        high = high - jnp.where(x < 0, b, zero) - jnp.where(y < 0, a, zero)
    return high.astype(x.dtype)


# Evaluations.


@evaluates("Mul")
def _mul(x: Array, y: Array) -> Array:
    return jnp.multiply(x, y)


folds("Mul")(np.multiply)


@evaluates("Square")
def _square(x: Array) -> Array:
    return jnp.square(x)


folds("Square")(np.square)


@evaluates("Sub")
def _sub(x: Array, y: Array) -> Array:
    return jnp.subtract(x, y)


folds("Sub")(np.subtract)


@evaluates("MulNoNan")
def _mul_no_nan(x: Array, y: Array) -> Array:
    zero = jnp.equal(y, 0)
    return jnp.where(zero, jnp.zeros_like(x), jnp.multiply(jnp.where(zero, 0, x), y))


@evaluates("RealDiv")
def _real_div(x: Array, y: Array) -> Array:
    return jnp.divide(x, y)


folds("RealDiv")(np.divide)


@evaluates("DivNoNan")
def _div_no_nan(x: Array, y: Array) -> Array:
    zero = jnp.equal(y, 0)
    return jnp.where(zero, jnp.zeros_like(x), jnp.divide(x, jnp.where(zero, 1, y)))


@evaluates("Div")
def _div(x: Array, y: Array) -> Array:
    return lax.div(*jnp.broadcast_arrays(x, y))


@evaluates("TruncateDiv")
def _truncate_div(x: Array, y: Array) -> Array:
    quotient = _div(x, y)
    return quotient if _is_integer(quotient) else jnp.trunc(quotient)


@folds("Div")
def _fold_div(x: Any, y: Any) -> Any:
    return _quotient(x, y) if x.dtype.kind in "iu" else np.divide(x, y)


@folds("TruncateDiv")
def _fold_truncate_div(x: Any, y: Any) -> Any:
    return _quotient(x, y) if x.dtype.kind in "iu" else np.trunc(np.divide(x, y))


def _is_integer(x: Any) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.integer))


def _quotient(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> Any:
    """Divides integers as XLA does: towards zero, and -1 (all bits) for division by zero."""
    floor = np.floor_divide(x, y)
    truncated = floor + ((floor < 0) & (np.multiply(floor, y) != x)).astype(x.dtype)
    return np.where(y == 0, np.array(-1).astype(x.dtype), truncated)


@evaluates("FloorDiv")
def _floor_div(x: Array, y: Array) -> Array:
    if _is_integer(x):
        return jnp.floor_divide(x, y)
    return jnp.floor(jnp.divide(x, y))


@folds("FloorDiv")
def _fold_floor_div(x: Any, y: Any) -> Any:
    if x.dtype.kind not in "iu":
        return np.floor(np.divide(x, y))
    quotient = _quotient(x, y)
    if x.dtype.kind == "u":
        return quotient
    rest = x - quotient * y
    down = (np.sign(x) != np.sign(y)) & (rest != 0)
    return quotient - down.astype(x.dtype)


@evaluates("FloorMod")
def _floor_mod(x: Array, y: Array) -> Array:
    x, y = jnp.broadcast_arrays(x, y)
    rest = lax.rem(x, y)
    wrong_sign = jnp.not_equal(rest, 0) & (jnp.less(rest, 0) != jnp.less(y, 0))
    return jnp.where(wrong_sign, jnp.add(rest, y), rest)


@folds("FloorMod")
def _fold_floor_mod(x: Any, y: Any) -> Any:
    rest = _fold_truncate_mod(x, y)
    wrong_sign = (rest != 0) & ((rest < 0) != (y < 0))
    return np.where(wrong_sign, rest + y, rest)


@evaluates("TruncateMod", "Mod")
def _truncate_mod(x: Array, y: Array) -> Array:
    return lax.rem(*jnp.broadcast_arrays(x, y))


@folds("TruncateMod", "Mod")
def _fold_truncate_mod(x: Any, y: Any) -> Any:
    if x.dtype.kind not in "iu":
        return np.fmod(x, y)
    return x - _quotient(x, y) * y


@evaluates("AccumulateNV2", ignores=("shape",))
def _accumulate_n(inputs: tuple[Array, ...]) -> Array | TensorListValue:
    return _add_n(inputs)


@evaluates("AddN")
def _add_n(inputs: tuple[Array, ...]) -> Array | TensorListValue:
    if any(isinstance(term, TensorListValue) for term in inputs):
        return summed_lists(inputs)
    total = jnp.asarray(inputs[0])
    for term in inputs[1:]:
        total = jnp.add(total, term)
    return total


@evaluates("Neg")
def _neg(x: Array) -> Array:
    return jnp.negative(x)


folds("Neg")(np.negative)


@evaluates("Abs")
def _abs(x: Array) -> Array:
    return jnp.abs(x)


folds("Abs")(np.abs)


@evaluates("Sign")
def _sign(x: Array) -> Array:
    return jnp.sign(x)


folds("Sign")(np.sign)


@evaluates("SquaredDifference")
def _squared_difference(x: Array, y: Array) -> Array:
    difference = jnp.subtract(x, y)
    return jnp.multiply(jnp.conj(difference), difference)


@evaluates("Reciprocal", "Inv")
def _reciprocal(x: Array) -> Array:
    return jnp.divide(jnp.ones_like(x), x)


@evaluates("Round")
def _round(x: Array) -> Array:
    x = jnp.asarray(x)
    if _is_integer(x):
        return x
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


@evaluates("Rint")
def _rint(x: Array) -> Array:
    return lax.round(jnp.asarray(x), lax.RoundingMethod.TO_NEAREST_EVEN)


@folds("Round", "Rint")
def _fold_round(x: Any) -> Any:
    return x if x.dtype.kind in "iu" else np.rint(x)


@evaluates("Maximum")
def _maximum(x: Array, y: Array) -> Array:
    return jnp.maximum(x, y)


folds("Maximum")(np.maximum)


@evaluates("Minimum")
def _minimum(x: Array, y: Array) -> Array:
    return jnp.minimum(x, y)


folds("Minimum")(np.minimum)


@evaluates("ClipByValue")
def _clip_by_value(t: Array, clip_value_min: Array, clip_value_max: Array) -> Array:
    return jnp.maximum(jnp.minimum(t, clip_value_max), clip_value_min)


@evaluates("Pow")
def _pow(x: Array, y: Array) -> Array:
    return _integer_power(x, y) if _is_integer(x) else jnp.power(x, y)


def _integer_power(x: Array, y: Array) -> Array:
    """Squares and multiplies, once for each bit of the exponent."""
    base, exponent = jnp.broadcast_arrays(x, y)
    bits = np.iinfo(base.dtype).bits
    state = (jnp.ones_like(base), base, exponent)
    result: Array = lax.fori_loop(0, bits, _power_step, state)[0]
    return result


def _power_step(_: Any, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    power, base, exponent = state
    power = jnp.where(exponent & 1 == 1, power * base, power)
    return power, base * base, exponent >> 1


folds("Pow")(np.power)


@evaluates("NextAfter")
def _next_after(x1: Array, x2: Array) -> Array:
    return jnp.nextafter(x1, x2)
