"""Answers from a SavedModel: ``python serve_digits.py READER MODEL IN.npz OUT.npz``.

READER is ``savax``; or ``tensorflow``, ``session`` or ``c_api``, which read the files by
TensorFlow's three loaders.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np


def serve_by_savax(directory, inputs):
    import savax as sx

    return sx.saved_model.load(directory).signatures["serving_default"](**inputs)


def serve_by_tensorflow(directory, inputs):
    import tensorflow as tf

    loaded = tf.saved_model.load(directory)
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    return loaded.signatures["serving_default"](**tensors)


def serve_by_session(directory, inputs):
    import tensorflow as tf

    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], directory)
        signature = meta_graph.signature_def["serving_default"]
        feeds = {signature.inputs[name].name: value for name, value in inputs.items()}
        return session.run({key: info.name for key, info in signature.outputs.items()}, feeds)


def serve_by_c_api(directory, inputs):
    # What TF Serving and the Go, Java and Rust APIs are built on, without TensorFlow's Python.
    client = Path(__file__).parents[1] / "tests" / "tensorflow_c_api.py"
    return runpy.run_path(str(client))["CApiModel"](directory).run(inputs)


READERS = {
    "savax": serve_by_savax,
    "tensorflow": serve_by_tensorflow,
    "session": serve_by_session,
    "c_api": serve_by_c_api,
}


def main():
    reader, directory, inputs, outputs = sys.argv[1:]
    answers = READERS[reader](directory, dict(np.load(inputs)))
    np.savez(outputs, **{key: np.asarray(value) for key, value in answers.items()})


if __name__ == "__main__":
    main()
