"""Parsing: examples, tensors, JSON and CSV as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import json_format

from savax.errors import (
    CorruptSavedModelError,
    DTypeMismatchError,
    InvalidArgumentError,
    ShapeMismatchError,
)
from savax.function.ops._examples import Batch, DenseFeature, VaryingFeature
from savax.function.ops._host_strings import scalar_string, string_array
from savax.function.ops._registry import evaluates
from savax.function.ops.string_numbers import number
from savax.protos import (
    Example,
    TensorProto,
    decode_tensor,
    encode_shape,
    encode_tensor,
    parse,
    serialize,
)
from savax.trackable.bundle._varint import encode_varint
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from savax.types import DType, Shape


@evaluates("ParseTensor")
def _parse_tensor(serialized: Any, *, out_type: DType) -> Any:
    return parsed_tensor(
        "ParseTensor", scalar_string(serialized, "What ParseTensor takes"), out_type
    )


def parsed_tensor(op: str, data: bytes, dtype: DType) -> np.ndarray[Any, Any]:
    """Returns the tensor that a string holds.

    Args:
      op: the op that asks for it.
      data: a serialized message.
      dtype: that it must have.

    Raises:
      InvalidArgumentError: the string is no message of a tensor.
      DTypeMismatchError: it has another dtype.
    """
    try:
        message = parse(TensorProto, data, f"The string of {op}")
        if int(message.dtype) != dtype.number:
            raise DTypeMismatchError(
                f"{op}: expected {dtype.name}, found {as_dtype(int(message.dtype)).name}."
            )
        return decode_tensor(message)
    except CorruptSavedModelError as error:
        raise InvalidArgumentError(str(error)) from error


@evaluates("SerializeTensor", static=("tensor",))
def _serialize_tensor(tensor: Any) -> Any:
    array = np.asarray(tensor)
    if array.dtype == object:
        message = encode_tensor(array, as_dtype(array.dtype), compact=False)
    else:
        message = content_message(array)
    return string_array([serialize(message)], ())


def content_message(array: np.ndarray[Any, Any]) -> TensorProto:
    """Returns a tensor's message with its elements as bytes, whatever their type and number is."""
    content = array.tobytes()
    if array.dtype == object:
        strings = array.reshape(-1).tolist()
        content = b"".join([*(encode_varint(len(item)) for item in strings), *strings])
    return TensorProto(
        dtype=as_dtype(array.dtype).number,
        tensor_shape=encode_shape(array.shape),
        tensor_content=content,
    )


def feature_keys(strings: Any) -> list[str]:
    """Returns a tensor of keys as Python strings."""
    return [item.decode("utf-8", "surrogateescape") for item in np.asarray(strings).reshape(-1)]


def dense_features(
    keys: Sequence[str], dtypes: Sequence[DType], shapes: Sequence[Shape], defaults: Sequence[Any]
) -> list[DenseFeature]:
    """Returns the dense features that an op's operands and attributes describe."""
    if not len(keys) == len(dtypes) == len(shapes) == len(defaults):
        raise InvalidArgumentError(
            f"{len(keys)} dense keys, {len(dtypes)} types, {len(shapes)} shapes and "
            f"{len(defaults)} defaults; there must be one of each for a feature."
        )
    rows = zip(keys, dtypes, shapes, defaults, strict=True)
    return [DenseFeature(k, t, s, np.asarray(d)) for k, t, s, d in rows]


def varying_features(
    keys: Sequence[str], dtypes: Sequence[DType], splits: Sequence[DType] | None = None
) -> list[VaryingFeature]:
    """Returns the sparse or ragged features that an op's operands and attributes describe."""
    if len(keys) != len(dtypes) or (splits is not None and len(splits) != len(keys)):
        raise InvalidArgumentError(f"{len(keys)} keys, but {len(dtypes)} types of features.")
    return [
        VaryingFeature(key, dtype, None if splits is None else splits[i])
        for i, (key, dtype) in enumerate(zip(keys, dtypes, strict=True))
    ]


