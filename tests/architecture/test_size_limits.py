"""No file, class or function grows without bound."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_CLASS = 250
MOST_LINES_OF_A_FUNCTION = 60


def too_long(path: Path) -> Iterator[str]:
    text = path.read_text()
    name = path.relative_to(ROOT)
    if (lines := text.count("\n")) > MOST_LINES_OF_A_FILE:
        yield f"{name}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            limit = MOST_LINES_OF_A_FUNCTION
        elif isinstance(node, ast.ClassDef):
            limit = MOST_LINES_OF_A_CLASS
        else:
            continue
        if (lines := node.end_lineno - node.lineno + 1) > limit:
            yield f"{name}:{node.lineno} {node.name}: {lines} lines"


def test_nothing_is_too_long() -> None:
    assert [
        problem for path in sorted((ROOT / "savax").rglob("*.py")) for problem in too_long(path)
    ] == []
