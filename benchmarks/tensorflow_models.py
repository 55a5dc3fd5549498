"""Models that TensorFlow exported, run by savax and by TensorFlow on one core.

The weights are random. Savax and TensorFlow take turns in one process that is bound to one core.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

if __name__ == "__main__":
    # Before the runtimes start their threads.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np

import savax as sx
from benchmarks._answers import agreement
from benchmarks._rows import Options, Row, run_alone
from benchmarks._timing import alternating, run_program
from benchmarks.programs.tensorflow_model_inputs import make_inputs
from savax.errors import SavaxError

try:
    import tensorflow as tf
except ImportError:
    tf = None

PROGRAM = Path(__file__).with_name("programs") / "export_by_tensorflow.py"
GOALS = {"resnet50": 1.0, "efficientnetb0": 1.0, "bert": 0.95, "lstm": 0.2}
IMAGE_SIZE = 224
BATCHES = {"resnet50": (1, 16), "efficientnetb0": (1, 16), "bert": (1, 16), "lstm": (8,)}


def measure(options: Options) -> list[Row]:
    if tf is None:
        return [Row(name, "TensorFlow isn't installed", None, None) for name in GOALS]
    rows = []
    for name in GOALS:
        with tempfile.TemporaryDirectory() as directory:
            run_program([PROGRAM, directory, IMAGE_SIZE, name])
            try:
                rows += measure_model(name, f"{directory}/{name}", options)
            except SavaxError as error:
                reason = str(error).splitlines()[0]
                rows.append(Row(name, "TensorFlow", None, None, note=f"can't be run yet: {reason}"))
    return rows


def measure_model(name: str, directory: str, options: Options) -> list[Row]:
    ours = sx.saved_model.load(directory).signatures["serving_default"]
    loaded = tf.saved_model.load(directory)  # its resources live as long as it does
    theirs = loaded.signatures["serving_default"]
    rows = []
    for batch in BATCHES[name]:
        inputs = make_inputs(name, batch, IMAGE_SIZE)
        arrays, tensors = jax.tree.map(jnp.asarray, inputs), jax.tree.map(tf.constant, inputs)
        (answer,), (expected,) = ours(**arrays).values(), theirs(**tensors).values()
        note = agreement({"savax": np.asarray(answer), "TensorFlow": expected.numpy()})
        cases = {
            "savax": lambda x=arrays: jax.block_until_ready(ours(**x)),
            "TF": lambda x=tensors: [t.numpy() for t in theirs(**x).values()],
        }
        slow = batch == 16 and name != "lstm"
        times = alternating(cases, repeats=options.repeats(7 if slow else 25))
        what = f"{name}, batch {batch}"
        rows.append(Row(what, "TensorFlow", times["savax"], times["TF"], GOALS[name], note=note))
    return rows


if __name__ == "__main__":
    run_alone("tensorflow_models", measure)
