"""Architectures in plain JAX and as Keras layers, with the same sizes and order of weights.

``mlp`` has four dense layers, ``resnet`` 8 residual blocks of two convolutions, ``encoder`` 4
layers, each of attention and two dense ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras import layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAMES = ("mlp", "resnet", "encoder")
PIXELS, UNITS, CLASSES = 784, 1024, 10
SIZE, CHANNELS, BLOCKS = 32, 64, 8
WORDS, SEQUENCE, WIDTH, HEADS, DEPTH = 5000, 64, 256, 4, 4
INPUTS = {
    "mlp": ((PIXELS,), np.dtype(np.float32)),
    "resnet": ((SIZE, SIZE, 3), np.dtype(np.float32)),
    "encoder": ((SEQUENCE,), np.dtype(np.int32)),
}


def make_input(name: str, batch: int) -> np.ndarray[Any, Any]:
    """Returns an input ``x`` of an architecture."""
    shape, dtype = INPUTS[name]
    generator = np.random.default_rng(0)
    if dtype.kind == "i":
        return generator.integers(0, WORDS, (batch, *shape), dtype)
    return generator.standard_normal((batch, *shape), dtype)


def build_keras(name: str) -> Any:
    """Returns an architecture as a Keras model with random weights."""
    shape, dtype = INPUTS[name]
    builders = {"mlp": _keras_mlp, "resnet": _keras_resnet, "encoder": _keras_encoder}
    x = keras.Input(shape, dtype=dtype.name, name="x")
    return keras.Model(x, builders[name](x))


def apply(name: str, weights: Sequence[Any], x: Any) -> Any:
    """Returns what the Keras model of that name with these weights returns."""
    return {"mlp": _mlp, "resnet": _resnet, "encoder": _encoder}[name](iter(weights), x)


def _keras_mlp(x: Any) -> Any:
    for _ in range(3):
        x = layers.Dense(UNITS, activation="relu")(x)
    return layers.Dense(CLASSES, activation="softmax")(x)


def _mlp(weights: Iterator[Any], x: Any) -> Any:
    for _ in range(3):
        x = jax.nn.relu(_dense(weights, x))
    return jax.nn.softmax(_dense(weights, x))


def _dense(weights: Iterator[Any], x: Any) -> Any:
    return x @ next(weights) + next(weights)


def _keras_resnet(x: Any) -> Any:
    x = layers.ReLU()(_keras_convolution(x))
    for _ in range(BLOCKS):
        hidden = layers.ReLU()(_keras_convolution(x))
        x = layers.ReLU()(x + _keras_convolution(hidden))
    return layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))


def _keras_convolution(x: Any) -> Any:
    x = layers.Conv2D(CHANNELS, 3, padding="same", use_bias=False)(x)
    return layers.BatchNormalization()(x)


def _resnet(weights: Iterator[Any], x: Any) -> Any:
    x = jax.nn.relu(_convolution(weights, x))
    for _ in range(BLOCKS):
        hidden = jax.nn.relu(_convolution(weights, x))
        x = jax.nn.relu(x + _convolution(weights, hidden))
    return _dense(weights, jnp.mean(x, axis=(1, 2)))


def _convolution(weights: Iterator[Any], x: Any) -> Any:
    x = jax.lax.conv_general_dilated(
        x, next(weights), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    scale, offset, mean, variance = (next(weights) for _ in range(4))
    return (x - mean) * (jax.lax.rsqrt(variance + 1e-3) * scale) + offset


def _keras_encoder(x: Any) -> Any:
    x = layers.Embedding(WORDS, WIDTH)(x)
    for _ in range(DEPTH):
        mixed = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x)
        x = layers.LayerNormalization()(x + mixed)
        hidden = layers.Dense(4 * WIDTH, activation="gelu")(x)
        x = layers.LayerNormalization()(x + layers.Dense(WIDTH)(hidden))
    return layers.Dense(2)(x[:, 0])


def _encoder(weights: Iterator[Any], x: Any) -> Any:
    x = next(weights)[x]
    for _ in range(DEPTH):
        x = _norm(weights, x + _attention(weights, x))
        hidden = jax.nn.gelu(_dense(weights, x), approximate=False)
        x = _norm(weights, x + _dense(weights, hidden))
    return _dense(weights, x[:, 0])


def _norm(weights: Iterator[Any], x: Any) -> Any:
    return jax.nn.standardize(x, epsilon=1e-3) * next(weights) + next(weights)


def _attention(weights: Iterator[Any], x: Any) -> Any:
    def project() -> Any:
        kernel, bias = next(weights), next(weights)
        return jnp.einsum("btd,dhk->bthk", x, kernel) + bias

    query, key, value = project(), project(), project()
    scores = jnp.einsum("bqhk,bthk->bhqt", query, key) / np.sqrt(WIDTH // HEADS).astype(np.float32)
    mixed = jnp.einsum("bhqt,bthk->bqhk", jax.nn.softmax(scores), value)
    return jnp.einsum("bqhk,hkd->bqd", mixed, next(weights)) + next(weights)
