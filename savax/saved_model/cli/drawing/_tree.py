"""Pixels of a tree of objects: the root at the left, what is open to the right of it.

The script of the page (``page.js``) does the same, whenever a node is opened or closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from savax.saved_model.cli.drawing._boxes import NOTE_FONT
from savax.saved_model.cli.drawing._texts import text_width

if TYPE_CHECKING:
    from savax.saved_model.cli.drawing._object_tree import ObjectPicture

ROW_GAP = 12.0
CURVE = 40.0  # that an edge has to bend, beside its label
LABEL_GAP = 7.0  # on both sides of a label


class PlacedNode(NamedTuple):
    """A node of the tree that is seen.

    Attributes:
      node: its index in the picture.
      path: of the node.
      parent: position of the parent among the placed nodes; -1 for the root.
      x, y: pixels of the box's upper left.
    """

    node: int
    path: str
    parent: int
    x: float
    y: float


class PlacedTree(NamedTuple):
    """The nodes that are seen, parents first, and the size of the picture."""

    nodes: list[PlacedNode]
    width: float
    height: float


def label_width(label: str) -> float:
    """Returns the pixels of an edge's label."""
    return text_width(label, NOTE_FONT)


def place_tree(picture: ObjectPicture) -> PlacedTree:
    """Returns where the nodes are that are seen."""
    nodes = picture.nodes
    seen: list[tuple[int, str, int, int]] = []  # node, path, position of its parent, depth
    pending = [(0, nodes[0].label, -1, 0)]
    while pending:
        entry = pending.pop()
        index, path, _, depth = entry
        position = len(seen)
        seen.append(entry)
        if path in picture.opened:
            pending += [
                (child, f"{path}/{nodes[child].label}", position, depth + 1)
                for child in reversed(nodes[index].children)
            ]
    lefts = _lefts(picture, seen)
    middles, height = _middles(picture, seen)
    placed = [
        PlacedNode(index, path, parent, lefts[depth], middle - nodes[index].height / 2)
        for (index, path, parent, depth), middle in zip(seen, middles, strict=True)
    ]
    width = max(node.x + nodes[node.node].width for node in placed)
    return PlacedTree(placed, width, height)


def _lefts(picture: ObjectPicture, seen: list[tuple[int, str, int, int]]) -> list[float]:
    """Returns where the boxes of each depth begin."""
    boxes: list[float] = []
    labels: list[float] = []
    for index, _, _, depth in seen:
        while depth >= len(boxes):
            boxes.append(0.0)
            labels.append(0.0)
        node = picture.nodes[index]
        boxes[depth] = max(boxes[depth], node.width)
        labels[depth] = max(labels[depth], label_width(node.label))
    lefts = [0.0]
    for depth in range(1, len(boxes)):
        room = boxes[depth - 1] + CURVE + labels[depth] + 2 * LABEL_GAP
        lefts.append(lefts[depth - 1] + room)
    return lefts


def _middles(
    picture: ObjectPicture, seen: list[tuple[int, str, int, int]]
) -> tuple[list[float], float]:
    """Returns the height at which each node's middle is, and the height of all."""
    children: list[list[int]] = [[] for _ in seen]
    for position, (_, _, parent, _) in enumerate(seen):
        if parent >= 0:
            children[parent].append(position)
    middles = [0.0] * len(seen)
    bottom = 0.0
    for position, (index, _, _, _) in enumerate(seen):
        if not children[position]:
            height = picture.nodes[index].height
            middles[position] = bottom + height / 2
            bottom += height + ROW_GAP
    for position in range(len(seen) - 1, -1, -1):
        if own := children[position]:
            middles[position] = (middles[own[0]] + middles[own[-1]]) / 2
    # A box that is higher than its children together reaches beyond them.
    top = min(m - picture.nodes[s[0]].height / 2 for m, s in zip(middles, seen, strict=True))
    middles = [middle - top for middle in middles]
    lowest = max(m + picture.nodes[s[0]].height / 2 for m, s in zip(middles, seen, strict=True))
    return middles, lowest
