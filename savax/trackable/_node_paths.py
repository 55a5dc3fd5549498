"""The shortest path of each node of a stored object graph."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from savax.errors import CorruptSavedModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.protos import SavedObject, TrackableObjectGraph

# A chain of n objects has paths of n * n / 2 names: so long ones begin anew.
_LONGEST_WHOLE = 500  # characters


def shortest_paths(
    nodes: Sequence[SavedObject] | Sequence[TrackableObjectGraph.TrackableObject],
) -> dict[int, str]:
    """Returns how each node that the root leads to is reached, e.g. ``root.layers.0``.

    What is below a path of more than 500 characters begins with the number of a node instead,
    ``node 1234.next``, so that all paths together stay in proportion to the graph.

    Args:
      nodes: of the graph, the root first.

    Returns:
      The paths by node id, breadth first.

    Raises:
      CorruptSavedModelError: an edge leads to no node.
    """
    paths = {0: "root"} if nodes else {}
    queue = deque(paths)
    while queue:
        node_id = queue.popleft()
        path = paths[node_id]
        begin = path if len(path) <= _LONGEST_WHOLE else f"node {node_id}"
        for child in nodes[node_id].children:
            if not 0 <= child.node_id < len(nodes):
                raise CorruptSavedModelError(
                    f"{begin}.{child.local_name} is node {child.node_id}, of {len(nodes)} nodes."
                )
            if child.node_id not in paths:
                paths[child.node_id] = f"{begin}.{child.local_name}"
                queue.append(child.node_id)
    return paths
