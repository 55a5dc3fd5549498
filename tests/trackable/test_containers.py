"""Lists, dicts and tuples in attributes: plain values to users, nodes to files."""

from __future__ import annotations

import collections
import copy
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from savax.errors import TrackingError
from savax.trackable import (
    AutoTrackable,
    Module,
    NoDependency,
    TrackedDict,
    TrackedList,
    TrackedOrderedDict,
    TrackedTuple,
    Variable,
    freeze_object_graph,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Pair(NamedTuple):
    first: Any
    second: Any


def paths(root: Any) -> list[str]:
    graph = freeze_object_graph(root)
    return [graph.path_of(node.id) for node in graph.nodes]


def test_attributes_become_tracked_containers_that_are_still_lists_and_dicts() -> None:
    root = AutoTrackable()
    root.l, root.d = [1, [2]], {"a": {"b": 3}, 4: 5}
    root.o = collections.OrderedDict(z=1)
    assert isinstance(root.l, TrackedList)
    assert root.l == [1, [2]]
    assert root.d == {"a": {"b": 3}, 4: 5}
    assert isinstance(root.d["a"], dict)
    assert isinstance(root.o, collections.OrderedDict)
    root.o["y"] = 2
    root.o.move_to_end("z")
    assert list(root.o) == ["y", "z"]
    assert paths(root) == ["root", "root.l", "root.d", "root.o", "root.l.1", "root.d.a"]


def test_subclasses_of_containers_are_left_alone() -> None:
    root = AutoTrackable()
    root.counter = collections.Counter("aab")
    root.default = collections.defaultdict(list, a=[Variable(1)])
    assert type(root.counter) is collections.Counter
    assert paths(root) == ["root"]


def test_elements_are_named_by_position_and_key() -> None:
    root = AutoTrackable()
    root.l = [1, Variable(1), "x", [Variable(2)]]
    root.d = {"b": Variable(1), "a": Variable(2), "n": None}
    assert paths(root) == [
        "root", "root.l", "root.d", "root.l.1", "root.l.3", "root.d.b", "root.d.a", "root.l.3.0",
    ]  # fmt: skip


def test_tuples_keep_their_type_and_have_a_node_beside_them() -> None:
    root = AutoTrackable()
    root.t = (Variable(1), [Variable(2)], 3)
    root.n = Pair(Variable(1), (Variable(2),))
    root.plain = (1, "x", (2,))
    assert type(root.t) is tuple
    assert type(root.n) is Pair
    assert isinstance(root.t[1], TrackedList)
    children = freeze_object_graph(root)
    assert [name for name, _ in children.node_of(root).children] == ["t", "n"]
    node = children.nodes[children.node_of(root).children[1][1]]
    assert isinstance(node.obj, TrackedTuple)
    assert [name for name, _ in node.children] == ["first", "second", "0", "1"]


def test_a_named_tuple_that_cannot_be_rebuilt_is_refused() -> None:
    class Odd(Pair):
        def __new__(cls, both: Any) -> Any:
            return super().__new__(cls, both, both)

    root = AutoTrackable()
    root.fine = Odd(Variable(1))
    with pytest.raises(TrackingError, match="Odd"):
        root.odd = Odd([Variable(1)])


def test_no_dependency_stores_without_tracking() -> None:
    root, lst = AutoTrackable(), [Variable(1)]
    root.nd = NoDependency(lst)
    root.l = [NoDependency(Variable(1)), Variable(2)]
    root.d = {"a": NoDependency(Variable(1)), "b": Variable(2)}
    root.t = (NoDependency(Variable(1)), Variable(2))
    root.l.append(NoDependency(Variable(3)))
    assert root.nd is lst
    assert isinstance(root.d["a"], Variable)
    names = {path.rpartition(".")[0]: path for path in paths(root)[4:]}
    assert names == {"root.l": "root.l.1", "root.d": "root.d.b", "root.t": "root.t.1"}


APPENDS: list[Callable[[Any], Any]] = [
    lambda x: x.append(Variable(1)),
    lambda x: x.extend([Variable(1), 2]),
    lambda x: x.__iadd__([Variable(1)]),
    lambda x: x.__imul__(2),
    lambda x: x.insert(99, Variable(1)),
    lambda x: x.__setitem__(1, "other"),
    lambda x: x.__setitem__(slice(2, None), [5, Variable(1)]),
    lambda x: x.__setitem__(slice(3, 3), [5]),
]
MOVES: list[Callable[[Any], Any]] = [
    lambda x: x.insert(0, 5),
    lambda x: x.__setitem__(0, Variable(1)),
    lambda x: x.__setitem__(0, None),
    lambda x: x.__setitem__(-3, None),
    lambda x: x.__setitem__(slice(0, 1), []),
    lambda x: x.__delitem__(2),
    lambda x: x.pop(),
    lambda x: x.remove("x"),
    lambda x: x.clear(),
    lambda x: x.reverse(),
    lambda x: x.sort(key=id),
    lambda x: x.__imul__(0),
]


@pytest.mark.parametrize("change", APPENDS)
def test_appending_to_a_list_is_fine(change: Callable[[Any], Any]) -> None:
    root, reference = AutoTrackable(), [Variable(0), "x", "y"]
    root.l = list(reference)
    change(root.l)
    tracked = [name for name, _ in freeze_object_graph(root).node_of(root.l).children]
    assert tracked == [str(i) for i, x in enumerate(root.l) if isinstance(x, Variable)]


@pytest.mark.parametrize("change", MOVES)
def test_a_list_whose_trackables_moved_cannot_be_saved(change: Callable[[Any], Any]) -> None:
    root = AutoTrackable()
    root.inner = AutoTrackable()
    elements = ["x", Variable(0), "y"] if change is MOVES[7] else [Variable(0), "x", "y"]
    root.inner.l = elements
    change(root.inner.l)
    with pytest.raises(TrackingError, match=r"root\.inner\.l: .*moved") as caught:
        freeze_object_graph(root)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("change", MOVES)
def test_changes_give_what_plain_lists_give(change: Callable[[Any], Any]) -> None:
    plain: list[Any] = ["a", "x", "y"]
    tracked = TrackedList(plain)
    change(tracked)
    reference = list(plain)
    change(reference)
    if change is not MOVES[10]:
        assert [str(x) for x in tracked] == [str(x) for x in reference]
    if not any(isinstance(x, Variable) for x in tracked):
        tracked._trackable_children()


@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_dicts_may_change_in_any_way(kind: Any) -> None:
    root = AutoTrackable()
    root.d = kind(a=Variable(1), b=Variable(2))
    del root.d["a"]
    root.d["b"] = Variable(3)
    root.d.update(c=[Variable(4)], d=1)
    root.d.setdefault("e", Variable(5))
    root.d |= {"f": (Variable(6),)}
    assert root.d.setdefault("d", 7) == 1
    assert isinstance(root.d["c"], TrackedList)
    names = [name for name, _ in freeze_object_graph(root).node_of(root.d).children]
    assert names == ["b", "c", "e", "f"]
    root.d.pop("f")
    root.d.popitem()
    assert [n for n, _ in freeze_object_graph(root).node_of(root.d).children] == ["b", "c"]


def test_only_strings_may_lead_to_trackables() -> None:
    root = AutoTrackable()
    root.d = {1: NoDependency(Variable(1)), 2: "x"}
    freeze_object_graph(root)
    root.d[3] = Variable(1)
    with pytest.raises(TrackingError, match=r"root\.d: .*key 3"):
        freeze_object_graph(root)


@pytest.mark.parametrize(
    ("original", "change"),
    [
        ([1], lambda x: x.append(2)),
        ([1, 2], lambda x: x.reverse()),
        ({"a": 1}, lambda x: x.update(b=2)),
        ({"a": 1}, lambda x: x.update(a=2)),
        (collections.OrderedDict(a=1), lambda x: x.update(b=2)),
    ],
)
def test_changing_the_original_behind_the_attribute_is_noticed(original: Any, change: Any) -> None:
    root = AutoTrackable()
    root.x = original
    change(root.x)
    freeze_object_graph(root)
    change(original)
    with pytest.raises(TrackingError, match=r"root\.x: .*made from"):
        freeze_object_graph(root)


def test_elements_with_elementwise_equality_do_not_confuse_the_check() -> None:
    root, original = AutoTrackable(), [Variable([1, 2])]
    root.l = original
    root.d = {"a": Variable([1, 2])}
    freeze_object_graph(root)


@pytest.mark.parametrize("kind", [TrackedList, TrackedDict, TrackedOrderedDict])
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda x: x.copy(), lambda x: pickle.loads(pickle.dumps(x))],
)
def test_copies_track_their_own_elements(kind: Any, copied: Any) -> None:
    variable, free = Variable(1), NoDependency(Variable(2))
    original = kind([variable, free]) if kind is TrackedList else kind({"a": variable, "b": free})
    other = copied(original)
    assert type(other) is kind
    assert len(original._trackable_children()) == len(other._trackable_children()) == 1
    if kind is TrackedList:
        other.append(Variable(3))
    else:
        other["c"] = Variable(3)
    assert len(original) == 2
    assert len(other._trackable_children()) == 2


def test_a_moved_list_stays_unsaveable_when_copied() -> None:
    moved = TrackedList([Variable(1)])
    moved.pop()
    for other in (copy.copy(moved), copy.deepcopy(moved)):
        with pytest.raises(TrackingError):
            other._trackable_children()


def test_lists_and_dicts_have_no_hash() -> None:
    for container in (TrackedList(), TrackedDict()):
        with pytest.raises(TypeError, match="unhashable"):
            hash(container)


def test_a_deep_copy_of_a_module_is_a_graph_of_its_own() -> None:
    module = Module()
    module.parts = [Module(), {"w": Variable(1)}]
    module.parts[0].up = module
    module.pair = Pair(Variable(1), module.parts)
    other = copy.deepcopy(module)
    ours, theirs = freeze_object_graph(module), freeze_object_graph(other)
    assert [n.children for n in ours.nodes] == [n.children for n in theirs.nodes]
    assert not {id(n.obj) for n in ours.nodes} & {id(n.obj) for n in theirs.nodes}
    other.parts.append(Variable(2))
    assert len(freeze_object_graph(module)) == len(ours)
