"""Moving blocks of space into the batch or the channels, and back."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from savax.function.ops._registry import evaluates
from savax.function.ops.shaping import sizes


@evaluates("SpaceToBatchND", static=("block_shape", "paddings"))
def _space_to_batch_nd(input: Any, block_shape: Any, paddings: Any) -> Any:
    blocks = sizes(block_shape)
    count = len(blocks)
    pads = [(int(a), int(b)) for a, b in np.asarray(paddings)]
    rest = len(input.shape) - 1 - count
    x = jnp.pad(input, [(0, 0), *pads, *[(0, 0)] * rest])
    shape = [x.shape[0]]
    for size, block in zip(x.shape[1:], blocks, strict=False):
        shape += [size // block, block]
    x = x.reshape(*shape, *x.shape[1 + count :])
    inner = [2 * i + 2 for i in range(count)]
    outer = [2 * i + 1 for i in range(count)]
    x = x.transpose(*inner, 0, *outer, *range(1 + 2 * count, x.ndim))
    batch = shape[0] * int(np.prod(blocks))
    return x.reshape(batch, *x.shape[count + 1 :])


@evaluates("BatchToSpaceND", static=("block_shape", "crops"))
def _batch_to_space_nd(input: Any, block_shape: Any, crops: Any) -> Any:
    blocks = sizes(block_shape)
    count = len(blocks)
    batch = input.shape[0] // int(np.prod(blocks))
    x = jnp.reshape(input, (*blocks, batch, *input.shape[1:]))
    order = [count]
    for i in range(count):
        order += [count + 1 + i, i]
    x = x.transpose(*order, *range(2 * count + 1, x.ndim))
    space = [size * block for size, block in zip(input.shape[1:], blocks, strict=False)]
    x = x.reshape(batch, *space, *input.shape[1 + count :])
    cut = [
        slice(int(low), size - int(high))
        for (low, high), size in zip(np.asarray(crops), space, strict=True)
    ]
    return x[(slice(None), *cut)]


@evaluates("SpaceToBatch", static=("paddings",))
def _space_to_batch(input: Any, paddings: Any, *, block_size: int) -> Any:
    return _space_to_batch_nd(input, np.array([block_size] * 2), paddings)


@evaluates("BatchToSpace", static=("crops",))
def _batch_to_space(input: Any, crops: Any, *, block_size: int) -> Any:
    return _batch_to_space_nd(input, np.array([block_size] * 2), crops)


@evaluates("SpaceToDepth")
def _space_to_depth(input: Any, *, block_size: int, data_format: str) -> Any:
    x = jnp.asarray(input)
    if data_format == "NCHW":
        x = x.transpose(0, 2, 3, 1)
    n, h, w, c = x.shape
    b = block_size
    x = x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(n, h // b, w // b, b * b * c)
    return x.transpose(0, 3, 1, 2) if data_format == "NCHW" else x


@evaluates("DepthToSpace")
def _depth_to_space(input: Any, *, block_size: int, data_format: str) -> Any:
    x = jnp.asarray(input)
    if data_format == "NCHW":
        x = x.transpose(0, 2, 3, 1)
    n, h, w, c = x.shape
    b = block_size
    x = x.reshape(n, h, w, b, b, c // (b * b)).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(n, h * b, w * b, c // (b * b))
    return x.transpose(0, 3, 1, 2) if data_format == "NCHW" else x
