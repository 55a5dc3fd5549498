"""Forms of pools and convolutions that XLA computes faster on CPUs, and when they are worth it.

The measurements are in docs/decisions/0014.
"""

from __future__ import annotations

import math
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from savax.function.ops._sizes import all_known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.function.ops._windows_math import Pairs

# Pools whose windows are larger than this along an axis stay one operation.
_MAX_POOLED = 8
# XLA has a fast kernel for convolutions with more channels than this on one side.
_FEW_CHANNELS = 16
# How many results a product computes at least to be fast, in general and from images of 3 colours.
_WIDE, _WIDE_FOR_COLOURS = 32, 64
_MAX_COLUMNS = 8
# A product of so few windows of an image, with so many channels at least, is faster than XLA's
# convolution, while all windows take no more bytes than this.
_FEW_WINDOWS, _MANY_CHANNELS = 64, 128
_MAX_WINDOW_BYTES = 14 << 20
# XLA's convolution is up to 100 times slower where the kernel is larger than the image.
_MAX_BYTES_OF_LARGE_WINDOWS = 256 << 20
# How much more arithmetic a convolution of several columns may take.
_MAX_GROWTH = 4


def on_cpus(fast: Callable[..., Any], plain: Callable[..., Any], *operands: Any) -> Any:
    """Calls one function on CPUs and another elsewhere, which gives the derivatives of both."""
    computed = jax.custom_jvp(fast)
    computed.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return lax.platform_dependent(*operands, cpu=computed, default=plain)


def reduce_windows(
    operation: Callable[[Any, Any], Any],
    x: Any,
    initial: Any,
    window: Sequence[int],
    strides: Sequence[int],
    padding: Pairs,
) -> Any:
    """Reduces windows as ``lax.reduce_window`` does; on CPUs along one axis after the other.

    Args:
      operation: ``lax.max`` or ``lax.add``.
      x: the array.
      initial: what padding holds, without an effect on the result; a scalar of the same dtype.
      window: sizes over all axes.
      strides: steps over all axes.
      padding: pairs over all axes.
    """
    plain = partial(
        lax.reduce_window,
        init_value=initial,
        computation=operation,
        window_dimensions=window,
        window_strides=strides,
        padding=padding,
    )
    is_small = all_known(x.shape) and 0 not in x.shape and max(window) <= _MAX_POOLED
    if not is_small or not _have_results(x.shape, window, padding):
        return plain(x)

    def along_axes(x: Any) -> Any:
        x = lax.pad(x, initial, [(low, high, 0) for low, high in padding])
        for axis, (size, step) in enumerate(zip(window, strides, strict=True)):
            length = (x.shape[axis] - size) // step * step + 1
            parts = [lax.slice_in_dim(x, i, i + length, step, axis) for i in range(size)]
            x = reduce(operation, parts)
        return x

    return on_cpus(along_axes, plain, x)


def _have_results(shape: Sequence[int], window: Sequence[int], padding: Pairs) -> bool:
    return all(
        low + size + high >= extent
        for size, extent, (low, high) in zip(shape, window, padding, strict=True)
    )


def columns_at_once(shape: Sequence[int], kernel: Sequence[int], stride: int, width: Any) -> int:
    """Returns how many neighbouring columns a convolution computes best at once on CPUs.

    Args:
      shape: of the input, NHWC.
      kernel: shape of the kernel, HWIO.
      stride: step along the columns.
      width: columns of the result.
    """
    channels, results = kernel[-2:]
    if not all_known((*shape, width)) or 0 in (*shape, *kernel, width) or channels > _FEW_CHANNELS:
        return 1
    is_coloured = channels == 3
    wide = _WIDE_FOR_COLOURS if is_coloured else _WIDE
    count = _MAX_COLUMNS
    while count > 1:
        wanted = count * results
        is_slow = is_coloured and _FEW_CHANNELS < wanted < wide
        grows = kernel[1] + (count - 1) * stride > _MAX_GROWTH * kernel[1]
        if wanted <= wide and width % count == 0 and not is_slow and not grows:
            return count
        count //= 2
    return 1


def convolve_columns(
    count: int, stride: int, convolve: Callable[[Any, Any], Any], x: Any, kernel: Any
) -> Any:
    """Convolves with a kernel that computes several neighbouring columns as channels.

    Args:
      count: columns at once.
      stride: step from a column to the next one.
      convolve: ``convolve(x, kernel)``, with ``count`` times the step along the columns.
      x: the input, NHWC.
      kernel: HWIO.
    """
    copies = [
        jnp.pad(kernel, ((0, 0), (i * stride, (count - 1 - i) * stride), (0, 0), (0, 0)))
        for i in range(count)
    ]
    y = convolve(x, jnp.concatenate(copies, axis=-1))
    return y.reshape(*y.shape[:2], y.shape[2] * count, kernel.shape[-1])


def is_product_of_windows(
    shape: Sequence[int], kernel: Sequence[int], space: Sequence[int]
) -> bool:
    """Whether a convolution is best one product of all windows and the kernel on CPUs.

    Args:
      shape: of the input, NHWC.
      kernel: its shape, HWIO.
      space: rows and columns of the result.
    """
    if not all_known((*shape, *space)) or 0 in (*shape, *kernel, *space):
        return False
    num_bytes = 4 * shape[0] * math.prod(space) * math.prod(kernel[:-1])
    if any(size < extent for size, extent in zip(shape[1:3], kernel[:2], strict=True)):
        return num_bytes <= _MAX_BYTES_OF_LARGE_WINDOWS
    is_deep = math.prod(space) <= _FEW_WINDOWS and shape[3] >= _MANY_CHANNELS
    return is_deep and num_bytes <= _MAX_WINDOW_BYTES


def multiply_windows(x: Any, kernel: Any, *, strides: Sequence[int], pads: Pairs) -> Any:
    """Convolves by a product of all windows and the kernel.

    Args:
      x: the input, NHWC.
      kernel: HWIO.
      strides: steps along rows and columns.
      pads: pairs for rows and columns.
    """
    height, width, channels, results = kernel.shape
    x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
    rows = (x.shape[1] - height) // strides[0] + 1
    columns = (x.shape[2] - width) // strides[1] + 1
    parts = [
        x[:, i : i + (rows - 1) * strides[0] + 1 : strides[0]][
            :, :, j : j + (columns - 1) * strides[1] + 1 : strides[1]
        ]
        for i in range(height)
        for j in range(width)
    ]
    windows = jnp.concatenate(parts, axis=-1).reshape(-1, height * width * channels)
    y = windows @ kernel.reshape(-1, results)
    return y.reshape(x.shape[0], rows, columns, results)
