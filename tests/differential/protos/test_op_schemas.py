"""The op schemas against the op registry of the installed TensorFlow."""

import importlib

import pytest

from savax.function._op_schemas import known_ops, op_schema, strip_defaults, stripped_op_list
from savax.protos import GraphDef, OpList, canonical_bytes, serialize

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

from tensorflow.core.protobuf import meta_graph_pb2  # noqa: E402
from tensorflow.python.framework import meta_graph as tf_meta_graph  # noqa: E402


def test_data_is_that_of_the_registry():
    """Fails after an update of TensorFlow: run the tool, and look at what changed."""
    tool = importlib.import_module("tools.extract_op_schemas")
    theirs = {op.name: op for op in tool.registered_ops().op}
    # Other tests may have loaded libraries that register more.
    for name in known_ops():
        assert theirs[name] == op_schema(name).op_def, name


def _graph():
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 3], name="x")
        w = tf.compat.v1.get_variable("w", [3, 3, 3, 4], use_resource=True)
        y = tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME")
        y = tf.nn.max_pool2d(tf.nn.leaky_relu(y), 2, 2, "VALID")
        y = tf.reshape(y, [-1, 64])
        y = tf.matmul(y, tf.ones([5, 64]), transpose_b=True)
        y = tf.reduce_sum(y, axis=1, keepdims=True)
        y = tf.cond(tf.reduce_all(y > 0), lambda: y * 2, lambda: tf.nn.softmax(y))
        y = tf.map_fn(lambda r: tf.concat([r, r], 0), y)
        y = y[:, 1:, tf.newaxis]
        tf.split(tf.cast(y, tf.int32), 1)
        tf.strings.split(tf.constant(["a b"]))
        tf.image.resize(x, [4, 4])
    return graph


def test_defaults_are_stripped_alike():
    theirs = meta_graph_pb2.MetaGraphDef()
    theirs.graph_def.CopyFrom(_graph().as_graph_def())
    ours = GraphDef.FromString(theirs.graph_def.SerializeToString())
    tf_meta_graph.strip_graph_default_valued_attrs(theirs)
    for node in ours.node:
        strip_defaults(node)
    for function in ours.library.function:
        for node in function.node_def:
            strip_defaults(node)
    assert ours == GraphDef.FromString(theirs.graph_def.SerializeToString())
    assert any(node.op == "Conv2D" for node in ours.node)


def test_stripped_op_lists_are_alike():
    theirs = tf_meta_graph.stripped_op_list_for_graph(_graph().as_graph_def())
    theirs = OpList.FromString(theirs.SerializeToString())
    ours = stripped_op_list([op.name for op in theirs.op] + ["__inference_f_1"])
    for op in theirs.op:
        if op.HasField("deprecation"):
            op.deprecation.ClearField("explanation")
    assert canonical_bytes(ours) == canonical_bytes(theirs)
    assert serialize(ours) == serialize(theirs)
