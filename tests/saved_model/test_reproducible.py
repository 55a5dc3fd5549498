"""The same program gives the same bytes, in whatever process it is saved."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import savax
from tests.model_zoo import CASES

ZOO = ("transformer", "control_flow")
ROOT = Path(__file__).parents[2]


@jax.custom_vjp
def _clipped(x):
    return x


_clipped.defvjp(lambda x: (x, None), lambda _, ct: (jnp.clip(ct, -1, 1),))


class _Everything(savax.Module):
    """Sets, dicts, closed-over arrays, gradients, assignments, and two functions of one name."""

    def __init__(self):
        rng = np.random.default_rng(0)
        large = rng.standard_normal((200, 200)).astype(np.float32)
        huge = rng.standard_normal((200, 2000)).astype(np.float32)
        self.by_name = {name: savax.Variable(np.ones(2), name=name) for name in "kzaq"}
        self.first = savax.function(lambda x: _clipped(x) @ large, input_signature=[_spec()])
        self.second = savax.function(
            lambda x: {"b": x @ huge, "a": x @ large[::-1], "c": x @ huge[::-1]},
            input_signature=[_spec()],
        )

    @savax.function(input_signature=[])
    def step(self):
        for name in sorted(self.by_name):
            self.by_name[name].assign_add(jnp.ones(2))


def _spec():
    return savax.TensorSpec([None, 200], name="x")


def _digests(directory):
    """Returns what the files of some saved models hash to, but for TensorFlow's random id."""
    models = {case.name: case.make for case in CASES if case.name in ZOO}
    models["everything"] = _Everything
    digests = []
    for name, make in models.items():
        savax.saved_model.save(make(), Path(directory, name))
        for path in sorted(Path(directory, name).rglob("*")):
            if path.is_file() and path.name != "fingerprint.pb":
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digests.append(f"{path.relative_to(directory)} {content}")
    return "\n".join(digests)


def test_two_processes_write_the_same_bytes(tmp_path):
    found = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.saved_model.test_reproducible"]
        result = subprocess.run(
            [*command, str(tmp_path / seed)],
            check=True,
            capture_output=True,
            cwd=ROOT,
            env=environment,
            text=True,
        )
        found.append(result.stdout)
    assert found[0].count("saved_model.pb") == len(ZOO) + 1
    assert found[0] == found[1]


if __name__ == "__main__":
    print(_digests(sys.argv[1]))
