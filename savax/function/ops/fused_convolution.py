"""Convolutions of any number of axes, and those that pad or resize their input themselves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from savax.errors import InvalidArgumentError
from savax.function.ops._registry import evaluates
from savax.function.ops.convolution_evaluations import Geometry, convolved
from savax.function.ops.images import bilinear
from savax.function.ops.joining import mirror_pad

if TYPE_CHECKING:
    from collections.abc import Sequence

_LAYOUTS = {
    ("CHANNELS_LAST", 4): "NHWC",
    ("CHANNELS_LAST", 5): "NDHWC",
    ("CHANNELS_FIRST", 4): "NCHW",
    ("CHANNELS_FIRST", 5): "NCDHW",
}


@evaluates("Conv", ignores=("groups",))  # as many as the shapes say
def _conv(
    input: Any,
    filter: Any,
    *,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
    dilations: Sequence[int],
    batch_dims: int,
) -> Any:
    layout = _LAYOUTS.get((data_format, filter.ndim))
    if layout is None or input.ndim - batch_dims + 1 != filter.ndim:
        raise InvalidArgumentError(
            f"Conv takes an input of {batch_dims} batch axes, 2 or 3 spatial ones and channels, "
            f"and a kernel for them; found {input.shape} and {filter.shape}."
        )
    x = jnp.asarray(input)
    batch = x.shape[:batch_dims]
    x = x.reshape(math.prod(batch), *x.shape[batch_dims:])
    geometry = Geometry(
        strides, padding, layout, dilations or (1,) * len(layout), explicit_paddings
    )
    found = convolved(x, filter, geometry)
    return found.reshape(*batch, *found.shape[1:])


@evaluates("FusedPadConv2D", static=("paddings",))
def _fused_pad_conv2d(
    input: Any, paddings: Any, filter: Any, *, mode: str, strides: Sequence[int], padding: str
) -> Any:
    padded = mirror_pad(input, paddings, mode=mode)
    return convolved(padded, filter, Geometry(strides, padding, "NHWC", (1, 1, 1, 1)))


@evaluates("FusedResizeAndPadConv2D", static=("size", "paddings"))
def _fused_resize_and_pad_conv2d(
    input: Any,
    size: Any,
    paddings: Any,
    filter: Any,
    *,
    resize_align_corners: bool,
    mode: str,
    strides: Sequence[int],
    padding: str,
) -> Any:
    resized = bilinear(jnp.asarray(input), size, resize_align_corners, False).astype(filter.dtype)
    return _fused_pad_conv2d(resized, paddings, filter, mode=mode, strides=strides, padding=padding)
