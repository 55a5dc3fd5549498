"""Training graphs of TensorFlow 1, optimizer and all, trained in savax's sessions."""

from __future__ import annotations

import re

import numpy as np
import pytest

import savax
from savax.compat import v1
from savax.errors import UnsupportedOpError

tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1
gen_state_ops = pytest.importorskip("tensorflow.python.ops.gen_state_ops")
pytestmark = pytest.mark.tf

STEPS = 4
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(8, 3)).astype(np.float32)
Y = _RNG.normal(size=(8, 1)).astype(np.float32)

OPTIMIZERS = {
    "descent": lambda: tf1.train.GradientDescentOptimizer(0.1),
    "momentum": lambda: tf1.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
    "adam": lambda: tf1.train.AdamOptimizer(0.1),
    "adagrad": lambda: tf1.train.AdagradOptimizer(0.1),
}


@pytest.mark.parametrize(
    ("optimizer", "resources"),
    [("descent", False), ("momentum", False), ("adam", True), ("adagrad", True)],
    ids=OPTIMIZERS,
)
def test_training_goes_on_where_tensorflow_stopped(optimizer, resources, tmp_path) -> None:
    builder = tf1.saved_model.Builder(str(tmp_path / "model"))
    with tf1.Session(graph=tf.Graph()) as session:
        x = tf1.placeholder(tf.float32, [None, 3], name="x")
        y = tf1.placeholder(tf.float32, [None, 1], name="y")
        w = tf1.get_variable("w", initializer=np.ones((3, 1), np.float32), use_resource=resources)
        b = tf1.get_variable(
            "b", initializer=tf.random.truncated_normal([1], seed=3), use_resource=resources
        )
        steps = tf1.get_variable(
            "steps", initializer=np.int64(0), trainable=False, use_resource=resources
        )
        loss = tf.reduce_mean((x @ w + b - y) ** 2, name="loss")
        train = OPTIMIZERS[optimizer]().minimize(loss, global_step=steps, name="train")
        count = tf.identity(steps, name="count")
        init = tf1.global_variables_initializer()
        session.run(init)
        first = [session.run([loss, train], {x: X, y: Y})[0] for _ in range(STEPS)]
        builder.add_meta_graph_and_variables(session, ["train"])
        builder.save()
        second = [session.run([loss, train], {x: X, y: Y})[0] for _ in range(STEPS)]
        final = session.run([w, b, count])
    with v1.Session(graph=v1.Graph()) as session:
        v1.saved_model.load(session, ["train"], tmp_path / "model")
        feeds = {"x:0": X, "y:0": Y}
        got = [session.run(["loss:0", "train"], feeds)[0] for _ in range(STEPS)]
        np.testing.assert_allclose(got, second, rtol=1e-4)
        values = session.run([*v1.trainable_variables(), "count:0"])
        for value, wanted in zip(values, final, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-4)
        # Starting anew draws the same random numbers, as the seed is in the graph.
        session.run(init.name)
        assert session.run("count:0") == 0
        got = [session.run(["loss:0", "train"], feeds)[0] for _ in range(STEPS)]
        np.testing.assert_allclose(got, first, rtol=1e-4)


EMBEDDING_OPTIMIZERS = {
    "momentum": lambda: tf1.train.MomentumOptimizer(0.1, 0.9),
    "ftrl": lambda: tf1.train.FtrlOptimizer(0.1, l1_regularization_strength=0.01),
    "proximal": lambda: tf1.train.ProximalAdagradOptimizer(0.1),
}


