"""A SavedObjectGraph as objects: one reviver for each kind of node, then the edges."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping
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
from savax.protos._tensor_codec import DEFAULT_LIMIT_BYTES
from savax.saved_model._edges_import import EdgeImporter
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
    registered_classes,
    revival_order,
    revive_registered,
)
from savax.saved_model._signatures import SignatureMap
from savax.trackable import (
    Asset,
    Constant,
    Trackable,
    TrackedDict,
    TrackedList,
    Variable,
    VariableAggregation,
    VariableSynchronization,
)
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
        self._captured: dict[str, list[Trackable]] = {}
        self._decoded: dict[str, np.ndarray[Any, Any]] = {}
        self._left_bytes = DEFAULT_LIMIT_BYTES
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
        edges = EdgeImporter(objects)
        for node_id, (obj, saved) in enumerate(zip(objects, self._proto.nodes, strict=True)):
            edges.add(obj, saved, is_registered=node_id in self._registered)
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
        if name in self._captured:
            return self._captured[name]
        captures = self._captured[name] = []
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
        return Constant(self._decoded_constant(node) if array is None else array)

    def _decoded_constant(self, node: NodeDef) -> np.ndarray[Any, Any]:
        """Returns the value of a node, once; what isn't in the file is limited for all together."""
        if node.name not in self._decoded:
            tensor = node.attr["value"].tensor
            array = self._decoded[node.name] = decode_tensor(tensor, limit_bytes=self._left_bytes)
            if any(array.strides):
                self._left_bytes -= max(0, array.nbytes - tensor.ByteSize())
        return self._decoded[node.name]

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
