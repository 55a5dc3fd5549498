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


def line_of(info: GraphDebugInfo, function: str, node: str) -> str | None:
    """Returns the line that a node was written for, as ``"file:line (function)"``.

    Args:
      info: the model's debug info.
      function: that the node is in; empty for the main graph.
      node: its name.

    Returns:
      None if there is none.
    """
    key = f"{node}@{function}" if function else node
    if key not in info.name_to_trace_id:
        return None
    frames = info.traces_by_id[info.name_to_trace_id[key]].frame_id
    known = [info.frames_by_id[number] for number in frames if number in info.frames_by_id]
    if not known or not 0 <= known[-1].file_index < len(info.files):
        return None
    frame = known[-1]
    return f"{info.files[frame.file_index]}:{frame.line} ({frame.func})"
