"""SavedModelBuilder: a SavedModel of several graphs that share variables and assets."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from savax.errors import InvalidArgumentError, UnsupportedOptionError
from savax.function.graph._default_stack import get_default_graph
from savax.function.graph._graph_variables import variables_of
from savax.function.graph._handles import Operation
from savax.protos import SavedModel, serialize, to_text
from savax.saved_model._constants import RESERVED_SIGNATURE_KEYS, SCHEMA_VERSION
from savax.saved_model.image._splitting import ImageWriter
from savax.saved_model.v1._asset_collection import add_assets, copy_assets
from savax.saved_model.v1._constants import LEGACY_INIT_OP_KEY, MAIN_OP_KEY
from savax.saved_model.v1._errors import (
    BuilderStateError,
    IncompleteSignatureError,
    ReservedSignatureKeyError,
)
from savax.saved_model.v1._saver import Saver
from savax.trackable.bundle import replace_file
from savax.trackable.bundle._locations import as_location, is_url
from savax.trackable.bundle._storage import is_directory, list_names
from savax.types import variables_prefix
from savax.types._paths import (
    SAVED_MODEL_CPB,
    SAVED_MODEL_PB,
    SAVED_MODEL_PBTXT,
    VARIABLES_DIRECTORY,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from savax.function.graph._graph import Graph
    from savax.protos import SignatureDef, TensorInfo
    from savax.saved_model.v1._session import Session
    from savax.types import PathLike


class SavedModelBuilder:
    """Writes graphs, the variables of a session and assets as a SavedModel.

    The first graph is added with the variables, others by ``add_meta_graph``; ``save`` writes
    ``saved_model.pb``, without which the directory isn't a model.

    Args:
      export_dir: a directory, or its URL, that doesn't exist or is empty.

    Raises:
      BuilderStateError: the directory isn't empty (an AssertionError).
    """

    def __init__(self, export_dir: PathLike) -> None:
        self._export_dir = as_location(export_dir)
        if is_directory(self._export_dir) and list_names(self._export_dir):
            raise BuilderStateError(
                f"The directory {self._export_dir!r} isn't empty. Choose another one, or delete "
                "what is in it."
            )
        if not is_url(self._export_dir):
            os.makedirs(self._export_dir, exist_ok=True)
        self._saved_model = SavedModel(saved_model_schema_version=SCHEMA_VERSION)
        self._has_variables = False
        self._copied_assets: set[str] = set()

    def add_meta_graph_and_variables(
        self,
        sess: Session,
        tags: Iterable[str],
        signature_def_map: Mapping[str, SignatureDef] | None = None,
        assets_collection: Iterable[Any] | None = None,
        legacy_init_op: Operation | None = None,
        clear_devices: bool = False,
        main_op: Operation | None = None,
        strip_default_attrs: bool = False,
        saver: Saver | None = None,
    ) -> None:
        """Adds the session's graph, and writes the values of its variables.

        Args:
          sess: the session.
          tags: by which the graph is chosen when it is loaded.
          signature_def_map: signatures by key.
          assets_collection: scalar string constants with the paths of files to copy.
          legacy_init_op: another name of ``main_op``.
          clear_devices: whether nodes ask for no devices.
          main_op: what loaders run after restoring the variables.
          strip_default_attrs: whether attributes with default values are left out, so that older
            versions of TensorFlow can read the graph.
          saver: saves and restores; by default a new one, of all variables.

        Raises:
          BuilderStateError: variables were written before.
          IncompleteSignatureError: a TensorInfo lacks its tensor or dtype.
          ReservedSignatureKeyError: a signature has a key that the format needs.
          AssetTensorError: an asset is no string constant.
          NotFoundError: an asset's file doesn't exist.
          TypeError: ``main_op`` is no operation.
          InvalidArgumentError: the graph has a main op already; a variable has no value.
        """
        if self._has_variables:
            raise BuilderStateError(
                "The variables have been written already; add further graphs by add_meta_graph."
            )
        graph = sess.graph
        init_op = main_op if main_op is not None else legacy_init_op
        chosen = self._prepare(graph, signature_def_map, assets_collection, init_op, saver)
        if not is_url(self._export_dir):
            os.makedirs(os.path.join(self._export_dir, VARIABLES_DIRECTORY), exist_ok=True)
        prefix = variables_prefix(self._export_dir)
        chosen.save(sess, prefix, write_meta_graph=False, write_state=False)
        self._add(graph, chosen, tags, signature_def_map, clear_devices, strip_default_attrs)
        self._has_variables = True

    def add_meta_graph(
        self,
        tags: Iterable[str],
        signature_def_map: Mapping[str, SignatureDef] | None = None,
        assets_collection: Iterable[Any] | None = None,
        legacy_init_op: Operation | None = None,
        clear_devices: bool = False,
        main_op: Operation | None = None,
        strip_default_attrs: bool = False,
        saver: Saver | None = None,
    ) -> None:
        """Adds the default graph, which shares the variables that were written.

        Arguments and errors are those of ``add_meta_graph_and_variables``, but for:

        Raises:
          BuilderStateError: the variables haven't been written yet.
        """
        if not self._has_variables:
            raise BuilderStateError(
                "The variables haven't been written yet; add the first graph by "
                "add_meta_graph_and_variables."
            )
        graph = get_default_graph()
        init_op = main_op if main_op is not None else legacy_init_op
        chosen = self._prepare(graph, signature_def_map, assets_collection, init_op, saver)
        self._add(graph, chosen, tags, signature_def_map, clear_devices, strip_default_attrs)

    def _prepare(
        self,
        graph: Graph,
        signatures: Mapping[str, SignatureDef] | None,
        assets: Iterable[Any] | None,
        main_op: Operation | None,
        saver: Saver | None,
    ) -> Saver:
        """Checks everything, copies assets and adds what the graph lacks."""
        check_signatures(signatures or {})
        _check_main_op(graph, main_op)
        files = add_assets(graph, assets)
        copy_assets(files, self._export_dir, self._copied_assets)
        if main_op is not None:
            graph.add_to_collection(MAIN_OP_KEY, main_op)
        with graph.as_default():
            return saver or Saver(variables_of(graph), sharded=True, allow_empty=True)

    def _add(
        self,
        graph: Graph,
        saver: Saver,
        tags: Iterable[str],
        signatures: Mapping[str, SignatureDef] | None,
        clear_devices: bool,
        strip_default_attrs: bool,
    ) -> None:
        with graph.as_default():
            meta_graph = saver.export_meta_graph(
                clear_devices=clear_devices, strip_default_attrs=strip_default_attrs
            )
        meta_graph.meta_info_def.tags.extend(tags)
        for key, signature in (signatures or {}).items():
            meta_graph.signature_def[key].CopyFrom(signature)
        self._saved_model.meta_graphs.add().CopyFrom(meta_graph)

    def save(
        self,
        as_text: bool = False,
        experimental_image_format: bool = False,
        experimental_image_writer_options: Any = None,
    ) -> bytes:
        """Writes the graphs; may be called again after further ones were added.

        Args:
          as_text: whether to write ``saved_model.pbtxt``, for debugging.
          experimental_image_format: whether to write ``saved_model.cpb``, which may have more than
            2 GiB.
          experimental_image_writer_options: not implemented; only None.

        Returns:
          The path of the file.

        Raises:
          UnsupportedOptionError: writer options are given.
          InvalidArgumentError: both forms are asked for, or a graph has more than 2 GiB.
          NotEncodableError: the graphs have more than 2 GiB together, and it is no image.
        """
        if experimental_image_writer_options is not None:
            raise UnsupportedOptionError("experimental_image_writer_options isn't implemented.")
        if experimental_image_format:
            if as_text:
                raise InvalidArgumentError(
                    "A model is written as text or as an image, not as both."
                )
            return self._write(SAVED_MODEL_CPB, self._image())
        if as_text:
            return self._write(SAVED_MODEL_PBTXT, to_text(self._saved_model).encode())
        return self._write(SAVED_MODEL_PB, serialize(self._saved_model))

    def _image(self) -> bytes:
        image = io.BytesIO()
        ImageWriter(self._saved_model, {}).write(image)
        return image.getvalue()

    def _write(self, name: str, data: bytes) -> bytes:
        path = os.path.join(self._export_dir, name)
        replace_file(path, data)
        return os.fsencode(path)


def check_signatures(signatures: Mapping[str, SignatureDef]) -> None:
    """Checks that signatures can be saved.

    Raises:
      IncompleteSignatureError: a TensorInfo lacks its tensor or dtype.
      ReservedSignatureKeyError: a key is one that the format needs.
    """
    for key, signature in signatures.items():
        for kind, infos in (("input", signature.inputs), ("output", signature.outputs)):
            for name in infos:
                _check_info(infos[name], f"The {kind} {name!r} of the signature {key!r}")
        if key in RESERVED_SIGNATURE_KEYS:
            raise ReservedSignatureKeyError(f"The signature key {key!r} is reserved by the format.")


def _check_info(info: TensorInfo, what: str) -> None:
    encoding = info.WhichOneof("encoding")
    if encoding is None:
        raise IncompleteSignatureError(f"{what} names no tensor.")
    if encoding == "composite_tensor":
        for component in info.composite_tensor.components:
            _check_info(component, what)
    elif not info.dtype:
        raise IncompleteSignatureError(f"{what} has no dtype.")


def _check_main_op(graph: Graph, main_op: Any) -> None:
    if main_op is None:
        return
    if not isinstance(main_op, Operation):
        raise TypeError(f"main_op must be an Operation, got {main_op!r}.")
    for key in (MAIN_OP_KEY, LEGACY_INIT_OP_KEY):
        if graph.get_collection(key):
            raise InvalidArgumentError(
                f"The graph has a main op already, in its collection {key!r}."
            )
