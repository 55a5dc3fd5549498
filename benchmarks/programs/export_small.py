"""Exports a linear layer: ``python export_small.py DIRECTORY``."""

from __future__ import annotations

import sys

import numpy as np

import savax as sx


class Linear(sx.Module):
    """A linear layer."""

    def __init__(self):
        super().__init__()
        self.w = sx.Variable(np.ones((4, 3), np.float32))

    @sx.function(input_signature=[sx.TensorSpec([None, 4], name="x")])
    def __call__(self, x):
        return {"y": x @ self.w}


sx.saved_model.save(Linear(), sys.argv[1])
