"""Benchmarks run, and their tables say what was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks._answers import agreement
from benchmarks._rows import Row, median_row, table
from benchmarks._timing import alternating, processes, run_program

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "benchmarks" / "programs"


@pytest.mark.parametrize("name", ["command_line", "growth", "calls"])
def test_a_benchmark_writes_its_rows(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--quick", "--output", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, env=dict(os.environ), capture_output=True)
    rows = json.loads((tmp_path / "results.json").read_text())[name]["rows"]
    assert all(row["ours"] > 0 for row in rows)
    page = (tmp_path / "results.md").read_text()
    assert all(row["what"] in page for row in rows)


@pytest.mark.tf
def test_a_model_of_the_zoo_runs_in_all_runtimes(tmp_path: Path) -> None:
    measure = """
import sys
from benchmarks import model_zoo
from benchmarks._rows import Options, table
rows = model_zoo.measure_steady("dlrm", sys.argv[1], Options(quick=True))
print(table([*rows, model_zoo.measure_load("dlrm", sys.argv[1], Options(quick=True))]))
"""
    run_program([PROGRAMS / "export_by_tensorflow.py", tmp_path, 96, "dlrm"])
    page = output_of(["-c", measure, str(tmp_path)], KERAS_BACKEND="jax")
    assert page.count("| TensorFlow |") == page.count("| bare jax.jit of Keras with JAX |") == 2
    assert page.count("| load dlrm |") == 1
    assert " - |" not in page
    seconds = run_program([PROGRAMS / "first_answer.py", tmp_path, 96, "dlrm"]).reported
    assert seconds["dlrm"] > 0


@pytest.mark.tf
def test_an_architecture_is_exported_in_all_ways() -> None:
    measure = """
from benchmarks import exported_graphs
from benchmarks._rows import Options, table
exported_graphs.NAMES = ("mlp",)
print(table(exported_graphs.measure(Options(quick=True))))
"""
    page = output_of(["-c", measure], KERAS_BACKEND="tensorflow")
    assert page.count("| mlp inside TensorFlow, batch") == 4
    assert page.count("| export of the mlp |") == 2
    assert " - |" not in page


def output_of(arguments: list[str], **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, check=True, env=environment, stdout=subprocess.PIPE, text=True
    ).stdout


def test_rows_say_whether_they_reached_their_goal() -> None:
    rows = [Row("a", "p", 0.001, 0.002, 0.5), Row("b", "p", 3.0, 2.0, 1.0, "s", "a note")]
    lines = table([*rows, Row("c", "p", 1.0, None)]).splitlines()
    assert lines[2] == "| a | 1.00 ms | 2.00 ms | p | 0.50 | ≤ 0.50 | yes |"
    assert lines[3] == "| b | 3.00 s | 2.00 s | p | 1.50 | ≤ 1.00 | **no** |"
    assert lines[4].endswith("| p | - |  |  |")
    assert lines[-1] == "- b, p: a note"


def test_the_median_of_ratios_is_a_row() -> None:
    rows = [Row("a", "p", 1.0, 2.0), Row("b", "p", 3.0, 1.0), Row("c", "p", None, None)]
    lines = table([median_row("all", [*rows, Row("d", "p", 2.0, 2.0)], 1.0)]).splitlines()
    assert lines[2] == "| all | 1.00 times | 1.00 times | p | 1.00 | ≤ 1.00 | yes |"
    assert lines[-1] == "- all, p: of 3 ratios"
    assert median_row("none", rows[2:]).ratio is None


def test_answers_that_differ_are_no_match() -> None:
    one = np.ones(3)
    assert "differ by 1e-05" in agreement({"a": one, "b": one + 1e-5})
    with pytest.raises(ValueError, match=r"a, b differ by 1\.0e-01"):
        agreement({"a": one, "b": one + 0.1})
    with pytest.raises(ValueError, match="differ by nan"):
        agreement({"a": one, "b": one * np.nan})
    with pytest.raises(ValueError, match="shapes"):
        agreement({"a": one, "b": np.ones((3, 1))})


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
