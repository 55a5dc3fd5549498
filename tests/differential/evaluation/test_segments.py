"""Functions that the host has a part in: strings, and shapes that depend on values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_function, load_function  # noqa: E402

pytestmark = pytest.mark.tf

X = np.float32([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])


def _concrete(function, *specs):
    return tf.function(function).get_concrete_function(*specs)


def _programs(loaded):
    """Returns how many segments were compiled, over all plans."""
    cut = loaded.body._program._runner._cut.values()
    return sum(len(plan._programs) for plan in cut)


def test_labels_of_the_best_class():
    labels = tf.constant(["cat", "dog", "owl"])

    def f(x):
        scores = tf.nn.softmax(x)
        return tf.gather(labels, tf.argmax(scores, 1)), tf.reduce_max(scores, 1)

    loaded = check_function(_concrete(f, tf.TensorSpec([None, 3])), X)
    before = _programs(loaded)
    assert before > 0
    loaded.body.run([X + 1])
    assert _programs(loaded) == before


def test_strings_pass_through():
    def f(names, x):
        return names, x * 2

    concrete = _concrete(f, tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 3]))
    loaded = load_function(concrete)
    found = loaded.body.run([np.array([b"a", b"b"], object), X])
    assert found[0].tolist() == [b"a", b"b"]
    np.testing.assert_allclose(found[1], X * 2)


def test_gradient_beside_strings():
    def f(names, x):
        return names, tf.reduce_sum(tf.square(x))

    concrete = _concrete(f, tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 3]))
    body = load_function(concrete).body
    names = np.array([b"a", b"b"], object)
    np.testing.assert_allclose(jax.grad(lambda x: body.run([names, x])[1])(X), 2 * X)
    np.testing.assert_allclose(jax.jit(jax.grad(lambda x: body.run([names, x])[1]))(X), 2 * X)


def test_shapes_from_values_between_compiled_parts():
    w = tf.Variable(np.ones((3, 4), np.float32))

    def f(x, n):
        h = tf.nn.relu(x @ w)
        h = tf.tile(h, tf.stack([n, 1]))
        h = h + tf.cast(tf.range(tf.shape(h)[0]), tf.float32)[:, None]
        return tf.reduce_sum(h, 1) * 2, tf.shape(h)

    specs = tf.TensorSpec([None, 3]), tf.TensorSpec([], tf.int32)
    loaded = check_function(_concrete(f, *specs), X, np.int32(3))
    for n in (1, 2):
        found = loaded.body.run([X, np.int32(n)])
        assert found[1].tolist() == [2 * n, 4]


def test_boolean_mask():
    def f(x):
        return tf.boolean_mask(x, x[:, 0] > 0.3) * 2

    check_function(_concrete(f, tf.TensorSpec([None, 3])), X)


def test_state_is_written_between_host_parts():
    v = tf.Variable([1.0, 2.0], name="v")

    def f(n, x):
        v.assign_add(x)
        first = tf.fill([n], v[0])
        v.assign(v * 2.0)
        return first, v.read_value()

    specs = tf.TensorSpec([], tf.int32), tf.TensorSpec([2])
    loaded = load_function(_concrete(f, *specs))
    for _ in range(2):
        found = loaded.body.run([np.int32(2), np.float32([1, 1])])
    np.testing.assert_allclose(found[0], [5, 5])
    np.testing.assert_allclose(found[1], [10, 14])
    np.testing.assert_allclose(loaded.variables["v"].numpy(), [10, 14])


def test_host_parts_inside_calls_branches_and_loops():
    @tf.function
    def inner(x, n):
        return tf.reduce_sum(tf.tile(x, [n, 1]), 0)

    def f(x, n):
        y = inner(x, n) * 2
        if n > 2:
            y = y + inner(x, n - 1)
        for i in tf.range(n):
            y = y + inner(x, i)
        return y

    specs = tf.TensorSpec([None, 3]), tf.TensorSpec([], tf.int32)
    loaded = check_function(_concrete(f, *specs), X, np.int32(3))
    np.testing.assert_allclose(loaded.body.run([X, np.int32(1)])[0], 2 * X.sum(0), rtol=1e-6)


def test_value_dependent_function_inside_a_trace_keeps_known_arguments():
    def f(x, n):
        return tf.reduce_sum(tf.tile(x, tf.stack([n, 1])) ** 2)

    specs = tf.TensorSpec([None, 3]), tf.TensorSpec([], tf.int32)
    body = load_function(_concrete(f, *specs)).body
    gradient = jax.jit(jax.grad(lambda x: body.run([x, np.int32(3)])[0]))(X)
    np.testing.assert_allclose(gradient, 6 * X, rtol=1e-6)
    assert jnp.shape(body.run([X, np.int32(3)])[0]) == ()
