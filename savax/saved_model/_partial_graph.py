"""Parts of an object graph: which nodes some paths need, and the graph without the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from savax.protos import GraphDef, SavedObject, SavedObjectGraph, TrackableObjectGraph

_ROOT = "root"
_SHOWN_CHILDREN = 12


def find_nodes(graph: SavedObjectGraph, paths: Iterable[str]) -> dict[str, int]:
    """Returns the node id of each path, ``root.encoder.layers.0``.

    Raises:
      InvalidArgumentError: there are no paths, or some lead nowhere; the message has all of them.
    """
    if isinstance(paths, str):
        raise InvalidArgumentError(f"Paths are a list of strings, got the string {paths!r}.")
    found, problems = {}, []
    for path in paths:
        if not isinstance(path, str) or path.partition(".")[0] != _ROOT:
            problems.append(f"{path!r} doesn't start with 'root'")
            continue
        names = path.removeprefix(_ROOT).removeprefix(".")
        node_id = _descendant(graph, 0, names)
        if node_id is None:
            problems.append(_missing(graph, path))
        else:
            found[path] = node_id
    if problems:
        raise InvalidArgumentError(f"The model has no such objects: {'; '.join(problems)}.")
    if not found:
        raise InvalidArgumentError("There are no paths of objects to load.")
    return found


def _descendant(graph: SavedObjectGraph, node_id: int, names: str) -> int | None:
    """Returns the node that a chain of local names leads to; names may have dots themselves."""
    if not names:
        return node_id
    for child in _children(graph, node_id):
        name = child.local_name
        if names == name:
            return child.node_id
        if names.startswith(name + "."):
            found = _descendant(graph, child.node_id, names[len(name) + 1 :])
            if found is not None:
                return found
    return None


def _missing(graph: SavedObjectGraph, path: str) -> str:
    """Returns where a path ends in the model, and what there is instead."""
    known = path
    while (node_id := _descendant(graph, 0, known.partition(".")[2])) is None:
        known = known.rpartition(".")[0]
    names = [child.local_name for child in _children(graph, node_id)]
    shown = ", ".join(map(repr, names[:_SHOWN_CHILDREN]))
    more = ", ..." if len(names) > _SHOWN_CHILDREN else ""
    return f"{path!r} ({known!r} has {shown + more if names else 'no children'})"


def _children(
    graph: SavedObjectGraph, node_id: int
) -> Iterable[TrackableObjectGraph.TrackableObject.ObjectReference]:
    return graph.nodes[node_id].children if 0 <= node_id < len(graph.nodes) else ()


def needed_nodes(graph: SavedObjectGraph, roots: Iterable[int], library: GraphDef) -> set[int]:
    """Returns the ids of some nodes and of all that they need.

    These are their descendants, slot variables, what functions capture, and what custom gradients
    capture.

    Args:
      graph: the object graph.
      roots: ids to begin with.
      library: the main graph, which registers the gradients.
    """
    pending = list(roots)
    for registered in library.library.registered_gradients:
        if registered.gradient_func in graph.concrete_functions:
            pending += graph.concrete_functions[registered.gradient_func].bound_inputs
    needed: set[int] = set()
    while pending:
        node_id = pending.pop()
        if node_id not in needed and 0 <= node_id < len(graph.nodes):
            needed.add(node_id)
            pending.extend(_neighbours(graph, graph.nodes[node_id]))
    return needed


def _neighbours(graph: SavedObjectGraph, saved: SavedObject) -> Iterator[int]:
    for child in saved.children:
        yield child.node_id
    for dependency in saved.dependencies:
        yield dependency.node_id
    for saveable in saved.saveable_objects.values():
        yield saveable.save_function
        yield saveable.restore_function
    for slot in saved.slot_variables:
        yield slot.original_variable_node_id
        yield slot.slot_variable_node_id
    names = list(saved.function.concrete_functions)
    names.append(saved.bare_concrete_function.concrete_function_name)
    for name in names:
        if name in graph.concrete_functions:
            yield from graph.concrete_functions[name].bound_inputs


def clear_others(graph: SavedObjectGraph, needed: set[int]) -> None:
    """Empties the nodes that aren't needed, which keep their ids."""
    for node_id, saved in enumerate(graph.nodes):
        if node_id not in needed:
            saved.Clear()
