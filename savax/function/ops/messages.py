"""Protobuf messages of types that a node describes: their fields as arrays, and back."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldOptions,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from savax.errors import InvalidArgumentError, ShapeMismatchError, UnsupportedParamError
from savax.function.ops._host_strings import attr_bytes, check_result_elements, string_array
from savax.function.ops._registry import evaluates
from savax.function.ops._wire_values import (
    BYTES,
    GROUP_START,
    encoded,
    encoded_packed,
    fields_of,
    values_of,
    wire_type,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.types import DType

_EMBEDDED = "bytes://"

# Dtypes of the arrays that a field of a type may be.
_DTYPES = {
    FieldDescriptor.TYPE_BOOL: ("bool",),
    FieldDescriptor.TYPE_BYTES: ("string",),
    FieldDescriptor.TYPE_DOUBLE: ("float64",),
    FieldDescriptor.TYPE_ENUM: ("int32",),
    FieldDescriptor.TYPE_FIXED32: ("uint32", "uint64"),
    FieldDescriptor.TYPE_FIXED64: ("uint64",),
    FieldDescriptor.TYPE_FLOAT: ("float32", "float64"),
    FieldDescriptor.TYPE_GROUP: ("string",),
    FieldDescriptor.TYPE_INT32: ("int32", "int64"),
    FieldDescriptor.TYPE_INT64: ("int64",),
    FieldDescriptor.TYPE_MESSAGE: ("string",),
    FieldDescriptor.TYPE_SFIXED32: ("int32", "int64"),
    FieldDescriptor.TYPE_SFIXED64: ("int64",),
    FieldDescriptor.TYPE_SINT32: ("int32", "int64"),
    FieldDescriptor.TYPE_SINT64: ("int64",),
    FieldDescriptor.TYPE_STRING: ("string",),
    FieldDescriptor.TYPE_UINT32: ("uint32", "uint64"),
    FieldDescriptor.TYPE_UINT64: ("uint64",),
}


class _Field(NamedTuple):
    """A field of a message type.

    Attributes:
      number: its number.
      kind: its type.
      is_repeated: whether it has any number of values.
      is_packed: whether its values are written in one piece.
      default: what it is where a message lacks it.
    """

    number: int
    kind: int
    is_repeated: bool
    is_packed: bool
    default: Any


@evaluates("DecodeProtoV2")
def _decode_proto(
    bytes: Any,
    *,
    message_type: str,
    field_names: list[str],
    output_types: list[DType],
    descriptor_source: str,
    message_format: str,
    sanitize: bool,
) -> tuple[Any, list[Any]]:
    descriptor = _message_type(attr_bytes(descriptor_source), message_type)
    fields = [_field(descriptor, *each) for each in zip(field_names, output_types, strict=True)]
    if message_format not in ("binary", "text"):
        raise InvalidArgumentError(f"DecodeProtoV2: {message_format!r} is no format of messages.")
    messages = bytes.reshape(-1).tolist()
    if not messages:
        raise InvalidArgumentError("DecodeProtoV2 takes at least one message.")
    if sanitize or message_format == "text":
        messages = [_rewritten(descriptor, text, message_format) for text in messages]
    found = [_values(fields, message) for message in messages]
    counts = np.array([[len(values) for values in row] for row in found], np.int32)
    columns = [
        _column([row[i] for row in found], field, dtype, bytes.shape)
        for i, (field, dtype) in enumerate(zip(fields, output_types, strict=True))
    ]
    return counts.reshape(*bytes.shape, len(fields)), columns


@evaluates("EncodeProto", on_host=True)
def _encode_proto(
    sizes: Any,
    values: tuple[Any, ...],
    *,
    field_names: list[str],
    message_type: str,
    descriptor_source: str,
    Tinput_types: list[DType],  # noqa: N803 - the attribute's name
) -> Any:
    descriptor = _message_type(attr_bytes(descriptor_source), message_type)
    fields = [_field(descriptor, *each) for each in zip(field_names, Tinput_types, strict=True)]
    lead = sizes.shape[:-1]
    if sizes.shape[-1:] != (len(fields),) or any(v.shape[:-1] != lead for v in values):
        raise ShapeMismatchError(
            f"EncodeProto: sizes of the shape {sizes.shape} don't fit values of the shapes "
            f"{[value.shape for value in values]}."
        )
    counts = sizes.reshape(-1, len(fields))
    rows = [value.reshape(-1, value.shape[-1]) for value in values]
    order = sorted(range(len(fields)), key=lambda i: fields[i].number)
    messages = []
    for position, row in enumerate(counts.tolist()):
        parts = [_encoded(fields[i], field_names[i], rows[i][position], row[i]) for i in order]
        messages.append(b"".join(parts))
    return string_array(messages, lead)


def _encoded(field: _Field, name: str, values: Any, count: int) -> bytes:
    if not 0 <= count <= len(values):
        raise InvalidArgumentError(
            f"EncodeProto: the field {name!r} has {len(values)} values, expected {count}."
        )
    if count > 1 and not field.is_repeated:
        raise InvalidArgumentError(
            f"EncodeProto: the field {name!r} isn't repeated, and can't have {count} values."
        )
    items = values[:count].tolist()
    if field.is_packed and items:
        return encoded_packed(field.kind, field.number, items)
    return b"".join(encoded(field.kind, field.number, item) for item in items)


def _values(fields: Sequence[_Field], message: bytes) -> list[list[Any]]:
    """Returns the values of some fields; of a field that isn't repeated the last one."""
    places: dict[int, list[int]] = {}
    for i, field in enumerate(fields):
        places.setdefault(field.number, []).append(i)
    found: list[list[Any]] = [[] for _ in fields]
    for number, wire, value in fields_of(message):
        for i in places.get(number, ()):
            values = values_of(fields[i].kind, wire, value)
            found[i] = found[i] + values if fields[i].is_repeated else (values or found[i])[-1:]
    return found


