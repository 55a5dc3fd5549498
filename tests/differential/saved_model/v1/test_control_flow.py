"""Branches and loops of version 1, as TensorFlow writes them without ``enable_control_flow_v2``."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest

import savax
from savax.compat import v1
from savax.errors import UnsupportedOpError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1
pytestmark = pytest.mark.tf

_LOCK = threading.Lock()


@pytest.fixture(autouse=True)
def old_control_flow() -> Iterator[None]:
    with _LOCK:
        was_on = tf1.control_flow_v2_enabled()
        tf1.disable_control_flow_v2()
        yield
        if was_on:
            tf1.enable_control_flow_v2()


def scalar(dtype: Any = "float32", name: str = "x") -> Any:
    return tf1.placeholder(dtype, [], name=name)


def branch():
    x = scalar()
    return [tf1.cond(x > 0, lambda: x * 2, lambda: x - 1)]


def branches_in_branches():
    x = scalar()
    a, b = tf1.cond(x > 0, lambda: (x * 2, tf.constant(1.0)), lambda: (x - 1, tf.constant(2.0)))
    inner = lambda: tf1.cond(x < -5.0, lambda: a * 10, lambda: b * 100)  # noqa: E731
    return [a, b, tf1.cond(x > 0, lambda: a + b, inner)]


def one_predicate_for_two_branches():
    x = scalar()
    positive = x > 0
    a = tf1.cond(positive, lambda: x * 2, lambda: x - 1)
    return [a, tf1.cond(positive, lambda: a * 2, lambda: a - 1)]


def branches_by_case():
    x = scalar("int32")
    pairs = [(tf.equal(x, 0), lambda: tf.constant(10)), (tf.equal(x, 1), lambda: x * 20)]
    return [tf1.case(pairs, default=lambda: x + 7)]


def branch_over_strings():
    s, t = scalar("string"), scalar("bool", "t")
    joined = tf1.cond(t, lambda: tf.strings.join([s, "tail"]), lambda: s)
    return [tf.strings.length(joined)]


def switch_and_merge():
    x = scalar()
    false, true = tf.raw_ops.Switch(data=x, pred=x > 0)
    return list(tf.raw_ops.Merge(inputs=[false * 2, true * 3]))


def loop():
    n, w = scalar("int32"), tf.constant([1.0, 2.0])
    step = lambda i, y: (i + 1, y * w + tf.cast(i, tf.float32))  # noqa: E731
    return list(tf1.while_loop(lambda i, y: i < n, step, [0, tf.ones([2])]))


def loops_and_branches_in_loops():
    n = scalar("int32")

    def step(i, total):
        _, inner = tf1.while_loop(lambda j, t: j < i, lambda j, t: (j + 1, t + j), [0, 0])
        total = tf1.cond(tf.equal(i % 2, 0), lambda: total + inner, lambda: total - 1)
        return i + 1, total

    return list(tf1.while_loop(lambda i, total: i < n, step, [0, 0]))


def loop_in_a_branch():
    x = scalar()
    count = lambda: tf1.while_loop(lambda i: i < x, lambda i: i + 1, [tf.constant(0.0)])  # noqa: E731
    return [tf.identity(tf1.cond(x > 0, count, lambda: x - 1))]


def branch_that_assigns(*, resources: bool):
    x = scalar()
    v = tf1.get_variable("v", initializer=1.0, use_resource=resources)
    y = tf1.cond(x > 0, lambda: tf.identity(tf1.assign_add(v, x)), lambda: v * 10)
    with tf.control_dependencies([y]):
        return [y, tf.identity(v.read_value())]


def loop_that_reads(*, resources: bool):
    n = scalar("int32")
    v = tf1.get_variable("v", initializer=2.0, use_resource=resources)
    step = lambda i, y: (i + 1, y * v)  # noqa: E731
    return list(tf1.while_loop(lambda i, y: i < n, step, [0, tf.constant(1.0)]))


def recurrent_network():
    x = tf1.placeholder(tf.float32, [None, 5, 3], name="x")
    kernel = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    w = tf1.get_variable("w", initializer=kernel, use_resource=False)
    steps = tf.transpose(x, [1, 0, 2])
    count = tf.shape(steps)[0]
    inputs = tf.TensorArray(tf.float32, size=count).unstack(steps)
    outputs = tf.TensorArray(tf.float32, size=count)

    def step(t, h, outputs):
        h = tf.tanh(tf.concat([inputs.read(t), h], 1) @ w)
        return t + 1, h, outputs.write(t, h)

    start = [0, tf.zeros([tf.shape(x)[0], 4]), outputs]
    _, h, outputs = tf1.while_loop(lambda t, h, o: t < count, step, start)
    return [tf.transpose(outputs.stack(), [1, 0, 2]), h]


def derivative_of_a_recurrent_network():
    outputs, state = recurrent_network()
    loss = tf.reduce_sum(outputs**2) + tf.reduce_sum(state)
    over = [*tf1.trainable_variables(), loss.graph.get_tensor_by_name("x:0")]
    return [loss, *map(tf.identity, tf1.gradients(loss, over))]


def derivatives_by_two_losses():
    x = tf1.placeholder(tf.float32, [None, 3], name="x")
    v = tf1.get_variable("v", initializer=2.0, use_resource=False)
    y = tf1.map_fn(lambda row: tf.sin(row * v), x)
    once = [g for loss in (y, y * y) for g in tf1.gradients(loss, [v, x])]
    return [y, *map(tf.identity, once)]


def derivative_of_a_branch():
    x = scalar()
    y = tf1.cond(x > 0, lambda: tf.sin(x * 2), lambda: x * x)
    return [tf.identity(tf1.gradients(y * y, [x])[0])]


def derivative_of_a_loop():
    n = scalar("int32")
    v = tf1.get_variable("v", initializer=2.0, use_resource=False)
    step = lambda i, y: (i + 1, tf.sin(y * v))  # noqa: E731
    _, y = tf1.while_loop(lambda i, y: i < n, step, [0, tf.constant(1.0)])
    return [y, tf.identity(tf1.gradients(y, [v])[0])]


def derivative_of_branches_in_loops():
    n = scalar("int32")
    v = tf1.get_variable("v", initializer=2.0, use_resource=False)

    def inner(j, t):
        return j + 1, tf1.cond(t > 0.5, lambda: tf.sin(t * v), lambda: t * t + v)

    def step(i, y):
        _, t = tf1.while_loop(lambda j, t: j < i, inner, [0, y])
        odd = lambda: tf1.cond(y > 0, lambda: tf.sin(t * v), lambda: tf.exp(-t * t) * v)  # noqa: E731
        return i + 1, tf1.cond(tf.equal(i % 2, 1), odd, lambda: t + y * v)

    _, y = tf1.while_loop(lambda i, y: i < n, step, [0, tf.constant(1.0)])
    return [y, tf.identity(tf1.gradients(y, [v])[0])]


class Cell:
    """A recurrent cell, of the interface that ``dynamic_rnn`` takes."""

    output_size = state_size = 4

    def __init__(self) -> None:
        kernel = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
        self.w = tf1.get_variable("w", initializer=kernel, use_resource=False)

    def zero_state(self, batch_size, dtype):
        return tf.zeros([batch_size, 4], dtype)

    def __call__(self, x, h, scope=None):
        y = tf.tanh(tf.concat([x, h], 1) @ self.w)
        return y, y


def step_of_training():
    x = tf1.placeholder(tf.float32, [None, 5, 3], name="x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y, _ = tf1.nn.dynamic_rnn(Cell(), x, tf.constant([5, 3]), dtype=tf.float32)
    loss = tf.reduce_sum(y**2)
    (w,) = tf1.trainable_variables()
    with tf.control_dependencies([tf1.train.GradientDescentOptimizer(0.1).minimize(loss)]):
        return [loss, tf.identity(w.read_value())]


SIGNS = [{"x:0": 3.0}, {"x:0": -3.0}, {"x:0": -30.0}]
COUNTS = [{"x:0": 5}, {"x:0": 1}, {"x:0": 0}]
SEQUENCES = [{"x:0": np.linspace(-1, 1, b * 15).reshape(b, 5, 3).astype("f4")} for b in (2, 1, 0)]
CASES: dict[str, tuple[Callable[[], Any], list[dict[str, Any]]]] = {
    "branch": (branch, SIGNS),
    "branches_in_branches": (branches_in_branches, SIGNS),
    "one_predicate_for_two_branches": (one_predicate_for_two_branches, SIGNS),
    "branches_by_case": (branches_by_case, COUNTS),
    "branch_over_strings": (
        branch_over_strings,
        [{"x:0": b"a", "t:0": True}, {"x:0": b"", "t:0": False}],
    ),
    "switch_and_merge": (switch_and_merge, SIGNS),
    "loop": (loop, COUNTS),
    "loops_and_branches_in_loops": (loops_and_branches_in_loops, COUNTS),
    "loop_in_a_branch": (loop_in_a_branch, SIGNS),
    "branch_that_assigns_a_reference": (lambda: branch_that_assigns(resources=False), SIGNS),
    "branch_that_assigns_a_resource": (lambda: branch_that_assigns(resources=True), SIGNS),
    "loop_that_reads_a_reference": (lambda: loop_that_reads(resources=False), COUNTS),
    "loop_that_reads_a_resource": (lambda: loop_that_reads(resources=True), COUNTS),
    "recurrent_network": (recurrent_network, SEQUENCES),
    "derivative_of_a_recurrent_network": (derivative_of_a_recurrent_network, SEQUENCES[::2]),
    "derivatives_by_two_losses": (
        derivatives_by_two_losses,
        [{"x:0": np.linspace(-1, 1, n * 3).reshape(n, 3)} for n in (4, 1)],
    ),
    "derivative_of_branches_in_loops": (derivative_of_branches_in_loops, COUNTS),
    "step_of_training": (step_of_training, [SEQUENCES[0], SEQUENCES[0]]),
    "derivative_of_a_branch": (derivative_of_a_branch, SIGNS),
    "derivative_of_a_loop": (derivative_of_a_loop, COUNTS),
}


@pytest.mark.parametrize("case", CASES)
def test_a_session_gives_what_tensorflow_gives(case) -> None:
    build, feeds = CASES[case]
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        fetches = build()
        init = tf1.global_variables_initializer()
        session.run(init)
        expected = [session.run(fetches, feed) for feed in feeds]
    with v1.Session(graph=v1.Graph()) as session:
        v1.import_graph_def(graph.as_graph_def(), name="")
        session.run(init.name)
        for feed, values in zip(feeds, expected, strict=True):
            got = session.run([fetch.name for fetch in fetches], feed)
            for value, wanted in zip(got, values, strict=True):
                np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


def test_training_compiles_in_the_first_step_only(caplog) -> None:
    with tf.Graph().as_default() as graph:
        fetches = [fetch.name for fetch in step_of_training()]
        init = tf1.global_variables_initializer().name
    with v1.Session(graph=v1.Graph()) as session:
        v1.import_graph_def(graph.as_graph_def(), name="")
        session.run(init)
        losses = [session.run(fetches, SEQUENCES[0])[0]]
        caplog.clear()
        with jax.log_compiles():
            losses += [session.run(fetches, SEQUENCES[0])[0] for _ in range(2)]
    assert not [record for record in caplog.records if "ompil" in record.getMessage()]
    assert len(set(losses)) == 3


def test_a_recurrent_network_trains_and_is_saved_again(tmp_path) -> None:
    x = SEQUENCES[0]["x:0"]
    with tf.Graph().as_default(), tf1.Session() as session:
        outputs, state = recurrent_network()
        placeholder = session.graph.get_tensor_by_name("x:0")
        session.run(tf1.global_variables_initializer())
        wanted = session.run(outputs, {placeholder: x})
        tf1.saved_model.simple_save(
            session, str(tmp_path / "m"), {"x": placeholder}, {"outputs": outputs, "state": state}
        )
        # Derivatives change the loop, so they are added to what is saved already.
        gradient = tf1.gradients(tf.reduce_sum(state), tf1.trainable_variables())[0]
        slope = session.run(gradient, {placeholder: x})
    loaded = savax.saved_model.load(tmp_path / "m")
    signature = loaded.signatures["serving_default"]
    np.testing.assert_allclose(signature(x=x)["outputs"], wanted, rtol=1e-5)
    _, (found,) = savax.value_and_grad(
        lambda x: signature(x=x)["state"].sum(), variables=loaded.variables
    )(x)
    np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda x: signature(x=x))(x)["outputs"], wanted, rtol=1e-5)
    savax.saved_model.save(loaded, tmp_path / "again")
    again = tf.saved_model.load(str(tmp_path / "again")).signatures["serving_default"]
    np.testing.assert_allclose(again(x=tf.constant(x))["outputs"], wanted, rtol=1e-5)


def test_what_is_not_built_like_this_is_named() -> None:
    with v1.Session(graph=v1.Graph()) as session:
        x = v1.placeholder("float32", [], name="x")
        one, _ = session.graph.op("Switch", x, x > 0)
        merged, _ = session.graph.op("Merge", [one, x])
        with pytest.raises(UnsupportedOpError, match="Merge"):
            session.run(merged, {x: 1})
