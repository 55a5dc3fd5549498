"""The debug info of a model, read from its directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.protos import GraphDebugInfo, parse
from savax.types import contained_path
from savax.types._paths import DEBUG_DIRECTORY, DEBUG_INFO_PB

if TYPE_CHECKING:
    from savax.saved_model._reader import ModelDirectory

_DEBUG_INFO_PATH = f"{DEBUG_DIRECTORY}/{DEBUG_INFO_PB}"


def read_debug_info(directory: ModelDirectory) -> GraphDebugInfo:
    """Returns the debug info of a model; an empty one if there is none.

    Raises:
      CorruptSavedModelError: the file can't be parsed.
      UnsafePathError: links lead out of the directory.
    """
    contained_path(directory.path, _DEBUG_INFO_PATH, "debug info")
    data = directory.read(_DEBUG_INFO_PATH)
    if data is None:
        return GraphDebugInfo()
    return parse(GraphDebugInfo, data, f"{directory.path}/{_DEBUG_INFO_PATH}")
