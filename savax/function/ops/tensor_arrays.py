"""TensorArrays of version 1 graphs: lists that travel along the flow edge.

The flow, a float for TensorFlow that orders writes and reads, holds the list here; the handle holds
nothing. The flow of a gradient holds the gradient's list. In TensorFlow there is one such list for
an array, and all writes go to it; here each starts with zeros, and the flows are added up, as the
graph adds the floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import InvalidArgumentError
from savax.function.evaluation._plan_values import (
    GradientArray,
    ResourceHandle,
    TensorListValue,
    static_value,
)
from savax.function.ops._registry import evaluates
from savax.function.ops.tensor_lists import (
    list_buffer,
    new_list,
    resized_list,
    scattered_list,
)

if TYPE_CHECKING:
    from savax.function.evaluation._walk import NodeContext
    from savax.types import DType, Shape

# The handles of all arrays, and of all their gradients: programs are compiled for each handle.
_ARRAY = ResourceHandle("TensorArray", obj=object())
_GRADIENT = ResourceHandle("the gradient of a TensorArray", obj=object())


@evaluates(
    "TensorArrayV3",
    static=("size",),
    ignores=(
        "clear_after_read",
        "dynamic_size",
        "identical_element_shapes",
        "tensor_array_name",
    ),
)
def _tensor_array(
    size: Any, *, dtype: DType, element_shape: Shape
) -> tuple[ResourceHandle, TensorListValue]:
    return _ARRAY, new_list(int(size), dtype, element_shape)


@evaluates("TensorArrayGradV3", ignores=("source",))
def _gradient(handle: Any, flow_in: Any) -> tuple[ResourceHandle, Any]:
    return _GRADIENT, flow_in


@evaluates("TensorArrayWriteV3")
def _write(handle: Any, index: Any, value: Any, flow_in: TensorListValue) -> TensorListValue:
    if handle is _GRADIENT:
        return _added(flow_in, jnp.asarray(value)[None], jnp.reshape(index, 1))
    known = static_value(index)
    if known is None:
        buffer = list_buffer(flow_in, value.shape)
        position = jnp.asarray(index).astype(jnp.int32)
        return flow_in.with_buffer(
            lax.dynamic_update_index_in_dim(buffer, jnp.asarray(value), position, 0)
        )
    if int(known) >= flow_in.length:
        flow_in = resized_list(flow_in, int(known) + 1)
    buffer = jnp.asarray(list_buffer(flow_in, value.shape))
    return flow_in.with_buffer(buffer.at[int(known)].set(value))


@evaluates("TensorArrayReadV3", with_context=True)
def _read(
    ctx: NodeContext, handle: Any, index: Any, flow_in: TensorListValue, *, dtype: DType
) -> Any:
    buffer = _elements(ctx, flow_in, handle)
    known = static_value(index)
    if known is not None:
        return buffer[int(known)]
    position = jnp.asarray(index).astype(jnp.int32)
    return lax.dynamic_index_in_dim(buffer, position, 0, keepdims=False)


@evaluates("TensorArrayGatherV3", with_context=True, ignores=("element_shape",))
def _gather(
    ctx: NodeContext, handle: Any, indices: Any, flow_in: TensorListValue, *, dtype: DType
) -> Any:
    buffer = _elements(ctx, flow_in, handle)
    return jnp.take(buffer, jnp.asarray(indices).astype(jnp.int32), axis=0, mode="clip")


@evaluates("TensorArrayScatterV3")
def _scatter(handle: Any, indices: Any, value: Any, flow_in: TensorListValue) -> TensorListValue:
    if handle is _GRADIENT:
        return _added(flow_in, value, indices)
    known = static_value(indices)
    if known is not None and known.size and int(known.max()) >= flow_in.length:
        flow_in = resized_list(flow_in, int(known.max()) + 1)
    return scattered_list(flow_in, value, indices)


@evaluates("TensorArrayConcatV3", with_context=True, ignores=("element_shape_except0",))
def _concat(
    ctx: NodeContext, handle: Any, flow_in: TensorListValue, *, dtype: DType
) -> tuple[Any, Any]:
    buffer = _elements(ctx, flow_in, handle)
    lengths = np.full(flow_in.length, buffer.shape[1], np.int64)
    return buffer.reshape(-1, *buffer.shape[2:]), lengths


@evaluates("TensorArraySplitV3", static=("lengths",), with_context=True)
def _split(
    ctx: NodeContext, handle: Any, value: Any, lengths: Any, flow_in: TensorListValue
) -> TensorListValue:
    sizes = {int(length) for length in lengths}
    if len(sizes) > 1:
        raise InvalidArgumentError("A TensorArray of tensors of different shapes isn't supported.")
    size = sizes.pop() if sizes else 0
    return flow_in.with_buffer(jnp.asarray(value).reshape(len(lengths), size, *value.shape[1:]))


@evaluates("TensorArraySizeV3")
def _size(handle: Any, flow_in: TensorListValue) -> Any:
    return np.array(flow_in.length, np.int32)


@evaluates("TensorArrayCloseV3")
def _close(handle: Any) -> None:
    return None


def _elements(ctx: NodeContext, flow: Any, handle: Any) -> Any:
    """Returns the elements of an array, or of its gradient, as one array."""
    if not isinstance(flow, TensorListValue) or flow.buffer is None:
        ctx.needs_value("flow_in", "no element is written, so their shape is unknown")
    if handle is _GRADIENT and not isinstance(flow, GradientArray):
        return jnp.zeros_like(flow.buffer)  # the array itself: nothing is added up yet
    return flow.buffer


def _added(flow: TensorListValue, values: Any, indices: Any) -> GradientArray:
    """Returns a gradient with values added to some elements; of an array itself, that is zeros."""
    start = flow
    if not isinstance(flow, GradientArray):
        start = GradientArray(None, flow.length, flow.dtype, flow.element_shape)
    buffer = jnp.asarray(list_buffer(start, values.shape[1:]))
    added = buffer.at[jnp.asarray(indices, jnp.int32)].add(values)
    return GradientArray(added, start.length, start.dtype, start.element_shape)
