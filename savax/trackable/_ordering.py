"""Topological order of objects that need others to be loaded first."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from savax.errors import CyclicDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def order_by_dependency(
    dependencies: Mapping[int, Sequence[int]], path_of: Callable[[int], str] = str
) -> list[int]:
    """Returns ids in an order in which each comes after those it depends on.

    Among ids that could come next, the smallest does, so that the order is always the same.

    Args:
      dependencies: id to the ids it depends on; ids that only occur there have no dependencies.
      path_of: gives the path of an object for the error.

    Raises:
      CyclicDependencyError: some ids depend on each other in a circle; the message shows one.
    """
    missing: dict[int, int] = {}
    dependents: dict[int, list[int]] = {}
    for node, needed in dependencies.items():
        unique = set(needed)
        missing[node] = len(unique)
        for other in unique:
            missing.setdefault(other, 0)
            dependents.setdefault(other, []).append(node)
    ready = [node for node, count in missing.items() if count == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        node = heapq.heappop(ready)
        order.append(node)
        for dependent in dependents.get(node, ()):
            missing[dependent] -= 1
            if missing[dependent] == 0:
                heapq.heappush(ready, dependent)
    if len(order) < len(missing):
        raise _cycle_error(dependencies, set(missing) - set(order), path_of)
    return order


def _cycle_error(
    dependencies: Mapping[int, Sequence[int]], left: set[int], path_of: Callable[[int], str]
) -> CyclicDependencyError:
    # Every id that is left depends on another one that is left, so this walk meets itself.
    walk = [min(left)]
    seen = {walk[0]: 0}
    while True:
        following = min(other for other in dependencies[walk[-1]] if other in left)
        if following in seen:
            cycle = [*walk[seen[following] :], following]
            shown = " -> ".join(f"{path_of(node)} (node {node})" for node in cycle)
            return CyclicDependencyError(
                f"These objects need each other to be loaded first: {shown}. "
                "Break the circle in their _trackable_children for SavedModels."
            )
        seen[following] = len(walk)
        walk.append(following)
