"""Benchmarks run, and their tables say what was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks._rows import Row, table
from benchmarks._timing import alternating, processes, run_program

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["command_line", "growth", "calls"])
def test_a_benchmark_writes_its_rows(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--quick", "--output", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, env=dict(os.environ), capture_output=True)
    rows = json.loads((tmp_path / "results.json").read_text())[name]["rows"]
    assert all(row["ours"] > 0 for row in rows)
    page = (tmp_path / "results.md").read_text()
    assert all(row["what"] in page for row in rows)


def test_rows_say_whether_they_reached_their_goal() -> None:
    rows = [Row("a", "p", 0.001, 0.002, 0.5), Row("b", "p", 3.0, 2.0, 1.0, "s", "a note")]
    lines = table([*rows, Row("c", "p", 1.0, None)]).splitlines()
    assert lines[2] == "| a | 1.00 ms | 2.00 ms | p | 0.50 | ≤ 0.50 | yes |"
    assert lines[3] == "| b | 3.00 s | 2.00 s | p | 1.50 | ≤ 1.00 | **no** |"
    assert lines[4].endswith("| p | - |  |  |")
    assert lines[-1] == "- b, p: a note"


def test_cases_take_turns() -> None:
    calls: list[str] = []
    cases = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = alternating(cases, repeats=5, number=2, warm_up=1)
    assert set(times) == {"a", "b"}
    assert calls[:2] == ["a", "b"]
    assert calls.count("a") == calls.count("b") == 11


def test_processes_report_numbers_and_failures() -> None:
    program = ["-c", "print('{\"seconds\": 2.5}')"]
    cost = processes({"p": program}, repeats=2)["p"]
    assert cost.reported == {"seconds": 2.5}
    assert cost.seconds > 0
    assert cost.peak_bytes > 1 << 20
    with pytest.raises(RuntimeError, match="no such thing"):
        run_program(["-c", "raise SystemExit('no such thing')"])
