"""Every row of the tables of attacks names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ATTACKS = ROOT / "tests" / "attacks"


def file_of(name: str) -> Path:
    folder, _, stem = name.rpartition("/")
    return ATTACKS / (folder or "saved_model") / f"test_{stem}.py"


def test_rows_name_tests() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", page, re.MULTILINE)
    cells = [test for attempt, _, test in rows if attempt != "attempt"]
    assert len(cells) > 25
    missing = []
    for cell in cells:
        if cell == "the same":
            continue
        file, _, test = cell.strip("`").partition(": ")
        path = file_of(file)
        if not path.is_file() or f"def {test}(" not in path.read_text():
            missing.append(cell)
    assert missing == []
