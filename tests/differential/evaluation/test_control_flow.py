"""Branches, loops and calls of TensorFlow functions give what TensorFlow gives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_function, load_function  # noqa: E402

pytestmark = pytest.mark.tf

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def _spec(shape, dtype=tf.float32):
    return tf.TensorSpec(shape, dtype)


def _concrete(function, *specs):
    return tf.function(function).get_concrete_function(*specs)


def test_static_if_walks_only_the_taken_branch():
    def f(x):
        # The other branch's shapes don't fit.
        return tf.cond(
            tf.equal(tf.shape(x)[0], 2), lambda: x + 1.0, lambda: tf.reshape(x[:, 0], [7, 1])
        )

    check_function(_concrete(f, _spec([None, 3])), X)


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_if_on_data(scale):
    def f(x):
        return tf.cond(
            tf.reduce_sum(x) > 0, lambda: (x * 2, tf.constant(1)), lambda: (x - 1, tf.constant(2))
        )

    check_function(_concrete(f, _spec([2, 3])), scale * X)


def test_if_results_that_are_known_and_equal_stay_static():
    def f(x):
        y, n = tf.cond(tf.reduce_sum(x) > 0, lambda: (x, 6), lambda: (-x, 6))
        return tf.reshape(y, [n])

    loaded = check_function(_concrete(f, _spec([2, 3])), X)
    assert jax.jit(lambda x: loaded.body.run([x])[0])(X).shape == (6,)


def test_if_with_unequal_shapes_runs_on_concrete_values_only():
    def f(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: x[:1])

    loaded = check_function(_concrete(f, _spec([None, 3])), X)
    with pytest.raises(TypeError, match=r"operand 'cond' must be known .*different shapes"):
        jax.jit(lambda x: loaded.body.run([x]))(X)


@pytest.mark.parametrize("index", [-3, 0, 1, 2, 9])
def test_case(index):
    def f(i, x):
        return tf.switch_case(i, [lambda: x, lambda: x * 2, lambda: x * 3])

    check_function(_concrete(f, _spec([], tf.int32), _spec([2, 3])), np.int32(index), X)


def test_counted_loop_is_differentiable():
    def f(x):
        for i in tf.range(4):
            x = tf.sin(x) * tf.cast(i + 1, tf.float32)
        return x

    concrete = _concrete(f, _spec([2, 3]))
    loaded = check_function(concrete, X)
    _check_gradient(concrete, loaded, X)


def test_loop_with_two_counters_is_differentiable():
    def f(x):
        i, j = tf.constant(0), tf.constant(10)
        while i < j:
            x = x * 1.1
            i, j = i + 1, j - 2
        return x

    concrete = _concrete(f, _spec([2, 3]))
    _check_gradient(concrete, check_function(concrete, X), X)


def test_loop_on_data():
    def f(x):
        n = tf.constant(0)
        while tf.reduce_sum(x) < 100.0:
            x, n = x * 2.0, n + 1
        return x, n

    loaded = check_function(_concrete(f, _spec([2, 3])), X)
    found = jax.jit(lambda x: loaded.body.run([x]))(X)
    assert found[1] == 3


def test_nested_loops():
    def f(x):
        for i in tf.range(3):
            for j in tf.range(i + 1):
                x = x + tf.cast(i * j, tf.float32)
        return x

    check_function(_concrete(f, _spec([2, 3])), X)


def test_loop_that_never_runs():
    def f(x):
        i = tf.constant(5)
        while i < 5:
            x, i = x * 0.0, i + 1
        return x, i

    check_function(_concrete(f, _spec([2, 3])), X)


def test_growing_variable_with_known_trips_is_unrolled():
    def f(x):
        i = tf.constant(0)
        _, y = tf.while_loop(
            lambda i, y: i < 3,
            lambda i, y: (i + 1, tf.concat([y, x[:1] * tf.cast(i, tf.float32)], 0)),
            [i, x],
            shape_invariants=[i.shape, tf.TensorShape([None, 3])],
        )
        return y

    loaded = check_function(_concrete(f, _spec([2, 3])), X)
    assert jax.jit(lambda x: loaded.body.run([x])[0])(X).shape == (5, 3)


def test_growing_variable_with_trips_on_data_runs_in_steps():
    def f(x):
        _, y = tf.while_loop(
            lambda s, y: s < 20.0,
            lambda s, y: (s + tf.reduce_sum(y), tf.concat([y, y[:1]], 0)),
            [tf.constant(0.0), x],
            shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 3])],
        )
        return y

    check_function(_concrete(f, _spec([2, 3])), X)


def test_sizes_in_arguments_are_used_as_values():
    def f(n, x):
        return tf.fill([n, 2], tf.reduce_sum(x)), tf.range(n), tf.reshape(x, [n, -1])

    loaded = check_function(_concrete(f, _spec([], tf.int32), _spec([2, 3])), np.int32(3), X)
    with pytest.raises(TypeError, match="must be known while the function is traced"):
        jax.jit(lambda n, x: loaded.body.run([n, x]))(np.int32(3), X)
    # Closed over, the size is known.
    assert jax.jit(lambda x: loaded.body.run([np.int32(3), x])[0])(X).shape == (3, 2)


def test_partly_known_shapes_keep_what_is_known():
    def f(n, x):
        shape = tf.stack([n, 3])
        return tf.reshape(x, [shape[1], 2]), x[:, n : n + 1][:, 0]

    check_function(_concrete(f, _spec([], tf.int32), _spec([2, 3])), np.int32(1), X)


def test_calls_with_captures_and_nesting():
    w = tf.Variable(X)

    @tf.function
    def inner(x):
        return x @ tf.transpose(w) + 1.0

    @tf.function
    def middle(x):
        return inner(x) + inner(x * 2)

    check_function(_concrete(lambda x: middle(x) - inner(x), _spec([None, 3])), X)


def _check_gradient(concrete, loaded, x):
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        loss = tf.reduce_sum(tf.square(tf.nest.flatten(concrete(tensor))[0]))
    expected = tape.gradient(loss, tensor).numpy()
    gradient = jax.grad(lambda x: jnp.sum(jnp.square(loaded.body.run([x])[0])))
    np.testing.assert_allclose(gradient(x), expected, rtol=1e-4)
    np.testing.assert_allclose(jax.jit(gradient)(x), expected, rtol=1e-4)
    batched = jax.jit(jax.vmap(gradient))(np.stack([x, x + 1]))
    np.testing.assert_allclose(batched[0], expected, rtol=1e-4)


def test_loaded_functions_load_once_per_library():
    concrete = _concrete(lambda x: x + 1, _spec([None]))
    loaded = load_function(concrete)
    assert loaded.library.plan(loaded.name) is loaded.library.plan(loaded.name)