@evaluates("ParseExampleV2")
def _parse_example_v2(
    serialized: Any,
    names: Any,
    sparse_keys: Any,
    dense_keys: Any,
    ragged_keys: Any,
    dense_defaults: tuple[Any, ...],
    *,
    num_sparse: int,
    Tdense: list[DType],  # noqa: N803 - the attribute's name
    sparse_types: list[DType],
    ragged_value_types: list[DType],
    ragged_split_types: list[DType],
    dense_shapes: list[Shape],
) -> Any:
    dense = dense_features(feature_keys(dense_keys), Tdense, dense_shapes, dense_defaults)
    sparse = varying_features(feature_keys(sparse_keys), sparse_types)
    ragged = varying_features(feature_keys(ragged_keys), ragged_value_types, ragged_split_types)
    if serialized.ndim > 1:
        raise ShapeMismatchError(
            f"ParseExampleV2 takes a scalar or vector, found {serialized.shape}."
        )
    batch = Batch(serialized.reshape(-1).tolist(), names.reshape(-1).tolist())
    sparse_parts = [batch.sparse(feature) for feature in sparse]
    dense_parts = [batch.dense(feature) for feature in dense]
    ragged_parts = [batch.ragged(feature) for feature in ragged]
    if serialized.ndim == 0:
        sparse_parts = [(i[:, 1:], v, s[1:]) for i, v, s in sparse_parts]
        dense_parts = [part[0] for part in dense_parts]
        ragged_parts = [(values, splits[:0]) for values, splits in ragged_parts]
    return (
        [part[0] for part in sparse_parts],
        [part[1] for part in sparse_parts],
        [part[2] for part in sparse_parts],
        dense_parts,
        [part[0] for part in ragged_parts],
        [part[1] for part in ragged_parts],
    )


@evaluates("ParseExample", ignores=("Nsparse", "Ndense"))
def _parse_example(
    serialized: Any,
    names: Any,
    sparse_keys: tuple[Any, ...],
    dense_keys: tuple[Any, ...],
    dense_defaults: tuple[Any, ...],
    *,
    sparse_types: list[DType],
    Tdense: list[DType],  # noqa: N803 - the attribute's name
    dense_shapes: list[Shape],
) -> Any:
    if serialized.ndim != 1:
        raise ShapeMismatchError(f"ParseExample takes a vector, found {serialized.shape}.")
    dense = dense_features([_key(k) for k in dense_keys], Tdense, dense_shapes, dense_defaults)
    sparse = varying_features([_key(k) for k in sparse_keys], sparse_types)
    batch = Batch(serialized.tolist(), names.reshape(-1).tolist())
    parts = [batch.sparse(feature) for feature in sparse]
    return (*([p[i] for p in parts] for i in range(3)), [batch.dense(f) for f in dense])


def _key(value: Any) -> str:
    return scalar_string(value, "The key of a feature").decode("utf-8", "surrogateescape")


@evaluates("ParseSingleExample")
def _parse_single_example(
    serialized: Any,
    dense_defaults: tuple[Any, ...],
    *,
    num_sparse: int,
    sparse_keys: list[str],
    dense_keys: list[str],
    sparse_types: list[DType],
    Tdense: list[DType],  # noqa: N803 - the attribute's name
    dense_shapes: list[Shape],
) -> Any:
    dense = dense_features(dense_keys, Tdense, dense_shapes, dense_defaults)
    sparse = varying_features(sparse_keys, sparse_types)
    batch = Batch([scalar_string(serialized, "What ParseSingleExample takes")])
    parts = [batch.sparse(feature) for feature in sparse]
    return (
        [indices[:, 1:] for indices, _, _ in parts],
        [values for _, values, _ in parts],
        [shape[1:] for _, _, shape in parts],
        [batch.dense(feature)[0] for feature in dense],
    )


@evaluates("DecodeJSONExample")
def _decode_json_example(json_examples: Any) -> Any:
    items = [_binary_example(text) for text in json_examples.reshape(-1).tolist()]
    return string_array(items, json_examples.shape)


def _binary_example(text: bytes) -> bytes:
    message = Example()
    try:
        json_format.Parse(text, message)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"The JSON of an example can't be read: {error}.") from error
    return serialize(message)


