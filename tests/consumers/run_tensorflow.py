"""Runs SavedModels by ``tf.saved_model.load``; see jobs.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf
from jobs import work

if TYPE_CHECKING:
    from jobs import Arrays, Runner


def open_model(path: str) -> Runner:
    signature = tf.saved_model.load(path).signatures["serving_default"]

    def run(inputs: Arrays) -> Arrays:
        results = signature(**{name: tf.constant(array) for name, array in inputs.items()})
        return {name: result.numpy() for name, result in results.items()}

    return run


if __name__ == "__main__":
    work(open_model, TensorFlow=tf.__version__)
