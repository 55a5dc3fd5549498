"""Derivatives in forward mode through custom gradients of loaded models."""

from __future__ import annotations

import jax
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import savax  # noqa: E402
from savax.errors import UnsupportedError  # noqa: E402

pytestmark = pytest.mark.tf

X = np.array([[0.3, -0.5, 1.0], [2.0, 1.0, -1.0]], np.float32)
DX = np.array([[1.0, 0.5, -2.0], [0.25, -1.0, 3.0]], np.float32)
SPEC = tf.TensorSpec([None, 3])


@tf.custom_gradient
def _triple(x, n):
    """Has a gradient that isn't its derivative, and an input without one."""
    return (x * x, tf.sin(x)), lambda a, b: (3 * a * x + b * tf.cast(n, x.dtype), None)


@tf.custom_gradient
def _clipped(x):
    return tf.identity(x), lambda dy: tf.clip_by_norm(dy, 1.0)


class _Model(tf.Module):
    def __init__(self):
        self.w = tf.Variable([[0.5, -1.0, 2.0], [1.0, 0.3, 0.2], [0.1, 0.2, -0.7]])

    @tf.function(input_signature=[SPEC])
    def swish(self, x):
        return tf.nn.swish(tf.nn.swish(x) @ self.w) ** 2

    @tf.function(input_signature=[SPEC])
    def wide(self, x):
        wide = tf.cast(x, tf.float64)
        return tf.cast(tf.nn.swish(wide) * tf.nn.swish(wide * 2), tf.float32)

    @tf.function(input_signature=[SPEC])
    def loop(self, x):
        def body(i, x):
            return i + 1, tf.nn.swish(x @ self.w)

        return tf.while_loop(lambda i, x: i < 3, body, [0, x])[1]

    @tf.function(input_signature=[SPEC])
    def branch(self, x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.nn.swish(x) ** 2, lambda: x)

    @tf.function(input_signature=[SPEC])
    def taken_branch(self, x):
        return tf.nn.swish(x) ** 2

    @tf.function(input_signature=[SPEC])
    def several(self, x):
        a, b = _triple(x, 5)
        return a * b

    @tf.function(input_signature=[SPEC])
    def nonlinear(self, x):
        return _clipped(x) * 2.0


SMOOTH = ("swish", "wide", "loop", "branch", "several")


@pytest.fixture(scope="module")
def original():
    return _Model()


@pytest.fixture(scope="module")
def loaded(original, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("forward_mode") / "model")
    tf.saved_model.save(original, path)
    return savax.saved_model.load(path)


def _tensorflow_tangents(fn, x=X, dx=DX):
    given = tf.constant(x)
    with tf.autodiff.ForwardAccumulator(given, tf.constant(dx)) as accumulator:
        result = fn(given)
    return result.numpy(), accumulator.jvp(result).numpy()


def _tensorflow_hessian(fn):
    x = tf.constant(X)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(fn(x) ** 2)
        gradient = inner.gradient(loss, x)
    return outer.jacobian(gradient, x, experimental_use_pfor=False).numpy()


def _close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SMOOTH)
def test_tangents_are_tensorflows(original, loaded, name):
    # TensorFlow fails where the gradient in a branch captures the branch's tensors.
    taken = "taken_branch" if name == "branch" else name
    expected = _tensorflow_tangents(getattr(original, taken))
    fn = getattr(loaded, name)
    _close(jax.jvp(fn, (X,), (DX,)), expected)
    _close(jax.jit(lambda x, dx: jax.jvp(fn, (x,), (dx,)))(X, DX), expected)
    with jax.enable_x64(True):
        _close(jax.jvp(fn, (X,), (DX,)), expected)


@pytest.mark.parametrize("name", ["swish", "wide", "several"])
def test_hessians_are_tensorflows(original, loaded, name):
    expected = _tensorflow_hessian(getattr(original, name))

    def loss(x):
        return (getattr(loaded, name)(x) ** 2).sum()

    _close(jax.hessian(loss)(X), expected)
    if name != "several":  # its gradient isn't the derivative of what it computes
        _close(jax.jit(jax.jacrev(jax.jacfwd(loss)))(X), expected)
        _close(jax.jit(jax.jacfwd(jax.jacfwd(loss)))(X), expected)


