"""Object graphs of checkpoints that contradict themselves."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from savax.errors import CorruptBundleError
from savax.trackable import OBJECT_GRAPH_KEY, Module, Variable, freeze_object_graph
from savax.trackable.bundle import write_bundle
from savax.trackable.checkpoint import Checkpoint, encode_object_graph, object_graph_tensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from savax.protos import TrackableObjectGraph


def encoded() -> Any:
    root = Module()
    root.a, root.b = Module(), Variable([1.0])
    root.a.c = Variable([2.0])
    proto, tensors, _ = encode_object_graph(freeze_object_graph(root))
    return proto, tensors


def restore(path: Path, tensors: list[tuple[str, Any]], graph: Any) -> None:
    write_bundle(path, [*tensors, graph])
    root = Module()
    root.a, root.b = Module(), Variable([0.0])
    root.a.c = Variable([0.0])
    Checkpoint(root).read(path).assert_consumed()


DAMAGES: list[Callable[[TrackableObjectGraph], object]] = [
    lambda graph: graph.ClearField("nodes"),
    lambda graph: graph.nodes[0].children.add(node_id=99, local_name="x"),
    lambda graph: graph.nodes[0].children.add(node_id=-1, local_name="x"),
    lambda graph: graph.nodes[0].children.add(node_id=1, local_name="b"),
    lambda graph: graph.nodes[0].slot_variables.add(original_variable_node_id=50),
    lambda graph: graph.nodes[0].slot_variables.add(slot_variable_node_id=-5),
    lambda graph: graph.nodes[1].attributes.add(name="x", checkpoint_key="not/there"),
    lambda graph: setattr(graph.nodes[2].attributes[0], "checkpoint_key", ""),
    lambda graph: setattr(graph.nodes[2].attributes[0], "checkpoint_key", "b"),
    lambda graph: setattr(graph.nodes[2].attributes[0], "checkpoint_key", "b/.ATTRIBUTES/VARIABL"),
]


def test_an_undamaged_graph_is_restored(tmp_path: Path) -> None:
    proto, tensors = encoded()
    restore(tmp_path / "c", tensors, object_graph_tensor(proto))


@pytest.mark.parametrize("damage", DAMAGES)
def test_contradictions_are_refused(tmp_path: Path, damage: Any) -> None:
    proto, tensors = encoded()
    damage(proto)
    with pytest.raises(CorruptBundleError, match=r"object graph of .*c contradicts itself"):
        restore(tmp_path / "c", tensors, object_graph_tensor(proto))


@pytest.mark.parametrize(
    "value", [np.array(b"\xff\xff", object), np.zeros(2), np.array([b"a", b"b"], object)]
)
def test_something_else_in_the_graphs_place_is_refused(tmp_path: Path, value: Any) -> None:
    _, tensors = encoded()
    with pytest.raises(CorruptBundleError, match="object graph"):
        restore(tmp_path / "c", tensors, (OBJECT_GRAPH_KEY, value))


@given(data=st.data())
def test_changed_bytes_give_typed_errors_or_leftovers(tmp_path: Path, data: st.DataObject) -> None:
    proto, tensors = encoded()
    key, value = object_graph_tensor(proto)
    changed = bytearray(value.item())
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] = data.draw(st.integers(0, 255))
    tensor = np.empty((), object)
    tensor[()] = bytes(changed)
    with contextlib.suppress(CorruptBundleError, AssertionError):
        restore(tmp_path / "c", tensors, (key, tensor))
