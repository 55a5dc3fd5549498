"""What TensorFlow registers about each op: inputs, outputs, attributes and their defaults.

The data is op_schemas.binpb, a serialized OpList that ``tools/extract_op_schemas.py`` writes.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from savax.errors import CorruptSavedModelError, InvalidArgumentError, UnsupportedOpError
from savax.protos import AttrValue, NodeDef, OpDef, OpList, parse
from savax.types import DType, as_dtype

# In version 1 graphs, a dtype's number plus 100 is a reference to a tensor of that dtype.
_REF_OFFSET = 100

# More tensors than this in one argument can only come from a damaged or hostile file.
_MAX_LENGTH = 1 << 20

# Attributes of a node by name: messages, or the Python values that they hold.
Attrs: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ArgSchema:
    """One input or output, which may stand for several tensors.

    Attributes:
      name: name in the schema, and in the tensor names of functions.
      type: the dtype, if the schema fixes it.
      type_attr: attribute that holds the dtype.
      number_attr: attribute that holds the number of tensors, all of one dtype.
      type_list_attr: attribute that holds the dtypes of the tensors.
      is_ref: whether it is a reference to a version 1 variable.
    """

    name: str
    type: DType | None
    type_attr: str | None
    number_attr: str | None
    type_list_attr: str | None
    is_ref: bool


@dataclass(frozen=True, slots=True)
class AttrSchema:
    """One attribute.

    Attributes:
      name: name in the schema.
      kind: ``"int"``, ``"float"``, ``"bool"``, ``"string"``, ``"type"``, ``"shape"``, ``"tensor"``,
        ``"func"``, or a list of one of them: ``"list(int)"``.
      default: the value that may be left out, if there is one.
      allowed: the dtypes or strings it is restricted to, if it is.
      has_minimum: whether ``minimum`` restricts the number, or the length of the list.
      minimum: the least number or length.
    """

    name: str
    kind: str
    default: AttrValue | None
    allowed: tuple[DType, ...] | tuple[str, ...] | None
    has_minimum: bool
    minimum: int


@dataclass(frozen=True, slots=True, eq=False)
class OpSchema:
    """One op type.

    Attributes:
      name: the op type.
      inputs: inputs in order.
      outputs: outputs in order.
      attrs: attributes by name, in the order of the registration.
      is_stateful: whether nodes may have effects, or depend on more than their inputs.
      op_def: the message of the registration; not to be modified.
    """

    name: str
    inputs: tuple[ArgSchema, ...]
    outputs: tuple[ArgSchema, ...]
    attrs: Mapping[str, AttrSchema]
    is_stateful: bool
    op_def: OpDef = field(repr=False)

    def paired(self, inputs: Sequence[Any]) -> Iterator[tuple[ArgSchema, Any]]:
        """Returns the declared inputs with those of a node.

        Raises:
          InvalidArgumentError: there are more or fewer of them.
        """
        if len(inputs) != len(self.inputs):
            names = ", ".join(arg.name for arg in self.inputs)
            raise InvalidArgumentError(
                f"{self.name} takes {len(self.inputs)} inputs ({names}), got {len(inputs)}."
            )
        return zip(self.inputs, inputs, strict=True)


@functools.cache
def _op_defs() -> dict[str, OpDef]:
    path = Path(__file__).with_name("op_schemas.binpb")
    return {op.name: op for op in parse(OpList, path.read_bytes(), str(path)).op}


# Declarations of users' own ops, beside TensorFlow's.
_ADDED_OPS: dict[str, OpDef] = {}


def add_op(op_def: OpDef) -> None:
    """Adds the declaration of an op that TensorFlow doesn't have, or replaces it."""
    _ADDED_OPS[op_def.name] = op_def
    op_schema.cache_clear()
    _default_bytes.cache_clear()


def is_known_op(name: str) -> bool:
    """Whether an op type of this name is declared."""
    return name in _op_defs() or name in _ADDED_OPS


def is_tensorflow_op(name: str) -> bool:
    """Whether TensorFlow registers an op type of this name."""
    return name in _op_defs()


def known_ops() -> tuple[str, ...]:
    """Returns the names of all op types of TensorFlow, sorted."""
    return tuple(sorted(_op_defs()))


def _find_op(name: str) -> OpDef | None:
    return _op_defs().get(name) or _ADDED_OPS.get(name)


@functools.cache
def op_schema(name: str) -> OpSchema:
    """Returns the schema of an op type.

    Raises:
      UnsupportedOpError: TensorFlow registers no such op; the message has the nearest names.
    """
    op_def = _find_op(name)
    if op_def is None:
        near = difflib.get_close_matches(name, _op_defs(), n=3)
        hint = f" Similar names: {', '.join(near)}." if near else ""
        raise UnsupportedOpError(f"TensorFlow has no op named {name!r}.{hint}")
    return schema_of(op_def)


def schema_of(op_def: OpDef) -> OpSchema:
    """Returns the schema that an OpDef declares: an op, or the signature of a function."""
    return OpSchema(
        name=op_def.name,
        inputs=tuple(_arg_schema(arg) for arg in op_def.input_arg),
        outputs=tuple(_arg_schema(arg) for arg in op_def.output_arg),
        attrs=MappingProxyType({attr.name: _attr_schema(attr) for attr in op_def.attr}),
        is_stateful=op_def.is_stateful,
        op_def=op_def,
    )


def _arg_schema(arg: OpDef.ArgDef) -> ArgSchema:
    return ArgSchema(
        name=arg.name,
        type=_dtype(arg.type) if arg.type else None,
        type_attr=arg.type_attr or None,
        number_attr=arg.number_attr or None,
        type_list_attr=arg.type_list_attr or None,
        is_ref=arg.is_ref or arg.type > _REF_OFFSET,
    )


