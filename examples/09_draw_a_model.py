"""Draws a model and its objects: ``python 09_draw_a_model.py [DIRECTORY]``."""

import sys
from pathlib import Path

import jax
import numpy as np

import savax as sx
from savax.saved_model.cli import main


class Block(sx.Module):
    """Two layers, and a connection past them."""

    def __init__(self, width):
        super().__init__()
        self.up = sx.Variable(np.ones((width, 4 * width), np.float32), name="up")
        self.down = sx.Variable(np.ones((4 * width, width), np.float32), name="down")

    def __call__(self, x):
        return x + jax.nn.relu(x @ self.up) @ self.down


class Network(sx.Module):
    """Blocks, and a layer that gives scores."""

    def __init__(self):
        super().__init__()
        self.blocks = [Block(8), Block(8)]
        self.head = sx.Variable(np.ones((8, 3), np.float32), name="head")

    # Names of scopes become the groups of the picture.
    @sx.function(input_signature=[sx.TensorSpec([None, 8], name="features")])
    def __call__(self, x):
        for i, block in enumerate(self.blocks):
            with jax.named_scope(f"block_{i}"):
                x = block(x)
        with jax.named_scope("head"):
            return {"scores": x @ self.head}


directory = Path(sys.argv[1] if len(sys.argv) > 1 else "build/drawn")
model = str(directory / "network")
sx.saved_model.save(Network(), model)
for file, *options in (["network.html"], ["network.svg"], ["objects.svg", "--objects"]):
    # As `savax draw MODEL -o FILE` in a shell. Groups of the page open on a click.
    assert main(["draw", model, "-o", str(directory / file), "--overwrite", *options]) == 0
