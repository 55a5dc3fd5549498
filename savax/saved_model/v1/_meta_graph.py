"""MetaGraphDefs of graphs: nodes with their shapes, and collections."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from savax.errors import CorruptSavedModelError, KeyNotFoundError
from savax.function import stripped_op_list
from savax.function._op_schemas import is_known_op, op_schema, strip_defaults
from savax.function.graph._default_stack import get_default_graph
from savax.function.graph._graph_keys import VARIABLE_COLLECTIONS
from savax.function.graph._graph_variables import GraphVariable, variables_of
from savax.function.graph._handles import Operation, Tensor
from savax.function.graph._import_graph import import_graph_def
from savax.protos import (
    AssetFileDef,
    CollectionDef,
    MetaGraphDef,
    SaverDef,
    VariableDef,
    parse,
    parse_text,
    serialize,
    to_text,
)
from savax.trackable.bundle import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from savax.function.graph._graph import Graph
    from savax.protos import GraphDef, NodeDef
    from savax.types import PathLike

_ANY = "google.protobuf.Any"
_TYPE_URL = "type.googleapis.com/"


def export_meta_graph(
    filename: PathLike | None = None,
    *,
    saver_def: SaverDef | None = None,
    collection_list: Sequence[str] | None = None,
    as_text: bool = False,
    clear_devices: bool = False,
    strip_default_attrs: bool = False,
    graph: Graph | None = None,
) -> MetaGraphDef:
    """Returns a graph with its collections.

    Args:
      filename: where to write it, if anywhere.
      saver_def: names the nodes that save and restore.
      collection_list: the collections to include; by default all.
      as_text: whether to write text.
      clear_devices: whether nodes, those of functions excepted, ask for no devices.
      strip_default_attrs: whether attributes that hold their default are left out; else all
        attributes are written.
      graph: by default the default graph.
    """
    chosen = graph or get_default_graph()
    result = MetaGraphDef()
    result.graph_def.CopyFrom(chosen.as_graph_def(add_shapes=True))
    _finish_nodes(result.graph_def, clear_devices=clear_devices, strip=strip_default_attrs)
    info = result.meta_info_def
    info.stripped_default_attrs = strip_default_attrs
    ops = {node.op for node in result.graph_def.node}
    for function in result.graph_def.library.function:
        ops.update(node.op for node in function.node_def)
    info.stripped_op_list.CopyFrom(stripped_op_list(ops - chosen.functions().keys()))
    if saver_def is not None and saver_def.ByteSize():  # TensorFlow 2 reads no empty one
        result.saver_def.CopyFrom(saver_def)
    for name in collection_list or chosen.get_all_collection_keys():
        collection = _export_collection(name, chosen.get_collection(name))
        if collection is not None:
            result.collection_def[name].CopyFrom(collection)
    if filename is not None:
        data = to_text(result).encode() if as_text else serialize(result)
        replace_file(os.fspath(filename), data)
    return result


def _finish_nodes(graph: GraphDef, *, clear_devices: bool, strip: bool) -> None:
    if clear_devices:
        for node in graph.node:
            node.device = ""
    adapt = strip_defaults if strip else _add_defaults
    for node in graph.node:
        adapt(node)
    for function in graph.library.function:
        for node in function.node_def:
            adapt(node)


def _add_defaults(node: NodeDef) -> None:
    """Writes the attributes that a node leaves out because they hold their op's default."""
    if not is_known_op(node.op):
        return
    for attr in op_schema(node.op).attrs.values():
        if attr.default is not None and attr.name not in node.attr:
            node.attr[attr.name].CopyFrom(attr.default)


