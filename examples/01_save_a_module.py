"""Saves a module and loads it back: ``python 01_save_a_module.py [DIRECTORY]``."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import savax as sx


class Linear(sx.Module):
    """A linear layer with a softmax."""

    def __init__(self, inputs, outputs, key):
        super().__init__()
        self.w = sx.Variable(jax.random.normal(key, (inputs, outputs)), name="w")
        self.b = sx.Variable(jnp.zeros(outputs), name="b")

    # None is a size that callers choose; the name is the input's name in the saved signature.
    @sx.function(input_signature=[sx.TensorSpec([None, 4], sx.float32, name="x")])
    def __call__(self, x):
        return {"probabilities": jax.nn.softmax(x @ self.w + self.b)}


directory = sys.argv[1] if len(sys.argv) > 1 else "build/linear"
model = Linear(4, 3, jax.random.key(0))
sx.saved_model.save(model, directory)

loaded = sx.saved_model.load(directory)
for batch_size in (1, 5):
    x = np.random.default_rng(batch_size).normal(size=(batch_size, 4)).astype(np.float32)
    expected = model(x)["probabilities"]
    np.testing.assert_allclose(loaded(x)["probabilities"], expected, rtol=1e-6)
    answer = loaded.signatures["serving_default"](x=x)
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-6)
print(f"Saved {directory}; the loaded model gives the same results.")
