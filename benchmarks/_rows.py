"""Row: one number that was measured beside a peer's; tables of them, and their file."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_UNITS = {"s": (1.0, 2), "ms": (1e3, 2), "µs": (1e6, 1), "MB": (1e-6, 0), "times": (1.0, 2)}


@dataclasses.dataclass(frozen=True)
class Row:
    """A number of savax beside a peer's, both medians of one run.

    Attributes:
      what: was measured.
      peer: what it is compared with.
      ours: seconds or bytes of savax, or a ratio; None if it couldn't be measured.
      theirs: seconds or bytes of the peer; None if it isn't installed.
      goal: the largest ratio of ours to theirs that is wanted, or None.
      unit: in which the numbers are shown; "times" for ratios, whose peer is 1.
      note: what a reader has to know beside the numbers.
    """

    what: str
    peer: str
    ours: float | None
    theirs: float | None
    goal: float | None = None
    unit: str = "ms"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Of ours to theirs: less is better."""
        return None if self.ours is None or self.theirs is None else self.ours / self.theirs


@dataclasses.dataclass(frozen=True)
class Options:
    """How much to measure.

    Attributes:
      large: also what takes many minutes, or more than 8 GiB of memory.
      quick: a few repeats only, to see that a benchmark works.
    """

    large: bool = False
    quick: bool = False

    def repeats(self, usual: int) -> int:
        """Returns how often to repeat what is usually repeated so often."""
        return 2 if self.quick else usual


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    factor, digits = _UNITS[unit]
    return f"{value * factor:.{digits}f} {unit}"


def _verdict(row: Row) -> str:
    if row.goal is None or row.ratio is None:
        return ""
    # A tie within the precision of the table counts as reached.
    return "yes" if row.ratio <= row.goal + 0.005 else "**no**"


def table(rows: Iterable[Row]) -> str:
    """Returns rows as a table in Markdown."""
    lines = ["| what | savax | peer | | ratio | goal | reached |", "|---|---|---|---|---|---|---|"]
    notes = []
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        goal = "" if row.goal is None else f"≤ {row.goal:.2f}"
        lines.append(
            f"| {row.what} | {_shown(row.ours, row.unit)} | {_shown(row.theirs, row.unit)} "
            f"| {row.peer} | {ratio} | {goal} | {_verdict(row)} |"
        )
        if row.note:
            notes.append(f"- {row.what}, {row.peer}: {row.note}")
    return "\n".join([*lines, *([""] if notes else []), *dict.fromkeys(notes)])


def median_row(what: str, rows: Iterable[Row], goal: float | None = None) -> Row:
    """Returns the median ratio of rows with one peer, as a row whose peer is 1."""
    rows = list(rows)
    peers = {row.peer for row in rows}
    assert len(peers) == 1, peers
    ratios = [row.ratio for row in rows if row.ratio is not None]
    ratio = statistics.median(ratios) if ratios else None
    note = f"of {len(ratios)} ratios"
    return Row(what, peers.pop(), ratio, 1.0 if ratios else None, goal, "times", note)


def machine() -> str:
    """Returns the processor, and the versions that were measured."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


def run_alone(name: str, measure: Callable[[Options], list[Row]]) -> None:
    """Runs one benchmark as a command: prints its table, or writes its rows to a file."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--large", action="store_true", help="also what takes long, or 8 GiB")
    parser.add_argument("--quick", action="store_true", help="a few repeats only")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write rows there, print nothing")
    parsed = parser.parse_args()
    rows = measure(Options(large=parsed.large, quick=parsed.quick))
    if parsed.json is None:
        print(table(rows))
    else:
        parsed.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows]))


def rows_from_json(data: list[dict[str, Any]]) -> list[Row]:
    """Returns rows that ``run_alone`` wrote."""
    return [Row(**fields) for fields in data]