def _export_collection(name: Any, values: Sequence[Any]) -> CollectionDef | None:
    """Returns the message of a collection, None for one of values that no message holds."""
    collection = CollectionDef()
    if not isinstance(name, str) or not values:
        return None
    if all(isinstance(value, GraphVariable) for value in values):
        collection.bytes_list.value.extend(serialize(value.to_proto()) for value in values)
    elif all(isinstance(value, Tensor | Operation) for value in values):
        collection.node_list.value.extend(value.name for value in values)
    elif all(isinstance(value, Message) for value in values):
        for value in values:
            packed = collection.any_list.value.add()
            if value.DESCRIPTOR.full_name == _ANY:
                packed.CopyFrom(value)
            else:
                packed.type_url = _TYPE_URL + value.DESCRIPTOR.full_name
                packed.value = serialize(value)
    elif all(isinstance(value, str | bytes) for value in values):
        collection.bytes_list.value.extend(
            value.encode() if isinstance(value, str) else value for value in values
        )
    elif all(isinstance(value, int) for value in values):
        collection.int64_list.value.extend(values)
    elif all(isinstance(value, int | float) for value in values):
        collection.float_list.value.extend(values)
    else:
        kinds = ", ".join(sorted({type(value).__name__ for value in values}))
        warnings.warn(
            f"The collection {name!r} isn't exported: it holds {kinds}.", UserWarning, stacklevel=4
        )
        return None
    return collection


def read_meta_graph(path: PathLike) -> MetaGraphDef:
    """Returns the MetaGraphDef of a file, binary or text.

    Raises:
      CorruptSavedModelError: the file is none.
      FileNotFoundError: there is no such file.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        return parse(MetaGraphDef, data, os.fspath(path))
    except CorruptSavedModelError:
        return parse_text(MetaGraphDef, data, os.fspath(path))


def import_into_graph(
    graph: Graph,
    meta_graph: MetaGraphDef,
    import_scope: str | None = None,
    *,
    clear_devices: bool = False,
    input_map: Any = None,
    return_elements: Sequence[str] | None = None,
) -> list[Any] | None:
    """Adds the nodes and collections of a MetaGraphDef to a graph.

    Args:
      graph: the graph.
      meta_graph: what to add.
      import_scope: prefix of the nodes' names.
      clear_devices: whether nodes ask for no devices.
      input_map: see ``import_graph_def``.
      return_elements: see ``import_graph_def``.

    Raises:
      InvalidArgumentError: names are taken.
      CorruptSavedModelError: the collections don't belong to the nodes.
    """
    definition = meta_graph.graph_def
    if clear_devices:
        definition = type(definition)()
        definition.CopyFrom(meta_graph.graph_def)
        _finish_devices(definition.node)
    scope = f"{import_scope}/" if import_scope else ""
    with graph.as_default():
        found = import_graph_def(definition, input_map, return_elements, name=scope)
    known = {variable.name: variable for variable in variables_of(graph)}
    for name in sorted(meta_graph.collection_def):
        try:
            values = list(_import_collection(graph, name, meta_graph.collection_def[name], scope))
        except KeyNotFoundError as error:
            raise CorruptSavedModelError(f"The collection {name!r}: {error}") from error
        _share_variables(graph, name, values, known)
    return found


def _finish_devices(nodes: Iterable[NodeDef]) -> None:
    for node in nodes:
        node.device = ""


def _share_variables(
    graph: Graph, name: str, values: Sequence[Any], known: dict[str, GraphVariable]
) -> None:
    """Adds values to a collection; a variable is one object in all collections."""
    for value in values:
        is_variable = isinstance(value, GraphVariable)
        shared = known.get(value.name, value) if is_variable else value
        graph.add_to_collection(name, shared)
        if is_variable and name in VARIABLE_COLLECTIONS:
            known.setdefault(value.name, value)


def _import_collection(
    graph: Graph, name: str, collection: CollectionDef, scope: str
) -> Iterable[Any]:
    kind = collection.WhichOneof("kind")
    if kind == "bytes_list" and name in VARIABLE_COLLECTIONS:
        for data in collection.bytes_list.value:
            proto = parse(VariableDef, data, f"the collection {name!r}")
            yield GraphVariable.from_proto(proto, scope.removesuffix("/"), graph)
    elif kind == "node_list":
        yield from (graph.as_graph_element(scope + item) for item in collection.node_list.value)
    elif kind == "any_list":
        for packed in collection.any_list.value:
            if packed.type_url.endswith(f"/{AssetFileDef.DESCRIPTOR.full_name}"):
                asset = parse(AssetFileDef, packed.value, f"the collection {name!r}")
                asset.tensor_info.name = scope + asset.tensor_info.name
                yield asset
            else:
                yield packed
    elif kind is not None:
        yield from getattr(collection, kind).value
