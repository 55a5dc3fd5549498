"""How the time of an export grows with the model: ten times the layers, one signature."""

from __future__ import annotations

import tempfile

import jax
import jax.numpy as jnp

import savax as sx
from benchmarks._rows import Options, Row, run_alone
from benchmarks._timing import alternating


class Deep(sx.Module):
    """Dense layers with normalisation: ten equations a layer, and three Variables."""

    def __init__(self, layers):
        super().__init__()
        self.layers = [
            {"w": sx.Variable(jnp.eye(8)), "b": sx.Variable(jnp.zeros(8)), "s": sx.Variable(1.0)}
            for _ in range(layers)
        ]

    @sx.function(input_signature=[sx.TensorSpec([None, 8], name="x")])
    def __call__(self, x):
        for layer in self.layers:
            y = jax.nn.relu(x @ layer["w"] + layer["b"])
            x = x + layer["s"] * y / jnp.sqrt(jnp.mean(y * y, axis=-1, keepdims=True) + 1e-6)
        return {"y": x}


def export(layers: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        sx.saved_model.save(Deep(layers), directory)


def load_and_run(directory: str) -> None:
    sx.saved_model.load(directory).signatures["serving_default"](x=jnp.ones((2, 8)))


def measure(options: Options) -> list[Row]:
    small, large = 20, 200
    times = alternating(
        {"small": lambda: export(small), "large": lambda: export(large)},
        repeats=options.repeats(5),
        warm_up=1,
    )
    with tempfile.TemporaryDirectory() as directory:
        loads = {}
        for name, layers in (("small", small), ("large", large)):
            sx.saved_model.save(Deep(layers), f"{directory}/{name}")
            loads[name] = lambda path=f"{directory}/{name}": load_and_run(path)
        load_times = alternating(loads, repeats=options.repeats(5), warm_up=1)
    peer = f"{small} layers"
    return [
        Row(f"export of {large} layers", peer, times["large"], times["small"], 12.0, "s"),
        Row(
            f"load and first answer of {large} layers",
            peer,
            load_times["large"],
            load_times["small"],
            12.0,
            "s",
        ),
    ]


if __name__ == "__main__":
    run_alone("growth", measure)
