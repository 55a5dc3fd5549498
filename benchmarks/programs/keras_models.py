"""Keras models with random weights, by their names; Keras' backend may be any.

``bert`` is an encoder of 12 layers and width 256, ``lstm`` a layer of 64 units over 200 steps,
``gru`` one over 64 words in both directions, ``dlrm`` a model of recommendations with an embedding
for each of 26 int64 ids, ``mlp`` four dense layers, ``unet`` four levels of convolutions.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from benchmarks.programs.tensorflow_model_inputs import (
    CATEGORIES,
    CATEGORY_SIZE,
    FEATURES,
    NUMBERS,
    PIXELS,
    SEQUENCE,
    STEPS,
    WORDS,
)


def _bert() -> Any:
    depth, width, heads = 12, 256, 4
    tokens = keras.Input((SEQUENCE,), dtype="int32", name="tokens")
    x = layers.Embedding(WORDS, width)(tokens)
    for _ in range(depth):
        attention = layers.MultiHeadAttention(heads, width // heads)(x, x)
        x = layers.LayerNormalization()(x + attention)
        hidden = layers.Dense(4 * width, activation="gelu")(x)
        x = layers.LayerNormalization()(x + layers.Dense(width)(hidden))
    return keras.Model([tokens], layers.Dense(2)(x[:, 0]))


def _lstm() -> Any:
    sequence = keras.Input((STEPS, FEATURES), name="sequence")
    return keras.Model([sequence], layers.LSTM(64)(sequence))


def _gru() -> Any:
    tokens = keras.Input((SEQUENCE,), dtype="int32", name="tokens")
    x = layers.Bidirectional(layers.GRU(64))(layers.Embedding(WORDS, 64)(tokens))
    return keras.Model([tokens], layers.Dense(2, activation="softmax")(x))


def _dlrm() -> Any:
    width = 32
    numbers = keras.Input((NUMBERS,), name="numbers")
    ids = keras.Input((CATEGORIES,), dtype="int64", name="ids")
    embedded = [
        layers.Embedding(CATEGORY_SIZE, width)(ids[:, i : i + 1]) for i in range(CATEGORIES)
    ]
    dense = layers.Dense(width, activation="relu")(layers.Dense(128, activation="relu")(numbers))
    features = layers.Concatenate(axis=1)([layers.Reshape((1, width))(dense), *embedded])
    products = layers.Flatten()(layers.Dot(axes=2)([features, features]))
    x = layers.Concatenate()([dense, products])
    for units in (256, 64):
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model([numbers, ids], layers.Dense(1, activation="sigmoid")(x))


def _mlp() -> Any:
    pixels = keras.Input((PIXELS,), name="pixels")
    x = pixels
    for _ in range(3):
        x = layers.Dense(1024, activation="relu")(x)
    return keras.Model([pixels], layers.Dense(10, activation="softmax")(x))


def _convolutions(x: Any, filters: int) -> Any:
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return x


def _unet(image: Any) -> Any:
    x, skipped = image / 255.0, []
    for filters in (16, 32, 64):
        x = _convolutions(x, filters)
        skipped.append(x)
        x = layers.MaxPooling2D()(x)
    x = _convolutions(x, 128)
    for filters in (64, 32, 16):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = _convolutions(layers.Concatenate()([x, skipped.pop()]), filters)
    return keras.Model([image], layers.Conv2D(1, 1, activation="sigmoid")(x))


_OTHERS = {"bert": _bert, "lstm": _lstm, "gru": _gru, "dlrm": _dlrm, "mlp": _mlp}
_APPLICATIONS = {
    "resnet50": "ResNet50",
    "efficientnetb0": "EfficientNetB0",
    "mobilenetv2": "MobileNetV2",
}


def build(name: str, image_size: int = 224) -> Any:
    """Returns a new model; those of images take squares of so many pixels."""
    if name in _OTHERS:
        return _OTHERS[name]()
    image = keras.Input((image_size, image_size, 3), name="image")
    if name == "unet":
        return _unet(image)
    application = getattr(keras.applications, _APPLICATIONS[name])
    # No softmax: of small values with random weights, it would hide what differs.
    return application(weights=None, input_tensor=image, classifier_activation=None)
