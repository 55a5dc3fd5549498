"""Names of files and folders of both formats, and the check of names that come from a file."""

from __future__ import annotations

import os
from typing import TypeAlias

from savax.errors import UnsafePathError

PathLike: TypeAlias = "str | os.PathLike[str]"

SAVED_MODEL_PB = "saved_model.pb"
SAVED_MODEL_PBTXT = "saved_model.pbtxt"
SAVED_MODEL_CPB = "saved_model.cpb"
FINGERPRINT_PB = "fingerprint.pb"
VARIABLES_DIRECTORY = "variables"
VARIABLES_FILENAME = "variables"
ASSETS_DIRECTORY = "assets"
ASSETS_EXTRA_DIRECTORY = "assets.extra"
DEBUG_DIRECTORY = "debug"
DEBUG_INFO_PB = "saved_model_debug_info.pb"
CHECKPOINT_STATE = "checkpoint"

# The file of a model in each of its forms, of which a model has one.
SAVED_MODEL_FORMS = (SAVED_MODEL_PB, SAVED_MODEL_PBTXT, SAVED_MODEL_CPB)
# Folders of which a save replaces all files; assets.extra/ is somebody else's.
SAVED_MODEL_FOLDERS = (VARIABLES_DIRECTORY, ASSETS_DIRECTORY, DEBUG_DIRECTORY)


def index_path(prefix: str) -> str:
    """Returns the path of a checkpoint's index file."""
    return f"{prefix}.index"


def shard_path(prefix: str, shard: int, num_shards: int) -> str:
    """Returns the path of one of a checkpoint's data files."""
    return f"{prefix}.data-{shard:05d}-of-{num_shards:05d}"


def variables_prefix(export_dir: PathLike) -> str:
    """Returns the checkpoint prefix inside a SavedModel directory."""
    return os.path.join(os.fspath(export_dir), VARIABLES_DIRECTORY, VARIABLES_FILENAME)


def contained_path(directory: PathLike, name: str, what: str) -> str:
    """Returns the path of a relative name that must stay inside a directory.

    Args:
      directory: a trusted directory.
      name: a name read from a file, with ``/`` between its parts.
      what: how to call the name in the error, e.g. ``"asset file"``.

    Raises:
      UnsafePathError: the name is absolute or empty, has ``..`` parts or NUL characters, or
        resolves, through symbolic links, to a place outside the directory.
    """
    root = os.path.realpath(directory)
    parts = name.replace("\\", "/").split("/")
    if not name or "\0" in name or os.path.isabs(name) or ".." in parts:
        raise UnsafePathError(f"The {what} {name!r} is not a name inside {root}.")
    path = os.path.realpath(os.path.join(root, name))
    if path == root or os.path.commonpath([root, path]) != root:
        raise UnsafePathError(f"The {what} {name!r} leads out of {root}, to {path}.")
    return os.path.join(root, name)
