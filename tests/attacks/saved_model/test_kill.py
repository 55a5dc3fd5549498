"""A process killed at any moment of an overwriting save leaves the old model or the new one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import savax as sv
from savax.saved_model import load, save

ROOT = Path(__file__).parents[3]

# Overwrites a model again and again; in each all Variables and a constant of the function hold one
# number, the next one.
WRITER = """
import sys
import numpy as np
import savax as sv
from savax.saved_model import _directory, save

path, value, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if way == "two_renames":
    _directory._exchange = lambda first, second: False

def model(value):
    m = sv.Module()
    m.list = [sv.Variable(np.full(3000, value, np.int32)) for _ in range(10)]
    spec = [sv.TensorSpec([], sv.int32)]
    m.f = sv.function(lambda x: x * 0 + value, input_signature=spec)
    m.f.get_concrete_function()
    return m

models = [model(value + i + 1) for i in range(40)]
print("ready", flush=True)
for m in models:
    save(m, path)
print("done", flush=True)
"""


def value_of(path: Path) -> int:
    model = load(path)
    values = {int(v) for variable in model.list for v in np.unique(variable.numpy())}
    values.add(int(model.f(np.int32(0))))
    assert len(model.list) == 10
    assert len(values) == 1, "old and new are mixed"
    return values.pop()


@pytest.mark.parametrize(("way", "kills"), [("exchange", 12), ("two_renames", 6)])
def test_killed_writers(way, kills, tmp_path) -> None:
    path = tmp_path / "model"
    rng = random.Random(way)
    m = sv.Module()
    m.list = [sv.Variable(np.full(3000, 0, np.int32)) for _ in range(10)]
    spec = [sv.TensorSpec([], sv.int32)]
    m.f = sv.function(lambda x: x * 0, input_signature=spec)
    save(m, path)
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "mine").write_text("kept")
    value, moved = 0, 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(kills):
        command = [sys.executable, "-c", WRITER, str(path), str(value), way]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = value_of(path)
        assert value <= found <= value + 40
        moved += found > value
        value = found
        assert (path / "assets.extra" / "mine").read_text() == "kept"
    assert moved, "no writer came far enough to be tested"
    save(m, path)
    assert os.listdir(tmp_path) == ["model"], "dead writers' work is left"
