"""TensorArrays of the first two versions: graphs that TensorFlow before 1.0 wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from savax.compat import v1
from savax.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

tf = pytest.importorskip("tensorflow")

from old_graphs import check_graph  # noqa: E402

tf1 = tf.compat.v1
pytestmark = pytest.mark.tf

VERSIONS = ["V2", ""]
_PRODUCERS = {"V2": 25, "": 10}


@pytest.fixture(autouse=True)
def old_control_flow() -> Iterator[None]:
    was_on = tf1.control_flow_v2_enabled()
    tf1.disable_control_flow_v2()
    yield
    if was_on:
        tf1.enable_control_flow_v2()


def as_old(graph: Any, version: str) -> Any:
    """Returns a GraphDef with its TensorArrays in an older version: string handles, own flows."""
    old = type(graph)()
    old.CopyFrom(graph)
    old.versions.producer = _PRODUCERS[version]
    nodes = {node.name: node for node in old.node}
    makers = {name for name, node in nodes.items() if node.op == "TensorArrayV3"}
    gradients = {name for name, node in nodes.items() if node.op == "TensorArrayGradV3"}
    handles = _passing_on(nodes, makers | gradients)
    for node in nodes.values():
        for i, tensor in enumerate(node.input):
            node.input[i] = _own_flow(nodes, tensor, makers, gradients)
    for name, node in nodes.items():
        if name in handles:
            node.attr["T"].type = tf.string.as_datatype_enum
            node.op = node.op if version else f"Ref{node.op}"
        if node.op.startswith("TensorArray"):
            node.op = node.op.removesuffix("V3") + version
            node.attr.pop("identical_element_shapes", None)
        if name in makers:
            flow = old.node.add(name=f"{name}/flow", op="Const")
            flow.attr["dtype"].type = tf.float32.as_datatype_enum
            flow.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0.0))
    return old


def _own_flow(nodes: Any, tensor: str, makers: set[str], gradients: set[str]) -> str:
    """Returns the flow that older versions have where newer ones get it with the handle."""
    name, _, index = tensor.partition(":")
    if index != "1":
        return tensor
    if name in gradients:
        return _own_flow(nodes, nodes[name].input[1], makers, gradients)
    return f"{name}/flow" if name in makers else tensor


def _passing_on(nodes: Any, makers: set[str]) -> set[str]:
    """Returns the nodes that pass the handles of arrays on."""
    found = set(makers)
    while True:
        more = {
            name
            for name, node in nodes.items()
            if node.op in ("Enter", "Identity", "Switch") and node.input[0] in found
        }
        if more <= found:
            return found - makers
        found |= more


def straight():
    x = tf1.placeholder(tf.float32, [None, 3], name="x")
    array = tf.TensorArray(tf.float32, size=3, clear_after_read=False, element_shape=[3])
    array = array.write(0, x[0]).write(1, x[1] * 2).write(2, x[0])
    rows = tf.TensorArray(tf.float32, size=4, clear_after_read=False).scatter([2, 0], x[:2])
    halves = tf.TensorArray(tf.float32, size=2).split(tf.reshape(x[:2], [-1]), [3, 3])
    return [
        array.read(1),
        array.gather([2, 0]),
        array.concat(),
        array.size(),
        rows.gather([0, 2]),
        halves.stack(),
    ]


def recurrent_network():
    x = tf1.placeholder(tf.float32, [None, 3], name="x")
    inputs = tf.TensorArray(tf.float32, size=tf.shape(x)[0]).unstack(x)
    outputs = tf.TensorArray(tf.float32, size=tf.shape(x)[0])

    def step(t, h, outputs):
        h = tf.tanh(inputs.read(t) + h)
        return t + 1, h, outputs.write(t, h)

    start = [0, tf.zeros([3]), outputs]
    _, h, outputs = tf1.while_loop(lambda t, h, o: t < tf.shape(x)[0], step, start)
    return [outputs.stack(), h]


def derivative():
    x = tf1.placeholder(tf.float32, [None, 3], name="x")
    outputs = recurrent_network_of(x)
    return [outputs, tf.identity(tf1.gradients(outputs**2, [x])[0])]


def recurrent_network_of(x):
    return tf1.map_fn(lambda row: tf.sin(row) * 2, x)


FEEDS = [{"x:0": np.linspace(-1, 1, n * 3).reshape(n, 3).astype("f4")} for n in (4, 2)]
PROGRAMS: dict[str, Callable[[], Any]] = {
    "straight": straight,
    "recurrent_network": recurrent_network,
    "derivative": derivative,
}


@pytest.mark.parametrize("version", VERSIONS, ids=["second", "first"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_old_arrays_give_what_tensorflow_gives(program: str, version: str) -> None:
    with tf.Graph().as_default() as graph:
        fetches = [fetch.name for fetch in PROGRAMS[program]()]
    check_graph(as_old(graph.as_graph_def(), version), fetches, *FEEDS)


def test_whole_arrays_are_packed_and_unpacked() -> None:
    graph = tf1.GraphDef()
    graph.versions.producer = _PRODUCERS[""]
    number = tf.float32.as_datatype_enum

    def node(name: str, op: str, *inputs: str, **types: int) -> None:
        added = graph.node.add(name=name, op=op, input=inputs)
        for attr, kind in types.items():
            added.attr[attr].type = kind

    node("x", "Placeholder", dtype=number)
    for name, value in {"zero": np.float32(0), "size": np.int32(3)}.items():
        node(name, "Const", dtype=tf.as_dtype(value.dtype).as_datatype_enum)
        graph.node[-1].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    node("array", "TensorArray", "size", dtype=number)
    node("filled", "TensorArrayUnpack", "array", "x", "zero", T=number)
    node("y", "TensorArrayPack", "array", "filled", dtype=number)
    node("close", "TensorArrayClose", "array", "^y")
    (y,) = check_graph(graph, ["y:0"], {"x:0": np.arange(6, dtype=np.float32).reshape(3, 2)})
    np.testing.assert_array_equal(y, np.arange(6).reshape(3, 2))


def test_a_handle_from_elsewhere_is_refused() -> None:
    with tf.Graph().as_default() as graph:
        tf.TensorArray(tf.float32, size=1).read(0, name="y")
    old = as_old(graph.as_graph_def(), "V2")
    old.node.add(name="other", op="Const").attr["dtype"].type = tf.string.as_datatype_enum
    old.node[-1].attr["value"].tensor.CopyFrom(tf.make_tensor_proto("a"))
    next(node for node in old.node if node.name == "y").input[0] = "other"
    with v1.Session(graph=v1.Graph()) as session:
        v1.import_graph_def(old, name="")
        with pytest.raises(UnsupportedError, match="no handle of a TensorArray"):
            session.run("y:0")
