"""Loading: nodes, then edges, then values; functions are evaluated when they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from savax.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
)
from savax.function import ConcreteFunction, Function
from savax.protos import SavedObjectGraph
from savax.saved_model._loaded_objects import LoadedObject
from savax.saved_model._objects_import import ObjectImporter
from savax.saved_model._options import LoadOptions
from savax.saved_model._partial_graph import clear_others, find_nodes, needed_nodes
from savax.saved_model._reader import (
    ModelDirectory,
    choose_meta_graph,
    open_model,
    put_back,
    read_parts,
)
from savax.saved_model._registered_classes import registered_classes
from savax.saved_model._signatures import SIGNATURES_ATTRIBUTE, SignatureMap
from savax.saved_model._stored_debug_info import read_debug_info
from savax.saved_model._stored_fingerprint import check_fingerprint
from savax.saved_model._values_import import restore_values
from savax.saved_model._variable_devices import place_variables
from savax.saved_model._variable_policy import VariablePolicy
from savax.saved_model.v1._loaded_graph import load_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

    from savax.protos import MetaGraphDef, SavedModel
    from savax.trackable import Trackable
    from savax.types import PathLike

_T = TypeVar("_T")

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
      export_dir: the model's directory, or its URL.
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
    return _read(export_dir, lambda directory: _load_from(directory, tags, options))


def load_partial(
    export_dir: PathLike,
    filters: Iterable[str],
    tags: str | Iterable[str] | None = None,
    options: LoadOptions | None = None,
) -> dict[str, Any]:
    """Reads some objects of a SavedModel: an encoder without the rest, one layer, one Variable.

    Each object comes with all that is reached from it and that its functions use; the values of
    other Variables aren't read.

    Args:
      export_dir: the model's directory.
      filters: paths of objects, ``root.encoder.layers.0``; ``root`` is the whole model.
      tags: of the graph to load; without them, a model's only graph.
      options: LoadOptions.

    Returns:
      The object of each path. What several of them share is one object.

    Raises:
      InvalidArgumentError: a path leads to no object; or the model is one of version 1.
      NotFoundError: there is no model, or its checkpoint is missing.
      TagsMismatchError: the model has no graph with these tags.
      CorruptSavedModelError: the model contradicts itself.
      CorruptBundleError: its checkpoint is damaged.
    """
    options = options or LoadOptions()
    paths = filters if isinstance(filters, str) else list(filters)
    return _read(export_dir, lambda directory: _load_parts(directory, paths, tags, options))


def _read(export_dir: PathLike, read: Callable[[ModelDirectory], _T]) -> _T:
    """Reads a model, again if it is replaced meanwhile."""
    for _ in range(_ATTEMPTS - 1):
        with open_model(export_dir) as directory:
            try:
                return read(directory)
            except (DataLossError, NotFoundError):
                # A model that is replaced while it is read loses its files.
                if directory.is_current():
                    raise
    with open_model(export_dir) as directory:
        return read(directory)


def _load_from(
    directory: ModelDirectory, tags: str | Iterable[str] | None, options: LoadOptions
) -> Any:
    model, meta_graph, arrays = _main_graph(directory, tags)
    if not meta_graph.HasField("object_graph_def"):
        return load_graph(directory, meta_graph, options)
    objects = ObjectImporter(meta_graph, directory, arrays).import_objects()
    _give_values(objects, meta_graph.object_graph_def, directory, options)
    root = _finished_root(objects[0], meta_graph, options, objects)
    if _takes_attributes(root, meta_graph) and not hasattr(root, "graph_debug_info"):
        object.__setattr__(root, "graph_debug_info", read_debug_info(directory))
    check_fingerprint(directory, model)
    return root


def _load_parts(
    directory: ModelDirectory,
    paths: Iterable[str],
    tags: str | Iterable[str] | None,
    options: LoadOptions,
) -> dict[str, Any]:
    model, meta_graph, arrays = _main_graph(directory, tags)
    if not meta_graph.HasField("object_graph_def"):
        raise InvalidArgumentError(
            f"{directory.path!r} is a model of version 1, which has no objects; load it whole."
        )
    check_fingerprint(directory, model)
    part = meta_graph.object_graph_def
    whole = SavedObjectGraph()
    whole.CopyFrom(part)
    ids = find_nodes(whole, paths)
    clear_others(part, needed_nodes(whole, ids.values(), meta_graph.graph_def))
    objects = ObjectImporter(meta_graph, directory, arrays).import_objects()
    _give_values(objects, whole, directory, options)
    return {path: objects[node_id] for path, node_id in ids.items()}


def _main_graph(
    directory: ModelDirectory, tags: str | Iterable[str] | None
) -> tuple[SavedModel, MetaGraphDef, dict[str, np.ndarray[Any, Any]]]:
    """Returns a model, its graph of some tags, and the constants of an object graph by name."""
    model, constants = read_parts(directory)
    meta_graph = choose_meta_graph(model, tags, directory.path)
    if len(model.meta_graphs) > 1 or not meta_graph.HasField("object_graph_def"):
        put_back(model, constants)
        constants = {}
    nodes = meta_graph.graph_def.node
    return model, meta_graph, {nodes[index].name: array for index, array in constants.items()}


def _give_values(
    objects: list[Trackable],
    graph: SavedObjectGraph,
    directory: ModelDirectory,
    options: LoadOptions,
) -> None:
    """Gives the Variables among objects their values, found by the edges of the whole graph."""
    if not options.experimental_skip_checkpoint:
        partial = options.allow_partial_checkpoint
        restore_values(objects, graph, directory, partial=partial)
    if options.experimental_variable_policy is not VariablePolicy.NONE:
        place_variables(objects, graph)


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
