"""Checkpoint: writes the values of objects to files and restores them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from savax.trackable._object_graph import freeze_object_graph
from savax.trackable._variable import Variable
from savax.trackable.checkpoint._prefix import resolve_prefix
from savax.trackable.checkpoint._restoration import Restoration
from savax.trackable.checkpoint._saving import SAVE_COUNTER, SavingCheckpoint, refuse_in_trace
from savax.trackable.checkpoint._status import (
    CheckpointLoadStatus,
    InitializationOnlyStatus,
    LoadStatus,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.trackable._object_graph import ObjectGraph
    from savax.trackable.checkpoint._options import CheckpointOptions
    from savax.trackable.checkpoint._report import RestoreReport
    from savax.types import PathLike


class Checkpoint(SavingCheckpoint):
    """Writes the values of objects to checkpoints, and restores them.

    Args:
      root: the object whose children the checkpoint has at its root; without it, they are the
        keyword arguments.
      **kwargs: Trackables, or lists, dicts and tuples of those, by local name.

    Raises:
      InvalidArgumentError: the root or an argument can't be tracked, or the root has another child
        of that name already.
    """

    def read(self, save_path: PathLike, options: CheckpointOptions | None = None) -> LoadStatus:
        """Restores a checkpoint; unlike ``restore``, it makes no save counter.

        Args:
          save_path: see ``restore``.
          options: see ``restore``.

        Returns:
          A status whose methods check what was restored.

        Raises:
          See ``restore``.
        """
        return CheckpointLoadStatus(self._restore(save_path, options), self._freezer(options))

    def restore(
        self, save_path: PathLike | None, options: CheckpointOptions | None = None
    ) -> LoadStatus:
        """Restores a checkpoint into the objects.

        Objects and stored values meet by the local names on the way from the root. Values without
        an object wait until one is assigned to an attribute of that name.

        Args:
          save_path: a prefix, an index file, a SavedModel directory, or a directory with a state
            file (its latest checkpoint is meant). None restores nothing.
          options: how to restore: ``verify`` and ``experimental_skip_slot_variables``.

        Returns:
          A status whose methods check what was restored, e.g. ``assert_consumed()``.

        Raises:
          NotFoundError: there is no such checkpoint.
          ShapeMismatchError: a value doesn't fit its Variable (DTypeMismatchError if only dtypes
            differ). The message lists all of them, and nothing has been assigned.
          CorruptBundleError: the checkpoint is damaged; nothing has been assigned.
          UnsupportedError: the checkpoint was written by TensorFlow 1 and has no object graph.
        """
        if save_path is None:
            return InitializationOnlyStatus()
        implicit = self._find_save_counter() is None
        restoration = self._restore(save_path, options)
        counter = self.save_counter
        return CheckpointLoadStatus(
            restoration, self._freezer(options), counter if implicit else None
        )

    def compare(self, save_path: PathLike) -> RestoreReport:
        """Returns what ``restore`` would do, values that don't fit included; changes nothing.

        Args:
          save_path: see ``restore``.

        Raises:
          NotFoundError: there is no such checkpoint.
          CorruptBundleError: the checkpoint's index or object graph is damaged.
          UnsupportedError: the checkpoint was written by TensorFlow 1 and has no object graph.
        """
        graph, counter = self._graph_with_counter()
        self._writer.wait()
        restoration = Restoration(resolve_prefix(save_path))
        restoration.compare(graph)
        return restoration.report(graph, counter)

    def _graph_with_counter(self) -> tuple[ObjectGraph, Variable | None]:
        """Returns the graph that ``restore`` would see, and the counter that it would make."""
        extra, counter = self._attached, None
        if self._find_save_counter() is None:
            counter = Variable(np.int64(0), trainable=False, name=SAVE_COUNTER)
            extra = [*extra, (SAVE_COUNTER, counter)]
        return freeze_object_graph(self._graph_root, extra=extra), counter

    def _restore(self, save_path: PathLike, options: CheckpointOptions | None) -> Restoration:
        refuse_in_trace("restored")
        verify = True if options is None else options.verify
        with self._writer.turn():
            restoration = Restoration(
                resolve_prefix(save_path), verify, with_slots=_with_slots(options)
            )
            restoration.restore(self._freeze())
        return restoration

    def _freezer(self, options: CheckpointOptions | None) -> Callable[[], ObjectGraph]:
        return functools.partial(self._freeze, _with_slots(options))


def _with_slots(options: CheckpointOptions | None) -> bool:
    return options is None or not options.experimental_skip_slot_variables
