"""TensorFlow's convolutions and their gradients on JAX."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from savax.function.ops._cpu_windows import (
    columns_at_once,
    convolve_columns,
    is_product_of_windows,
    multiply_windows,
    on_cpus,
)
from savax.function.ops._registry import evaluates
from savax.function.ops._windows_math import dilated, pads_of, spatial
from savax.function.ops.shaping import sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.function.ops._windows_math import Pairs

# XLA's CPU convolution is several times slower than multiply-adds up to this kernel size.
_MAX_SHIFTED_KERNEL = 5


class Geometry:
    """The attributes of one of TensorFlow's convolutions.

    Attributes:
      data_format: layout of the input, e.g. NHWC.
      strides: spatial steps.
      dilations: spatial distances of kernel elements.
    """

    def __init__(
        self,
        strides: Sequence[int],
        padding: str,
        data_format: str,
        dilations: Sequence[int],
        explicit_paddings: Sequence[int] = (),
    ) -> None:
        self.data_format = data_format
        self.strides = spatial(strides, data_format)
        self.dilations = spatial(dilations, data_format)
        self._padding = padding
        self._explicit = explicit_paddings

    @property
    def channel_axis(self) -> int:
        """Axis of the channels."""
        return self.data_format.index("C")

    def pads(self, shape: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
        """Returns the spatial padding for an input shape and a spatial kernel shape."""
        extent = dilated(kernel, self.dilations)
        space = spatial(shape, self.data_format)
        return pads_of(self._padding, self._explicit, self.data_format, space, extent, self.strides)

    def convolve(self, x: Any, kernel: Any, groups: int) -> Any:
        """Convolves with a kernel [*space, in, out]."""
        pads = self.pads(x.shape, kernel.shape[:-2])
        return self._convolve(x, kernel, groups, self.strides, pads)

    def form_for_cpus(self, x: Any, kernel: Any) -> Callable[[Any, Any], Any] | None:
        """Returns what computes the same as ``convolve`` faster on CPUs; None if nothing does."""
        is_plain = self.data_format == "NHWC" and set(self.dilations) == {1}
        if not is_plain or x.dtype != jnp.float32 or kernel.dtype != jnp.float32:
            return None
        pads = self.pads(x.shape, kernel.shape[:-2])
        rows, columns = (
            (size + low + high - extent) // step + 1
            for size, (low, high), extent, step in zip(
                x.shape[1:3], pads, kernel.shape, self.strides, strict=False
            )
        )
        if is_product_of_windows(x.shape, kernel.shape, (rows, columns)):
            return partial(multiply_windows, strides=self.strides, pads=pads)
        step_y, step_x = self.strides
        count = columns_at_once(x.shape, kernel.shape, step_x, columns)
        if count == 1:
            return None
        convolve = partial(self._convolve, groups=1, strides=(step_y, count * step_x), pads=pads)
        return partial(convolve_columns, count, step_x, convolve)

    def has_blocks(self, shape: Sequence[int], kernel: Sequence[int]) -> bool:
        """Whether the windows on an input of this shape cover it and don't overlap."""
        if self.data_format != "NHWC" or set(self.dilations) != {1}:
            return False
        is_covered = all(
            size % step == 0 for size, step in zip(shape[1:3], self.strides, strict=True)
        )
        pads = self.pads(shape, kernel[:-2])
        return is_covered and self.strides == tuple(kernel[:-2]) and not any(map(any, pads))

    def _convolve(
        self, x: Any, kernel: Any, groups: int, strides: Sequence[int], pads: Pairs
    ) -> Any:
        letters = self.data_format.replace("N", "").replace("C", "")
        return lax.conv_general_dilated(
            x,
            kernel,
            strides,
            pads,
            rhs_dilation=self.dilations,
            dimension_numbers=(self.data_format, f"{letters}IO", self.data_format),
            feature_group_count=groups,
        )


