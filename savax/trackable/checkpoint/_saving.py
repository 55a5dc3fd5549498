"""The half of Checkpoint that writes: its objects, its counter, and how they get to files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import InvalidArgumentError, UnsupportedError
from savax.trackable._auto import AutoTrackable
from savax.trackable._base import Trackable
from savax.trackable._frames import current_frame
from savax.trackable._object_graph import ObjectGraph, freeze_object_graph
from savax.trackable._variable import Variable
from savax.trackable.bundle._locations import absolute, join, split
from savax.trackable.checkpoint._async_writing import CheckpointWriter
from savax.trackable.checkpoint._joint_writing import fail_jointly
from savax.trackable.checkpoint._kept_checkpoints import sweep_numbered
from savax.trackable.checkpoint._object_graph_codec import (
    encode_object_graph,
    object_graph_tensor,
)
from savax.trackable.checkpoint._registered_savers import write_by_savers
from savax.trackable.checkpoint._state import write_checkpoint_state
from savax.trackable.checkpoint._untracked_arrays import refuse_untracked_arrays
from savax.trackable.checkpoint._writing import Save

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.trackable.checkpoint._async_writing import CheckpointFuture
    from savax.trackable.checkpoint._options import CheckpointOptions
    from savax.types import PathLike

SAVE_COUNTER = "save_counter"


class SavingCheckpoint(AutoTrackable):
    """Objects whose values are written to checkpoints; ``Checkpoint`` also restores them.

    Args:
      root: see ``Checkpoint``.
      **kwargs: see ``Checkpoint``.

    Raises:
      InvalidArgumentError: see ``Checkpoint``.
    """

    _root: Trackable | None
    _attached: list[tuple[str, Trackable]]
    _writer: CheckpointWriter

    def __init__(self, root: Trackable | None = None, **kwargs: Any) -> None:
        # Past the tracking of attributes, as these are no children.
        object.__setattr__(self, "_root", root)
        object.__setattr__(self, "_attached", [])
        object.__setattr__(self, "_writer", CheckpointWriter())
        if root is not None:
            if not isinstance(root, Trackable):
                raise InvalidArgumentError(_untrackable("root", root))
            kwargs["root"] = root
        for name, value in sorted(kwargs.items()):
            setattr(self, name, value)
            child = self._edges.get(name)
            if child is None:
                raise InvalidArgumentError(_untrackable(name, value))
            refuse_untracked_arrays(name, getattr(self, name))
            if root is not None:
                self._attach(root, name, child)

    def _attach(self, root: Trackable, name: str, child: Trackable) -> None:
        current = root._lookup_dependency(name)
        if current is None:
            self._attached.append((name, child))
        elif current is not child:
            raise InvalidArgumentError(
                f"The root tracks another object as {name!r}, so a checkpoint of it can't hold the "
                "argument of that name too. Use another name."
            )

    @property
    def _graph_root(self) -> Trackable:
        return self if self._root is None else self._root

    def _freeze(self, with_slots: bool = True) -> ObjectGraph:
        return freeze_object_graph(self._graph_root, extra=self._attached, with_slots=with_slots)

    @property
    def save_counter(self) -> Variable:
        """How often ``save`` was called, an int64 Variable that checkpoints hold too."""
        found = self._find_save_counter()
        if found is None:
            found = Variable(np.int64(0), trainable=False, name=SAVE_COUNTER)
            if self._root is None:
                self._track(found, SAVE_COUNTER)
            else:
                self._attached.append((SAVE_COUNTER, found))
                self._root._restore_pending(SAVE_COUNTER, found)
        if not isinstance(found, Variable):
            raise InvalidArgumentError(f"The root's child {SAVE_COUNTER!r} is no Variable.")
        return found

    def _find_save_counter(self) -> Trackable | None:
        found = self._graph_root._lookup_dependency(SAVE_COUNTER)
        return dict(self._attached).get(SAVE_COUNTER) if found is None else found

    def write(self, file_prefix: PathLike, options: CheckpointOptions | None = None) -> str:
        """Writes a checkpoint, without counting it or naming it in a state file.

        Args:
          file_prefix: path without suffixes. Missing directories are made; an older checkpoint of
            that prefix is replaced at once, or not at all if something fails.
          options: how to write; with ``enable_async`` see ``write_async``.

        Returns:
          The prefix.

        Raises:
          TrackingError: an object can't be saved as it stands; the message has its path.
          Otherwise what went wrong with an earlier checkpoint in the background, see
          ``write_async``; nothing is written then.
        """
        return self._write(os.fspath(file_prefix), options, _is_async(options)).prefix

    def write_async(
        self, file_prefix: PathLike, options: CheckpointOptions | None = None
    ) -> CheckpointFuture:
        """Does what ``write`` does, but leaves files and callbacks to a thread in the background.

        What is written are the values at the time of this call. At most one checkpoint is under
        way: a call that writes, restores or compares waits for it first. If it failed, the next
        such call raises the error, unless somebody has asked the future for it.

        Args:
          file_prefix: see ``write``.
          options: how to write.

        Returns:
          The future, whose result is the prefix.

        Raises:
          See ``write``.
        """
        return self._write(os.fspath(file_prefix), options, background=True)

    def _write(
        self,
        prefix: str,
        options: CheckpointOptions | None,
        background: bool,
        record: Callable[[str], None] | None = None,
        follow: Callable[[str], None] | None = None,
    ) -> CheckpointFuture:
        refuse_in_trace("written")
        with self._writer.turn():
            try:
                encoded = encode_object_graph(self._freeze())
                by_savers = write_by_savers(encoded.savers, prefix, options)
            except Exception as error:
                fail_jointly(prefix, options, error)
                raise
            tensors = [*by_savers, *encoded.tensors, object_graph_tensor(encoded.proto)]
            save = Save(prefix, tensors, options, record, follow)
            return self._writer.write(save, background=background)

    def save(self, file_prefix: PathLike, options: CheckpointOptions | None = None) -> str:
        """Writes a numbered checkpoint and names it in the directory's state file.

        Args:
          file_prefix: path to which ``-`` and the counter are added.
          options: how to write; with ``enable_async`` see ``save_async``.

        Returns:
          The checkpoint's prefix, such as ``dir/ckpt-3``.

        Raises:
          See ``write``. The counter is as before then.
        """
        return self._save(file_prefix, options, _is_async(options)).prefix

    def save_async(
        self, file_prefix: PathLike, options: CheckpointOptions | None = None
    ) -> CheckpointFuture:
        """Does what ``save`` does, but in the background; see ``write_async``.

        The state file names the checkpoint when it is complete. If it fails, the counter stays
        where it is, so that no other checkpoint gets the prefix that was returned.

        Args:
          file_prefix: see ``save``.
          options: how to write.

        Returns:
          The future, whose result is the checkpoint's prefix.

        Raises:
          See ``write``. The counter is as before then.
        """
        return self._save(file_prefix, options, background=True)

    def _save(
        self, file_prefix: PathLike, options: CheckpointOptions | None, background: bool
    ) -> CheckpointFuture:
        prefix = os.fspath(file_prefix)
        # Now, as the working directory may be another one when the state file is written.
        directory = absolute(split(prefix)[0])

        def record(written: str) -> None:
            path = join(directory, split(written)[1])
            write_checkpoint_state(directory, [path])
            sweep_numbered(directory, split(prefix)[1])

        return self._write_numbered(prefix, None, options, background, record)

    def _write_numbered(
        self,
        file_prefix: str,
        number: int | None,
        options: CheckpointOptions | None,
        background: bool,
        record: Callable[[str], None],
        follow: Callable[[str], None] | None = None,
    ) -> CheckpointFuture:
        """Counts and writes a checkpoint, numbered by the counter unless a number is given."""
        refuse_in_trace("saved")
        with self._writer.turn():
            counter = self.save_counter
            before = counter._host_value()
            counter.assign_add(1)
            try:
                prefix = f"{file_prefix}-{int(counter) if number is None else number}"
                return self._write(prefix, options, background, record, follow)
            except BaseException:
                counter._set_host_value(before)
                raise

    def sync(self) -> None:
        """Waits until no checkpoint is being written in the background.

        Raises:
          Whatever prevented writing, unless it has been raised before, here or by the future.
        """
        self._writer.wait()


def refuse_in_trace(what: str) -> None:
    """Raises an error while a function is traced.

    Args:
      what: can't be done to a checkpoint then, e.g. ``"written"``.
    """
    if current_frame() is not None:
        raise UnsupportedError(
            f"A checkpoint can't be {what} while a function is traced; do it outside the function."
        )


def _is_async(options: CheckpointOptions | None) -> bool:
    return options is not None and options.enable_async


def _untrackable(name: str, value: Any) -> str:
    return (
        f"Checkpoint can't hold {name}={type(value).__name__}: pass a Variable, a Module, another "
        "Trackable, or a list, dict or tuple of those. For a pytree there are savax.TrackedState, "
        "whose value is the tree that was restored, and savax.train.save_tree."
    )
