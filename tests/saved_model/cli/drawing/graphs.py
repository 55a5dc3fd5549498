"""Graphs to be drawn, made node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.protos import GraphDebugInfo, MetaGraphDef
from savax.saved_model.cli.drawing import draw_function, signature_body

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from savax.protos import FunctionDef, NodeDef
    from savax.saved_model.cli.drawing._picture import Group, Item, Picture

FLOAT = 1


def graph(rows: Iterable[tuple[str, str, Sequence[str]]], output: str) -> MetaGraphDef:
    """Returns a graph of (op, name, inputs) with the input ``x`` and the output ``result``."""
    meta_graph = MetaGraphDef()
    add(meta_graph.graph_def, "Placeholder", "x", ())
    for op, name, inputs in rows:
        add(meta_graph.graph_def, op, name, inputs)
    signature = meta_graph.signature_def["serving_default"]
    signature.inputs["x"].name, signature.outputs["result"].name = "x:0", f"{output}:0"
    for info in (signature.inputs["x"], signature.outputs["result"]):
        info.dtype = FLOAT
        info.tensor_shape.unknown_rank = True
    return meta_graph


def add(owner: object, op: str, name: str, inputs: Sequence[str]) -> NodeDef:
    nodes = owner.node if hasattr(owner, "node") else owner.node_def
    return nodes.add(op=op, name=name, input=inputs)


def add_function(
    meta_graph: MetaGraphDef, name: str, rows: Iterable[tuple[str, str, Sequence[str]]], ret: str
) -> FunctionDef:
    """Adds a function of ``x`` that returns ``y``."""
    function = meta_graph.graph_def.library.function.add()
    function.signature.name = name
    function.signature.input_arg.add(name="x", type=FLOAT)
    function.signature.output_arg.add(name="y", type=FLOAT)
    for op, node, inputs in rows:
        add(function, op, node, inputs)
    function.ret["y"] = ret
    return function


def drawn(meta_graph: MetaGraphDef, *opened: str) -> Picture:
    body = signature_body(meta_graph, None)[1]
    return draw_function("test", meta_graph, body, GraphDebugInfo(), opened)


def boxes(picture: Picture, group: Group, path: str = "") -> dict[str, Item]:
    """Returns all boxes by path, without those of functions."""
    found = {}
    for item in group.items:
        if item.key:
            found[path + item.key] = item
            if item.content is not None:
                found |= boxes(picture, item.content, f"{path}{item.key}/")
    return found


def edges(group: Group) -> set[tuple[str, str]]:
    """Returns the edges between boxes of a group by their keys."""
    keys = [item.key for item in group.items]
    return {(keys[link.source], keys[link.target]) for link in group.links}


def resnet() -> MetaGraphDef:
    """Returns a graph with the names and branches of Keras' ResNet50, at TensorFlow's grain."""
    rows: list[tuple[str, str, Sequence[str]]] = []

    def layer(name: str, op: str, *inputs: str) -> str:
        rows.append((op, f"resnet50_1/{name}_1/{op}", inputs))
        return rows[-1][1]

    def convolved(name: str, source: str, relu: bool = True) -> str:
        scope = f"resnet50_1/{name}_conv_1"
        for op, inputs in (
            ("VarHandleOp", ()),
            ("ReadVariableOp", (f"{scope}/VarHandleOp",)),
            ("Conv2D", (source, f"{scope}/ReadVariableOp")),
            ("BiasAdd", (f"{scope}/Conv2D",)),
        ):
            rows.append((op, f"{scope}/{op}", inputs))
        norm = f"resnet50_1/{name}_bn_1/batchnorm"
        for op, inputs in (
            ("Rsqrt", ()),
            ("Mul", (f"{scope}/BiasAdd", f"{norm}/Rsqrt")),
            ("AddV2", (f"{norm}/Mul",)),
        ):
            rows.append((op, f"{norm}/{op}", inputs))
        return layer(f"{name}_relu", "Relu", f"{norm}/AddV2") if relu else f"{norm}/AddV2"

    last = convolved("conv1", layer("conv1_pad", "Pad", "x"))
    last = layer("pool1_pool", "MaxPool", layer("pool1_pad", "Pad", last))
    for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, count + 1):
            name = f"conv{stage}_block{block}"
            side = convolved(f"{name}_0", last, relu=False) if block == 1 else last
            inner = convolved(f"{name}_2", convolved(f"{name}_1", last))
            inner = convolved(f"{name}_3", inner, relu=False)
            last = layer(f"{name}_out", "Relu", layer(f"{name}_add", "AddV2", side, inner))
    last = layer("predictions", "MatMul", layer("avg_pool", "Mean", last))
    rows.append(("Softmax", "out", (last,)))
    return graph(rows, "out")
