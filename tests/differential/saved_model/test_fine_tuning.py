"""Networks of Keras that TensorFlow saved are trained on JAX, as TensorFlow trains them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

import savax  # noqa: E402
from savax.saved_model import load, save  # noqa: E402

pytestmark = pytest.mark.tf

STEPS, BATCH, CLASSES, RATE = 20, 8, 5, 0.05
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, CLASSES, (STEPS, BATCH)).astype(np.int32)
layers = keras.layers


def _residual(x, filters, strides):
    y = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", use_bias=False)(y))
    if strides > 1:
        x = layers.BatchNormalization()(layers.Conv2D(filters, 1, strides, use_bias=False)(x))
    return layers.ReLU()(layers.Add()([x, y]))


def resnet():
    images = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, 2, padding="same", use_bias=False)(images)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = _residual(_residual(x, 4, 1), 8, 2)
    return keras.Model([images], layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def bert():
    width = 16
    tokens, mask = keras.Input((12,), dtype="int32"), keras.Input((12,), dtype="bool")
    x = layers.Embedding(30, width)(tokens)
    x = layers.LayerNormalization()(x + layers.Embedding(12, width)(keras.ops.arange(12)))
    attention = layers.MultiHeadAttention(2, width // 2)
    x = layers.LayerNormalization()(
        x + attention(x, x, attention_mask=keras.ops.expand_dims(mask, 1))
    )
    y = layers.Dense(width)(layers.Dense(4 * width, activation="gelu")(x))
    x = layers.LayerNormalization()(x + y)
    x = layers.Dense(width, activation="tanh")(x[:, 0])
    return keras.Model([tokens, mask], layers.Dense(CLASSES)(x))


def _images():
    means = RNG.standard_normal((CLASSES, 1, 1, 3))[LABELS]
    return ((RNG.standard_normal((STEPS, BATCH, 32, 32, 3)) + means).astype(np.float32),)


def _tokens():
    tokens = RNG.integers(0, 30, (STEPS, BATCH, 12))
    tokens[..., 0] = LABELS
    lengths = RNG.integers(4, 13, (STEPS, BATCH, 1))
    return tokens.astype(np.int32), np.arange(12) < lengths


MODELS = {"resnet": (resnet, _images()), "bert": (bert, _tokens())}


def _exported(model, inputs, directory):
    """Saves a model with its two ways of being called; returns what was saved."""
    specs = [tf.TensorSpec([None, *x.shape[2:]], x.dtype) for x in inputs]
    root = tf.Module()
    root.network = model
    root.weights = [weight.value for weight in model.weights]
    root.train = tf.function(lambda *x: model(list(x), training=True), input_signature=specs)
    root.predict = tf.function(lambda *x: model(list(x), training=False), input_signature=specs)
    tf.saved_model.save(root, directory)
    return root


def _train_in_tensorflow(root, batches):
    variables = [weight for weight in root.weights if weight.trainable]

    @tf.function
    def step(labels, *inputs):
        with tf.GradientTape() as tape:
            logits = root.train(*inputs)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            loss = tf.reduce_mean(loss)
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(RATE * tf.convert_to_tensor(gradient))
        return loss

    return [float(step(labels, *inputs)) for labels, inputs in batches]


def _train_in_jax(root, batches):
    variables = [weight for weight in root.weights if weight.trainable]

    def loss(labels, *inputs):
        scores = jax.nn.log_softmax(root.train(*inputs))
        return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], 1))

    @savax.function
    def step(labels, *inputs):
        value, gradients = savax.value_and_grad(loss, variables=variables)(labels, *inputs)
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign_sub(RATE * gradient)
        return value

    return [float(step(labels, *inputs)) for labels, inputs in batches]


@pytest.mark.parametrize("name", MODELS)
def test_training_on_jax_is_training_in_tensorflow(tmp_path, name):
    make, inputs = MODELS[name]
    keras.utils.set_random_seed(3)
    in_tensorflow = _exported(make(), inputs, str(tmp_path / "first"))
    in_jax = load(tmp_path / "first")
    batches = list(zip(LABELS, zip(*inputs, strict=True), strict=True))
    expected = _train_in_tensorflow(in_tensorflow, batches)
    assert np.mean(expected[-3:]) < np.mean(expected[:3]) - 0.02
    np.testing.assert_allclose(_train_in_jax(in_jax, batches), expected, rtol=1e-4)
    for found, wanted in zip(in_jax.weights, in_tensorflow.weights, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-3, atol=1e-4)

    save(in_jax, tmp_path / "second")
    again = tf.saved_model.load(str(tmp_path / "second"))
    tensors = [tf.constant(x[0]) for x in inputs]
    np.testing.assert_allclose(
        again.predict(*tensors), in_tensorflow.predict(*tensors), rtol=1e-3, atol=1e-3
    )
    more = _train_in_tensorflow(again, batches[:3])
    np.testing.assert_allclose(more, _train_in_jax(in_jax, batches[:3]), rtol=1e-4)
