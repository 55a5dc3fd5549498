"""Builds the transformer and exports it: ``python export_by_jax2tf.py DIRECTORY``."""

from __future__ import annotations

import sys

import jax
import tensorflow as tf
from jax.experimental import jax2tf

from benchmarks.programs.transformer_model import SEQUENCE, apply, make_parameters

converted = jax2tf.convert(
    apply, polymorphic_shapes=(None, f"(batch, {SEQUENCE})"), with_gradient=False
)


class Transformer(tf.Module):
    """The transformer with its parameters as Variables."""

    def __init__(self):
        super().__init__()
        self.parameters = jax.tree.map(tf.Variable, make_parameters())

    @tf.function(
        input_signature=[tf.TensorSpec([None, SEQUENCE], tf.int32, name="tokens")],
        autograph=False,  # it would convert all of JAX, for half a minute
    )
    def __call__(self, tokens):
        return converted(self.parameters, tokens)


tf.saved_model.save(Transformer(), sys.argv[1])
