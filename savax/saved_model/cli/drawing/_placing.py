"""Pixels of a picture: where boxes and edges are while some groups are open.

The script of the page (``page.js``) does the same, whenever a group is opened or closed.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from savax.saved_model.cli.drawing._boxes import TITLE_FONT
from savax.saved_model.cli.drawing._picture import BEND, PORT
from savax.saved_model.cli.drawing._texts import text_width

if TYPE_CHECKING:
    from savax.saved_model.cli.drawing._picture import Group, Item, Link, Picture

HEADER = 28.0  # height of the title of an open group
_MARGIN = 16.0  # between an open group's border and what is in it
_GAP = 26.0  # between boxes side by side
_THIN_GAP = 12.0  # between a box and an edge that passes
_ROW_GAP = 34.0
_PORT_STEP = 14.0  # between edges that end at one box
_BORDER_OF_TITLE = 36.0
# What the script of the page needs of these.
SPACES = {
    "header": HEADER,
    "margin": _MARGIN,
    "gap": _GAP,
    "thin_gap": _THIN_GAP,
    "row_gap": _ROW_GAP,
    "port_step": _PORT_STEP,
}


class Point(NamedTuple):
    """A place in pixels, from the upper left."""

    x: float
    y: float


@dataclasses.dataclass
class PlacedItem:
    """An item with its place, relative to the group around it.

    Attributes:
      item: the item.
      path: of the item.
      x, y, width, height: pixels.
      content: what is in it, if it is open.
    """

    item: Item
    path: str
    x: float
    y: float
    width: float
    height: float
    content: PlacedGroup | None

    @property
    def center(self) -> float:
        """Half way between left and right."""
        return self.x + self.width / 2


class PlacedEdge(NamedTuple):
    """An edge.

    Attributes:
      points: relative to the group that it is in.
      kind: of the link; ``"turned"`` for those that lead upward.
      has_tip: whether it ends at a box, rather than at a border.
    """

    points: tuple[Point, ...]
    kind: str
    has_tip: bool


@dataclasses.dataclass
class PlacedGroup:
    """A group with the places of everything in it.

    Attributes:
      width, height: pixels.
      top, bottom: margins to a border around it; none where there are ports, which are the border.
      items: the items.
      edges: the edges.
    """

    width: float
    height: float
    top: float
    bottom: float
    items: list[PlacedItem]
    edges: list[PlacedEdge]


def place_group(picture: Picture, group: Group, path: str = "") -> PlacedGroup:
    """Returns where everything in a group is.

    Args:
      picture: that the group is of.
      group: the group.
      path: of the group, with a slash behind; empty for the root.
    """
    items = []
    for item in group.items:
        own = path + item.key
        inner = picture.content_of(item) if item.key and own in picture.opened else None
        width, height, content = item.width, item.height, None
        if inner is not None:
            content = place_group(picture, inner, f"{own}/")
            width = max(content.width + 2 * _MARGIN, least_open_width(item))
            height = HEADER + content.top + content.height + content.bottom
        items.append(PlacedItem(item, own, 0, 0, width, height, content))
    width = _place_columns(items, group.columns)
    height, tops, bottoms = _place_rows(items)
    edges = _edges(items, group.links, tops, bottoms)
    of_ports = {placed.item.row for placed in items if placed.item.kind == PORT}
    top = 0 if 0 in of_ports else _MARGIN
    bottom = 0 if of_ports - {0} else _MARGIN
    return PlacedGroup(width, height, top, bottom, items, edges)


def least_open_width(item: Item) -> float:
    """Returns the width that an open group's title needs."""
    return text_width(item.lines[0].text, TITLE_FONT) + _BORDER_OF_TITLE


