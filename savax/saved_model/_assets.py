"""Files that travel with a model: which asset gets which name, and the copies."""

from __future__ import annotations

import dataclasses
import filecmp
import os
import shutil

from savax.errors import NotFoundError
from savax.trackable import Asset, ObjectGraph


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
    files = _Files()
    indices = {id(asset): files.index_of(asset) for asset in assets}
    return AssetFiles(tuple(files.names), tuple(files.sources), tuple(files.owners), indices)


class _Files:
    """The files found so far, each under a name of its own."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sources: list[str] = []
        self.owners: list[Asset] = []
        self._by_identity: dict[tuple[int, int], int] = {}
        self._by_name: dict[str, list[int]] = {}
        self._taken: set[str] = set()

    def index_of(self, asset: Asset) -> int:
        """Returns the position of an asset's file, which is added if it is a new one."""
        path = asset.asset_path
        status = os.stat(path)
        identity = (status.st_dev, status.st_ino)
        index = self._by_identity.get(identity)
        if index is None:
            name = os.path.basename(path)
            alike = self._by_name.setdefault(name, [])
            index = next((i for i in alike if filecmp.cmp(path, self.sources[i], False)), None)
            if index is None:
                index = len(self.names)
                alike.append(index)
                self.names.append(self._free_name(name, len(alike) - 1))
                self.sources.append(path)
                self.owners.append(asset)
            self._by_identity[identity] = index
        return index

    def _free_name(self, name: str, number: int) -> str:
        candidate = f"{name}_{number}" if number else name
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate
