"""TensorFlow's pools and their gradients on JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function.ops._cpu_windows import reduce_windows
from savax.function.ops._registry import evaluates
from savax.function.ops._windows_math import pads_of, spatial, spatial_axes
from savax.function.ops.shaping import sizes

if TYPE_CHECKING:
    from collections.abc import Sequence


class Pool:
    """The attributes of a pool, resolved for an input shape.

    Attributes:
      window: sizes of the window over all axes.
      strides: its steps over all axes.
      padding: pairs over all axes.
    """

    def __init__(
        self,
        shape: Sequence[int],
        ksize: Sequence[int],
        strides: Sequence[int],
        padding: str,
        data_format: str,
        explicit_paddings: Sequence[int] = (),
    ) -> None:
        self.window = tuple(ksize)
        self.strides = tuple(strides)
        if padding == "EXPLICIT":
            flat = pads_of(padding, explicit_paddings, data_format, (), (), ())
            pairs = [(0, 0)] * len(shape)
            for axis, pair in zip(spatial_axes(data_format, len(shape)), flat, strict=True):
                pairs[axis] = pair
        else:  # depthwise max pooling moves along the channels too
            found = lax.padtype_to_pads(shape, self.window, self.strides, padding)
            pairs = [(int(low), int(high)) for low, high in found]
        self.padding = pairs
        self.space = spatial(range(len(shape)), data_format)

    def maximum(self, x: Any) -> Any:
        """Returns the largest element of each window."""
        dtype = x.dtype
        lowest = -np.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min  # type: ignore[no-untyped-call]
        initial = np.array(lowest, dtype)
        return reduce_windows(lax.max, x, initial, self.window, self.strides, self.padding)

    def average(self, x: Any) -> Any:
        """Returns the mean of each window, without what padding added."""
        return self.total(x) / jnp.asarray(self.counts(x.shape), x.dtype)

    def total(self, x: Any) -> Any:
        """Returns the sum of each window."""
        zero = np.zeros((), x.dtype)
        return reduce_windows(lax.add, x, zero, self.window, self.strides, self.padding)

    def counts(self, shape: Sequence[int]) -> Any:
        """Returns the number of real elements per window, broadcastable to the result."""
        counts = np.ones((1,) * len(shape))
        for axis, size in enumerate(shape):
            low, high = self.padding[axis]
            window, stride = self.window[axis], self.strides[axis]
            starts = np.arange(0, low + size + high - window + 1, stride) - low
            ends = np.minimum(starts + window, size)
            along = ends - np.maximum(starts, 0)
            if (along == window).all():
                along = np.array([window])
            counts = counts * along.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        return counts


@evaluates("MaxPool")
def _max_pool(
    input: Any,
    *,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
) -> Any:
    x = jnp.asarray(input)
    return Pool(x.shape, ksize, strides, padding, data_format, explicit_paddings).maximum(x)


@evaluates("MaxPoolV2", static=("ksize", "strides"))
def _max_pool_v2(input: Any, ksize: Any, strides: Any, *, padding: str, data_format: str) -> Any:
    x = jnp.asarray(input)
    return Pool(x.shape, sizes(ksize), sizes(strides), padding, data_format).maximum(x)


@evaluates("MaxPool3D")
def _max_pool_3d(
    input: Any, *, ksize: Sequence[int], strides: Sequence[int], padding: str, data_format: str
) -> Any:
    x = jnp.asarray(input)
    return Pool(x.shape, ksize, strides, padding, data_format).maximum(x)


@evaluates("AvgPool")
def _avg_pool(
    value: Any, *, ksize: Sequence[int], strides: Sequence[int], padding: str, data_format: str
) -> Any:
    x = jnp.asarray(value)
    return Pool(x.shape, ksize, strides, padding, data_format).average(x)


@evaluates("AvgPool3D")
def _avg_pool_3d(
    input: Any, *, ksize: Sequence[int], strides: Sequence[int], padding: str, data_format: str
) -> Any:
    x = jnp.asarray(input)
    return Pool(x.shape, ksize, strides, padding, data_format).average(x)


@evaluates("MaxPoolGrad")
def _max_pool_grad(
    orig_input: Any,
    orig_output: Any,
    grad: Any,
    *,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
) -> Any:
    x = jnp.asarray(orig_input)
    pool = Pool(x.shape, ksize, strides, padding, data_format, explicit_paddings)
    return jax.vjp(pool.maximum, x)[1](jnp.asarray(grad))[0]


@evaluates("MaxPoolGradV2", static=("ksize", "strides"))
def _max_pool_grad_v2(
    orig_input: Any,
    orig_output: Any,
    grad: Any,
    ksize: Any,
    strides: Any,
    *,
    padding: str,
    data_format: str,
) -> Any:
    x = jnp.asarray(orig_input)
    pool = Pool(x.shape, sizes(ksize), sizes(strides), padding, data_format)
    return jax.vjp(pool.maximum, x)[1](jnp.asarray(grad))[0]


@evaluates("MaxPool3DGrad")
def _max_pool_3d_grad(
    orig_input: Any,
    orig_output: Any,
    grad: Any,
    *,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
    data_format: str,
) -> Any:
    x = jnp.asarray(orig_input)
    pool = Pool(x.shape, ksize, strides, padding, data_format)
    return jax.vjp(pool.maximum, x)[1](jnp.asarray(grad))[0]


@evaluates("MaxPoolGradGradV2", static=("ksize", "strides"))
def _max_pool_grad_grad_v2(
    orig_input: Any,
    orig_output: Any,
    grad: Any,
    ksize: Any,
    strides: Any,
    *,
    padding: str,
    data_format: str,
) -> Any:
    x = jnp.asarray(orig_input)
    pool = Pool(x.shape, sizes(ksize), sizes(strides), padding, data_format)
    return jax.jvp(pool.maximum, (x,), (jnp.asarray(grad),))[1]


@evaluates("MaxPoolGradGrad", "MaxPool3DGradGrad")
def _max_pool_grad_grad(
    orig_input: Any,
    orig_output: Any,
    grad: Any,
    *,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
    data_format: str,
) -> Any:
    x = jnp.asarray(orig_input)
    pool = Pool(x.shape, ksize, strides, padding, data_format)
    return jax.jvp(pool.maximum, (x,), (jnp.asarray(grad),))[1]


@evaluates("AvgPoolGrad", static=("orig_input_shape",))
def _avg_pool_grad(
    orig_input_shape: Any,
    grad: Any,
    *,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
    data_format: str,
) -> Any:
    return _average_gradient(orig_input_shape, grad, ksize, strides, padding, data_format)


@evaluates("AvgPool3DGrad", static=("orig_input_shape",))
def _avg_pool_3d_grad(
    orig_input_shape: Any,
    grad: Any,
    *,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
    data_format: str,
) -> Any:
    return _average_gradient(orig_input_shape, grad, ksize, strides, padding, data_format)


def _average_gradient(
    shape: Any, grad: Any, ksize: Sequence[int], strides: Sequence[int], padding: str, layout: str
) -> Any:
    grad = jnp.asarray(grad)
    pool = Pool(sizes(shape), ksize, strides, padding, layout)
    operand = jax.ShapeDtypeStruct(sizes(shape), grad.dtype)  # type: ignore[no-untyped-call]
    return jax.linear_transpose(pool.average, operand)(grad)[0]
