"""What savax exports, inside TensorFlow: operations beside one XlaCallModule and Keras' own graph.

An architecture is written in JAX and with Keras' layers, with the same weights. savax exports the
JAX function as operations and as a StableHLO module; Keras exports its layers.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "tensorflow"  # before Keras reads it

import savax as sx
from benchmarks._answers import agreement
from benchmarks._rows import Options, Row, run_alone
from benchmarks._timing import alternating

try:
    import tensorflow as tf
    from jax.experimental import jax2tf

    from benchmarks.programs.architectures import INPUTS, NAMES, apply, build_keras, make_input
except ImportError:
    tf = None

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

BATCHES = (1, 32)
OURS, MODULE, KERAS = "savax", "savax's XlaCallModule export", "Keras' export of its layers"
JAX2TF = "jax2tf + tf.saved_model.save"
GOALS = {MODULE: 1.1, KERAS: None}


def measure(options: Options) -> list[Row]:
    if tf is None:
        return [Row("exported graphs", "TensorFlow isn't installed", None, None)]
    rows = []
    for name in NAMES:
        with tempfile.TemporaryDirectory() as directory:
            # Each export has a directory of its own, named like its case.
            exports = exporters(name, directory)
            rows += measure_export(name, exports, options)
            rows += measure_speed(name, directory, options)
    return sorted(rows, key=lambda row: row.what.startswith("export of"))


def exporters(name: str, directory: str) -> dict[str, Callable[[], None]]:
    """Returns functions that make an architecture anew and export it to ``directory/<case>``."""
    model = build_keras(name)
    values = model.get_weights()
    shape, dtype = INPUTS[name]

    def by_savax(lowering: str, case: str) -> None:
        module = sx.Module()
        module.weights = [sx.Variable(value) for value in values]
        module.serve = sx.function(
            lambda x: {"y": apply(name, [weight.value for weight in module.weights], x)},
            input_signature=[sx.TensorSpec([None, *shape], dtype, name="x")],
            lowering=lowering,
        )
        sx.saved_model.save(module, f"{directory}/{case}", signatures=module.serve)

    def by_jax2tf() -> None:
        converted = jax2tf.convert(
            lambda weights, x: {"y": apply(name, weights, x)},
            polymorphic_shapes=(None, "(batch, ...)"),
            with_gradient=False,
        )
        module = tf.Module()
        module.weights = [tf.Variable(value) for value in values]
        module.serve = tf.function(
            lambda x: converted(module.weights, x),
            input_signature=[tf.TensorSpec([None, *shape], dtype, name="x")],
            autograph=False,
        )
        tf.saved_model.save(module, f"{directory}/{JAX2TF}", signatures=module.serve)

    return {
        OURS: lambda: by_savax("ops", OURS),
        MODULE: lambda: by_savax("stablehlo", MODULE),
        KERAS: lambda: model.export(f"{directory}/{KERAS}", verbose=False),
        JAX2TF: by_jax2tf,
    }


def measure_export(
    name: str, exports: Mapping[str, Callable[[], None]], options: Options
) -> list[Row]:
    times = alternating(exports, repeats=options.repeats(3), warm_up=1)
    return [
        Row(f"export of the {name}", peer, times[OURS], times[peer]) for peer in (JAX2TF, KERAS)
    ]


def measure_speed(name: str, directory: str, options: Options) -> list[Row]:
    loaded = {case: tf.saved_model.load(f"{directory}/{case}") for case in (OURS, MODULE, KERAS)}
    rows = []
    for batch in BATCHES:
        x = tf.constant(make_input(name, batch))
        cases = {
            case: lambda f=model.signatures["serving_default"], x=x: _only(f(x=x))
            for case, model in loaded.items()
        }
        note = agreement({case: call() for case, call in cases.items()})
        times = alternating(cases, repeats=options.repeats(41 if batch == 1 else 15))
        rows += [
            Row(
                f"{name} inside TensorFlow, batch {batch}",
                peer,
                times[OURS],
                times[peer],
                goal,
                note=note,
            )
            for peer, goal in GOALS.items()
        ]
    return rows


def _only(results: dict[str, Any]) -> np.ndarray[Any, Any]:
    (value,) = results.values()
    return value.numpy()


if __name__ == "__main__":
    run_alone("exported_graphs", measure)
