"""Asset: a file that travels with a SavedModel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.trackable._base import Trackable

if TYPE_CHECKING:
    from savax.types import PathLike


class Asset(Trackable):
    """A file that is copied into the SavedModel's ``assets`` folder.

    Where a string tensor is expected, it stands for the file's path, which after loading is the
    path inside the loaded directory.

    Args:
      path: of the file. It need not exist before the model is saved.
      owner: what must live as long as the file is used.
    """

    def __init__(self, path: PathLike, owner: object = None) -> None:
        self._path = os.fspath(path)
        self._owner = owner

    @property
    def asset_path(self) -> str:
        """Path of the file."""
        return self._path

    def __fspath__(self) -> str:
        return self._path

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self._path.encode(), dtype=object)

    def __repr__(self) -> str:
        return f"Asset({self._path!r})"
