"""Giving a checkpoint's values to objects: at once, and to children that are made later."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from savax.errors import (
    DTypeMismatchError,
    InvalidArgumentError,
    ShapeMismatchError,
    UnsupportedError,
)
from savax.trackable._names import OBJECT_GRAPH_KEY
from savax.trackable._object_graph import ObjectGraph, freeze_object_graph
from savax.trackable.bundle import BundleReader
from savax.trackable.checkpoint._matching import Assignment, Match, match_objects
from savax.trackable.checkpoint._object_graph_codec import decode_object_graph
from savax.trackable.checkpoint._stored_graph import StoredGraph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.trackable._base import Trackable

_SHOWN_PROBLEMS = 20


class Restoration:
    """One restored checkpoint: what it holds and who got what.

    It lives as long as objects wait for values from it, and keeps the checkpoint's files open
    until then, so that a later one under the same prefix changes nothing.

    Args:
      prefix: of the checkpoint.

    Raises:
      NotFoundError: there is no such checkpoint.
      UnsupportedError: the checkpoint has no object graph.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._bundle = BundleReader(prefix)
        if OBJECT_GRAPH_KEY not in self._bundle:
            raise UnsupportedError(
                f"The checkpoint {prefix!r} holds names and values but no object graph, as "
                "TensorFlow 1 wrote them, so it can't be restored into objects. Read it with "
                "savax.train.load_checkpoint."
            )
        graph_bytes: Any = self._bundle.read(OBJECT_GRAPH_KEY)[()]  # bytes if it is a string scalar
        proto = decode_object_graph(graph_bytes, prefix)
        self.stored = StoredGraph(proto, self._bundle, prefix)
        self.objects: dict[int, list[Trackable]] = {}
        self.unused: list[tuple[int, str]] = []
        self._restored: dict[int, Trackable] = {}
        self._num_awaited = 0

    def restore(self, graph: ObjectGraph, stored_id: int = 0, path: str = "root") -> None:
        """Assigns values to all objects of a graph that the checkpoint has.

        Args:
          graph: objects; its root stands for the stored node.
          stored_id: where to start in the checkpoint.
          path: of the graph's root, for messages.

        Raises:
          ShapeMismatchError: a value doesn't fit its Variable (DTypeMismatchError if only dtypes
            differ). The message lists all of them, and nothing has been assigned.
          CorruptBundleError: a value's bytes are damaged.
        """
        match = match_objects(graph, self.stored, self.objects, stored_id)
        self._check(match.assignments, graph, path)
        # All is read before anything is assigned, so that a damaged file changes nothing.
        keys = {key for assignment in match.assignments for key in assignment.keys.values()}
        values = dict(self._bundle.read_many(sorted(keys)))
        for assignment in match.assignments:
            taken = {name: values[key] for name, key in assignment.keys.items()}
            assignment.obj._restore_from_tensors(taken)
            self._restored[id(assignment.obj)] = assignment.obj
        self._note(match)
        for awaited in match.awaited:
            parent_path = path + graph.path_of(awaited.parent_id).removeprefix("root")
            pending = PendingChild(self, awaited.stored_id, f"{parent_path}.{awaited.name}")
            graph.nodes[awaited.parent_id].obj._await_restoration(awaited.name, pending)
        self._num_awaited += len(match.awaited)
        if not self._num_awaited:
            self._bundle.close()

    def restore_awaited(self, child: Trackable, stored_id: int, path: str) -> None:
        """Assigns values to a child that has just been tracked, and to what it leads to."""
        self._num_awaited -= 1
        self.restore(freeze_object_graph(child), stored_id, path)

    def was_restored(self, obj: Trackable) -> bool:
        """Whether an object got values."""
        return id(obj) in self._restored

    def _note(self, match: Match) -> None:
        for stored_id, objects in match.pairs.items():
            self.objects.setdefault(stored_id, []).extend(objects)
        self.unused.extend(match.unknown)
        for stored_id in match.shadowed:
            self.unused.extend((stored_id, name) for name in self.stored.keys_of(stored_id))

    def _check(self, assignments: Sequence[Assignment], graph: ObjectGraph, root: str) -> None:
        problems: list[tuple[str, bool]] = []
        for assignment in assignments:
            entries = {name: self._bundle.entry(key) for name, key in assignment.keys.items()}
            for problem in assignment.obj._restoration_problems(entries):
                path = graph.path_of(assignment.obj)
                key = next(iter(assignment.keys.values()))
                text = f"{root}{path.removeprefix('root')}: {problem} under {key!r}"
                problems.append((text, problem.startswith("expected dtype")))
        if not problems:
            return
        only_dtypes = all(about_dtype for _, about_dtype in problems)
        kind: type[InvalidArgumentError] = DTypeMismatchError if only_dtypes else ShapeMismatchError
        lines = "".join(f"\n  {text}" for text, _ in problems[:_SHOWN_PROBLEMS])
        more = len(problems) - _SHOWN_PROBLEMS
        rest = f"\n  and {more} more" if more > 0 else ""
        raise kind(
            f"{len(problems)} values of the checkpoint {self.prefix!r} don't fit, so nothing was "
            f"restored:{lines}{rest}"
        )


@dataclasses.dataclass(frozen=True)
class PendingChild:
    """A stored node that waits until an object of its name is tracked."""

    restoration: Restoration
    stored_id: int
    path: str

    def restore(self, child: Trackable) -> None:
        """Gives values to the child and to what can be reached from it."""
        self.restoration.restore_awaited(child, self.stored_id, self.path)


def restore_objects(root: Trackable, prefix: str) -> Restoration:
    """Restores a checkpoint into the objects that can be reached from a root.

    Args:
      root: stands for the checkpoint's root.
      prefix: of the checkpoint.

    Returns:
      What was restored and what wasn't.
    """
    restoration = Restoration(prefix)
    restoration.restore(freeze_object_graph(root))
    return restoration
