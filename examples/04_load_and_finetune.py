"""Trains a saved model on and saves it again: ``python 04_load_and_finetune.py [DIRECTORY]``.

The loaded model needs none of the code that made it; it could as well come from TensorFlow.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

import savax as sx


class Regressor(sx.Module):
    """A network with one hidden layer."""

    def __init__(self):
        super().__init__()
        first, second = jax.random.split(jax.random.key(0))
        self.hidden = sx.Variable(jax.random.normal(first, (2, 32)), name="hidden")
        self.output = sx.Variable(jax.random.normal(second, (32,)) / 6, name="output")

    @sx.function(input_signature=[sx.TensorSpec([None, 2], sx.float32, name="x")])
    def predict(self, x):
        return {"y": jnp.tanh(x @ self.hidden) @ self.output}


directory = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/regressor")
sx.saved_model.save(Regressor(), directory / "1")

loaded = sx.saved_model.load(directory / "1")
x = np.random.default_rng(0).normal(size=(256, 2)).astype(np.float32)
y = np.sin(2 * x[:, 0]) - x[:, 1]
variables = [loaded.hidden, loaded.output]


def loss(x, y):
    return jnp.mean((loaded.predict(x)["y"] - y) ** 2)


@sx.function
def train_step(x, y):
    value, gradients = sx.value_and_grad(loss, variables=variables)(x, y)
    for variable, gradient in zip(variables, gradients, strict=True):
        variable.assign_sub(0.1 * gradient)
    return value


before = train_step(x, y)
for _ in range(500):
    after = train_step(x, y)
assert after < before / 2
sx.saved_model.save(loaded, directory / "2")

tuned = sx.saved_model.load(directory / "2")
np.testing.assert_allclose(tuned.predict(x)["y"], loaded.predict(x)["y"], rtol=1e-5, atol=1e-6)
print(f"The loss went from {float(before):.3f} to {float(after):.3f}; saved {directory / '2'}.")
