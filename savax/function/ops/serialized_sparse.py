"""Sparse tensors as three serialized parts: indices, values and shape, in strings or variants."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError
from savax.function.evaluation._plan_values import static_value
from savax.function.ops._host_strings import check_result_strings, string_array
from savax.function.ops._registry import evaluates
from savax.function.ops.parsing import content_message, parsed_tensor
from savax.function.ops.sparse_tensors import joined
from savax.protos import serialize
from savax.types import as_dtype

if TYPE_CHECKING:
    from savax.types import DType

    _Array = np.ndarray[Any, Any]
    _Parts = tuple[_Array, Any, _Array]

_INT64 = as_dtype("int64")


@dataclass(frozen=True, eq=False)
class _TensorVariant:
    """A tensor as one element of a variant tensor."""

    value: Any


def _serialized(part: Any, out_type: DType) -> Any:
    if out_type.name == "variant":
        return _TensorVariant(part)
    return serialize(content_message(np.asarray(part)))


_STATIC = ("sparse_indices", "sparse_shape")


@evaluates("SerializeSparse", static=_STATIC)
def _serialize_sparse(
    sparse_indices: Any, sparse_values: Any, sparse_shape: Any, *, out_type: DType
) -> Any:
    parts = (sparse_indices, sparse_values, sparse_shape)
    return string_array((_serialized(part, out_type) for part in parts), (3,))


@evaluates("SerializeManySparse", static=_STATIC)
def _serialize_many_sparse(
    sparse_indices: Any, sparse_values: Any, sparse_shape: Any, *, out_type: DType
) -> Any:
    """Serializes each of the sparse tensors that lie along the first axis."""
    rank, rows = len(sparse_shape), sparse_indices[:, 0]
    if rank < 2:
        raise ShapeMismatchError(f"SerializeManySparse: expected rank 2 or more, found {rank}.")
    if (np.diff(rows) < 0).any():
        raise InvalidArgumentError("SerializeManySparse: the indices aren't in order.")
    count = int(sparse_shape[0])
    if len(rows) and not 0 <= rows[0] <= rows[-1] < count:
        raise InvalidArgumentError(f"SerializeManySparse: rows outside of 0 to {count - 1}.")
    check_result_strings(3 * count, "SerializeManySparse")
    bounds = np.searchsorted(rows, np.arange(count + 1))
    items = []
    for low, high in itertools.pairwise(bounds):
        parts = (sparse_indices[low:high, 1:], sparse_values[low:high], sparse_shape[1:])
        items += [_serialized(part, out_type) for part in parts]
    return string_array(items, (count, 3))


def _part(op: str, item: Any, dtype: DType) -> Any:
    """Returns a tensor out of a string or a variant."""
    if isinstance(item, bytes):
        return parsed_tensor(op, item, dtype)
    if not isinstance(item, _TensorVariant):
        raise InvalidArgumentError(f"{op}: a variant holds no part of a sparse tensor.")
    if item.value.dtype != dtype.numpy_dtype:
        raise DTypeMismatchError(f"{op}: expected {dtype.name}, found {item.value.dtype}.")
    return item.value


def _parts(op: str, items: list[Any], dtype: DType) -> _Parts:
    indices, values, shape = (
        _part(op, item, kind) for item, kind in zip(items, (_INT64, dtype, _INT64), strict=True)
    )
    indices, shape = (static_value(each) for each in (indices, shape))
    if indices is None or shape is None:
        raise InvalidArgumentError(f"{op}: indices and shapes of sparse tensors must be known.")
    found = (indices.shape, tuple(values.shape), shape.shape)
    if indices.ndim != 2 or found != (indices.shape, indices.shape[:1], indices.shape[1:]):
        raise ShapeMismatchError(
            f"{op}: indices, values and shape of a sparse tensor have the shapes {found}."
        )
    return indices, values, shape


@evaluates("DeserializeSparse")
def _deserialize_sparse(serialized_sparse: Any, *, dtype: DType) -> _Parts:
    return _deserialized("DeserializeSparse", serialized_sparse, dtype)


@evaluates("DeserializeManySparse")
def _deserialize_many_sparse(serialized_sparse: Any, *, dtype: DType) -> _Parts:
    if np.ndim(serialized_sparse) != 2:
        raise ShapeMismatchError(
            f"DeserializeManySparse: expected rank 2, found {np.ndim(serialized_sparse)}."
        )
    return _deserialized("DeserializeManySparse", serialized_sparse, dtype)


def _deserialized(op: str, serialized: Any, dtype: DType) -> _Parts:
    """Returns sparse tensors put together along new first axes, as many as strings have."""
    serialized = np.asarray(serialized, object)
    if serialized.shape[-1:] != (3,) or not serialized.size:
        raise ShapeMismatchError(
            f"{op}: expected [..., 3] strings or variants, found the shape {serialized.shape}."
        )
    batch = serialized.shape[:-1]
    tensors = [_parts(op, items, dtype) for items in serialized.reshape(-1, 3).tolist()]
    ranks = {len(shape) for _, _, shape in tensors}
    if len(ranks) > 1:
        raise ShapeMismatchError(f"{op}: sparse tensors of the ranks {sorted(ranks)}.")
    placed = [
        np.concatenate([np.tile(np.array(place, np.int64), (len(indices), 1)), indices], 1)
        for place, (indices, _, _) in zip(np.ndindex(*batch), tensors, strict=True)
    ]
    largest = np.max([shape for _, _, shape in tensors], axis=0)
    values = joined([values for _, values, _ in tensors])
    return np.concatenate(placed), values, np.array([*batch, *largest], np.int64)
