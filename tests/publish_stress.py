"""Publishers and readers of one base directory, for tests; as a script, for longer and with more.

    JAX_PLATFORMS=cpu python tests/publish_stress.py --seconds 60 --publishers 25 --readers 25

Each publisher is a process that is killed at a random moment and replaced by another. A model is
right if its function, its Variable and its asset come from one publication.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

import savax as sx

_SIZE = 50_000  # elements of the Variable, so that a version takes a while to write


class Model(sx.Module):
    """A number in three places: a constant, a Variable and an asset."""

    def __init__(self, number: int, asset: str) -> None:
        super().__init__()
        self.w = sx.Variable(np.full(_SIZE, number, np.int32))
        self.asset = sx.saved_model.Asset(asset)

        @sx.function(input_signature=[sx.TensorSpec([], sx.int32, name="x")])
        def call(x: object) -> object:
            return {"number": x + np.int32(number), "least": self.w.min(), "most": self.w.max()}

        self.call = call


def publish_for_ever(base: str, seed: int, keep: int) -> None:
    """Publishes one model after another; prints a line for each."""
    with tempfile.TemporaryDirectory() as folder:
        for i in itertools.count():
            number = seed * 10_000 + i
            asset = os.path.join(folder, "number.txt")
            Path(asset).write_text(str(number))
            path = sx.saved_model.publish(
                Model(number, asset), base, keep=keep, grace_seconds=0, warmup=[{"x": number}]
            )
            print(path, flush=True)


def read(base: str, path: str | None = None) -> int | None:
    """Returns the number of the newest model; None if there is none, or it was deleted meanwhile.

    Raises:
      AssertionError: the model's parts are of different publications.
      SavaxError: it is damaged.
    """
    path = path or sx.saved_model.latest_version(base)
    if path is None:
        return None
    try:
        model = sx.saved_model.load(path)
    except sx.errors.NotFoundError:
        if os.path.isdir(path):
            raise
        return None
    outputs = model.signatures["serving_default"](x=np.int32(0))
    values = {name: int(value) for name, value in outputs.items()}
    assert len(set(values.values())) == 1, (path, values)
    try:
        text = Path(model.asset.asset_path).read_text()
    except FileNotFoundError:
        assert not os.path.isdir(path), path  # deleted after it was loaded
    else:
        assert text == str(values["number"]), (path, text, values)
    return values["number"]


def read_for_ever(base: str) -> None:
    """Reads one version after another; prints a line for each."""
    while True:
        number = read(base)
        if number is not None:
            print(number, flush=True)


def nursery() -> None:
    """Starts workers that are asked for: they share the memory of the modules that it imported.

    Reads lines with a role, the base directory, a seed and how many versions to keep, and paths of
    files for the output and for errors; prints the number of the process.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who ends is forgotten
    warnings.filterwarnings("ignore", message="os.fork")  # JAX has started no thread here
    for line in sys.stdin:
        role, base, seed, keep, output, errors = json.loads(line)
        process = os.fork()
        if process:
            print(process, flush=True)
            continue
        for number, path in ((1, output), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        if role == "publish":
            publish_for_ever(base, seed, keep)
        read_for_ever(base)


class Nursery:
    """A process that starts workers, inside a ``with``."""

    def __enter__(self) -> Nursery:
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--role", "nursery"],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._folder.cleanup()

    def start(self, role: str, base: str, seed: int, keep: int) -> Worker:
        """Starts a process that publishes or reads for ever.

        Args:
          role: ``"publish"`` or ``"read"``.
          base: directory of the versions.
          seed: makes the numbers of its models its own.
          keep: for ``publish``.
        """
        output, errors = (os.path.join(self._folder.name, f"{seed}.{kind}") for kind in "oe")
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([role, base, seed, keep, output, errors]), file=self._process.stdin)
        self._process.stdin.flush()
        return Worker(role, int(self._process.stdout.readline()), Path(output), Path(errors))


class Worker(NamedTuple):
    """A process that publishes or reads for ever.

    Attributes:
      role: ``"publish"`` or ``"read"``.
      process: its number.
      output: a file with a line for each time that it has done its work.
      errors: a file with what it has to say when it ends.
    """

    role: str
    process: int
    output: Path
    errors: Path

    def count(self) -> int:
        """Returns how often it has done its work.

        Raises:
          AssertionError: it has ended by itself, which is an error.
        """
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            raise AssertionError(
                f"A process that should {self.role}: {self.errors.read_text()}"
            ) from None
        return self.output.read_text().count("\n") if self.output.exists() else 0

    def kill(self) -> None:
        """Kills it; it has ended then."""
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(self.process, signal.SIGKILL)
                time.sleep(0.001)


def run(base: str, seconds: float, publishers: int, readers: int, keep: int) -> dict[str, int]:
    """Lets processes publish and read, kills and replaces them; returns how often each happened.

    The time begins when all have started.
    """
    rng = random.Random(0)
    seeds = itertools.count(1)
    counts = {"publish": 0, "read": 0, "kills": 0}
    roles = ["publish"] * publishers + ["read"] * readers
    with Nursery() as nursery:
        workers = [nursery.start(role, base, next(seeds), keep) for role in roles]
        try:
            while not all(worker.count() for worker in workers):
                time.sleep(0.05)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                time.sleep(rng.uniform(0, 0.1))  # so that kills come at any point of the work
                index = rng.randrange(publishers)
                done = workers[index].count()
                if done:
                    workers[index].kill()
                    counts["publish"] += done
                    counts["kills"] += 1
                    workers[index] = nursery.start("publish", base, next(seeds), keep)
            for worker in workers:
                counts[worker.role] += worker.count()
        finally:
            for worker in workers:
                worker.kill()
    return counts


def main() -> None:
    """Runs the whole thing, or one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=["all", "nursery"], default="all")
    parser.add_argument("--base")
    parser.add_argument("--keep", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--publishers", type=int, default=25)
    parser.add_argument("--readers", type=int, default=25)
    parsed = parser.parse_args()
    if parsed.role == "nursery":
        nursery()
        return
    with tempfile.TemporaryDirectory() as folder:
        base = parsed.base or folder
        print(run(base, parsed.seconds, parsed.publishers, parsed.readers, parsed.keep))
        print(sorted(os.listdir(base)))
        for version in filter(str.isdecimal, os.listdir(base)):
            read(base, os.path.join(base, version))


if __name__ == "__main__":
    main()
