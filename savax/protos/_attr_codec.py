"""Python values as AttrValue: attributes of nodes, ops and functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from savax.errors import CorruptSavedModelError, InvalidArgumentError, NotEncodableError
from savax.protos._messages import AttrValue, NameAttrList, TensorProto
from savax.protos._shape_codec import decode_shape, encode_shape
from savax.protos._tensor_codec import decode_tensor, encode_tensor
from savax.types import DType, TensorShape, as_dtype, as_shape

# In version 1 graphs, a dtype's number plus 100 is a reference to a tensor of that dtype.
_REF_OFFSET = 100


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """A function, as the value of an attribute.

    Attributes:
      name: name in the library.
      attrs: Python values of the attributes that it is instantiated with.
    """

    name: str
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttrPlaceholder:
    """An attribute that takes its value where the function around it is instantiated."""

    name: str


# Names that OpDefs give to the kinds, and the fields of AttrValue and its lists that hold them.
ATTR_FIELDS = {
    "int": "i",
    "float": "f",
    "bool": "b",
    "string": "s",
    "type": "type",
    "shape": "shape",
    "tensor": "tensor",
    "func": "func",
}


def encode_attr(value: Any, kind: str | None = None) -> AttrValue:
    """Returns the message of an attribute's value.

    Args:
      value: an int, float, bool, bytes, str, DType, TensorShape, array, FunctionRef,
        AttrPlaceholder or None (a message without a value), or a list or tuple of one kind.
      kind: the attribute's type in the OpDef, e.g. ``"list(shape)"``. With it, anything that names
        a dtype is a ``type``, a tuple of sizes or None is a ``shape``, a name is a ``func``, and
        ints are floats where those are wanted. Without it, the kind is that of the value.

    Raises:
      NotEncodableError: the value has no form in an attribute, or not in one of this kind.
    """
    if isinstance(value, AttrValue):
        return value
    if isinstance(value, AttrPlaceholder):
        return AttrValue(placeholder=value.name)
    if value is None and kind != "shape":
        return AttrValue()
    if kind is None:
        kind = _kind_of(value)
    element_kind = kind.removeprefix("list(").removesuffix(")")
    if element_kind not in ATTR_FIELDS:
        raise InvalidArgumentError(f"{kind!r} is no type of an attribute.")
    if kind == element_kind:
        return AttrValue(**{ATTR_FIELDS[kind]: _encode_element(value, kind)})
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise NotEncodableError(f"The attribute value {value!r} is no {kind}.")
    elements = [_encode_element(element, element_kind) for element in value]
    proto = AttrValue(list=AttrValue.ListValue())
    if elements:
        getattr(proto.list, ATTR_FIELDS[element_kind]).extend(elements)
    return proto


def decode_attr(proto: AttrValue) -> Any:
    """Returns the Python value of an attribute.

    Returns:
      an int, float, bool, bytes, DType, TensorShape, array, FunctionRef, AttrPlaceholder, a list of
      one kind, or None if the message has no value. A reference dtype gives the dtype.

    Raises:
      CorruptSavedModelError: a dtype, shape or tensor is invalid, or a list is of several kinds.
    """
    which = proto.WhichOneof("value")
    if which is None:
        return None
    if which == "placeholder":
        return AttrPlaceholder(proto.placeholder)
    if which != "list":
        return _decode_element(getattr(proto, which), which)
    present = [found for found, _ in proto.list.ListFields()]
    if not present:
        return []
    if len(present) > 1:
        names = [found.name for found in present]
        raise CorruptSavedModelError(f"A list attribute has values of several kinds: {names}.")
    name = present[0].name
    return [_decode_element(element, name) for element in getattr(proto.list, name)]


def _kind_of(value: Any) -> str:
    if isinstance(value, list | tuple):
        kinds = {_kind_of(element) for element in value}
        if kinds == {"int", "float"}:
            return "list(float)"
        if len(kinds) > 1 or any(kind.startswith("list(") for kind in kinds):
            raise NotEncodableError(f"The list {value!r} isn't of one kind of attribute.")
        return f"list({kinds.pop() if kinds else 'int'})"  # empty lists of all kinds are the same
    for types, kind in (
        (bool | np.bool_, "bool"),
        (int | np.integer, "int"),
        (float | np.floating, "float"),
        (str | bytes, "string"),
        (DType, "type"),
        (TensorShape, "shape"),
        (FunctionRef | NameAttrList, "func"),
        (np.ndarray | TensorProto, "tensor"),
    ):
        if isinstance(value, types):  # type: ignore[arg-type]
            return kind
    if hasattr(value, "__array__"):
        return "tensor"
    raise NotEncodableError(f"{value!r} has no form in an attribute.")


def _encode_element(value: Any, kind: str) -> Any:
    """Returns what the field of a kind takes."""
    try:
        return _ENCODERS[kind](value)
    except NotEncodableError:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise NotEncodableError(f"The attribute value {value!r} is no {kind}: {error}") from error


def _encode_int(value: Any) -> int:
    number = int(value.__index__())
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError("64 bits don't hold it")
    return number


def _encode_float(value: Any) -> float:
    if isinstance(value, str | bytes):
        raise TypeError("text is no number")
    return float(value)


def _encode_bool(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError("only True and False are")
    return bool(value)


def _encode_string(value: Any) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else bytes(memoryview(value))


def _encode_function(value: Any) -> NameAttrList:
    if isinstance(value, NameAttrList):
        return value
    if isinstance(value, str):
        return NameAttrList(name=value)
    attrs = {name: encode_attr(attr) for name, attr in value.attrs.items()}
    return NameAttrList(name=value.name, attr=attrs)


_ENCODERS = {
    "int": _encode_int,
    "float": _encode_float,
    "bool": _encode_bool,
    "string": _encode_string,
    "type": lambda value: as_dtype(value).number,
    "shape": lambda value: encode_shape(as_shape(value)),
    "tensor": lambda value: value if isinstance(value, TensorProto) else encode_tensor(value),
    "func": _encode_function,
}


def _decode_element(value: Any, field_name: str) -> Any:
    if field_name == "type":
        return _decode_type(value)
    if field_name == "shape":
        return TensorShape(decode_shape(value))
    if field_name == "tensor":
        return decode_tensor(value)
    if field_name == "func":
        return FunctionRef(value.name, {k: decode_attr(v) for k, v in value.attr.items()})
    return value


def _decode_type(number: int) -> DType:
    try:
        return as_dtype(int(number - _REF_OFFSET if number > _REF_OFFSET else number))
    except InvalidArgumentError as error:
        raise CorruptSavedModelError(f"An attribute's dtype {number} is none.") from error
