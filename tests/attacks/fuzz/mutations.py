"""Random changes of messages: of fields at any depth, by values that are likely to hurt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

if TYPE_CHECKING:
    import random

_INTEGERS = (0, 1, -1, 2, 7, 127, 255, 2**31 - 1, -(2**31), 2**32, 2**63 - 1, -(2**63), 2**40)
_FLOATS = (0.0, -1.0, 1e38, float("inf"), float("nan"))
_TEXTS = (b"", b"x", b"../x", b"a:b:c", b"^a", b"\x00", "\u00fc".encode(), b"T", b"n" * 300, b"-1")
_MOST_ITEMS = 200


def mutated(message: Message, rng: random.Random, changes: int = 1) -> Message:
    """Returns a copy of a message with some changes at places drawn at random."""
    copied = type(message)()
    copied.CopyFrom(message)
    for _ in range(changes):
        _change(copied, rng)
    return copied


def _change(message: Message, rng: random.Random) -> None:
    """Walks down from a message, and changes a field where it stops."""
    current = message
    for _ in range(12):
        fields = [(field, value) for field, value in current.ListFields() if _is_message(field)]
        if not fields or rng.random() < 0.12:
            break
        field, value = rng.choice(fields)
        if _repeated(field):
            items = list(value.values()) if _is_map(field) else list(value)
            items = [item for item in items if isinstance(item, Message)]
            if not items:
                break
            current = rng.choice(items)
        else:
            current = value
    _change_field(current, rng)


def _change_field(message: Message, rng: random.Random) -> None:
    present = [field for field, _ in message.ListFields()]
    fields = present if present and rng.random() < 0.8 else list(message.DESCRIPTOR.fields)
    if not fields:
        return
    field = rng.choice(fields)
    if _repeated(field):
        _change_items(message, field, rng)
    elif rng.random() < 0.15:
        message.ClearField(field.name)
    elif _is_message(field):
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, _scalar(field, getattr(message, field.name), rng))


def _change_items(message: Message, field: FieldDescriptor, rng: random.Random) -> None:
    items: Any = getattr(message, field.name)
    if _is_map(field):
        keys = sorted(items)
        if keys:
            del items[rng.choice(keys)]
        return
    kind = rng.randrange(4)
    if kind == 0 and len(items):
        del items[rng.randrange(len(items))]
    elif kind == 1 and 0 < len(items) < _MOST_ITEMS:
        again = items[rng.randrange(len(items))]
        items.extend([again] * rng.choice((1, 1, 3)))
    elif kind == 2 and len(items) > 1:
        order = list(items)
        rng.shuffle(order)
        copied = [_copy(item) for item in order]
        message.ClearField(field.name)
        items.extend(copied)
    elif not _is_message(field):
        value = _scalar(field, items[0] if len(items) else None, rng)
        if len(items) and rng.random() < 0.7:
            items[rng.randrange(len(items))] = value
        else:
            items.append(value)


def _scalar(field: FieldDescriptor, old: Any, rng: random.Random) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return not old
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice(_FLOATS)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return rng.choice((0, 1, 3, 7, 9, 14, 20, 21, 23, 101, 107))
    if kind == FieldDescriptor.CPPTYPE_STRING:
        text = rng.choice(_TEXTS)
        if old and rng.random() < 0.5:
            data = old.encode() if isinstance(old, str) else bytes(old)
            place = rng.randrange(len(data) + 1)
            text = data[:place] + text + data[place + rng.randrange(3) :]
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        return text if is_bytes else text.decode(errors="replace")
    low, high = _RANGES[kind]
    number = rng.choice(_INTEGERS)
    if isinstance(old, int) and rng.random() < 0.4:
        number = old + rng.choice((-1, 1, 2))
    return min(max(number, low), high)


_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def _is_message(field: FieldDescriptor) -> bool:
    return field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE


def _repeated(field: FieldDescriptor) -> bool:
    # Newer releases of protobuf have a property, and warn of the label.
    is_repeated = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED if is_repeated is None else is_repeated)


def _is_map(field: FieldDescriptor) -> bool:
    return _is_message(field) and field.message_type.GetOptions().map_entry


def _copy(item: Any) -> Any:
    if not isinstance(item, Message):
        return item
    copied = type(item)()
    copied.CopyFrom(item)
    return copied
