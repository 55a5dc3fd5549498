"""The object graph as checkpoints hold it: a TrackableObjectGraph beside the tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from savax.errors import CorruptBundleError, CorruptSavedModelError
from savax.protos import TrackableObjectGraph, parse, serialize
from savax.trackable._names import OBJECT_GRAPH_KEY, checkpoint_key
from savax.trackable._registry import SAVER_REGISTRY
from savax.trackable._resource import TABLE_ATTRIBUTE, TABLE_KEYS, TABLE_VALUES
from savax.trackable._variable import Variable
from savax.types._collector import collector_paused

if TYPE_CHECKING:
    from savax.trackable._base import Trackable
    from savax.trackable._object_graph import ObjectGraph


class EncodedObjectGraph(NamedTuple):
    """What a checkpoint of an object graph consists of.

    Attributes:
      proto: nodes, edges and keys.
      tensors: checkpoint keys and values, in the order of nodes; without the proto's own entry.
      savers: objects that registered savers write, by their names, for each saver.
    """

    proto: TrackableObjectGraph
    tensors: list[tuple[str, Any]]
    savers: dict[str, dict[str, Trackable]]


@collector_paused()
def encode_object_graph(graph: ObjectGraph) -> EncodedObjectGraph:
    """Returns a graph's proto and the tensors of its nodes."""
    proto = TrackableObjectGraph()
    tensors: list[tuple[str, Any]] = []
    savers: dict[str, dict[str, Trackable]] = {}
    holders: list[int] = []
    for node in graph.nodes:
        stored = proto.nodes.add()
        for name, child_id in node.children:
            stored.children.add(node_id=child_id, local_name=name)
        saver = SAVER_REGISTRY.name_of(node.obj)
        if saver is not None:
            holders.append(node.id)
            stored.registered_saver.name = saver
            stored.registered_saver.object_name = graph.object_name(node.id)
            savers.setdefault(saver, {})[graph.object_name(node.id)] = node.obj
            continue
        values = node.obj._serialize_to_tensors()
        if not values:
            continue
        holders.append(node.id)
        owner_name = graph.object_name(node.id)
        full_name = node.obj.name if isinstance(node.obj, Variable) else ""
        for name in dict.fromkeys(map(attribute_of, values)):
            key = checkpoint_key(owner_name, name)
            stored.attributes.add(name=name, full_name=full_name, checkpoint_key=key)
        tensors += [(checkpoint_key(owner_name, name), value) for name, value in values.items()]
    for slot in graph.slots:
        holders.append(slot.optimizer)
        proto.nodes[slot.optimizer].slot_variables.add(
            original_variable_node_id=slot.original,
            slot_name=slot.slot_name,
            slot_variable_node_id=slot.slot,
        )
    _mark_nodes_with_values(proto, graph, holders)
    return EncodedObjectGraph(proto, tensors, savers)


def attribute_of(tensor_name: str) -> str:
    """Returns the attribute that a tensor of an object belongs to; tables have two in one."""
    return TABLE_ATTRIBUTE if tensor_name in (TABLE_KEYS, TABLE_VALUES) else tensor_name


def object_graph_tensor(proto: TrackableObjectGraph) -> tuple[str, np.ndarray[Any, Any]]:
    """Returns the key and the string tensor that hold the proto; it is a checkpoint's last."""
    return OBJECT_GRAPH_KEY, np.array(serialize(proto), dtype=object)


def decode_object_graph(data: bytes, source: str) -> TrackableObjectGraph:
    """Returns the proto of a checkpoint's object graph.

    Args:
      data: what the checkpoint holds under the graph's key.
      source: how to call the checkpoint in messages.

    Raises:
      CorruptBundleError: the value is no such proto.
    """
    what = f"The object graph of the checkpoint {source}"
    if not isinstance(data, bytes):
        raise CorruptBundleError(f"{what} should be one string, and is no string at all.")
    try:
        return parse(TrackableObjectGraph, data, what)
    except CorruptSavedModelError as error:
        raise CorruptBundleError(str(error)) from error


def _mark_nodes_with_values(
    proto: TrackableObjectGraph, graph: ObjectGraph, holders: list[int]
) -> None:
    """Sets ``has_checkpoint_values`` where a node, or one reachable from it, holds values."""
    parents: dict[int, list[int]] = {}
    for node in graph.nodes:
        for _, child_id in node.children:
            parents.setdefault(child_id, []).append(node.id)
    marked = set(holders)
    pending = list(holders)
    while pending:
        for parent in parents.get(pending.pop(), ()):
            if parent not in marked:
                marked.add(parent)
                pending.append(parent)
    for index, stored in enumerate(proto.nodes):
        stored.has_checkpoint_values.value = index in marked
