"""Writes ``orbax``: python write_orbax.py DIRECTORY.

It was written with orbax-export 0.0.8, jax 0.10.2 and tensorflow-cpu 2.21.0.
"""

import sys

import jax
import numpy as np
import tensorflow as tf
from orbax.export import ExportManager, JaxModule, ServingConfig

LABELS = ["no", "maybe", "yes"]


def net(params, x):
    return jax.nn.swish(x @ params["w"]) + params["b"]


def features_of(text):
    """Counts characters and words, on the host."""
    words = tf.strings.split(text).row_lengths()
    counts = [tf.strings.length(text), tf.cast(words, tf.int32)]
    return tf.stack([tf.cast(count, tf.float32) for count in counts], -1)


def labelled(scores):
    label = tf.gather(tf.constant(LABELS), tf.argmax(scores, -1))
    return {"scores": scores, "label": label}


def main(directory):
    jax.config.update("jax_traceback_in_locations_limit", 0)  # no paths of this machine
    params = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3) / 10,
        "b": np.array([0.5, 0.0, -0.5], np.float32),
    }
    platforms = ["cpu", "cuda", "tpu"]
    module = JaxModule(
        params,
        net,
        trainable=True,
        input_polymorphic_shape="b, ...",
        jax2tf_kwargs={"with_gradient": True, "native_serialization_platforms": platforms},
    )
    numbers = [tf.TensorSpec([None, 2], tf.float32, name="x")]
    texts = [tf.TensorSpec([None], tf.string, name="text")]
    configs = [
        ServingConfig("serving_default", input_signature=numbers),
        ServingConfig(
            ["text", "alias"],
            input_signature=texts,
            tf_preprocessor=features_of,
            tf_postprocessor=labelled,
        ),
    ]
    ExportManager(module, configs).save(directory)


if __name__ == "__main__":
    main(sys.argv[1])