def convolved(x: Any, kernel: Any, geometry: Geometry) -> Any:
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    groups = x.shape[geometry.channel_axis] // kernel.shape[-2]
    whole = partial(geometry.convolve, groups=groups)
    if groups != 1:
        return whole(x, kernel)
    if any(size != 1 for size in kernel.shape[:-2]):
        fast = geometry.form_for_cpus(x, kernel)
        return on_cpus(fast, whole, x, kernel) if fast else whole(x, kernel)
    if geometry.channel_axis != x.ndim - 1 or 0 in x.shape:
        return whole(x, kernel)
    if any(low or high for low, high in geometry.pads(x.shape, kernel.shape[:-2])):
        return whole(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=partial(_pointwise, geometry), default=whole)


def _pointwise(geometry: Geometry, x: Any, kernel: Any) -> Any:
    """Convolves with a kernel of one element: a product of matrices."""
    steps = tuple(slice(None, None, stride) for stride in geometry.strides)
    x = x[(slice(None), *steps, slice(None))]
    return jnp.matmul(x, kernel.reshape(kernel.shape[-2:]))


@evaluates("Conv2D")
def _conv2d(
    input: Any,
    filter: Any,
    *,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
    dilations: Sequence[int],
) -> Any:
    geometry = Geometry(strides, padding, data_format, dilations, explicit_paddings)
    return convolved(input, filter, geometry)


@evaluates("Conv3D")
def _conv3d(
    input: Any,
    filter: Any,
    *,
    strides: Sequence[int],
    padding: str,
    data_format: str,
    dilations: Sequence[int],
) -> Any:
    return convolved(input, filter, Geometry(strides, padding, data_format, dilations))


def _depthwise(x: Any, kernel: Any, geometry: Geometry) -> Any:
    """Convolves each channel with its own kernels [*space, channels, multiplier]."""
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    space, (channels, multiplier) = kernel.shape[:-2], kernel.shape[-2:]
    grouped = partial(_grouped, geometry)
    shifted = (
        multiplier == 1
        and max(space) <= _MAX_SHIFTED_KERNEL
        and set(geometry.dilations) == {1}
        and geometry.data_format == "NHWC"
        and 0 not in x.shape
    )
    if not shifted or not channels:
        return grouped(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=partial(_shifted, geometry), default=grouped)


def _grouped(geometry: Geometry, x: Any, kernel: Any) -> Any:
    *space, channels, multiplier = kernel.shape
    return geometry.convolve(x, kernel.reshape(*space, 1, channels * multiplier), channels)


def _shifted(geometry: Geometry, x: Any, kernel: Any) -> Any:
    """Adds up the shifted input times one kernel element each."""
    rows, columns = kernel.shape[:2]
    pads = geometry.pads(x.shape, (rows, columns))
    x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
    step_y, step_x = geometry.strides
    height = (x.shape[1] - rows) // step_y + 1
    width = (x.shape[2] - columns) // step_x + 1
    total = None
    for i in range(rows):
        for j in range(columns):
            part = lax.slice(
                x,
                (0, i, j, 0),
                (
                    x.shape[0],
                    i + (height - 1) * step_y + 1,
                    j + (width - 1) * step_x + 1,
                    x.shape[3],
                ),
                (1, step_y, step_x, 1),
            )
            term = part * kernel[i, j, :, 0]
            total = term if total is None else total + term
    return total


@evaluates("DepthwiseConv2dNative")
def _depthwise_conv2d_native(
    input: Any,
    filter: Any,
    *,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
    dilations: Sequence[int],
) -> Any:
    geometry = Geometry(strides, padding, data_format, dilations, explicit_paddings)
    return _depthwise(input, filter, geometry)


# Gradients. A convolution is linear in either operand; JAX transposes it.


def _transposed(linear: Callable[[Any], Any], shape: Sequence[int], cotangent: Any) -> Any:
    cotangent = jnp.asarray(cotangent)
    operand = jax.ShapeDtypeStruct(tuple(shape), cotangent.dtype)  # type: ignore[no-untyped-call]
    (result,) = jax.linear_transpose(linear, operand)(cotangent)
    return result


def _input_shape(
    input_sizes: Any, channels: int, out_backprop: Any, data_format: str
) -> tuple[int, ...]:
    shape = sizes(input_sizes)
    if len(shape) == out_backprop.ndim:
        return shape
    batch = out_backprop.shape[0]  # only the spatial sizes were given
    return (batch, *shape, channels) if data_format == "NHWC" else (batch, channels, *shape)


