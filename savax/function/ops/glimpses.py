"""Parts of images around given places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from savax.errors import InvalidArgumentError
from savax.function.ops._registry import evaluates
from savax.function.ops.shaping import sizes
from savax.function.ops.stateful_random import taken
from savax.function.ops.stateless_random import normal_samples, uniform_samples
from savax.types import as_dtype

if TYPE_CHECKING:
    from savax.function.evaluation._walk import NodeContext

# Counters for each element of noise.
_RESERVED = 256


def _noise(ctx: NodeContext, images: Any, shape: tuple[int, ...], noise: str, uniform: bool) -> Any:
    """Returns what is seen beside the images. TensorFlow's noise follows no seed."""
    kind = noise or ("uniform" if uniform else "gaussian")
    if kind not in ("uniform", "gaussian", "zero") or (uniform and noise not in ("", "uniform")):
        raise InvalidArgumentError(
            f"A glimpse has the noise {noise!r} and uniform_noise={uniform}; expected uniform, "
            "gaussian or zero, and uniform_noise for the first only."
        )
    if kind == "zero" or 0 in shape:
        return jnp.zeros(shape, jnp.float32)
    state = taken(ctx, int(np.prod(shape)) * _RESERVED)
    whole, dtype = np.array(shape, np.int64), as_dtype("float32")
    if kind == "uniform":
        low, high = (f(images, axis=(1, 2, 3), keepdims=True) for f in (jnp.min, jnp.max))
        return low + uniform_samples(state, whole, dtype) * (high - low)
    mean, deviation, low, high = (
        f(images, axis=(1, 2), keepdims=True) for f in (jnp.mean, jnp.std, jnp.min, jnp.max)
    )
    return jnp.clip(mean + normal_samples(state, whole, dtype) * deviation, low, high)


@jax.jit
def _glimpses(images: Any, begins: Any, noise: Any) -> Any:
    """Returns the parts of images from some places on, and noise where there is no image."""
    found, valid = images, jnp.ones((1, 1, 1, 1), bool)
    for axis in (1, 2):
        size = images.shape[axis]
        places = begins[:, axis - 1, None] + jnp.arange(noise.shape[axis], dtype=jnp.int32)
        shape = [1, 1, 1, 1]
        shape[0], shape[axis] = places.shape
        index = places.reshape(shape)
        found = jnp.take_along_axis(found, jnp.clip(index, 0, size - 1), axis=axis)
        valid = valid & (index >= 0) & (index < size)
    return jnp.where(valid, found, noise)


def _extracted(
    ctx: NodeContext,
    operands: tuple[Any, Any, Any],
    begins: Any,
    noise: str,
    uniform_noise: bool,
) -> Any:
    images, size, offsets = operands
    window = sizes(size)
    if images.ndim != 4 or len(window) != 2 or offsets.shape != (images.shape[0], 2):
        raise InvalidArgumentError(
            "A glimpse takes [batch, height, width, channels], a height and a width, and offsets "
            f"[batch, 2]; found {images.shape}, {list(window)} and {offsets.shape}."
        )
    shape = (images.shape[0], *window, images.shape[3])
    beside = _noise(ctx, images, shape, noise, uniform_noise)
    if 0 in images.shape:
        return beside
    whole = np.array(images.shape[1:3], np.float32)
    return _glimpses(images, begins(offsets, whole, np.array(window, np.float32)), beside)


def _whole(places: Any) -> Any:
    """Cuts places to integers; what is far outside stays there."""
    return jnp.clip(places, -(2.0**30), 2.0**30).astype(jnp.int32)


@evaluates("ExtractGlimpse", static=("size",), with_context=True, draws=True)
def _extract_glimpse(
    ctx: NodeContext,
    input: Any,
    size: Any,
    offsets: Any,
    *,
    centered: bool,
    normalized: bool,
    uniform_noise: bool,
    noise: str,
) -> Any:
    def begins(offsets: Any, whole: Any, window: Any) -> Any:
        places = offsets * whole if normalized else offsets
        places = places / 2 + whole / 2 if centered else places
        return _whole(places - window / 2)

    operands = jnp.asarray(input), size, jnp.asarray(offsets)
    return _extracted(ctx, operands, begins, noise, uniform_noise)


@evaluates("ExtractGlimpseV2", static=("size",), with_context=True, draws=True)
def _extract_glimpse_v2(
    ctx: NodeContext,
    input: Any,
    size: Any,
    offsets: Any,
    *,
    centered: bool,
    normalized: bool,
    uniform_noise: bool,
    noise: str,
) -> Any:
    def begins(offsets: Any, whole: Any, window: Any) -> Any:
        if not normalized:
            return _whole(offsets + whole / 2 if centered else offsets)
        places = offsets * whole
        return _whole(places / 2 + whole / 2 - window / 2 if centered else places)

    operands = jnp.asarray(input), size, jnp.asarray(offsets)
    return _extracted(ctx, operands, begins, noise, uniform_noise)