def _column(
    rows: Sequence[Sequence[Any]], field: _Field, dtype: DType, shape: tuple[int, ...]
) -> Any:
    width = max(1, *map(len, rows))
    check_result_elements(width * len(rows), "DecodeProtoV2")
    full = [[*row, *[field.default] * (width - len(row))] for row in rows]
    if dtype.name == "string":
        return string_array([item for row in full for item in row], (*shape, width))
    return np.array(full, dtype.numpy_dtype).reshape(*shape, width)


def _rewritten(descriptor: Any, text: bytes, message_format: str) -> bytes:
    """Returns a message as protobuf's own library writes it after reading it."""
    message = GetMessageClass(descriptor)()
    try:
        if message_format == "text":
            text_format.Parse(text, message)
        else:
            message.ParseFromString(text)
    except (text_format.ParseError, DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(
            f"A message of type {descriptor.full_name} can't be read: {error}."
        ) from error
    data: bytes = message.SerializeToString()
    return data


def _field(descriptor: Any, name: str, dtype: DType) -> _Field:
    found = descriptor.fields_by_name.get(name)
    if found is None:
        raise InvalidArgumentError(
            f"Messages of type {descriptor.full_name} have no field {name!r}."
        )
    if dtype.name not in _DTYPES[found.type]:
        wanted = " or ".join(_DTYPES[found.type])
        raise InvalidArgumentError(
            f"The field {name!r} of {descriptor.full_name} is {wanted}, not {dtype.name}."
        )
    message = DescriptorProto()
    descriptor.CopyToProto(message)
    declared = next(field for field in message.field if field.name == name)
    is_text = wire_type(found.type) in (BYTES, GROUP_START)
    default = found.default_value
    if declared.label == declared.LABEL_REPEATED or default is None:
        default = b"" if is_text else 0
    elif isinstance(default, str):
        default = default.encode()
    is_repeated = declared.label == declared.LABEL_REPEATED
    is_packed = is_repeated and not is_text and _writes_packed(descriptor, declared.options)
    return _Field(found.number, found.type, is_repeated, is_packed, default)


def _writes_packed(descriptor: Any, options: FieldOptions) -> bool:
    if options.HasField("packed"):
        return options.packed
    file = FileDescriptorProto()
    descriptor.file.CopyToProto(file)
    return file.syntax == "proto3"


@functools.lru_cache(maxsize=32)
def _message_type(source: bytes, name: str) -> Any:
    """Returns the descriptor of a message type.

    Args:
      source: ``bytes://`` and a serialized FileDescriptorSet.
      name: of the type, with its package.
    """
    if not source.startswith(_EMBEDDED.encode()):
        raise UnsupportedParamError(
            f"The message type {name!r} is described by {source[:80]!r}, which is outside of the "
            f"model; save it with a FileDescriptorSet in the node ({_EMBEDDED!r})."
        )
    try:
        files = FileDescriptorSet.FromString(source[len(_EMBEDDED) :])
        pool = DescriptorPool()
        for file in files.file:  # each comes after those that it imports
            pool.AddSerializedFile(file.SerializeToString())
        return pool.FindMessageTypeByName(name)
    except (DecodeError, KeyError, TypeError) as error:
        raise InvalidArgumentError(
            f"The node's descriptors don't have the message type {name!r}: {error}."
        ) from error
