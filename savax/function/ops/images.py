"""Resizing of images."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from savax.function.ops._registry import evaluates
from savax.function.ops.shaping import sizes

# Sampling positions are computed as TensorFlow's kernels do, in float32: they decide which pixel
# is the nearest.


def positions(size: int, wanted: int, align_corners: bool, half_pixel_centers: bool) -> Any:
    """Returns where each wanted pixel lies in an axis of the source."""
    if align_corners and wanted > 1:
        scale = np.float32(size - 1) / np.float32(wanted - 1)
    else:
        scale = np.float32(size) / np.float32(wanted)
    pixels = np.arange(wanted, dtype=np.float32)
    return (pixels + np.float32(0.5)) * scale if half_pixel_centers else pixels * scale


def _interpolated(x: Any, axis: int, positions: Any) -> Any:
    """Interpolates linearly between the two neighbours of each position along an axis."""
    below = np.floor(positions)
    lower = np.maximum(below.astype(np.int32), 0)
    upper = np.minimum(np.ceil(positions).astype(np.int32), x.shape[axis] - 1)
    weight = (positions - below).astype(np.float32)
    weight = weight.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    first, second = jnp.take(x, lower, axis), jnp.take(x, upper, axis)
    return first + (second - first) * weight


def bilinear(x: Any, size: Any, align_corners: bool, half_pixel_centers: bool) -> Any:
    x = x.astype(jnp.float32)
    for axis, wanted in zip((2, 1), reversed(sizes(size)), strict=True):
        at = positions(x.shape[axis], wanted, align_corners, half_pixel_centers)
        x = _interpolated(x, axis, at - np.float32(0.5) if half_pixel_centers else at)
    return x


def _nearest(x: Any, size: Any, align_corners: bool, half_pixel_centers: bool) -> Any:
    for axis, wanted in zip((1, 2), sizes(size), strict=True):
        at = positions(x.shape[axis], wanted, align_corners, half_pixel_centers)
        # roundf of the kernel takes halves away from zero.
        pixel = np.floor(at + np.float32(0.5)) if align_corners else np.floor(at)
        x = jnp.take(x, np.clip(pixel.astype(np.int32), 0, x.shape[axis] - 1), axis)
    return x


@evaluates("ResizeBilinear", static=("size",))
def _resize_bilinear(
    images: Any, size: Any, *, align_corners: bool, half_pixel_centers: bool
) -> Any:
    return bilinear(jnp.asarray(images), size, align_corners, half_pixel_centers)


@evaluates("ResizeNearestNeighbor", static=("size",))
def _resize_nearest_neighbor(
    images: Any, size: Any, *, align_corners: bool, half_pixel_centers: bool
) -> Any:
    return _nearest(jnp.asarray(images), size, align_corners, half_pixel_centers)


@evaluates("ResizeBilinearGrad")
def _resize_bilinear_grad(
    grads: Any, original_image: Any, *, align_corners: bool, half_pixel_centers: bool
) -> Any:
    size = np.array(grads.shape[1:3])
    source = jax.ShapeDtypeStruct(original_image.shape, jnp.float32)  # type: ignore[no-untyped-call]
    transpose = jax.linear_transpose(
        lambda x: bilinear(x, size, align_corners, half_pixel_centers), source
    )
    return transpose(jnp.asarray(grads))[0].astype(original_image.dtype)


@evaluates("ResizeNearestNeighborGrad", static=("size",))
def _resize_nearest_neighbor_grad(
    grads: Any, size: Any, *, align_corners: bool, half_pixel_centers: bool
) -> Any:
    batch, height, width, channels = grads.shape
    shape = (batch, *sizes(size), channels)
    source = jax.ShapeDtypeStruct(shape, grads.dtype)  # type: ignore[no-untyped-call]
    wanted = np.array([height, width])
    transpose = jax.linear_transpose(
        lambda x: _nearest(x, wanted, align_corners, half_pixel_centers), source
    )
    return transpose(jnp.asarray(grads))[0]
