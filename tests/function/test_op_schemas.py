"""The op schemas: look-up, types and ranges of tensors, default attributes."""

import pytest

from savax.errors import CorruptSavedModelError, UnsupportedOpError
from savax.function._op_schemas import (
    input_ranges,
    input_types,
    is_known_op,
    known_ops,
    op_schema,
    output_ranges,
    output_types,
    schema_of,
    strip_defaults,
    stripped_op_list,
)
from savax.protos import AttrValue, FunctionDef, NodeDef
from savax.types import as_dtype

F32, I32, I64 = (as_dtype(name) for name in ("float32", "int32", "int64"))


def test_schema_of_matmul():
    schema = op_schema("MatMul")
    assert schema.name == "MatMul"
    assert [(arg.name, arg.type, arg.type_attr) for arg in schema.inputs] == [
        ("a", None, "T"),
        ("b", None, "T"),
    ]
    assert [arg.name for arg in schema.outputs] == ["product"]
    assert not schema.is_stateful
    transpose = schema.attrs["transpose_a"]
    assert (transpose.kind, transpose.default.b) == ("bool", False)
    assert transpose.default.HasField("b")
    element = schema.attrs["T"]
    assert element.kind == "type"
    assert element.default is None
    assert F32 in element.allowed
    assert as_dtype("string") not in element.allowed


def test_schemas_of_other_kinds():
    assert op_schema("ReadVariableOp").is_stateful
    padding = op_schema("Conv2D").attrs["padding"]
    assert padding.allowed == ("SAME", "VALID", "EXPLICIT")
    count = op_schema("Split").attrs["num_split"]
    assert (count.has_minimum, count.minimum) == (True, 1)
    assert op_schema("Split").outputs[0].number_attr == "num_split"
    assert op_schema("IdentityN").inputs[0].type_list_attr == "T"
    assert op_schema("Assign").outputs[0].is_ref
    assert op_schema("Split").inputs[0].type is I32


def test_every_op_has_a_schema():
    names = known_ops()
    assert list(names) == sorted(names)
    assert len(names) > 1900
    assert {"XlaCallModule", "StatefulPartitionedCall", "RestoreV2"} <= set(names)
    for name in names:
        schema = op_schema(name)
        assert schema.name == name
        for arg in (*schema.inputs, *schema.outputs):
            sources = [arg.type, arg.type_attr, arg.type_list_attr]
            assert sum(source is not None for source in sources) == 1
            named = {arg.type_attr, arg.number_attr, arg.type_list_attr} - {None}
            assert named <= set(schema.attrs)


def test_data_holds_no_documentation():
    for name in known_ops():
        op_def = op_schema(name).op_def
        assert not op_def.summary
        assert not op_def.description
        assert not any(a.description for a in (*op_def.attr, *op_def.input_arg, *op_def.output_arg))


def test_schemas_are_made_once():
    assert op_schema("Relu") is op_schema("Relu")


def test_unknown_ops_are_named_with_similar_ones():
    assert is_known_op("MatMul")
    assert not is_known_op("MatMull")
    with pytest.raises(UnsupportedOpError, match=r"'MatMull'.*MatMul"):
        op_schema("MatMull")


@pytest.mark.parametrize(
    ("op", "attrs", "types", "ranges"),
    [
        ("TopKV2", {"T": AttrValue(type=1)}, [F32, I32], {"values": (0, 1), "indices": (1, 1)}),
        ("TopKV2", {"T": F32, "index_type": I64}, [F32, I64], None),
        ("Split", {"T": AttrValue(type=3), "num_split": AttrValue(i=3)}, [I32] * 3,
         {"output": (0, 3)}),
        ("Split", {"T": "int64", "num_split": 2}, [I64] * 2, {"output": (0, 2)}),
        (
            "IdentityN",
            {"T": AttrValue(list=AttrValue.ListValue(type=[1, 3]))},
            [F32, I32],
            {"output": (0, 2)},
        ),
        ("IdentityN", {"T": [F32]}, [F32], {"output": (0, 1)}),
        ("NoOp", {}, [], {}),
        (
            "ParseExampleV2",
            {
                "num_sparse": 2,
                "sparse_types": [F32, I64],
                "Tdense": [F32],
                "ragged_value_types": [],
                "ragged_split_types": [],
                "dense_shapes": [()],
            },
            [I64, I64, F32, I64, I64, I64, F32],
            {
                "sparse_indices": (0, 2),
                "sparse_values": (2, 2),
                "sparse_shapes": (4, 2),
                "dense_values": (6, 1),
                "ragged_values": (7, 0),
                "ragged_row_splits": (7, 0),
            },
        ),
    ],
)  # fmt: skip
def test_outputs(op, attrs, types, ranges):
    schema = op_schema(op)
    assert output_types(schema, attrs) == types
    if ranges is not None:
        assert output_ranges(schema, attrs) == ranges


