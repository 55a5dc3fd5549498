"""A picture of functions before it has pixels: boxes in rows and columns, in groups."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from savax.saved_model.cli.drawing._operations import Fact

PORT, BEND = "port", "bend"  # kinds of what only leads edges


class Line(NamedTuple):
    """A line of text in a box: its kind, ``"title"``, ``"note"`` or ``"weight"``, and the text."""

    kind: str
    text: str


@dataclasses.dataclass
class Item:
    """What takes a place in a group.

    Attributes:
      key: unique among the items of the group; empty for ports and bends.
      kind: of operations, else ``"input"``, ``"output"``, ``"group"``, ``PORT`` or ``BEND``.
      lines: what is written in the box while it is closed.
      facts: what is shown about it.
      width, height: pixels of the closed box.
      content: the items within, if it can be opened.
      calls: name of the function that is its content.
      row, column, span: the place in the grid of the group around it.
    """

    key: str
    kind: str
    lines: tuple[Line, ...] = ()
    facts: tuple[Fact, ...] = ()
    width: float = 0
    height: float = 0
    content: Group | None = None
    calls: str = ""
    row: int = 0
    column: int = 0
    span: int = 1


class Link(NamedTuple):
    """An edge between two items of a group.

    Attributes:
      source: index of the item it comes from.
      target: index of the item it leads to.
      exit: index of the port of the source's content that it comes from; -1 for the box itself.
      entry: likewise of the target's content.
      bends: indices of the items that it passes, from the upper to the lower end.
      kind: ``"data"``, or ``"control"`` for an edge that only orders.
      is_turned: whether it leads upward.
    """

    source: int
    target: int
    exit: int
    entry: int
    bends: tuple[int, ...]
    kind: str
    is_turned: bool


@dataclasses.dataclass
class Group:
    """Items on a grid, and edges between them.

    Attributes:
      items: the items.
      links: the edges.
      columns: number of columns of the grid.
    """

    items: list[Item]
    links: list[Link]
    columns: int


class Picture(NamedTuple):
    """A picture of a function.

    Attributes:
      title: what it shows.
      root: the outermost group.
      functions: the content of items that call functions, by name.
      opened: paths of the items that are open at first.
    """

    title: str
    root: Group
    functions: dict[str, Group]
    opened: frozenset[str]

    def content_of(self, item: Item) -> Group | None:
        """Returns what is in an item; None if it can't be opened."""
        return self.functions.get(item.calls) if item.calls else item.content