@pytest.mark.parametrize("name", ["swish", "loop"])
def test_both_modes_agree(loaded, name):
    fn = getattr(loaded, name)
    expected = jax.jacrev(fn)(X)
    _close(jax.jit(jax.jacfwd(jax.checkpoint(fn)))(X), expected)
    _, linear = jax.linearize(fn, X)
    directions = np.stack([DX, -2 * DX])
    tangents = np.einsum("abij,kij->kab", expected, directions)
    _close(jax.vmap(linear)(directions), tangents)
    each = jax.vmap(jax.jacfwd(fn))(X[:, None])
    _close(each, jax.vmap(jax.jacrev(fn))(X[:, None]))
    _close(each[:, 0, :, 0], np.einsum("iaib->iab", expected))


def test_gradients_of_batches_and_scans(loaded):
    def of_each(x):
        return jax.vmap(lambda row: loaded.swish(row[None])[0])(x).sum()

    def scanned(x):
        return jax.lax.scan(lambda x, _: (loaded.swish(x), None), x, None, 2)[0].sum()

    def twice(x):
        return loaded.swish(loaded.swish(x)).sum()

    _close(jax.grad(of_each)(X), jax.grad(lambda x: loaded.swish(x).sum())(X))
    _close(jax.grad(scanned)(X), jax.grad(twice)(X))
    _close(jax.jvp(scanned, (X,), (DX,)), jax.jvp(twice, (X,), (DX,)))


def test_gradients_that_arent_linear_have_reverse_mode_only(loaded):
    def loss(x):
        return loaded.nonlinear(x).sum()

    expected = np.full_like(X, 6**-0.5)
    _close(jax.grad(loss)(X), expected)
    _close(jax.jit(jax.grad(loss))(X), expected)
    rows = jax.grad(lambda x: jax.vmap(lambda row: loss(row[None]))(x).sum())(X)
    _close(rows, np.full_like(X, 3**-0.5))
    message = r"IdentityN node 'IdentityN' of function '__inference_nonlinear_\d+'.*forward mode"
    for derivative in (jax.jvp, jax.jit(jax.jvp, static_argnums=0)):
        with pytest.raises(UnsupportedError, match=message):
            derivative(loss, (X,), (DX,))


def test_tangents_of_an_empty_batch(loaded):
    empty = X[:0]
    value, tangent = jax.jvp(loaded.swish, (empty,), (empty,))
    assert value.shape == tangent.shape == (0, 3)


def test_complex_tangents(tmp_path):
    @tf.custom_gradient
    def op(z):
        return z * z, lambda dy: dy * tf.math.conj(2 * z) * tf.complex(0.0, 3.0)

    model = tf.Module()
    model.f = tf.function(op, input_signature=[tf.TensorSpec([2], tf.complex64)])
    tf.saved_model.save(model, str(tmp_path / "model"))
    loaded = savax.saved_model.load(tmp_path / "model")
    z = np.array([1 + 2j, 3 - 1j], np.complex64)
    dz = np.array([0.5j, 2 - 1j], np.complex64)
    value, tangent = jax.jvp(loaded.f, (z,), (dz,))
    np.testing.assert_allclose(value, z * z, rtol=1e-6)
    # The gradient is what the conjugate of the derivative -3j * 2z takes dy to.
    np.testing.assert_allclose(tangent, -6j * z * dz, rtol=1e-6)


def test_functions_with_tangents_are_saved(original, loaded, tmp_path):
    class Model(savax.Module):
        def __init__(self):
            self.inner = loaded

        @savax.function(input_signature=[savax.TensorSpec([None, 3])] * 2)
        def tangent(self, x, dx):
            return jax.jvp(self.inner.swish, (x,), (dx,))[1]

        @savax.function(input_signature=[savax.TensorSpec([None, 3])])
        def plain(self, x):
            return self.inner.swish(x)

    savax.saved_model.save(Model(), tmp_path / "model")
    again = tf.saved_model.load(str(tmp_path / "model"))
    expected = _tensorflow_tangents(original.swish)
    _close(again.tangent(X, DX), expected[1])
    _close(_tensorflow_tangents(again.plain), expected)
    _close(again.tangent(X[:0], X[:0]), X[:0])
