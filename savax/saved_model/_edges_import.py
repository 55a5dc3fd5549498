"""The edges of a SavedObjectGraph: children, slot variables and the functions of tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.errors import CorruptSavedModelError
from savax.saved_model._loaded_objects import LoadedObject
from savax.saved_model._loaded_tables import LoadedResource
from savax.saved_model._registered_classes import add_children, is_signatures
from savax.trackable import SlotOwner, Trackable, TrackedDict, TrackedList
from savax.trackable._resource import RESTORE_TABLE, SAVE_TABLE, TABLE_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.protos import SavedObject

# Elements of lists that have no object, in the whole model; 100 more for each that has one.
_MOST_GAPS = 1_000_000


class EdgeImporter:
    """Gives objects that were made from nodes what the nodes' edges lead to.

    Args:
      objects: the object of each node.
    """

    def __init__(self, objects: Sequence[Trackable]) -> None:
        self._objects = objects
        self._left_gaps = _MOST_GAPS

    def add(self, obj: Trackable, saved: SavedObject, *, is_registered: bool) -> None:
        """Adds the edges of one node.

        Args:
          obj: the node's object.
          saved: the node, whose edges lead to nodes that exist.
          is_registered: whether the object is of a registered class.

        Raises:
          CorruptSavedModelError: the lists of the model consist of gaps, nearly.
        """
        self._add_children(obj, saved, is_registered)
        self._add_slots(obj, saved)
        self._add_table_functions(obj, saved)

    def _add_children(self, obj: Trackable, saved: SavedObject, is_registered: bool) -> None:
        if is_registered:
            add_children(obj, saved, self._objects)
        elif isinstance(obj, TrackedList):
            self._fill_list(obj, saved)
        elif isinstance(obj, TrackedDict):
            for child in saved.children:
                obj[child.local_name] = self._objects[child.node_id]
        elif isinstance(obj, LoadedObject | LoadedResource):
            for child in saved.children:
                value = self._objects[child.node_id]
                if is_signatures(child.local_name, value):
                    obj.set_untracked(child.local_name, value)
                else:
                    obj.add_child(child.local_name, value)

    def _fill_list(self, obj: TrackedList, saved: SavedObject) -> None:
        """Fills a list by index; other names are fields of a named tuple, a second time.

        Elements that aren't Trackables were not saved, so indices have gaps.
        """
        indexed = {
            int(child.local_name): self._objects[child.node_id]
            for child in saved.children
            if child.local_name.isdecimal() and len(child.local_name) < 10
        }
        length = max(indexed, default=-1) + 1
        self._left_gaps += 100 * len(indexed) - length
        if self._left_gaps < 0:
            raise CorruptSavedModelError(
                f"A list has an element {length - 1} and {len(indexed)} in all; the lists of the "
                "model consist of gaps, nearly."
            )
        obj.extend(indexed.get(i) for i in range(length))

    def _add_slots(self, obj: Trackable, saved: SavedObject) -> None:
        if not isinstance(obj, SlotOwner):
            return
        for slot in saved.slot_variables:
            original = self._objects[slot.original_variable_node_id]
            obj.add_slot(original, slot.slot_name, self._objects[slot.slot_variable_node_id])

    def _add_table_functions(self, obj: Trackable, saved: SavedObject) -> None:
        """Adds the functions by which TensorFlow saves and restores a mutable table."""
        if not isinstance(obj, LoadedResource) or TABLE_ATTRIBUTE not in saved.saveable_objects:
            return
        saveable = saved.saveable_objects[TABLE_ATTRIBUTE]
        names = {child.local_name for child in saved.children}
        for name, node_id in (
            (SAVE_TABLE, saveable.save_function),
            (RESTORE_TABLE, saveable.restore_function),
        ):
            if name not in names:
                obj.add_child(name, self._objects[node_id])
