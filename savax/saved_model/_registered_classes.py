"""Objects of registered classes: what a SavedModel says of them, and how they are made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf import any_pb2
from google.protobuf.message import Message

from savax.errors import (
    InvalidArgumentError,
    NotEncodableError,
    TrackingError,
    UnsupportedError,
)
from savax.saved_model._signatures import SIGNATURES_ATTRIBUTE, SignatureMap
from savax.trackable import (
    CLASS_REGISTRY,
    SAVER_REGISTRY,
    TableResource,
    Trackable,
    Variable,
    order_by_dependency,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from savax.protos import AssetFileDef, SavedObject, SavedObjectGraph
    from savax.trackable import Node, ObjectGraph

# Functions come after what they capture, also where nothing else has dependencies.
_PHASES: dict[str | None, int] = {"bare_concrete_function": 1, "function": 2}
_TYPE_URL = "type.googleapis.com/"  # what protobuf itself puts before the name of a type


def write_registered(saved: SavedObject, node: Node, graph: ObjectGraph) -> None:
    """Adds to a node what loading needs to make the object of a registered class again.

    Raises:
      NotEncodableError: ``_serialize_to_proto`` returns something that is no message.
      InvalidArgumentError: ``_deserialization_dependencies`` returns something else than objects.
      TrackingError: or objects that aren't saved.
      UnsupportedError: a Variable or a table has a registered checkpoint saver.
    """
    saver = SAVER_REGISTRY.name_of(node.obj)
    if saver is not None:
        if isinstance(node.obj, Variable | TableResource):
            raise UnsupportedError(
                f"{graph.path_of(node.id)}, a {type(node.obj).__name__}, has the registered "
                f"checkpoint saver {saver!r}. Loaders outside of Python couldn't restore its "
                "value, so it can't be part of a SavedModel. Register the saver for the object "
                "that holds it."
            )
        saved.registered_saver = saver
    name = CLASS_REGISTRY.name_of(node.obj)
    if name is None:
        return
    saved.registered_name = name
    message = node.obj._serialize_to_proto(object_proto=saved)
    if message is not None:
        if not isinstance(message, Message):
            raise NotEncodableError(
                f"{type(node.obj).__name__}._serialize_to_proto must return a protobuf message or "
                f"None, not a {type(message).__name__}."
            )
        saved.serialized_user_proto.type_url = _TYPE_URL + message.DESCRIPTOR.full_name
        saved.serialized_user_proto.value = message.SerializeToString(deterministic=True)
    children = {child_name: graph.nodes[child_id].obj for child_name, child_id in node.children}
    for dependency, obj in node.obj._deserialization_dependencies(children).items():
        if not isinstance(obj, Trackable):
            raise InvalidArgumentError(
                f"{type(node.obj).__name__}._deserialization_dependencies must return Trackables; "
                f"{dependency!r} is a {type(obj).__name__}."
            )
        if obj not in graph:
            raise TrackingError(
                f"{type(node.obj).__name__}._deserialization_dependencies returns as "
                f"{dependency!r} a {type(obj).__name__} that isn't part of the model."
            )
        saved.dependencies.add(local_name=dependency, node_id=graph.id_of(obj))


def registered_classes(proto: SavedObjectGraph) -> dict[int, type[Trackable]]:
    """Returns the classes of those nodes whose class is registered in this process, by id."""
    found = {}
    for node_id, saved in enumerate(proto.nodes):
        if saved.registered_name:
            cls = CLASS_REGISTRY.get(saved.registered_name)
            if cls is not None:
                found[node_id] = cls
    return found


def revival_order(
    proto: SavedObjectGraph,
    registered: Collection[int],
    path_of: Callable[[int], str] = "node {}".format,
) -> list[int]:
    """Returns the ids of all nodes in an order in which each comes after those that it needs.

    Functions need what they capture, and of two nodes for one concrete function the bare one is
    first, as it knows the arguments' names. Objects of registered classes need their dependencies.

    Args:
      proto: the nodes.
      registered: ids of nodes of registered classes.
      path_of: how to call a node in messages.

    Raises:
      CyclicDependencyError: nodes need each other; the message names a circle of them.
    """
    kinds = [saved.WhichOneof("kind") for saved in proto.nodes]
    if not any(proto.nodes[node_id].dependencies for node_id in registered):
        return sorted(range(len(kinds)), key=lambda i: (_PHASES.get(kinds[i], 0), i))
    bare = {
        saved.bare_concrete_function.concrete_function_name: node_id
        for node_id, saved in enumerate(proto.nodes)
        if kinds[node_id] == "bare_concrete_function"
    }
    needed: dict[int, list[int]] = {}
    for node_id, saved in enumerate(proto.nodes):
        if node_id in registered:
            needed[node_id] = [dependency.node_id for dependency in saved.dependencies]
        elif kinds[node_id] == "bare_concrete_function":
            needed[node_id] = _captured(
                proto, [saved.bare_concrete_function.concrete_function_name]
            )
        else:
            names = saved.function.concrete_functions
            needed[node_id] = _captured(proto, names) + [
                bare[name] for name in names if name in bare
            ]
    return order_by_dependency(needed, path_of)


def _captured(proto: SavedObjectGraph, names: Iterable[str]) -> list[int]:
    """Returns the ids of nodes that concrete functions capture."""
    # A map field of protobuf makes an entry for a key that it doesn't have.
    found = [proto.concrete_functions[name] for name in names if name in proto.concrete_functions]
    return [node_id for signature in found for node_id in signature.bound_inputs]


def check_loading_order(proto: SavedObjectGraph, graph: ObjectGraph) -> None:
    """Checks that objects can be loaded one after the other.

    Raises:
      CyclicDependencyError: some need each other; the message has their paths.
    """
    revival_order(proto, registered_classes(proto), graph.path_of)


class LoadedParts(NamedTuple):
    """What classes are told of the model that is loaded.

    Attributes:
      export_dir: its directory.
      asset_file_def: its assets.
      operation_attributes: attributes of the main graph's nodes, by the node's name.
    """

    export_dir: str
    asset_file_def: Sequence[AssetFileDef]
    operation_attributes: Mapping[str, Any]


def revive_registered(
    cls: type[Trackable],
    saved: SavedObject,
    dependencies: Mapping[str, Trackable],
    model: LoadedParts,
) -> Trackable:
    """Returns an object of a registered class, without its children.

    What the class's ``_deserialize_from_proto`` raises isn't caught.

    Raises:
      InvalidArgumentError: the class returns no Trackable.
    """
    obj = cls._deserialize_from_proto(
        proto=any_pb2.Any(
            type_url=saved.serialized_user_proto.type_url, value=saved.serialized_user_proto.value
        ),
        object_proto=saved,
        dependencies=dependencies,
        export_dir=model.export_dir,
        asset_file_def=model.asset_file_def,
        operation_attributes=model.operation_attributes,
    )
    if not isinstance(obj, Trackable):
        raise InvalidArgumentError(
            f"{cls.__name__}._deserialize_from_proto, registered as {saved.registered_name!r}, "
            f"must return a Trackable, not a {type(obj).__name__}."
        )
    return obj


def is_signatures(name: str, value: Trackable) -> bool:
    """Whether a child is the map of signatures, which belongs to one save; the next has its own."""
    return name == SIGNATURES_ATTRIBUTE and isinstance(value, SignatureMap)


def add_children(obj: Trackable, saved: SavedObject, objects: Sequence[Trackable]) -> None:
    """Gives an object of a registered class its children.

    Raises:
      Whatever the class's ``_add_trackable_child`` raises, with a note that names the child.
    """
    for child in saved.children:
        value = objects[child.node_id]
        if is_signatures(child.local_name, value):
            object.__setattr__(obj, child.local_name, value)
            continue
        try:
            obj._add_trackable_child(child.local_name, value)
        except Exception as error:
            error.add_note(
                f"This is about the child {child.local_name!r} of an object of the class that is "
                f"registered as {saved.registered_name!r}, whose _add_trackable_child takes it."
            )
            raise
