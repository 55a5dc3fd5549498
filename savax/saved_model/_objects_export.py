"""The object graph as a SavedObjectGraph: one writer for each kind of node."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from typing import TYPE_CHECKING, Any

from savax.errors import NotEncodableError
from savax.function import ConcreteFunction, Function, FunctionSpec, export_composites
from savax.protos import FunctionSpec as FunctionSpecProto
from savax.protos import SavedObject, SavedObjectGraph, encode_shape, encode_structure
from savax.saved_model._registered_classes import check_loading_order, write_registered
from savax.saved_model._signatures import SignatureMap
from savax.trackable import (
    Asset,
    Constant,
    ObjectGraph,
    SlotOwner,
    TableResource,
    Trackable,
    TrackedDict,
    TrackedList,
    TrackedOrderedDict,
    TrackedTuple,
    Variable,
)
from savax.trackable._resource import RESTORE_TABLE, SAVE_TABLE, TABLE_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from savax.saved_model._functions_export import ExportedFunctions

# What TensorFlow decodes the parameters of a function from: the fields of Python's own tuple of
# that name, with annotations always empty.
FullArgSpec = namedtuple(
    "FullArgSpec", "args varargs varkw defaults kwonlyargs kwonlydefaults annotations"
)

_JIT_COMPILE = {
    None: FunctionSpecProto.JitCompile.DEFAULT,
    True: FunctionSpecProto.JitCompile.ON,
    False: FunctionSpecProto.JitCompile.OFF,
}

# Identifiers of user objects that TensorFlow revives as something other than a plain object.
_IDENTIFIERS: tuple[tuple[type, str], ...] = (
    (SignatureMap, "signature_map"),
    (TrackedList, "trackable_list_wrapper"),
    (TrackedDict, "trackable_dict_wrapper"),
    (TrackedOrderedDict, "trackable_dict_wrapper"),
    (TrackedTuple, "trackable_tuple_wrapper"),
    # Of the user objects that TensorFlow revives, the one that takes slot variables.
    (SlotOwner, "tf_deprecated_optimizer"),
)
GENERIC_USER_OBJECT = "_generic_user_object"


@dataclasses.dataclass(frozen=True)
class ExportedGraph:
    """What nodes refer to outside the object graph.

    Attributes:
      functions: FunctionDefs of the concrete functions.
      constants: name of the Const node of each captured constant, by the object's id.
      assets: index of each asset in the model's list of files, by the object's id.
      devices: the device of each Variable, by the object's id, if they are kept.
    """

    functions: ExportedFunctions
    constants: Mapping[int, str]
    assets: Mapping[int, int]
    devices: Mapping[int, str]


def export_objects(graph: ObjectGraph, exported: ExportedGraph) -> SavedObjectGraph:
    """Returns the SavedObjectGraph of a frozen object graph.

    Raises:
      NotEncodableError: a function takes or has as default a value that the format can't hold, or
        an object of a registered class isn't described by a message; the message has all paths.
      CyclicDependencyError: objects of registered classes need each other for being loaded.
    """
    proto = SavedObjectGraph()
    problems = []
    for node in graph.nodes:
        saved = proto.nodes.add()
        for name, child_id in node.children:
            if isinstance(node.obj, TableResource) and name in (SAVE_TABLE, RESTORE_TABLE):
                saveable = saved.saveable_objects[TABLE_ATTRIBUTE]
                field = "save_function" if name == SAVE_TABLE else "restore_function"
                setattr(saveable, field, child_id)
            else:
                saved.children.add(local_name=name, node_id=child_id)
        try:
            _writer(node.obj)(saved, node.obj, exported)
            if isinstance(node.obj, ConcreteFunction):
                _write_signature(proto, graph, node.obj, exported)
            write_registered(saved, node, graph)
        except NotEncodableError as error:
            problems.append(f"{graph.path_of(node.id)}: {error}")
        if isinstance(node.obj, Function | ConcreteFunction):
            # Load order: functions after their traces, traces after what they capture.
            for name, child_id in node.children:
                saved.dependencies.add(local_name=name, node_id=child_id)
    for slot in graph.slots:
        proto.nodes[slot.optimizer].slot_variables.add(
            original_variable_node_id=slot.original,
            slot_name=slot.slot_name,
            slot_variable_node_id=slot.slot,
        )
    if problems:
        raise NotEncodableError("\n".join(problems))
    check_loading_order(proto, graph)
    return proto


def _write_signature(
    proto: SavedObjectGraph,
    graph: ObjectGraph,
    concrete: ConcreteFunction,
    exported: ExportedGraph,
) -> None:
    saved = proto.concrete_functions[exported.functions.name_of(concrete)]
    saved.bound_inputs.extend(graph.id_of(capture) for capture in concrete.captures)
    saved.canonicalized_input_signature.CopyFrom(
        encode_structure(export_composites(concrete.structured_input_signature))
    )
    saved.output_signature.CopyFrom(
        encode_structure(export_composites(concrete.structured_outputs))
    )


def _write_variable(saved: SavedObject, obj: Any, exported: ExportedGraph) -> None:
    variable: Variable = obj
    saved.variable.dtype = variable.dtype.number
    saved.variable.shape.CopyFrom(encode_shape(variable.shape))
    saved.variable.trainable = variable.trainable
    saved.variable.synchronization = int(variable.synchronization)
    saved.variable.aggregation = int(variable.aggregation)
    saved.variable.name = variable.name
    saved.variable.device = exported.devices.get(id(variable), "")


def _write_function(saved: SavedObject, obj: Any, exported: ExportedGraph) -> None:
    function: Function = obj
    # A function that was never traced has no names, but is a function all the same.
    saved.function.SetInParent()
    saved.function.concrete_functions.extend(
        exported.functions.name_of(concrete) for concrete in function.concrete_functions
    )
    _write_spec(saved.function.function_spec, function.function_spec)


def _write_concrete(saved: SavedObject, obj: Any, exported: ExportedGraph) -> None:
    concrete: ConcreteFunction = obj
    bare = saved.bare_concrete_function
    bare.concrete_function_name = exported.functions.name_of(concrete)
    bare.argument_keywords.extend(concrete.argument_names)
    args, _ = concrete.structured_input_signature
    # Keywords have no order; that of one alone is clear, and TensorFlow takes it by position too.
    only = len(concrete.argument_names) == 1
    bare.allowed_positional_arguments = 1 if only else len(args)
    spec = dataclasses.replace(
        concrete.function_spec, defaults=(), kwonlydefaults={}, input_signature=None
    )
    _write_spec(bare.function_spec, spec)


def _write_spec(proto: FunctionSpecProto, spec: FunctionSpec) -> None:
    full = FullArgSpec(
        args=list(spec.args),
        varargs=spec.varargs,
        varkw=spec.varkw,
        defaults=tuple(spec.defaults) or None,
        kwonlyargs=list(spec.kwonlyargs),
        kwonlydefaults=dict(spec.kwonlydefaults) or None,
        annotations={},
    )
    proto.fullargspec.CopyFrom(encode_structure(full))
    proto.input_signature.CopyFrom(encode_structure(export_composites(spec.input_signature)))
    proto.jit_compile = _JIT_COMPILE[spec.jit_compile]


def _write_constant(saved: SavedObject, obj: Any, exported: ExportedGraph) -> None:
    saved.constant.operation = exported.constants[id(obj)]
    saved.registered_name = "tf.TrackableConstant"


def _write_asset(saved: SavedObject, obj: Any, exported: ExportedGraph) -> None:
    saved.asset.SetInParent()
    saved.asset.asset_file_def_index = exported.assets[id(obj)]


def _write_table(saved: SavedObject, obj: Any, exported: ExportedGraph) -> None:
    saved.resource.SetInParent()
    saved.resource.device = getattr(obj, "device", "")
    saved.registered_name = getattr(obj, "registered_name", "")


def _write_user_object(saved: SavedObject, obj: Any, exported: ExportedGraph) -> None:
    identifiers = (name for cls, name in _IDENTIFIERS if isinstance(obj, cls))
    saved.user_object.identifier = next(identifiers, GENERIC_USER_OBJECT)
    # Without a version TensorFlow revives nothing: ``signatures`` would be no map.
    saved.user_object.version.producer = 1
    saved.user_object.version.min_consumer = 1


_WRITERS: tuple[tuple[type, Callable[[SavedObject, Any, ExportedGraph], None]], ...] = (
    (Variable, _write_variable),
    (Function, _write_function),
    (ConcreteFunction, _write_concrete),
    (Constant, _write_constant),
    (Asset, _write_asset),
    (TableResource, _write_table),
)


def _writer(obj: Trackable) -> Callable[[SavedObject, Any, ExportedGraph], None]:
    return next((write for cls, write in _WRITERS if isinstance(obj, cls)), _write_user_object)
