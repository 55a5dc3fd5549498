"""Writes ``keras``: KERAS_BACKEND=jax python write_keras.py DIRECTORY.

It was written with keras 3.15.1, jax 0.10.2 and tensorflow-cpu 2.21.0.
"""

import sys

import keras
import numpy as np


def main(directory):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, activation="gelu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.export(directory, verbose=False)
    print(np.asarray(model(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))).tolist())


if __name__ == "__main__":
    main(sys.argv[1])
