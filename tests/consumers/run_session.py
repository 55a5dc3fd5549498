"""Runs SavedModels in a session of TensorFlow 1; see jobs.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf
from jobs import work

if TYPE_CHECKING:
    from jobs import Arrays, Runner


def open_model(path: str) -> Runner:
    session = tf.compat.v1.Session(graph=tf.Graph())
    meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
    signature = meta_graph.signature_def["serving_default"]
    fetches = {name: info.name for name, info in signature.outputs.items()}

    def run(inputs: Arrays) -> Arrays:
        feeds = {signature.inputs[name].name: array for name, array in inputs.items()}
        return dict(session.run(fetches, feeds))

    return run


if __name__ == "__main__":
    work(open_model, TensorFlow=tf.__version__)
