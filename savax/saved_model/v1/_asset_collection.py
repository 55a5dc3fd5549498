"""Assets of a graph: string constants with the paths of files, and the files' copies."""

from __future__ import annotations

import filecmp
import os
import shutil
from typing import TYPE_CHECKING, Any

from savax.errors import InvalidArgumentError, NotFoundError
from savax.function.graph._handles import Tensor
from savax.protos import AssetFileDef, decode_tensor
from savax.saved_model._remote_models import send_file
from savax.saved_model.constants import ASSETS_KEY
from savax.saved_model.v1._errors import AssetTensorError
from savax.trackable.bundle._locations import is_url, join
from savax.types import contained_path
from savax.types._paths import ASSETS_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from savax.function.graph._graph import Graph
    from savax.protos import MetaGraphDef


def add_assets(graph: Graph, assets: Iterable[Any] | None) -> dict[str, str]:
    """Adds assets to a graph's collection of them.

    Args:
      graph: the graph.
      assets: scalar string constants of the graph that hold paths.

    Returns:
      The path of each file by its name in the model. Files of one path, or of equal names and
      bytes, share a name; other equal names get ``_1``, ``_2`` behind them.

    Raises:
      AssetTensorError: an asset is given in another way.
      InvalidArgumentError: a path is empty.
      NotFoundError: files don't exist; the message has all of them.
    """
    tensors = list(assets or ())
    paths = [_path_of(tensor) for tensor in tensors]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise NotFoundError(f"Files of assets don't exist: {', '.join(map(repr, missing))}.")
    files: dict[str, str] = {}
    for tensor, path in zip(tensors, paths, strict=True):
        name = _name_of(path, files)
        files[name] = path
        asset = AssetFileDef(filename=name)
        asset.tensor_info.name = tensor.name
        graph.add_to_collection(ASSETS_KEY, asset)
    return files


def _path_of(tensor: Any) -> str:
    if not isinstance(tensor, Tensor) or tensor.op.type != "Const":
        raise AssetTensorError(f"An asset is a string constant of a graph, got {tensor!r}.")
    if tensor.dtype.name != "string" or tensor.shape != ():
        raise AssetTensorError(
            f"The asset {tensor.name!r} must be a scalar string, it is {tensor.dtype.name} of "
            f"shape {tensor.shape}."
        )
    path: bytes = decode_tensor(tensor.op.node_def.attr["value"].tensor).item()
    if not path:
        raise InvalidArgumentError(f"The path of the asset {tensor.name!r} is empty.")
    return path.decode("utf-8", "surrogateescape")


def _name_of(path: str, files: dict[str, str]) -> str:
    base = os.path.basename(path)
    name, number = base, 0
    while name in files:
        if files[name] == path or filecmp.cmp(files[name], path, shallow=False):
            return name
        number += 1
        name = f"{base}_{number}"
    return name


def copy_assets(files: dict[str, str], export_dir: str, copied: set[str]) -> None:
    """Copies files to a model's directory.

    Args:
      files: paths by name.
      export_dir: the directory, or its URL.
      copied: names of files that were copied before, which stay as they are; it is extended.
    """
    if not files:
        return
    directory = join(export_dir, ASSETS_DIRECTORY)
    if not is_url(directory):
        os.makedirs(directory, exist_ok=True)
    for name, path in files.items():
        if name not in copied:
            if is_url(directory):
                send_file(join(directory, name), path)
            else:
                shutil.copyfile(path, os.path.join(directory, name))
            copied.add(name)


def asset_feeds(
    meta_graph: MetaGraphDef, export_dir: str, import_scope: str | None = None
) -> dict[str, str]:
    """Returns the paths of a loaded model's assets by the names of the tensors to feed.

    Raises:
      UnsafePathError: a file lies outside the model's directory.
    """
    scope = f"{import_scope}/" if import_scope else ""
    feeds = {}
    for asset in asset_defs(meta_graph):
        folder = contained_path(export_dir, ASSETS_DIRECTORY, "folder of assets")
        path = contained_path(folder, asset.filename, "asset file")
        feeds[scope + asset.tensor_info.name] = path
    return feeds


def asset_defs(meta_graph: MetaGraphDef) -> list[AssetFileDef]:
    """Returns the assets that a MetaGraphDef lists, in its field or its collection."""
    if meta_graph.asset_file_def:
        return list(meta_graph.asset_file_def)
    found = []
    if ASSETS_KEY in meta_graph.collection_def:
        for packed in meta_graph.collection_def[ASSETS_KEY].any_list.value:
            asset = AssetFileDef()
            asset.ParseFromString(packed.value)
            found.append(asset)
    return found
