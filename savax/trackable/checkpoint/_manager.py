"""CheckpointManager: numbered checkpoints in a directory, of which the oldest are deleted."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import DTypeMismatchError, InvalidArgumentError
from savax.trackable.bundle import delete_bundle
from savax.trackable.checkpoint._state import (
    get_checkpoint_state,
    path_as_given,
    write_checkpoint_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.trackable.checkpoint._checkpoint import Checkpoint
    from savax.trackable.checkpoint._options import CheckpointOptions
    from savax.types import PathLike

_SECONDS_PER_HOUR = 3600.0


class CheckpointManager:
    """Saves numbered checkpoints in a directory and deletes the oldest of them.

    What it keeps is in the directory's state file, in TensorFlow's form: a manager that is made
    later, here or in TensorFlow, goes on where the last one stopped. Files that the state file
    doesn't name, or that are outside the directory, are never deleted. At a time only one manager
    should work on a directory.

    Args:
      checkpoint: what to save.
      directory: where; it is made by the first ``save``.
      max_to_keep: how many checkpoints to keep, None for all of them.
      keep_checkpoint_every_n_hours: a checkpoint that would be deleted stays for good if it was
        written at least so many hours after the last one that stayed.
      checkpoint_name: what the files' names start with.
      step_counter: a Variable, or whatever makes an integer, that counts training steps.
      checkpoint_interval: how many steps must pass between two checkpoints.
      init_fn: called by ``restore_or_initialize`` if there is no checkpoint.
      last_checkpoint_step: step of a checkpoint that was saved before, for the interval.

    Raises:
      InvalidArgumentError: ``max_to_keep`` isn't positive, there is an interval without a
        ``step_counter``, or the directory's state file names no checkpoint.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        directory: PathLike,
        max_to_keep: int | None,
        keep_checkpoint_every_n_hours: float | None = None,
        checkpoint_name: str = "ckpt",
        step_counter: Any = None,
        checkpoint_interval: int | None = None,
        init_fn: Callable[[], Any] | None = None,
        last_checkpoint_step: int | None = None,
    ) -> None:
        if max_to_keep is not None and max_to_keep <= 0:
            raise InvalidArgumentError(
                f"max_to_keep must be positive, or None to keep all checkpoints; it is "
                f"{max_to_keep}."
            )
        if checkpoint_interval is not None and step_counter is None:
            raise InvalidArgumentError(
                "checkpoint_interval counts steps: pass the Variable that counts them as "
                "step_counter."
            )
        self._checkpoint = checkpoint
        self._directory = os.fspath(directory)
        self._max_to_keep = max_to_keep
        self._keep_hours = keep_checkpoint_every_n_hours
        self._checkpoint_name = checkpoint_name
        self._step_counter = step_counter
        self._checkpoint_interval = checkpoint_interval
        self._init_fn = init_fn
        self._last_checkpoint_step = last_checkpoint_step
        self._latest_checkpoint: str | None = None
        self._times: dict[str, float] = {}  # when each kept checkpoint was written, oldest first
        # A second ago, so that a checkpoint that is saved at once counts as later.
        self._last_preserved = time.time() - 1.0
        self._adopt_history()

    def _adopt_history(self) -> None:
        """Takes over what an earlier manager wrote into the state file."""
        state = get_checkpoint_state(self._directory)
        if state is None:
            return
        now = time.time()
        self._latest_checkpoint = path_as_given(state.model_checkpoint_path, self._directory)
        # No time may be in the future: a clock that was set back must not make old files new.
        self._last_preserved = min(state.last_preserved_timestamp, now)
        # Without times, as Checkpoint.save leaves them out, nothing is known to be a manager's.
        for path, written in zip(
            state.all_model_checkpoint_paths, state.all_model_checkpoint_timestamps, strict=False
        ):
            prefix = path_as_given(path, self._directory)
            if min(written, now) > self._last_preserved and self._is_inside(prefix):
                self._times[prefix] = min(written, now)

    def _is_inside(self, prefix: str) -> bool:
        directory = os.path.abspath(self._directory)
        return os.path.commonpath([directory, os.path.abspath(prefix)]) == directory

    @property
    def checkpoint(self) -> Checkpoint:
        """What is saved."""
        return self._checkpoint

    @property
    def directory(self) -> str:
        """Where checkpoints are written."""
        return self._directory

    @property
    def checkpoint_interval(self) -> int | None:
        """How many steps must pass between two checkpoints."""
        return self._checkpoint_interval

    @property
    def latest_checkpoint(self) -> str | None:
        """Prefix of the newest checkpoint, or None; ``Checkpoint.restore`` takes both."""
        return self._latest_checkpoint

    @property
    def checkpoints(self) -> list[str]:
        """Prefixes of the checkpoints that may be deleted one day, oldest first."""
        return list(self._times)

    def save(
        self,
        checkpoint_number: Any = None,
        check_interval: bool = True,
        options: CheckpointOptions | None = None,
    ) -> str | None:
        """Writes a checkpoint, then deletes those that are too many.

        Args:
          checkpoint_number: an integer, or a Variable that holds one, for the file's name; by
            default the ``save_counter``, which counts in any case.
          check_interval: whether to keep to ``checkpoint_interval``. A step that has been saved
            isn't saved again in either case.
          options: how to write.

        Returns:
          The checkpoint's prefix, such as ``dir/ckpt-3``; None if it isn't time yet.

        Raises:
          DTypeMismatchError: the number or the step counter is no integer.
          TrackingError: see ``Checkpoint.write``. Nothing has changed then.
        """
        step = self._step()
        if step is not None and not self._is_due(step, check_interval):
            return None
        number = None if checkpoint_number is None else _integer(checkpoint_number)
        name = os.path.join(self._directory, self._checkpoint_name)
        prefix = self._checkpoint._write_numbered(name, number, options)
        self._last_checkpoint_step = step
        self._times.pop(prefix, None)  # an overwritten one is the newest now
        self._times[prefix] = time.time()
        self._latest_checkpoint = prefix
        # Twice, so that at any moment the state file names all files that are still to be deleted
        # and the newest checkpoint as the latest.
        self._write_state()
        if self._delete_oldest():
            self._write_state()
        return prefix

    def _step(self) -> int | None:
        return None if self._checkpoint_interval is None else _integer(self._step_counter)

    def _is_due(self, step: int, check_interval: bool) -> bool:
        last, interval = self._last_checkpoint_step, self._checkpoint_interval
        if last is None or interval is None:
            return True
        return step != last and (not check_interval or step >= last + interval)

    def _delete_oldest(self) -> bool:
        """Deletes or exempts checkpoints until few enough are left; whether there were any."""
        before = len(self._times)
        while self._max_to_keep is not None and len(self._times) > self._max_to_keep:
            prefix, written = next(iter(self._times.items()))
            if self._is_preserved(written):
                self._last_preserved = written
            else:
                delete_bundle(prefix, missing_ok=True)
            del self._times[prefix]
        return len(self._times) < before

    def _is_preserved(self, written: float) -> bool:
        hours = self._keep_hours
        return bool(hours) and written >= self._last_preserved + (hours or 0) * _SECONDS_PER_HOUR

    def _write_state(self) -> None:
        write_checkpoint_state(
            self._directory,
            list(self._times),
            timestamps=list(self._times.values()),
            last_preserved_timestamp=self._last_preserved,
        )

    def restore_or_initialize(self) -> str | None:
        """Restores the latest checkpoint; without one, calls ``init_fn``.

        Returns:
          The prefix of the restored checkpoint, or None.

        Raises:
          NotFoundError: the state file names a checkpoint that is gone.
          See ``Checkpoint.restore`` for the others.
        """
        if self._latest_checkpoint is not None:
            self._checkpoint.restore(self._latest_checkpoint)
            self._last_checkpoint_step = self._step()
            return self._latest_checkpoint
        if self._init_fn is not None:
            self._init_fn()
        return None

    def sync(self) -> None:
        """Waits until checkpoints are written; ``save`` has waited already."""
        self._checkpoint.sync()


def _integer(value: Any) -> int:
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "iu":
        raise DTypeMismatchError(
            f"A checkpoint's number and a step counter must be an integer, not {value!r}."
        )
    return int(array)
