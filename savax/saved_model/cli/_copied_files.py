"""Copying a model's files beside its proto: variables, assets, and whatever else lies there."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

from savax.errors import UnsafePathError
from savax.types._paths import FINGERPRINT_PB, SAVED_MODEL_FORMS

if TYPE_CHECKING:
    from collections.abc import Collection

    from savax.saved_model._reader import ModelDirectory

_REWRITTEN = frozenset({*SAVED_MODEL_FORMS, FINGERPRINT_PB})
_UNFINISHED = ".savax-"  # begins the name of what a save that goes on, or was killed, has there
_PART_BYTES = 1 << 20


def copy_other_files(source: ModelDirectory, target: str, without: Collection[str] = ()) -> None:
    """Copies all of a model but its proto and its fingerprint.

    Reads by open directories, so that all files are of one model even if another takes its place.

    Args:
      source: the open model.
      target: an existing directory, which has none of these files.
      without: names of folders that are left out.

    Raises:
      UnsafePathError: an entry is a link, or neither file nor directory.
    """
    for folder, folders, files, fd in os.fwalk(".", dir_fd=source.fd, follow_symlinks=False):
        if folder == ".":
            folders[:] = [
                name for name in folders if not name.startswith(_UNFINISHED) and name not in without
            ]
            files = [name for name in files if name not in _REWRITTEN]
        for name in folders:
            if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                raise _unsafe(source, folder, name)
            os.mkdir(os.path.join(target, folder, name))
        for name in files:
            try:
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                file = os.open(name, flags, dir_fd=fd)
            except OSError as error:
                if stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    raise
                raise _unsafe(source, folder, name) from error
            with open(file, "rb") as stream:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise _unsafe(source, folder, name)
                with open(os.path.join(target, folder, name), "xb") as copy:
                    shutil.copyfileobj(stream, copy, _PART_BYTES)


def _unsafe(source: ModelDirectory, folder: str, name: str) -> UnsafePathError:
    path = os.path.normpath(os.path.join(source.path, folder, name))
    return UnsafePathError(f"{path!r} is a link, or neither file nor directory, and isn't copied.")
