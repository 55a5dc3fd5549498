"""Convolutions: JAX's general one written as TensorFlow's, which are NHWC and HWIO."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from savax.function.ops._registry import lowers
from savax.function.ops._sizes import is_known, lower_pad
from savax.function.ops._windows_math import (
    crop,
    dilated,
    explicit,
    is_grouped,
    known_pairs,
    padding_name,
    with_unit_axis,
)
from savax.function.ops.general_convolution import (
    Convolution,
    lower_by_positions,
    lower_complex_convolution,
)
from savax.function.ops.shaping import reverse
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol
    from savax.types import DType


@dataclass(frozen=True)
class _Window:
    """What a convolution does along its spatial axes, one entry each.

    Attributes:
      strides: steps of the window.
      padding: pairs of amounts around the input, numbers or dim expressions.
      input_dilation: distance of input elements; above 1 in transposed convolutions.
      kernel_dilation: distance of kernel elements.
      groups: number of channel groups that don't mix, a number or a dim expression.
    """

    strides: tuple[int, ...]
    padding: tuple[Any, ...]
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    groups: Any


@lowers("conv_general_dilated")
def _lower_conv_general_dilated(
    g: GraphBuilder,
    lhs: Symbol,
    rhs: Symbol,
    *,
    window_strides: Sequence[int],
    padding: Sequence[Any],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    precision: Any,
    preferred_element_type: Any,
) -> Symbol:
    numbers = dimension_numbers
    out = g.out[0]
    if any(is_known(size) and size == 0 for size in (*lhs.shape, *rhs.shape, *out.shape)):
        return g.full(0, out.shape, out.dtype)
    convolution = Convolution(
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        feature_group_count,
        batch_group_count,
    )
    if out.dtype.is_complex:
        return lower_complex_convolution(g, lhs, rhs, convolution)
    if not _has_kernel(lhs.ndim - 2, out.dtype, feature_group_count * batch_group_count):
        return lower_by_positions(g, lhs, rhs, convolution)
    compute = _compute_dtype(out.dtype)
    lhs, rhs = _real_operands(g, lhs, rhs, compute)
    lhs_spec, rhs_spec, out_spec = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    lhs = g.transpose(lhs, (lhs_spec[0], *lhs_spec[2:], lhs_spec[1]))
    rhs = g.transpose(rhs, (*rhs_spec[2:], rhs_spec[1], rhs_spec[0]))
    window = _Window(
        tuple(window_strides),
        tuple(tuple(pair) for pair in padding),
        tuple(lhs_dilation),
        tuple(rhs_dilation),
        feature_group_count,
    )
    if is_grouped(batch_group_count):
        lhs = _groups_into_channels(g, lhs, batch_group_count)
        window = replace(window, groups=batch_group_count)
    order = (out_spec[0], *out_spec[2:], out_spec[1])
    shape = tuple(out.shape[axis] for axis in order)
    result = _convolved(g, lhs, rhs, window, shape)
    result = g.transpose(result, [order.index(axis) for axis in range(len(order))])
    return g.cast(result, out.dtype)


def _has_kernel(count: int, dtype: DType, groups: Any) -> bool:
    """Whether TensorFlow convolves ``count`` spatial axes of a type in groups."""
    if dtype.is_integer and dtype.size == 8:
        return False
    if count == 0:
        return not is_grouped(groups)
    return count < 3 or (count == 3 and not is_grouped(groups) and not dtype.is_integer)


def _compute_dtype(dtype: DType) -> DType:
    """Returns a type that TensorFlow's CPU kernels convolve in."""
    if dtype.is_integer:  # narrower ones wrap the same when they are cut off afterwards
        return as_dtype("int32")
    return (
        dtype
        if dtype.name in ("float32", "float64", "float16", "bfloat16")
        else as_dtype("float32")
    )


def _real_operands(
    g: GraphBuilder, lhs: Symbol, rhs: Symbol, compute: DType
) -> tuple[Symbol, Symbol]:
    return g.cast(lhs, compute), g.cast(rhs, compute)


def _groups_into_channels(g: GraphBuilder, lhs: Symbol, groups: Any) -> Symbol:
    """Moves groups of the batch into the channels, where TensorFlow has groups too."""
    batch, *space, channels = lhs.shape
    part = batch // groups
    split = g.reshape(lhs, (groups, part, *space, channels))
    rank = len(space)
    moved = g.transpose(split, (1, *range(2, rank + 2), 0, rank + 2))
    return g.reshape(moved, (part, *space, groups * channels))


