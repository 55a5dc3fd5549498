"""Counts the work that code does, so that tests can tell linear from quadratic without a clock."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def calls_during(run: Callable[[], Any]) -> int:
    """Returns how many calls of Python's and C's functions a call makes in this thread."""
    count = 0

    def note(_: Any, event: str, __: Any) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count
