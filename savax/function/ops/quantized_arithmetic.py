"""Arithmetic of quantized graphs: 8-bit levels of a range, and 32-bit levels of a wider one.

A level stands for a float: the lowest of its type for the low end of a range, the highest for the
high end. TensorFlow computes with ranges in float32 and float64, and rounds in between; results are
the same levels as its portable kernels' only if each step is rounded alike. (On x86, TensorFlow may
take others from oneDNN for ``QuantizeV2``, ``Dequantize`` and pooling; those differ by a level.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import InvalidArgumentError, UnsupportedParamError
from savax.function.ops._operands import static_int
from savax.function.ops._registry import evaluates
from savax.function.ops.pooling import Pool
from savax.function.ops.shaping import sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.types import DType

    _Range = tuple[Any, Any]
    _Result = tuple[Any, Any, Any]


def _lowest(dtype: Any) -> int:
    return int(np.iinfo(dtype).min)


def _highest(dtype: Any) -> int:
    return int(np.iinfo(dtype).max)


def _steps(dtype: Any) -> float:
    """Returns how many levels a type has, less one."""
    return float(_highest(dtype) - _lowest(dtype))


def _away(x: Any) -> Any:
    """Rounds halves away from zero."""
    return lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO)


def _wide(x: Any) -> Any:
    return jnp.asarray(x).astype(jnp.float64)


def _single(x: Any) -> Any:
    return x.astype(jnp.float32)


def _product(x: Any, y: Any) -> Any:
    """Multiplies float32 numbers and rounds once, also where a sum follows."""
    return _single(_wide(x) * _wide(y))


def _spread(low: Any, high: Any) -> Any:
    return _wide(jnp.asarray(high) - jnp.asarray(low))


def _ends(low: Any, high: Any) -> _Range:
    """Returns the ends of a range as float32 scalars; graphs may have them as vectors of one."""
    return jnp.asarray(low).reshape(()), jnp.asarray(high).reshape(())


# Single values: TensorFlow converts them in float64.


def _level(x: Any, low: Any, high: Any, dtype: Any) -> Any:
    """Returns the int64 level of a float32, which may be beyond those of the type."""
    steps = _steps(dtype)
    scale = (steps + 1) / (_spread(low, high) * ((steps + 1) / steps))
    level = _away(_wide(x) * scale) - _away(_wide(low) * scale)
    level = jnp.where(low == high, 0, level).astype(jnp.int64)
    return level + _lowest(dtype)


def _clipped(level: Any, dtype: Any) -> Any:
    return jnp.clip(level, _lowest(dtype), _highest(dtype)).astype(dtype)


def _value(level: Any, low: Any, high: Any) -> Any:
    """Returns the float32 that a level stands for."""
    steps = _steps(level.dtype)
    scale = _spread(low, high) * ((steps + 1) / steps) / (steps + 1)
    start = _product(_away(_single(_wide(low) / _wide(_single(scale)))), _single(scale))
    found = _wide(start) + (_wide(level) - _lowest(level.dtype)) * scale
    return jnp.where(low == high, low, _single(found))


# Whole tensors: TensorFlow converts them in float32.


def _values(levels: Any, low: Any, high: Any) -> Any:
    scale = _single(_spread(low, high) / _steps(levels.dtype))
    start = _product(_away(_single(_wide(low) / _wide(scale))), scale)
    start = jnp.where(low == high, low, start)
    first = start - _product(np.float32(_lowest(levels.dtype)), scale)
    return first + _product(_single(levels), scale)


def _levels(x: Any, low: Any, high: Any, dtype: Any) -> Any:
    spread = _spread(low, high)
    scale = jnp.where(spread == 0, 0, _steps(dtype) / jnp.where(spread == 0, 1, spread))
    scale = _single(scale)
    shift = _away(_product(low, scale)) - np.float32(_lowest(dtype))
    # The highest number of 32 bits isn't a float32; the one before it is.
    top = min(np.float32(_highest(dtype)), np.float32(2147483520.0))
    level = jnp.clip(_away(_product(x, scale)) - shift, np.float32(_lowest(dtype)), top)
    return level.astype(jnp.int32).astype(dtype)


def _requantized(levels: Any, old: _Range, new: _Range, dtype: Any) -> Any:
    """Returns the levels of the same floats in another range."""
    if levels.dtype != np.int32 or np.dtype(dtype) != np.uint8:
        return _levels(_values(levels, *old), *new, dtype)
    # TensorFlow's numbers of 16 binary places.
    old_spread, spread = _spread(*old), _spread(*new)
    divisor = jnp.where(spread == 0, 1, spread)
    one = 65536.0
    factor = _whole(255.0 * one * old_spread / divisor)
    middle = _single(_wide(old[0] + old[1]) / 2)
    inverse = _single(255.0 / divisor)
    offset = _whole(_product(_product(middle, inverse), np.float32(one)))
    start = _whole(one * (_wide(new[0]) * 255.0) / divisor)
    is_empty = spread == 0
    factor, start, offset = (jnp.where(is_empty, 0, each) for each in (factor, start, offset))
    fixed = ((levels.astype(jnp.int64) * factor) >> 32) + offset - start + 32768
    return jnp.clip(fixed >> 16, 0, 255).astype(jnp.uint8)


def _whole(x: Any) -> Any:
    return jnp.trunc(x).astype(jnp.int64)


def _product_range(a: _Range, a_type: Any, b: _Range, b_type: Any) -> _Range:
    """Returns the range of 32-bit products of levels."""
    unit = _product(*(_single(_spread(*r) / _steps(t)) for r, t in ((a, a_type), (b, b_type))))
    low, high = (np.float32(end(np.int32)) for end in (_lowest, _highest))
    return _product(unit, low), _product(unit, high)


def _centered(levels: Any, low: Any, high: Any) -> Any:
    """Returns levels less that of zero, as float64: sums of their products are exact."""
    zero = _level(np.float32(0), low, high, levels.dtype)
    return (levels.astype(jnp.int64) - zero).astype(jnp.float64)


def _sums(x: Any) -> Any:
    return x.astype(jnp.int64).astype(jnp.int32)


def _check_bytes(op: str, *tensors: Any) -> None:
    for tensor in tensors:
        if tensor.dtype != np.uint8:
            raise UnsupportedParamError(
                f"{op} of {tensor.dtype} levels: savax computes with quint8 only, as TensorFlow's "
                "portable kernels do."
            )


# Products.


@evaluates("QuantizedConv2D", needs_64_bit=True, ignores=("out_type",))
def _conv_2d(
    input: Any,
    filter: Any,
    min_input: Any,
    max_input: Any,
    min_filter: Any,
    max_filter: Any,
    *,
    strides: Sequence[int],
    padding: str,
    dilations: Sequence[int],
) -> _Result:
    x, kernel = jnp.asarray(input), jnp.asarray(filter)
    _check_bytes("QuantizedConv2D", x, kernel)
    if set(dilations) != {1} or strides[1] != strides[2]:
        raise UnsupportedParamError(
            f"QuantizedConv2D: strides {list(strides)} and dilations {list(dilations)}; expected "
            "equal strides and no dilations, as in TensorFlow's kernel."
        )
    x_range, kernel_range = _ends(min_input, max_input), _ends(min_filter, max_filter)
    found = lax.conv_general_dilated(
        _centered(x, *x_range),
        _centered(kernel, *kernel_range),
        strides[1:3],
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    ends = _product_range(x_range, x.dtype, kernel_range, kernel.dtype)
    return _sums(found), *ends


@evaluates("QuantizedMatMul", needs_64_bit=True, ignores=("Toutput", "Tactivation"))
def _mat_mul(
    a: Any,
    b: Any,
    min_a: Any,
    max_a: Any,
    min_b: Any,
    max_b: Any,
    *,
    transpose_a: bool,
    transpose_b: bool,
) -> _Result:
    a, b = jnp.asarray(a), jnp.asarray(b)
    _check_bytes("QuantizedMatMul", a, b)
    a_range, b_range = _ends(min_a, max_a), _ends(min_b, max_b)
    left, right = _centered(a, *a_range), _centered(b, *b_range)
    found = jnp.matmul(left.T if transpose_a else left, right.T if transpose_b else right)
    return _sums(found), *_product_range(a_range, a.dtype, b_range, b.dtype)


@evaluates("QuantizedMul", needs_64_bit=True, ignores=("Toutput",))
def _mul(x: Any, y: Any, min_x: Any, max_x: Any, min_y: Any, max_y: Any) -> _Result:
    x, y = jnp.asarray(x), jnp.asarray(y)
    x_range, y_range = _ends(min_x, max_x), _ends(min_y, max_y)
    found = _centered(x, *x_range) * _centered(y, *y_range)
    return _sums(found), *_product_range(x_range, x.dtype, y_range, y.dtype)


# Sums: both terms are brought into one range first.


@evaluates("QuantizedBiasAdd", needs_64_bit=True, ignores=("out_type",))
def _bias_add(
    input: Any, bias: Any, min_input: Any, max_input: Any, min_bias: Any, max_bias: Any
) -> _Result:
    x_range, bias_range = _ends(min_input, max_input), _ends(min_bias, max_bias)
    top = jnp.max(jnp.abs(jnp.stack([*x_range, *bias_range]))) * np.float32(1 << 17)
    total = (-top, top)
    terms = [
        _levels(_values(jnp.asarray(levels), *ends), *total, np.int32)
        for levels, ends in ((input, x_range), (bias, bias_range))
    ]
    zero = _clipped(_level(np.float32(0), *total, np.int32), np.int32)
    return terms[0] + (terms[1] + zero), *total


@evaluates("QuantizedAdd", needs_64_bit=True, ignores=("Toutput",))
def _add(x: Any, y: Any, min_x: Any, max_x: Any, min_y: Any, max_y: Any) -> _Result:
    x_range, y_range = _ends(min_x, max_x), _ends(min_y, max_y)
    low, high = jnp.minimum(x_range[0], y_range[0]), jnp.maximum(x_range[1], y_range[1])
    top = jnp.maximum(jnp.abs(low), jnp.abs(high)) * np.float32(1 << 14)
    terms = []
    for levels, ends in ((x, x_range), (y, y_range)):
        levels = jnp.asarray(levels)
        if levels.size == 1:  # TensorFlow takes steps of equal size for more than one
            level = _level(_value(levels, *ends), -top, top, np.int32)
            terms.append(_clipped(level, np.int32))
            continue
        first, second = (
            _level(_value(np.asarray(i, levels.dtype), *ends), -top, top, np.int32) for i in (0, 1)
        )
        scaled = first + levels.astype(jnp.int64) * (second - first)
        terms.append(_clipped(scaled, np.int32))
    return terms[0] + terms[1], -top, top


# Normalization: TensorFlow computes it with 11 binary places in 32 bits.


@evaluates("QuantizedBatchNormWithGlobalNormalization", needs_64_bit=True, ignores=("out_type",))
def _batch_norm(
    t: Any,
    t_min: Any,
    t_max: Any,
    m: Any,
    m_min: Any,
    m_max: Any,
    v: Any,
    v_min: Any,
    v_max: Any,
    beta: Any,
    beta_min: Any,
    beta_max: Any,
    gamma: Any,
    gamma_min: Any,
    gamma_max: Any,
    *,
    variance_epsilon: float,
    scale_after_normalization: bool,
) -> _Result:
    total = np.float32(-(1 << 20)), np.float32(1 << 20)

    def fixed(x: Any) -> Any:
        return _clipped(_level(x, *total, np.int32), np.int32)

    x, mean, variance, shift, factor = (
        _value(jnp.asarray(levels), *_ends(low, high))
        for levels, low, high in (
            *((t, t_min, t_max), (m, m_min, m_max), (v, v_min, v_max)),
            *((beta, beta_min, beta_max), (gamma, gamma_min, gamma_max)),
        )
    )
    root = _single(jnp.sqrt(_wide(variance + np.float32(variance_epsilon))))
    scale = _single(1 / _wide(root))
    if scale_after_normalization:
        scale = _product(scale, factor)
    offset = _product(-mean, scale) + shift
    found = lax.div(*jnp.broadcast_arrays(fixed(x) * fixed(scale), fixed(np.float32(1))))
    return found + fixed(offset), *map(jnp.asarray, total)


# One range for another.


@evaluates("RequantizationRange", needs_64_bit=True)
def _requantization_range(input: Any, input_min: Any, input_max: Any) -> _Range:
    """Returns the range that the levels really use, made to hold zero."""
    levels, ends = jnp.asarray(input), _ends(input_min, input_max)
    low, high = _value(jnp.min(levels), *ends), _value(jnp.max(levels), *ends)
    return jnp.minimum(low, 0), high


@evaluates("Requantize", needs_64_bit=True)
def _requantize(
    input: Any,
    input_min: Any,
    input_max: Any,
    requested_output_min: Any,
    requested_output_max: Any,
    *,
    out_type: DType,
) -> _Result:
    old = _ends(input_min, input_max)
    new = _ends(requested_output_min, requested_output_max)
    return _requantized(jnp.asarray(input), old, new, out_type.numpy_dtype), *new


@evaluates("QuantizeDownAndShrinkRange", needs_64_bit=True)
def _quantize_down(input: Any, input_min: Any, input_max: Any, *, out_type: DType) -> _Result:
    new = _requantization_range(input, input_min, input_max)
    return _requantize(input, input_min, input_max, *new, out_type=out_type)


# What keeps the range, or chooses from levels.


@evaluates("QuantizedRelu", needs_64_bit=True, ignores=("out_type",))
def _relu(features: Any, min_features: Any, max_features: Any) -> _Result:
    levels, ends = jnp.asarray(features), _ends(min_features, max_features)
    zero = _clipped(_level(np.float32(0), *ends, levels.dtype), levels.dtype)
    return jnp.maximum(levels, zero), *ends


@evaluates("QuantizedReluX", needs_64_bit=True, ignores=("out_type",))
def _relu_x(features: Any, max_value: Any, min_features: Any, max_features: Any) -> _Result:
    levels, low, high = _relu(features, min_features, max_features)
    top = _level(jnp.asarray(max_value).reshape(()), low, high, levels.dtype)
    return jnp.minimum(levels, _clipped(top, levels.dtype)), low, high


@evaluates("QuantizedRelu6", needs_64_bit=True, ignores=("out_type",))
def _relu_6(features: Any, min_features: Any, max_features: Any) -> _Result:
    return _relu_x(features, np.float32(6), min_features, max_features)


@evaluates("QuantizedMaxPool")
def _max_pool(
    input: Any,
    min_input: Any,
    max_input: Any,
    *,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
) -> _Result:
    levels = jnp.asarray(input)
    found = Pool(levels.shape, ksize, strides, padding, "NHWC").maximum(levels)
    return found, *_ends(min_input, max_input)


@evaluates("QuantizedAvgPool")
def _avg_pool(
    input: Any,
    min_input: Any,
    max_input: Any,
    *,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
) -> _Result:
    levels = jnp.asarray(input)
    pool = Pool(levels.shape, ksize, strides, padding, "NHWC")
    total = pool.total(levels.astype(jnp.int32))
    counts = jnp.asarray(pool.counts(levels.shape), jnp.int32)
    mean = lax.div(total, jnp.broadcast_to(counts, total.shape))
    return mean.astype(levels.dtype), *_ends(min_input, max_input)


@evaluates("QuantizedReshape", static=("shape",))
def _reshape(tensor: Any, shape: Any, input_min: Any, input_max: Any) -> _Result:
    return tensor.reshape(sizes(shape)), input_min, input_max


@evaluates("QuantizedConcat", static=("concat_dim",), needs_64_bit=True)
def _concat(
    concat_dim: Any,
    values: tuple[Any, ...],
    input_mins: tuple[Any, ...],
    input_maxes: tuple[Any, ...],
) -> _Result:
    if len(values) < 2:
        raise InvalidArgumentError("QuantizedConcat: expected two tensors or more.")
    ranges = [_ends(*ends) for ends in zip(input_mins, input_maxes, strict=True)]
    low = jnp.minimum(jnp.min(jnp.stack([r[0] for r in ranges])), 0)
    high = jnp.max(jnp.stack([r[1] for r in ranges]))
    if jnp.issubdtype(values[0].dtype, jnp.signedinteger):
        high = jnp.maximum(jnp.maximum(0, -low), high)
        low = -high
    parts = []
    for levels, ends in zip(map(jnp.asarray, values), ranges, strict=True):
        is_same = (ends[0] == low) & (ends[1] == high)
        moved = _levels(_values(levels, *ends), low, high, levels.dtype)
        parts.append(jnp.where(is_same, levels, moved))
    return jnp.concatenate(parts, static_int(concat_dim)), low, high
