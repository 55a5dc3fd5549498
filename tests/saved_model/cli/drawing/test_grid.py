"""Rows and columns: edges lead down, nothing overlaps, cycles and chains are drawn as they are."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from savax.saved_model.cli.drawing._columns import Segment, assign_columns
from savax.saved_model.cli.drawing._rows import assign_rows, topological_order

COUNT = 12
EDGES = st.sets(
    st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)).filter(lambda e: e[0] != e[1]),
    max_size=30,
)


@given(EDGES)
def test_edges_lead_from_row_to_row_and_only_those_of_cycles_upward(
    edges: set[tuple[int, int]],
) -> None:
    rows = assign_rows(COUNT, edges, (), ())
    for (a, b), bends in rows.bends.items():
        chain = [b, *bends, a] if (a, b) in rows.turned else [a, *bends, b]
        places = [rows.row_of[vertex] for vertex in chain]
        assert places == list(range(places[0], places[0] + len(chain)))
    assert set(rows.bends) == edges
    targets: dict[int, list[int]] = {}
    for a, b in edges - rows.turned:
        targets.setdefault(a, []).append(b)
    order = topological_order(COUNT, targets)
    assert all(order.index(a) < order.index(b) for a, b in edges - rows.turned)


def test_graphs_without_cycles_have_no_edge_upward() -> None:
    edges = {(i, j) for i in range(8) for j in range(i + 1, 8)}
    assert not assign_rows(8, edges, (), ()).turned
    assert assign_rows(3, {(0, 1), (1, 2), (2, 0)}, (), ()).turned == {(2, 0)}


def test_ports_are_in_the_first_and_the_last_row() -> None:
    rows = assign_rows(5, {(0, 1), (1, 2), (2, 3), (4, 3)}, first={0}, last={3})
    assert rows.row_of[0] == 0
    assert rows.row_of[3] == max(rows.row_of)
    assert all(0 < rows.row_of[vertex] < rows.row_of[3] for vertex in (1, 2, 4))
    assert rows.row_of[4] == rows.row_of[3] - 1  # right above what needs it


def test_many_vertices_of_one_depth_take_several_rows() -> None:
    rows = assign_rows(101, {(0, i) for i in range(1, 101)}, (), ())
    assert max(rows.row_of.count(row) for row in set(rows.row_of)) < 30


@given(EDGES)
def test_no_two_vertices_of_a_row_share_a_column(edges: set[tuple[int, int]]) -> None:
    rows = assign_rows(COUNT, edges, (), ())
    segments = {}
    for (a, b), bends in rows.bends.items():
        chain = [b, *bends, a] if (a, b) in rows.turned else [a, *bends, b]
        for pair in itertools.pairwise(chain):
            segments[pair] = Segment(0.0, 0.0, False)
    spans = [4 if vertex < COUNT else 2 for vertex in range(len(rows.row_of))]
    columns = assign_columns(rows.row_of, spans, segments)
    taken = set()
    for vertex, first in enumerate(columns.first):
        places = {(rows.row_of[vertex], first + i) for i in range(spans[vertex])}
        assert not places & taken
        assert all(0 <= column < columns.total for _, column in places)
        taken |= places


def test_a_chain_is_straight_and_a_fork_is_even() -> None:
    chain = {(0, 1): Segment(0, 0, False), (1, 2): Segment(0, 0, False)}
    assert assign_columns([0, 1, 2], [4, 4, 4], chain).first == [0, 0, 0]
    fork = {(0, 1): Segment(0, 0, False), (0, 2): Segment(0, 0, False)}
    assert assign_columns([0, 1, 1], [4, 4, 4], fork).first == [2, 0, 4]


def test_crossings_are_taken_out() -> None:
    # Two rows of four, connected in the opposite order.
    segments = {(i, 7 - i): Segment(0, 0, False) for i in range(4)}
    columns = assign_columns([0] * 4 + [1] * 4, [4] * 8, segments)
    assert all(columns.first[a] == columns.first[b] for a, b in segments)


def test_ports_order_what_they_lead_to() -> None:
    # One vertex above two; the edge to the first leaves at the right.
    segments = {(0, 1): Segment(0.4, 0, False), (0, 2): Segment(-0.4, 0, False)}
    columns = assign_columns([0, 1, 1], [4, 4, 4], segments)
    assert columns.first[2] < columns.first[1]
