"""Which changes of containers can still be saved, and under which names."""

from __future__ import annotations

from typing import Any

import pytest

from savax.trackable import AutoTrackable, Variable

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf


def children(root: Any) -> dict[str, type] | None:
    """Names and classes of a container's children; None if it refuses to be saved."""
    try:
        return {
            name: child.__class__.__name__ for name, child in root.x._trackable_children().items()
        }
    except ValueError:
        return None


def same_kinds(ours: Any, theirs: Any) -> bool:
    return (ours is None) == (theirs is None) and list(ours or ()) == list(theirs or ())


LIST_CHANGES: dict[str, Any] = {
    "append": lambda x, v: x.append(v(1)),
    "append plain": lambda x, v: x.append(1),
    "extend": lambda x, v: x.extend([v(1), 2, [v(3)]]),
    "in-place add": lambda x, v: x.__iadd__([v(1)]),
    "in-place repeat": lambda x, v: x.__imul__(2),
    "insert": lambda x, v: x.insert(0, 1),
    "set variable": lambda x, v: x.__setitem__(0, v(1)),
    "set plain": lambda x, v: x.__setitem__(1, 5),
    "set plain to variable": lambda x, v: x.__setitem__(1, v(5)),
    "set negative": lambda x, v: x.__setitem__(-1, 7),
    "delete": lambda x, v: x.__delitem__(1),
    "pop": lambda x, v: x.pop(),
    "clear": lambda x, v: x.clear(),
    "reverse": lambda x, v: x.reverse(),
}


@pytest.mark.parametrize("change", LIST_CHANGES)
@pytest.mark.parametrize("elements", ["mixed", "plain"])
def test_lists_agree(change: str, elements: str) -> None:
    found = []
    for kind, variable in ((AutoTrackable, Variable), (tf.Module, tf.Variable)):
        root = kind()
        first = variable(0) if elements == "mixed" else 0
        root.x = [first, "x", "y"]
        LIST_CHANGES[change](root.x, variable)
        found.append(children(root))
    assert same_kinds(*found), found


DICT_CHANGES: dict[str, Any] = {
    "set": lambda x, v: x.__setitem__("c", v(1)),
    "overwrite": lambda x, v: x.__setitem__("a", v(1)),
    "update": lambda x, v: x.update(c=v(1), d=[v(2)]),
    "plain key": lambda x, v: x.__setitem__(3, "x"),
    "other key": lambda x, v: x.__setitem__(3, v(1)),
    "other key to a list": lambda x, v: x.__setitem__(3, []),
}


@pytest.mark.parametrize("change", DICT_CHANGES)
def test_dicts_agree(change: str) -> None:
    found = []
    for kind, variable in ((AutoTrackable, Variable), (tf.Module, tf.Variable)):
        root = kind()
        root.x = {"b": variable(0), "a": variable(1), "n": 5}
        DICT_CHANGES[change](root.x, variable)
        found.append(children(root))
    assert same_kinds(*found), found


@pytest.mark.parametrize(
    "change", [lambda x: x.append(1), lambda x: x.reverse(), lambda x: x.pop()]
)
def test_changes_behind_the_attribute_are_noticed_by_both(change: Any) -> None:
    for kind in (AutoTrackable, tf.Module):
        root, original = kind(), [1, 2]
        root.x = original
        change(original)
        assert children(root) is None
