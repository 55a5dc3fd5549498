"""Which row of a layered picture each vertex is in, and where long edges pass the rows between."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

Edge = tuple[int, int]

_MOST_IN_A_ROW = 12


class Rows(NamedTuple):
    """Vertices in rows, so that every edge leads from a row to a later one.

    Attributes:
      row_of: the row of each vertex; after the vertices that were given come bends.
      bends: for each edge the bends that it passes, from its upper to its lower end. Edges from
        one vertex share bends, and so do edges upward to one vertex.
      turned: edges that lead upward, as there is a cycle; their upper end is their target.
    """

    row_of: list[int]
    bends: dict[Edge, list[int]]
    turned: frozenset[Edge]


def assign_rows(
    count: int, edges: Collection[Edge], first: Collection[int], last: Collection[int]
) -> Rows:
    """Returns the rows of a graph's vertices.

    Args:
      count: number of vertices.
      edges: pairs of different vertices, without repetitions.
      first: vertices without incoming edges, which make up the first row.
      last: vertices without outgoing edges, which make up the last row.
    """
    turned = _edges_of_cycles(count, edges)
    down = {((b, a) if (a, b) in turned else (a, b)) for a, b in edges}
    targets: dict[int, list[int]] = defaultdict(list)
    sources: dict[int, list[int]] = defaultdict(list)
    for a, b in sorted(down):
        targets[a].append(b)
        sources[b].append(a)
    row_of = _downward(count, sources, targets, frozenset(first), frozenset(last))
    bends = {}
    for group in (turned, set(edges) - turned):
        bottoms: dict[int, int] = defaultdict(int)
        for a, b in group:
            upper, lower = (b, a) if group is turned else (a, b)
            bottoms[upper] = max(bottoms[upper], row_of[lower])
        trunks = {}
        for upper in sorted(bottoms):
            rows = range(row_of[upper] + 1, bottoms[upper])
            trunks[upper] = list(range(len(row_of), len(row_of) + len(rows)))
            row_of += rows
        for a, b in group:
            upper, lower = (b, a) if group is turned else (a, b)
            bends[a, b] = trunks[upper][: row_of[lower] - row_of[upper] - 1]
    return Rows(row_of, bends, frozenset(turned))


def topological_order(count: int, targets: Mapping[int, Sequence[int]]) -> list[int]:
    """Returns vertices so that edges lead forward; those of cycles in the order of numbers.

    A vertex comes as soon as possible after the last one before it, which keeps branches together.
    """
    missing = [0] * count
    for following in targets.values():
        for b in following:
            missing[b] += 1
    waiting = [a for a in range(count - 1, -1, -1) if not missing[a]]
    order: list[int] = []
    placed = [False] * count
    next_forced = 0
    while len(order) < count:
        while waiting:
            a = waiting.pop()
            if placed[a]:
                continue
            placed[a] = True
            order.append(a)
            for b in reversed(targets.get(a, ())):
                missing[b] -= 1
                if not missing[b] and not placed[b]:
                    waiting.append(b)
        while next_forced < count and placed[next_forced]:
            next_forced += 1
        if next_forced < count:
            waiting.append(next_forced)
    return order


def _edges_of_cycles(count: int, edges: Iterable[Edge]) -> set[Edge]:
    """Returns edges whose turning leaves no cycle."""
    targets: dict[int, list[int]] = defaultdict(list)
    for a, b in sorted(edges):
        targets[a].append(b)
    position = {a: i for i, a in enumerate(topological_order(count, targets))}
    return {(a, b) for a, b in edges if position[a] > position[b]}


def _downward(
    count: int,
    sources: Mapping[int, Sequence[int]],
    targets: Mapping[int, Sequence[int]],
    first: frozenset[int],
    last: frozenset[int],
) -> list[int]:
    """Returns for each vertex the first row below its sources that isn't full."""
    order = topological_order(count, targets)
    top = 1 if first else 0
    rows = [0] * count
    taken: dict[int, int] = defaultdict(int)
    for a in order:
        if a in first:
            continue
        row = max((rows[b] + 1 for b in sources.get(a, ())), default=top)
        while taken[row] >= _MOST_IN_A_ROW:
            row += 1
        rows[a] = max(row, top)
        taken[rows[a]] += 1
    for a in reversed(order):
        # What has no sources stands right above what needs it.
        if a not in first and not sources.get(a) and targets.get(a):
            rows[a] = max(rows[a], min(rows[b] for b in targets[a]) - 1)
    bottom = max((rows[a] for a in range(count) if a not in last), default=-1) + 1
    for a in last:
        rows[a] = bottom
    return rows
