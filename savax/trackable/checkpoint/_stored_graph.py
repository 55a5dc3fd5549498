"""The object graph of a checkpoint that is read: checked once, then walked by local names."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any

from savax.errors import CorruptBundleError, UnsupportedError
from savax.trackable._names import OBJECT_GRAPH_KEY
from savax.trackable._node_paths import shortest_paths
from savax.trackable.checkpoint._object_graph_codec import decode_object_graph
from savax.types._collector import collector_paused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from savax.protos import TrackableObjectGraph
    from savax.trackable.bundle import BundleReader


_MAX_TENSORS = 8  # of one attribute


class StoredGraph:
    """The nodes, edges and keys that a checkpoint holds.

    Args:
      proto: the checkpoint's object graph.
      keys: keys of the checkpoint's tensors.
      source: how to call the checkpoint in messages.

    Raises:
      CorruptBundleError: the graph is empty, an edge leads to a node that doesn't exist, two edges
        of a node have one name, or a key isn't in the checkpoint.
    """

    def __init__(self, proto: TrackableObjectGraph, keys: Collection[str], source: str) -> None:
        self.nodes = list(proto.nodes)
        self.source = source
        self._tensors: list[dict[str, str]] = [{} for _ in self.nodes]
        self._paths: list[str] = []
        self._slots_on: dict[int, list[tuple[int, Any]]] = {}
        for owner_id, node in enumerate(self.nodes):
            for slot in node.slot_variables:
                on_variable = self._slots_on.setdefault(slot.original_variable_node_id, [])
                on_variable.append((owner_id, slot))
        problems = list(self._problems(keys))
        if problems:
            more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
            raise CorruptBundleError(
                f"The object graph of {source} contradicts itself: {'; '.join(problems[:5])}{more}."
            )

    def _problems(self, keys: Collection[str]) -> Iterator[str]:
        count = len(self.nodes)
        in_order: list[str] = []
        if not count:
            yield "it has no nodes"
        for index, node in enumerate(self.nodes):
            names = set()
            for child in node.children:
                if not 0 <= child.node_id < count:
                    yield f"node {index} has the child {child.node_id} of {count}"
                names.add(child.local_name)
            if len(names) != len(node.children):
                yield f"node {index} has several children of one name"
            for attribute in node.attributes:
                key = attribute.checkpoint_key
                endings = [""] if key in keys else None
                if endings is None:
                    in_order = in_order or sorted(keys)
                    endings = _endings(key, in_order)
                if not endings:
                    yield f"node {index} has values under {key!r}, not there"
                for ending in endings:
                    self._tensors[index][attribute.name + ending] = key + ending
            for slot in node.slot_variables:
                ids = (slot.original_variable_node_id, slot.slot_variable_node_id)
                if not all(0 <= node_id < count for node_id in ids):
                    yield f"node {index} has a slot variable between the nodes {ids} of {count}"

    def holds_values(self, node_id: int) -> bool:
        """Whether a node or one below it may have values; old files don't say."""
        node = self.nodes[node_id]
        return not node.HasField("has_checkpoint_values") or node.has_checkpoint_values.value

    def keys_of(self, node_id: int) -> dict[str, str]:
        """Returns the checkpoint keys of a node's tensors.

        They are by attribute name. An attribute may stand for tensors whose names only begin with
        its own: ``table`` for ``table-keys`` and ``table-values``.
        """
        return self._tensors[node_id]

    def paths(self) -> list[str]:
        """Returns for every node how it is reached, e.g. ``root.layers.0``."""
        if not self._paths:
            self._paths = self._find_paths()
        return self._paths

    def _find_paths(self) -> list[str]:
        found = shortest_paths(self.nodes)
        ways = [found.get(node_id, f"node {node_id}") for node_id in range(len(self.nodes))]
        # By the ways alone: where slot variables have slot variables, names would double each time.
        paths = list(ways)
        for original_id, slots in self._slots_on.items():
            for owner_id, slot in slots:
                name = f"{ways[owner_id]}.slot({slot.slot_name!r}, {ways[original_id]})"
                paths[slot.slot_variable_node_id] = name
        return paths

    def slots_of(self, node_id: int) -> Any:
        """Returns references to the slot variables of an optimizer's node."""
        return self.nodes[node_id].slot_variables

    def slot_ids(self) -> set[int]:
        """Returns the node ids of all slot variables."""
        return {
            slot.slot_variable_node_id for slots in self._slots_on.values() for _, slot in slots
        }

    def slots_on(self, node_id: int) -> list[tuple[int, Any]]:
        """Returns optimizers' node ids and references to their slots that a Variable's node has."""
        return self._slots_on.get(node_id, [])


def _endings(key: str, keys: list[str]) -> list[str]:
    """Returns what follows a key in other keys, as tensors of one attribute are called.

    Args:
      key: of the attribute.
      keys: of all tensors, sorted.
    """
    first = bisect.bisect_left(keys, key)
    found = keys[first : first + _MAX_TENSORS]
    endings = [other.removeprefix(key) for other in found if key and other.startswith(key)]
    return [ending for ending in endings if ending[:1] in ("-", "_") and "/" not in ending]


@collector_paused()
def read_stored_graph(bundle: BundleReader) -> StoredGraph:
    """Returns the object graph of an open checkpoint.

    Raises:
      UnsupportedError: the checkpoint has none.
      CorruptBundleError: it is damaged; see ``StoredGraph``.
    """
    if OBJECT_GRAPH_KEY not in bundle:
        raise UnsupportedError(
            f"The checkpoint {bundle.prefix!r} holds names and values but no object graph, as "
            "TensorFlow 1 wrote them, so it can't be restored into objects by their places. "
            "Restore it with savax.train.restore_by_name, or read it with "
            "savax.train.load_checkpoint."
        )
    graph_bytes: Any = bundle.read(OBJECT_GRAPH_KEY)[()]  # bytes if it is a string scalar
    proto = decode_object_graph(graph_bytes, bundle.prefix)
    return StoredGraph(proto, bundle, bundle.prefix)
