"""Groups with their edges on grids: edges that leave a group go through ports at its border."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from savax.saved_model.cli.drawing._boxes import group_item, make_key, operation_item
from savax.saved_model.cli.drawing._columns import Segment, assign_columns
from savax.saved_model.cli.drawing._picture import BEND, PORT, Group, Item, Link
from savax.saved_model.cli.drawing._rows import assign_rows
from savax.saved_model.cli.drawing._scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from savax.saved_model.cli.drawing._operations import Operation
    from savax.saved_model.cli.drawing._rows import Edge

_MOST_PORTS = 12  # at a border of a group; the last one is for all others
# Columns of boxes, and of ports and bends; half of a box is a whole number of columns.
_BOX_SPAN, _THIN_SPAN = 4, 2
_PORT_SIZE = 6.0
_LAST = -1  # in the place of an operation: the port for all others


def wired_group(scope: Scope, operations: Sequence[Operation], functions: Collection[str]) -> Group:
    """Returns the picture of a body.

    Args:
      scope: its operations in groups.
      operations: the operations.
      functions: those that boxes can be opened to.
    """
    root = _Frame(scope, None, 0, operations, functions)
    frames = [root]
    frame_of: dict[int, _Frame] = {}
    for frame in frames:
        for position, member in enumerate(frame.scope.members):
            if isinstance(member, Scope):
                frames.append(_Frame(member, frame, position, operations, functions))
            else:
                frame_of[member.index] = frame
                frame.position_of[member.index] = position
    for target, operation in enumerate(operations):
        for source in operation.sources:
            _connect(source, target, frame_of)
        for source in operation.controls:
            _order(source, target, frame_of)
    # What is within a group is on its grid first: its ports order what is around it.
    for frame in reversed(frames[1:]):
        if frame.parent is not None:
            frame.parent.items[frame.position].content = frame.on_grid()
    return root.on_grid()


class _Frame:
    """A group that is being wired."""

    def __init__(
        self,
        scope: Scope,
        parent: _Frame | None,
        position: int,
        operations: Sequence[Operation],
        functions: Collection[str],
    ) -> None:
        self.scope = scope
        self.parent = parent
        self.position = position  # in the parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.position_of: dict[int, int] = {}
        self.links: dict[tuple[int, int, int, int, str], None] = {}
        self._entries: dict[int, int] = {}
        self._exits: dict[int, int] = {}
        taken: dict[str, int] = {}
        self.items: list[Item] = []
        for member in scope.members:
            key = make_key(member.label, taken)
            if isinstance(member, Scope):
                self.items.append(group_item(key, member, operations))
            else:
                self.items.append(operation_item(key, operations[member.index], functions))

    def entry(self, source: int) -> int:
        """Returns the port where an operation's result comes in."""
        return self._port(self._entries, source)

    def exit(self, source: int) -> int:
        """Returns the port where an operation's result goes out."""
        return self._port(self._exits, source)

    def _port(self, ports: dict[int, int], source: int) -> int:
        if source not in ports:
            if len(ports) < _MOST_PORTS:
                ports[source] = len(self.items)
                self.items.append(Item("", PORT, width=_PORT_SIZE, height=_PORT_SIZE))
            else:
                ports[source] = ports[_LAST]
        if len(ports) == _MOST_PORTS:
            ports[_LAST] = ports[source]
        return ports[source]

    def link(self, source: int, target: int, exit_: int, entry: int, kind: str) -> None:
        """Adds an edge."""
        self.links[source, target, exit_, entry, kind] = None

    def on_grid(self) -> Group:
        """Returns the group, with items in rows and columns."""
        edges = list(dict.fromkeys((link[0], link[1]) for link in self.links))
        entries, exits = set(self._entries.values()), set(self._exits.values())
        rows = assign_rows(len(self.items), edges, entries, exits)
        items = [*self.items, *(Item("", BEND) for _ in rows.row_of[len(self.items) :])]
        spans = [_BOX_SPAN if item.key else _THIN_SPAN for item in items]
        segments: dict[Edge, Segment] = {}
        for (a, b), (leaving, entering) in self._shifts().items():
            is_turned = (a, b) in rows.turned
            chain = [b if is_turned else a, *rows.bends[a, b], a if is_turned else b]
            shifts = (entering, leaving) if is_turned else (leaving, entering)
            for upper, lower in itertools.pairwise(chain):
                segments[upper, lower] = Segment(
                    shifts[0] if upper == chain[0] else 0.0,
                    shifts[1] if lower == chain[-1] else 0.0,
                    upper >= len(self.items) and lower >= len(self.items),
                )
        columns = assign_columns(rows.row_of, spans, segments)
        for index, item in enumerate(items):
            item.row, item.column, item.span = (
                rows.row_of[index],
                columns.first[index],
                spans[index],
            )
        links = [
            Link(a, b, out, into, tuple(rows.bends[a, b]), kind, (a, b) in rows.turned)
            for a, b, out, into, kind in self.links
        ]
        return Group(items, links, columns.total)

    def _shifts(self) -> dict[Edge, tuple[float, float]]:
        """Returns how far from the middle of its boxes an edge leaves and enters, as parts."""
        sums: dict[Edge, list[float]] = {}
        for source, target, leaving, entering, _ in self.links:
            found = sums.setdefault((source, target), [0.0, 0.0, 0.0])
            found[0] += self._shift(source, leaving)
            found[1] += self._shift(target, entering)
            found[2] += 1
        return {edge: (a / count, b / count) for edge, (a, b, count) in sums.items()}

    def _shift(self, index: int, port: int) -> float:
        content = self.items[index].content
        if port < 0 or content is None or not content.columns:
            return 0.0
        return (content.items[port].column + _THIN_SPAN / 2) / content.columns - 0.5


def _connect(source: int, target: int, frame_of: dict[int, _Frame]) -> None:
    """Adds an edge to all groups that it is in, through ports where it crosses borders."""
    if source == target:
        return
    here, there = frame_of[source], frame_of[target]
    start, end = here.position_of[source], there.position_of[target]
    leaving = entering = -1
    while here is not there:
        if here.depth >= there.depth and here.parent is not None:
            port = here.exit(source)
            here.link(start, port, leaving, -1, "data")
            here, start, leaving = here.parent, here.position, port
        elif there.parent is not None:
            port = there.entry(source)
            there.link(port, end, -1, entering, "data")
            there, end, entering = there.parent, there.position, port
    here.link(start, end, leaving, entering, "data")


def _order(source: int, target: int, frame_of: dict[int, _Frame]) -> None:
    """Adds an edge that only orders, to the group that both of its ends are in."""
    here, there = frame_of[source], frame_of[target]
    start, end = here.position_of[source], there.position_of[target]
    while here is not there:
        if here.depth >= there.depth and here.parent is not None:
            here, start = here.parent, here.position
        elif there.parent is not None:
            there, end = there.parent, there.position
    if start != end:
        here.link(start, end, -1, -1, "control")
