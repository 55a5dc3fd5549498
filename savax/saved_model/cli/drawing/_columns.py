"""The order of vertices within rows, by barycentres, and the columns that they take."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from savax.saved_model.cli.drawing._rows import Edge

_MOST_SWEEPS, _FEWEST_SWEEPS = 10, 3
_SWEPT_SEGMENTS = 3000  # in all sweeps together, if they aren't the fewest
_STRAIGHT_WEIGHT = 8
_UNMOVED = 0.01  # columns
_MOST_SEGMENTS = 20_000  # beyond them the first order stays, as sweeps would take long


class Segment(NamedTuple):
    """A part of an edge, between a row and the next one.

    Attributes:
      leaving: how far from the middle of the upper vertex it begins, as a part of its width.
      entering: likewise where it ends.
      is_straight: whether it is to be as steep as possible.
    """

    leaving: float
    entering: float
    is_straight: bool


class _Neighbor(NamedTuple):
    vertex: int
    shift: float  # of the segment's end at this vertex
    weight: int


_Neighbors: TypeAlias = dict[int, list[_Neighbor]]


class Columns(NamedTuple):
    """Columns that vertices take.

    Attributes:
      first: the first column of each vertex.
      total: number of columns.
    """

    first: list[int]
    total: int


def assign_columns(
    row_of: Sequence[int], spans: Sequence[int], segments: Mapping[Edge, Segment]
) -> Columns:
    """Returns the columns of vertices in rows.

    Args:
      row_of: the row of each vertex.
      spans: how many columns each vertex takes.
      segments: by vertices in a row and the next one.
    """
    above: _Neighbors = defaultdict(list)
    below: _Neighbors = defaultdict(list)
    for (a, b), segment in sorted(segments.items()):
        weight = _STRAIGHT_WEIGHT if segment.is_straight else 1
        below[a].append(_Neighbor(b, segment.entering, weight))
        above[b].append(_Neighbor(a, segment.leaving, weight))
    rows: list[list[int]] = [[] for _ in range(max(row_of, default=-1) + 1)]
    for vertex in _depth_first(len(row_of), above, below):
        rows[row_of[vertex]].append(vertex)
    sweeps = _SWEPT_SEGMENTS // max(1, len(segments))
    sweeps = max(_FEWEST_SWEEPS, min(sweeps, _MOST_SWEEPS))
    if len(segments) <= _MOST_SEGMENTS:
        rows = _fewest_crossings(rows, above, below, segments, sweeps)
    centers = _centers(rows, spans, above, below, sweeps)
    first = [
        math.floor(center - span / 2 + 0.5) for center, span in zip(centers, spans, strict=True)
    ]
    for row in rows:
        for left, right in itertools.pairwise(row):
            first[right] = max(first[right], first[left] + spans[left])
    least = min(first, default=0)
    first = [column - least for column in first]
    ends = (column + span for column, span in zip(first, spans, strict=True))
    return Columns(first, max(ends, default=0))


def _depth_first(count: int, above: _Neighbors, below: _Neighbors) -> Iterator[int]:
    seen = [False] * count
    for start in [v for v in range(count) if not above.get(v)]:
        waiting = [start]
        while waiting:
            vertex = waiting.pop()
            if not seen[vertex]:
                seen[vertex] = True
                yield vertex
                waiting += [neighbor.vertex for neighbor in reversed(below.get(vertex, ()))]


def _fewest_crossings(
    rows: list[list[int]],
    above: _Neighbors,
    below: _Neighbors,
    segments: Mapping[Edge, Segment],
    sweeps: int,
) -> list[list[int]]:
    """Returns the best of several orders, each made from the one before by barycentres."""
    best, fewest = rows, _crossings(rows, segments)
    for sweep in range(sweeps):
        if not fewest:
            break
        downward = sweep % 2 == 0
        rows = list(rows)
        neighbors = above if downward else below
        indices = range(1, len(rows)) if downward else range(len(rows) - 2, -1, -1)
        for i in indices:
            rows[i] = _by_barycentre(rows[i], rows[i - 1 if downward else i + 1], neighbors)
        if (crossings := _crossings(rows, segments)) < fewest:
            best, fewest = rows, crossings
    return best


def _by_barycentre(row: Sequence[int], fixed: Sequence[int], neighbors: _Neighbors) -> list[int]:
    place = {vertex: position for position, vertex in enumerate(fixed)}
    wanted = {}
    for position, vertex in enumerate(row):
        near = [place[n.vertex] + n.shift for n in neighbors.get(vertex, ())]
        wanted[vertex] = sum(near) / len(near) if near else position
    return sorted(row, key=wanted.__getitem__)


def _crossings(rows: Iterable[Sequence[int]], segments: Mapping[Edge, Segment]) -> int:
    place = {vertex: position for row in rows for position, vertex in enumerate(row)}
    row_of = {vertex: i for i, row in enumerate(rows) for vertex in row}
    between: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for (a, b), segment in segments.items():
        between[row_of[a]].append((place[a] + segment.leaving, place[b] + segment.entering))
    total = 0
    for ends in between.values():
        passed: list[float] = []
        for _, end in sorted(ends):
            total += len(passed) - bisect.bisect_right(passed, end)
            bisect.insort(passed, end)
    return total


def _centers(
    rows: Sequence[Sequence[int]],
    spans: Sequence[int],
    above: _Neighbors,
    below: _Neighbors,
    sweeps: int,
) -> list[float]:
    """Returns centers near those of neighbors that keep the order and leave room."""
    centers = [0.0] * len(spans)
    for row in rows:
        left = -sum(spans[v] for v in row) / 2
        for vertex in row:
            centers[vertex] = left + spans[vertex] / 2
            left += spans[vertex]
    still = 0  # sweeps without a change, of which one downward and one upward are enough
    for sweep in range(sweeps):
        moved = False
        one, other = (above, below) if sweep % 2 == 0 else (below, above)
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted, weights = [], []
            for vertex in row:
                near = one.get(vertex) or other.get(vertex) or [_Neighbor(vertex, 0, 1)]
                strongest = max(n.weight for n in near)
                wanted.append(_median([centers[n.vertex] for n in near if n.weight == strongest]))
                weights.append(strongest)
            placed = _apart(wanted, weights, [spans[v] for v in row])
            for vertex, center in zip(row, placed, strict=True):
                moved = moved or abs(centers[vertex] - center) > _UNMOVED
                centers[vertex] = center
        still = 0 if moved else still + 1
        if still == 2:
            break
    return centers


def _median(values: list[float]) -> float:
    values.sort()
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def _apart(wanted: Sequence[float], weights: Sequence[int], spans: Sequence[int]) -> list[float]:
    """Returns the places nearest to wanted ones, in their order, that leave room for each.

    It is the regression by pools of adjacent violators: neighbors that would overlap are moved
    together, as one block, to their weighted mean.
    """
    offsets, total = [], 0.0
    for span in spans:
        offsets.append(total + span / 2)
        total += span
    blocks: list[tuple[float, int, int]] = []  # mean, weight, number of members
    for place, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, members = place - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, its_weight, count = blocks.pop()
            mean = (mean * weight + before * its_weight) / (weight + its_weight)
            weight, members = weight + its_weight, members + count
        blocks.append((mean, weight, members))
    means = [mean for mean, _, members in blocks for _ in range(members)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
