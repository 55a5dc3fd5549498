"""Where large arrays are in a SavedModel, as the steps that the image form counts."""

from __future__ import annotations

from typing import TypeAlias

Step: TypeAlias = "int | str"  # the number of a field, an index, or a key

_META_GRAPHS, _GRAPH_DEF, _NODE, _ATTR, _TENSOR = 2, 2, 1, 5, 8
TENSOR_CONTENT = 4  # of TensorProto

# Bytes from which on the content of a constant of the main graph is kept apart from its message.
LEAST_APART = 1 << 16

# Fields of TensorProto that hold the elements of a dtype as they are in memory. Such fields grow
# when messages are merged, so an array may be spread over any number of records.
GROWING_FIELDS = {
    "float32": 5,
    "float64": 6,
    "complex64": 9,
    "complex128": 12,
}


def graph_def_path(index: int) -> tuple[Step, ...]:
    """Returns where the graph of a MetaGraphDef is in a SavedModel.

    Args:
      index: of the MetaGraphDef.
    """
    return (_META_GRAPHS, index, _GRAPH_DEF)


def constant_path(index: int) -> tuple[Step, ...]:
    """Returns where the tensor of a constant of the main graph is, from the graph on.

    Args:
      index: of the node.
    """
    return (_NODE, index, _ATTR, "value", _TENSOR)


def constant_index(path: tuple[Step, ...]) -> int | None:
    """Returns the index of the node of the first graph whose tensor a path leads to, or None."""
    first = graph_def_path(0)
    size = len(first)
    index = path[size + 1] if len(path) == size + 5 else None
    if not isinstance(index, int):
        return None
    return index if path == (*first, *constant_path(index)) else None
