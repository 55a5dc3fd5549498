"""Crosses of features: strings or hashes for all combinations of the features of a row.

A column holds features for each row of a batch: sparse columns and ragged ones any number, dense
ones as many in each. Features are strings or int64 numbers.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import InvalidArgumentError
from savax.function.ops._host_strings import check_result_strings, scalar_string, string_array
from savax.function.ops._registry import evaluates
from savax.function.ops.hashing import sip_hash
from savax.types._farmhash import concatenated, fingerprint64

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.types import DType

    _Array = np.ndarray[Any, Any]
    # The features of one column: a list for each row.
    _Column = list[list[Any]]

_MASK = (1 << 64) - 1
_LARGEST = np.iinfo(np.int64).max
_SEPARATOR = b"_X_"


def _sparse_columns(
    indices: Sequence[Any], values: Sequence[Any], shapes: Sequence[Any]
) -> list[_Column]:
    columns = []
    for at, features, shape in zip(indices, values, shapes, strict=True):
        if (
            at.ndim != 2
            or at.shape[1] != 2
            or features.shape != at.shape[:1]
            or shape.shape != (2,)
        ):
            raise InvalidArgumentError(
                f"A sparse column has indices [n, 2], values [n] and a shape [2], found "
                f"{at.shape}, {features.shape} and {shape.shape}."
            )
        columns.append(_grouped(at[:, 0].tolist(), features.tolist(), int(shape[0])))
    return columns


def _grouped(rows: list[int], features: list[Any], batch: int) -> _Column:
    check_result_strings(batch, "A cross of features")
    column: _Column = [[] for _ in range(batch)]
    # As in TensorFlow, what is out of order is left out, and all that follows.
    current = 0
    for row, feature in zip(rows, features, strict=True):
        if not current <= row < batch:
            break
        current = row
        column[row].append(feature)
    return column


def _dense_columns(dense_inputs: Sequence[Any]) -> list[_Column]:
    for array in dense_inputs:
        if array.ndim != 2:
            raise InvalidArgumentError(f"A dense column has two axes, found {array.shape}.")
    return [array.tolist() for array in dense_inputs]


def _crossed(columns: list[_Column], combine: Callable[[Any], Any]) -> list[list[Any]]:
    """Returns what is combined of each row's features, the last column's varying fastest."""
    batches = {len(column) for column in columns}
    if len(batches) > 1:
        raise InvalidArgumentError(f"Columns have different batch sizes: {sorted(batches)}.")
    rows = list(zip(*columns, strict=True))
    check_result_strings(sum(math.prod(map(len, row)) for row in rows), "A cross of features")
    return [[combine(features) for features in itertools.product(*row)] for row in rows]


def _sparse_result(rows: list[list[Any]], is_string: bool) -> tuple[_Array, _Array, _Array]:
    places = [(row, i) for row, crosses in enumerate(rows) for i in range(len(crosses))]
    shape = (len(rows), max(map(len, rows), default=0))
    return (
        np.array(places, np.int64).reshape(-1, 2),
        _values(rows, is_string),
        np.array(shape, np.int64),
    )


def _values(rows: list[list[Any]], is_string: bool) -> _Array:
    flat = [cross for row in rows for cross in row]
    return string_array(flat, (len(flat),)) if is_string else np.array(flat, np.int64)


def _joiner(separator: bytes) -> Callable[[Any], bytes]:
    return lambda features: separator.join(map(_text, features))


def _text(feature: bytes | int) -> bytes:
    return feature if isinstance(feature, bytes) else b"%d" % feature


def _hasher(start: int, num_buckets: int) -> Callable[[Any], int]:
    """Returns what hashes features, from a start value on."""

    def combine(features: Any) -> int:
        result = start & _MASK
        for feature in features:
            result = concatenated(result, _plain_hash(feature))
        return _bucket(result, num_buckets)

    return combine


def _plain_hash(feature: bytes | int) -> int:
    return fingerprint64(feature) if isinstance(feature, bytes) else feature & _MASK


def _bucket(number: int, num_buckets: int) -> int:
    return number % (num_buckets if num_buckets > 0 else _LARGEST)


@evaluates("SparseCross", on_host=True, ignores=("internal_type",))
def _sparse_cross(
    indices: Any,
    values: Any,
    shapes: Any,
    dense_inputs: Any,
    *,
    hashed_output: bool,
    num_buckets: int,
    hash_key: int,
    out_type: DType,
) -> Any:
    columns = [*_sparse_columns(indices, values, shapes), *_dense_columns(dense_inputs)]
    combine = _hasher(hash_key, num_buckets) if hashed_output else _joiner(_SEPARATOR)
    return _sparse_result(_crossed(columns, combine), out_type.name == "string")


@evaluates("SparseCrossV2", on_host=True)
def _sparse_cross_v2(indices: Any, values: Any, shapes: Any, dense_inputs: Any, sep: Any) -> Any:
    columns = [*_sparse_columns(indices, values, shapes), *_dense_columns(dense_inputs)]
    return _sparse_result(_crossed(columns, _joiner(scalar_string(sep, "A separator"))), True)


@evaluates("SparseCrossHashed", on_host=True)
def _sparse_cross_hashed(
    indices: Any,
    values: Any,
    shapes: Any,
    dense_inputs: Any,
    num_buckets: Any,
    strong_hash: Any,
    salt: Any,
) -> Any:
    first, second = (int(number) & _MASK for number in np.asarray(salt).reshape(2))
    strong = bool(strong_hash)

    def keyed(feature: bytes | int, sparse: bool) -> int:
        if not strong and not (sparse and isinstance(feature, int)):
            return _plain_hash(feature)
        # Of numbers the lower half is hashed.
        data = (
            feature if isinstance(feature, bytes) else (feature & 0xFFFFFFFF).to_bytes(4, "little")
        )
        return sip_hash(data, first, second) if strong else fingerprint64(data)

    columns = [
        [[keyed(feature, sparse) for feature in row] for row in column]
        for sparse, group in (
            (True, _sparse_columns(indices, values, shapes)),
            (False, _dense_columns(dense_inputs)),
        )
        for column in group
    ]

    def combine(hashes: Any) -> int:
        result = hashes[0]
        for other in hashes[1:]:
            result = concatenated(result, other)
        return _bucket(result, int(num_buckets))

    return _sparse_result(_crossed(columns, combine), False)


@evaluates("RaggedCross", on_host=True)
def _ragged_cross(
    ragged_values: Any,
    ragged_row_splits: Any,
    sparse_indices: Any,
    sparse_values: Any,
    sparse_shape: Any,
    dense_inputs: Any,
    *,
    input_order: str,
    hashed_output: bool,
    num_buckets: int,
    hash_key: int,
    out_values_type: DType,
    out_row_splits_type: DType,
) -> Any:
    kinds = {
        "R": iter([_split(*pair) for pair in zip(ragged_values, ragged_row_splits, strict=True)]),
        "S": iter(_sparse_columns(sparse_indices, sparse_values, sparse_shape)),
        "D": iter(_dense_columns(dense_inputs)),
    }
    columns = [next(kinds[kind]) for kind in input_order]
    combine = _hasher(hash_key, num_buckets) if hashed_output else _joiner(_SEPARATOR)
    rows = _crossed(columns, combine)
    splits = np.cumsum([0, *map(len, rows)])
    return (
        _values(rows, out_values_type.name == "string"),
        splits.astype(out_row_splits_type.numpy_dtype),
    )


def _split(values: _Array, row_splits: _Array) -> _Column:
    ends = row_splits.tolist()
    features = values.tolist()
    return [features[a:b] for a, b in itertools.pairwise(ends)]
