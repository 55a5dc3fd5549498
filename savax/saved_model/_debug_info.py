"""Which lines of the user's code the nodes of a model come from, as a GraphDebugInfo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.function._source_lines import user_frames
from savax.protos import GraphDebugInfo

if TYPE_CHECKING:
    from collections.abc import Mapping


def make_debug_info(
    sources: Mapping[str, Mapping[str, tuple[Any, ...]]],
) -> GraphDebugInfo:
    """Returns the debug info of functions that were lowered.

    Args:
      sources: for each function the names of its nodes, and the equations of JAX that they were
        written for, outermost first.
    """
    proto = GraphDebugInfo()
    files: dict[str, int] = {}
    frames: dict[tuple[Any, ...], int] = {}
    traces: dict[tuple[int, ...], int] = {}
    for function, nodes in sources.items():
        for node, equations in nodes.items():
            found = tuple(
                frames.setdefault(
                    (
                        files.setdefault(frame.file_name, len(files)),
                        frame.line_num,
                        frame.function_name,
                    ),
                    len(frames),
                )
                for frame in user_frames(equations)
            )
            if found:
                key = f"{node}@{function}"
                proto.name_to_trace_id[key] = traces.setdefault(found, len(traces))
    proto.files.extend(files)
    for (file, line, name), number in frames.items():
        frame = proto.frames_by_id[number]
        frame.file_index, frame.line, frame.func = file, line, name
    for trace, number in traces.items():
        proto.traces_by_id[number].frame_id.extend(trace)
    return proto
