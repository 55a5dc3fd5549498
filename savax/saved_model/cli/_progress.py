"""A progress bar on a terminal, for work that takes a while."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from savax.saved_model.cli._tables import size_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

_QUIET_S = 0.5  # work that is over by then shows nothing
_INTERVAL_S = 0.1
_WIDTH = 30
_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Shows how much of some bytes is done; nothing where the stream isn't a terminal.

    Args:
      what: the work, as one word or two.
      total_bytes: how much there is to do.
      stream: where to; stderr by default, so that reports can be piped.
      clock: the time in seconds.
    """

    def __init__(
        self,
        what: str,
        total_bytes: int,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._total_bytes = total_bytes
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._is_shown = self._stream.isatty()
        self._done_bytes = 0
        self._start = clock()
        self._next_draw = self._start + _QUIET_S
        self._has_drawn = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *args: object) -> None:
        if self._has_drawn:
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()

    def advance(self, size_bytes: int) -> None:
        """Counts more bytes as done."""
        self._done_bytes += size_bytes
        if not self._is_shown:
            return
        now = self._clock()
        if now < self._next_draw:
            return
        self._next_draw = now + _INTERVAL_S
        self._has_drawn = True
        self._stream.write(_CLEAR_LINE + self._line(now - self._start))
        self._stream.flush()

    def _line(self, elapsed_s: float) -> str:
        share = min(1.0, self._done_bytes / max(1, self._total_bytes))
        full = int(share * _WIDTH)
        rate = self._done_bytes / elapsed_s
        left_s = max(0, self._total_bytes - self._done_bytes) / max(1.0, rate)
        return (
            f"{self._what} [{'#' * full}{'.' * (_WIDTH - full)}] {share:4.0%}  "
            f"{size_text(rate)}/s, {left_s:.0f} s left"
        )
