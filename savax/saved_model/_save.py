"""Saving: validate, freeze, lower, build, write; nothing is written before all else succeeded."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from typing import TYPE_CHECKING, Any

from savax.errors import (
    InvalidArgumentError,
    TracingError,
    UntrackedDependencyError,
)
from savax.function import (
    CapturedArrays,
    ConcreteFunction,
    Function,
    free_name,
    stripped_op_list,
)
from savax.protos import MetaGraphDef, SavedModel, serialize
from savax.saved_model._assets import AssetFiles, collect_assets
from savax.saved_model._constants import INIT_OP_SIGNATURE_KEY, SCHEMA_VERSION, SERVING
from savax.saved_model._debug_info import make_debug_info
from savax.saved_model._directory import publish_directory, recover
from savax.saved_model._functions_export import ExportedFunctions, export_functions
from savax.saved_model._gradients import write_gradients
from savax.saved_model._graph_edits import check_namespaces, strip_debug_nodes
from savax.saved_model._graph_export import MainGraph
from savax.saved_model._graph_size import check_graph_size
from savax.saved_model._model_forms import ModelForm, model_form
from savax.saved_model._objects_export import ExportedGraph, export_objects
from savax.saved_model._options import SaveOptions
from savax.saved_model._signatures import (
    SIGNATURES_ATTRIBUTE,
    SignatureMap,
    canonical_signatures,
)
from savax.saved_model._tables_export import GraphTables, separate_shared_names
from savax.saved_model._targets import signature_targets
from savax.saved_model._variable_devices import device_of
from savax.saved_model._variable_policy import VariablePolicy
from savax.trackable import (
    FunctionLike,
    ObjectGraph,
    Trackable,
    TrackedList,
    Variable,
    current_frame,
    freeze_object_graph,
)
from savax.trackable._names import CAPTURED_ARRAYS
from savax.trackable.checkpoint import encode_object_graph, object_graph_tensor
from savax.trackable.checkpoint._registered_savers import shards_of_savers
from savax.trackable.checkpoint._sharded_tensors import require_here, split_sharded
from savax.trackable.checkpoint._sharding_policies import write_with
from savax.types import PathLike, index_path, variables_prefix
from savax.types._paths import (
    ASSETS_DIRECTORY,
    DEBUG_DIRECTORY,
    DEBUG_INFO_PB,
    FINGERPRINT_PB,
    VARIABLES_FILENAME,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from savax.protos import GraphDebugInfo


class SavingInsideFunctionError(TracingError, AssertionError):
    """A model was saved while a function was traced."""


class ReservedAttributeError(InvalidArgumentError):
    """The root has an attribute whose name the format needs."""


def save(
    obj: Trackable,
    export_dir: PathLike,
    signatures: Any = None,
    options: SaveOptions | None = None,
) -> None:
    """Writes an object, its state and its functions as a SavedModel.

    The directory appears, or replaces an older model, in one step; entries that don't belong to a
    model, such as ``assets.extra/``, are kept.

    Args:
      obj: a Module or another Trackable. Its functions are those decorated by ``savax.function``,
        in the signatures that they were called with or that they declare.
      export_dir: where to write: a directory, or the URL of one.
      signatures: what callers from outside Python may call: a function with an input signature or
        a concrete function, or a mapping of keys to those. None looks for one such function
        among the root's own.
      options: SaveOptions.

    Raises:
      InvalidArgumentError: the object is no Trackable, a signature isn't one, or the constants of
        functions are too large for a graph.
      UntrackedDependencyError: functions use Variables that can't be reached from the object.
      UnsupportedError: functions use primitives that TensorFlow, or the target, has no form for.
      PublishError: the directory can't be written.
    """
    options = options or SaveOptions()
    if current_frame() is not None:
        raise SavingInsideFunctionError(
            "A SavedModel can't be saved inside a savax.function: it would save traced values."
        )
    if not isinstance(obj, Trackable):
        raise InvalidArgumentError(
            f"A {type(obj).__name__} can't be saved: make it an attribute of a savax.Module or of "
            "another Trackable."
        )
    signature_map = _signature_map(obj, signatures)
    graph = _frozen(obj, signature_map)
    assets = collect_assets(graph)
    graph, functions = _exported(graph, signature_map, options)
    encoded = encode_object_graph(graph)
    state = object_graph_tensor(encoded.proto)
    built = build_saved_model(graph, functions, signature_map, assets, state, options)
    form = model_form(built.proto, built.constants, options)
    debug_info = make_debug_info(built.sources) if options.save_debug_info else None
    tensors = list(require_here(split_sharded([*encoded.tensors, state])))
    recover(export_dir)

    def build(directory: str) -> None:
        prefix = variables_prefix(directory)
        os.mkdir(os.path.dirname(prefix))
        by_savers = _written_by_savers(encoded.savers, directory)
        sharding = options.experimental_sharding_callback
        write_with(sharding, prefix, [*by_savers, *tensors], fsync=False)
        _write_rest(directory, form, assets)
        if debug_info is not None:
            _write_debug_info(directory, debug_info)

    publish_directory(export_dir, build)


def _write_debug_info(directory: str, debug_info: GraphDebugInfo) -> None:
    os.mkdir(os.path.join(directory, DEBUG_DIRECTORY))
    with open(os.path.join(directory, DEBUG_DIRECTORY, DEBUG_INFO_PB), "xb") as file:
        file.write(serialize(debug_info))


def _written_by_savers(
    savers: Mapping[str, Mapping[str, Trackable]], directory: str
) -> list[tuple[str, Any]]:
    """Returns the tensors that registered checkpoint savers write."""
    if not savers:
        return []
    with tempfile.TemporaryDirectory(dir=directory) as work:
        return shards_of_savers(savers, os.path.join(work, VARIABLES_FILENAME))


def _write_rest(directory: str, form: ModelForm, assets: AssetFiles) -> None:
    """Adds a model's files to those of its Variables."""
    os.mkdir(os.path.join(directory, ASSETS_DIRECTORY))
    assets.copy_to(os.path.join(directory, ASSETS_DIRECTORY))
    with open(index_path(variables_prefix(directory)), "rb") as index:
        fingerprint = form.fingerprint(index.read())
    with open(os.path.join(directory, FINGERPRINT_PB), "xb") as file:
        file.write(serialize(fingerprint))
    form.write(directory)


