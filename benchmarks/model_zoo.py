"""A zoo of models that TensorFlow exported, run by savax, TensorFlow and plain JAX on one core.

The weights are random. Plain JAX is the same Keras model with the JAX backend and the same weights,
as ``jax.jit`` of ``stateless_call``. Images have 96 pixels a side. Times of first answers come
from fresh processes, without their imports; in each, some models are loaded and asked in turn.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    # Before the runtimes start their threads, and before Keras reads it.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np

import savax as sx
from benchmarks._answers import agreement
from benchmarks._rows import Options, Row, median_row, run_alone
from benchmarks._timing import alternating, processes, run_program
from benchmarks.programs.tensorflow_model_inputs import make_inputs

try:
    import tensorflow as tf

    from benchmarks.programs.keras_models import build
except ImportError:
    tf = None

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = Path(__file__).with_name("programs")
NAMES = (
    "resnet50",
    "efficientnetb0",
    "mobilenetv2",
    "unet",
    "bert",
    "lstm",
    "gru",
    "dlrm",
    "mlp",
)
ASKED_FIRST = ("efficientnetb0", "bert", "gru", "dlrm")
SLOW = ("resnet50", "efficientnetb0", "mobilenetv2", "unet", "bert")
IMAGE_SIZE = 96
BATCHES = (1, 32)
BARE, TENSORFLOW = "bare jax.jit of Keras with JAX", "TensorFlow"
GOALS = {BARE: 1.05, TENSORFLOW: 1.0}


@dataclasses.dataclass(frozen=True)
class Runtimes:
    """One model in the three runtimes.

    Attributes:
      savax: its loaded signature.
      tensorflow: the same in TensorFlow.
      keeps: the loaded model of TensorFlow, whose Variables live as long as it does.
      bare: the jitted function of Keras' JAX backend.
    """

    savax: Callable[..., dict[str, Any]]
    tensorflow: Callable[..., dict[str, Any]]
    keeps: Any
    bare: Callable[[dict[str, Any]], Any]


def measure(options: Options) -> list[Row]:
    if tf is None:
        return [Row("the zoo", "TensorFlow isn't installed", None, None)]
    with tempfile.TemporaryDirectory() as directory:
        run_program(
            [PROGRAMS / "export_by_tensorflow.py", directory, IMAGE_SIZE, *NAMES],
            {"KERAS_BACKEND": "tensorflow"},
        )
        steady, load = [], []
        for name in NAMES:
            load.append(measure_load(name, directory, options))
            steady += measure_steady(name, directory, options)
        first = measure_first_answers(directory, options)
    medians = [
        median_row(
            f"median of the zoo, batch {batch}",
            [row for row in steady if row.peer == peer and row.what.endswith(f"batch {batch}")],
            GOALS[peer],
        )
        for batch in BATCHES
        for peer in (BARE, TENSORFLOW)
    ]
    return [*medians, *steady, median_row("load, median of the zoo", load), *load, *first]


def open_model(name: str, directory: str) -> Runtimes:
    """Loads a model in savax and TensorFlow, and builds it anew with its values in JAX."""
    path = f"{directory}/{name}"
    loaded = tf.saved_model.load(path)
    model = build(name, IMAGE_SIZE)
    with np.load(f"{path}.npz") as weights:
        model.set_weights([weights[key] for key in weights.files])
    trained = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    jitted = jax.jit(lambda t, o, x: model.stateless_call(t, o, x, training=False)[0])
    return Runtimes(
        sx.saved_model.load(path).signatures["serving_default"],
        loaded.signatures["serving_default"],
        loaded,
        lambda inputs: jitted(trained, others, inputs),
    )


def measure_steady(name: str, directory: str, options: Options) -> list[Row]:
    model = open_model(name, directory)
    rows = []
    for batch in BATCHES:
        inputs = make_inputs(name, batch, IMAGE_SIZE)
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        # JAX has no int64 by default; savax takes it from NumPy.
        arrays = {k: v if v.dtype == np.int64 else jnp.asarray(v) for k, v in inputs.items()}
        narrow = {key: jnp.asarray(value) for key, value in inputs.items()}
        cases = {
            "savax": lambda x=arrays: jax.block_until_ready(model.savax(**x)),
            BARE: lambda x=narrow: jax.block_until_ready(model.bare(x)),
            TENSORFLOW: lambda x=tensors: [t.numpy() for t in model.tensorflow(**x).values()],
        }
        note = agreement(
            {key: np.asarray(jax.tree.leaves(case())[0]) for key, case in cases.items()}
        )
        heavy = batch > 1 and name in SLOW
        times = alternating(cases, repeats=options.repeats(5 if heavy else 25), warm_up=1)
        rows += [
            Row(f"{name}, batch {batch}", peer, times["savax"], times[peer], note=note)
            for peer in (BARE, TENSORFLOW)
        ]
    return rows


def measure_load(name: str, directory: str, options: Options) -> Row:
    path = f"{directory}/{name}"
    times = alternating(
        {
            "savax": lambda: sx.saved_model.load(path),
            "TF": lambda: tf.saved_model.load(path),
        },
        repeats=options.repeats(3),
        warm_up=0,
    )
    return Row(f"load {name}", "tf.saved_model.load", times["savax"], times["TF"])


def measure_first_answers(directory: str, options: Options) -> list[Row]:
    arguments = [directory, IMAGE_SIZE, ",".join(ASKED_FIRST)]
    command = [PROGRAMS / "first_answer.py", *arguments]
    costs = processes(
        {
            "cold": command,
            "with JAX's cache": [*command, f"{directory}/cache"],
            "TF": [PROGRAMS / "first_answer_by_tensorflow.py", *arguments],
        },
        repeats=options.repeats(2),
    )
    rows = []
    for case in ("cold", "with JAX's cache"):
        of_case = [
            Row(
                f"load and first answer of {name}, {case}",
                TENSORFLOW,
                costs[case].reported[name],
                costs["TF"].reported[name],
            )
            for name in ASKED_FIRST
        ]
        rows += [median_row(f"load and first answer, {case}, median", of_case), *of_case]
    return rows


if __name__ == "__main__":
    run_alone("model_zoo", measure)
