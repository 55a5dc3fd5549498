"""Which stored node belongs to which object: a walk over both graphs, side by side, from a root.

Nothing here reads values or changes objects.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING

from savax.trackable._base import SlotOwner, Trackable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.trackable._object_graph import ObjectGraph
    from savax.trackable.checkpoint._stored_graph import StoredGraph


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """Values for one object.

    Attributes:
      obj: the object.
      path: where it is, from the user's root.
      keys: checkpoint keys by the attribute names that the object knows.
    """

    obj: Trackable
    path: str
    keys: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Awaited:
    """A stored node whose object doesn't exist yet: the child of ``parent`` named ``name``."""

    parent: Trackable
    name: str
    path: str
    stored_id: int


@dataclasses.dataclass(frozen=True)
class Match:
    """How objects and stored nodes correspond.

    Attributes:
      pairs: the objects of each stored node; several if the checkpoint shares what they don't.
      assignments: what to read, each object once.
      awaited: stored nodes with values that no object stands for.
      unknown: stored node ids and names of attributes that their objects don't have.
      shadowed: stored nodes whose object got the values of another stored node already.
    """

    pairs: dict[int, list[Trackable]]
    assignments: list[Assignment]
    awaited: list[Awaited]
    unknown: list[tuple[int, str]]
    shadowed: list[int]


def match_objects(
    graph: ObjectGraph,
    stored: StoredGraph,
    known: Mapping[int, Sequence[Trackable]],
    stored_root: int = 0,
    prefix: str = "root",
) -> Match:
    """Pairs objects with stored nodes by the local names that lead to them.

    Args:
      graph: the objects; its root stands for ``stored_root``.
      stored: the checkpoint's graph.
      known: objects by stored node id, from earlier walks; slot variables may belong to them.
      stored_root: where the walk starts in the checkpoint.
      prefix: path of the objects' root, for messages.
    """
    match = Match({}, [], [], [], [])
    owners: dict[int, int] = {}  # node id -> stored id whose values it gets
    visited = {(0, stored_root)}
    pending = deque([(0, stored_root)])
    slot_owners: list[tuple[SlotOwner, int]] = []
    while pending:
        node_id, stored_id = pending.popleft()
        obj = graph.nodes[node_id].obj
        match.pairs.setdefault(stored_id, []).append(obj)
        path = prefix + graph.path_of(node_id).removeprefix("root")
        if owners.setdefault(node_id, stored_id) == stored_id:
            _assign(obj, path, stored_id, stored, match)
        elif stored.keys_of(stored_id):
            match.shadowed.append(stored_id)
        if isinstance(obj, SlotOwner):
            slot_owners.append((obj, stored_id))
        children = dict(graph.nodes[node_id].children)
        for child in stored.nodes[stored_id].children:
            if child.local_name not in children:
                if stored.holds_values(child.node_id):
                    name = child.local_name
                    match.awaited.append(Awaited(obj, name, f"{path}.{name}", child.node_id))
                continue
            pair = (children[child.local_name], child.node_id)
            if pair not in visited:
                visited.add(pair)
                pending.append(pair)
    for owner, stored_id in slot_owners:
        _match_slots(owner, stored_id, stored, known, match)
    return match


def _assign(obj: Trackable, path: str, stored_id: int, stored: StoredGraph, match: Match) -> None:
    keys = stored.keys_of(stored_id)
    if not keys:
        return
    known = obj._tensor_names()
    match.unknown.extend((stored_id, name) for name in keys if name not in known)
    taken = {name: key for name, key in keys.items() if name in known}
    if taken:
        match.assignments.append(Assignment(obj, path, taken))


def _match_slots(
    owner: SlotOwner,
    stored_id: int,
    stored: StoredGraph,
    known: Mapping[int, Sequence[Trackable]],
    match: Match,
) -> None:
    for reference in stored.slots_of(stored_id):
        original_id = reference.original_variable_node_id
        for original in (*known.get(original_id, ()), *match.pairs.get(original_id, ())):
            slot = owner.get_slot(original, reference.slot_name)
            if slot is None:
                continue
            slot_id = reference.slot_variable_node_id
            match.pairs.setdefault(slot_id, []).append(slot)
            path = f"slot {reference.slot_name!r} of the stored node {original_id}"
            _assign(slot, path, slot_id, stored, match)
