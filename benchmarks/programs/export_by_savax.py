"""Builds the transformer and exports it: ``python export_by_savax.py DIRECTORY``."""

from __future__ import annotations

import sys

import savax as sx
from benchmarks.programs.transformer_model import SEQUENCE, apply, make_parameters


class Transformer(sx.Module):
    """The transformer with its parameters as Variables."""

    def __init__(self):
        super().__init__()
        self.parameters = sx.TrackedState(make_parameters())

    @sx.function(input_signature=[sx.TensorSpec([None, SEQUENCE], sx.int32, name="tokens")])
    def __call__(self, tokens):
        return apply(self.parameters.value, tokens)


sx.saved_model.save(Transformer(), sys.argv[1])
