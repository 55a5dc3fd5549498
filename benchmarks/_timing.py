"""Timing: alternating calls in one process, and programs in fresh processes."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[1]


def alternating(
    cases: Mapping[str, Callable[[], Any]], *, repeats: int, number: int = 1, warm_up: int = 3
) -> dict[str, float]:
    """Returns the median seconds of a call of each case.

    The cases take turns in random order, so that what else the machine does hits all alike.

    Args:
      cases: what to call; a case waits for its own results.
      repeats: how many turns each case has.
      number: calls a turn.
      warm_up: calls before the first turn.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        for _ in range(warm_up):
            case()
    for _ in range(repeats):
        for name in random.sample(list(cases), len(cases)):
            case = cases[name]
            start = time.perf_counter()
            for _ in range(number):
                case()
            times[name].append((time.perf_counter() - start) / number)
    return {name: statistics.median(values) for name, values in times.items()}


@dataclasses.dataclass(frozen=True)
class ProcessCost:
    """What a process took.

    Attributes:
      seconds: from start to end.
      peak_bytes: of resident memory.
      reported: numbers that the program printed as JSON on its last line.
    """

    seconds: float
    peak_bytes: float
    reported: Mapping[str, float]


def processes(
    commands: Mapping[str, Sequence[Any]],
    *,
    repeats: int,
    environment: Mapping[str, str] | None = None,
) -> dict[str, ProcessCost]:
    """Runs commands of this Python alternately, and returns the medians of their costs.

    Args:
      commands: arguments of ``python``.
      repeats: how often each runs, after one run that warms caches of files.
      environment: variables beside those of this process.

    Raises:
      RuntimeError: a command failed.
    """
    costs: dict[str, list[ProcessCost]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name in random.sample(list(commands), len(commands)):
            cost = run_program(commands[name], environment)
            if turn:
                costs[name].append(cost)
    return {name: _median(values) for name, values in costs.items()}


def run_program(
    arguments: Sequence[Any], environment: Mapping[str, str] | None = None
) -> ProcessCost:
    """Runs a command of this Python and returns what it cost; see ``processes``."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], stdout=output, stderr=errors, env=variables
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{arguments} failed:\n{errors.read().decode()[-4000:]}")
        lines = output.read().decode().splitlines()
    is_report = bool(lines) and lines[-1].startswith("{")
    return ProcessCost(seconds, usage.ru_maxrss * 1024, json.loads(lines[-1]) if is_report else {})


def _median(costs: Sequence[ProcessCost]) -> ProcessCost:
    return ProcessCost(
        statistics.median(cost.seconds for cost in costs),
        statistics.median(cost.peak_bytes for cost in costs),
        {key: statistics.median(cost.reported[key] for cost in costs) for key in costs[0].reported},
    )
