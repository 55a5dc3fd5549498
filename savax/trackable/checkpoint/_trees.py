"""Pytrees in checkpoints without objects around them: written as they are, restored as new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.errors import UnsupportedOptionError
from savax.trackable._base import Trackable
from savax.trackable._tree_parts import Branch, part_value, tree_part
from savax.trackable.bundle import BundleReader
from savax.trackable.checkpoint._checkpoint import Checkpoint
from savax.trackable.checkpoint._prefix import resolve_prefix
from savax.trackable.checkpoint._report import Mismatch
from savax.trackable.checkpoint._restoration import Restoration, mismatch_error
from savax.trackable.checkpoint._saving import refuse_in_trace
from savax.trackable.checkpoint._status import NameBasedLoadStatus
from savax.trackable.checkpoint._stored_tree import stored_tree
from savax.trackable.checkpoint._tree_leaves import (
    RestoredLeafMaker,
    SavedLeafMaker,
    leaf_result,
)
from savax.types._collector import collector_paused_for

if TYPE_CHECKING:
    from savax.trackable._tree_parts import LeafMaker
    from savax.trackable.checkpoint._options import CheckpointOptions
    from savax.trackable.checkpoint._report import RestoreReport
    from savax.types import PathLike


class _Tree(Checkpoint):
    """A tree as a checkpoint: what it holds is at the root.

    Args:
      tree: the tree.
      leaves: what to make of its leaves.
    """

    part: Any

    def __init__(self, tree: Any, leaves: LeafMaker) -> None:
        super().__init__()
        object.__setattr__(self, "part", tree_part(tree, "root", leaves))  # no child of that name
        if isinstance(self.part, Branch):
            self._edges.update(self.part._edges)
        elif isinstance(self.part, Trackable):
            self._edges["value"] = self.part  # a leaf alone has no name of its own

    def restore_checked(
        self, prefix: str, options: CheckpointOptions | None, strict: bool
    ) -> RestoreReport:
        """Gives the leaves their values, if they may have them, and says which they are."""
        refuse_in_trace("restored")
        graph, counter = self._graph_with_counter()
        with collector_paused_for(len(graph.nodes)):
            restoration = Restoration(prefix, True if options is None else options.verify)
            return restoration.restore_checked(graph, counter, lambda r: _check(r, strict))


def save_tree(prefix: PathLike, tree: Any, *, options: CheckpointOptions | None = None) -> str:
    """Writes a pytree as a checkpoint.

    Leaves are arrays (of numpy or JAX), Variables, Python numbers and typed random keys. Each is
    stored by its place: the names of attributes, dict keys and positions on the way to it, as
    TensorFlow stores the Variables of plain objects. None, functions, static fields and fields
    that hold text aren't saved.

    Args:
      prefix: path without suffixes. Missing directories are made; an older checkpoint of that
        prefix is replaced at once, or not at all if something fails.
      tree: lists, tuples, dicts, dataclasses, and whatever is registered with JAX as a pytree.
      options: how to write. Writing in the background needs a ``Checkpoint``.

    Returns:
      The prefix.

    Raises:
      InvalidArgumentError: something is neither a tree nor a leaf, or two leaves have one name; the
        message has the path.
      EscapedTracerError: a leaf exists only while JAX traces a function.
      UnsupportedOptionError: the options ask for writing in the background.
    """
    if options is not None and options.enable_async:
        raise UnsupportedOptionError(
            "save_tree has no later call that could report an error of the background. Hold the "
            "tree in a Checkpoint, Checkpoint(state=TrackedState(tree)), to save it there."
        )
    return _Tree(tree, SavedLeafMaker()).write(prefix, options)


def restore_tree(
    save_path: PathLike,
    target: Any = None,
    *,
    strict: bool = True,
    cast: bool = False,
    options: CheckpointOptions | None = None,
) -> Any:
    """Returns the pytree of a checkpoint.

    Args:
      save_path: a prefix, an index file, a SavedModel directory, or a directory with a state file.
        Who wrote the checkpoint, and from what objects, doesn't matter: only names do.
      target: a pytree of what is wanted. Its leaves say dtype and shape, and what kind of value
        comes back: arrays of JAX and ``jax.ShapeDtypeStruct`` with their sharding, numpy arrays,
        Python numbers, random keys of their implementation. It isn't changed. None returns nested
        dicts and lists of numpy arrays, as the checkpoint names them.
      strict: whether the target and the checkpoint must have the same leaves. Otherwise leaves that
        the checkpoint doesn't have stay the target's, and the rest of the checkpoint is left out.
      cast: whether to convert values of another dtype: fractions to fractions, with rounding,
        and integers to what holds each of them exactly.
      options: ``verify`` says how to check the data.

    Returns:
      A tree of the target's structure.

    Raises:
      NotFoundError: there is no such checkpoint.
      IncompleteRestoreError: the leaves differ; the message lists all that are missing, left over
        or of another shape or dtype. If not strict: no leaf was found.
      ShapeMismatchError: only shapes differ, or shapes and dtypes (DTypeMismatchError if only
        dtypes do); the message lists all.
      InvalidArgumentError: something in the target is neither a tree nor a leaf; or a random key is
        of another implementation than the stored one.
      CorruptBundleError: the checkpoint is damaged.
      UnsupportedError: the checkpoint was written by TensorFlow 1 and has no object graph; or there
        is no target, and it holds what only TensorFlow can read.
    """
    prefix = resolve_prefix(save_path)
    if target is None:
        with BundleReader(prefix, verify=True if options is None else options.verify) as bundle:
            return stored_tree(bundle)
    leaves = RestoredLeafMaker(cast)
    root = _Tree(target, leaves)
    report = root.restore_checked(prefix, options, strict)
    unfit: dict[str, str] = {}
    tree = part_value(root.part, lambda leaf: leaf_result(leaf, unfit))
    if unfit:
        keys = dict(report.restored)
        mismatches = [Mismatch(path, keys[path], problem) for path, problem in unfit.items()]
        raise mismatch_error(prefix, mismatches)
    return tree


def compare_tree(save_path: PathLike, target: Any, *, cast: bool = False) -> RestoreReport:
    """Returns what ``restore_tree`` finds for a target, without reading values.

    Args:
      save_path: see ``restore_tree``.
      target: see ``restore_tree``.
      cast: see ``restore_tree``.

    Raises:
      NotFoundError: there is no such checkpoint.
      InvalidArgumentError: something in the target is neither a tree nor a leaf.
      CorruptBundleError: the checkpoint's index or object graph is damaged.
      UnsupportedError: the checkpoint was written by TensorFlow 1 and has no object graph.
    """
    return _Tree(target, RestoredLeafMaker(cast)).compare(save_path)


def _check(report: RestoreReport, strict: bool) -> None:
    """Raises an error if leaves differ more than they may."""
    if report.mismatched and not (strict and (report.missing or report.unused)):
        raise mismatch_error(str(report.prefix), report.mismatched)
    status = NameBasedLoadStatus(report)
    if strict:
        status.assert_consumed()
    elif report.missing and not report.restored:
        status.assert_existing_objects_matched()
