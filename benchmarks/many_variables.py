"""Checkpoints of many small Variables, through ``Checkpoint`` with its graph of objects.

TensorFlow takes about a minute for 100,000 of them and takes part with ``--large`` only; without
it, it has 10,000.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np

import savax as sx
from benchmarks._rows import Options, Row, run_alone

try:
    import tensorflow as tf
except ImportError:
    tf = None

FEW, MANY = 10_000, 100_000


def seconds_of(checkpoint: Any, prefix: str) -> tuple[float, float]:
    """Returns how long a checkpoint takes to write, and to read into the same objects."""
    start = time.perf_counter()
    checkpoint.write(prefix)
    written = time.perf_counter()
    checkpoint.read(prefix).assert_consumed()
    return written - start, time.perf_counter() - written


def by_savax(count: int, repeats: int, directory: str) -> tuple[float, float]:
    variables = [sx.Variable(np.full(4, i, np.float32)) for i in range(count)]
    checkpoint = sx.train.Checkpoint(variables=variables)
    times = [seconds_of(checkpoint, f"{directory}/savax") for _ in range(repeats)]
    return min(write for write, _ in times), min(read for _, read in times)


def by_tensorflow(count: int, directory: str) -> tuple[float, float]:
    variables = [tf.Variable(np.full(4, i, np.float32)) for i in range(count)]
    return seconds_of(tf.train.Checkpoint(variables=variables), f"{directory}/tf")


def measure(options: Options) -> list[Row]:
    repeats = options.repeats(3)
    compared = MANY if options.large else FEW
    with tempfile.TemporaryDirectory() as directory:
        times = {count: by_savax(count, repeats, directory) for count in (FEW, MANY)}
        theirs = (None, None) if tf is None else by_tensorflow(compared, directory)
    rows = []
    for i, what in enumerate(("write", "read")):
        rows += [
            Row(
                f"{what} {compared:,} Variables",
                "tf.train.Checkpoint",
                times[compared][i],
                theirs[i],
                0.1,
                "s",
                note="TensorFlow does it once, as it keeps what it made for a call",
            ),
            Row(
                f"{what} {MANY:,} Variables",
                f"{FEW:,} Variables",
                times[MANY][i],
                times[FEW][i],
                12.0,
                "s",
            ),
        ]
    return rows


if __name__ == "__main__":
    run_alone("many_variables", measure)