def _signature_map(obj: Trackable, signatures: Any) -> SignatureMap:
    own = getattr(obj, SIGNATURES_ATTRIBUTE, None)
    if own is not None and not isinstance(own, SignatureMap):
        raise ReservedAttributeError(
            f"The root, a {type(obj).__name__}, has an attribute 'signatures', which the format "
            "keeps for the model's signatures. Give the attribute another name, and pass "
            "signatures as the argument of save."
        )
    if signatures is None and own is not None:
        return own  # a loaded model keeps the signatures that it was saved with
    return canonical_signatures(obj, signatures)


def _frozen(obj: Trackable, signatures: SignatureMap) -> ObjectGraph:
    """Returns the object graph with every function traced that declares a signature."""
    extra = [(SIGNATURES_ATTRIBUTE, signatures)]
    traced = -1
    while True:
        graph = freeze_object_graph(obj, save_type="savedmodel", extra=extra)
        functions = [node.obj for node in graph.nodes if isinstance(node.obj, Function)]
        for function in functions:
            if function.input_signature is not None and function.python_function is not None:
                function.get_concrete_function()
        # A trace may make Variables, and with them reach further objects.
        count = sum(len(function.concrete_functions) for function in functions)
        if count == traced:
            return graph
        traced = count


def _exported(
    graph: ObjectGraph, signatures: SignatureMap, options: SaveOptions
) -> tuple[ObjectGraph, ExportedFunctions]:
    """Returns the functions of the object graph, and those of aliases, as FunctionDefs.

    The object graph comes back with the large arrays that they close over.
    """
    concretes = [node.obj for node in graph.nodes if isinstance(node.obj, ConcreteFunction)]
    _check_captures(graph, concretes)
    functions = export_functions(
        [*concretes, *_concrete_functions(options.aliases())],
        custom_gradients=options.experimental_custom_gradients,
        # TensorFlow restores no Variables of a model that is a function.
        captured_arrays=not isinstance(graph.root, FunctionLike),
        with_sources=options.save_debug_info,
        backend=options.backend(),
        targets=signature_targets(signatures, options.target),
    )
    if functions.captured.variables:
        graph = _with_captured_arrays(graph, signatures, functions.captured)
    return graph, functions


def _with_captured_arrays(
    graph: ObjectGraph, signatures: SignatureMap, captured: CapturedArrays
) -> ObjectGraph:
    """Returns the object graph with Variables of the model in the places of large constants."""
    taken = {name for name, _ in graph.nodes[0].children}
    name = free_name(CAPTURED_ARRAYS, taken)
    arrays = TrackedList(captured.variables)
    extra: list[tuple[str, Trackable]] = [(SIGNATURES_ATTRIBUTE, signatures), (name, arrays)]
    return freeze_object_graph(
        graph.root, save_type="savedmodel", extra=extra, stand_ins=captured.stand_ins
    )


@dataclasses.dataclass(frozen=True)
class BuiltModel:
    """A model that is still to be written.

    Attributes:
      proto: the model, without the content of some constants.
      constants: that content, by node.
      sources: the equations that nodes were written for; see ``ExportedFunctions``.
    """

    proto: SavedModel
    constants: Mapping[str, np.ndarray[Any, Any]]
    sources: Mapping[str, Mapping[str, tuple[Any, ...]]]


