"""Nodes, names and the peepholes of GraphBuilder."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import export

from savax.errors import InvalidArgumentError, UnsupportedParamError
from savax.function.lowering._broadcasts import axis_runs, broadcast_shapes, broadcast_steps
from savax.function.lowering._dim_lowering import dim_names
from savax.function.lowering._function_library import (
    FunctionArgument,
    FunctionLibrary,
    FunctionParts,
    build_function,
)
from savax.function.lowering._graph_builder import GraphBuilder
from savax.function.lowering._graph_nodes import Symbol
from savax.function.lowering._graph_writer import (
    GraphWriter,
    NodeEncoder,
    UniqueNames,
    legal_argument_name,
    legal_function_name,
    legal_node_name,
)
from savax.function.lowering._jaxpr_lowering import JaxprLowering
from savax.function.lowering._primitive_scan import PrimitiveScan
from savax.types import as_dtype

F32, I32 = as_dtype("float32"), as_dtype("int32")


@pytest.fixture
def b():
    return export.symbolic_shape("b")[0]


def argument(*shape, dtype=F32):
    return Symbol(dtype, shape, name="x")


def builder(*sources):
    lowering = JaxprLowering(FunctionLibrary(), "f", PrimitiveScan())
    return GraphBuilder(lowering, sources)


def ops(g, *outputs):
    """Op types of the nodes that outputs need, in order."""
    arguments = [FunctionArgument(argument(), "x")]
    parts = FunctionParts("f", g.graph, arguments, outputs)
    function = build_function(parts, NodeEncoder())
    return [node.op for node in function.node_def][: -len(outputs)]


def node_defs(g, *outputs):
    parts = FunctionParts("f", g.graph, [FunctionArgument(argument(), "x")], outputs)
    return {node.name: node for node in build_function(parts, NodeEncoder()).node_def}


@pytest.mark.parametrize(
    ("name", "node", "function", "arg"),
    [
        ("dense", "dense", "dense", "dense"),
        ("transpose(jvp(layer))/x", "transpose_jvp_layer/x", "transpose_jvp_layer_x", None),
        ("__inference_f", "inference_f", "__inference_f", "inference_f"),
        ("Größe", "Gr_e", "Gr_e", "gr_e"),
        ("<lambda>", "lambda", "_lambda_", "lambda"),
        ("2x", "2x", "2x", "arg_2x"),
        ("", "node", "function", "arg"),
        ("d.k", "d.k", "d_k", "d_k"),
        ("-a", "n-a", "_a", "a"),
    ],
)
def test_legal_names(name, node, function, arg):
    assert legal_node_name(name) == node
    assert legal_function_name(name) == function
    if arg is not None:
        assert legal_argument_name(name) == arg


def test_unique_names_skip_taken_ones():
    names = UniqueNames(["a", "a_1"])
    assert [names.unique("a"), names.unique("a"), names.unique("b"), names.unique("a_2")] == [
        "a_2",
        "a_3",
        "b",
        "a_2_1",
    ]


def test_function_names_end_in_a_number_of_their_own():
    library = FunctionLibrary()
    assert [library.unique_name(n) for n in ("f", "g", "f")] == ["f_0", "g_1", "f_2"]


def test_attributes_are_inferred_and_defaults_stripped():
    g = builder()
    x = argument(2, 3)
    y = g.op("MatMul", x, argument(3, 4), shape=(2, 4), transpose_a=False, transpose_b=True)
    node = node_defs(g, y)["MatMul"]
    assert set(node.attr) == {"T", "transpose_b"}
    assert node.attr["T"].type == F32.number
    assert y.dtype is F32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g, x: g.op("AddV2", x), "takes 2 inputs"),
        (lambda g, x: g.op("AddV2", x, np.int32(1)), "must have dtype float32, got int32"),
        (lambda g, x: g.op("Cast", x), "needs the attribute 'DstT'"),
        (lambda g, x: g.op("Neg", x, axis=1), "no attribute 'axis'"),
        (lambda g, x: g.op("Unique", x, shape=(2,)), "2 output tensors, 1 shapes"),
    ],
)
def test_wrong_nodes_are_refused(call, message):
    with pytest.raises(InvalidArgumentError, match=message):
        call(builder(), argument(2))


def test_unsupported_carries_the_reason():
    with pytest.raises(UnsupportedParamError, match="no windows"):
        builder().unsupported("no windows")


def test_equal_constants_share_a_node():
    g = builder()
    big = np.arange(5000.0)
    assert g.const([1, 2]) is g.const(np.array([1, 2], np.int32))
    assert g.const(1) is not g.const(1.0)
    assert g.const(0.0) is not g.const(-0.0)
    assert g.const(big) is g.const(big)
    assert g.const(np.ones((2, 1))) is not g.const(np.ones((1, 2)))
    assert g.const("a").dtype.name == "string"
    assert g.const([]).dtype is I32


def test_nodes_that_nobody_reads_are_dropped():
    g = builder()
    x = argument(2)
    g.op("Sin", x)
    assert ops(g, g.op("Cos", x)) == ["Cos"]


def test_names_follow_the_scope_and_are_numbered_without_gaps():
    g = builder()
    g.scope = "layer"
    x = argument(2)
    g.op("Sin", x)
    first = g.op("Sin", x)
    second = g.op("Sin", first)
    assert list(node_defs(g, second)) == ["layer/Sin", "layer/Sin_1", "Identity"]
    assert second.name == "layer/Sin_1:y:0"


def test_tensor_names_of_lists_and_several_outputs():
    g = builder()
    x = argument(4)
    split = g.op("Split", g.const(0), x, shapes=[(2,), (2,)], num_split=2)
    values, indices = g.op("TopKV2", x, g.const(2), shapes=[(2,), (2,)])
    node_defs(g, *split, values, indices)
    assert [s.name for s in (*split, values, indices)] == [
        "Split:output:0",
        "Split:output:1",
        "TopKV2:values:0",
        "TopKV2:indices:0",
    ]


def test_dims_are_computed_once(b):
    x = argument(b, 3)
    g = builder(x)
    total = g.op("AddV2", g.dim(2 * b + 1), g.dim(2 * b), shape=())
    total = g.op("Mul", total, g.dim(b), shape=())
    assert [op for op in ops(g, total) if op != "Const"] == [
        *("Shape", "StridedSlice", "Mul", "AddV2", "AddV2", "Mul")
    ]
    assert g.dim(b).dim == b
    assert g.dim(4).constant == 4


def test_names_in_a_dim():
    b, c = export.symbolic_shape("b, c")
    assert dim_names(b // 2 + c * 3) == {"b", "c"}
    assert dim_names(5) == set()


def test_a_size_that_no_argument_has(b):
    with pytest.raises(Exception, match="size 'b' can't be computed"):
        builder(argument(3)).dim(b)


def test_reshape_leaves_one_unknown_size_to_tensorflow(b):
    x = argument(b, 6)
    g = builder(x)
    y = g.reshape(x, (b, 2, 3))
    assert ops(g, y) == ["Const", "Reshape"]
    assert y.node.inputs[1].constant.tolist() == [-1, 2, 3]
    assert g.reshape(g.reshape(x, (b * 6,)), (b, 6)) is x
    assert g.reshape(x, (b, 6)) is x


def test_reshape_of_two_unknown_sizes_asks_for_them(b):
    x = argument(b, b)
    g = builder(x)
    assert "Pack" in ops(g, g.reshape(x, (b, b, 1)))


def test_reshape_with_an_empty_axis_does_not_guess(b):
    x = argument(b, 0)
    g = builder(x)
    assert "Pack" in ops(g, g.reshape(x, (0, b)))


@pytest.mark.parametrize("keep", ["reshape", "expand_dims"])
def test_a_reduction_keeps_its_axis_instead_of_being_reshaped(keep, b):
    x = argument(b, 4)
    g = builder(x)
    total = g.op("Sum", x, g.const([1]), shape=(b,))
    kept = g.reshape(total, (b, 1)) if keep == "reshape" else g.expand_dims(total, 1)
    assert ops(g, kept) == ["Const", "Sum"]
    assert kept.node.attrs["keep_dims"] is True
    assert g.expand_dims(total, 0).node.op == "ExpandDims"


def test_broadcasts_before_a_broadcasting_op_are_dropped(b):
    x = argument(b, 4)
    row = argument(4)
    g = builder(x)
    assert ops(g, g.op("AddV2", x, g.full(2.0, (b, 4), F32), shape=(b, 4))) == ["Const", "AddV2"]
    assert ops(g, g.op("AddV2", x, g.broadcast(row, (b, 4)), shape=(b, 4))) == ["AddV2"]
    both = g.op("AddV2", g.full(2.0, (b, 4), F32), g.broadcast(row, (b, 4)), shape=(b, 4))
    assert "Fill" in ops(g, both) or "BroadcastTo" in ops(g, both)


def test_a_broadcast_that_gives_the_shape_stays(b):
    x = argument(b, 1)
    g = builder(argument(b, 4))
    y = g.op("Mul", g.broadcast(x, (b, 4)), 2.0, shape=(b, 4))
    assert "BroadcastTo" in ops(g, y)


def test_steps_that_change_nothing_are_left_out(b):
    x = argument(b, 4)
    g = builder(x)
    assert g.transpose(x, (0, 1)) is x
    assert g.transpose(g.transpose(x, (1, 0)), (1, 0)) is x
    assert g.cast(x, F32) is x
    assert g.broadcast(x, (b, 4)) is x
    assert g.slice(x, [0, 0], [b, 4]) is x
    assert g.squeeze(x, []) is x
    assert g.concat([x], 0) is x


def test_slices_mask_whole_axes(b):
    x = argument(b, 6)
    g = builder(x)
    y = g.slice(x, [0, 1], [b, 5], [1, 2])
    assert y.shape == (b, 2)
    node = y.node
    assert (node.attrs["begin_mask"], node.attrs["end_mask"]) == (1, 1)
    assert [i.constant.tolist() for i in node.inputs[1:]] == [[0, 1], [0, 5], [1, 2]]


def test_full_is_a_constant_or_a_fill(b):
    g = builder(argument(b))
    assert g.full(1, (2, 2), I32).constant.tolist() == [[1, 1], [1, 1]]
    assert g.full(1, (b, 2), I32).node.op == "Fill"
    assert g.full(1, (300, 300), I32).node.op == "Fill"


def test_broadcast_shapes(b):
    assert broadcast_shapes([(b, 1), (4,), ()]) == (b, 4)
    assert broadcast_shapes([(1, 3), (b, 1)]) == (b, 3)
    assert broadcast_shapes([]) == ()


@given(st.lists(st.sampled_from([1, 2, 3]), max_size=9), st.integers(0, 3), st.randoms())
def test_broadcasts_are_done_in_steps_of_five_runs(dims, missing, random):
    source = tuple(random.choice([1, dim]) for dim in dims)[missing:]
    steps = [source, *broadcast_steps(source, tuple(dims))]
    assert steps[-1] == tuple(dims)
    for before, after in itertools.pairwise(steps):
        assert np.broadcast_shapes(before, after) == after
        assert len(axis_runs(before, after)) <= 5
    assert len(steps) <= 4


def test_runs_of_axes(b):
    assert axis_runs((b, 4), (b, 4)) == [[0, 1]]
    assert axis_runs((4,), (b, 1, 4)) == [[0], [2]]
    assert axis_runs((b, 1, 1, 4, 1), (1, 1, 3, 4, 2)) == [[0], [2], [3], [4]]


def test_shapes_of_concat(b):
    g = builder(argument(b, 2))
    x = argument(b, 2)
    assert g.concat([x, x], 0).shape == (2 * b, 2)
    assert g.concat([x, x], -1).shape == (b, 4)


def test_graph_writer():
    writer = GraphWriter()
    x = writer.add_node("Placeholder", "x", (), {"dtype": F32, "shape": (None, 2)}, "/device:CPU:0")
    y = writer.add_node("AddV2", "x", [x.name, x.name], {"T": F32})
    called = writer.add_node("some_function_3", "call", [f"{y.name}:0", "^x"], {"n": 1})
    assert [node.name for node in writer.graph.node] == ["x", "x_1", "call"]
    assert x.device == "/device:CPU:0"
    assert [dim.size for dim in x.attr["shape"].shape.dim] == [-1, 2]
    assert list(called.input) == ["x_1:0", "^x"]
    assert called.attr["n"].i == 1


def test_graph_writer_strips_defaults_and_goes_on_with_a_graph():
    writer = GraphWriter()
    node = writer.add_node("MatMul", "m", ["a", "b"], {"T": F32, "transpose_a": False})
    assert set(node.attr) == {"T"}
    assert GraphWriter(writer.graph).add_node("NoOp", "m").name == "m_1"
