"""The object graph of a model as a tree, with references where objects are shared or in cycles."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from savax.errors import CorruptSavedModelError, KeyNotFoundError, ResourceLimitError
from savax.saved_model.cli._objects import describe_object
from savax.saved_model.cli._tables import size_text
from savax.saved_model.cli.drawing._boxes import box_size, make_key
from savax.saved_model.cli.drawing._operations import Fact
from savax.saved_model.cli.drawing._picture import Line
from savax.saved_model.cli.drawing._texts import fact, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from savax.protos import MetaGraphDef, SavedObject

MOST_OBJECTS = 100_000
MOST_CHILDREN = 400_000  # of all objects together
_MOST_SIBLINGS = 40
_MOST_OPEN = 60  # boxes that are seen at first
_MOST_STEPS = 12  # of a path that is written out

REFERENCE, RANGE = "reference", "range"  # kinds of what isn't an object itself
_KINDS = {
    "variable": "linear",
    "function": "call",
    "concrete function": "call",
    "asset": "state",
    "constant": "state",
    "resource": "state",
    "list": "layout",
    "dict": "layout",
    "tuple": "layout",
    "signatures": "layout",
}


@dataclasses.dataclass
class TreeNode:
    """An object, a reference to one that is shown elsewhere, or a range of many children.

    Attributes:
      label: the attribute of the parent.
      kind: for colors.
      lines: what is written in the box.
      facts: what is shown about it.
      width, height: pixels of the box.
      parent: index of the node it hangs on; -1 for the root.
      children: indices.
      refers: index of the node that a reference stands for; -1 for others.
    """

    label: str
    kind: str
    lines: tuple[Line, ...]
    facts: tuple[Fact, ...]
    width: float
    height: float
    parent: int
    children: list[int]
    refers: int = -1


class ObjectPicture(NamedTuple):
    """A picture of an object graph.

    Attributes:
      title: what it shows.
      nodes: of the tree; the first is the root.
      opened: paths of the nodes whose children are seen at first.
    """

    title: str
    nodes: list[TreeNode]
    opened: frozenset[str]


def draw_objects(title: str, meta_graph: MetaGraphDef, opened: Sequence[str] = ()) -> ObjectPicture:
    """Returns the picture of a model's object graph.

    Args:
      title: of the picture.
      meta_graph: the graph.
      opened: paths of objects whose children are to be seen; if empty, as many as can be seen well.

    Raises:
      KeyNotFoundError: the model has no objects, or none at one of the paths.
      ResourceLimitError: there are too many objects.
      CorruptSavedModelError: an edge leads to no object.
    """
    objects = meta_graph.object_graph_def.nodes
    if not objects:
        raise KeyNotFoundError("The model has no objects, as it is of version 1.")
    if len(objects) > MOST_OBJECTS or sum(len(o.children) for o in objects) > MOST_CHILDREN:
        raise ResourceLimitError(
            f"The model has more than {MOST_OBJECTS:,} objects or {MOST_CHILDREN:,} edges."
        )
    picture = ObjectPicture(title, _Tree(meta_graph).nodes, frozenset())
    paths = [path for text in opened for path in _path_to(picture, text)]
    return picture._replace(opened=frozenset(paths or _levels(picture)))


class _Tree:
    """Hangs every object on the first edge that reaches it, breadth first."""

    def __init__(self, meta_graph: MetaGraphDef) -> None:
        self.nodes: list[TreeNode] = []
        self._meta_graph = meta_graph
        self._objects = meta_graph.object_graph_def.nodes
        self._constants = {n.name: n for n in meta_graph.graph_def.node if n.op == "Const"}
        self._node_of = {0: self._add_object("root", self._objects[0], -1)}
        queue = deque([0])
        while queue:
            object_id = queue.popleft()
            queue.extend(self._add_children(object_id))
        self._describe_references()

    def _add_children(self, object_id: int) -> Iterator[int]:
        parent = self._node_of[object_id]
        edges = [(c.local_name, c.node_id) for c in self._objects[object_id].children]
        parents = list(self._parents_for(parent, [name for name, _ in edges]))
        taken: dict[int, dict[str, int]] = {}
        for (name, child), own_parent in zip(edges, parents, strict=True):
            if not 0 <= child < len(self._objects):
                raise CorruptSavedModelError(
                    f"{fact(name)!r} leads to object {child}, of {len(self._objects)} objects."
                )
            label = make_key(name, taken.setdefault(own_parent, {}))
            if child in self._node_of:
                self._add_reference(label, self._node_of[child], own_parent)
            else:
                self._node_of[child] = self._add_object(label, self._objects[child], own_parent)
                yield child

    def _parents_for(self, parent: int, names: Sequence[str]) -> Iterator[int]:
        """Yields what children hang on: the object, or ranges if they are many."""
        if len(names) <= _MOST_SIBLINGS:
            yield from [parent] * len(names)
            return
        size = _MOST_SIBLINGS
        while len(names) > size * _MOST_SIBLINGS:
            size *= _MOST_SIBLINGS
        for start in range(0, len(names), size):
            part = names[start : start + size]
            label = f"{shortened(part[0], 40)} … {shortened(part[-1], 40)}"
            lines = (Line("title", f"{len(part)} children"),)
            node = self._add(label, RANGE, lines, (Fact("children", str(len(part))),), parent)
            yield from self._parents_for(node, part)

    def _add_object(self, label: str, saved: SavedObject, parent: int) -> int:
        kind, detail, size_bytes = describe_object(saved, self._meta_graph, self._constants)
        lines = [Line("title", shortened(kind))]
        facts = [Fact("kind", fact(kind))]
        if detail:
            lines.append(Line("note", shortened(detail)))
            facts.append(Fact("is", fact(detail)))
        if size_bytes is not None:
            lines.append(Line("weight", size_text(size_bytes)))
            facts.append(Fact("bytes", f"{size_bytes:,}"))
        if saved.children:
            facts.append(Fact("children", str(len(saved.children))))
        if saved.slot_variables:
            facts.append(Fact("slot variables", str(len(saved.slot_variables))))
        return self._add(label, _KINDS.get(kind, "object"), tuple(lines), tuple(facts), parent)

    def _add_reference(self, label: str, target: int, parent: int) -> None:
        index = self._add(label, REFERENCE, (Line("title", ""),), (), parent)
        self.nodes[index].refers = target

    def _describe_references(self) -> None:
        """Says for each reference what it stands for, when the tree is complete."""
        first, last = self._intervals()
        for index, node in enumerate(self.nodes):
            target = node.refers
            if target < 0:
                continue
            is_cycle = first[target] <= first[index] <= last[target]
            text = self._path_text(target)
            sign, what = ("↺", "cycle to") if is_cycle else ("↗", "same as")
            node.lines = (Line("title", f"{sign} {shortened(text)}"),)
            node.facts = (Fact(what, fact(text)),)
            node.width, node.height = box_size(node.lines)

    def _intervals(self) -> tuple[list[int], list[int]]:
        """Returns the first and last number of a depth-first walk below each node."""
        first = [0] * len(self.nodes)
        order: list[int] = []
        pending = [0]
        while pending:
            index = pending.pop()
            first[index] = len(order)
            order.append(index)
            pending += self.nodes[index].children
        last = list(first)
        for index in reversed(order):
            parent = self.nodes[index].parent
            if parent >= 0:
                last[parent] = max(last[parent], last[index])
        return first, last

    def _path_text(self, node: int) -> str:
        path: list[str] = []
        while node >= 0 and len(path) < _MOST_STEPS:
            path.append(self.nodes[node].label)
            node = self.nodes[node].parent
        return "/".join(reversed(path if node < 0 else [*path, "…"]))

    def _add(
        self, label: str, kind: str, lines: tuple[Line, ...], facts: tuple[Fact, ...], parent: int
    ) -> int:
        index = len(self.nodes)
        width, height = box_size(lines)
        self.nodes.append(TreeNode(label, kind, lines, facts, width, height, parent, []))
        if parent >= 0:
            self.nodes[parent].children.append(index)
        return index


def _levels(picture: ObjectPicture) -> Iterator[str]:
    """Yields the paths of all nodes of one level after another, while there is room."""
    seen, level = 1, [(0, picture.nodes[0].label)]
    while level:
        seen += sum(len(picture.nodes[index].children) for index, _ in level)
        if seen > _MOST_OPEN:
            return
        yield from (path for _, path in level)
        level = [
            (child, f"{path}/{picture.nodes[child].label}")
            for index, path in level
            for child in picture.nodes[index].children
            if picture.nodes[child].children
        ]


def _path_to(picture: ObjectPicture, text: str) -> Iterator[str]:
    """Yields the paths of an object and of those around it."""
    rest = text.strip("/").removeprefix("root").removeprefix("/")
    index, path = 0, picture.nodes[0].label
    yield path
    while rest:
        nodes = picture.nodes
        fitting = [
            child
            for child in nodes[index].children
            if rest == nodes[child].label or rest.startswith(f"{nodes[child].label}/")
        ]
        if not fitting:
            known = [nodes[child].label for child in nodes[index].children][:20]
            raise KeyNotFoundError(
                f"There is no object {text!r}; {path} has: {', '.join(known) or 'no children'}."
            )
        index = max(fitting, key=lambda child: len(nodes[child].label))
        rest = rest[len(nodes[index].label) + 1 :]
        path = f"{path}/{nodes[index].label}"
        yield path
