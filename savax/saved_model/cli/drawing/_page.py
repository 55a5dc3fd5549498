"""A picture as one HTML file, whose groups open and close on a click. It needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from savax.saved_model.cli._tables import printable
from savax.saved_model.cli.drawing._boxes import BOX_PADDING, LINE_HEIGHTS, NOTE_FONT
from savax.saved_model.cli.drawing._placing import SPACES, least_open_width
from savax.saved_model.cli.drawing._svg import DEFINITIONS, STYLE
from savax.saved_model.cli.drawing._texts import text_width
from savax.saved_model.cli.drawing._tree import CURVE, LABEL_GAP, ROW_GAP, label_width

if TYPE_CHECKING:
    from collections.abc import Iterable

    from savax.saved_model.cli.drawing._object_tree import ObjectPicture, TreeNode
    from savax.saved_model.cli.drawing._operations import Fact
    from savax.saved_model.cli.drawing._picture import Group, Item, Line, Link, Picture

_FOLDER = Path(__file__).parent
# The tree is a part of the script, in a file of its own.
_SCRIPT = (
    (_FOLDER / "page.js")
    .read_text("utf-8")
    .replace("//TREE\n", (_FOLDER / "tree.js").read_text("utf-8"))
)
_STYLE = STYLE + (_FOLDER / "page.css").read_text("utf-8")

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; script-src 'sha256-{digest}'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<input id="search" type="search" placeholder="Find" aria-label="Find">
<span id="count"></span>
<button id="more">Open more</button>
<button id="less">Close all</button>
<button id="smaller" aria-label="Smaller">&minus;</button>
<button id="larger" aria-label="Larger">+</button>
<button id="fit">Fit</button>
</header>
<div id="scroller"><svg id="canvas" xmlns="http://www.w3.org/2000/svg">{definitions}</svg></div>
<table id="tip" hidden></table>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def picture_page(picture: Picture) -> str:
    """Returns a picture of a function as a page."""
    data = {
        "root": _group(picture.root),
        "functions": {name: _group(group) for name, group in picture.functions.items()},
    }
    return _page(picture.title, picture.opened, data)


def objects_page(picture: ObjectPicture) -> str:
    """Returns a picture of objects as a page."""
    return _page(picture.title, picture.opened, {"nodes": [_node(node) for node in picture.nodes]})


def _page(title: str, opened: Iterable[str], data: dict[str, Any]) -> str:
    size = {
        **SPACES,
        "padding": BOX_PADDING,
        "lines": LINE_HEIGHTS,
        "curve": CURVE,
        "label_gap": LABEL_GAP,
        "tree_gap": ROW_GAP,
    }
    text = json.dumps({**data, "opened": sorted(opened), "size": size}, separators=(",", ":"))
    # Nothing in the text may end the element that it is in.
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    return _PAGE.format(
        digest=digest,
        title=escape(printable(title)),
        style=_STYLE,
        definitions=DEFINITIONS,
        data=text,
        script=_SCRIPT,
    )


def _group(group: Group) -> dict[str, Any]:
    return {
        "items": [_item(item) for item in group.items],
        "links": [_link(link) for link in group.links],
        "columns": group.columns,
    }


def _item(item: Item) -> dict[str, Any]:
    found: dict[str, Any] = {
        "k": item.key,
        "c": item.kind,
        "w": item.width,
        "h": item.height,
        "r": item.row,
        "x": item.column,
        "s": item.span,
    }
    if item.key:
        found |= _texts(item.lines, item.facts)
    if item.calls:
        found["fn"] = item.calls
    elif item.content is not None:
        found["g"] = _group(item.content)
    if item.calls or item.content is not None:
        found["n"] = least_open_width(item)
    return found


def _link(link: Link) -> dict[str, Any]:
    return {
        "a": link.source,
        "b": link.target,
        "o": link.exit,
        "i": link.entry,
        "m": link.bends,
        "t": int(link.kind == "control"),
        "u": int(link.is_turned),
    }


def _node(node: TreeNode) -> dict[str, Any]:
    return {
        "e": node.label,
        "ew": label_width(node.label),
        "c": node.kind,
        "w": node.width,
        "h": node.height,
        "ch": node.children,
        "to": node.refers,
        **_texts(node.lines, node.facts),
    }


def _texts(lines: Iterable[Line], facts: Iterable[Fact]) -> dict[str, Any]:
    return {
        "l": [[line.kind, line.text, text_width(line.text, NOTE_FONT)] for line in lines],
        "f": [[fact.name, fact.text] for fact in facts],
    }
