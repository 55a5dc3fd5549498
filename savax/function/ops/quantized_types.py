"""Conversion between floats and TensorFlow's quantized integers, which are integers to JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from savax.errors import UnsupportedParamError
from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from savax.types import DType


def _limits(dtype: Any, narrow: bool = False) -> tuple[float, float]:
    info = np.iinfo(dtype)
    return float(info.min) + narrow, float(info.max)


def _aligned(bound: Any, rank: int, axis: int) -> Any:
    bound = jnp.asarray(bound)
    if axis < 0:
        return bound.reshape(())
    return bound.reshape([-1 if i == axis else 1 for i in range(rank)])


def _away(x: Any) -> Any:
    """Rounds halves away from zero."""
    return jnp.trunc(x + jnp.where(x < 0, -0.5, 0.5))


@evaluates("Dequantize")
def _dequantize(
    input: Any,
    min_range: Any,
    max_range: Any,
    *,
    mode: str,
    narrow_range: bool,
    axis: int,
    dtype: DType,
) -> Any:
    x = jnp.asarray(input)
    low, high = (_aligned(bound, x.ndim, axis) for bound in (min_range, max_range))
    first, last = _limits(x.dtype)
    level = x.astype(jnp.float32)
    if mode == "SCALED":
        scale = high / last
        if first < 0:
            scale = jnp.maximum(low / (first + narrow_range), scale)
        result = level * scale
    elif mode == "MIN_COMBINED":
        half = (last - first + 1) / 2 if first < 0 else 0.0
        result = (level + half) * ((high - low) / (last - first)) + low
    else:
        steps = last - first + 1
        scale = (high - low) * np.float32(steps / (steps - 1)) / np.float32(steps)
        start = jnp.where(low == high, low, _away(low / scale) * scale)
        result = start + (level - first) * scale
    return result.astype(dtype.numpy_dtype)


@evaluates("QuantizeV2")
def _quantize_v2(
    input: Any,
    min_range: Any,
    max_range: Any,
    *,
    T: DType,  # noqa: N803
    mode: str,
    round_mode: str,
    narrow_range: bool,
    axis: int,
    ensure_minimum_range: float,
) -> tuple[Any, Any, Any]:
    x = jnp.asarray(input)
    shape = np.shape(min_range)
    low, high = (_aligned(bound, x.ndim, axis) for bound in (min_range, max_range))
    # The range holds zero, and isn't too small.
    least = jnp.maximum(1.0, jnp.maximum(jnp.abs(low), jnp.abs(high))) * ensure_minimum_range
    low = jnp.minimum(0.0, low)
    high = jnp.maximum(0.0, jnp.maximum(high, low + least))
    first, last = _limits(T.numpy_dtype)
    if mode == "SCALED":
        level, low, high = _scaled(x, low, high, T.numpy_dtype, round_mode, narrow_range)
    elif mode == "MIN_COMBINED":
        scale = (last - first) / (high - low)
        half = (last - first + 1) / 2 if first < 0 else 0.0
        above = (jnp.clip(x, low, high) - low) * scale
        level = _away(above - half) if first < 0 else jnp.floor(above + 0.5)
    elif mode == "MIN_FIRST":
        steps = last - first + 1
        scale = np.float32(steps) / ((high - low) * np.float32(steps / (steps - 1)))
        level = _away(x * scale) - (_away(low * scale) - first)
    else:
        raise UnsupportedParamError(
            f"Quantization mode {mode!r}: expected SCALED, MIN_COMBINED or MIN_FIRST."
        )
    level = jnp.clip(level, first, last).astype(T.numpy_dtype)
    return level, low.reshape(shape), high.reshape(shape)


def _scaled(
    x: Any, low: Any, high: Any, dtype: Any, round_mode: str, narrow: bool
) -> tuple[Any, Any, Any]:
    first, last = _limits(dtype, narrow)
    largest = np.finfo(np.float32).max
    by_low = jnp.where(first * low > 0, first / jnp.where(low == 0, 1, low), largest)
    by_high = jnp.where(last * high > 0, last / jnp.where(high == 0, 1, high), largest)
    scale = jnp.minimum(by_low, by_high)
    low, high = first / scale, last / scale
    level = jnp.clip(x, low, high) * scale
    rounded = jnp.round(level) if round_mode == "HALF_TO_EVEN" else _away(level)
    return rounded, low, high


# Uniform quantization: scales and zero points of all elements, or of each slice along an axis.


@evaluates("UniformQuantize")
def _uniform_quantize(
    input: Any,
    scales: Any,
    zero_points: Any,
    *,
    Tout: DType,  # noqa: N803
    quantization_axis: int,
    quantization_min_val: int,
    quantization_max_val: int,
) -> Any:
    x = jnp.asarray(input)
    scale, zero = (_aligned(v, x.ndim, quantization_axis) for v in (scales, zero_points))
    level = jnp.floor(x * (1 / scale) + np.float32(0.5))
    return _clipped(_int32(level) + zero, quantization_min_val, quantization_max_val, Tout)


@evaluates("UniformDequantize", ignores=("quantization_min_val", "quantization_max_val"))
def _uniform_dequantize(
    input: Any,
    scales: Any,
    zero_points: Any,
    *,
    Tout: DType,  # noqa: N803
    quantization_axis: int,
) -> Any:
    x = jnp.asarray(input)
    scale, zero = (_aligned(v, x.ndim, quantization_axis) for v in (scales, zero_points))
    return ((x.astype(jnp.int32) - zero).astype(jnp.float32) * scale).astype(Tout.numpy_dtype)


@evaluates(
    "UniformRequantize",
    needs_64_bit=True,
    ignores=("input_quantization_min_val", "input_quantization_max_val"),
)
def _uniform_requantize(
    input: Any,
    input_scales: Any,
    input_zero_points: Any,
    output_scales: Any,
    output_zero_points: Any,
    *,
    Tout: DType,  # noqa: N803
    input_quantization_axis: int,
    output_quantization_axis: int,
    output_quantization_min_val: int,
    output_quantization_max_val: int,
) -> Any:
    x = jnp.asarray(input)
    scale, zero = (
        _aligned(v, x.ndim, input_quantization_axis) for v in (input_scales, input_zero_points)
    )
    new_scale, new_zero = (
        _aligned(v, x.ndim, output_quantization_axis) for v in (output_scales, output_zero_points)
    )
    factor, shift = _fixed_point(scale.astype(jnp.float64) / new_scale.astype(jnp.float64))
    wide = (x.astype(jnp.int32) - zero).astype(jnp.int64)
    level = (wide * factor + (jnp.int64(1) << (30 - shift))) >> (31 - shift)
    bounds = np.iinfo(np.int32)
    level = jnp.clip(level, bounds.min, bounds.max).astype(jnp.int32) + new_zero
    return _clipped(level, output_quantization_min_val, output_quantization_max_val, Tout)


def _fixed_point(scale: Any) -> tuple[Any, Any]:
    """Returns integers with scale = factor * 2**(shift - 31), as near as 31 bits can be."""
    fraction, shift = jnp.frexp(scale)
    factor = jnp.round(fraction * 2.0**31).astype(jnp.int64)
    whole = factor == 2**31
    factor, shift = jnp.where(whole, factor // 2, factor), shift + whole
    small, large = shift < -31, shift > 30
    factor = jnp.where(small, 0, jnp.where(large, 2**31 - 1, factor))
    shift = jnp.where(small, 0, jnp.where(large, 30, shift))
    return factor, shift.astype(jnp.int64)


def _int32(level: Any) -> Any:
    """Returns whole floats as integers; those that don't fit become the nearest that do."""
    # The largest float below 2**31.
    return jnp.clip(level, -(2.0**31), 2.0**31 - 128).astype(jnp.int32)


def _clipped(level: Any, low: int, high: int, dtype: DType) -> Any:
    return jnp.maximum(jnp.minimum(level, high), low).astype(dtype.numpy_dtype)
