"""Every primitive with dims: one graph gives at any size, 0 and 1 too, what JAX gives."""

from __future__ import annotations

import pytest

from tests.symbolic_programs import algebra, control_flow, indexing, reductions, shapes
from tests.symbolic_programs.check import check, fixed

pytestmark = pytest.mark.tf
pytest.importorskip("tensorflow")

MODULES = {"algebra": algebra, "indexing": indexing, "reductions": reductions, "shapes": shapes}
ROWS = {
    f"{name}-{row}": module.ROWS[row] for name, module in MODULES.items() for row in module.ROWS
}


@pytest.mark.parametrize("name", ROWS)
def test_one_graph_serves_all_sizes(name: str) -> None:
    check(ROWS[name])


@pytest.mark.parametrize("batch", ["known", "unknown"])
@pytest.mark.parametrize("name", control_flow.ROWS)
def test_control_flow(name: str, batch: str) -> None:
    row = control_flow.ROWS[name]
    check(row if batch == "unknown" else fixed(row), unoptimized=True)


def test_a_wrong_graph_would_be_found() -> None:
    row = ROWS["shapes-tile"]
    broken = row._replace(fn=_Changing(row.fn))
    with pytest.raises(AssertionError, match="result 0 at"):
        check(broken)


class _Changing:
    """A function that is another one after its first trace."""

    def __init__(self, fn: object) -> None:
        self._fn = fn
        self._calls = 0

    def __call__(self, *args: object) -> object:
        self._calls += 1
        result = self._fn(*args)  # type: ignore[operator]
        return result if self._calls == 1 else result + 1  # type: ignore[operator]
