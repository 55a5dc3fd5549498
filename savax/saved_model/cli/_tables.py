"""Rows, trees, sizes and JSON as text, the same for all commands."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from savax.saved_model.cli._objects import ObjectReport

_MOST_INDENT = 150  # characters; three for each level
_UNITS = ("kB", "MB", "GB", "TB")


def to_json(report: Any) -> str:
    """Returns a dataclass as JSON; its keys are the names of attributes.

    JSON has no form for numbers that aren't finite: they become ``"nan"``, ``"inf"``, ``"-inf"``.
    """
    return json.dumps(_without_infinities(dataclasses.asdict(report)), indent=2)


def _without_infinities(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(item) for item in value]
    return value


def section(title: str, lines: Iterable[str]) -> list[str]:
    """Returns an empty line, a title and the lines indented below it; nothing without lines."""
    indented = [f"  {line}" for line in lines]
    return ["", f"{title}:", *indented] if indented else []


def aligned(rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> Iterator[str]:
    """Yields rows of equally many texts as lines of columns.

    Args:
      rows: the texts; control characters are escaped.
      right: the columns that end at the same place, as numbers do, rather than begin there.
    """
    table = [[printable(text) for text in row] for row in rows]
    if not table:
        return
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def tree_lines(objects: Sequence[ObjectReport]) -> Iterator[str]:
    """Yields the object graph as a tree.

    An object that was shown already, or is deeper than a line has room for, appears as its path;
    the latter has a tree of its own further down.

    Args:
      objects: the root and all below it, breadth first.
    """
    by_path = {report.path: report for report in objects}
    if not objects:
        return
    home: dict[str, tuple[str, str]] = {}
    for report in objects:
        for local_name, child in report.children.items():
            home.setdefault(child, (report.path, local_name))
    shown: set[str] = set()
    deep: deque[str] = deque()
    # (text before the local name, text before the children's lines, local name, path, is here)
    root = objects[0].path
    pending = [("", "", root, root, True)]
    while pending or deep:
        if not pending:
            path = deep.popleft()
            pending.append(("", "", path, path, True))
        lead, indent, name, path, here = pending.pop()
        # Local names with dots can make two ways to what looks like one path.
        if not here or path in shown:
            yield f"{lead}{name} -> {path}"
            continue
        if len(indent) > _MOST_INDENT:
            yield f"{lead}{name} -> {path}"
            deep.append(path)
            continue
        shown.add(path)
        report = by_path[path]
        size = "" if report.size_bytes is None else f", {size_text(report.size_bytes)}"
        yield f"{lead}{name}: {' '.join(filter(None, (report.kind, report.detail)))}{size}"
        children = list(report.children.items())
        for i, (local_name, child) in reversed(list(enumerate(children))):
            last = i == len(children) - 1
            is_here = child != root and home[child] == (path, local_name)
            lead_of_child = indent + ("└─ " if last else "├─ ")
            below = indent + ("   " if last else "│  ")
            pending.append((lead_of_child, below, local_name, child, is_here))


def count_text(number: int, noun: str) -> str:
    """Returns e.g. ``1 file`` or ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_text(size_bytes: float) -> str:
    """Returns a number of bytes as people write it: ``1.5 kB`` is 1500 bytes."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    value, unit = float(size_bytes), 0
    while (value := value / 1000) >= 999.5 and unit + 1 < len(_UNITS):
        unit += 1
    return f"{value:.3g} {_UNITS[unit]}"


def printable(text: str) -> str:
    """Returns a line with control characters escaped: a model's names may hold anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