def test_inputs():
    schema = op_schema("ConcatV2")
    attrs = {"N": 2, "T": F32}
    assert input_types(schema, attrs) == [F32, F32, I32]
    assert input_ranges(schema, attrs) == {"values": (0, 2), "axis": (2, 1)}


def test_attributes_of_a_node_are_taken_as_they_are():
    node = NodeDef(op="TopKV2")
    node.attr["T"].type = 1
    assert output_types(op_schema("TopKV2"), node.attr) == [F32, I32]
    assert set(node.attr) == {"T"}


def test_reference_dtypes_are_dtypes():
    assert output_types(op_schema("Identity"), {"T": AttrValue(type=101)}) == [F32]


def test_signature_of_a_function():
    function = FunctionDef()
    function.signature.name = "f"
    function.signature.output_arg.add(name="identity", type=1)
    schema = schema_of(function.signature)
    assert output_types(schema, {}) == [F32]
    assert output_ranges(schema, {}) == {"identity": (0, 1)}


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("Identity", {}),
        ("Identity", {"T": AttrValue(i=1)}),
        ("Identity", {"T": AttrValue(type=0)}),
        ("Identity", {"T": AttrValue()}),
        ("Split", {"T": AttrValue(type=1), "num_split": AttrValue(i=-1)}),
        ("Split", {"T": AttrValue(type=1), "num_split": AttrValue(i=1 << 40)}),
        ("Split", {"T": AttrValue(type=1), "num_split": AttrValue(f=2)}),
        ("IdentityN", {"T": AttrValue(list=AttrValue.ListValue(type=[1, 99]))}),
        ("IdentityN", {"T": AttrValue(type=1)}),
    ],
)
def test_invalid_attributes_are_refused(op, attrs):
    with pytest.raises(CorruptSavedModelError, match=f"of a {op} node"):
        output_types(op_schema(op), attrs)


def test_defaults_are_stripped():
    node = NodeDef(op="MatMul")
    node.attr["T"].type = 1
    node.attr["transpose_a"].b = False
    node.attr["transpose_b"].b = True
    node.attr["_output_shapes"].list.SetInParent()
    node.attr["unknown"].b = False
    strip_defaults(node)
    assert set(node.attr) == {"T", "transpose_b", "_output_shapes", "unknown"}


def test_defaults_are_compared_as_attributes():
    node = NodeDef(op="VarHandleOp")
    node.attr["container"].s = b""
    node.attr["debug_name"].s = b"w/"
    node.attr["allowed_devices"].list.SetInParent()
    node.attr["shape"].shape.SetInParent()
    node.attr["dtype"].type = 1
    strip_defaults(node)
    assert set(node.attr) == {"debug_name", "shape", "dtype"}
    leaky = NodeDef(op="LeakyRelu")
    leaky.attr["alpha"].f = 0.2
    leaky.attr["T"].type = 2
    strip_defaults(leaky)
    assert set(leaky.attr) == {"T"}


def test_nodes_that_call_functions_keep_their_attributes():
    node = NodeDef(op="__inference_f_1")
    node.attr["transpose_a"].b = False
    strip_defaults(node)
    assert set(node.attr) == {"transpose_a"}


def test_stripped_op_list_is_sorted_and_leaves_functions_out():
    ops = stripped_op_list(["Relu", "MatMul", "__inference_f_1", "MatMul"])
    assert [op.name for op in ops.op] == ["MatMul", "Relu"]
    assert ops.op[0] == op_schema("MatMul").op_def
