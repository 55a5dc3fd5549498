"""Graphs: names, scopes, collections, looking up, imports, and JAX functions as nodes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import savax
from savax.compat import v1
from savax.errors import (
    CorruptSavedModelError,
    DTypeMismatchError,
    InvalidArgumentError,
    KeyNotFoundError,
    TracingError,
    UnsupportedOpError,
    UnsupportedOptionError,
)
from savax.protos import GraphDef


@pytest.fixture
def graph():
    with v1.Graph().as_default() as graph:
        yield graph


def names(graph) -> list[str]:
    return [operation.name for operation in graph.get_operations()]


def test_there_is_no_graph_of_the_whole_process() -> None:
    with pytest.raises(InvalidArgumentError, match="no default graph"):
        v1.placeholder("float32")
    assert v1.get_default_session() is None


def test_graphs_nest(graph) -> None:
    with v1.Graph().as_default() as inner:
        assert v1.get_default_graph() is inner
    assert v1.get_default_graph() is graph


def test_names_are_unique_inside_their_scopes(graph) -> None:
    for _ in range(2):
        v1.no_op("a")
    with v1.name_scope("layer") as scope:
        v1.no_op("a")
        with graph.name_scope("inner"):
            v1.no_op("a")
        with v1.name_scope(None):
            v1.no_op("root")
    with v1.name_scope("layer"):
        v1.no_op("a")
    with v1.name_scope(scope):
        v1.no_op("a")
    assert graph.get_name_scope() == ""
    assert names(graph) == [
        "a",
        "a_1",
        "layer/a",
        "layer/inner/a",
        "root",
        "layer_1/a",
        "layer/a_1",
    ]
    assert graph.unique_name("a", mark_as_used=False) == graph.unique_name("a") == "a_2"
    assert graph.unique_name("a") == "a_3"


@pytest.mark.parametrize("name", ["_a", "a b", "a:0", "ä", "^a", "-a"], ids=ascii)
def test_illegal_names_are_refused(graph, name) -> None:
    with pytest.raises(InvalidArgumentError, match="can't be the name"):
        v1.no_op(name)


def test_looking_up(graph) -> None:
    x = v1.placeholder("float32", [None, 2], name="x")
    assert graph.get_tensor_by_name("x:0") is x
    assert graph.get_operation_by_name("x") is x.op
    assert graph.as_graph_element("x:0") is x
    assert graph.as_graph_element("x") is x.op
    assert (x.shape, x.dtype, x.name, x.op.type) == ((None, 2), savax.float32, "x:0", "Placeholder")
    y = v1.identity(x, name="y")
    assert (y.op.inputs, x.consumers(), y.op.get_attr("T")) == ((x,), [y.op], savax.float32)


@pytest.mark.parametrize(
    ("look_up", "kind"),
    [
        (lambda g: g.get_tensor_by_name("z:0"), KeyNotFoundError),
        (lambda g: g.get_tensor_by_name("x:1"), KeyNotFoundError),
        (lambda g: g.get_tensor_by_name("x"), InvalidArgumentError),
        (lambda g: g.get_tensor_by_name(5), TypeError),
        (lambda g: g.get_operation_by_name("z"), KeyNotFoundError),
        (lambda g: g.get_operation_by_name(None), TypeError),
        (lambda g: g.as_graph_element(5), TypeError),
        (lambda g: g.as_graph_element("x", allow_operation=False), InvalidArgumentError),
        (lambda g: g.as_graph_element(v1.Graph().constant(1.0)), InvalidArgumentError),
        (lambda g: g.op("NoSuchOp"), UnsupportedOpError),
        (lambda g: g.op("MatMul", g.constant(1.0)), InvalidArgumentError),
        (lambda g: g.op("Neg", g.constant(1.0), nonsense=1), InvalidArgumentError),
        (lambda g: g.op("AddV2", g.constant(1.0), g.constant(1)), DTypeMismatchError),
        (lambda g: g.op("Placeholder"), InvalidArgumentError),
        (lambda g: g.op("Identity", v1.Graph().constant(1.0)), InvalidArgumentError),
    ],
)
def test_wrong_use_is_refused_by_type(graph, look_up, kind) -> None:
    v1.placeholder("float32", name="x")
    with pytest.raises(kind):
        look_up(graph)


@pytest.mark.parametrize(
    ("arguments", "dtype", "value"),
    [
        ((1,), "int32", 1),
        ((1.5,), "float32", 1.5),
        ((1 << 40,), "int64", 1 << 40),
        (("text",), "string", b"text"),
        (([b"a", "ä"],), "string", [b"a", "ä".encode()]),
        ((True,), "bool", True),
        ((np.float64(2),), "float64", 2.0),
        (([], "int64"), "int64", []),
        ((3, "float32", [2, 2]), "float32", [[3, 3], [3, 3]]),
        (([1, 2, 3, 4], "int32", [2, 2]), "int32", [[1, 2], [3, 4]]),
    ],
)
def test_constants(graph, arguments, dtype, value) -> None:
    tensor = v1.constant(*arguments)
    assert tensor.dtype.name == dtype
    assert tensor.shape == np.shape(value)
    found = v1.Session(graph=graph).run(tensor)
    assert np.asarray(found).tolist() == value


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("text", "float32"), DTypeMismatchError),
        ((1.5, "int32"), DTypeMismatchError),
        ((1, "bool"), DTypeMismatchError),
        (([1, 2, 3], "int32", [2, 2]), InvalidArgumentError),
    ],
)
def test_constants_that_are_none(graph, arguments, kind) -> None:
    with pytest.raises(kind):
        v1.constant(*arguments)


def test_collections(graph) -> None:
    v1.add_to_collection("numbers", 1)
    graph.add_to_collections(["numbers", "others"], 2)
    assert v1.get_collection("numbers") == [1, 2]
    assert graph.get_all_collection_keys() == ["numbers", "others"]
    graph.get_collection_ref("others").append(3)
    graph.clear_collection("numbers")
    assert (v1.get_collection("numbers"), v1.get_collection("others")) == ([], [2, 3])
    w = v1.Variable(1.0, name="scope/w")
    v1.Variable(1.0, trainable=False, name="other")
    assert v1.trainable_variables() == [w]
    for scope in ("scope", ".*/w:"):
        assert graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES, scope=scope) == [w]


def test_operators_compute_what_numpy_does(graph) -> None:
    x, n = v1.placeholder("float32", [None, 2]), v1.placeholder("int64", [2])
    a, b = np.array([[1.5, -2], [3, 4]], np.float32), np.array([7, -3], np.int64)
    pairs = [
        (x + 1, a + 1), (1 - x, 1 - a), (x * x, a * a), (x / 2, a / 2), (2 / x, 2 / a),
        (-x, -a), (abs(x), abs(a)), (x**2, a**2), (x < 2, a < 2), (x >= 3, a >= 3),
        (x @ a, a @ a), (a @ x, a @ a), (x[0], a[0]), (x[-1, 1:], a[-1, 1:]),
        (x[..., None], a[..., None]), (x[::-1, 0], a[::-1, 0]), (n // 2, b // 2), (n % 4, b % 4),
        (n + (1 << 40), b + (1 << 40)), (n / 2, b / 2), (~(n > 0), ~(b > 0)),
        ((n > 0) & (n < 9), (b > 0) & (b < 9)),
    ]  # fmt: skip
    found = v1.Session(graph=graph).run([tensor for tensor, _ in pairs], {x: a, n: b})
    for value, (tensor, expected) in zip(found, pairs, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert value.dtype == tensor.dtype.numpy_dtype
    assert [t.shape for t, _ in pairs[:2]] == [(None, 2), (None, 2)]
    assert (x[0].shape, x[..., None].shape, (x @ a).shape) == ((2,), (None, 2, 1), (None, 2))


def test_tensors_are_neither_arrays_nor_booleans(graph) -> None:
    x = v1.placeholder("float32", [2], name="x")
    for use in (np.asarray, bool, list):
        with pytest.raises(TracingError, match="x:0"):
            use(x)
    with pytest.raises(TypeError, match="x:0"):
        jnp.sin(x)
    assert {x: 1}[x] == 1


def test_jax_functions_become_nodes(graph) -> None:
    x = v1.placeholder("float32", [None, 3], name="x")
    w = v1.Variable(np.ones((3, 2), np.float32), name="w")
    y = graph.add(lambda x, w: jnp.tanh(x @ w), x, w, name="y")
    assert (y.name, y.shape, y.op.type) == ("y:0", (None, 2), "Tanh")
    assert names(graph)[-2:] == ["y/MatMul", "y"]
    assert not graph.as_graph_def().library.function
    assert graph.add(jnp.sin, x, name="y").name == "y_1:0"
    results = graph.add(lambda x, p: {"a": x.sum(), "b": [x, p["k"] * x]}, x, {"k": 2}, name="z")
    assert results["a"].name == "z/a:0"
    assert [tensor.name for tensor in results["b"]] == ["z/b_output_0:0", "z/b_output_1:0"]


def test_functions_assign_the_variables_that_they_close_over(graph) -> None:
    steps = savax.Variable(np.int64(5), name="steps")

    @savax.function
    def count(x):
        steps.assign_add(1)
        return x + 1

    y = graph.add(count, v1.constant([1.0]), name="y")

    def start_again() -> None:
        steps.assign(0)

    reset = graph.add(start_again, name="reset")
    assert isinstance(reset, v1.Operation)
    with v1.Session(graph=graph) as session:
        session.run(v1.global_variables_initializer())
        (variable,) = v1.global_variables()
        assert (session.run(y), session.run(variable)) == ([2.0], 6)
        session.run(reset)
        assert session.run(variable) == 0
    assert steps.numpy() == 5


def test_a_function_without_effect_or_result_is_refused(graph) -> None:
    with pytest.raises(InvalidArgumentError, match="returns nothing"):
        graph.add(lambda x: None, v1.constant(1.0))


def test_graphs_are_imported_under_a_prefix(graph) -> None:
    with v1.Graph().as_default() as source:
        x = v1.placeholder("float32", [2], name="x")
        w = v1.Variable(np.ones(2, np.float32), name="w")
        with source.device("/cpu:0"), v1.control_dependencies([w.initializer]):
            source.add(lambda x, w: x + w, x, w, name="y")
    mine = v1.constant([1.0, 2.0], name="mine")
    (y,) = v1.import_graph_def(source.as_graph_def(), {"x": mine}, ["y:0"], name="copy")
    v1.import_graph_def(source.as_graph_def(), name="copy")
    assert (y.name, y.op.device) == ("copy/y:0", "/cpu:0")
    assert [op.name for op in y.op.control_inputs] == ["copy/w/Assign"]
    assert "copy_1/x" in names(graph)
    assert v1.Session(graph=graph).run(y).tolist() == [2.0, 3.0]
    assert GraphDef.FromString(graph.as_graph_def().SerializeToString()).versions.producer > 0


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"graph_def": b""}, TypeError),
        ({"input_map": {"nothing:0": None}}, InvalidArgumentError),
        ({"return_elements": ["nothing"]}, InvalidArgumentError),
        ({"return_elements": ["x:7"]}, InvalidArgumentError),
        ({"name": ""}, InvalidArgumentError),
    ],
)
def test_imports_that_do_not_fit(graph, arguments, kind) -> None:
    v1.placeholder("float32", name="x")
    with pytest.raises(kind):
        v1.import_graph_def(**({"graph_def": graph.as_graph_def()} | arguments))


def test_damaged_graphs_are_refused(graph) -> None:
    twice = GraphDef()
    dangling = GraphDef()
    for _ in range(2):
        twice.node.add(name="a", op="NoOp")
    dangling.node.add(name="a", op="Identity", input=["b"])
    for message, reason in ((twice, "two nodes"), (dangling, "takes 'b'")):
        with pytest.raises(CorruptSavedModelError, match=reason):
            v1.import_graph_def(message)
    cycle = GraphDef()
    for name, other in ("ab", "ba"):
        node = cycle.node.add(name=name, op="Identity", input=[other])
        node.attr["T"].type = 1
    v1.import_graph_def(cycle, name="")
    with pytest.raises(CorruptSavedModelError, match="cycle"):
        v1.Session(graph=graph).run("a:0")


def test_unknown_ops_matter_when_they_run(graph) -> None:
    message = GraphDef()
    message.node.add(name="a", op="MyCustomOp")
    message.node.add(name="b", op="NoOp")
    v1.import_graph_def(message, name="")
    session = v1.Session(graph=graph)
    session.run("b")
    with pytest.raises(UnsupportedOpError, match="MyCustomOp"):
        session.run("a")


def test_finalized_graphs_do_not_change(graph) -> None:
    x = v1.constant(1.0)
    graph.finalize()
    with pytest.raises(RuntimeError, match="finalized"):
        v1.no_op()
    assert v1.Session(graph=graph).run(x) == 1


def test_variables_by_name(graph) -> None:
    with v1.variable_scope("layer"):
        w = v1.get_variable("w", [2, 3])
        with pytest.raises(InvalidArgumentError, match="already exists"):
            v1.get_variable("w", [2, 3])
    with v1.variable_scope("layer", reuse=True):
        assert v1.get_variable("w", [2, 3]) is w
        for name, shape, dtype in (("new", [1], None), ("w", [3], None), ("w", None, "int32")):
            with pytest.raises(InvalidArgumentError):
                v1.get_variable(name, shape, dtype)
    with v1.variable_scope("layer", reuse=v1.AUTO_REUSE):
        assert v1.get_variable("w") is w
        v1.get_variable("steps", initializer=np.int64(5))
    v1.get_variable("made", [2], initializer=lambda shape, dtype: np.full(shape, 7, np.float32))
    with pytest.raises(UnsupportedOptionError):
        v1.get_variable("old", [1], use_resource=False)
    with pytest.raises(InvalidArgumentError, match="fully known"):
        v1.get_variable("open", [None])
    with v1.Session(graph=graph) as session:
        session.run(v1.global_variables_initializer())
        values = session.run(v1.global_variables())
    assert [v.name for v in v1.global_variables()] == ["layer/w:0", "layer/steps:0", "made:0"]
    assert (values[1], values[2].tolist()) == (5, [7.0, 7.0])
    assert 0 < np.abs(values[0]).max() <= np.sqrt(6 / 5)
