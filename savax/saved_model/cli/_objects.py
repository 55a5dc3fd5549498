"""The object graph of a model, as plain data; and the paths of nodes of any object graph."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from savax.errors import InvalidArgumentError
from savax.protos import decode_shape
from savax.saved_model.cli._values import dtype_name, tensor_text
from savax.trackable._node_paths import shortest_paths
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping

    from savax.protos import (
        MetaGraphDef,
        NodeDef,
        SavedObject,
        SavedObjectGraph,
        SavedVariable,
    )
    from savax.trackable.checkpoint._stored_graph import StoredGraph

# User objects that have a meaning to Python, by the identifier in the file.
_USER_OBJECTS = {
    "_generic_user_object": "object",
    "signature_map": "signatures",
    "trackable_dict_wrapper": "dict",
    "trackable_list_wrapper": "list",
    "trackable_tuple_wrapper": "tuple",
}


@dataclasses.dataclass(frozen=True)
class ObjectReport:
    """A node of the object graph.

    Attributes:
      path: from the root, by the shortest way: ``root.layers.0.kernel``; very long ones begin with
        the number of a node instead.
      kind: what it is, e.g. ``"variable"``, ``"function"``, ``"list"``.
      detail: what there is to say beside its kind.
      size_bytes: bytes of a Variable's value; None for other objects and unknown shapes.
      children: path of each child, by local name.
    """

    path: str
    kind: str
    detail: str
    size_bytes: int | None
    children: dict[str, str]


def node_paths(objects: SavedObjectGraph | StoredGraph) -> dict[int, str]:
    """Returns the shortest path of each node that the root reaches, breadth first.

    Raises:
      CorruptSavedModelError: an edge leads to no node.
    """
    return shortest_paths(objects.nodes)


def collect_objects(meta_graph: MetaGraphDef) -> tuple[ObjectReport, ...]:
    """Returns the objects of a graph, breadth first."""
    objects = meta_graph.object_graph_def
    paths = node_paths(objects)
    constants = {node.name: node for node in meta_graph.graph_def.node if node.op == "Const"}
    reports = []
    for node_id, path in paths.items():
        saved = objects.nodes[node_id]
        kind, detail, size_bytes = describe_object(saved, meta_graph, constants)
        children = {child.local_name: paths[child.node_id] for child in saved.children}
        reports.append(ObjectReport(path, kind, detail, size_bytes, children))
    return tuple(reports)


def describe_object(
    saved: SavedObject, meta_graph: MetaGraphDef, constants: Mapping[str, NodeDef]
) -> tuple[str, str, int | None]:
    """Returns kind, detail, and the bytes of the value of a Variable if they are known."""
    kind = saved.WhichOneof("kind")
    if kind == "variable":
        return ("variable", *_describe_variable(saved.variable))
    if kind == "function":
        count = len(saved.function.concrete_functions)
        return "function", f"with {count} trace{'' if count == 1 else 's'}", None
    if kind == "bare_concrete_function":
        return "concrete function", saved.bare_concrete_function.concrete_function_name, None
    if kind == "asset":
        index = saved.asset.asset_file_def_index
        files = meta_graph.asset_file_def
        known = 0 <= index < len(files)
        return "asset", repr(files[index].filename) if known else "without a file", None
    if kind == "constant":
        node = constants.get(saved.constant.operation)
        return "constant", "" if node is None else _describe_constant(node), None
    if kind == "resource":
        return "resource", saved.resource.device, None
    if kind == "user_object":
        identifier = saved.user_object.identifier
        return _USER_OBJECTS.get(identifier, identifier), saved.registered_name, None
    return (kind or "object").replace("_", " "), "", None


def _describe_variable(variable: SavedVariable) -> tuple[str, int | None]:
    shape = decode_shape(variable.shape)
    try:
        item_bytes = as_dtype(variable.dtype).size
    except InvalidArgumentError:
        item_bytes = 0
    size_bytes = None
    if item_bytes and shape is not None and None not in shape:
        size_bytes = math.prod(size for size in shape if size is not None) * item_bytes
    text = f"{tensor_text(dtype_name(variable.dtype), shape)} {variable.name!r}"
    return (text if variable.trainable else f"{text} not trainable"), size_bytes


def _describe_constant(node: NodeDef) -> str:
    value = node.attr["value"].tensor
    return tensor_text(dtype_name(value.dtype), decode_shape(value.tensor_shape))
