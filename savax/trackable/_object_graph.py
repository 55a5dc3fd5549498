"""The object graph of a root, frozen: nodes with ids, paths and edges that change no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from savax.errors import InvalidArgumentError, KeyNotFoundError, TrackingError
from savax.trackable._base import SaveType, SlotOwner, Trackable
from savax.trackable._names import checkpoint_key, object_name, slot_variable_name
from savax.types._collector import collector_paused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Node(NamedTuple):
    """A Trackable in the graph.

    Attributes:
      id: its number, breadth first from the root, which is 0; slot variables come last.
      obj: the Trackable.
      parent: id of the node through which it was found first; None for the root and slots.
      name: local name of that edge.
      children: edges as pairs of local name and node id, in tracking order.
    """

    id: int
    obj: Trackable
    parent: int | None
    name: str
    children: tuple[tuple[str, int], ...]


class SlotReference(NamedTuple):
    """What makes a node a slot variable: ids of the nodes involved, and the slot's name."""

    optimizer: int
    original: int
    slot_name: str
    slot: int


class ObjectGraph:
    """The frozen graph that ``freeze_object_graph`` returns.

    Attributes:
      nodes: all nodes; a node's id is its position.
      slots: slot variables, in the order of their nodes.
      stand_ins: objects in the places of others, by the others' ids.
    """

    def __init__(
        self,
        nodes: tuple[Node, ...],
        slots: tuple[SlotReference, ...] = (),
        stand_ins: Mapping[int, Trackable] | None = None,
    ) -> None:
        self.nodes = nodes
        self.slots = slots
        self.stand_ins = stand_ins or {}
        self._ids = {id(node.obj): node.id for node in nodes}
        self._ids |= {other: self._ids[id(obj)] for other, obj in self.stand_ins.items()}
        self._slot_of = {slot.slot: slot for slot in slots}

    @property
    def root(self) -> Trackable:
        """The object from which all others are reached."""
        return self.nodes[0].obj

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, obj: object) -> bool:
        return id(obj) in self._ids

    def id_of(self, obj: Trackable) -> int:
        """Returns the id of an object's node.

        Raises:
          KeyNotFoundError: the object can't be reached from the root.
        """
        found = self._ids.get(id(obj))
        if found is None:
            raise KeyNotFoundError(
                f"{obj!r} can't be reached from the root, a {type(self.root).__name__}. "
                "Assign it to an attribute of an object that can."
            )
        return found

    def node_of(self, obj: Trackable) -> Node:
        """Returns an object's node; see ``id_of``."""
        return self.nodes[self.id_of(obj)]

    def path_of(self, obj: Trackable | int) -> str:
        """Returns how users find an object or node id: ``root.layers.0.kernel``."""
        node_id = obj if isinstance(obj, int) else self.id_of(obj)
        slot = self._slot_of.get(node_id)
        if slot is not None:
            original = self.path_of(slot.original)
            return f"{self.path_of(slot.optimizer)}.slot({slot.slot_name!r}, {original})"
        return ".".join(["root", *self.local_names(node_id)])

    def local_names(self, node_id: int) -> list[str]:
        """Returns the local names on the way from the root to a node."""
        names = []
        node = self.nodes[node_id]
        while node.parent is not None:
            names.append(node.name)
            node = self.nodes[node.parent]
        return names[::-1]

    def object_name(self, node_id: int) -> str:
        """Returns what the checkpoint keys of a node start with."""
        slot = self._slot_of.get(node_id)
        if slot is None:
            return object_name(self.local_names(node_id))
        return slot_variable_name(
            self.object_name(slot.original), self.object_name(slot.optimizer), slot.slot_name
        )

    def checkpoint_key(self, node: Node | int, attribute: str) -> str:
        """Returns the key under which a checkpoint holds one of a node's tensors."""
        node_id = node if isinstance(node, int) else node.id
        return checkpoint_key(self.object_name(node_id), attribute)


