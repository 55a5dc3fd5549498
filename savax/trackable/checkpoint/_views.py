"""Views of object graphs, in a checkpoint and in memory, to look at and to compare."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from savax.errors import InvalidArgumentError
from savax.trackable._base import SaveType, Trackable
from savax.trackable._object_graph import freeze_object_graph
from savax.trackable.bundle import BundleReader
from savax.trackable.checkpoint._prefix import resolve_prefix
from savax.trackable.checkpoint._stored_graph import read_stored_graph

if TYPE_CHECKING:
    from savax.types import PathLike


class TrackableView:
    """The objects that can be reached from a root.

    Args:
      root: where to start.

    Raises:
      InvalidArgumentError: the root is no Trackable.
    """

    def __init__(self, root: Trackable) -> None:
        _require_trackable(root)
        self._root = root

    @property
    def root(self) -> Trackable:
        """Where the view starts."""
        return self._root

    @classmethod
    def children(
        cls, obj: Trackable, save_type: SaveType = "checkpoint", **kwargs: Any
    ) -> dict[str, Trackable]:
        """Returns an object's children by local name; a SavedModel has functions among them."""
        _require_trackable(obj)
        return dict(obj._trackable_children(save_type, **kwargs))

    def descendants(self) -> list[Trackable]:
        """Returns all objects, the root first, breadth first."""
        graph = freeze_object_graph(self._root, with_slots=False)
        return [node.obj for node in graph.nodes]


class CheckpointView:
    """The objects that a checkpoint was made of, by node ids; the root is 0.

    Args:
      save_path: see ``Checkpoint.restore``.

    Raises:
      NotFoundError: there is no such checkpoint.
      UnsupportedError: the checkpoint was written by TensorFlow 1 and has no object graph.
    """

    def __init__(self, save_path: PathLike) -> None:
        with BundleReader(resolve_prefix(save_path)) as bundle:
            self._stored = read_stored_graph(bundle)

    def children(self, node_id: int) -> dict[str, int]:
        """Returns the ids of a node's children by local name.

        Raises:
          InvalidArgumentError: there is no such node.
        """
        if not 0 <= node_id < len(self._stored.nodes):
            raise InvalidArgumentError(
                f"The checkpoint {self._stored.source!r} has the nodes 0 to "
                f"{len(self._stored.nodes) - 1}, and no {node_id}."
            )
        return {child.local_name: child.node_id for child in self._stored.nodes[node_id].children}

    def descendants(self) -> list[int]:
        """Returns the ids of all nodes that can be reached by names, breadth first."""
        found = {0: None}  # a set that keeps the order
        pending = deque([0])
        while pending:
            for child_id in self.children(pending.popleft()).values():
                if child_id not in found:
                    found[child_id] = None
                    pending.append(child_id)
        return list(found)

    def match(self, obj: Trackable) -> dict[int, Trackable]:
        """Returns the objects that stand at the same place, by node id.

        Args:
          obj: the root.

        Raises:
          InvalidArgumentError: the root is no Trackable.
        """
        _require_trackable(obj)
        found = {0: obj}
        pending = deque([0])
        while pending:
            node_id = pending.popleft()
            children = found[node_id]._trackable_children()
            for name, child_id in self.children(node_id).items():
                if child_id not in found and name in children:
                    found[child_id] = children[name]
                    pending.append(child_id)
        return found

    def diff(self, obj: Trackable) -> tuple[dict[int, Trackable], list[int], list[Trackable]]:
        """Compares the checkpoint with the objects that can be reached from a root.

        ``Checkpoint.compare`` says the same, and more, by path.

        Args:
          obj: the root.

        Returns:
          What ``match`` returns; ids of other nodes of the checkpoint; other objects.
        """
        matched = self.match(obj)
        known = {id(trackable) for trackable in matched.values()}
        only_stored = [node_id for node_id in self.descendants() if node_id not in matched]
        others = [found for found in TrackableView(obj).descendants() if id(found) not in known]
        return matched, only_stored, others


def _require_trackable(obj: Any) -> None:
    if not isinstance(obj, Trackable):
        raise InvalidArgumentError(f"Expected a Trackable, found a {type(obj).__name__}.")
