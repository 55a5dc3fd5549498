"""A writer killed at any moment leaves the old bundle or the new one; readers never see half."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from savax.trackable.bundle import BundleReader, write_bundle

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 40

# Overwrites a bundle again and again with tensors that all hold the same number, the next one.
WRITER = """
import sys
import numpy as np
from savax.trackable.bundle import write_bundle
prefix, value, shards, count = sys.argv[1], *map(int, sys.argv[2:])
print("ready", flush=True)
while True:
    value += 1
    tensors = [(f"k{i:03d}", np.full(20000, value, np.int64)) for i in range(count)]
    write_bundle(prefix, tensors, shards=shards)
"""


def start_writer(prefix: Path, value: int, shards: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(prefix), str(value), str(shards), str(COUNT)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def read_value(prefix: Path) -> int:
    with BundleReader(prefix) as reader:
        values = {int(v) for _, array in reader.read_many(reader.keys()) for v in np.unique(array)}
        assert len(reader.keys()) == COUNT
    assert len(values) == 1, "old and new values are mixed"
    return values.pop()


@pytest.mark.parametrize("shards", [1, 3])
def test_killed_writers(shards: int, tmp_path: Path) -> None:
    prefix = tmp_path / "x"
    rng = random.Random(shards)
    write_bundle(prefix, [(f"k{i:03d}", np.full(20000, 0, np.int64)) for i in range(COUNT)])
    value = 0
    leftovers = 0
    for _ in range(12):
        process = start_writer(prefix, value, shards)
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        found = read_value(prefix)
        assert found >= value
        value = found
        leftovers += any(name.startswith(".x.savax-") for name in os.listdir(tmp_path))
    assert value > 0
    assert leftovers > 0, "no writer was killed at work"
    write_bundle(prefix, [(f"k{i:03d}", np.full(20000, value + 1, np.int64)) for i in range(COUNT)])
    assert read_value(prefix) == value + 1
    names = os.listdir(tmp_path)
    assert not [name for name in names if name.startswith(".")]
    with BundleReader(prefix) as reader:
        assert len(names) == 1 + reader.header.num_shards


def test_readers_beside_a_writer(tmp_path: Path) -> None:
    prefix = tmp_path / "x"
    write_bundle(prefix, [(f"k{i:03d}", np.full(20000, 0, np.int64)) for i in range(COUNT)])
    process = start_writer(prefix, 0, 2)
    try:
        deadline = time.monotonic() + 4
        values = []
        while time.monotonic() < deadline:
            values.append(read_value(prefix))
    finally:
        process.kill()
        process.communicate()
    assert values == sorted(values)
    assert values[-1] > values[0]


def test_two_writers_at_once(tmp_path: Path) -> None:
    prefix = tmp_path / "x"
    write_bundle(prefix, [(f"k{i:03d}", np.full(20000, 0, np.int64)) for i in range(COUNT)])
    processes = [start_writer(prefix, 1000 * i, 1 + i) for i in range(2)]
    try:
        deadline = time.monotonic() + 4
        seen = set()
        while time.monotonic() < deadline:
            seen.add(read_value(prefix) // 1000)
            assert all(process.poll() is None for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert seen == {0, 1}
