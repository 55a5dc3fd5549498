"""A SavedObjectGraph as objects: one reviver for each kind of node, then the edges."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from savax.errors import CorruptSavedModelError, CyclicDependencyError, UnsafePathError
from savax.function import ConcreteFunction, Function
from savax.protos import (
    GraphDef,
    MetaGraphDef,
    NodeDef,
    SavedObject,
    SavedObjectGraph,
    decode_shape,
    decode_tensor,
)
from savax.saved_model._functions_import import FunctionImporter, import_function_spec
from savax.saved_model._gradients import import_gradients
from savax.saved_model._loaded_objects import (
    CallableLoadedObject,
    LoadedObject,
    LoadedSlotOwner,
)
from savax.saved_model._loaded_tables import LoadedResource
from savax.saved_model._registered_classes import (
    LoadedParts,
    add_children,
    is_signatures,
    registered_classes,
    revival_order,
    revive_registered,
)
from savax.saved_model._signatures import SignatureMap
from savax.trackable import (
    Asset,
    Constant,
    SlotOwner,
    Trackable,
    TrackedDict,
    TrackedList,
    Variable,
    VariableAggregation,
    VariableSynchronization,
)
from savax.trackable._resource import RESTORE_TABLE, SAVE_TABLE, TABLE_ATTRIBUTE
from savax.types import TensorSpec, as_dtype, contained_path
from savax.types._paths import ASSETS_DIRECTORY

if TYPE_CHECKING:
    import numpy as np

    from savax.saved_model._reader import ModelDirectory

_SIGNATURE_MAP = "signature_map"


@dataclasses.dataclass
class ObjectImporter:
    """Revives the nodes of one object graph.

    Attributes:
      meta_graph: what the model holds.
      directory: of the model.
      arrays: content of those constants that isn't in their nodes, by name.
    """

    meta_graph: MetaGraphDef
    directory: ModelDirectory
    arrays: Mapping[str, np.ndarray[Any, Any]]

    def __post_init__(self) -> None:
        self._proto: SavedObjectGraph = self.meta_graph.object_graph_def
        self._constants = _constants_by_name(self.meta_graph.graph_def)
        assets = os.path.join(self.directory.path, ASSETS_DIRECTORY)
        self._functions = FunctionImporter(
            self.meta_graph.graph_def, self._proto, assets, self.directory.copy
        )
        self._resource_lock = threading.RLock()
        self._nodes: list[Trackable | None] = [None] * len(self._proto.nodes)
        self._registered = registered_classes(self._proto)
        graph_nodes = self.meta_graph.graph_def.node if self._registered else ()
        self._parts = LoadedParts(
            self.directory.path,
            self.meta_graph.asset_file_def,
            {node.name: node.attr for node in graph_nodes},
        )

    def import_objects(self) -> list[Trackable]:
        """Returns the objects of all nodes, with their edges; the root is the first.

        Raises:
          CorruptSavedModelError: the graph contradicts itself; the message names the node.
        """
        if not self._proto.nodes:
            raise CorruptSavedModelError("The object graph has no root.")
        self._check_edges()
        for node_id in self._revival_order():
            self._nodes[node_id] = self._revive(node_id, self._proto.nodes[node_id])
        for node_id, saved in enumerate(self._proto.nodes):
            if _is_signature_map(saved):
                self._nodes[node_id] = self._signature_map(saved)
        graph = self.meta_graph.graph_def
        self._functions.register_gradients(import_gradients(graph, self._proto, self._nodes))
        objects = [LoadedObject() if node is None else node for node in self._nodes]
        for node_id, (obj, saved) in enumerate(zip(objects, self._proto.nodes, strict=True)):
            _add_edges(obj, saved, objects, is_registered=node_id in self._registered)
            _add_slots(obj, saved, objects)
            _add_table_functions(obj, saved, objects)
        return objects

    def _check_edges(self) -> None:
        count = len(self._proto.nodes)
        for node_id, saved in enumerate(self._proto.nodes):
            names = [child.local_name for child in saved.children]
            if len(set(names)) < len(names):
                raise CorruptSavedModelError(f"Node {node_id} has two children of one name.")
            ids = [child.node_id for child in saved.children]
            for slot in saved.slot_variables:
                ids += [slot.original_variable_node_id, slot.slot_variable_node_id]
            ids += [dependency.node_id for dependency in saved.dependencies]
            for saveable in saved.saveable_objects.values():
                ids += [saveable.save_function, saveable.restore_function]
            if any(not 0 <= child_id < count for child_id in ids):
                raise CorruptSavedModelError(
                    f"Node {node_id} refers to a node that isn't there; there are {count}."
                )

    def _revival_order(self) -> list[int]:
        try:
            order = revival_order(self._proto, self._registered)
        except CyclicDependencyError as error:
            raise CorruptSavedModelError(str(error)) from error
        kinds = {node_id: self._proto.nodes[node_id].WhichOneof("kind") for node_id in order}
        return [
            node_id
            for node_id in order
            if kinds[node_id] in _REVIVERS and not _is_signature_map(self._proto.nodes[node_id])
        ]

    def _revive(self, node_id: int, saved: SavedObject) -> Trackable:
        kind = saved.WhichOneof("kind")
        cls = self._registered.get(node_id)
        if cls is not None:
            dependencies = {}
            for dependency in saved.dependencies:
                needed = self._nodes[dependency.node_id]
                if needed is None:
                    raise CorruptSavedModelError(
                        f"Node {node_id} depends on node {dependency.node_id}, which no object can."
                    )
                dependencies[dependency.local_name] = needed
            return revive_registered(cls, saved, dependencies, self._parts)
        try:
            return _REVIVERS[kind](self, saved)
        except (CorruptSavedModelError, UnsafePathError) as error:
            raise type(error)(f"Node {node_id} of the object graph: {error}") from error

    def _signature_map(self, saved: SavedObject) -> SignatureMap:
        signatures = {}
        for child in saved.children:
            concrete = self._nodes[child.node_id]
            if isinstance(concrete, Function) and len(concrete.concrete_functions) == 1:
                concrete = concrete.concrete_functions[0]
            if not isinstance(concrete, ConcreteFunction):
                raise CorruptSavedModelError(
                    f"The signature {child.local_name!r} is no concrete function."
                )
            signatures[child.local_name] = concrete
        return SignatureMap(signatures, self._default_inputs(signatures))

    def _default_inputs(
        self, signatures: Mapping[str, ConcreteFunction]
    ) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        """Returns what the SignatureDefs say of inputs that may be left out."""
        definitions = self.meta_graph.signature_def
        return {
            key: {
                name: decode_tensor(value)
                for name, value in definitions[key].defaults.items()
                if name in concrete.argument_names
            }
            for key, concrete in signatures.items()
            if key in definitions
        }

    def _captures(self, name: str) -> list[Trackable]:
        captures = []
        for node_id in self._functions.bound_inputs(name):
            node = self._nodes[node_id] if 0 <= node_id < len(self._nodes) else None
            if node is None:
                raise CorruptSavedModelError(
                    f"The function {name!r} captures node {node_id}, which can't be captured."
                )
            captures.append(node)
        return captures

    def revive_user_object(self, saved: SavedObject) -> Trackable:
        """Returns a plain object or a container."""
        identifier = saved.user_object.identifier
        if identifier in ("trackable_list_wrapper", "trackable_tuple_wrapper"):
            return TrackedList()
        if identifier == "trackable_dict_wrapper":
            return TrackedDict()
        if saved.slot_variables:
            return LoadedSlotOwner()
        if any(child.local_name == "__call__" for child in saved.children):
            return CallableLoadedObject()
        return LoadedObject()

    def revive_variable(self, saved: SavedObject) -> Variable:
        """Returns a Variable without a value."""
        proto = saved.variable
        try:
            synchronization = VariableSynchronization(proto.synchronization)
            aggregation = VariableAggregation(proto.aggregation)
            spec = TensorSpec(decode_shape(proto.shape), as_dtype(int(proto.dtype)), proto.name)
        except ValueError as error:
            raise CorruptSavedModelError(f"The Variable {proto.name!r}: {error}") from error
        return Variable.without_value(
            spec,
            proto.trainable,
            synchronization=synchronization,
            aggregation=aggregation,
        )

    def revive_constant(self, saved: SavedObject) -> Constant:
        """Returns a captured constant with its value from the main graph."""
        node = self._constants.get(saved.constant.operation)
        if node is None:
            raise CorruptSavedModelError(f"The graph has no constant {saved.constant.operation!r}.")
        array = self.arrays.get(node.name)
        return Constant(decode_tensor(node.attr["value"].tensor) if array is None else array)

    def revive_asset(self, saved: SavedObject) -> Asset:
        """Returns a file of the model's assets folder."""
        index = saved.asset.asset_file_def_index
        files = self.meta_graph.asset_file_def
        if not 0 <= index < len(files):
            raise CorruptSavedModelError(f"There is no asset file {index}.")
        name = files[index].filename
        folder = contained_path(self.directory.path, ASSETS_DIRECTORY, "assets folder")
        return Asset(contained_path(folder, name, "asset file"), self.directory.copy)

    def revive_resource(self, saved: SavedObject) -> LoadedResource:
        """Returns a resource that the model's own functions create and fill."""
        return LoadedResource(saved.resource.device, saved.registered_name, self._resource_lock)

    def revive_concrete(self, saved: SavedObject) -> ConcreteFunction:
        """Returns a function of one signature."""
        bare = saved.bare_concrete_function
        name = bare.concrete_function_name
        spec = import_function_spec(bare.function_spec, _python_name(name))
        return self._functions.concrete(name, self._captures(name), spec, bare)

    def revive_function(self, saved: SavedObject) -> Function:
        """Returns a function of several signatures."""
        names = list(saved.function.concrete_functions)
        name = _python_name(names[0]) if names else "function"
        spec = import_function_spec(saved.function.function_spec, name)
        concretes = [self._functions.concrete(n, self._captures(n), spec) for n in names]
        return Function(None, spec, concrete_functions=concretes)


