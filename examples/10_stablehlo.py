"""Saves a function as a compiled module and runs it: ``python 10_stablehlo.py [DIRECTORY]``.

Readers that embed TensorFlow with XLA run such a model; others want operations, savax's default.
"""

import sys

import jax.numpy as jnp
import numpy as np

import savax as sx


class Regression(sx.Module):
    """A linear model with a count of its calls."""

    def __init__(self):
        self.w = sx.Variable(np.array([[1.0], [-2.0], [0.5]], np.float32))
        self.calls = sx.Variable(np.int32(0), trainable=False)

    @sx.function(
        input_signature=[sx.TensorSpec([None, 3])],
        lowering=sx.StableHLO(platforms=["cpu", "cuda"]),
    )
    def predict(self, x):
        self.calls.assign_add(1)
        return {"y": x @ self.w}


directory = sys.argv[1] if len(sys.argv) > 1 else "build/stablehlo"
model = Regression()
sx.saved_model.save(model, directory, signatures=model.predict)

loaded = sx.saved_model.load(directory)
for module in loaded.predict.concrete_functions[0].compiled_modules():
    where = " and ".join(module.platforms)
    print(f"{module.node!r} is compiled for {where}, in StableHLO {module.stablehlo_version}")

x = np.ones((2, 3), np.float32)
print("y:", np.ravel(loaded.predict(x)["y"]), "calls:", loaded.calls.numpy())
print("dy/dx:", sx.grad(lambda x: jnp.sum(loaded.predict(x)["y"]), argnums=0)(x)[0])
