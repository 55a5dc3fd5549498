"""The boxes of a picture: what is written in them, and how large they are."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from savax.saved_model.cli._tables import count_text
from savax.saved_model.cli.drawing._kinds import kind_of
from savax.saved_model.cli.drawing._operations import INPUT, OUTPUT, Fact
from savax.saved_model.cli.drawing._picture import Group, Item, Line
from savax.saved_model.cli.drawing._scopes import Scope, members_below
from savax.saved_model.cli.drawing._texts import fact, shortened, text_width

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from savax.saved_model.cli.drawing._operations import Operation
    from savax.saved_model.cli.drawing._weights import Weight

# Pixels; the style sheet and the script have the same.
TITLE_FONT, NOTE_FONT = 13.0, 11.0
LINE_HEIGHTS = {"title": 18.0, "note": 15.0, "weight": 19.0}
BOX_PADDING = 7.0
_SIDE = 12.0
_LEAST_WIDTH = 56.0
_MOST_KEY_LETTERS = 120

_TIMES = "\u00d7"  # between sizes
_MOST_WEIGHTS = 3  # that a box shows
_MOST_OPS = 3  # that a closed group names


def make_key(label: str, taken: dict[str, int]) -> str:
    """Returns a label, with a number if it is taken.

    Args:
      label: of any length.
      taken: the keys so far, with the numbers behind them; the key is added.
    """
    label = key = shortened(label, _MOST_KEY_LETTERS) or "(no name)"
    while key in taken:
        taken[label] += 1
        key = f"{label} ({taken[label]})"
    taken[key] = 1
    return key


def box_size(lines: Sequence[Line]) -> tuple[float, float]:
    """Returns width and height of a closed box."""
    fonts = {"title": TITLE_FONT, "note": NOTE_FONT, "weight": NOTE_FONT}
    width = max(text_width(line.text, fonts[line.kind]) for line in lines)
    height = sum(LINE_HEIGHTS[line.kind] for line in lines) + 2 * BOX_PADDING
    return float(round(max(width + 2 * _SIDE, _LEAST_WIDTH))), height


def operation_item(key: str, operation: Operation, functions: Collection[str]) -> Item:
    """Returns the box of an operation, input or output."""
    calls = {attr: name for attr, name in operation.functions.items() if name in functions}
    if operation.op in (INPUT, OUTPUT):
        kind = operation.op
        lines = [Line("title", shortened(operation.name))]
    else:
        kind = "call" if calls else kind_of(operation.op)
        lines = [Line("title", shortened(operation.op))]
        for name in list(calls.values())[:2]:
            lines.append(Line("note", shortened(name)))
        if not calls and not _says_op(key, operation.op):
            lines.append(Line("note", shortened(key)))
    lines += _weight_lines(operation.weights)
    has_shape = "[" in operation.type_text and operation.type_text != "[]"
    if operation.type_text and (operation.op in (INPUT, OUTPUT) or has_shape):
        lines.append(Line("note", shortened(operation.type_text)))
    width, height = box_size(lines)
    item = Item(key, kind, tuple(lines), operation.facts, width, height)
    if len(calls) == 1:
        (item.calls,) = calls.values()
    elif calls:
        item.content = _bodies_side_by_side(calls)
    return item


def _says_op(label: str, op: str) -> bool:
    """Whether a name is that of the operation, with a number perhaps."""
    return re.fullmatch(rf"{re.escape(op)}(_\d+)?", label, re.IGNORECASE) is not None


def _weight_lines(weights: Sequence[Weight]) -> list[Line]:
    shown = list(weights)
    if len(shown) > _MOST_WEIGHTS:
        # Variables say more than constants.
        shown.sort(key=lambda weight: weight.kind != "variable")
        shown = shown[: _MOST_WEIGHTS - 1]
    lines = []
    for weight in shown:
        name = shortened(weight.name.rpartition("/")[2], 24)
        text = weight.text.replace(", ", _TIMES) if weight.kind == "variable" else weight.text
        lines.append(Line("weight", f"{name} {text}".strip() or weight.kind))
    if len(weights) > len(shown):
        lines.append(Line("weight", f"and {len(weights) - len(shown)} more"))
    return lines


def _bodies_side_by_side(calls: dict[str, str]) -> Group:
    """Returns a group with a box for each function of a node, as loops and branches have."""
    items = []
    for column, (attr, name) in enumerate(calls.items()):
        lines = (Line("title", shortened(attr)), Line("note", shortened(name)))
        width, height = box_size(lines)
        facts = (Fact("function", fact(name)),)
        item = Item(attr, "call", lines, facts, width, height, calls=name)
        item.column, item.span = column, 1
        items.append(item)
    return Group(items, [], len(items))


def group_item(key: str, scope: Scope, operations: Sequence[Operation]) -> Item:
    """Returns the box of a group."""
    below = members_below(scope)
    ops = Counter(operations[index].op for index in below)
    elements = {
        weight.name: weight.elements
        for index in below
        for weight in operations[index].weights
        if weight.kind == "variable"
    }
    names = ", ".join(op for op, _ in ops.most_common(_MOST_OPS))
    more = ", …" if len(ops) > _MOST_OPS else ""
    lines = [
        Line("title", shortened(key)),
        Line("note", count_text(len(below), "operation")),
        Line("note", shortened(names + more)),
    ]
    facts = [Fact("group", fact(key)), Fact("operations", str(len(below)))]
    if elements:
        text = f"{number_text(sum(elements.values()))} parameters"
        lines.append(Line("note", text))
        facts.append(Fact("parameters", f"{sum(elements.values()):,} in {len(elements)} variables"))
    facts += [Fact(fact(op), str(count)) for op, count in ops.most_common(12)]
    return Item(key, "group", tuple(lines), tuple(facts), *box_size(lines))


def number_text(number: int) -> str:
    """Returns a number as people say it: ``25.6 M``."""
    value = float(number)
    for unit in ("", " k", " M", " G"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g} T"