@evaluates("Conv2DBackpropInput", static=("input_sizes",))
def _conv2d_backprop_input(
    input_sizes: Any,
    filter: Any,
    out_backprop: Any,
    *,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
    dilations: Sequence[int],
) -> Any:
    geometry = Geometry(strides, padding, data_format, dilations, explicit_paddings)
    shape = _input_shape(input_sizes, filter.shape[-2], out_backprop, data_format)
    groups = shape[geometry.channel_axis] // filter.shape[-2]
    kernel = jnp.asarray(filter)

    def whole(cotangent: Any, kernel: Any) -> Any:
        return _transposed(lambda x: geometry.convolve(x, kernel, groups), shape, cotangent)

    cotangent = jnp.asarray(out_backprop)
    if groups != 1 or not geometry.has_blocks(shape, kernel.shape) or 0 in cotangent.shape:
        return whole(cotangent, kernel)
    return lax.platform_dependent(cotangent, kernel, cpu=_spread, default=whole)


def _spread(cotangent: Any, kernel: Any) -> Any:
    """Writes the block of results that each input element has: a product of matrices."""
    batch, rows, columns, _ = cotangent.shape
    height, width, results, _ = kernel.shape
    blocks = jnp.einsum("nyxc,abrc->nyaxbr", cotangent, kernel)
    return blocks.reshape(batch, rows * height, columns * width, results)


@evaluates("Conv2DBackpropFilter", static=("filter_sizes",))
def _conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    *,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
    dilations: Sequence[int],
) -> Any:
    geometry = Geometry(strides, padding, data_format, dilations, explicit_paddings)
    shape = sizes(filter_sizes)
    x = jnp.asarray(input)
    groups = x.shape[geometry.channel_axis] // shape[-2]
    return _transposed(lambda kernel: geometry.convolve(x, kernel, groups), shape, out_backprop)


@evaluates("DepthwiseConv2dNativeBackpropInput", static=("input_sizes",))
def _depthwise_backprop_input(
    input_sizes: Any,
    filter: Any,
    out_backprop: Any,
    *,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
    dilations: Sequence[int],
) -> Any:
    geometry = Geometry(strides, padding, data_format, dilations, explicit_paddings)
    kernel = jnp.asarray(filter)
    return _transposed(lambda x: _grouped(geometry, x, kernel), sizes(input_sizes), out_backprop)


@evaluates("DepthwiseConv2dNativeBackpropFilter", static=("filter_sizes",))
def _depthwise_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    *,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
    dilations: Sequence[int],
) -> Any:
    geometry = Geometry(strides, padding, data_format, dilations, explicit_paddings)
    x = jnp.asarray(input)
    shape = sizes(filter_sizes)
    return _transposed(lambda kernel: _grouped(geometry, x, kernel), shape, out_backprop)


@evaluates("Conv3DBackpropInputV2", static=("input_sizes",))
def _conv3d_backprop_input_v2(
    input_sizes: Any,
    filter: Any,
    out_backprop: Any,
    *,
    strides: Sequence[int],
    padding: str,
    data_format: str,
    dilations: Sequence[int],
) -> Any:
    geometry = Geometry(strides, padding, data_format, dilations)
    shape, kernel = sizes(input_sizes), jnp.asarray(filter)
    groups = shape[geometry.channel_axis] // kernel.shape[-2]
    return _transposed(lambda x: geometry.convolve(x, kernel, groups), shape, out_backprop)


@evaluates("Conv3DBackpropFilterV2", static=("filter_sizes",))
def _conv3d_backprop_filter_v2(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    *,
    strides: Sequence[int],
    padding: str,
    data_format: str,
    dilations: Sequence[int],
) -> Any:
    geometry = Geometry(strides, padding, data_format, dilations)
    x, shape = jnp.asarray(input), sizes(filter_sizes)
    groups = x.shape[geometry.channel_axis] // shape[-2]
    return _transposed(lambda kernel: geometry.convolve(x, kernel, groups), shape, out_backprop)
