"""Which stored node belongs to which object: a walk over both graphs, side by side, from a root.

Nothing here reads values or changes objects.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from savax.trackable._base import SlotOwner, Trackable
from savax.trackable.checkpoint._registered_savers import SaverAssignment, find_saver
from savax.types._collector import collector_paused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.trackable._object_graph import ObjectGraph
    from savax.trackable.checkpoint._stored_graph import StoredGraph


class Assignment(NamedTuple):
    """Values for one object.

    Attributes:
      obj: the object.
      keys: checkpoint keys by the attribute names that the object knows.
    """

    obj: Trackable
    keys: Mapping[str, str]


class Awaited(NamedTuple):
    """A stored node whose object doesn't exist yet: the child of a node, by its local name."""

    parent_id: int
    name: str
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
      by_savers: objects whose values registered savers restore.
    """

    pairs: dict[int, list[Trackable]]
    assignments: list[Assignment]
    awaited: list[Awaited]
    unknown: list[tuple[int, str]]
    shadowed: list[int]
    by_savers: list[SaverAssignment]


@collector_paused()
def match_objects(
    graph: ObjectGraph,
    stored: StoredGraph,
    known: Mapping[int, Sequence[Trackable]],
    stored_root: int = 0,
    *,
    with_slots: bool = True,
) -> Match:
    """Pairs objects with stored nodes by the local names that lead to them.

    Args:
      graph: the objects; its root stands for ``stored_root``.
      stored: the checkpoint's graph.
      known: objects by stored node id, from earlier walks; slot variables may belong to them, or
        be theirs.
      stored_root: where the walk starts in the checkpoint.
      with_slots: whether to pair slot variables too.
    """
    match = Match({}, [], [], [], [], [])
    owners: dict[int, int] = {}  # node id -> stored id whose values it gets
    visited = {(0, stored_root)}
    pending = deque([(0, stored_root)])
    while pending:
        node_id, stored_id = pending.popleft()
        obj = graph.nodes[node_id].obj
        match.pairs.setdefault(stored_id, []).append(obj)
        if owners.setdefault(node_id, stored_id) == stored_id:
            _assign(obj, stored_id, stored, match)
        elif stored.nodes[stored_id].attributes:
            match.shadowed.append(stored_id)
        stored_children = stored.nodes[stored_id].children
        children = dict(graph.nodes[node_id].children) if stored_children else {}
        for child in stored_children:
            if child.local_name not in children:
                if stored.holds_values(child.node_id):
                    match.awaited.append(Awaited(node_id, child.local_name, child.node_id))
                continue
            pair = (children[child.local_name], child.node_id)
            if pair not in visited:
                visited.add(pair)
                pending.append(pair)
    if with_slots:
        _match_slots(stored, known, match)
    return match


def _assign(obj: Trackable, stored_id: int, stored: StoredGraph, match: Match) -> None:
    by_saver = find_saver(obj, stored.nodes[stored_id])
    if by_saver is not None:
        match.by_savers.append(by_saver)
        return
    tensors = stored.keys_of(stored_id)
    if not tensors:
        return
    known = obj._tensor_names()
    keys = {}
    for name, key in tensors.items():
        if name in known:
            keys[name] = key
        else:
            match.unknown.append((stored_id, name))
    if keys:
        match.assignments.append(Assignment(obj, keys))


def match_slot(slot: Trackable, stored_id: int, stored: StoredGraph) -> Match:
    """Pairs a single slot variable with its stored node."""
    match = Match({stored_id: [slot]}, [], [], [], [], [])
    _assign(slot, stored_id, stored, match)
    return match


def _match_slots(
    stored: StoredGraph, known: Mapping[int, Sequence[Trackable]], match: Match
) -> None:
    """Pairs slot variables of whose optimizer and Variable one at least was found in this walk."""
    found = dict(match.pairs)
    references = [(owner_id, slot) for owner_id in found for slot in stored.slots_of(owner_id)]
    for original_id in found:
        references += [slot for slot in stored.slots_on(original_id) if slot[0] not in found]
    for owner_id, reference in references:
        original_id = reference.original_variable_node_id
        slot_id = reference.slot_variable_node_id
        for owner in (*known.get(owner_id, ()), *found.get(owner_id, ())):
            if not isinstance(owner, SlotOwner):
                continue
            for original in (*known.get(original_id, ()), *found.get(original_id, ())):
                slot = owner.get_slot(original, reference.slot_name)
                if slot is None or any(slot is other for other in known.get(slot_id, ())):
                    continue
                match.pairs.setdefault(slot_id, []).append(slot)
                _assign(slot, slot_id, stored, match)
