"""A model whose function closes over many arrays, beyond the 2 GiB of ``saved_model.pb``.

Saves it in the image form, loads it and calls it, each in a process of its own; measured are the
time and the memory beyond the arrays. With ``--large`` the arrays have 3 GiB, else 60 MiB. Each
has a little less than the mebibyte from which on it would be a Variable.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import resource

import jax.numpy as jnp
import numpy as np

import savax as sx
from benchmarks._rows import Options, Row, run_alone
from benchmarks._timing import run_program
from tests.tensorflow_images import join_by_tensorflow

COLUMNS = 1024
ROWS = 255


class Lookup(sx.Module):
    """Rows of arrays that its function closes over."""

    def __init__(self, mebibytes: int) -> None:
        super().__init__()
        count = mebibytes * (1 << 18) // (ROWS * COLUMNS)
        rng = np.random.default_rng(0)
        self.tables = [
            sx.NoDependency(rng.random((ROWS, COLUMNS), np.float32)) for _ in range(count)
        ]

    @sx.function(input_signature=[sx.TensorSpec([None], sx.int32, name="rows")])
    def __call__(self, rows):
        return jnp.concatenate(self.tables)[rows]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(step: str, directory: str, mebibytes: int) -> None:
    """Does one step and prints what it took, as the other programs of these benchmarks do."""
    if step == "save":
        model = Lookup(mebibytes)
        before, start = peak_mib(), time.perf_counter()
        options = sx.saved_model.SaveOptions(experimental_image_format=True)
        sx.saved_model.save(model, directory, options=options)
    elif step == "load":
        before, start = peak_mib(), time.perf_counter()
        model = sx.saved_model.load(directory)
    else:
        with open(os.path.join(directory, "saved_model.cpb"), "rb") as file:
            image = file.read()
        before, start = peak_mib(), time.perf_counter()
        join_by_tensorflow(image)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "extra_mib": peak_mib() - before}))


def measure(options: Options) -> list[Row]:
    mebibytes = 3072 if options.large else 60
    found = []
    with tempfile.TemporaryDirectory() as folder:
        directory = os.path.join(folder, "model")
        arguments = ["-m", "benchmarks.image_models", "--step"]
        steps = ["save", "load", *(["join"] if importlib.util.find_spec("tensorflow") else [])]
        costs = {
            step: run_program([*arguments, step, directory, str(mebibytes)]).reported
            for step in steps
        }
    joined = costs.get("join")
    size = f"{mebibytes} MiB of arrays"
    found.append(Row(f"save, {size}", "", costs["save"]["seconds"], None, None, "s"))
    theirs = None if joined is None else joined["seconds"]
    peer = "TensorFlow's reader in C++, from memory"
    found.append(Row(f"load, {size}", peer, costs["load"]["seconds"], theirs, None, "s"))
    for step, goal in (("save", 1.25), ("load", 1.25)):
        extra = costs[step]["extra_mib"] * (1 << 20)
        what = f"{step}, {size}: memory beyond what was there before"
        note = "JAX copies the arrays when it traces." if step == "save" else ""
        found.append(Row(what, "the arrays", extra, mebibytes * (1 << 20), goal, "MB", note))
    return found


if __name__ == "__main__":
    if "--step" in sys.argv:
        _, _, step, directory, mebibytes = sys.argv
        child(step, directory, int(mebibytes))
    else:
        run_alone("image_models", measure)
