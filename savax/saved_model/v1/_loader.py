"""The version 1 loader: a graph of a SavedModel, its variables and its main op, in a session."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from savax.errors import CorruptSavedModelError, InvalidArgumentError, NotFoundError
from savax.function.graph._tensor_names import canonical_tensor
from savax.saved_model._constants import INIT_OP_SIGNATURE_KEY
from savax.saved_model._reader import (
    ModelDirectory,
    choose_meta_graph,
    open_model,
    read_saved_model,
)
from savax.saved_model.v1._asset_collection import asset_feeds
from savax.saved_model.v1._constants import LEGACY_INIT_OP_KEY, MAIN_OP_KEY
from savax.saved_model.v1._errors import MissingCheckpointError
from savax.saved_model.v1._meta_graph import import_into_graph
from savax.trackable.bundle import BundleReader
from savax.types import contained_path, index_path, variables_prefix
from savax.types._paths import ASSETS_DIRECTORY, VARIABLES_DIRECTORY, VARIABLES_FILENAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from savax.protos import MetaGraphDef, SavedModel
    from savax.saved_model.v1._session import Session
    from savax.types import PathLike

_PREFIX = f"{VARIABLES_DIRECTORY}/{VARIABLES_FILENAME}"


def load(
    sess: Session,
    tags: str | Iterable[str],
    export_dir: PathLike,
    import_scope: str | None = None,
    *,
    clear_devices: bool = False,
    input_map: Any = None,
) -> MetaGraphDef:
    """Adds a graph of a SavedModel to a session's, restores its variables and runs its main op.

    Args:
      sess: the session.
      tags: exactly those of the graph.
      export_dir: the model's directory.
      import_scope: prefix of the nodes' names in the session's graph.
      clear_devices: whether nodes ask for no devices.
      input_map: tensors that take the place of the graph's; see ``import_graph_def``.

    Returns:
      The model's MetaGraphDef, with its signatures; names in it are without the prefix.

    Raises:
      TagsMismatchError: the model has no graph with these tags (a RuntimeError).
      NotFoundError: there is no model (an OSError).
      MissingCheckpointError: the model has no checkpoint (a NotFoundError and a ValueError).
      CorruptSavedModelError: the model contradicts itself.
      UnsafePathError: files of the model lie outside its directory.
    """
    with open_model(export_dir) as directory:
        model = read_saved_model(directory)
        meta_graph = choose_meta_graph(model, tags, directory.path)
        import_into_graph(
            sess.graph,
            meta_graph,
            import_scope,
            clear_devices=clear_devices,
            input_map=input_map,
        )
        restore_variables(sess, meta_graph, directory, import_scope)
        run_main_op(sess, meta_graph, directory.path, import_scope, directory.copy)
        return meta_graph


class SavedModelLoader:
    """The steps of ``load`` one by one.

    Args:
      export_dir: the model's directory.

    Attributes:
      export_dir: the directory.
      variables_path: prefix of its checkpoint.
      saved_model: its message.
    """

    def __init__(self, export_dir: PathLike) -> None:
        self.export_dir = os.fspath(export_dir)
        self.variables_path = variables_prefix(export_dir)
        with open_model(export_dir) as directory:
            self.saved_model: SavedModel = read_saved_model(directory)

    def get_meta_graph_def_from_tags(self, tags: str | Iterable[str]) -> MetaGraphDef:
        """Returns the graph with exactly these tags."""
        return choose_meta_graph(self.saved_model, tags, self.export_dir)

    def load(
        self,
        sess: Session,
        tags: str | Iterable[str],
        import_scope: str | None = None,
        **saver_kwargs: Any,
    ) -> MetaGraphDef:
        """Loads the graph with exactly these tags; see ``load``."""
        return load(sess, tags, self.export_dir, import_scope, **saver_kwargs)


def restore_variables(
    sess: Session,
    meta_graph: MetaGraphDef,
    directory: ModelDirectory,
    import_scope: str | None = None,
) -> None:
    """Runs a graph's restore op on the checkpoint of its model."""
    saver = meta_graph.saver_def
    if not saver.restore_op_name:
        return
    contained_path(directory.path, index_path(_PREFIX), "checkpoint")
    scope = f"{import_scope}/" if import_scope else ""
    prefix = variables_prefix(directory.path)
    sess._run(
        [],
        [scope + saver.restore_op_name.removesuffix(":0")],
        {scope + canonical_tensor(saver.filename_tensor_name): sess._string(prefix)},
        functools.partial(_open_checkpoint, directory),
    )


def _open_checkpoint(directory: ModelDirectory, _: str) -> BundleReader:
    try:
        return BundleReader(_PREFIX, dir_fd=directory.fd, contained=True)
    except NotFoundError as error:
        raise MissingCheckpointError(str(error)) from error


def run_main_op(
    sess: Session,
    meta_graph: MetaGraphDef,
    export_dir: str,
    import_scope: str | None = None,
    owner: object = None,
) -> None:
    """Runs what a graph is to run after its variables have been restored, if there is something.

    Args:
      sess: a session with the graph.
      meta_graph: the graph.
      export_dir: the model's directory.
      import_scope: name of the scope that the graph was imported into.
      owner: what must live as long as the model's assets are used.
    """
    operation = main_op_name(meta_graph)
    if operation is None:
        return
    scope = f"{import_scope}/" if import_scope else ""
    sess._allow_assets(os.path.join(export_dir, ASSETS_DIRECTORY), owner)
    feeds = asset_feeds(meta_graph, os.path.abspath(export_dir), import_scope)
    sess._run([], [scope + operation], {key: sess._string(path) for key, path in feeds.items()})


def main_op_name(meta_graph: MetaGraphDef) -> str | None:
    """Returns the operation that a graph is to run when it is loaded.

    Raises:
      MainOpError: there are several (a RuntimeError).
      CorruptSavedModelError: it is named in a way that savax can't read.
    """
    if INIT_OP_SIGNATURE_KEY in meta_graph.signature_def:
        outputs = meta_graph.signature_def[INIT_OP_SIGNATURE_KEY].outputs
        if INIT_OP_SIGNATURE_KEY not in outputs:
            raise CorruptSavedModelError("The signature of the main op names none.")
        return outputs[INIT_OP_SIGNATURE_KEY].name.split(":", 1)[0]
    for key in (MAIN_OP_KEY, LEGACY_INIT_OP_KEY):
        if key in meta_graph.collection_def:
            names = meta_graph.collection_def[key].node_list.value
            if len(names) != 1:
                raise MainOpError(
                    f"The graph has {len(names)} main ops in its collection {key!r}: "
                    f"{', '.join(names)}."
                )
            return names[0].split(":", 1)[0]
    return None


class MainOpError(InvalidArgumentError, RuntimeError):
    """A graph has more than one main op."""