@pytest.mark.parametrize("optimizer", EMBEDDING_OPTIMIZERS)
def test_rows_of_reference_variables_are_trained(optimizer, tmp_path) -> None:
    builder = tf1.saved_model.Builder(str(tmp_path / "model"))
    with tf1.Session(graph=tf.Graph()) as session:
        words = tf1.placeholder(tf.int32, [None], name="words")
        table = tf1.get_variable(
            "table", initializer=np.ones((5, 2), np.float32), use_resource=False
        )
        counter = tf1.get_variable("counter", initializer=np.int64(0), use_resource=False)
        loss = tf.reduce_sum(tf.gather(table, words) ** 2, name="loss")
        train = EMBEDDING_OPTIMIZERS[optimizer]().minimize(loss, name="train", var_list=[table])
        counted = tf.identity(tf1.count_up_to(counter, 9), name="counted")
        with tf.control_dependencies([train]):
            added = tf1.scatter_nd_add(table, [[1, 0]], [0.25])
        with tf.control_dependencies([added]):
            written = table[0:1, 1:2].assign([[7.0]])
        tf.identity(written, name="written")
        session.run(tf1.global_variables_initializer())
        builder.add_meta_graph_and_variables(session, ["train"])
        builder.save()
        ops = {node.op for node in session.graph.as_graph_def().node}
        assert ops >= {"CountUpTo", "ScatterNdAdd", "StridedSliceAssign"}
        assert any(op.startswith("SparseApply") for op in ops)
        feeds = {words: [3, 1, 3]}
        wanted = [session.run([loss, counted, written, train], feeds)[:3] for _ in range(2)]
    with v1.Session(graph=v1.Graph()) as session:
        v1.saved_model.load(session, ["train"], tmp_path / "model")
        fetches = ["loss:0", "counted:0", "written:0", "train"]
        for row in wanted:
            for a, b in zip(session.run(fetches, {"words:0": [3, 1, 3]}), row, strict=False):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_temporary_variables_live_for_one_step(tmp_path) -> None:
    """Sums in memory of their own, as early versions of ``tf.accumulate_n`` wrote them."""
    with tf1.Session(graph=tf.Graph()) as session:
        x = tf1.placeholder(tf.float32, [2], name="x")
        w = tf1.get_variable("w", initializer=np.float32(2), use_resource=False)
        place = gen_state_ops.temporary_variable(shape=[2], dtype=tf.float32, var_name="sum")
        total = tf1.assign(place, tf.zeros([2]))
        with tf.control_dependencies([tf1.assign_add(total, x)]):
            second = tf1.assign_add(total, x * w)
        with tf.control_dependencies([second]):
            y = gen_state_ops.destroy_temporary_variable(total, var_name="sum", name="y")
        session.run(w.initializer)
        tf1.saved_model.simple_save(session, str(tmp_path / "model"), {"x": x}, {"y": y})
    model = savax.saved_model.load(tmp_path / "model")
    assert [v.name for v in model.variables] == ["w"]
    for _ in range(2):
        found = model.signatures["serving_default"](x=np.array([1, 2], np.float32))["y"]
        np.testing.assert_array_equal(found, [3.0, 6.0])


def queue(x):
    waiting = tf1.FIFOQueue(3, ["float32"], shapes=[[]])
    with tf.control_dependencies([waiting.enqueue(x)]):
        return waiting.dequeue()


def dataset(x):
    values = tf.data.Dataset.from_tensors(1.0).repeat()
    return x + tf1.data.make_one_shot_iterator(values).get_next()


@pytest.mark.parametrize(
    ("build", "ops"),
    [(queue, "FIFOQueueV2.*QueueDequeueV2.*QueueEnqueueV2"), (dataset, "IteratorGetNext")],
)
def test_queues_and_datasets_are_refused_by_name(build, ops, tmp_path) -> None:
    with tf1.Session(graph=tf.Graph()) as session:
        x = tf1.placeholder(tf.float32, [], name="x")
        y, more = build(x), x + 1.0
        tf1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": x}, {"y": y, "more": more})
    with v1.Session(graph=v1.Graph()) as session:
        v1.saved_model.load(session, ["serve"], tmp_path / "m")
        with pytest.raises(UnsupportedOpError, match=re.compile(ops, re.DOTALL)):
            session.run(y.name, {"x:0": 1})
        assert session.run(more.name, {"x:0": 1}) == 2  # what doesn't need them runs
