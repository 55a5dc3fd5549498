"""CheckpointView and TrackableView."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from savax.errors import InvalidArgumentError, NotFoundError, UnsupportedError
from savax.trackable import Module, Variable
from savax.trackable.bundle import write_bundle
from savax.trackable.checkpoint import Checkpoint, CheckpointView, TrackableView

if TYPE_CHECKING:
    from pathlib import Path


def build(names: str) -> Module:
    root = Module()
    root.me, root.list = root, [Module()]
    for name in names:
        setattr(root.list[0], name, Variable(1.0))
    return root


def test_both_views_and_their_difference(tmp_path: Path) -> None:
    prefix = Checkpoint(build("ab")).write(tmp_path / "c")
    target = build("bc")
    view, ours = CheckpointView(prefix), TrackableView(target)
    assert ours.root is target
    assert view.children(0) == {"me": 0, "list": 1, "root": 0}
    assert view.children(1) == {"0": 2}
    assert view.children(2) == {"a": 3, "b": 4}
    assert view.descendants() == [0, 1, 2, 3, 4]
    layer = target.list[0]
    assert TrackableView.children(layer) == {"b": layer.b, "c": layer.c}
    assert [id(obj) for obj in ours.descendants()] == [
        id(obj) for obj in (target, target.list, layer, layer.b, layer.c)
    ]
    matched, only_stored, others = view.diff(target)
    assert {node: id(obj) for node, obj in matched.items()} == {
        0: id(target),
        1: id(target.list),
        2: id(layer),
        4: id(layer.b),
    }
    assert only_stored == [3]
    assert len(others) == 1
    assert others[0] is layer.c


@pytest.mark.parametrize("node_id", [-1, 5])
def test_nodes_that_do_not_exist(tmp_path: Path, node_id: int) -> None:
    view = CheckpointView(Checkpoint(build("ab")).write(tmp_path / "c"))
    with pytest.raises(InvalidArgumentError, match="0 to 4"):
        view.children(node_id)


def test_what_has_no_view(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        CheckpointView(tmp_path / "c")
    write_bundle(tmp_path / "c", [("w", np.ones(1))])
    with pytest.raises(UnsupportedError, match="restore_by_name"):
        CheckpointView(tmp_path / "c")
    prefix = Checkpoint(build("a")).write(tmp_path / "c")
    wrong: Any = 5
    for call in (TrackableView, TrackableView.children, CheckpointView(prefix).match):
        with pytest.raises(InvalidArgumentError, match="int"):
            call(wrong)
