"""Bytes and text of messages: parsing, deterministic and canonical serialization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from google.protobuf import text_format
from google.protobuf.message import DecodeError, EncodeError, Message

from savax.errors import CorruptSavedModelError, NotEncodableError
from savax.protos._messages import POOL

if TYPE_CHECKING:
    from collections.abc import Iterator

_M = TypeVar("_M", bound=Message)

# The descriptor classes differ between protobuf's Python and C runtimes.
_Descriptor: TypeAlias = Any
_Field: TypeAlias = Any

# Wire types (protobuf encoding): the low three bits of a field's tag.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def parse(message_class: type[_M], data: bytes, what: str) -> _M:
    """Returns the message that bytes hold.

    Args:
      message_class: class of the message.
      data: the serialized message.
      what: names the source in the error, e.g. a path.

    Raises:
      CorruptSavedModelError: the bytes are no such message.
    """
    message = message_class()
    try:
        message.ParseFromString(data)
    except (DecodeError, ValueError) as error:  # ValueError: more than 2 GiB
        name = message_class.DESCRIPTOR.full_name
        raise CorruptSavedModelError(
            f"{what} ({len(data)} bytes) is not a {name} message: {error}"
        ) from error
    return message


def parse_text(message_class: type[_M], text: str | bytes, what: str) -> _M:
    """Returns the message that protobuf's text format spells.

    Raises:
      CorruptSavedModelError: the text is no such message; unknown fields are errors too.
    """
    message = message_class()
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        text_format.Parse(decoded, message, descriptor_pool=POOL)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        name = message_class.DESCRIPTOR.full_name
        raise CorruptSavedModelError(f"{what} is not the text of a {name}: {error}") from error
    return message


def serialize(message: Message) -> bytes:
    """Returns a message's bytes; equal messages give equal bytes within one protobuf version.

    Raises:
      NotEncodableError: the message exceeds protobuf's limit of 2 GiB.
    """
    try:
        return message.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise NotEncodableError(
            f"The {message.DESCRIPTOR.full_name} can't be serialized: {error}"
        ) from error


def to_text(message: Message) -> str:
    """Returns a message in protobuf's text format, with the content of Any messages expanded."""
    return text_format.MessageToString(message, descriptor_pool=POOL)


def canonical_bytes(message: Message) -> bytes:
    """Returns a message's bytes as protobuf's C++ runtime orders them.

    Map entries ascend by key: numbers numerically, strings bytewise. Runtimes differ in that order,
    and fingerprints hash the C++ one.
    """
    data = bytearray(serialize(message))
    _sort_maps(message.DESCRIPTOR, data, 0, len(data), _MapFinder())
    return bytes(data)


class _MapFinder:
    """Knows which message types hold maps, directly or further down."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[int, _Field]] = {}

    def fields(self, descriptor: _Descriptor) -> dict[int, _Field]:
        """Returns the fields of a type that are maps or lead to maps, by number."""
        if descriptor.full_name not in self._fields:
            self._fields[descriptor.full_name] = {
                field.number: field
                for field in descriptor.fields
                if field.message_type is not None and self._leads_to_map(field.message_type)
            }
        return self._fields[descriptor.full_name]

    def _leads_to_map(self, descriptor: _Descriptor) -> bool:
        reached = {descriptor.full_name: descriptor}
        queue = [descriptor]
        while queue:
            found = queue.pop()
            if _is_map_entry(found):
                return True
            for field in found.fields:
                inner = field.message_type
                if inner is not None and inner.full_name not in reached:
                    reached[inner.full_name] = inner
                    queue.append(inner)
        return False


def _is_map_entry(descriptor: _Descriptor) -> bool:
    return bool(descriptor.GetOptions().map_entry)


def _sort_maps(
    descriptor: _Descriptor, data: bytearray, start: int, end: int, finder: _MapFinder
) -> None:
    """Sorts the map entries of the message in data[start:end], in place: no length changes."""
    fields = finder.fields(descriptor)
    if not fields:
        return
    maps: dict[int, list[tuple[int, int, Any]]] = {}
    for number, field_start, value_start, field_end in _scan(data, start, end):
        field = fields.get(number)
        if field is None or field.message_type is None or data[field_start] & 7 != _BYTES:
            continue  # in the last case an unknown field with the number of a known one
        _sort_maps(field.message_type, data, value_start, field_end, finder)
        if _is_map_entry(field.message_type):
            key = _entry_key(data, value_start, field_end)
            maps.setdefault(number, []).append((field_start, field_end, key))
    for entries in maps.values():
        first, last = entries[0][0], entries[-1][1]
        entries.sort(key=lambda entry: entry[2])
        joined = b"".join(bytes(data[a:b]) for a, b, _ in entries)
        if len(joined) == last - first:  # else some entries are unknown fields, which come last
            data[first:last] = joined


def _scan(data: bytearray, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields (number, start of tag, start of value, end) of each field of a serialized message."""
    position = start
    while position < end:
        field_start = position
        tag, position = _varint(data, position)
        value_start = position
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, position = _varint(data, position)
        elif wire_type == _BYTES:
            length, value_start = _varint(data, position)
            position = value_start + length
        elif wire_type in (_FIXED32, _FIXED64):
            position += 4 if wire_type == _FIXED32 else 8
        else:  # groups: only as unknown fields, which come last
            return
        yield tag >> 3, field_start, value_start, position


def _entry_key(data: bytearray, start: int, end: int) -> tuple[int, bytes]:
    """Returns the key of a map entry as what sorts numbers and strings alike.

    The schema has string and unsigned keys only. An entry without a key is an unknown field.
    """
    for number, tag_start, value_start, value_end in _scan(data, start, end):
        if number == 1:
            wire_type = data[tag_start] & 7
            if wire_type == _VARINT:
                return _varint(data, value_start)[0], b""
            raw = bytes(data[value_start:value_end])
            return (0, raw) if wire_type == _BYTES else (int.from_bytes(raw, "little"), b"")
    return 0, b""


def _varint(data: bytearray, position: int) -> tuple[int, int]:
    """Returns a varint and the position after it."""
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
