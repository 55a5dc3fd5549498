"""Nets whose batches are computed in pieces, beside TensorFlow."""

from __future__ import annotations

import jax
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import load_function  # noqa: E402

pytestmark = pytest.mark.tf

RNG = np.random.default_rng(0)


def random(*shape):
    return np.asarray(RNG.normal(size=shape) / 4, np.float32)


class Net(tf.Module):
    """A net with a residual block, a pool and classes; statistics of the batch at its end."""

    def __init__(self):
        super().__init__()
        self.stem = tf.Variable(random(3, 3, 3, 32))
        self.thin = tf.Variable(random(1, 1, 32, 16))
        self.deep = tf.Variable(random(3, 3, 16, 32))
        self.scale = tf.Variable(random(32))
        self.classes = tf.Variable(random(32, 5))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 40, 40, 3], tf.uint8),
            tf.TensorSpec([None], tf.int64),
        ]
    )
    def __call__(self, images, ids):
        x = tf.cast(images, tf.float32) / 255
        x = tf.nn.relu(tf.nn.conv2d(x, self.stem, 1, "SAME"))
        y = tf.nn.conv2d(tf.nn.swish(tf.nn.conv2d(x, self.thin, 1, "SAME")), self.deep, 1, "SAME")
        y, _, _ = tf.compat.v1.nn.fused_batch_norm(
            y, self.scale, self.scale, self.scale * 0, self.scale**2, is_training=False
        )
        x = tf.nn.max_pool2d(tf.nn.relu(x + y), 3, 2, "SAME")
        scores = tf.reduce_mean(x, [1, 2]) @ self.classes
        share = tf.reduce_sum(scores, 0) / tf.cast(tf.shape(images)[0], tf.float32)
        return tf.nn.softmax(scores), share, ids + 2**40, tf.reverse(scores, [0])


def loops(body, *arguments):
    """Returns how many loops the program for these arguments has."""
    lowered = jax.jit(lambda *xs: body.run(xs)).lower(*arguments)
    return lowered.as_text().count("stablehlo.while")


@pytest.fixture(scope="module")
def net():
    module = Net()
    return module, load_function(module.__call__.get_concrete_function())


@pytest.mark.parametrize(("batch", "is_large"), [(3, False), (61, True), (64, True)])
def test_results_are_those_of_tensorflow(net, batch, is_large):
    module, loaded = net
    images = RNG.integers(0, 255, (batch, 40, 40, 3), np.uint8)
    ids = np.arange(batch, dtype=np.int64)
    found = loaded.body.run([images, ids])
    expected = module(tf.constant(images), tf.constant(ids))
    for got, wanted in zip(found, expected, strict=True):
        assert got.dtype == wanted.dtype.as_numpy_dtype
        np.testing.assert_allclose(got, wanted, 1e-4, 1e-5)
    with jax.enable_x64(True):
        assert (loops(loaded.body, images, ids) > 0) == is_large
