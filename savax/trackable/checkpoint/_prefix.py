"""From what users name a checkpoint by to the prefix of its files."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from savax.errors import NotFoundError
from savax.trackable.bundle._locations import as_location, join, split
from savax.trackable.bundle._storage import is_directory, is_file, list_names
from savax.trackable.checkpoint._state import latest_checkpoint
from savax.types import index_path, variables_prefix
from savax.types._paths import SAVED_MODEL_FORMS, VARIABLES_FILENAME

if TYPE_CHECKING:
    from savax.types import PathLike


def resolve_prefix(path: PathLike) -> str:
    """Returns the prefix of a checkpoint.

    Args:
      path: the prefix, the index file, a SavedModel directory or its ``variables`` directory, or a
        directory whose state file names the latest checkpoint.

    Raises:
      NotFoundError: there is no such checkpoint; the message lists those with similar names.
    """
    text = as_location(path)
    if text.endswith(".index") and is_file(text):
        return text.removesuffix(".index")
    if is_file(index_path(text)):
        return text
    if not is_directory(text):
        raise NotFoundError(f"There is no checkpoint {text!r}{_similar(text)}.")
    if any(is_file(join(text, name)) for name in SAVED_MODEL_FORMS):
        prefix = variables_prefix(text)
        if not is_file(index_path(prefix)):
            raise NotFoundError(f"The SavedModel {text!r} has no Variables: no {prefix}.index.")
        return prefix
    latest = latest_checkpoint(text)
    if latest is None:
        inner = join(text, VARIABLES_FILENAME)
        if is_file(index_path(inner)):
            return inner
        raise NotFoundError(
            f"The directory {text!r} is no SavedModel and has no state file that names an existing "
            f"checkpoint{_similar(join(text, ''))}."
        )
    return latest


def _similar(prefix: str) -> str:
    directory, name = split(prefix)
    try:
        files = list_names(directory)
    except OSError:
        return f": the directory {directory!r} doesn't exist"
    prefixes = sorted(file.removesuffix(".index") for file in files if file.endswith(".index"))
    nearest = difflib.get_close_matches(name, prefixes, n=3, cutoff=0.4) if name else prefixes[-3:]
    if not nearest:
        return ""
    return "; found " + ", ".join(repr(join(directory, found)) for found in nearest)
