"""Pages that a tool writes from the program's tables are what it would write today."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize("name", ["list_ops", "list_portable_ops"])
def test_the_page_is_up_to_date(name: str) -> None:
    tool = importlib.import_module(f"tools.{name}")
    assert tool.PAGE.read_text() == tool.page(), f"run tools/{name}.py"
