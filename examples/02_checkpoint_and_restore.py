"""Checkpoints a model with its optimizer: ``python 02_checkpoint_and_restore.py [DIRECTORY]``."""

import sys

import jax.numpy as jnp
import numpy as np
import optax

import savax as sx

directory = sys.argv[1] if len(sys.argv) > 1 else "build/checkpoints"
optimizer = optax.adam(optax.exponential_decay(0.1, 50, 0.5))
x = np.linspace(-1, 1, 32, dtype=np.float32)
y = 3 * x + 2


class Line(sx.Module):
    """A line, fitted by an optimizer whose state a TrackedState keeps."""

    def __init__(self):
        super().__init__()
        self.slope = sx.Variable(0.0, name="slope")
        self.offset = sx.Variable(0.0, name="offset")
        self.optimizer_state = sx.TrackedState(optimizer.init(self.trainable_variables))

    def loss(self):
        return jnp.mean((self.slope * x + self.offset - y) ** 2)

    @sx.function
    def train_step(self):
        variables = self.trainable_variables
        loss, gradients = sx.value_and_grad(self.loss, variables=variables)()
        updates, new_state = optimizer.update(gradients, self.optimizer_state.value)
        for variable, update in zip(variables, updates, strict=True):
            variable.assign_add(update)
        self.optimizer_state.assign(new_state)
        return loss


line = Line()
for _ in range(20):
    line.train_step()
path = sx.train.Checkpoint(model=line).save(f"{directory}/line")
print("Wrote", path, "with", [name for name, _ in sx.train.list_variables(path)])

resumed = Line()
latest = sx.train.latest_checkpoint(directory)
sx.train.Checkpoint(model=resumed).restore(latest).assert_consumed()
for _ in range(20):  # both go on alike, as the optimizer's state came along
    assert line.train_step() == resumed.train_step()
print(f"Restored {latest}; slope {float(resumed.slope):.3f}, offset {float(resumed.offset):.3f}.")
