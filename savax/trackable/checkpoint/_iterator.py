"""Waiting for the checkpoints that another process writes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from savax.trackable.checkpoint._state import latest_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from savax.types import PathLike

_POLL_SECONDS = 1.0


def checkpoints_iterator(
    checkpoint_dir: PathLike,
    min_interval_secs: float = 0,
    timeout: float | None = None,
    timeout_fn: Callable[[], bool] | None = None,
) -> Iterator[str]:
    """Yields the prefix of a directory's latest checkpoint whenever there is a new one.

    Checkpoints that came and went between two steps of the iterator are left out.

    Args:
      checkpoint_dir: the directory; it need not exist yet.
      min_interval_secs: least time between two prefixes.
      timeout: how many seconds to wait for a new checkpoint, None for ever.
      timeout_fn: called after a timeout, and after each checkpoint too; the iterator ends when it
        returns true, and waits again otherwise. Without it, the iterator ends at a timeout.

    Yields:
      Prefixes, for ``Checkpoint.restore``.
    """
    last = None
    while True:
        found = _wait_for_another(checkpoint_dir, last, timeout)
        if found is not None:
            started = time.monotonic()
            last = found
            yield found
            time.sleep(max(0.0, started + min_interval_secs - time.monotonic()))
        elif timeout_fn is None:
            return
        if timeout_fn is not None and timeout_fn():
            return


def _wait_for_another(directory: PathLike, last: str | None, timeout: float | None) -> str | None:
    """Returns the latest checkpoint as soon as it is another one, or None after the timeout."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        found = latest_checkpoint(directory)
        if found is not None and found != last:
            return found
        pause = _POLL_SECONDS
        if deadline is not None:
            pause = min(pause, deadline - time.monotonic())
            if pause <= 0:
                return None
        time.sleep(pause)