_Reviver = Callable[[ObjectImporter, SavedObject], Trackable]
_REVIVERS: dict[str | None, _Reviver] = {
    "user_object": ObjectImporter.revive_user_object,
    "variable": ObjectImporter.revive_variable,
    "constant": ObjectImporter.revive_constant,
    "asset": ObjectImporter.revive_asset,
    "resource": ObjectImporter.revive_resource,
    "bare_concrete_function": ObjectImporter.revive_concrete,
    "function": ObjectImporter.revive_function,
}


def _constants_by_name(graph: GraphDef) -> dict[str, NodeDef]:
    found: dict[str, NodeDef] = {}
    for node in graph.node:
        if node.op == "Const" and found.setdefault(node.name, node) is not node:
            raise CorruptSavedModelError(f"The graph has two nodes named {node.name!r}.")
    return found


def _is_signature_map(saved: SavedObject) -> bool:
    return saved.user_object.identifier == _SIGNATURE_MAP


def _python_name(function_name: str) -> str:
    stem = function_name.removeprefix("__inference_").rstrip("0123456789").removesuffix("_")
    return stem or function_name


def _add_edges(
    obj: Trackable, saved: SavedObject, objects: list[Trackable], *, is_registered: bool
) -> None:
    if is_registered:
        add_children(obj, saved, objects)
    elif isinstance(obj, TrackedList):
        _fill_list(obj, saved, objects)
    elif isinstance(obj, TrackedDict):
        for child in saved.children:
            obj[child.local_name] = objects[child.node_id]
    elif isinstance(obj, LoadedObject | LoadedResource):
        for child in saved.children:
            value = objects[child.node_id]
            if is_signatures(child.local_name, value):
                obj.set_untracked(child.local_name, value)
            else:
                obj.add_child(child.local_name, value)


