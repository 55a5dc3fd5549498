"""Functions with 64-bit values under a caller's transformations while JAX has no such types.

At least 55 functions under each of five transformations: 275 checks.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import load_function  # noqa: E402

pytestmark = pytest.mark.tf

X = np.float32([[0.3, 1.2, 0.7], [0.9, 0.1, 0.4], [0.5, 0.8, 1.1]])


def _wide(x):
    return tf.cast(x, tf.float64)


FUNCTIONS = {
    "gather": lambda x: tf.gather(x, tf.constant([2, 0, 2], tf.int64), axis=1),
    "gather_nd": lambda x: tf.gather_nd(_wide(x), tf.constant([[2, 0], [1, 1]], tf.int64)),
    "scatter_nd": lambda x: tf.scatter_nd(tf.constant([[1], [1], [0]], tf.int64), _wide(x), [3, 3]),
    "segment_sum": lambda x: tf.math.segment_sum(_wide(x), tf.constant([0, 0, 1], tf.int64)),
    "sort": lambda x: tf.sort(_wide(x)),
    "top_k": lambda x: tf.math.top_k(_wide(x), 2)[0],
    "argmax": lambda x: x * tf.cast(tf.argmax(x, 1), tf.float32),
    "cumprod": lambda x: tf.math.cumprod(_wide(x), axis=1),
    "cumsum": lambda x: tf.cumsum(_wide(x), tf.constant(1, tf.int64), exclusive=True),
    "matmul": lambda x: _wide(x) @ tf.transpose(_wide(x)),
    "einsum": lambda x: tf.einsum("ij,kj->ik", _wide(x), _wide(x)),
    "strided_slice": lambda x: _wide(x)[::-1, tf.constant(0, tf.int64) : tf.constant(2, tf.int64)],
    "pad": lambda x: tf.pad(_wide(x), tf.constant([[1, 0], [0, 2]], tf.int64)),
    "reverse": lambda x: tf.reverse(_wide(x), [1]),
    "concat": lambda x: tf.concat([_wide(x), _wide(x) * 2], 1),
    "reduce": lambda x: tf.reduce_max(_wide(x), 1) + tf.reduce_prod(_wide(x), 0),
    "where": lambda x: tf.where(_wide(x) > 0.5, tf.sin(_wide(x)), tf.exp(_wide(x))),
    "powers": lambda x: _wide(x) ** 3 / tf.sqrt(_wide(x)),
    "softmax": lambda x: tf.nn.softmax(_wide(x)),
    "lgamma": lambda x: tf.math.lgamma(_wide(x) + 1),
    "gather_batch": lambda x: tf.gather(
        _wide(x), tf.constant([[0, 2], [1, 1], [2, 0]], tf.int64), batch_dims=1
    ),
    "embedding": lambda x: tf.nn.embedding_lookup(x, tf.constant([[0, 2], [1, 1]], tf.int64)),
    "scatter_update": lambda x: tf.tensor_scatter_nd_update(
        _wide(x), tf.constant([[1], [0]], tf.int64), _wide(x)[1:] * 3
    ),
    "scatter_add": lambda x: tf.tensor_scatter_nd_add(
        _wide(x), tf.constant([[2, 1], [2, 1]], tf.int64), _wide(x)[0, :2]
    ),
    "unsorted_segment_max": lambda x: tf.math.unsorted_segment_max(
        _wide(x), tf.constant([1, 0, 1], tf.int64), 2
    ),
    "segment_mean": lambda x: tf.math.segment_mean(_wide(x), tf.constant([0, 1, 1], tf.int64)),
    "argsort": lambda x: tf.gather(_wide(x)[0], tf.argsort(_wide(x)[0])),
    "top_k_indices": lambda x: (
        _wide(x)[:, :2] * tf.cast(tf.math.top_k(_wide(x), 2)[1] + 1, tf.float64)
    ),
    "argmin": lambda x: _wide(x) + tf.cast(tf.argmin(_wide(x), 0), tf.float64),
    "dynamic_slice": lambda x: tf.slice(
        _wide(x), tf.stack([tf.argmax(x[:2, 0]), tf.constant(0, tf.int64)]), [2, 2]
    ),
    "roll": lambda x: tf.roll(_wide(x), tf.constant(1, tf.int64), 1) * _wide(x),
    "one_hot": lambda x: tf.one_hot(tf.argmax(x, 1), 3, dtype=tf.float64) * _wide(x),
    "range": lambda x: _wide(x) * tf.range(tf.constant(3, tf.int64), dtype=tf.float64),
    "tile": lambda x: tf.tile(_wide(x), tf.constant([2, 1], tf.int64)) ** 2,
    "repeat": lambda x: tf.repeat(_wide(x), 2, axis=0) * 0.5,
    "linspace": lambda x: tf.linspace(_wide(x)[0], _wide(x)[1], 4),
    "integer_division": lambda x: x * tf.cast(tf.range(3, dtype=tf.int64) // 2 % 2, tf.float32),
    "bits": lambda x: (
        x
        * tf.cast(
            tf.bitwise.right_shift(tf.constant([2**40, 2**41, 2**35], tf.int64), 35), tf.float32
        )
    ),
    "unsigned": lambda x: (
        _wide(x) * tf.cast(tf.constant([2**63 + 5, 7, 2**40], tf.uint64) % 11, tf.float64)
    ),
    "cholesky": lambda x: tf.linalg.cholesky(
        _wide(x) @ tf.transpose(_wide(x)) + 3 * tf.eye(3, dtype=tf.float64)
    ),
    "inverse": lambda x: tf.linalg.inv(_wide(x) + 3 * tf.eye(3, dtype=tf.float64)),
    "solve": lambda x: tf.linalg.solve(_wide(x) + 3 * tf.eye(3, dtype=tf.float64), _wide(x)),
    "determinant": lambda x: tf.linalg.det(_wide(x) + tf.eye(3, dtype=tf.float64)),
    "convolution": lambda x: tf.nn.conv2d(
        _wide(x)[None, :, :, None], _wide(x)[:2, :2, None, None], 1, "SAME"
    ),
    "average_pool": lambda x: tf.nn.avg_pool2d(_wide(x)[None, :, :, None], 2, 1, "VALID"),
    "max_pool": lambda x: tf.nn.max_pool2d(_wide(x)[None, :, :, None], 2, 1, "VALID"),
    "log_softmax": lambda x: tf.nn.log_softmax(_wide(x)),
    "sparse_cross_entropy": lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.constant([2, 0, 1], tf.int64), _wide(x)
    ),
    "erf": lambda x: tf.math.erf(_wide(x)) + tf.math.tanh(_wide(x)),
    "hyperbolic": lambda x: tf.math.asinh(_wide(x)) * tf.math.atan2(_wide(x), 2 + _wide(x)),
    "clip": lambda x: tf.clip_by_value(_wide(x), 0.35, 0.95),
    "norms": lambda x: tf.math.l2_normalize(_wide(x), 1) + tf.norm(_wide(x)),
    "moments": lambda x: tf.stack(tf.nn.moments(_wide(x), [0])),
    "complex": lambda x: tf.abs(tf.complex(_wide(x), _wide(x) ** 2)),
    "loop": lambda x: tf.while_loop(
        lambda i, y: i < tf.constant(3, tf.int64),
        lambda i, y: (i + 1, tf.sin(y) * tf.cast(i + 1, tf.float64)),
        [tf.constant(0, tf.int64), _wide(x)],
    )[1],
    "cond": lambda x: tf.cond(
        tf.reduce_sum(_wide(x)) > 1.0, lambda: _wide(x) ** 2, lambda: _wide(x)
    ),
}


@functools.cache
def _case(name):
    """Returns a scalar loss in JAX and its value and gradient by TensorFlow."""

    def loss(x):
        return tf.reduce_sum(tf.cast(FUNCTIONS[name](x), tf.float32) ** 2)

    concrete = tf.function(loss).get_concrete_function(tf.TensorSpec([3, 3], tf.float32))
    body = load_function(concrete).body
    tensor = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = concrete(tensor)
    gradient = tf.convert_to_tensor(tape.gradient(value, tensor))
    return lambda x: body.run([x])[0], value.numpy(), gradient.numpy()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_outer_jit(name):
    loss, value, _ = _case(name)
    np.testing.assert_allclose(jax.jit(lambda x: loss(x) * 2)(X), 2 * value, rtol=1e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradient(name):
    loss, _, gradient = _case(name)
    np.testing.assert_allclose(jax.grad(loss)(X), gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_batched_gradient(name):
    loss, _, gradient = _case(name)
    found = jax.jit(jax.vmap(jax.grad(loss)))(np.stack([X, X]))
    np.testing.assert_allclose(found[1], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward_derivative(name):
    loss, _, gradient = _case(name)
    _, tangent = jax.jvp(loss, [jnp.asarray(X)], [jnp.ones_like(X)])
    np.testing.assert_allclose(tangent, gradient.sum(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_hessian(name):
    loss, _, _ = _case(name)
    found = jax.jit(jax.hessian(loss))(X)
    with jax.enable_x64(True):
        expected = jax.jit(jax.hessian(loss))(X)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_int64_results_are_whole():
    concrete = tf.function(lambda x: x + 2**40).get_concrete_function(tf.TensorSpec([], tf.int64))
    found = load_function(concrete).body.run([np.int64(3)])[0]
    assert found.dtype == np.int64
    assert int(found) == 2**40 + 3


def test_int64_arguments_are_whole_inside_a_trace():
    concrete = tf.function(lambda x, y: tf.cast(x > 2**40, tf.float32) * y).get_concrete_function(
        tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float32)
    )
    body = load_function(concrete).body
    assert jax.jit(lambda y: body.run([np.int64(2**40 + 1), y])[0])(2.0) == 2.0
    assert jax.grad(lambda y: body.run([np.int64(2**40), y])[0])(2.0) == 0.0


def test_int32_array_is_taken_for_int64():
    concrete = tf.function(lambda x: x * 2).get_concrete_function(tf.TensorSpec([2], tf.int64))
    found = load_function(concrete).body.run([jnp.array([1, 2], jnp.int32)])[0]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [2, 4])
