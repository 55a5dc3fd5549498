"""The frozen object graph: numbering, paths, keys and slot variables."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from savax.errors import (
    CyclicDependencyError,
    InvalidArgumentError,
    KeyNotFoundError,
    TrackingError,
)
from savax.trackable import (
    AutoTrackable,
    Module,
    SlotOwner,
    Variable,
    checkpoint_key,
    escape_local_name,
    freeze_object_graph,
    order_by_dependency,
)


def test_nodes_are_numbered_breadth_first_and_shared_objects_once() -> None:
    root, shared = AutoTrackable(), Variable(1)
    root.a, root.b = AutoTrackable(), AutoTrackable()
    root.a.deep, root.b.shared = AutoTrackable(), shared
    root.a.deep.shared, root.a.deep.up = shared, root
    graph = freeze_object_graph(root)
    assert [graph.path_of(node.id) for node in graph.nodes] == [
        "root", "root.a", "root.b", "root.a.deep", "root.b.shared",
    ]  # fmt: skip
    assert graph.nodes[3].children == (("shared", 4), ("up", 0))
    assert graph.id_of(shared) == 4
    assert graph.path_of(shared) == "root.b.shared"
    assert graph.checkpoint_key(graph.node_of(shared), "x/y") == "b/shared/.ATTRIBUTES/x.Sy"
    assert graph.root is root
    assert shared in graph


def test_the_graph_does_not_change_with_the_objects() -> None:
    root = AutoTrackable()
    root.a = Variable(1)
    graph = freeze_object_graph(root)
    root.b = Variable(2)
    assert graph.nodes[0].children == (("a", 1),)
    assert root.b not in graph
    with pytest.raises(KeyNotFoundError, match="AutoTrackable"):
        graph.id_of(root.b)


def test_further_children_of_the_root_come_last() -> None:
    root, extra = AutoTrackable(), Variable(1)
    root.a = Variable(2)
    graph = freeze_object_graph(root, extra=[("x", extra), ("a", root.a), ("root", root)])
    assert graph.nodes[0].children == (("a", 1), ("x", 2), ("root", 0))
    with pytest.raises(TrackingError, match="'a'"):
        freeze_object_graph(root, extra=[("a", extra)])


def test_only_trackables_are_roots() -> None:
    with pytest.raises(InvalidArgumentError, match="dict"):
        freeze_object_graph({"a": 1})  # type: ignore[arg-type]


def test_slots_follow_all_nodes_by_optimizer_name_and_variable() -> None:
    root, optimizer = AutoTrackable(), SlotOwner()
    root.opt, root.net = optimizer, AutoTrackable()
    root.net.w, root.net.b = Variable(1), Variable(2)
    optimizer.add_slot(root.net.b, "m", Variable(3))
    optimizer.add_slot(root.net.b, "v", Variable(4))
    slot = optimizer.add_slot(root.net.w, "m", Variable(5))
    assert optimizer.get_slot_names() == ["m", "v"]
    assert optimizer.get_slot(root.net.w, "v") is None
    graph = freeze_object_graph(root)
    assert [(s.optimizer, s.original, s.slot_name, s.slot) for s in graph.slots] == [
        (1, 3, "m", 5), (1, 4, "m", 6), (1, 4, "v", 7),
    ]  # fmt: skip
    assert graph.nodes[5].obj is slot
    key = "net/w/.OPTIMIZER_SLOT/opt/m/.ATTRIBUTES/VARIABLE_VALUE"
    assert graph.checkpoint_key(5, "VARIABLE_VALUE") == key
    assert graph.path_of(slot) == "root.opt.slot('m', root.net.w)"
    assert not freeze_object_graph(root, with_slots=False).slots


def test_a_slot_may_not_be_a_child_too() -> None:
    root, optimizer = AutoTrackable(), SlotOwner()
    root.opt, root.w, root.m = optimizer, Variable(1), Variable(2)
    optimizer.add_slot(root.w, "m", root.m)
    with pytest.raises(TrackingError, match="'m'"):
        freeze_object_graph(root)


def test_slots_of_unreachable_variables_are_left_out() -> None:
    optimizer = SlotOwner()
    optimizer.add_slot(Variable(1), "m", Variable(2))
    assert len(freeze_object_graph(optimizer)) == 1


@pytest.mark.parametrize(
    ("name", "escaped"),
    [("a/b", "a.Sb"), (".dot", "..dot"), ("..x", "....x"), (".", ".."), ("ä b", "ä b"), ("", "")],
)
def test_local_names_are_escaped(name: str, escaped: str) -> None:
    assert escape_local_name(name) == escaped


@given(st.text(alphabet="./Sa"), st.text(alphabet="./Sa"))
def test_different_names_have_different_keys(a: str, b: str) -> None:
    assert (escape_local_name(a) == escape_local_name(b)) == (a == b)
    assert "/" not in escape_local_name(a)
    assert ".A" not in escape_local_name(a + "A")[-2:] or a.endswith(".")


def test_keys_have_the_attribute_after_the_object() -> None:
    assert checkpoint_key("a/b", "VARIABLE_VALUE") == "a/b/.ATTRIBUTES/VARIABLE_VALUE"


@given(st.dictionaries(st.integers(0, 15), st.lists(st.integers(0, 15), max_size=3)))
def test_dependencies_come_first_or_the_cycle_is_shown(dependencies: dict[int, list[int]]) -> None:
    try:
        order = order_by_dependency(dependencies)
    except CyclicDependencyError as error:
        shown = str(error).split(": ", 1)[1].split(". ")[0]
        cycle = [int(part.split()[0]) for part in shown.split(" -> ")]
        assert cycle[0] == cycle[-1]
        assert all(b in dependencies[a] for a, b in itertools.pairwise(cycle))
        return
    place = {node: index for index, node in enumerate(order)}
    assert len(place) == len(order)
    assert place.keys() == dependencies.keys() | {n for ns in dependencies.values() for n in ns}
    assert all(place[n] < place[node] for node, ns in dependencies.items() for n in ns)


def test_a_cycle_is_shown_with_paths() -> None:
    module = Module()
    module.a, module.b = Module(), Module()
    graph = freeze_object_graph(module)
    with pytest.raises(CyclicDependencyError, match=r"root\.a \(node 1\) -> root\.b \(node 2\) ->"):
        order_by_dependency({1: [2], 2: [1]}, graph.path_of)
