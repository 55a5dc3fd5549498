"""Files that travel with a model: which asset gets which name, and the copies."""

from __future__ import annotations

import dataclasses
import filecmp
import os
import shutil
from typing import TYPE_CHECKING

from savax.errors import NotFoundError
from savax.trackable import Asset, ObjectGraph

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class AssetFiles:
    """The files of a model.

    Attributes:
      names: name of each file in the assets folder.
      sources: path of each file now.
      assets: an asset that stands for each file.
      indices: position of each asset's file, by the object's id.
    """

    names: tuple[str, ...]
    sources: tuple[str, ...]
    assets: tuple[Asset, ...]
    indices: dict[int, int]

    def copy_to(self, directory: str) -> None:
        """Copies the files into a folder that exists."""
        for name, source in zip(self.names, self.sources, strict=True):
            shutil.copyfile(source, os.path.join(directory, name))


def collect_assets(graph: ObjectGraph) -> AssetFiles:
    """Returns the files of the assets in an object graph.

    Assets of one path, or of equal names and equal bytes, share a file; other equal names get
    ``_1``, ``_2`` behind them, as TensorFlow names them.

    Raises:
      NotFoundError: files don't exist; the message has all of them with the assets' paths.
    """
    assets = [node.obj for node in graph.nodes if isinstance(node.obj, Asset)]
    missing = [
        f"{graph.path_of(asset)}: {asset.asset_path!r}"
        for asset in assets
        if not os.path.isfile(asset.asset_path)
    ]
    if missing:
        raise NotFoundError("Files of assets don't exist.\n  " + "\n  ".join(missing))
    names: list[str] = []
    sources: list[str] = []
    owners: list[Asset] = []
    indices: dict[int, int] = {}
    for asset in assets:
        index = _same_file(asset.asset_path, sources)
        if index is None:
            index = len(names)
            names.append(_free_name(os.path.basename(asset.asset_path), names))
            sources.append(asset.asset_path)
            owners.append(asset)
        indices[id(asset)] = index
    return AssetFiles(tuple(names), tuple(sources), tuple(owners), indices)


def _same_file(path: str, sources: Sequence[str]) -> int | None:
    for index, source in enumerate(sources):
        if os.path.samefile(path, source):
            return index
        same_name = os.path.basename(path) == os.path.basename(source)
        if same_name and filecmp.cmp(path, source, shallow=False):
            return index
    return None


def _free_name(name: str, taken: Sequence[str]) -> str:
    number = 0
    candidate = name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
