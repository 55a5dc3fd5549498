"""A headless Chromium that opens pages for tests.

Tests that need it are skipped where there is none, unless ``SAVAX_REQUIRE_BROWSER`` is set.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--enable-logging=stderr", "--window-size=1200,900"),
)
_SECONDS = 120


class Opened(NamedTuple):
    """What a page became after its scripts ran: its DOM as HTML, and its console's messages."""

    html: str
    console: list[str]


@functools.cache
def program() -> str | None:
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


def open_page(file: Path, fragment: str = "") -> Opened:
    """Opens a file and returns what it became."""
    browser = program()
    if browser is None:
        if os.environ.get("SAVAX_REQUIRE_BROWSER"):
            pytest.fail(f"there is none of {', '.join(_PROGRAMS)}")
        pytest.skip("there is no Chromium")
    with tempfile.TemporaryDirectory() as profile:
        result = subprocess.run(
            [
                *(browser, *_OPTIONS, f"--user-data-dir={profile}", "--dump-dom"),
                file.as_uri() + (f"#{fragment}" if fragment else ""),
            ],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    console = re.findall(r"CONSOLE.*", result.stderr)
    return Opened(result.stdout, console)