def _convolved(
    g: GraphBuilder, lhs: Symbol, rhs: Symbol, window: _Window, shape: tuple[Any, ...]
) -> Symbol:
    """Convolves [batch, *space, channels] with [*space, in, out]."""
    count = lhs.ndim - 2
    if count == 0:
        return g.op("MatMul", lhs, rhs, shape=shape)
    if count == 1:  # a plane of height 1
        lhs, rhs = g.expand_dims(lhs, 1), g.expand_dims(rhs, 0)
        window = _flat(window)
        shape = (shape[0], 1, *shape[1:])
    if any(step > 1 for step in window.input_dilation):
        result = _transposed(g, lhs, rhs, window, shape)
        if result is None:  # written out: zeros between the input's elements
            config = [(0, 0, step - 1) for step in window.input_dilation]
            zero = g.scalar(0, lhs)
            lhs = lower_pad(g, lhs, zero, [(0, 0, 0), *config, (0, 0, 0)])
            result = _direct(g, lhs, rhs, window, shape)
    else:
        result = _direct(g, lhs, rhs, window, shape)
    return g.squeeze(result, (1,)) if count == 1 else result


def _flat(window: _Window) -> _Window:
    return _Window(
        # TensorFlow's depthwise kernel wants equal strides; a height of 1 has one position anyway.
        (window.strides[0],) * 2,
        tuple(with_unit_axis(window.padding, (0, 0))),
        tuple(with_unit_axis(window.input_dilation, 1)),
        tuple(with_unit_axis(window.kernel_dilation, 1)),
        window.groups,
    )


def _direct(
    g: GraphBuilder, lhs: Symbol, rhs: Symbol, window: _Window, shape: tuple[Any, ...]
) -> Symbol:
    """Writes Conv2D, DepthwiseConv2dNative or Conv3D."""
    count = lhs.ndim - 2
    extent = dilated(rhs.shape[:count], window.kernel_dilation)
    name = padding_name(lhs.shape[1:-1], extent, window.strides, window.padding)
    depthwise = (
        count == 2
        and is_grouped(window.groups)
        and rhs.shape[2] == 1
        and window.groups == lhs.shape[-1]
        and len(set(window.strides)) == 1
        and set(window.kernel_dilation) == {1}
        and not lhs.dtype.is_integer
    )
    attrs: dict[str, Any] = {"strides": [1, *window.strides, 1]}
    if set(window.kernel_dilation) != {1}:
        attrs["dilations"] = [1, *window.kernel_dilation, 1]
    if name is None and count == 2 and not depthwise and known_pairs(window.padding):
        name = "EXPLICIT"
        attrs["explicit_paddings"] = explicit(window.padding)
    if name is None:
        config = [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)]
        lhs = lower_pad(g, lhs, g.scalar(0, lhs), config)
        name = "VALID"
    if depthwise:
        multiplier = rhs.shape[3] // window.groups
        rhs = g.reshape(rhs, (*rhs.shape[:2], window.groups, multiplier))
        op = "DepthwiseConv2dNative"
    else:
        op = "Conv2D" if count == 2 else "Conv3D"
    result: Symbol = g.op(op, lhs, rhs, padding=name, shape=shape, **attrs)
    return result


def _transposed(
    g: GraphBuilder, lhs: Symbol, rhs: Symbol, window: _Window, shape: tuple[Any, ...]
) -> Symbol | None:
    """Writes a convolution of a spread input as the gradient of a strided one: the same sums."""
    count = lhs.ndim - 2
    plain = set(window.strides) == {1} or all(size == 1 for size in rhs.shape[:1])
    steps = window.input_dilation
    strides = [s for s, size in zip(window.strides, rhs.shape, strict=False) if size != 1]
    if (
        is_grouped(window.groups)
        or set(window.kernel_dilation) != {1}
        or not plain
        or set(strides) - {1}
    ):
        return None
    kernel = rhs.shape[:count]
    # Padding of the strided convolution whose gradient this is.
    inner = [
        (size - 1 - low, size - 1 - high)
        for size, (low, high) in zip(kernel, window.padding, strict=True)
    ]
    flipped = reverse(g, rhs, [axis for axis in range(count) if rhs.shape[axis] != 1])
    flipped = g.transpose(flipped, (*range(count), count + 1, count))
    op = "Conv2DBackpropInput" if count == 2 else "Conv3DBackpropInputV2"
    attrs: dict[str, Any] = {"strides": [1, *steps, 1]}
    name = padding_name(shape[1:-1], kernel, steps, inner)
    if name is not None:
        sizes = g.dims(shape)
        result: Symbol = g.op(op, sizes, flipped, lhs, padding=name, shape=shape, **attrs)
        return result
    whole = [
        (size - 1) * step + length
        for size, step, length in zip(lhs.shape[1:-1], steps, kernel, strict=True)
    ]
    full = (shape[0], *whole, shape[-1])
    result = g.op(op, g.dims(full), flipped, lhs, padding="VALID", shape=full, **attrs)
    if all(is_known(low) and is_known(high) for low, high in inner):
        grow = [(max(-low, 0), max(-high, 0), 0) for low, high in inner]
        cut = [(max(low, 0), max(high, 0)) for low, high in inner]
        result = lower_pad(g, result, g.scalar(0, result), [(0, 0, 0), *grow, (0, 0, 0)])
        return crop(g, result, range(1, count + 1), cut)
    return crop(g, result, range(1, count + 1), inner)
