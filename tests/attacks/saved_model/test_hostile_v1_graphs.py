"""Graphs of version 1 made to hurt: refused with an error of savax, in bounded time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from savax.compat import v1
from savax.errors import CorruptSavedModelError, ResourceLimitError, SavaxError, UnsafePathError
from savax.protos import (
    FunctionDef,
    GraphDef,
    SavedModel,
    encode_tensor,
    parse,
    serialize,
)
from savax.saved_model import load

if TYPE_CHECKING:
    from pathlib import Path

    from savax.protos import MetaGraphDef, NodeDef

SECONDS = 10


def add(graph: GraphDef, name: str, op: str, *inputs: str, dtype: int = 1) -> str:
    node = graph.node.add(name=name, op=op, input=inputs)
    node.attr["T"].type = dtype
    return name


def start() -> GraphDef:
    graph = GraphDef()
    for name, dtype in (("x", 1), ("p", 10)):
        node = graph.node.add(name=name, op="Placeholder")
        node.attr["dtype"].type = dtype
    return graph


def nested_branches() -> GraphDef:
    graph, value = start(), "x"
    for depth in range(5000):
        add(graph, f"p{depth}", "LogicalNot", f"p{depth - 1}" if depth else "p")
        graph.node[-1].ClearField("attr")
        value = add(graph, f"s{depth}", "Switch", value, f"p{depth}")
    add(graph, "y", "Merge", value, f"{value}:1")
    graph.node[-1].attr["N"].i = 2
    return graph


def nested_loops() -> GraphDef:
    graph, value = start(), "x"
    for depth in range(5000):
        value = add(graph, f"e{depth}", "Enter", value)
        graph.node[-1].attr["frame_name"].s = b"f%d" % depth
    add(graph, "y", "Identity", value)
    return graph


def predicates_in_a_circle() -> GraphDef:
    graph = start()
    add(graph, "a", "Identity", "b", dtype=10)
    add(graph, "b", "Identity", "a", dtype=10)
    add(graph, "s", "Switch", "x", "a")
    add(graph, "y", "Merge", "s", "s:1")
    graph.node[-1].attr["N"].i = 2
    return graph


def assignments_in_a_circle() -> GraphDef:
    graph = start()
    variable = graph.node.add(name="v", op="VariableV2")
    variable.attr["dtype"].type = 1
    variable.attr["shape"].shape.SetInParent()
    add(graph, "a", "Assign", "b", "x")
    add(graph, "b", "Assign", "a", "x")
    add(graph, "y", "Identity", "b")
    return graph


def many_calls_that_restore() -> GraphDef:
    graph = start()
    function = FunctionDef()
    function.signature.name = "restore"
    for index in range(2000):
        function.node_def.add(name=f"n{index}", op="NoOp")
    function.node_def.add(name="r", op="RestoreV2").attr["dtypes"].list.type.append(1)
    graph.library.function.add().CopyFrom(function)
    for index in range(2000):
        call = graph.node.add(name=f"c{index}", op="PartitionedCall")
        call.attr["f"].func.name = "restore"
    add(graph, "y", "Identity", "x")
    return graph


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (nested_branches, ResourceLimitError),
        (nested_loops, ResourceLimitError),
        (predicates_in_a_circle, SavaxError),
        (assignments_in_a_circle, CorruptSavedModelError),
        (many_calls_that_restore, ResourceLimitError),
    ],
    ids=lambda value: value.__name__,
)
def test_a_graph_is_refused_quickly(build, kind) -> None:
    message = build()
    started = time.monotonic()
    with v1.Session(graph=v1.Graph()) as session:
        v1.import_graph_def(message, name="")
        with pytest.raises(kind):
            session.run("y:0", {"x:0": 1.0, "p:0": True})
    assert time.monotonic() - started < SECONDS


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[Path, bytes]:
    directory = tmp_path_factory.mktemp("v1") / "model"
    with v1.Session(graph=v1.Graph()) as session:
        x = v1.placeholder("float32", [None], name="x")
        v = v1.Variable(np.ones(3, np.float32), name="v")
        session.run(v.initializer)
        v1.saved_model.simple_save(session, directory, {"x": x}, {"y": x * v})
    return directory, (directory / "saved_model.pb").read_bytes()


def changed(model: SavedModel, what: str) -> None:
    graph = model.meta_graphs[0]
    if what == "restore op that isn't there":
        graph.saver_def.restore_op_name = "nothing"
    elif what == "filename tensor that isn't there":
        graph.saver_def.filename_tensor_name = "nothing:0"
    elif what == "collection of what isn't there":
        graph.collection_def["variables"].bytes_list.value[0] = b"\x0a\x03z:0"
    elif what == "collection that can't be parsed":
        graph.collection_def["variables"].bytes_list.value[0] = b"\xff"
    elif what == "signature of what isn't there":
        graph.signature_def["serving_default"].outputs["y"].name = "nothing:0"
    elif what == "main op that isn't there":
        graph.collection_def["saved_model_main_op"].node_list.value.append("nothing")
    elif what == "main op that reads a file":
        for node in graph.graph_def.node:
            if node.op == "RestoreV2":
                node.input[0] = "elsewhere"
        node = graph.graph_def.node.add(name="elsewhere", op="Const")
        node.attr["dtype"].type = 7
        node.attr["value"].tensor.dtype = 7
        node.attr["value"].tensor.string_val.append(b"/etc/passwd")
        node.attr["value"].tensor.tensor_shape.SetInParent()
    elif what == "restore op of four inputs":
        restore_of(graph).input.insert(0, restore_of(graph).input[0])
    elif what == "restore op of two files":
        node = graph.graph_def.node.add(name="two", op="Const")
        node.attr["dtype"].type = 7
        node.attr["value"].tensor.CopyFrom(encode_tensor(np.array([b"a", b"b"], object)))
        restore_of(graph).input[0] = "two"
    elif what == "restore op after one that isn't known":
        node = graph.graph_def.node.add(name="unknown", op="NoSuchOp")
        for node in graph.graph_def.node:
            if node.op == "AssignVariableOp":
                node.input[0] = "unknown"
    elif what == "two nodes of one name":
        graph.graph_def.node.add().CopyFrom(graph.graph_def.node[0])


def restore_of(graph: MetaGraphDef) -> NodeDef:
    return next(node for node in graph.graph_def.node if node.op == "RestoreV2")


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("restore op that isn't there", SavaxError),
        ("filename tensor that isn't there", SavaxError),
        ("collection of what isn't there", CorruptSavedModelError),
        ("collection that can't be parsed", CorruptSavedModelError),
        ("signature of what isn't there", SavaxError),
        ("main op that isn't there", SavaxError),
        ("main op that reads a file", UnsafePathError),
        ("two nodes of one name", CorruptSavedModelError),
        ("restore op of four inputs", CorruptSavedModelError),
        ("restore op of two files", CorruptSavedModelError),
        ("restore op after one that isn't known", SavaxError),
    ],
)
def test_a_damaged_model_is_refused(model, what, kind) -> None:
    directory, data = model
    message = parse(SavedModel, data, "saved_model.pb")
    changed(message, what)
    (directory / "saved_model.pb").write_bytes(serialize(message))
    with pytest.raises(kind):
        load(directory)
    if "signature" not in what:
        with v1.Session(graph=v1.Graph()) as session, pytest.raises(kind):
            v1.saved_model.load(session, ["serve"], directory)


def test_collections_hold_anything(model) -> None:
    directory, data = model
    message = parse(SavedModel, data, "saved_model.pb")
    collections = message.meta_graphs[0].collection_def
    collections["trainable_variables"].int64_list.value.extend([1, 2])
    for i in range(20_000):
        collections[f"of the user {i}"].node_list.value.append("x:0")
    message.meta_graphs[0].graph_def.node.add(name="empty", op="LookupTableImportV2")
    (directory / "saved_model.pb").write_bytes(serialize(message))
    started = time.monotonic()
    assert [v.name for v in load(directory).variables] == ["v"]
    assert time.monotonic() - started < SECONDS