def build_saved_model(
    graph: ObjectGraph,
    functions: ExportedFunctions,
    signatures: SignatureMap,
    assets: AssetFiles,
    state: tuple[str, Any],
    options: SaveOptions,
) -> BuiltModel:
    """Returns the proto of a model, and what belongs to it.

    Args:
      graph: the frozen object graph, signatures included.
      functions: its functions.
      signatures: the signatures by key.
      assets: the model's files.
      state: key and string tensor that hold the object graph in the checkpoint.
      options: SaveOptions.
    """
    separate_shared_names(graph, functions)
    main = MainGraph()
    tables = GraphTables(main.writer, graph, functions)
    main.add_state(graph, assets.assets, _devices(graph, options))
    for asset_id, index in assets.indices.items():
        main.tensors[asset_id] = main.tensors[id(assets.assets[index])]
    main.add_tables(tables, {i: id(assets.assets[index]) for i, index in assets.indices.items()})
    model = SavedModel(saved_model_schema_version=SCHEMA_VERSION)
    meta_graph = model.meta_graphs.add()
    for key, definition in main.add_signatures(signatures, functions).items():
        meta_graph.signature_def[key].CopyFrom(definition)
    meta_graph.signature_def[INIT_OP_SIGNATURE_KEY].CopyFrom(main.add_init_op())
    if not options.experimental_skip_saver:
        meta_graph.saver_def.CopyFrom(main.add_saver(graph, tables, *state))
    meta_graph.graph_def.CopyFrom(main.finish(functions))
    if not options.experimental_image_format:
        check_graph_size(graph, functions, main)
    if options.experimental_debug_stripper:
        strip_debug_nodes(meta_graph.graph_def)
    exported = ExportedGraph(functions, main.constants, assets.indices, main.devices)
    meta_graph.object_graph_def.CopyFrom(export_objects(graph, exported))
    write_gradients(meta_graph, graph, functions.gradients)
    for name, node in zip(assets.names, main.asset_nodes, strict=True):
        asset_file = meta_graph.asset_file_def.add(filename=name)
        asset_file.tensor_info.name = f"{node}:0"
    _add_meta_info(meta_graph, functions, options.aliases(), options)
    return BuiltModel(model, main.large_constants, functions.sources)


def _devices(graph: ObjectGraph, options: SaveOptions) -> dict[int, str]:
    """Returns the device of each Variable by the object's id, if they are to be kept."""
    if options.experimental_variable_policy is VariablePolicy.NONE:
        return {}
    variables = [node.obj for node in graph.nodes if isinstance(node.obj, Variable)]
    return {id(variable): device_of(variable) for variable in variables}


def _check_captures(graph: ObjectGraph, concretes: list[ConcreteFunction]) -> None:
    problems = []
    for concrete in concretes:
        for capture in concrete.captures:
            if capture not in graph:
                name = getattr(capture, "name", None)
                what = type(capture).__name__ if name is None else f"Variable {name!r}"
                problems.append(f"{graph.path_of(concrete)} ({concrete.name}) uses {what}")
    if problems:
        raise UntrackedDependencyError(
            "Functions use state that can't be reached from the saved root. Assign it to an "
            "attribute of the root or of an object that can be reached.\n  "
            + "\n  ".join(dict.fromkeys(problems))
        )


def _concrete_functions(aliases: dict[str, list[Any]]) -> list[ConcreteFunction]:
    return [
        concrete
        for functions in aliases.values()
        for function in functions
        for concrete in _concretes_of(function)
    ]


def _concretes_of(function: Function | ConcreteFunction) -> tuple[ConcreteFunction, ...]:
    return (function,) if isinstance(function, ConcreteFunction) else function.concrete_functions


def _add_meta_info(
    meta_graph: MetaGraphDef,
    functions: ExportedFunctions,
    aliases: dict[str, list[Any]],
    options: SaveOptions,
) -> None:
    info = meta_graph.meta_info_def
    info.tags.extend([SERVING, *(options.extra_tags or ())])
    info.stripped_default_attrs = True
    ops = {node.op for node in meta_graph.graph_def.node}
    for definition in meta_graph.graph_def.library.function:
        ops.update(node.op for node in definition.node_def)
    ops -= functions.library.keys()
    check_namespaces(ops, options.namespace_whitelist)
    info.stripped_op_list.CopyFrom(stripped_op_list(ops))
    for alias, aliased in aliases.items():
        for function in aliased:
            for concrete in _concretes_of(function):
                info.function_aliases[functions.name_of(concrete)] = alias
