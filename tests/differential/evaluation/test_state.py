"""Variables that TensorFlow functions read and assign."""

from __future__ import annotations

import jax
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import load_function  # noqa: E402

from savax.errors import VariableWriteError  # noqa: E402

pytestmark = pytest.mark.tf


def _pair(function, *specs):
    """Returns a concrete function and its loaded form, with variables as they are now."""
    concrete = tf.function(function).get_concrete_function(*specs)
    return concrete, load_function(concrete)


def _check_steps(concrete, loaded, *calls):
    """Calls both with the same arguments and compares results and variables each time."""
    for args in calls:
        found = loaded.body.run([np.asarray(a) for a in args])
        expected = tf.nest.flatten(concrete(*[tf.constant(a) for a in args]))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-6)
        for v in concrete.graph.variables:
            name = v.name.split(":")[0]
            np.testing.assert_allclose(loaded.variables[name].numpy(), v.numpy(), rtol=1e-6)


def test_assignments_take_effect_once_per_call():
    v = tf.Variable([1.0, 2.0], name="v")
    step = tf.Variable(0, dtype=tf.int64, name="step")

    def f(x):
        step.assign_add(1)
        v.assign(v * x)
        v.assign_sub([1.0, 0.0])
        return v + tf.cast(step, tf.float32)

    spec = tf.TensorSpec([2], tf.float32)
    _check_steps(*_pair(f, spec), ([2.0, 3.0],), ([1.0, 1.0],), ([0.5, 0.0],))


def test_assignment_in_branch_and_loop():
    v = tf.Variable(0.0, name="v")
    w = tf.Variable([1.0, 1.0], name="w")

    def f(x):
        for i in tf.range(4):
            if x[0] > tf.cast(i, tf.float32):
                v.assign_add(x[1])
                w.assign(w * 2.0)
        return v.read_value() + w[0]

    spec = tf.TensorSpec([2], tf.float32)
    _check_steps(*_pair(f, spec), ([2.0, 3.0],), ([9.0, 1.0],), ([-1.0, 1.0],))


def test_assignment_through_calls():
    v = tf.Variable(1.0, name="v")

    @tf.function
    def bump(x):
        v.assign_add(x)
        return v.read_value()

    def f(x):
        return bump(x) * bump(x * 2)

    _check_steps(*_pair(f, tf.TensorSpec([], tf.float32)), (1.0,), (2.0,))


def test_gather_from_variable():
    table = tf.Variable(np.arange(12, dtype=np.float32).reshape(4, 3), name="table")

    def f(ids):
        return tf.nn.embedding_lookup(table, ids)

    _check_steps(*_pair(f, tf.TensorSpec([None], tf.int64)), (np.array([3, 0, 3]),))


@pytest.mark.parametrize("method", ["update", "add", "sub", "mul", "div", "min", "max"])
def test_scatter_into_variable(method):
    table = tf.Variable(np.arange(1, 13, dtype=np.float32).reshape(4, 3), name="table")

    def f(ids, x):
        getattr(table, f"scatter_{method}")(tf.IndexedSlices(x, ids))
        return table.read_value()

    specs = tf.TensorSpec([2], tf.int32), tf.TensorSpec([2, 3], tf.float32)
    ids, x = np.int32([2, 0]), np.float32([[1, 9, 3], [4, 5, 6]])
    _check_steps(*_pair(f, *specs), (ids, x), (ids, x))


def test_gradient_with_respect_to_a_read_variable():
    w = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="w")
    _, loaded = _pair(lambda x: x @ w, tf.TensorSpec([None, 2], tf.float32))
    x = np.float32([[1, 1]])
    gradient = jax.grad(lambda x: loaded.body.run([x])[0].sum())(x)
    np.testing.assert_allclose(gradient, [[3.0, 7.0]])


def test_write_under_foreign_trace_is_refused():
    v = tf.Variable(0.0, name="v")

    def f(x):
        v.assign(x)
        return v.read_value()

    _, loaded = _pair(f, tf.TensorSpec([], tf.float32))
    with pytest.raises(VariableWriteError, match=r"assigns 'v'"):
        jax.jit(lambda x: loaded.body.run([x]))(1.0)
    with pytest.raises(VariableWriteError):
        jax.grad(lambda x: loaded.body.run([x])[0])(1.0)
    assert loaded.variables["v"].numpy() == 0.0


def test_failed_call_assigns_nothing():
    v = tf.Variable(1.0, name="v")

    def f(x):
        v.assign(5.0)
        tf.debugging.assert_positive(x)
        return tf.reshape(x, [3])

    _, loaded = _pair(f, tf.TensorSpec([None], tf.float32))
    with pytest.raises(Exception, match=r"Reshape|reshape"):
        loaded.body.run([np.float32([1, 2])])
    assert loaded.variables["v"].numpy() == 1.0
