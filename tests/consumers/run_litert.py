"""Runs SavedModels by TensorFlow's LiteRT converter (builtin ops only) and LiteRT; see jobs.py."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from jobs import work

if TYPE_CHECKING:
    from jobs import Arrays, Runner


def open_model(path: str) -> Runner:
    converter = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=["serving_default"])
    interpreter = Interpreter(model_content=converter.convert(), num_threads=1)
    signature = interpreter.get_signature_runner("serving_default")
    names = list(signature.get_input_details())

    def run(inputs: Arrays) -> Arrays:
        return dict(signature(**{name: inputs[name] for name in names}))

    return run


if __name__ == "__main__":
    work(open_model, TensorFlow=tf.__version__, LiteRT=importlib.metadata.version("ai-edge-litert"))
