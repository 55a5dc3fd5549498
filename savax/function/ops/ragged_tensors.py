"""Ragged tensors: rows of different lengths, as values and the positions where rows begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from savax.errors import ShapeMismatchError, UnsupportedParamError
from savax.function.ops._indexing import is_host_array
from savax.function.ops._operands import static_int
from savax.function.ops._registry import evaluates
from savax.function.ops.shaping import sizes
from savax.function.ops.sparse_tensors import filled_rows, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.types import DType

    _Array = np.ndarray[Any, Any]


def _rows_of(splits: _Array) -> tuple[_Array, _Array]:
    """Returns the row of each value, and its position in the row."""
    lengths = np.diff(splits)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return rows, np.arange(len(rows)) - np.asarray(splits)[rows]


def _positions_in_rows(rows: _Array) -> _Array:
    """Returns the position of each value among those of its row; rows are sorted."""
    return np.arange(len(rows)) - np.searchsorted(rows, rows, side="left")


@evaluates("RaggedRange", static=("starts", "limits", "deltas"))
def _ragged_range(starts: Any, limits: Any, deltas: Any, *, Tsplits: DType) -> tuple[Any, Any]:  # noqa: N803
    rows = np.broadcast_arrays(np.atleast_1d(starts), limits, deltas)
    ranges = [np.arange(*bounds, dtype=starts.dtype) for bounds in zip(*rows, strict=True)]
    splits = np.cumsum([0, *(len(each) for each in ranges)]).astype(Tsplits.numpy_dtype)
    return splits, np.concatenate([np.zeros(0, starts.dtype), *ranges])


@evaluates(
    "RaggedGather",
    static=("params_nested_splits", "indices"),
    ignores=("OUTPUT_RAGGED_RANK",),
)
def _ragged_gather(
    params_nested_splits: tuple[Any, ...], params_dense_values: Any, indices: Any
) -> tuple[Any, ...]:
    found = []
    for axis in range(1, indices.ndim):  # axes of the indices are rows of one length
        count = int(np.prod(indices.shape[:axis]))
        dtype = params_nested_splits[0].dtype
        found.append((np.arange(count + 1) * indices.shape[axis]).astype(dtype))
    rows = indices.reshape(-1)
    for splits in params_nested_splits:
        starts, ends = splits[:-1][rows], splits[1:][rows]
        found.append(np.concatenate([[0], np.cumsum(ends - starts)]).astype(splits.dtype))
        pieces = [np.arange(a, b) for a, b in zip(starts, ends, strict=True)]
        rows = np.concatenate([np.zeros(0, np.int64), *pieces]).astype(np.int64)
    return (tuple(found), params_dense_values[rows])


def _coordinates(partitions: Sequence[Any], types: Sequence[str]) -> tuple[_Array, list[int]]:
    """Returns where each value lies in the dense tensor, and the sizes of its first axes."""
    if types[0] == "FIRST_DIM_SIZE":
        count, levels = int(partitions[0]), list(zip(types, partitions, strict=True))[1:]
    else:
        first = np.asarray(partitions[0])
        count = len(first) - 1 if types[0] == "ROW_SPLITS" else int(first.max(initial=-1)) + 1
        levels = list(zip(types, partitions, strict=True))
    where, shape = np.arange(count)[:, None], [count]
    for kind, partition in levels:
        if kind == "ROW_SPLITS":
            rows, position = _rows_of(np.asarray(partition))
        elif kind == "VALUE_ROWIDS":
            rows = np.asarray(partition).astype(np.int64)
            position = _positions_in_rows(rows)
        else:
            raise UnsupportedParamError(
                f"Row partition {kind!r}: expected ROW_SPLITS or VALUE_ROWIDS."
            )
        where = np.concatenate([where[rows], position[:, None]], axis=1)
        shape.append(int(position.max(initial=-1)) + 1)
    return where, shape


@evaluates("RaggedTensorToTensor", static=("shape", "row_partition_tensors"))
def _ragged_tensor_to_tensor(
    shape: Any,
    values: Any,
    default_value: Any,
    row_partition_tensors: tuple[Any, ...],
    *,
    row_partition_types: list[str],
) -> Any:
    where, outer = _coordinates(row_partition_tensors, row_partition_types)
    inner = tuple(values.shape[1:])
    found = [*outer, *inner]
    if np.ndim(shape):
        wanted = sizes(shape)
        found = [size if size >= 0 else old for size, old in zip(wanted, found, strict=True)]
    kept = np.flatnonzero((where < np.array(found[: len(outer)])).all(1))
    columns = tuple(where[kept].T)
    if is_host_array(values):
        dense = np.empty(found, object)
        dense[...] = default_value
        dense[columns] = values[kept]
        return dense
    default = jnp.asarray(default_value, values.dtype)
    return jnp.broadcast_to(default, found).at[columns].set(jnp.asarray(values)[kept])


@evaluates("RaggedTensorToSparse", static=("rt_nested_splits",))
def _ragged_tensor_to_sparse(
    rt_nested_splits: tuple[Any, ...], rt_dense_values: Any
) -> tuple[Any, Any, Any]:
    where, shape = _coordinates(rt_nested_splits, ["ROW_SPLITS"] * len(rt_nested_splits))
    inner = tuple(rt_dense_values.shape[1:])
    places = np.indices(inner).reshape(len(inner), int(np.prod(inner))).T
    indices = np.concatenate(
        [np.repeat(where, len(places), axis=0), np.tile(places, (len(where), 1))], axis=1
    )
    whole = np.array([*shape, *inner], np.int64)
    return indices.astype(np.int64), rt_dense_values.reshape(-1), whole


@evaluates("RaggedFillEmptyRows", static=("value_rowids", "nrows"))
def _ragged_fill_empty_rows(
    value_rowids: Any, values: Any, nrows: Any, default_value: Any
) -> tuple[Any, ...]:
    rows = np.asarray(value_rowids)
    count = static_int(nrows)
    indices = rows[:, None]
    filled = filled_rows(indices, values, np.array([count]), default_value)
    return (filled[0][:, 0], *filled[1:])


# Ragged tensors as elements of variant tensors.


@dataclass(frozen=True, eq=False)
class RaggedVariant:
    """A ragged tensor as one element of a variant tensor.

    Attributes:
      splits: of its ragged axes, from outside to inside.
      values: its dense values.
    """

    splits: tuple[Any, ...]
    values: Any


def _part(splits: Sequence[Any], values: Any, row: int) -> RaggedVariant:
    """Returns one row of a ragged tensor."""
    low, high = int(splits[0][row]), int(splits[0][row + 1])
    inner = []
    for each in splits[1:]:
        own = each[low : high + 1]
        inner.append(own - own[0])
        low, high = int(own[0]), int(own[-1])
    return RaggedVariant(tuple(inner), values[low:high])


@evaluates("RaggedTensorToVariant", static=("rt_nested_splits",))
def _ragged_tensor_to_variant(
    rt_nested_splits: tuple[Any, ...], rt_dense_values: Any, *, batched_input: bool
) -> Any:
    if not batched_input:
        boxed = np.empty((), object)
        boxed[()] = RaggedVariant(rt_nested_splits, rt_dense_values)
        return boxed
    count = len(rt_nested_splits[0]) - 1
    rows = np.empty(count, object)
    for row in range(count):
        rows[row] = _part(rt_nested_splits, rt_dense_values, row)
    return rows


@evaluates("RaggedTensorFromVariant", ignores=("input_ragged_rank", "output_ragged_rank"))
def _ragged_tensor_from_variant(
    encoded_ragged: Any,
    *,
    Tvalues: DType,  # noqa: N803
    Tsplits: DType,  # noqa: N803
) -> tuple[Any, ...]:
    elements = list(np.asarray(encoded_ragged, object).reshape(-1))
    shape, kind = np.shape(encoded_ragged), Tsplits.numpy_dtype
    if not shape:
        return tuple(each.astype(kind) for each in elements[0].splits), elements[0].values
    outer = [
        (np.arange(int(np.prod(shape[:axis])) + 1) * shape[axis]).astype(kind)
        for axis in range(1, len(shape))
    ]
    lengths = [
        len(each.splits[0]) - 1 if each.splits else each.values.shape[0] for each in elements
    ]
    found = [np.cumsum([0, *lengths]).astype(kind)]
    for level in range(len(elements[0].splits) if elements else 0):
        rows = np.concatenate([np.diff(each.splits[level]) for each in elements])
        found.append(np.concatenate([[0], np.cumsum(rows)]).astype(kind))
    values = [each.values for each in elements]
    whole = joined(values) if values else np.zeros(0, Tvalues.numpy_dtype)
    return (*outer, *found), whole


@evaluates("RaggedTensorToVariantGradient", static=("row_splits", "dense_values_shape"))
def _ragged_tensor_to_variant_gradient(
    encoded_ragged_grad: Any,
    row_splits: Any,
    dense_values_shape: Any,
    *,
    Tvalues: DType,  # noqa: N803
) -> Any:
    """Puts the dense values of the rows' gradients together again."""
    elements = np.asarray(encoded_ragged_grad, object).reshape(-1).tolist()
    shape = sizes(dense_values_shape)
    values = [each.values for each in elements if isinstance(each, RaggedVariant)]
    whole = joined(values) if values else jnp.zeros(shape, Tvalues.numpy_dtype)
    if whole.shape != shape:
        raise ShapeMismatchError(
            f"The gradient of ragged rows: expected the shape {shape}, found {whole.shape}."
        )
    return whole
