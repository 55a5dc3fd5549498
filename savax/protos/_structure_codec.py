"""Nested Python values, specs and literals as StructuredValue.

Signatures of functions, their default arguments and the specs of composite tensors are stored in
this form. Each kind of value has a pair of small functions.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from savax.errors import (
    CorruptSavedModelError,
    InvalidArgumentError,
    NotEncodableError,
    ResourceLimitError,
)
from savax.protos._messages import (
    BoundedTensorSpecProto,
    DictValue,
    ListValue,
    NamedTupleValue,
    NoneValue,
    PairValue,
    StructuredValue,
    TensorSpecProto,
    TupleValue,
    TypeSpecProto,
)
from savax.protos._shape_codec import decode_shape, encode_shape
from savax.protos._tensor_codec import decode_tensor, encode_tensor
from savax.types import DType, Shape, TensorShape, TensorSpec, as_dtype

# protobuf refuses to parse messages nested deeper than 100; those around a value take some of them.
_MAX_MESSAGE_DEPTH = 84


@dataclass(frozen=True, slots=True, eq=False)
class BoundedTensorSpec:
    """A spec with bounds of its elements.

    Attributes:
      shape: the shape.
      dtype: the dtype.
      name: the name, if there is one.
      minimum: the least elements; broadcasts to the shape.
      maximum: the greatest elements; broadcasts to the shape.
    """

    shape: Shape
    dtype: DType
    name: str | None
    minimum: np.ndarray[Any, Any]
    maximum: np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class TypeSpecValue:
    """The spec of a composite tensor, as the file states it.

    Attributes:
      class_number: value of ``TypeSpecProto.TypeSpecClass``.
      class_name: the class's name, e.g. ``"RaggedTensorSpec"``; for registered types and extension
        types the name that identifies them.
      type_state: nested Python value whose meaning depends on the class.
      num_flat_components: how many tensors a value of the type consists of.
    """

    class_number: int
    class_name: str
    type_state: Any
    num_flat_components: int


def encode_structure(value: Any) -> StructuredValue:
    """Returns the message of a nested Python value.

    Args:
      value: None, bool, int, float, str, TensorShape, DType, TensorSpec, BoundedTensorSpec,
        TypeSpecValue or an array, or a list, tuple, named tuple or mapping with string keys of
        such values.

    Raises:
      NotEncodableError: a part of the value has no such form, or is nested too deeply; the message
        names the path to it.
      InvalidArgumentError: an int needs more than 64 bits.
    """
    return _encode(value, _Place("value", 0))


def decode_structure(proto: StructuredValue) -> Any:
    """Returns the nested Python value that a message holds.

    Named tuples are of a new class, the same for equal names and fields. Bounds and literal tensors
    are numpy arrays.

    Raises:
      CorruptSavedModelError: a part of the message is empty or invalid.
      ResourceLimitError: it is nested too deeply, or a tensor is too large.
    """
    return _decode(proto, _Place("value", 0))


class _Place:
    """Where in a nested value the work is: a path for messages, and the depth of messages."""

    __slots__ = ("depth", "outer", "step")

    def __init__(self, step: str, depth: int, outer: _Place | None = None) -> None:
        self.step = step
        self.depth = depth
        self.outer = outer

    @property
    def path(self) -> str:
        """The path, put together when a message needs it: each of many elements has its own."""
        steps = []
        place: _Place | None = self
        while place is not None:
            steps.append(place.step)
            place = place.outer
        return "".join(reversed(steps))

    def inner(self, step: str, messages: int = 2) -> _Place:
        """Returns the place of an element, which is a number of messages further in."""
        return _Place(step, self.depth + messages, self)


def _encode(value: Any, place: _Place) -> StructuredValue:
    if place.depth > _MAX_MESSAGE_DEPTH:
        raise NotEncodableError(
            f"The value is nested too deeply for the file format, at {place.path}."
        )
    for matches, field, encode, _ in _KINDS:
        if matches(value):
            return StructuredValue(**{field: encode(value, place)})
    raise NotEncodableError(
        f"{place.path} is {value!r} of type {type(value).__name__}, which has no form in a "
        "signature: use tensors, specs, numbers, text, and lists, tuples and dicts of them."
    )


def _decode(proto: StructuredValue, place: _Place) -> Any:
    if place.depth > _MAX_MESSAGE_DEPTH:
        raise ResourceLimitError(f"A structured value is nested too deeply, at {place.path}.")
    field = proto.WhichOneof("kind")
    if field is None:
        raise CorruptSavedModelError(f"A structured value is empty, at {place.path}.")
    return _DECODERS[field](getattr(proto, field), place)


def _is_float(value: Any) -> bool:
    return isinstance(value, float)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _encode_int(value: int, place: _Place) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise InvalidArgumentError(f"{place.path} is {value}, which needs more than 64 bits.")
    return int(value)


def _encode_text(value: str, place: _Place) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise NotEncodableError(f"{place.path} is text that isn't Unicode: {error}") from error
    return str(value)


def _decode_dtype(number: int, place: _Place) -> DType:
    try:
        return as_dtype(int(number))
    except InvalidArgumentError as error:
        raise CorruptSavedModelError(f"{place.path} has the invalid dtype {number}.") from error


def _encode_spec(value: TensorSpec, _: _Place) -> TensorSpecProto:
    return TensorSpecProto(
        name=value.name or "", shape=encode_shape(value.shape), dtype=value.dtype.number
    )


def _decode_spec(proto: TensorSpecProto, place: _Place) -> TensorSpec:
    dtype = _decode_dtype(proto.dtype, place)
    return TensorSpec(decode_shape(proto.shape), dtype, proto.name or None)


def _encode_bounded(value: BoundedTensorSpec, _: _Place) -> BoundedTensorSpecProto:
    return BoundedTensorSpecProto(
        name=value.name or "",
        shape=encode_shape(value.shape),
        dtype=value.dtype.number,
        minimum=encode_tensor(value.minimum, value.dtype, compact=False),
        maximum=encode_tensor(value.maximum, value.dtype, compact=False),
    )


def _decode_bounded(proto: BoundedTensorSpecProto, place: _Place) -> BoundedTensorSpec:
    return BoundedTensorSpec(
        shape=decode_shape(proto.shape),
        dtype=_decode_dtype(proto.dtype, place),
        name=proto.name or None,
        minimum=decode_tensor(proto.minimum),
        maximum=decode_tensor(proto.maximum),
    )


def _encode_type_spec(value: TypeSpecValue, place: _Place) -> TypeSpecProto:
    return TypeSpecProto(
        type_spec_class=value.class_number,
        type_spec_class_name=value.class_name,
        type_state=_encode(value.type_state, place.inner(".type_state")),
        num_flat_components=value.num_flat_components,
    )


def _decode_type_spec(proto: TypeSpecProto, place: _Place) -> TypeSpecValue:
    return TypeSpecValue(
        class_number=int(proto.type_spec_class),
        class_name=proto.type_spec_class_name,
        type_state=_decode(proto.type_state, place.inner(".type_state")),
        num_flat_components=proto.num_flat_components,
    )


def _encode_elements(value: list[Any] | tuple[Any, ...], place: _Place) -> list[StructuredValue]:
    return [_encode(element, place.inner(f"[{i}]")) for i, element in enumerate(value)]


def _decode_elements(proto: ListValue | TupleValue, place: _Place) -> list[Any]:
    return [_decode(element, place.inner(f"[{i}]")) for i, element in enumerate(proto.values)]


def _encode_mapping(value: Mapping[Any, Any], place: _Place) -> DictValue:
    for key in value:
        if not isinstance(key, str):
            raise NotEncodableError(
                f"{place.path} has the key {key!r} of type {type(key).__name__}; "
                "keys of dicts in a signature must be strings."
            )
    return DictValue(
        fields={
            _encode_text(key, place): _encode(element, place.inner(f"[{key!r}]", messages=3))
            for key, element in value.items()
        }
    )


def _decode_mapping(proto: DictValue, place: _Place) -> dict[str, Any]:
    # Order of entries is not part of a map, and differs between runtimes.
    return {
        key: _decode(proto.fields[key], place.inner(f"[{key!r}]", messages=3))
        for key in sorted(proto.fields)
    }


def _is_named_tuple(value: Any) -> bool:
    names = getattr(value, "_fields", None)
    return (
        isinstance(value, tuple)
        and isinstance(names, tuple)
        and all(isinstance(name, str) for name in names)
    )


def _encode_named_tuple(value: Any, place: _Place) -> NamedTupleValue:
    pairs = [
        PairValue(key=name, value=_encode(element, place.inner(f".{name}", messages=3)))
        for name, element in zip(value._fields, value, strict=True)
    ]
    return NamedTupleValue(name=type(value).__name__, values=pairs)


def _decode_named_tuple(proto: NamedTupleValue, place: _Place) -> Any:
    names = tuple(pair.key for pair in proto.values)
    try:
        cls = _named_tuple_class(proto.name, names)
    except (ValueError, SyntaxError) as error:  # the latter if Python takes two names for one
        raise CorruptSavedModelError(
            f"{place.path} is no named tuple {proto.name!r} of {list(names)}: {error}"
        ) from error
    return cls(
        *(_decode(pair.value, place.inner(f".{pair.key}", messages=3)) for pair in proto.values)
    )


@functools.lru_cache(maxsize=256)
def _named_tuple_class(name: str, names: tuple[str, ...]) -> Callable[..., Any]:
    return namedtuple(name, names)  # type: ignore[misc]


def _is_array(value: Any) -> bool:
    """Whether a value is an array of another library, which TensorFlow stores as a tensor."""
    return (
        hasattr(value, "__array__")
        and hasattr(value, "shape")
        and hasattr(value, "dtype")
        and not isinstance(value, np.generic)
    )


def _encode_array(value: Any, place: _Place) -> Any:
    try:
        return encode_tensor(value, compact=False)
    except (TypeError, ValueError) as error:
        raise NotEncodableError(f"{place.path} is an array without a form: {error}") from error


_Kind: TypeAlias = tuple[
    Callable[[Any], bool], str, Callable[[Any, _Place], Any], Callable[[Any, _Place], Any]
]


def _instance_of(cls: Any) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, cls)


# Test of a Python value, field of StructuredValue, encoder, decoder. The first test that holds
# decides: bool precedes int, and named tuples precede tuples.
_KINDS: tuple[_Kind, ...] = (
    (lambda v: v is None, "none_value", lambda v, _: NoneValue(), lambda p, _: None),
    (_is_float, "float64_value", lambda v, _: float(v), lambda p, _: p),
    (_is_int, "int64_value", _encode_int, lambda p, _: p),
    (_instance_of(str), "string_value", _encode_text, lambda p, _: p),
    (_instance_of(bool), "bool_value", lambda v, _: v, lambda p, _: p),
    (
        _instance_of(TensorShape),
        "tensor_shape_value",
        lambda v, _: encode_shape(v.dims),
        lambda p, _: TensorShape(decode_shape(p)),
    ),
    (_instance_of(DType), "tensor_dtype_value", lambda v, _: v.number, _decode_dtype),
    (_instance_of(TensorSpec), "tensor_spec_value", _encode_spec, _decode_spec),
    (_instance_of(TypeSpecValue), "type_spec_value", _encode_type_spec, _decode_type_spec),
    (
        _instance_of(BoundedTensorSpec),
        "bounded_tensor_spec_value",
        _encode_bounded,
        _decode_bounded,
    ),
    (
        _instance_of(list),
        "list_value",
        lambda v, place: ListValue(values=_encode_elements(v, place)),
        _decode_elements,
    ),
    (_is_named_tuple, "named_tuple_value", _encode_named_tuple, _decode_named_tuple),
    (
        _instance_of(tuple),
        "tuple_value",
        lambda v, place: TupleValue(values=_encode_elements(v, place)),
        lambda p, place: tuple(_decode_elements(p, place)),
    ),
    (_instance_of(Mapping), "dict_value", _encode_mapping, _decode_mapping),
    (_instance_of(np.ndarray), "numpy_value", _encode_array, lambda p, _: decode_tensor(p)),
    (_is_array, "tensor_value", _encode_array, lambda p, _: decode_tensor(p)),
)

_DECODERS = {field: decode for _, field, _, decode in _KINDS}
