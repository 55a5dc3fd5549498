"""Loading: nodes, then edges, then values; functions are evaluated when they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
)
from savax.function import ConcreteFunction, Function
from savax.saved_model._debug_info import read_debug_info
from savax.saved_model._loaded_objects import LoadedObject
from savax.saved_model._objects_import import ObjectImporter
from savax.saved_model._options import LoadOptions
from savax.saved_model._reader import (
    ModelDirectory,
    choose_meta_graph,
    open_model,
    put_back,
    read_parts,
)
from savax.saved_model._registered_classes import registered_classes
from savax.saved_model._signatures import SIGNATURES_ATTRIBUTE, SignatureMap
from savax.saved_model._stored_fingerprint import check_fingerprint
from savax.saved_model._values_import import restore_values
from savax.saved_model._variable_devices import place_variables
from savax.saved_model._variable_policy import VariablePolicy
from savax.saved_model.v1._loaded_graph import load_graph

if TYPE_CHECKING:
    from collections.abc import Iterable

    from savax.protos import MetaGraphDef
    from savax.trackable import Trackable
    from savax.types import PathLike

_ATTEMPTS = 4  # to read a model that others replace at the same time


def load(
    export_dir: PathLike,
    tags: str | Iterable[str] | None = None,
    options: LoadOptions | None = None,
) -> Any:
    """Reads a SavedModel, written by savax or TensorFlow.

    Nothing of the model runs while it is loaded, and an operation that savax lacks matters only to
    the functions that use it, when they are called. A model of version 1, which has no objects,
    gives its graph: ``.signatures``, ``.variables``, ``.prune(feeds, fetches)`` and ``.graph``;
    its main op runs, as it fills tables.

    Args:
      export_dir: the model's directory.
      tags: of the graph to load; without them, a model's only graph.
      options: LoadOptions.

    Warns:
      ModelChangedWarning: the model isn't what it was when its fingerprint was made.

    Returns:
      The saved root: its attributes, Variables and functions under their names, and its signatures
      by key as ``.signatures``. It can be called if the saved object could. ``.graph_debug_info``
      is what ``SaveOptions(save_debug_info=True)`` wrote, else empty.

    Raises:
      NotFoundError: there is no model, or its checkpoint is missing.
      TagsMismatchError: the model has no graph with these tags.
      CorruptSavedModelError: the model contradicts itself.
      CorruptBundleError: its checkpoint is damaged.
    """
    options = options or LoadOptions()
    for _ in range(_ATTEMPTS - 1):
        with open_model(export_dir) as directory:
            try:
                return _load_from(directory, tags, options)
            except (DataLossError, NotFoundError):
                # A model that is replaced while it is read loses its files.
                if directory.is_current():
                    raise
    with open_model(export_dir) as directory:
        return _load_from(directory, tags, options)


def _load_from(
    directory: ModelDirectory, tags: str | Iterable[str] | None, options: LoadOptions
) -> Any:
    model, constants = read_parts(directory)
    meta_graph = choose_meta_graph(model, tags, directory.path)
    if len(model.meta_graphs) > 1 or not meta_graph.HasField("object_graph_def"):
        put_back(model, constants)
        constants = {}
    if not meta_graph.HasField("object_graph_def"):
        return load_graph(directory, meta_graph, options)
    nodes = meta_graph.graph_def.node
    arrays = {nodes[index].name: array for index, array in constants.items()}
    objects = ObjectImporter(meta_graph, directory.path, arrays).import_objects()
    if not options.experimental_skip_checkpoint:
        restore_values(
            objects,
            meta_graph.object_graph_def,
            directory,
            partial=options.allow_partial_checkpoint,
        )
    if options.experimental_variable_policy is not VariablePolicy.NONE:
        place_variables(objects, meta_graph.object_graph_def)
    root = _finished_root(objects[0], meta_graph, options, objects)
    if _takes_attributes(root, meta_graph) and not hasattr(root, "graph_debug_info"):
        object.__setattr__(root, "graph_debug_info", read_debug_info(directory))
    check_fingerprint(directory, model)
    return root


def _finished_root(
    root: Trackable, meta_graph: MetaGraphDef, options: LoadOptions, objects: list[Trackable]
) -> Trackable:
    if not _takes_attributes(root, meta_graph):
        return root
    info = meta_graph.meta_info_def
    attributes: dict[str, Any] = {
        "tensorflow_version": info.tensorflow_version,
        "tensorflow_git_version": info.tensorflow_git_version,
    }
    if SIGNATURES_ATTRIBUTE not in vars(root):
        attributes[SIGNATURES_ATTRIBUTE] = SignatureMap({})
    if options.experimental_load_function_aliases:
        if hasattr(root, "function_aliases"):
            raise InvalidArgumentError(
                "The model's root has an attribute 'function_aliases' of its own, so its aliases "
                "can't be loaded."
            )
        attributes["function_aliases"] = _aliases(meta_graph, objects)
    for name, value in attributes.items():
        object.__setattr__(root, name, value)  # past the tracking, as they aren't saved
    return root


def _takes_attributes(root: Trackable, meta_graph: MetaGraphDef) -> bool:
    """Whether a root tells of its model; Variables and containers don't."""
    return isinstance(root, LoadedObject) or 0 in registered_classes(meta_graph.object_graph_def)


def _aliases(
    meta_graph: MetaGraphDef, objects: list[Trackable]
) -> dict[str, Function | list[ConcreteFunction]]:
    """Returns for each alias the function that has all its traces, or the traces themselves."""
    owners: dict[frozenset[str], Function] = {}
    traces: dict[str, ConcreteFunction] = {}
    for obj, saved in zip(objects, meta_graph.object_graph_def.nodes, strict=True):
        if isinstance(obj, ConcreteFunction):
            traces[saved.bare_concrete_function.concrete_function_name] = obj
        elif isinstance(obj, Function):
            names = saved.function.concrete_functions
            owners.setdefault(frozenset(names), obj)
            traces.update(zip(names, obj.concrete_functions, strict=True))
    named: dict[str, list[str]] = {}
    for name, alias in sorted(meta_graph.meta_info_def.function_aliases.items()):
        if name in traces:
            named.setdefault(alias, []).append(name)
    return {
        alias: owners.get(frozenset(names)) or [traces[name] for name in names]
        for alias, names in named.items()
    }
