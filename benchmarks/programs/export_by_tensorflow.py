"""Builds a Keras model with random weights and exports it: ``... MODEL DIRECTORY``.

``bert`` is an encoder of 12 layers and width 256, ``lstm`` a layer of 64 units over 200 steps.
"""

from __future__ import annotations

import sys

import keras

from benchmarks.programs.tensorflow_model_inputs import FEATURES, SEQUENCE, STEPS, WORDS


def bert():
    layers, width, heads = 12, 256, 4
    tokens = keras.Input((SEQUENCE,), dtype="int32")
    x = keras.layers.Embedding(WORDS, width)(tokens)
    for _ in range(layers):
        attention = keras.layers.MultiHeadAttention(heads, width // heads)(x, x)
        x = keras.layers.LayerNormalization()(x + attention)
        hidden = keras.layers.Dense(4 * width, activation="gelu")(x)
        x = keras.layers.LayerNormalization()(x + keras.layers.Dense(width)(hidden))
    return keras.Model(tokens, keras.layers.Dense(2)(x[:, 0]))


def lstm():
    sequence = keras.Input((STEPS, FEATURES))
    return keras.Model(sequence, keras.layers.LSTM(64)(sequence))


name, directory = sys.argv[1:]
model = {
    "resnet50": lambda: keras.applications.ResNet50(weights=None),
    "efficientnetb0": lambda: keras.applications.EfficientNetB0(weights=None),
    "bert": bert,
    "lstm": lstm,
}[name]()
model.export(directory, verbose=False)