def _place_columns(items: list[PlacedItem], columns: int) -> float:
    """Sets x of items, so that each has room between the borders of its columns."""
    starting: dict[int, list[PlacedItem]] = defaultdict(list)
    ending: dict[int, list[PlacedItem]] = defaultdict(list)
    for placed in items:
        starting[placed.item.column].append(placed)
        ending[placed.item.column + placed.item.span].append(placed)
    early = [0.0] * (columns + 1)
    for column in range(1, columns + 1):
        room = (early[p.item.column] + _room(p) for p in ending[column])
        early[column] = max(early[column - 1], *room, 0.0)
    late = [early[columns]] * (columns + 1)
    for column in range(columns - 1, -1, -1):
        room = (late[column + p.item.span] - _room(p) for p in starting[column])
        late[column] = min([late[column + 1], *room])
    # Both are as narrow as possible, one pushed to the left, one to the right: between is even.
    borders = [(a + b) / 2 for a, b in zip(early, late, strict=True)]
    for placed in items:
        left, right = placed.item.column, placed.item.column + placed.item.span
        placed.x = (borders[left] + borders[right] - placed.width) / 2
    least = min((placed.x for placed in items), default=0.0)
    for placed in items:
        placed.x -= least
    return max((placed.x + placed.width for placed in items), default=0.0)


def _room(placed: PlacedItem) -> float:
    return placed.width + (_THIN_GAP if placed.item.kind in (BEND, PORT) else _GAP)


def _place_rows(items: list[PlacedItem]) -> tuple[float, list[float], list[float]]:
    """Sets y of items; returns the height, and top and bottom of each row."""
    heights = [0.0] * (max((p.item.row for p in items), default=-1) + 1)
    for placed in items:
        heights[placed.item.row] = max(heights[placed.item.row], placed.height)
    tops, y = [], 0.0
    for height in heights:
        tops.append(y)
        y += height + _ROW_GAP
    bottoms = [top + height for top, height in zip(tops, heights, strict=True)]
    for placed in items:
        row = placed.item.row
        placed.y = tops[row] + (heights[row] - placed.height) / 2
    return max(0.0, y - _ROW_GAP), tops, bottoms


def _edges(
    items: list[PlacedItem], links: list[Link], tops: list[float], bottoms: list[float]
) -> list[PlacedEdge]:
    before = [_before_target(items, link, tops, bottoms) for link in links]
    arriving: dict[int, set[float]] = defaultdict(set)
    for link, points in zip(links, before, strict=True):
        arriving[link.target].add(points[-1].x)
    order = {target: sorted(places) for target, places in arriving.items()}
    found: dict[PlacedEdge, None] = {}
    for link, points in zip(links, before, strict=True):
        target = items[link.target]
        x = _port_x(target, link.entry)
        if x is None:
            places = order[link.target]
            step = min(_PORT_STEP, (target.width - 20) / max(1, len(places) - 1))
            shift = places.index(points[-1].x) - (len(places) - 1) / 2
            x = target.center + shift * max(step, 0.0)
        row = target.item.row
        if link.is_turned:
            ends = (Point(x, bottoms[row]), Point(x, target.y + target.height))
        else:
            ends = (Point(x, tops[row]), Point(x, target.y))
        has_tip = target.item.kind != PORT
        kind = "turned" if link.is_turned else link.kind
        found[PlacedEdge((*points, *ends), kind, has_tip)] = None
    return list(found)


def _before_target(
    items: list[PlacedItem], link: Link, tops: list[float], bottoms: list[float]
) -> list[Point]:
    """Returns the points of an edge but its last."""
    source = items[link.source]
    x = _port_x(source, link.exit)
    x = source.center if x is None else x
    row = source.item.row
    if link.is_turned:
        points = [Point(x, source.y), Point(x, tops[row])]
    else:
        points = [Point(x, source.y + source.height), Point(x, bottoms[row])]
    for bend in reversed(link.bends) if link.is_turned else link.bends:
        center, row = items[bend].center, items[bend].item.row
        ends = [Point(center, tops[row]), Point(center, bottoms[row])]
        points += reversed(ends) if link.is_turned else ends
    return points


def _port_x(placed: PlacedItem, port: int) -> float | None:
    """Returns where an edge through a port crosses the border of an open group."""
    if port < 0 or placed.content is None:
        return None
    return placed.x + _content_x(placed) + placed.content.items[port].center


def _content_x(placed: PlacedItem) -> float:
    assert placed.content is not None
    return (placed.width - placed.content.width) / 2


def content_origin(placed: PlacedItem) -> Point:
    """Returns where the content of an open item begins, relative to the group around it."""
    top = placed.content.top if placed.content else 0.0
    return Point(placed.x + _content_x(placed), placed.y + HEADER + top)
