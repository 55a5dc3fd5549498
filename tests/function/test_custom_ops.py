"""Users' own ops: declarations in TensorFlow's notation, and registration."""

from __future__ import annotations

from typing import Any

import pytest

import savax
from savax.errors import InvalidArgumentError
from savax.function._op_declarations import declared_op
from savax.function._op_schemas import known_ops, op_schema
from savax.protos import AttrValue, OpDef
from savax.types import as_dtype


def _dtype_text(number: int) -> str:
    name = as_dtype(number).name
    return {"float32": "float", "float64": "double", "float16": "half"}.get(name, name)


def _arg_text(arg: Any) -> str:
    dtype = arg.type_attr or arg.type_list_attr or _dtype_text(arg.type)
    return f"{arg.name}: {arg.number_attr + ' * ' if arg.number_attr else ''}{dtype}"


def _value_text(kind: str, value: Any) -> str:
    if kind == "string":
        return repr(value.decode())
    if kind == "bool":
        return "true" if value else "false"
    return f"DT_{as_dtype(value).name.upper()}" if kind == "type" else repr(value)


def _attr_text(attr: Any) -> str:
    element = attr.type.removeprefix("list(").removesuffix(")")
    kind = element
    allowed = attr.allowed_values.list
    if allowed.type:
        kind = f"{{{', '.join(map(_dtype_text, allowed.type))}}}"
    elif allowed.s:
        kind = f"{{{', '.join(repr(s.decode()) for s in allowed.s)}}}"
    text = f"{attr.name}: " + (f"list({kind})" if attr.type != element else kind)
    if attr.has_minimum:
        text += f" >= {attr.minimum}"
    if not attr.HasField("default_value"):
        return text
    field = {"string": "s", "int": "i", "float": "f", "bool": "b", "type": "type"}[element]
    if attr.type == element:
        return f"{text} = {_value_text(element, getattr(attr.default_value, field))}"
    items = getattr(attr.default_value.list, field)
    return f"{text} = [{', '.join(_value_text(element, item) for item in items)}]"


def _can_be_written(op: Any) -> bool:
    """Whether an op is without references, handles' details, and defaults that aren't scalars."""
    has_other_default = any(
        attr.HasField("default_value")
        and attr.type.removeprefix("list(").removesuffix(")") in ("shape", "tensor", "func")
        for attr in op.attr
    )
    is_ref = any(arg.is_ref for arg in (*op.input_arg, *op.output_arg))
    return not has_other_default and not is_ref


def test_declarations_of_all_ops_of_tensorflow() -> None:
    checked = 0
    for name in known_ops():
        op = op_schema(name).op_def
        if not _can_be_written(op):
            continue
        made = declared_op(
            name,
            [_arg_text(arg) for arg in op.input_arg],
            [_arg_text(arg) for arg in op.output_arg],
            [_attr_text(attr) for attr in op.attr],
        )
        for found, wanted in zip(
            (*made.input_arg, *made.output_arg), (*op.input_arg, *op.output_arg), strict=True
        ):
            for key in ("name", "type", "type_attr", "number_attr", "type_list_attr"):
                assert getattr(found, key) == getattr(wanted, key), (name, key)
        for attr, same in zip(made.attr, op.attr, strict=True):
            assert attr == same, (name, attr, same)
        checked += 1
    assert checked > 1200


def test_names_of_sets_of_dtypes() -> None:
    op = declared_op("A", ["x: T"], [], ["T: realnumbertype = DT_FLOAT"])
    expected = op_schema("Maximum").op_def.attr[0].allowed_values.list.type
    assert set(expected) <= set(op.attr[0].allowed_values.list.type)
    assert op.attr[0].default_value == AttrValue(type=1)


@pytest.mark.parametrize(
    ("inputs", "attrs", "message"),
    [
        (["x"], [], "is written like"),
        (["x: nothing"], [], "'nothing' is neither a dtype nor an attribute"),
        (["x: n"], ["n: int"], "'n' holds no dtype"),
        (["x: N * float"], [], "'N' is no attribute of the kind int"),
        ([], ["n"], "is written like"),
        ([], ["n: number"], "'number' is no kind of attribute"),
        ([], ["n: int = x"], "x is no int"),
        ([], ["n: int = 1.5"], "1.5 is no int"),
        ([], ["n: bool = 1"], "'true' or 'false'"),
        ([], ["n: list(int) = 3"], "written like"),
        ([], ["n: shape = {}"], "can't have a default"),
        ([], ["n: {'a', 3}"], "neither a dtype"),
        ([], ["n: int", "n: float"], "two attributes"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_unreadable_declarations(inputs: list[str], attrs: list[str], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match="of the op 'A'") as error:
        declared_op("A", inputs, [], attrs)
    assert message in str(error.value)


def test_refused_registrations() -> None:
    def rule(x: Any, *, by: Any) -> Any:
        return x * by

    with pytest.raises(InvalidArgumentError, match="doesn't declare 'by'"):
        savax.register_op("Acme>Times", inputs=["x: float"], outputs=["y: float"])(rule)
    with pytest.raises(InvalidArgumentError, match="doesn't declare 'n'"):
        savax.register_op("Acme>Times", inputs=["x: float"], attrs=["by: int"], static=["n"])(rule)
    with pytest.raises(InvalidArgumentError, match="computes the op 'Relu' already"):
        savax.register_op("Relu")
    with pytest.raises(InvalidArgumentError, match="declares the op 'PyFunc'"):
        savax.register_op("PyFunc", inputs=["x: float"])
    with pytest.raises(InvalidArgumentError, match="can't be the name of an op"):
        savax.register_op("acme scale")
    assert not savax.function._op_schemas.is_known_op("Acme>Times")


def test_op_defs_are_messages() -> None:
    assert isinstance(declared_op("A", [], [], []), OpDef)
