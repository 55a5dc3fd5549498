"""Writes ``jax2tf_<version>``: python write_jax2tf.py DIRECTORY VERSION.

Versions 6 and 8 were written with jax 0.4.20 and tensorflow-cpu 2.15.1, version 10 with jax 0.10.2
and tensorflow-cpu 2.21.0.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from jax.experimental import jax2tf


def net(w, x, n):
    y = jnp.tanh(x @ w)
    return {"y": y.reshape(-1), "total": jnp.sum(y) * n}


def main(directory, version):
    if version < 9:
        jax.config.update("jax_serialization_version", version)
    module = tf.Module()
    module.w = tf.Variable(np.arange(6, dtype=np.float32).reshape(3, 2) / 10, name="w")
    converted = jax2tf.convert(
        net,
        polymorphic_shapes=[None, "(b, 3)", None],
        native_serialization=True,
        native_serialization_platforms=("cpu", "cuda", "tpu"),
    )
    module.serve = tf.function(
        lambda x, n: converted(module.w, x, n),
        input_signature=[tf.TensorSpec([None, 3], tf.float32), tf.TensorSpec([], tf.float32)],
        autograph=False,
    )
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    tf.saved_model.save(module, directory, signatures=module.serve, options=options)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
