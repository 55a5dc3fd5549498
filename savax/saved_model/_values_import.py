"""The values of a loaded model's Variables, from the checkpoint inside its directory."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from savax.errors import (
    CorruptBundleError,
    CorruptSavedModelError,
    IncompleteRestoreError,
    InvalidArgumentError,
    NotFoundError,
    ResourceLimitError,
    UnsafePathError,
)
from savax.trackable import OBJECT_GRAPH_KEY, VARIABLE_VALUE, TableResource, Variable
from savax.trackable._resource import TABLE_ATTRIBUTE, TABLE_KEYS, TABLE_VALUES
from savax.trackable.bundle import BundleReader
from savax.trackable.checkpoint import decode_object_graph
from savax.trackable.checkpoint._registered_savers import find_saver, restore_by_savers
from savax.types import contained_path, index_path
from savax.types._paths import VARIABLES_DIRECTORY, VARIABLES_FILENAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.protos import SavedObjectGraph, TrackableObjectGraph
    from savax.saved_model._reader import ModelDirectory
    from savax.trackable import Trackable

_PREFIX = f"{VARIABLES_DIRECTORY}/{VARIABLES_FILENAME}"


def restore_values(
    objects: Sequence[Trackable],
    graph: SavedObjectGraph,
    directory: ModelDirectory,
    *,
    partial: bool,
) -> None:
    """Gives Variables the values that the model's checkpoint has for them.

    Args:
      objects: the object of each node.
      graph: the object graph that they were made from.
      directory: of the model.
      partial: whether Variables may stay without a value.

    Raises:
      NotFoundError: there is no checkpoint.
      CorruptSavedModelError: it doesn't belong to the model.
      IncompleteRestoreError: nothing of it does, and Variables may stay without a value.
      CorruptBundleError: it is damaged.
      UnsafePathError: links lead out of the directory.
    """
    contained_path(directory.path, index_path(_PREFIX), "checkpoint")
    try:
        with BundleReader(_PREFIX, dir_fd=directory.fd, contained=True) as reader:
            _restore_from(reader, objects, graph, directory.path, partial=partial)
    except (NotFoundError, CorruptBundleError, ResourceLimitError, UnsafePathError) as error:
        raise type(error)(f"In the SavedModel {directory.path!r}: {error}") from error


def _restore_from(
    reader: BundleReader,
    objects: Sequence[Trackable],
    graph: SavedObjectGraph,
    path: str,
    *,
    partial: bool,
) -> None:
    if OBJECT_GRAPH_KEY not in reader:
        raise CorruptSavedModelError(
            f"The variables of {path!r} have no object graph to restore them by."
        )
    encoded = reader.read(OBJECT_GRAPH_KEY)
    if encoded.dtype != object or encoded.shape:
        raise CorruptSavedModelError(f"The object graph of the variables of {path!r} is no string.")
    stored = _StoredNames(decode_object_graph(encoded.item(), path))
    stored_ids = _matched_nodes(graph, stored)
    keys: dict[str, list[Variable]] = {}
    missing: list[str] = []
    by_savers = []
    for node_id, obj in enumerate(objects):
        stored_id = stored_ids.get(node_id)
        by_saver = None if stored_id is None else find_saver(obj, stored.nodes[stored_id])
        if by_saver is not None:
            by_savers.append(by_saver)
            continue
        is_table = isinstance(obj, TableResource) and obj.has_state
        if is_table and not _restore_table(reader, obj, stored, stored_ids.get(node_id)):
            missing.append(f"the table of node {node_id}")
        if not isinstance(obj, Variable):
            missing += _restore_own_tensors(reader, obj, stored, stored_ids.get(node_id), node_id)
            continue
        key = stored.key_of(stored_ids.get(node_id))
        if key is not None and key in reader:
            keys.setdefault(key, []).append(obj)
        else:
            missing.append(f"{obj.name!r} (node {node_id})")
    if missing and partial and len(stored_ids) <= 1:
        raise IncompleteRestoreError(
            f"The checkpoint of {path!r} has nothing in common with the model, not even parts."
        )
    if missing and not partial:
        raise CorruptSavedModelError(
            f"The checkpoint of {path!r} has no values for {', '.join(missing[:20])}"
            f"{', ...' if len(missing) > 20 else ''}. "
            "LoadOptions(allow_partial_checkpoint=True) leaves them without."
        )
    for key, value in reader.read_many(sorted(keys)):
        for variable in keys[key]:
            try:
                variable._set_host_value(value)
            except InvalidArgumentError as error:
                raise CorruptSavedModelError(
                    f"The checkpoint of {path!r} doesn't fit the model: {error}"
                ) from error
    restore_by_savers(by_savers, os.path.join(path, _PREFIX))


def _restore_table(
    reader: BundleReader, table: Trackable, stored: _StoredNames, stored_id: int | None
) -> bool:
    """Gives a mutable table its content; returns whether there is one."""
    key = stored.key_of(stored_id, TABLE_ATTRIBUTE)
    if key is None or f"{key}-keys" not in reader or f"{key}-values" not in reader:
        return False
    keys, values = reader.read(f"{key}-keys"), reader.read(f"{key}-values")
    table._restore_from_tensors({TABLE_KEYS: keys, TABLE_VALUES: values})
    return True


def _restore_own_tensors(
    reader: BundleReader,
    obj: Trackable,
    stored: _StoredNames,
    stored_id: int | None,
    node_id: int,
) -> list[str]:
    """Gives an object of a registered class the tensors that it saves; returns what is missing."""
    if isinstance(obj, TableResource):
        return []
    names = obj._tensor_names()
    keys = {name: stored.key_of(stored_id, name) for name in names}
    found = {name: key for name, key in keys.items() if key is not None and key in reader}
    if found:
        problems = obj._restoration_problems({n: reader.entry(key) for n, key in found.items()})
        if problems:
            raise CorruptSavedModelError(
                f"The checkpoint doesn't fit the {type(obj).__name__} of node {node_id}: "
                f"{'; '.join(problems)}"
            )
        obj._restore_from_tensors({name: reader.read(key) for name, key in found.items()})
    return [
        f"{name!r} of the {type(obj).__name__} of node {node_id}"
        for name in names
        if name not in found
    ]


def _matched_nodes(graph: SavedObjectGraph, stored: _StoredNames) -> dict[int, int]:
    """Returns for nodes of the model those of its checkpoint, found by the names of edges.

    Both number their nodes alike when they are saved together, but a checkpoint that somebody put
    in the place of the first may number them otherwise.
    """
    matched = {0: 0} if stored.nodes else {}
    pending = deque(matched)
    while pending:
        node_id = pending.popleft()
        stored_children = stored.children_of(matched[node_id])
        for child in graph.nodes[node_id].children:
            stored_id = stored_children.get(child.local_name, -1)
            if child.node_id not in matched and 0 <= stored_id < len(stored.nodes):
                matched[child.node_id] = stored_id
                pending.append(child.node_id)
    for node_id, stored_id in list(matched.items()):
        for slot in graph.nodes[node_id].slot_variables:
            original = matched.get(slot.original_variable_node_id, -1)
            stored_slot = stored.slots_of(stored_id).get((original, slot.slot_name), -1)
            if 0 <= stored_slot < len(stored.nodes):
                matched.setdefault(slot.slot_variable_node_id, stored_slot)
    return matched


class _StoredNames:
    """The nodes of a checkpoint, with what they refer to by name.

    Many objects may stand for one stored node, so that what it holds is walked through once.
    """

    def __init__(self, proto: TrackableObjectGraph) -> None:
        self.nodes = proto.nodes
        self._children: dict[int, dict[str, int]] = {}
        self._slots: dict[int, dict[tuple[int, str], int]] = {}
        self._keys: dict[int, dict[str, str]] = {}

    def children_of(self, node_id: int) -> dict[str, int]:
        """Returns the ids of a node's children by their local names."""
        if node_id not in self._children:
            children = self.nodes[node_id].children
            self._children[node_id] = {child.local_name: child.node_id for child in children}
        return self._children[node_id]

    def slots_of(self, node_id: int) -> dict[tuple[int, str], int]:
        """Returns the ids of a node's slot variables by the Variable's id and the slot's name."""
        if node_id not in self._slots:
            self._slots[node_id] = {
                (slot.original_variable_node_id, slot.slot_name): slot.slot_variable_node_id
                for slot in self.nodes[node_id].slot_variables
            }
        return self._slots[node_id]

    def key_of(self, node_id: int | None, name: str = VARIABLE_VALUE) -> str | None:
        """Returns the checkpoint key of a node's attribute; None if there is none."""
        if node_id is None:
            return None
        if node_id not in self._keys:
            # Of several attributes of one name it is the first.
            attributes = reversed(self.nodes[node_id].attributes)
            self._keys[node_id] = {a.name: a.checkpoint_key for a in attributes}
        return self._keys[node_id].get(name)