@collector_paused()
def freeze_object_graph(
    root: Trackable,
    *,
    save_type: SaveType = "checkpoint",
    extra: Iterable[tuple[str, Trackable]] = (),
    stand_ins: Mapping[int, Trackable] | None = None,
    with_slots: bool = True,
) -> ObjectGraph:
    """Walks the objects that can be reached from a root, breadth first, and numbers them.

    An object that is reached several times is one node; its path is the first one found.

    Args:
      root: node 0.
      save_type: which edges to follow; SavedModels have functions and signatures too.
      extra: further edges of the root, after its own; a name that the root has already must lead
        to the same object.
      stand_ins: objects to which edges lead in the place of others, by the others' ids.
      with_slots: whether to include slot variables.

    Raises:
      InvalidArgumentError: the root is no Trackable.
      TrackingError: a container can't be saved (the message has its path), two edges of the root
        have one name, or a slot variable is also a child.
    """
    if not isinstance(root, Trackable):
        raise InvalidArgumentError(
            f"A {type(root).__name__} can't be saved: make it an attribute of a savax.Module or of "
            "another Trackable."
        )
    found: list[Trackable] = [root]
    origins: list[tuple[int | None, str]] = [(None, "root")]
    ids = {id(root): 0}
    edges: list[tuple[tuple[str, int], ...]] = []
    while len(edges) < len(found):  # found grows while it is walked
        node_id = len(edges)
        children = _children(found[node_id], save_type, origins, node_id)
        if node_id == 0:
            children = _with_extra(children, extra)
        named_ids = []
        for name, child in children.items():
            if stand_ins:
                child = stand_ins.get(id(child), child)
            child_id = ids.setdefault(id(child), len(found))
            if child_id == len(found):
                found.append(child)
                origins.append((node_id, name))
            named_ids.append((name, child_id))
        edges.append(tuple(named_ids))
    nodes = [
        Node(index, obj, *origin, children)
        for index, (obj, origin, children) in enumerate(zip(found, origins, edges, strict=True))
    ]
    slots = _add_slots(nodes, ids) if with_slots else ()
    return ObjectGraph(tuple(nodes), tuple(slots), stand_ins)


def _children(
    obj: Trackable, save_type: SaveType, origins: list[tuple[int | None, str]], node_id: int
) -> Mapping[str, Trackable]:
    try:
        return obj._trackable_children(save_type)
    except TrackingError as error:
        names = []
        parent: int | None = node_id
        while parent:
            parent, name = origins[parent]
            names.append(name)
        path = ".".join(["root", *names[::-1]])
        raise type(error)(f"{path}: {error}") from error


def _with_extra(
    children: Mapping[str, Trackable], extra: Iterable[tuple[str, Trackable]]
) -> Mapping[str, Trackable]:
    combined = dict(children)
    for name, child in extra:
        if combined.setdefault(name, child) is not child:
            raise TrackingError(
                f"The root has a child named {name!r} already, a {type(combined[name]).__name__}; "
                f"a {type(child).__name__} can't have that name too."
            )
    return combined


def _add_slots(nodes: list[Node], ids: dict[int, int]) -> list[SlotReference]:
    """Adds slot variables after all other nodes, by optimizer, slot name, then original."""
    slots: list[SlotReference] = []
    originals = list(nodes)
    for owner in originals:
        if not isinstance(owner.obj, SlotOwner):
            continue
        for slot_name in owner.obj.get_slot_names():
            for original in originals:
                slot = owner.obj.get_slot(original.obj, slot_name)
                if slot is None:
                    continue
                if id(slot) in ids:
                    raise TrackingError(
                        f"A slot variable {slot_name!r} is also a child of another object, or the "
                        "slot of two Variables; a slot can be reached through its optimizer only."
                    )
                ids[id(slot)] = len(nodes)
                slots.append(SlotReference(owner.id, original.id, slot_name, len(nodes)))
                nodes.append(Node(len(nodes), slot, None, slot_name, ()))
    return slots
