"""docs/consumers.md says what was measured, and gives a reason for each cell that fails."""

from __future__ import annotations

from tests.zoo import report
from tests.zoo.limits import LIMITS


def test_page_is_made_of_the_figures() -> None:
    assert report.PAGE.read_text() == report.page(report.load())


def test_the_cells_that_fail_are_those_with_a_reason() -> None:
    cells = report.load()["cells"]
    failing = {(r, name) for r, found in cells.items() for name in found if found[name]}
    assert failing == set(LIMITS)
    for (reader, name), limit in LIMITS.items():
        assert " ".join(limit.found.split()) in cells[reader][name]
