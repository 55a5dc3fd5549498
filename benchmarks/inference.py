"""Steady inference of a transformer of 23 million parameters, by savax and inside TensorFlow."""

from __future__ import annotations

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import savax as sx
from benchmarks._rows import Options, Row, run_alone
from benchmarks._timing import alternating, run_program
from benchmarks.programs.transformer_model import SEQUENCE, apply, make_parameters

try:
    import tensorflow as tf
except ImportError:
    tf = None

PROGRAMS = Path(__file__).with_name("programs")


def measure(options: Options) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = f"{directory}/savax", f"{directory}/jax2tf"
        run_program([PROGRAMS / "export_by_savax.py", ours])
        if tf is not None:
            run_program([PROGRAMS / "export_by_jax2tf.py", theirs])
        return [
            *measure_steady(options, ours),
            *measure_inside_tensorflow(options, ours, theirs),
        ]


def measure_steady(options: Options, directory: str) -> list[Row]:
    parameters = jax.tree.map(jnp.asarray, make_parameters())
    bare = jax.jit(apply)
    signature = sx.saved_model.load(directory).signatures["serving_default"]
    loaded_tf = None if tf is None else tf.saved_model.load(directory)
    rows = []
    for batch in (1, 16):
        tokens = np.random.default_rng(0).integers(0, 1000, (batch, SEQUENCE), np.int32)
        on_device = jnp.asarray(tokens)
        cases = {
            "savax": lambda x=on_device: jax.block_until_ready(signature(tokens=x)),
            "bare": lambda x=on_device: jax.block_until_ready(bare(parameters, x)),
        }
        if loaded_tf is not None:
            served, tensor = loaded_tf.signatures["serving_default"], tf.constant(tokens)
            cases["TF"] = lambda f=served, x=tensor: f(tokens=x)["logits"].numpy()
        times = alternating(cases, repeats=options.repeats(41 if batch == 1 else 15))
        what = f"steady inference, batch {batch}"
        rows += [
            Row(what, "bare jax.jit", times["savax"], times["bare"], 1.05),
            Row(what, "TensorFlow", times["savax"], times.get("TF"), 1.0),
        ]
    return rows


def measure_inside_tensorflow(options: Options, ours: str, theirs: str) -> list[Row]:
    rows = []
    loaded = {} if tf is None else {p: tf.saved_model.load(p) for p in (ours, theirs)}
    for batch in (1, 16):
        times: dict[str, float] = {}
        if loaded:
            tokens = tf.constant(np.random.default_rng(0).integers(0, 1000, (batch, SEQUENCE)))
            tokens = tf.cast(tokens, tf.int32)
            cases = {
                path: lambda f=model.signatures["serving_default"], x=tokens: f(tokens=x)[
                    "logits"
                ].numpy()
                for path, model in loaded.items()
            }
            times = alternating(cases, repeats=options.repeats(41 if batch == 1 else 15))
        rows.append(
            Row(
                f"the export inside TensorFlow, batch {batch}",
                "jax2tf's XlaCallModule export",
                times.get(ours),
                times.get(theirs),
                1.1,
            )
        )
    return rows


if __name__ == "__main__":
    run_alone("inference", measure)
