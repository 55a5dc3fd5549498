"""Lists of tensors: what TensorFlow's TensorArray and Keras' recurrent layers keep results in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import InvalidArgumentError, ShapeMismatchError
from savax.function.evaluation._plan_values import (
    GradientArray,
    PartialVector,
    TensorListValue,
    Traced,
    static_value,
)
from savax.function.ops._indexing import is_host_array
from savax.function.ops._registry import evaluates
from savax.function.ops.sparse_tensors import joined
from savax.types import merge_shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.evaluation._walk import NodeContext
    from savax.types import DType, Shape

# Making lists.


@evaluates("EmptyTensorList", ignores=("shape_type",))
def _empty(element_shape: Any, max_num_elements: Any, *, element_dtype: DType) -> TensorListValue:
    return TensorListValue(None, 0, element_dtype, shape_of(element_shape))


@evaluates("TensorListReserve", static=("num_elements",), ignores=("shape_type",))
def _reserve(element_shape: Any, num_elements: Any, *, element_dtype: DType) -> TensorListValue:
    length = int(num_elements)
    if length < 0:
        raise InvalidArgumentError(f"A tensor list can't have {length} elements.")
    return new_list(length, element_dtype, shape_of(element_shape))


@evaluates("TensorListFromTensor", ignores=("shape_type",))
def _from_tensor(tensor: Any, element_shape: Any, *, element_dtype: DType) -> TensorListValue:
    return TensorListValue(tensor, tensor.shape[0], element_dtype, shape_of(element_shape))


@evaluates("TensorListScatter", ignores=("shape_type",))
def _scatter(
    tensor: Any, indices: Any, element_shape: Any, *, element_dtype: DType
) -> TensorListValue:
    known = static_value(indices)
    length = tensor.shape[0] if known is None else int(known.max(initial=-1)) + 1
    empty = new_list(length, element_dtype, shape_of(element_shape))
    return scattered_list(empty, tensor, indices)


@evaluates("TensorListScatterV2", static=("num_elements",), ignores=("shape_type",))
def _scatter_v2(
    tensor: Any, indices: Any, element_shape: Any, num_elements: Any, *, element_dtype: DType
) -> TensorListValue:
    length = int(num_elements)
    if length < 0:
        known = static_value(indices)
        length = tensor.shape[0] if known is None else int(known.max(initial=-1)) + 1
    empty = new_list(length, element_dtype, shape_of(element_shape))
    return scattered_list(empty, tensor, indices)


@evaluates("TensorListScatterIntoExistingList", ignores=("element_dtype",))
def _scatter_into(input_handle: TensorListValue, tensor: Any, indices: Any) -> TensorListValue:
    known = static_value(indices)
    if known is not None and known.size and int(known.max()) >= input_handle.length:
        input_handle = resized_list(input_handle, int(known.max()) + 1)
    return scattered_list(input_handle, tensor, indices)


@evaluates("TensorListSplit", static=("lengths",), with_context=True, ignores=("shape_type",))
def _split(
    ctx: NodeContext, tensor: Any, element_shape: Any, lengths: Any, *, element_dtype: DType
) -> TensorListValue:
    sizes = {int(length) for length in lengths}
    if len(sizes) > 1:
        ctx.needs_value("lengths", "lists of tensors of different shapes aren't supported")
    size = sizes.pop() if sizes else 0
    buffer = tensor.reshape((len(lengths), size, *tensor.shape[1:]))
    return TensorListValue(buffer, len(lengths), element_dtype, shape_of(element_shape))


# Elements.


@evaluates("TensorListSetItem", with_context=True, ignores=("element_dtype",))
def _set_item(
    ctx: NodeContext,
    input_handle: TensorListValue,
    index: Any,
    item: Any,
    *,
    resize_if_index_out_of_bounds: bool,
) -> TensorListValue:
    known = static_value(index)
    if known is None:
        if resize_if_index_out_of_bounds:
            ctx.needs_value("index", "the list may grow")
        if input_handle.dtype.size == 0:
            ctx.needs_value("index", "the list holds objects of the host")
        buffer, position = list_buffer(input_handle, item.shape), index.astype(jnp.int32)
        updated = lax.dynamic_update_index_in_dim(buffer, jnp.asarray(item), position, 0)
        return input_handle.with_buffer(updated)
    position = int(known)
    if position >= input_handle.length and resize_if_index_out_of_bounds:
        input_handle = resized_list(input_handle, position + 1)
    if not 0 <= position < input_handle.length:
        raise InvalidArgumentError(
            f"Element {position} of a tensor list of {input_handle.length} elements can't be set."
        )
    buffer = list_buffer(input_handle, np.shape(item))
    if is_host_array(buffer):
        buffer = buffer.copy()
        buffer[position, ...] = item
        return input_handle.with_buffer(buffer)
    return input_handle.with_buffer(jnp.asarray(buffer).at[position].set(item))


@evaluates("TensorListGetItem", with_context=True)
def _get_item(
    ctx: NodeContext,
    input_handle: TensorListValue,
    index: Any,
    element_shape: Any,
    *,
    element_dtype: DType,
) -> Any:
    if input_handle.buffer is None:
        shape = _full_shape(ctx, input_handle, element_shape)
        return jnp.zeros(shape, element_dtype.numpy_dtype)
    known = static_value(index)
    if known is not None:
        return input_handle.buffer[int(known), ...]  # an array, of one string too
    if is_host_array(input_handle.buffer):
        ctx.needs_value("index", "the list holds objects of the host")
    position = index.astype(jnp.int32)
    return lax.dynamic_index_in_dim(input_handle.buffer, position, 0, keepdims=False)


@evaluates("TensorListPushBack", ignores=("element_dtype",))
def _push_back(input_handle: TensorListValue, tensor: Any) -> TensorListValue:
    item = tensor if isinstance(tensor, np.ndarray) else jnp.asarray(tensor)
    return input_handle.with_buffer(_appended(input_handle, item[None]))


@evaluates("TensorListPopBack", with_context=True)
def _pop_back(
    ctx: NodeContext, input_handle: TensorListValue, element_shape: Any, *, element_dtype: DType
) -> tuple[TensorListValue, Any]:
    if input_handle.length == 0:
        raise InvalidArgumentError("The last element of an empty tensor list is asked for.")
    shape = () if input_handle.buffer is not None else _full_shape(ctx, input_handle, element_shape)
    buffer = list_buffer(input_handle, shape)
    return input_handle.with_buffer(buffer[:-1]), buffer[-1, ...]


@evaluates("TensorListGather", with_context=True)
def _gather(
    ctx: NodeContext,
    input_handle: TensorListValue,
    indices: Any,
    element_shape: Any,
    *,
    element_dtype: DType,
) -> Any:
    if input_handle.buffer is None:
        shape = _full_shape(ctx, input_handle, element_shape)
        return jnp.zeros((*indices.shape, *shape), element_dtype.numpy_dtype)
    if is_host_array(input_handle.buffer):
        known = static_value(indices)
        if known is None:
            ctx.needs_value("indices", "the list holds objects of the host")
        return np.take(input_handle.buffer, known, axis=0, mode="clip")
    return jnp.take(input_handle.buffer, indices.astype(np.int32), axis=0, mode="clip")


# Whole lists.


@evaluates("TensorListStack", with_context=True)
def _stack(
    ctx: NodeContext,
    input_handle: TensorListValue,
    element_shape: Any,
    *,
    element_dtype: DType,
    num_elements: int,
) -> Any:
    if num_elements not in (-1, input_handle.length):
        raise ShapeMismatchError(
            f"The tensor list has {input_handle.length} elements, expected {num_elements}."
        )
    if input_handle.buffer is None:
        shape = _full_shape(ctx, input_handle, element_shape)
        return input_handle.allocated(shape).buffer
    return input_handle.buffer


@evaluates("TensorListConcat", with_context=True)
def _concat(
    ctx: NodeContext, input_handle: TensorListValue, *, element_dtype: DType, element_shape: Shape
) -> Any:
    return _concatenated(ctx, input_handle, element_shape)


@evaluates("TensorListConcatV2", with_context=True, ignores=("shape_type", "element_dtype"))
def _concat_v2(
    ctx: NodeContext, input_handle: TensorListValue, element_shape: Any, leading_dims: Any
) -> Any:
    return _concatenated(ctx, input_handle, shape_of(element_shape))


@evaluates("TensorListConcatLists", ignores=("element_dtype",))
def _concat_lists(input_a: TensorListValue, input_b: TensorListValue) -> TensorListValue:
    if input_b.length == 0:
        return input_a
    if input_b.buffer is None and input_a.buffer is None:
        length = input_a.length + input_b.length
        return TensorListValue(None, length, input_a.dtype, input_a.element_shape)
    shape = (input_a if input_b.buffer is None else input_b).buffer.shape[1:]
    return input_a.with_buffer(_appended(input_a, list_buffer(input_b, shape)))


@evaluates("TensorListLength")
def _length(input_handle: TensorListValue) -> Any:
    return np.array(input_handle.length, np.int32)


@evaluates("TensorListElementShape")
def _element_shape(input_handle: TensorListValue, *, shape_type: DType) -> Any:
    shape = input_handle.element_shape
    if shape is None:
        return np.array(-1, shape_type.numpy_dtype)
    return np.array([-1 if size is None else size for size in shape], shape_type.numpy_dtype)


@evaluates("TensorListResize", static=("size",))
def _resize(input_handle: TensorListValue, size: Any) -> TensorListValue:
    return resized_list(input_handle, int(size))


def shape_of(operand: Any) -> Shape:
    """Returns the shape that an element_shape operand means; traced sizes are unknown."""
    if isinstance(operand, PartialVector):
        items = operand.elements.tolist()
        return tuple(None if isinstance(x, Traced) or x < 0 else int(x) for x in items)
    known = static_value(operand)
    if known is None:
        return None if operand.ndim == 0 else (None,) * operand.shape[0]
    if known.ndim == 0:
        return None
    return tuple(None if size < 0 else int(size) for size in known)


def new_list(length: int, dtype: DType, element_shape: Shape) -> TensorListValue:
    found = TensorListValue(None, length, dtype, element_shape)
    if element_shape is None or None in element_shape or dtype.size == 0:
        return found
    return found.allocated([size or 0 for size in element_shape])


def list_buffer(value: TensorListValue, element_shape: Sequence[int]) -> Any:
    """Returns the elements as one array; zeros where none was set."""
    if value.buffer is not None:
        return value.buffer
    return value.allocated(element_shape).buffer


def _appended(value: TensorListValue, items: Any) -> Any:
    if value.length == 0:
        return items
    return joined([list_buffer(value, items.shape[1:]), items])


def resized_list(value: TensorListValue, length: int) -> TensorListValue:
    if value.buffer is None:
        return type(value)(None, length, value.dtype, value.element_shape)
    if length <= value.length:
        return value.with_buffer(value.buffer[:length])
    if is_host_array(value.buffer):
        rest = type(value)(None, length - value.length, value.dtype, value.element_shape)
        added = rest.allocated(value.buffer.shape[1:]).buffer
        return value.with_buffer(joined([value.buffer, added]))
    padding = [(0, length - value.length)] + [(0, 0)] * (value.buffer.ndim - 1)
    return value.with_buffer(jnp.pad(value.buffer, padding))


def scattered_list(value: TensorListValue, tensor: Any, indices: Any) -> TensorListValue:
    buffer = jnp.asarray(list_buffer(value, tensor.shape[1:]))
    return value.with_buffer(buffer.at[jnp.asarray(indices, jnp.int32)].set(tensor))


def summed_lists(values: Sequence[Any]) -> TensorListValue:
    """Returns the elementwise sum of lists; numbers among them are zeros, sums of nothing."""
    lists = [value for value in values if isinstance(value, TensorListValue)]
    filled = [value for value in lists if value.buffer is not None]
    if not filled:
        return lists[0]
    # Zeros like an array may be among its gradients; the sum is a gradient.
    kind = next((value for value in filled if isinstance(value, GradientArray)), filled[0])
    return kind.with_buffer(sum(jnp.asarray(value.buffer) for value in filled))


def _concatenated(
    ctx: NodeContext, value: TensorListValue, element_shape: Shape
) -> tuple[Any, Any]:
    if value.buffer is None:
        shape = _known_shape(ctx, merge_shapes(value.element_shape, element_shape))
    else:
        shape = value.buffer.shape[1:]
    if not shape:
        raise ShapeMismatchError("Scalars in a tensor list can't be concatenated.")
    buffer = list_buffer(value, shape)
    whole = buffer.reshape((value.length * shape[0], *shape[1:]))
    return whole, np.full(value.length, shape[0], np.int64)


def _full_shape(ctx: NodeContext, value: TensorListValue, operand: Any) -> tuple[int, ...]:
    return _known_shape(ctx, merge_shapes(value.element_shape, shape_of(operand)))


def _known_shape(ctx: NodeContext, shape: Shape) -> tuple[int, ...]:
    if shape is None or None in shape:
        ctx.needs_value("input_handle", "no element of the list is set, so their shape is unknown")
    return tuple(size or 0 for size in shape)
