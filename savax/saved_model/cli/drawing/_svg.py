"""A picture as an SVG file: it stands still, and says more about a box under the pointer."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from savax.saved_model.cli._tables import printable
from savax.saved_model.cli.drawing._boxes import BOX_PADDING, LINE_HEIGHTS, NOTE_FONT
from savax.saved_model.cli.drawing._picture import BEND, PORT
from savax.saved_model.cli.drawing._placing import HEADER, content_origin, place_group
from savax.saved_model.cli.drawing._texts import text_width
from savax.saved_model.cli.drawing._tree import CURVE, LABEL_GAP, label_width, place_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from savax.saved_model.cli.drawing._object_tree import ObjectPicture, TreeNode
    from savax.saved_model.cli.drawing._operations import Fact
    from savax.saved_model.cli.drawing._picture import Item, Picture
    from savax.saved_model.cli.drawing._placing import (
        PlacedEdge,
        PlacedGroup,
        PlacedItem,
        Point,
    )
    from savax.saved_model.cli.drawing._tree import PlacedTree

_MARGIN = 24.0  # around the picture
STYLE = Path(__file__).with_name("picture.css").read_text("utf-8")
DEFINITIONS = (
    "<defs>"
    + "".join(
        f'<marker id="tip-{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto-start-reverse"><path class="tip {kind}" '
        'd="M0 0L8 4L0 8z"/></marker>'
        for kind in ("data", "control", "turned")
    )
    + "</defs>"
)


def picture_svg(picture: Picture) -> str:
    """Returns a picture of a function as a file."""
    placed = place_group(picture, picture.root)
    body = [
        f'<g transform="translate({number(_MARGIN)} {number(_MARGIN)})">',
        *_group(placed, 0),
        "</g>",
    ]
    return svg_file(picture.title, placed.width + 2 * _MARGIN, placed.height + 2 * _MARGIN, body)


def objects_svg(picture: ObjectPicture) -> str:
    """Returns a picture of objects as a file."""
    placed = place_tree(picture)
    body = [
        f'<g transform="translate({number(_MARGIN)} {number(_MARGIN)})">',
        *_tree_edges(picture, placed),
        *_tree_boxes(picture, placed),
        "</g>",
    ]
    return svg_file(picture.title, placed.width + 2 * _MARGIN, placed.height + 2 * _MARGIN, body)


def svg_file(title: str, width: float, height: float, body: Iterable[str]) -> str:
    """Returns a file with elements as its content."""
    size = f'width="{number(width)}" height="{number(height)}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
        f'viewBox="0 0 {number(width)} {number(height)}" role="img">',
        f"<title>{text(title)}</title>",
        f"<style>{escape(STYLE, quote=False)}</style>",
        DEFINITIONS,
        f'<rect {size} fill="#ffffff"/>',
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Returns a number of pixels with one decimal place at most."""
    return f"{value:.1f}".removesuffix(".0")


def text(content: str) -> str:
    """Returns a text with everything escaped that means something in XML."""
    return escape(printable(content), quote=False)


def _attribute(content: str) -> str:
    return f'"{escape(printable(content))}"'


def facts_title(facts: Sequence[Fact]) -> str:
    """Returns the element whose text browsers show under the pointer."""
    lines = "\n".join(text(f"{fact.name}: {fact.text}") for fact in facts)
    return f"<title>{lines}</title>" if lines else ""


def _group(group: PlacedGroup, depth: int) -> Iterator[str]:
    for edge in group.edges:
        yield _edge(edge)
    for placed in group.items:
        if placed.item.kind == BEND:
            continue
        yield from _open(placed, depth) if placed.content else _closed(placed)


def _edge(edge: PlacedEdge) -> str:
    tip = f' marker-end="url(#tip-{edge.kind})"' if edge.has_tip else ""
    return f'<path class="edge {edge.kind}" d="{edge_path(edge.points)}"{tip}/>'


def edge_path(points: Sequence[Point]) -> str:
    """Returns a path that leaves and reaches its points from above or below."""
    first, *others = points
    steps = [f"M{number(first.x)} {number(first.y)}"]
    before = first
    for point in others:
        if point == before:
            continue  # a tip needs a direction
        if abs(point.x - before.x) < 0.5:
            steps.append(f"L{number(point.x)} {number(point.y)}")
        else:
            middle = number((before.y + point.y) / 2)
            steps.append(
                f"C{number(before.x)} {middle} {number(point.x)} {middle} "
                f"{number(point.x)} {number(point.y)}"
            )
        before = point
    return "".join(steps)


