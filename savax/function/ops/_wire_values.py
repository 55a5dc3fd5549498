"""Values of protobuf's wire format, by the types that fields are declared with."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor

from savax.errors import InvalidArgumentError
from savax.trackable.bundle._varint import encode_varint

if TYPE_CHECKING:
    from collections.abc import Iterator

VARINT, FIXED64, BYTES, GROUP_START, GROUP_END, FIXED32 = range(6)
_LONGEST_VARINT = 10
_MAX_GROUP_DEPTH = 100

_FIXED = {
    FieldDescriptor.TYPE_DOUBLE: ("<d", FIXED64),
    FieldDescriptor.TYPE_FIXED64: ("<Q", FIXED64),
    FieldDescriptor.TYPE_SFIXED64: ("<q", FIXED64),
    FieldDescriptor.TYPE_FLOAT: ("<f", FIXED32),
    FieldDescriptor.TYPE_FIXED32: ("<I", FIXED32),
    FieldDescriptor.TYPE_SFIXED32: ("<i", FIXED32),
}
_LENGTH_DELIMITED = frozenset(
    {
        *(FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES),
        FieldDescriptor.TYPE_MESSAGE,
    }
)
_ZIGZAG = frozenset({FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SINT64})
_SIGNED = frozenset(
    {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_ENUM}
)
_32_BIT = frozenset(
    {
        *(FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_SINT32),
        FieldDescriptor.TYPE_ENUM,
    }
)


def wire_type(kind: int) -> int:
    """Returns how values of a declared type are written."""
    if kind in _FIXED:
        return _FIXED[kind][1]
    if kind == FieldDescriptor.TYPE_GROUP:
        return GROUP_START
    return BYTES if kind in _LENGTH_DELIMITED else VARINT


def fields_of(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yields (number, wire type, value) of each field; values are integers or bytes.

    Raises:
      InvalidArgumentError: the data is no serialized message.
    """
    position = 0
    while position < len(data):
        number, wire, value, position = _field(data, position, 0)
        if wire == GROUP_END:
            raise _damaged("a group ends that hasn't begun")
        yield number, wire, value


def values_of(kind: int, wire: int, value: Any) -> list[Any]:
    """Returns the values of a field of a declared type; none if it is written in another way."""
    expected = wire_type(kind)
    if wire == expected:
        return [_decoded(kind, value)]
    if wire != BYTES or expected in (BYTES, GROUP_START):
        return []
    return list(_packed(kind, value))


def encoded(kind: int, number: int, value: Any) -> bytes:
    """Returns a field with its tag."""
    wire = wire_type(kind)
    if wire == GROUP_START:
        return b"".join([_tag(number, GROUP_START), value, _tag(number, GROUP_END)])
    return _tag(number, wire) + _payload(kind, value)


def encoded_packed(kind: int, number: int, values: list[Any]) -> bytes:
    """Returns a field of several numbers in one piece, with its tag."""
    data = b"".join(_payload(kind, value) for value in values)
    return _tag(number, BYTES) + encode_varint(len(data)) + data


def _packed(kind: int, data: bytes) -> Iterator[Any]:
    position = 0
    while position < len(data):
        if kind in _FIXED:
            size = struct.calcsize(_FIXED[kind][0])
            raw: Any = _taken(data, position, size)
            position += size
        else:
            raw, position = _read_varint(data, position)
        yield _decoded(kind, raw)


def _decoded(kind: int, value: Any) -> Any:
    if kind in _FIXED:
        return struct.unpack(_FIXED[kind][0], value)[0]
    if wire_type(kind) != VARINT:
        return value
    if kind == FieldDescriptor.TYPE_BOOL:
        return value != 0
    bits = 32 if kind in _32_BIT else 64
    value &= (1 << bits) - 1
    if kind in _ZIGZAG:
        return value >> 1 ^ -(value & 1)
    return value - (1 << bits) if kind in _SIGNED and value >> (bits - 1) else value


def _payload(kind: int, value: Any) -> bytes:
    if kind in _FIXED:
        return struct.pack(_FIXED[kind][0], value)
    if kind in _LENGTH_DELIMITED:
        return b"".join([encode_varint(len(value)), value])
    value = int(value)
    if kind in _ZIGZAG:
        value = value << 1 ^ value >> 63
    return encode_varint(value & 0xFFFFFFFFFFFFFFFF)


def _field(data: bytes, position: int, depth: int) -> tuple[int, int, Any, int]:
    """Returns number, wire type and value of the field at a position, and where the next is."""
    tag, position = _read_varint(data, position)
    number, wire = tag >> 3, tag & 7
    if number == 0:
        raise _damaged("a field has the number 0")
    value: Any = None
    if wire == VARINT:
        value, position = _read_varint(data, position)
    elif wire == BYTES:
        size, position = _read_varint(data, position)
        value = _taken(data, position, size)
        position += size
    elif wire in (FIXED32, FIXED64):
        size = 4 if wire == FIXED32 else 8
        value = _taken(data, position, size)
        position += size
    elif wire == GROUP_START:
        value, position = _group(data, position, number, depth)
    elif wire != GROUP_END:
        raise _damaged(f"a field has the wire type {wire}")
    return number, wire, value, position


def _group(data: bytes, start: int, number: int, depth: int) -> tuple[bytes, int]:
    """Returns what is in a group, and the position behind it."""
    if depth > _MAX_GROUP_DEPTH:
        raise _damaged("groups are nested too deeply")
    end = position = start
    while position < len(data):
        found, wire, _, position = _field(data, position, depth + 1)
        if wire == GROUP_END:
            if found != number:
                break
            return data[start:end], position
        end = position
    raise _damaged("a group has no end")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(_LONGEST_VARINT):
        if position >= len(data):
            raise _damaged("it ends within a number")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, position
    raise _damaged("a number has no end")


def _taken(data: bytes, position: int, size: int) -> bytes:
    if position + size > len(data):
        raise _damaged("it ends within a field")
    return data[position : position + size]


def _tag(number: int, wire: int) -> bytes:
    return encode_varint(number << 3 | wire)


def _damaged(why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"The message can't be read: {why}.")