def _add_table_functions(obj: Trackable, saved: SavedObject, objects: list[Trackable]) -> None:
    """Adds the functions by which TensorFlow saves and restores a mutable table."""
    if not isinstance(obj, LoadedResource) or TABLE_ATTRIBUTE not in saved.saveable_objects:
        return
    saveable = saved.saveable_objects[TABLE_ATTRIBUTE]
    names = {child.local_name for child in saved.children}
    for name, node_id in (
        (SAVE_TABLE, saveable.save_function),
        (RESTORE_TABLE, saveable.restore_function),
    ):
        if name not in names:
            obj.add_child(name, objects[node_id])


def _fill_list(obj: TrackedList, saved: SavedObject, objects: list[Trackable]) -> None:
    """Fills a list by index; names that are no index are fields of a named tuple, a second time."""
    indexed = {
        int(child.local_name): objects[child.node_id]
        for child in saved.children
        if child.local_name.isdecimal() and len(child.local_name) < 10
    }
    if sorted(indexed) != list(range(len(indexed))):
        # Elements that aren't Trackables were not saved, so indices have gaps.
        obj.extend(_with_gaps(indexed))
    else:
        obj.extend(indexed[i] for i in range(len(indexed)))


def _with_gaps(indexed: dict[int, Trackable]) -> Iterable[Any]:
    if max(indexed) > 1_000_000 + 100 * len(indexed):
        raise CorruptSavedModelError(f"A list has an element {max(indexed)}, but few others.")
    return (indexed.get(i) for i in range(max(indexed) + 1))


def _add_slots(obj: Trackable, saved: SavedObject, objects: list[Trackable]) -> None:
    if not isinstance(obj, SlotOwner):
        return
    for slot in saved.slot_variables:
        original = objects[slot.original_variable_node_id]
        obj.add_slot(original, slot.slot_name, objects[slot.slot_variable_node_id])