@evaluates("DecodeCSV", ignores=("OUT_TYPE",))
def _decode_csv(
    records: Any,
    record_defaults: tuple[Any, ...],
    *,
    field_delim: str,
    use_quote_delim: bool,
    na_value: str,
    select_cols: list[int],
) -> Any:
    if len(field_delim.encode()) != 1:
        raise InvalidArgumentError(f"DecodeCSV: field_delim is one byte, found {field_delim!r}.")
    if select_cols and len(select_cols) != len(record_defaults):
        raise InvalidArgumentError(
            f"DecodeCSV: {len(select_cols)} selected columns for {len(record_defaults)} defaults."
        )
    if select_cols != sorted(set(select_cols)) or min(select_cols, default=0) < 0:
        raise InvalidArgumentError(f"DecodeCSV: the columns {select_cols} don't grow.")
    delimiter = field_delim.encode()
    columns: list[list[Any]] = [[] for _ in record_defaults]
    for row, record in enumerate(records.reshape(-1).tolist()):
        fields = _csv_fields(record, delimiter, use_quote_delim)
        if select_cols:
            fields = [fields[i] for i in select_cols if i < len(fields)]
        if len(fields) != len(columns):
            raise InvalidArgumentError(
                f"DecodeCSV: expected {len(columns)} fields, found {len(fields)} in record {row}."
            )
        for i, (field, default) in enumerate(zip(fields, record_defaults, strict=True)):
            columns[i].append(_csv_value(field, np.asarray(default), na_value.encode(), (i, row)))
    return [
        _csv_column(column, np.asarray(default).dtype, records.shape)
        for column, default in zip(columns, record_defaults, strict=True)
    ]


def _csv_column(values: Sequence[Any], dtype: Any, shape: tuple[int, ...]) -> Any:
    if dtype.kind == "O":
        return string_array(values, shape)
    return np.array(values, dtype).reshape(shape)


def _csv_value(
    field: bytes, default: np.ndarray[Any, Any], na_value: bytes, place: tuple[int, int]
) -> Any:
    if not field or field == na_value:
        if default.size != 1:
            column, row = place
            raise InvalidArgumentError(
                f"DecodeCSV: field {column} is required but missing in record {row}."
            )
        return default.reshape(-1)[0]
    return field if default.dtype == object else number(field, as_dtype(default.dtype))


def _csv_fields(record: bytes, delimiter: bytes, quotes: bool) -> list[bytes]:
    """Returns the fields of one record; quotes are doubled inside quoted fields."""
    if not quotes or b'"' not in record:
        return _checked(record.split(delimiter), quotes)
    fields = []
    at = 0
    while at <= len(record):
        if record[at : at + 1] == b'"':
            field, at = _quoted(record, at + 1, delimiter)
        else:
            end = record.find(delimiter, at)
            end = len(record) if end < 0 else end
            field, at = record[at:end], end + 1
            _checked([field], quotes)
        fields.append(field)
    return fields


def _quoted(record: bytes, at: int, delimiter: bytes) -> tuple[bytes, int]:
    """Returns a quoted field and where the next one starts."""
    parts = []
    while True:
        end = record.find(b'"', at)
        if end < 0:
            raise InvalidArgumentError("DecodeCSV: a quoted field has no end.")
        parts.append(record[at:end])
        if record[end + 1 : end + 2] != b'"':
            break
        parts.append(b'"')
        at = end + 2
    if end + 1 < len(record) and record[end + 1 : end + 2] != delimiter:
        raise InvalidArgumentError(
            "DecodeCSV: a quoted field is followed by more than a delimiter."
        )
    return b"".join(parts), end + 2


def _checked(fields: Iterable[bytes], quotes: bool) -> list[bytes]:
    found = list(fields)
    for field in found:
        if (quotes and b'"' in field) or b"\n" in field or b"\r" in field:
            raise InvalidArgumentError(
                "DecodeCSV: a field that isn't quoted has a quote, a line feed or a return in it."
            )
    return found
