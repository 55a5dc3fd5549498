"""Pictures of object graphs: every edge once, in bounded time."""

from __future__ import annotations

import time

import pytest

from savax.errors import CorruptSavedModelError, KeyNotFoundError, ResourceLimitError
from savax.protos import MetaGraphDef
from savax.saved_model.cli.drawing import objects_page, objects_svg
from tests.saved_model.cli.drawing.object_graphs import (
    drawn_objects,
    object_graph,
    shared_and_cyclic,
)


def test_every_edge_is_a_node_of_the_tree() -> None:
    meta_graph = shared_and_cyclic()
    picture = drawn_objects(meta_graph)
    edges = sum(len(node.children) for node in meta_graph.object_graph_def.nodes)
    assert len(picture.nodes) == 1 + edges
    up = next(node for node in picture.nodes if node.label == "up")
    assert up.refers == 0
    assert up.facts[0] == ("cycle to", "root")


def test_many_children_are_in_ranges() -> None:
    picture = drawn_objects(object_graph({0: {str(i): i for i in range(1, 5000)}}, 5000))
    assert max(len(node.children) for node in picture.nodes) <= 40
    assert picture.nodes[1].label == "1 … 1600"
    assert sum(node.kind == "object" for node in picture.nodes) == 5000
    assert len(objects_svg(picture)) < 20_000


def test_paths_open_what_is_on_the_way() -> None:
    meta_graph = object_graph({0: {"a": 1}, 1: {"b/c": 2}, 2: {"d": 3}}, 4)
    expected = {"root", "root/a", "root/a/b/c"}
    assert drawn_objects(meta_graph, "a/b/c").opened == expected
    assert drawn_objects(meta_graph, "root/a/b/c").opened == expected
    with pytest.raises(KeyNotFoundError, match="no object 'a/x'; root/a has: b/c"):
        drawn_objects(meta_graph, "a/x")


def test_models_without_objects_and_broken_edges_are_refused() -> None:
    with pytest.raises(KeyNotFoundError, match="version 1"):
        drawn_objects(MetaGraphDef())
    with pytest.raises(CorruptSavedModelError, match="'a' leads to object 7, of 1"):
        drawn_objects(object_graph({0: {"a": 7}}, 1))


def chain(count: int) -> MetaGraphDef:
    return object_graph({i: {"next": i + 1} for i in range(count - 1)}, count)


def back_to_all(count: int) -> MetaGraphDef:
    """A chain whose last object has an edge to every one before it, and to the last too."""
    children = {i: {"next": i + 1} for i in range(count - 1)}
    return object_graph(children | {count - 1: {f"back{i}": i for i in range(count)}}, count)


@pytest.mark.parametrize("make", [chain, back_to_all])
def test_long_chains_take_time_by_their_length(make: object) -> None:
    meta_graph = make(20_000)
    start = time.process_time()
    picture = drawn_objects(meta_graph)
    page = objects_page(picture)
    assert time.process_time() - start < 8
    assert len(page) < 30_000_000


def test_too_many_objects_are_refused() -> None:
    with pytest.raises(ResourceLimitError, match="100,000 objects"):
        drawn_objects(object_graph({}, 100_001))
