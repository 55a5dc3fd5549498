"""Keras layers as TensorFlow traces them, evaluated on JAX with their gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import LoadedFunction, load_function  # noqa: E402

pytestmark = pytest.mark.tf


def _layers():
    k = tf.keras
    sequence, image = [None, 7, 3], [None, 8, 8, 3]
    return {
        "lstm": (k.layers.LSTM(4, return_sequences=True), sequence),
        "lstm_last": (k.layers.LSTM(4), sequence),
        "lstm_any_length": (k.layers.LSTM(4), [None, None, 3]),
        "lstm_backwards": (k.layers.LSTM(4, go_backwards=True), sequence),
        "gru": (k.layers.GRU(4, return_sequences=True), sequence),
        "gru_reset_before": (k.layers.GRU(4, reset_after=False), sequence),
        "rnn": (k.layers.SimpleRNN(4), sequence),
        "stacked_rnn": (
            k.layers.RNN([k.layers.LSTMCell(3), k.layers.GRUCell(2)], return_sequences=True),
            sequence,
        ),
        "bidirectional": (k.layers.Bidirectional(k.layers.LSTM(3)), sequence),
        "time_distributed": (k.layers.TimeDistributed(k.layers.Dense(2)), sequence),
        "dense": (k.layers.Dense(5, activation="gelu"), [None, 3]),
        "conv": (k.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"), image),
        "attention": (_self_attention(k), [None, 5, 8]),
        "normalization": (k.layers.LayerNormalization(), [None, 6]),
    }


def _self_attention(k):
    inputs = k.Input([5, 8])
    return k.Model(inputs, k.layers.MultiHeadAttention(2, 4)(inputs, inputs))


NAMES = (
    "lstm", "lstm_last", "lstm_any_length", "lstm_backwards", "gru", "gru_reset_before", "rnn",
    "stacked_rnn", "bidirectional", "time_distributed", "dense", "conv", "attention",
    "normalization",
)  # fmt: skip


@pytest.fixture(scope="module")
def layers():
    tf.keras.utils.set_random_seed(1)
    return _layers()


@pytest.mark.parametrize("name", NAMES)
def test_layer_and_its_gradients(name, layers, rng):
    layer, shape = layers[name]
    x = rng.normal(size=[2, *(n or 5 for n in shape[1:])]).astype(np.float32)
    layer(x)
    concrete = tf.function(layer).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    loaded = load_function(concrete)
    np.testing.assert_allclose(
        loaded.body.run([x])[0], concrete(tf.constant(x)), rtol=1e-4, atol=1e-5
    )
    _check_gradients(concrete, loaded, x)


def _check_gradients(concrete, loaded: LoadedFunction, x: np.ndarray) -> None:
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        loss = tf.reduce_sum(tf.square(concrete(tensor)))
    expected = tape.gradient(loss, tensor)
    found = jax.jit(jax.grad(lambda x: jnp.sum(jnp.square(loaded.body.run([x])[0]))))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_layer_with_symbolic_batch(name, layers, rng):
    """A function that calls a loaded one can be traced with unknown dims, and saved again."""
    layer, shape = layers[name]
    fixed = [n or 5 for n in shape[1:]]
    x = rng.normal(size=[3, *fixed]).astype(np.float32)
    layer(x)
    concrete = tf.function(layer).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    loaded = load_function(concrete)
    (batch,) = jax.export.symbolic_shape("b")
    spec = jax.ShapeDtypeStruct((batch, *fixed), np.float32)
    exported = jax.export.export(jax.jit(lambda x: loaded.body.run([x])[0]))(spec)
    assert exported.out_avals[0].shape[0] == batch
    np.testing.assert_allclose(exported.call(x), concrete(tf.constant(x)), rtol=1e-4, atol=1e-5)