def _closed(placed: PlacedItem) -> Iterator[str]:
    item = placed.item
    if item.kind == PORT:
        yield '<g class="item port">'
        yield _rect("box", placed.x, placed.y, placed.width, placed.height, 3) + "</g>"
        return
    can_open = item.content is not None or bool(item.calls)
    yield from _box(item, placed.path, placed.x, placed.y, can_open)


def _box(item: Item | TreeNode, path: str, x: float, y: float, has_more: bool) -> Iterator[str]:
    width, height = item.width, item.height
    yield f'<g class="item {item.kind}" data-path={_attribute(path)}>'
    yield facts_title(item.facts)
    if has_more:
        yield _rect("behind", x + 4, y + 4, width, height, 6)
    yield _rect("box", x, y, width, height, 6)
    yield _rect("stripe", x, y + 4, 4, height - 8, 2)
    top = y + BOX_PADDING
    for line in item.lines:
        line_height = LINE_HEIGHTS[line.kind]
        if line.kind == "weight":
            pill = text_width(line.text, NOTE_FONT) + 12
            left = x + (width - pill) / 2
            yield _rect("pill", left, top + 1.5, pill, line_height - 3, 7)
        base = number(top + line_height / 2 + 4)
        yield (
            f'<text class="middle {line.kind}" x="{number(x + width / 2)}" y="{base}">'
            f"{text(line.text)}</text>"
        )
        top += line_height
    yield "</g>"


def _open(placed: PlacedItem, depth: int) -> Iterator[str]:
    item, content = placed.item, placed.content
    assert content is not None
    x, y, width = placed.x, placed.y, placed.width
    yield f'<g class="item {item.kind} open" data-path={_attribute(placed.path)}>'
    shade = "frame odd" if depth % 2 else "frame"
    yield _rect(shade, x, y, width, placed.height, 8)
    yield '<g class="header-box">' + facts_title(item.facts)
    yield _rect("header", x + 0.6, y + 0.6, width - 1.2, HEADER - 1.2, 7)
    yield f'<text class="title" x="{number(x + 12)}" y="{number(y + HEADER / 2 + 4.5)}">'
    yield f"{text(item.lines[0].text)}</text></g>"
    origin = content_origin(placed)
    yield f'<g transform="translate({number(origin.x)} {number(origin.y)})">'
    yield from _group(content, depth + 1)
    yield "</g></g>"


def _tree_edges(picture: ObjectPicture, placed: PlacedTree) -> Iterator[str]:
    for seen in placed.nodes:
        if seen.parent < 0:
            continue
        above = placed.nodes[seen.parent]
        node, parent = picture.nodes[seen.node], picture.nodes[above.node]
        start, high = above.x + parent.width, above.y + parent.height / 2
        end = number(seen.x - label_width(node.label) - 2 * LABEL_GAP)
        low, middle, bent = seen.y + node.height / 2, number(start + CURVE / 2), start + CURVE
        yield (
            f'<path class="edge data" d="M{number(start)} {number(high)}C{middle} {number(high)} '
            f'{middle} {number(low)} {number(bent)} {number(low)}L{end} {number(low)}"/>'
        )
        yield (
            f'<text class="label" x="{number(seen.x - LABEL_GAP)}" y="{number(low + 4)}">'
            f"{text(node.label)}</text>"
        )


def _tree_boxes(picture: ObjectPicture, placed: PlacedTree) -> Iterator[str]:
    for seen in placed.nodes:
        node = picture.nodes[seen.node]
        is_closed = bool(node.children) and seen.path not in picture.opened
        yield from _box(node, seen.path, seen.x, seen.y, is_closed)


def _rect(kind: str, x: float, y: float, width: float, height: float, radius: float) -> str:
    return (
        f'<rect class="{kind}" x="{number(x)}" y="{number(y)}" width="{number(width)}" '
        f'height="{number(height)}" rx="{number(radius)}"/>'
    )
