"""Writes tests/differential/op_rows.txt: for each op that savax evaluates a test that compares it.

It runs the tests that compare loaded functions with TensorFlow, and notes which ops they evaluate:

    python tools/record_op_rows.py [test files]

With files named, what other tests have is kept.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from savax.function.evaluation._walk import Walk
from savax.function.ops._registry import EVALUATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "tests" / "differential" / "op_rows.txt"


class Recorder:
    """A pytest plugin that notes the file of the first test, by name, that evaluates an op."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._file = ""
        self._evaluated: set[str] = set()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Starts a test."""
        self._file = item.nodeid.partition("::")[0]
        self._evaluated = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps what a test that has passed evaluated."""
        if report.when == "call" and report.passed:
            for op in self._evaluated:
                self.found[op] = min(self.found.get(op, self._file), self._file)

    def watch(self) -> None:
        """Notes the op of every node that a plan runs."""
        evaluate = Walk.evaluate

        def noting(walk: Walk, plan: Any, node: Any, values: Any) -> None:
            evaluate(walk, plan, node, values)
            self._evaluated.add(node.op)

        Walk.evaluate = noting  # type: ignore[method-assign]


def read_rows() -> dict[str, str]:
    """Returns the test file of each op."""
    if not ROWS.exists():
        return {}
    lines = ROWS.read_text().splitlines()
    return dict(line.split() for line in lines if not line.startswith("#"))


def main(files: Sequence[str]) -> int:
    recorder = Recorder()
    recorder.watch()
    code = pytest.main(
        ["-q", "-p", "no:cacheprovider", *(files or ["tests/differential"])], [recorder]
    )
    rows = {**recorder.found, **(read_rows() if files else {})}
    names = sorted(op for op in rows if op in EVALUATIONS)
    head = (
        "# Written by tools/record_op_rows.py: ops, and tests that compare them with TensorFlow.\n"
    )
    ROWS.write_text(head + "".join(f"{op} {rows[op]}\n" for op in names))
    missing = sorted(set(EVALUATIONS) - set(rows))
    print(f"{len(names)} ops are compared, {len(missing)} aren't: {' '.join(missing)}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
