"""What a picture of a function has boxes and groups for, and how large it can get."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from savax.errors import KeyNotFoundError, ResourceLimitError
from savax.protos import GraphDebugInfo, encode_tensor
from savax.saved_model.cli.drawing import draw_function, function_body, picture_page, signature_body
from savax.saved_model.cli.drawing._picture import PORT
from tests.saved_model.cli.drawing.graphs import add_function, boxes, drawn, edges, graph, resnet


def texts(item: object) -> list[str]:
    return [line.text for line in item.lines]


def test_names_make_groups_and_edges_pass_their_borders() -> None:
    picture = drawn(graph([("Relu", "a/b", ["x"]), ("Tanh", "a/c", ["a/b"])], "a/c"))
    found = boxes(picture, picture.root)
    assert set(found) == {"x", "a", "a/b", "a/c", "result"}
    assert [found[key].kind for key in ("x", "a", "a/b", "a/c")] == [
        *("input", "group", "activation", "activation"),
    ]
    assert edges(picture.root) == {("x", "a"), ("a", "result")}
    (group,) = [item for item in picture.root.items if item.key == "a"]
    assert edges(group.content) == {("", "b"), ("b", "c"), ("c", "")}
    into, out = sorted(picture.root.links, key=lambda link: link.exit)
    ports = [group.content.items[port] for port in (into.entry, out.exit)]
    assert [port.kind for port in ports] == [PORT, PORT]
    assert ports[0].row == 0 < ports[1].row


def test_a_scope_of_one_operation_is_no_group() -> None:
    picture = drawn(graph([("Relu", "a/b/c/relu", ["x"])], "a/b/c/relu"))
    (box,) = [item for item in picture.root.items if item.kind == "activation"]
    assert box.key == "a/b/c/relu"


def test_variables_and_constants_are_lines_of_what_takes_them() -> None:
    meta_graph = graph(
        [
            ("VarHandleOp", "v", []),
            ("ReadVariableOp", "read", ["v"]),
            ("Cast", "cast", ["read"]),
            ("Const", "two", []),
            ("Const", "large", []),
            ("Identity", "copy", ["x", "^after"]),
            ("NoOp", "after", ["^read"]),
            ("AddN", "sum", ["copy", "cast", "two", "large"]),
        ],
        "sum",
    )
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    nodes["v"].attr["shared_name"].s = b"scope/kernel"
    nodes["v"].attr["dtype"].type = 1
    nodes["v"].attr["shape"].shape.dim.add(size=3)
    nodes["v"].attr["shape"].shape.dim.add(size=5)
    for name, value in (("two", np.int32(2)), ("large", np.zeros(99, np.int64))):
        nodes[name].attr["value"].tensor.CopyFrom(encode_tensor(value))
    picture = drawn(meta_graph)
    found = boxes(picture, picture.root)
    assert set(found) == {"x", "sum", "result"}
    assert texts(found["sum"])[:4] == [
        *("AddN", "sum", "kernel float32[3\u00d75]", "2"),
    ]
    assert "int64[99]" in texts(found["sum"])
    assert edges(picture.root) == {("x", "sum"), ("sum", "result")}


def test_many_weights_of_one_operation_are_counted() -> None:
    rows = [("VarHandleOp", f"v{i}", []) for i in range(500)]
    picture = drawn(graph([*rows, ("Foo", "foo", ["x", *(f"v{i}" for i in range(500))])], "foo"))
    lines = texts(boxes(picture, picture.root)["foo"])
    assert lines[-1] == "and 498 more"
    assert len(lines) == 4


def test_edges_that_only_order_are_of_another_kind() -> None:
    picture = drawn(
        graph([("Assign", "a", ["x"]), ("Relu", "b", ["x", "^g"]), ("NoOp", "g", ["^a"])], "b")
    )
    kinds = {
        (picture.root.items[link.source].key, picture.root.items[link.target].key): link.kind
        for link in picture.root.links
    }
    assert kinds["a", "b"] == "control"
    assert kinds["x", "b"] == "data"


def test_wrappers_are_left_out_and_calls_are_opened_to_bodies() -> None:
    meta_graph = graph([("PartitionedCall", "call", ["x"]), ("Identity", "out", ["call"])], "out")
    meta_graph.graph_def.node[1].attr["f"].func.name = "outer"
    outer = add_function(
        meta_graph, "outer", [("Relu", "r", ["x"]), ("StatefulPartitionedCall", "c", ["r"])], "c:0"
    )
    outer.node_def[1].attr["f"].func.name = "inner"
    add_function(meta_graph, "inner", [("Tanh", "t", ["x"])], "t:y:0")
    picture = drawn(meta_graph)
    assert edges(picture.root) == {("x", "r"), ("r", "c"), ("c", "result")}
    (call,) = [item for item in picture.root.items if item.kind == "call"]
    assert edges(picture.functions[call.calls]) == {("x", "t"), ("t", "y")}
    assert picture.opened == {"c"}


def test_variables_are_known_in_functions_that_are_called_with_them() -> None:
    meta_graph = graph(
        [("VarHandleOp", "kernel", []), ("If", "if", ["x", "x", "kernel"]), ("Relu", "r", ["if"])],
        "r",
    )
    branch = add_function(meta_graph, "branch", [("MatMul", "m", ["x", "handle"])], "m:0")
    branch.signature.input_arg.add(name="handle", type=20)
    for key in ("then_branch", "else_branch"):
        meta_graph.graph_def.node[2].attr[key].func.name = "branch"
    picture = drawn(meta_graph)
    (product,) = [i for i in picture.functions["branch"].items if i.key == "m"]
    assert any(text.startswith("kernel") for text in texts(product))
    # A second caller passes another variable, so that it isn't known any more.
    meta_graph.graph_def.node.add(op="VarHandleOp", name="other")
    second = meta_graph.graph_def.node.add(op="If", name="if2", input=["x", "if", "other"])
    second.attr["then_branch"].func.name = "branch"
    meta_graph.graph_def.node[3].input[0] = "if2"
    picture = drawn(meta_graph)
    (product,) = [i for i in picture.functions["branch"].items if i.key == "m"]
    assert not any(text.startswith(("kernel", "other")) for text in texts(product))


def test_a_resnet_is_seen_as_its_stages_and_blocks() -> None:
    picture = drawn(resnet())
    found = boxes(picture, picture.root)
    assert sum(len(found[f"resnet50_1/conv{i}"].content.items) >= 3 for i in (2, 3, 4, 5)) == 4
    seen = [p for p in found if p.rpartition("/")[0] in picture.opened or "/" not in p]
    assert 20 <= len(seen) <= 60
    for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, count + 1):
            path = f"resnet50_1/conv{stage}/conv{stage}_block{block}"
            assert found[path].kind == "group"
            assert path in seen
    stage = found["resnet50_1/conv4"].content
    blocks = [item for item in stage.items if item.key]
    assert len({item.column for item in blocks}) == 1  # one below the other
    assert edges(stage) >= {(f"conv4_block{i}", f"conv4_block{i + 1}") for i in range(1, 6)}


def test_operations_without_scopes_are_parts_cut_where_few_edges_are() -> None:
    rows = []
    last = "x"
    for i in range(300):
        side = f"Mul_{i // 20 * 20}"
        rows.append(("Mul", f"Mul_{i}", [last, *([side] if i % 20 else [])]))
        last = f"Mul_{i}"
    picture = drawn(graph(rows, last))
    groups = [item for item in picture.root.items if item.kind == "group"]
    assert [g.key for g in groups] == [f"part {i + 1} of {len(groups)}" for i in range(len(groups))]
    assert sum(len([i for i in g.content.items if i.key]) for g in groups) == 300
    assert all(sum(i.kind == PORT for i in g.content.items) <= 2 for g in groups)


def test_every_operation_has_one_box_and_every_edge_a_way() -> None:
    rng = np.random.default_rng(0)
    names = ["x"]
    rows = []
    for i in range(400):
        scope = "/".join(f"s{rng.integers(3)}" for _ in range(rng.integers(4)))
        name = f"{scope}/n{i}" if scope else f"n{i}"
        rows.append(("Foo", name, sorted({names[j] for j in rng.integers(0, len(names), 3)})))
        names.append(name)
    rows.append(("Foo", "last", names))  # nothing is left out
    picture = drawn(graph(rows, "last"))
    found = boxes(picture, picture.root)
    ops = [item for item in found.values() if item.kind == "other"]
    assert len(ops) == 401
    for item in found.values():
        if item.content is not None:
            ports = [i for i, inner in enumerate(item.content.items) if inner.kind == PORT]
            linked = {i for link in item.content.links for i in (link.source, link.target)}
            assert linked >= set(ports)
            assert len(ports) <= 24


def test_unknown_paths_and_names_are_refused_with_what_there_is() -> None:
    meta_graph = graph([("Relu", "a/b", ["x"]), ("Tanh", "a/c", ["a/b"])], "a/c")
    assert drawn(meta_graph, "a").opened == {"a"}
    with pytest.raises(KeyNotFoundError, match="no group 'z' to open; there are: a"):
        drawn(meta_graph, "z")
    with pytest.raises(KeyNotFoundError, match="no signature 'z'; there are: serving_default"):
        signature_body(meta_graph, "z")
    with pytest.raises(KeyNotFoundError, match="no function 'z'"):
        function_body(meta_graph, "z")


def hostile_calls(depth: int) -> object:
    """Functions that call the next one twice, and the last one the first."""
    meta_graph = graph([("PartitionedCall", "call", ["x"])], "call")
    meta_graph.graph_def.node[1].attr["f"].func.name = "f0"
    for i in range(depth):
        rows = [("PartitionedCall", "a", ["x"]), ("PartitionedCall", "b", ["a:0"])]
        function = add_function(meta_graph, f"f{i}", rows, "b:0")
        for node in function.node_def:
            node.attr["f"].func.name = f"f{(i + 1) % depth}"
    return meta_graph


def hostile_depth() -> object:
    name, rows, last = "", [], "x"
    for i in range(500):
        name += "a/"
        rows.append(("Relu", f"{name}n{i}", last))
        last = rows[-1][1]
    return graph(rows, last)


def hostile_words() -> object:
    rows = [("Relu", "_".join("a" * i) + "_b", ["x"]) for i in range(1, 600)]
    return graph([*rows, ("Foo", "y", [row[1] for row in rows])], "y")


def hostile_fan() -> object:
    layers = [[f"n{i}_{j}" for j in range(40)] for i in range(12)]
    rows = [("Foo", name, ["x"]) for name in layers[0]]
    for above, here in itertools.pairwise(layers):
        rows += [("Foo", name, above) for name in here]
    return graph([*rows, ("Foo", "y", layers[-1])], "y")


def hostile_references() -> object:
    """Inputs from nowhere, from the node itself, in cycles, empty, and nodes of one name."""
    rows = [
        ("Foo", "a", ["nothing", "a", "b", "", "^", "^a", "x:-1", "::"]),
        ("Foo", "b", ["a"]),
        ("Foo", "b", ["x"]),
        ("PartitionedCall", "c", ["b"]),
        ("If", "", []),
        ("Identity", "i", ["j"]),
        ("Identity", "j", ["i", "a"]),
        ("ReadVariableOp", "/", []),
        ("Foo", "y", ["a", "c", "i", "/"]),
    ]
    return graph(rows, "y")


@pytest.mark.parametrize(
    "make",
    [
        *(hostile_depth, hostile_words, hostile_fan, hostile_references),
        lambda: hostile_calls(500),
    ],
    ids=["depth", "words", "fan", "references", "calls"],
)
def test_hostile_graphs_are_drawn_in_bounded_time(make: object) -> None:
    meta_graph = make()
    start = time.process_time()
    picture = drawn(meta_graph)
    assert time.process_time() - start < 5
    assert sum(map(len, picture.opened)) < 20_000


def test_twenty_thousand_nodes_take_seconds() -> None:
    rows, last = [], "x"
    for i in range(20_000):
        name = f"model/block_{i // 200}/layer_{i // 20 % 10}/op_{i % 20}"
        before = rows[i - 20][1] if i % 20 == 0 and i else "x"
        rows.append(("MatMul", name, sorted({last, before})))
        last = name
    meta_graph = graph(rows, last)
    start = time.process_time()
    picture = drawn(meta_graph)
    assert len(picture_page(picture)) < 20_000_000
    assert time.process_time() - start < 15
    found = boxes(picture, picture.root)
    assert sum(item.kind == "linear" for item in found.values()) == 20_000


@pytest.mark.parametrize(("nodes", "inputs"), [(100_001, 1), (500, 1000)], ids=["nodes", "inputs"])
def test_graphs_that_are_too_large_are_refused(nodes: int, inputs: int) -> None:
    rows = [("Foo", f"n{i}", ["x"] * inputs) for i in range(nodes)]
    meta_graph = graph([*rows, ("Foo", "y", [row[1] for row in rows])], "y")
    with pytest.raises(ResourceLimitError, match="100,000 nodes or 400,000 inputs"):
        drawn(meta_graph)


def test_debug_info_gives_the_line_of_a_node() -> None:
    meta_graph = graph([("Relu", "r", ["x"])], "r")
    info = GraphDebugInfo(files=["main.py", "model.py"])
    for number, (file, line, function) in {7: (0, 3, "main"), 9: (1, 12, "call")}.items():
        frame = info.frames_by_id[number]
        frame.file_index, frame.line, frame.func = file, line, function
    info.traces_by_id[3].frame_id.extend([7, 9])  # outermost first
    info.name_to_trace_id["r@"] = 3
    picture = draw_function("t", meta_graph, signature_body(meta_graph, None)[1], info)
    facts = {fact.name: fact.text for fact in boxes(picture, picture.root)["r"].facts}
    assert facts["source"] == "model.py:12 (call), main.py:3 (main)"
