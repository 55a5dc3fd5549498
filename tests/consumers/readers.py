"""Runs models by other readers, each in a process of the environment that it needs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# Those of TensorFlow run in this Python, the others in environments that
# tools/consumer_environments.py makes.
OF_TENSORFLOW = ("tensorflow", "session", "c_api")
OTHERS = ("openvino", "onnx", "litert", "tfjs")

_HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Job:
    """A model to run.

    Attributes:
      model: directory of a SavedModel; its default signature runs.
      inputs: arrays by name, for each run; the runs are one after the other.
    """

    model: Path
    inputs: Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a reader made of a job.

    Attributes:
      outputs: arrays by name, for each run; empty if it failed.
      error: the reader's words, or None.
    """

    outputs: Sequence[Mapping[str, np.ndarray]]
    error: str | None = None


def run(
    reader: str, jobs: Sequence[Job], directory: str | None, *, limit: float = 300
) -> list[Outcome]:
    """Runs jobs by a reader, all in one process; one that kills the process costs only itself.

    Args:
      reader: one of ``OF_TENSORFLOW`` or ``OTHERS``.
      jobs: what to run.
      directory: of the environments; ``OF_TENSORFLOW`` need none.
      limit: seconds that a process may take.

    Returns:
      An outcome for each job.

    Raises:
      RuntimeError: the reader or what it needs isn't there.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(jobs):
        rest = jobs[len(outcomes) :]
        with tempfile.TemporaryDirectory() as folder:
            outcomes += _run_process(_command(reader, directory), rest, Path(folder), limit)
    return outcomes


def versions(reader: str, directory: str | None) -> dict[str, str]:
    """Returns the versions of the packages that a reader consists of."""
    with tempfile.TemporaryDirectory() as folder:
        lines, end = _lines(_command(reader, directory), [], Path(folder), limit=60)
    if not lines:
        raise RuntimeError(f"The reader doesn't start: {end}")
    return dict(lines[0]["versions"])


def _command(reader: str, directory: str | None) -> list[str | Path]:
    if reader in OF_TENSORFLOW:
        return [sys.executable, _HERE / f"run_{reader}.py"]
    return [Path(directory) / reader / "bin" / "python", _HERE / f"run_{reader}.py"]


def _run_process(
    command: list[str | Path], jobs: Sequence[Job], folder: Path, limit: float
) -> list[Outcome]:
    requests = []
    for i, job in enumerate(jobs):
        runs = range(len(job.inputs))
        inputs = [str(folder / f"in_{i}_{k}.npz") for k in runs]
        outputs = [str(folder / f"out_{i}_{k}.npz") for k in runs]
        for path, arrays in zip(inputs, job.inputs, strict=True):
            np.savez(path, **arrays)
        requests.append({"model": str(job.model), "inputs": inputs, "outputs": outputs})
    lines, end = _lines(command, requests, folder, limit)
    if not lines:
        raise RuntimeError(f"The reader doesn't start: {end}")
    outcomes = [_outcome(*pair) for pair in zip(requests, lines[1:], strict=False)]
    if len(outcomes) < len(jobs):
        outcomes.append(Outcome((), end))
    return outcomes


def _lines(
    command: list[str | Path], requests: list[Any], folder: Path, limit: float
) -> tuple[list[dict[str, Any]], str]:
    """Runs a process; returns the lines that it wrote and how it ended."""
    (folder / "jobs.json").write_text(json.dumps(requests))
    results = folder / "results.jsonl"
    results.touch()
    try:
        done = subprocess.run(
            [*command, folder / "jobs.json", results],
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
        )
        end = f"the process ended with status {done.returncode}: {done.stderr[-2000:]}"
    except subprocess.TimeoutExpired:
        end = f"the process took more than {limit:g} s"
    return [json.loads(line) for line in results.read_text().splitlines()], end


def _outcome(request: dict[str, Any], result: dict[str, Any]) -> Outcome:
    if result["error"] is not None:
        return Outcome((), result["error"])
    outputs = []
    for path in request["outputs"]:
        with np.load(path) as arrays:
            outputs.append(dict(arrays))
    return Outcome(outputs)
