"""Processes that export a transformer of 23 million parameters, and that answer from the export.

This process imports neither JAX nor TensorFlow: a process starts with its parent's peak of memory.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

from benchmarks._rows import Options, Row, run_alone
from benchmarks._timing import processes

PROGRAMS = Path(__file__).with_name("programs")
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


def measure(options: Options) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = f"{directory}/savax", f"{directory}/jax2tf"
        return [*measure_export(options, ours, theirs), *measure_load(options, ours)]


def measure_export(options: Options, ours: str, theirs: str) -> list[Row]:
    commands = {"savax": [PROGRAMS / "export_by_savax.py", ours]}
    if HAS_TENSORFLOW:
        commands["jax2tf"] = [PROGRAMS / "export_by_jax2tf.py", theirs]
    costs = processes(commands, repeats=options.repeats(5))
    savax, peer = costs["savax"], costs.get("jax2tf")
    what = "process: import, build, export"
    return [
        Row(what, "jax2tf + TensorFlow", savax.seconds, peer and peer.seconds, 1 / 3, "s"),
        Row(
            f"{what}: peak memory",
            "jax2tf + TensorFlow",
            savax.peak_bytes,
            peer and peer.peak_bytes,
            1 / 2,
            "MB",
        ),
    ]


def measure_load(options: Options, directory: str) -> list[Row]:
    commands = {"savax": [PROGRAMS / "answer_by_savax.py", directory]}
    if HAS_TENSORFLOW:
        commands["TF"] = [PROGRAMS / "answer_by_tensorflow.py", directory]
    costs = processes(commands, repeats=options.repeats(5))
    peer = costs.get("TF")
    what = "process: import, load, first answer"
    return [Row(what, "TensorFlow", costs["savax"].seconds, peer and peer.seconds, 1 / 2, "s")]


if __name__ == "__main__":
    run_alone("export", measure)
