"""Declarations of ops in the notation of TensorFlow's ``REGISTER_OP``, as OpDefs.

x: float          an input or output of a fixed dtype
x: T              of the dtype in the attribute T
xs: N * T         N tensors of one dtype
xs: Ts            tensors of the dtypes in the list Ts

T: {float, double} = DT_FLOAT       an attribute that is one of some dtypes, and its default
n: int >= 1       scale: float = 1.0       mode: {'a', 'b'}       Ts: list(type)
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from savax.errors import InvalidArgumentError
from savax.protos import AttrValue, OpDef
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable

_ARG = re.compile(r"\s*([A-Za-z]\w*)\s*:\s*(?:(\w+)\s*\*\s*)?(\w+)\s*")
_ATTR = re.compile(
    r"\s*(?P<name>[A-Za-z_]\w*)\s*:\s*"
    r"(?P<list>list\(\s*)?(?P<kind>\w+|\{[^}]*\})(?(list)\s*\))\s*"
    r"(?:>=\s*(?P<minimum>-?\d+)\s*)?(?:=\s*(?P<default>.*\S)\s*)?",
    re.DOTALL,
)
_KINDS = frozenset({"string", "int", "float", "bool", "type", "shape", "tensor", "func"})
_FIELDS = {"string": "s", "int": "i", "float": "f", "bool": "b", "type": "type"}
_REAL = (
    *("float", "double", "int32", "uint8", "int16", "int8", "int64"),
    *("bfloat16", "uint16", "half", "uint32", "uint64"),
)
# Names that stand for sets of dtypes.
_SETS = {
    "realnumbertype": _REAL,
    "numbertype": (
        *("float", "double", "int32", "uint8", "int16", "int8", "complex64", "int64"),
        *("qint8", "quint8", "qint32", "bfloat16", "qint16", "quint16", "uint16"),
        *("complex128", "half", "uint32", "uint64"),
    ),
    "quantizedtype": ("qint8", "quint8", "qint32", "qint16", "quint16"),
}


def declared_op(
    name: str,
    inputs: Iterable[str],
    outputs: Iterable[str],
    attrs: Iterable[str],
    *,
    is_stateful: bool = False,
) -> OpDef:
    """Returns the OpDef of an op.

    Args:
      name: the op's name.
      inputs: declarations of its inputs.
      outputs: declarations of its outputs.
      attrs: declarations of its attributes.
      is_stateful: whether it has effects, or depends on more than its inputs.

    Raises:
      InvalidArgumentError: a declaration can't be read, or names an attribute that isn't declared.
    """
    op = OpDef(name=name, is_stateful=is_stateful)
    for text in attrs:
        _add_attr(op, text)
    kinds = {attr.name: attr.type for attr in op.attr}
    if len(kinds) < len(op.attr):
        raise _unreadable(op, ", ".join(attrs), "two attributes have one name")
    for text in inputs:
        _set_arg(op, op.input_arg.add(), text, kinds)
    for text in outputs:
        _set_arg(op, op.output_arg.add(), text, kinds)
    return op


def _set_arg(op: OpDef, arg: OpDef.ArgDef, text: str, kinds: dict[str, str]) -> None:
    match = _ARG.fullmatch(text)
    if match is None:
        raise _unreadable(op, text, "an input or output is written like 'x: float' or 'x: N * T'")
    arg.name, number, dtype = match[1], match[2], match[3]
    if number is not None:
        if kinds.get(number) != "int":
            raise _unreadable(op, text, f"{number!r} is no attribute of the kind int")
        arg.number_attr = number
    if kinds.get(dtype) == "type":
        arg.type_attr = dtype
    elif kinds.get(dtype) == "list(type)" and number is None:
        arg.type_list_attr = dtype
    elif dtype in kinds:
        raise _unreadable(op, text, f"the attribute {dtype!r} holds no dtype")
    else:
        arg.type = _dtype_number(op, text, dtype)


def _add_attr(op: OpDef, text: str) -> None:
    match = _ATTR.fullmatch(text)
    if match is None:
        raise _unreadable(op, text, "an attribute is written like 'T: {float, int32}' or 'n: int'")
    attr = op.attr.add(name=match["name"])
    kind = match["kind"]
    if kind.startswith("{"):
        kind = _set_allowed(op, attr, text, [part.strip() for part in kind[1:-1].split(",")])
    elif kind in _SETS:
        kind = _set_allowed(op, attr, text, _SETS[kind])
    if kind not in _KINDS:
        raise _unreadable(op, text, f"{kind!r} is no kind of attribute")
    attr.type = f"list({kind})" if match["list"] else kind
    if match["minimum"] is not None:
        attr.has_minimum, attr.minimum = True, int(match["minimum"])
    if match["default"] is not None:
        _set_default(op, attr.default_value, text, attr.type, match["default"])


def _set_allowed(op: OpDef, attr: OpDef.AttrDef, text: str, values: Iterable[str]) -> str:
    """Restricts an attribute to dtypes or quoted strings; returns which of these it is."""
    allowed = attr.allowed_values.list
    values = list(values)
    if all(value[:1] in ("'", '"') for value in values):
        allowed.s.extend(_literal(op, text, value, str).encode() for value in values)
        return "string"
    allowed.type.extend(_dtype_number(op, text, value) for value in values)
    return "type"


def _set_default(op: OpDef, value: AttrValue, text: str, kind: str, written: str) -> None:
    element = kind.removeprefix("list(").removesuffix(")")
    if element not in _FIELDS:
        raise _unreadable(op, text, f"attributes of the kind {element} can't have a default here")
    if element == kind:
        setattr(value, _FIELDS[element], _element(op, text, element, written))
        return
    if not (written.startswith("[") and written.endswith("]")):
        raise _unreadable(op, text, "the default of a list is written like '[1, 2]'")
    parts = [part.strip() for part in written[1:-1].split(",")]
    items = [_element(op, text, element, part) for part in parts if part]
    value.list.SetInParent()
    getattr(value.list, _FIELDS[element]).extend(items)


def _element(op: OpDef, text: str, kind: str, written: str) -> Any:
    if kind == "type":
        return _dtype_number(op, text, written.removeprefix("DT_").lower())
    if kind == "bool":
        if written not in ("true", "false"):
            raise _unreadable(op, text, "a bool is 'true' or 'false'")
        return written == "true"
    if kind == "string":
        return _literal(op, text, written, str).encode()
    return (
        float(_literal(op, text, written, float))
        if kind == "float"
        else _literal(op, text, written, int)
    )


def _literal(op: OpDef, text: str, written: str, kind: type) -> Any:
    try:
        value = float(written) if kind is float else ast.literal_eval(written)
    except (ValueError, SyntaxError):
        value = None
    if type(value) is not kind:
        raise _unreadable(op, text, f"{written} is no {kind.__name__}")
    return value


def _dtype_number(op: OpDef, text: str, name: str) -> int:
    try:
        return as_dtype({"float": "float32", "double": "float64"}.get(name, name)).number
    except (TypeError, ValueError):
        raise _unreadable(op, text, f"{name!r} is neither a dtype nor an attribute") from None


def _unreadable(op: OpDef, text: str, reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"The declaration {text!r} of the op {op.name!r}: {reason}.")