def _attr_schema(attr: OpDef.AttrDef) -> AttrSchema:
    allowed: tuple[DType, ...] | tuple[str, ...] | None = None
    if attr.HasField("allowed_values"):
        values = attr.allowed_values.list
        allowed = tuple(_dtype(number) for number in values.type) or tuple(
            value.decode() for value in values.s
        )
    return AttrSchema(
        name=attr.name,
        kind=attr.type,
        default=attr.default_value if attr.HasField("default_value") else None,
        allowed=allowed,
        has_minimum=attr.has_minimum,
        minimum=attr.minimum,
    )


def strip_defaults(node: NodeDef) -> None:
    """Removes, in place, the attributes of a node that hold their op's default.

    Attributes that the op doesn't declare stay, as do those of nodes that call a function by name.
    """
    if not is_known_op(node.op):
        return
    defaults = _default_bytes(node.op)
    for name in [
        name
        for name, value in node.attr.items()
        if name in defaults and value.SerializeToString(deterministic=True) == defaults[name]
    ]:
        del node.attr[name]


@functools.cache
def _default_bytes(name: str) -> dict[str, bytes]:
    """Returns the serialized defaults of an op's attributes."""
    return {
        attr.name: attr.default_value.SerializeToString(deterministic=True)
        for attr in op_schema(name).op_def.attr
        if attr.HasField("default_value")
    }


def output_types(schema: OpSchema, attrs: Attrs) -> list[DType]:
    """Returns the dtypes of a node's outputs, one per tensor.

    Args:
      schema: schema of the node's op.
      attrs: the node's attributes, as messages or as Python values; defaults may be missing.

    Raises:
      CorruptSavedModelError: an attribute that the outputs depend on is missing or invalid.
    """
    return _tensor_types(schema, schema.outputs, attrs)


def input_types(schema: OpSchema, attrs: Attrs) -> list[DType]:
    """Returns the dtypes of a node's data inputs, one per tensor.

    Arguments and errors are those of ``output_types``.
    """
    return _tensor_types(schema, schema.inputs, attrs)


def output_ranges(schema: OpSchema, attrs: Attrs) -> dict[str, tuple[int, int]]:
    """Returns, by output name, the index of its first tensor and how many it has.

    The tensor ``node:out:i`` of a function is the one at ``ranges["out"][0] + i``.
    """
    return _ranges(schema, schema.outputs, attrs)


def input_ranges(schema: OpSchema, attrs: Attrs) -> dict[str, tuple[int, int]]:
    """Returns, by input name, the index of its first tensor and how many it has."""
    return _ranges(schema, schema.inputs, attrs)


def stripped_op_list(names: Iterable[str]) -> OpList:
    """Returns the registrations of the named ops, sorted; names of functions are left out."""
    found = (_find_op(name) for name in sorted(set(names)))
    return OpList(op=[op_def for op_def in found if op_def is not None])


def _tensor_types(schema: OpSchema, args: tuple[ArgSchema, ...], attrs: Attrs) -> list[DType]:
    result: list[DType] = []
    for arg in args:
        if arg.type_list_attr is not None:
            result += _type_list(schema, arg.type_list_attr, attrs)
        else:
            dtype = arg.type or _dtype_attr(schema, arg.type_attr or "", attrs)
            result += [dtype] * _length(schema, arg, attrs)
    return result


def _ranges(
    schema: OpSchema, args: tuple[ArgSchema, ...], attrs: Attrs
) -> dict[str, tuple[int, int]]:
    result = {}
    start = 0
    for arg in args:
        length = _length(schema, arg, attrs)
        result[arg.name] = (start, length)
        start += length
    return result


def _length(schema: OpSchema, arg: ArgSchema, attrs: Attrs) -> int:
    if arg.type_list_attr is not None:
        return len(_type_list(schema, arg.type_list_attr, attrs))
    if arg.number_attr is None:
        return 1
    value = _attr(schema, arg.number_attr, attrs, "i")
    if not isinstance(value, int) or not 0 <= value <= _MAX_LENGTH:
        raise _invalid(schema, arg.number_attr, f"{value!r} is no number of tensors")
    return value


def _type_list(schema: OpSchema, name: str, attrs: Attrs) -> list[DType]:
    value = _attr(schema, name, attrs, "list")
    numbers = value.type if isinstance(value, AttrValue.ListValue) else value
    return [_checked_dtype(schema, name, number) for number in numbers]


def _dtype_attr(schema: OpSchema, name: str, attrs: Attrs) -> DType:
    return _checked_dtype(schema, name, _attr(schema, name, attrs, "type"))


def _attr(schema: OpSchema, name: str, attrs: Attrs, kind: str) -> Any:
    """Returns the content of an attribute or of its default."""
    value: Any = attrs.get(name)
    if value is None and name in schema.attrs:
        value = schema.attrs[name].default
    if value is None:
        raise _invalid(schema, name, "it is missing and has no default")
    if not isinstance(value, AttrValue):
        return value
    if not value.HasField(kind):
        raise _invalid(schema, name, f"it holds {value.WhichOneof('value')}, not {kind}")
    return getattr(value, kind)


def _checked_dtype(schema: OpSchema, name: str, value: Any) -> DType:
    try:
        return _dtype(value)
    except ValueError as error:
        raise _invalid(schema, name, str(error)) from error


def _dtype(value: Any) -> DType:
    if isinstance(value, int) and value > _REF_OFFSET:
        value -= _REF_OFFSET
    return as_dtype(value)


def _invalid(schema: OpSchema, name: str, reason: str) -> CorruptSavedModelError:
    return CorruptSavedModelError(
        f"The attribute {name!r} of a {schema.name} node gives no tensors: {reason}."
    )
