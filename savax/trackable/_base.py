"""Trackable: an object with named edges to others, and with tensors of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias

from savax.errors import InvalidArgumentError, TrackingError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from google.protobuf.message import Message

    from savax.trackable._placement import Placement
    from savax.types import DType

SaveType: TypeAlias = Literal["checkpoint", "savedmodel"]


class StoredTensor(Protocol):
    """What is known of a tensor before it is read."""

    @property
    def dtype(self) -> DType:
        """Element type."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes."""
        ...


class PendingRestoration(Protocol):
    """Values of a checkpoint that wait for the object they belong to."""

    def restore(self, child: Trackable) -> None:
        """Gives the values to an object that has just been tracked."""
        ...


class PendingSlots(Protocol):
    """Values of a checkpoint that wait for slot variables of an optimizer."""

    def restore(self, variable: Trackable, slot_name: str, slot: Trackable) -> None:
        """Gives a value to a slot that has just been added, if there is one for it."""
        ...


class Trackable:
    """An object with named edges to other Trackables and, perhaps, tensors of its own.

    Subclasses that hold state override ``_serialize_to_tensors`` and ``_restore_from_tensors``;
    those with edges of their own kind override ``_trackable_children``.
    """

    _edges: dict[str, Trackable]
    _pending: dict[str, PendingRestoration]

    # Set here and not in __init__, so that subclasses may assign before they call super().__init__.
    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Returns an instance without edges, whatever the subclass's arguments are."""
        self = super().__new__(cls)
        object.__setattr__(self, "_edges", {})
        object.__setattr__(self, "_pending", {})
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Returns the attributes for a copy, whose edges can then change on their own."""
        return {**vars(self), "_edges": dict(self._edges), "_pending": {}}

    def _trackable_children(
        self, save_type: SaveType = "checkpoint", **_: Any
    ) -> Mapping[str, Trackable]:
        """Returns the edges: local name to child, in the order in which they were tracked.

        Args:
          save_type: ``"savedmodel"`` asks for functions too that aren't attributes of the instance.
        """
        return self._edges

    def _track(self, value: Trackable, name: str, *, overwrite: bool = False) -> Trackable:
        """Adds an edge, and gives the child the values that a restored checkpoint has for it.

        Args:
          value: the child.
          name: the edge's local name.
          overwrite: whether the name may be another child's until now.

        Returns:
          The child.

        Raises:
          InvalidArgumentError: the value is no Trackable.
          TrackingError: the name is taken.
        """
        if not isinstance(value, Trackable):
            raise InvalidArgumentError(
                f"{type(self).__name__} can track only Trackables; {name!r} is a "
                f"{type(value).__name__}."
            )
        current = self._edges.get(name)
        if current is not None and current is not value and not overwrite:
            raise TrackingError(
                f"{type(self).__name__} tracks a {type(current).__name__} as {name!r} already."
            )
        self._edges[name] = value
        self._restore_pending(name, value)
        return value

    def _track_trackable(
        self, trackable: Trackable, name: str, overwrite: bool = False
    ) -> Trackable:
        """Adds an edge (TensorFlow's spelling of ``_track``)."""
        return self._track(trackable, name, overwrite=overwrite)

    def _untrack(self, name: str) -> None:
        """Removes an edge if there is one."""
        self._edges.pop(name, None)

    def _add_trackable_child(self, name: str, value: Trackable) -> None:
        """Takes a child back when a SavedModel is loaded; see ``register_serializable``."""
        self._track(value, name, overwrite=True)

    def _serialize_to_proto(self, object_proto: Any = None, **_: Any) -> Message | None:
        """Returns what a SavedModel holds of a registered class's object beside its children.

        Args:
          object_proto: the object's SavedObject, which core types may complete.

        Returns:
          A message of any type, or None.
        """
        return None

    @classmethod
    def _deserialize_from_proto(cls, **_: Any) -> Trackable:
        """Returns an object of a registered class as it is in a SavedModel, without its children.

        By default the class is called without arguments.

        Args:
          proto: a ``google.protobuf.Any`` with the message of ``_serialize_to_proto``, or empty.
          object_proto: the object's SavedObject.
          dependencies: objects of ``_deserialization_dependencies``, by name.
          export_dir: the model's directory.
          asset_file_def: the model's assets.
          operation_attributes: attributes of the main graph's nodes, by the node's name.
        """
        return cls()

    def _deserialization_dependencies(
        self, children: Mapping[str, Trackable]
    ) -> Mapping[str, Trackable]:
        """Returns objects that a registered class's object needs for being loaded, by name.

        Args:
          children: the object's children.
        """
        return {}

    def _lookup_dependency(self, name: str) -> Trackable | None:
        """Returns the child under a local name, or None."""
        return self._trackable_children().get(name)

    def _await_restoration(self, name: str, restoration: PendingRestoration) -> None:
        """Keeps values of a checkpoint for a child that doesn't exist yet; the latest wins."""
        self._pending[name] = restoration

    def _restore_pending(self, name: str, child: Trackable) -> None:
        restoration = self._pending.pop(name, None)
        if restoration is not None:
            restoration.restore(child)

    def _serialize_to_tensors(self) -> Mapping[str, Any]:
        """Returns this object's own tensors, by attribute name, as arrays or what numpy takes."""
        return {}

    def _tensor_names(self) -> Collection[str]:
        """Returns the names of this object's own tensors; it may not have values for them yet."""
        return self._serialize_to_tensors().keys()

    def _restore_from_tensors(self, restored_tensors: Mapping[str, Any]) -> None:
        """Takes over values from a checkpoint.

        Args:
          restored_tensors: arrays under the names of ``_serialize_to_tensors``, of numpy where no
            placement was asked for.
        """
        if restored_tensors:
            raise TrackingError(
                f"{type(self).__name__} defines _serialize_to_tensors without "
                "_restore_from_tensors."
            )

    def _tensor_placements(self) -> Mapping[str, Placement]:
        """Returns where restored tensors belong that don't stay on the host, by attribute name."""
        return {}

    def _restoration_problems(self, stored: Mapping[str, StoredTensor]) -> Sequence[str]:
        """Returns why stored values can't be restored, before anything is assigned.

        Args:
          stored: what the checkpoint has under the names of ``_serialize_to_tensors``.
        """
        return ()

    # Tensors of which not only dtype and shape decide whether they can be restored.
    _decisive_tensors: tuple[str, ...] = ()

    def _value_problems(self, values: Mapping[str, Any]) -> Sequence[str]:
        """Returns why stored values can't be restored, before anything is assigned.

        Args:
          values: of ``_decisive_tensors``, as far as the checkpoint has them.
        """
        return ()


class FunctionLike(Trackable):
    """Base of functions that can be saved.

    Modules offer those they find on their class to SavedModels, where a function's edges lead to
    its traces; in a checkpoint a function has no edges.
    """


class SlotOwner(Trackable):
    """Base of optimizers that keep further Variables ("slots") for each of a model's Variables.

    Slot variables aren't children: checkpoints refer to them by optimizer, Variable and slot name.
    """

    _slots: dict[str, dict[int, tuple[Trackable, Trackable]]]
    _pending_slots: PendingSlots | None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Returns an instance without slots."""
        self = super().__new__(cls, *args, **kwargs)
        object.__setattr__(self, "_slots", {})
        object.__setattr__(self, "_pending_slots", None)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Returns the attributes for a copy, for which no values wait."""
        return {**super().__getstate__(), "_pending_slots": None}

    def add_slot(self, variable: Trackable, slot_name: str, slot: Trackable) -> Trackable:
        """Registers the slot that belongs to a Variable under a name; returns it.

        The slot gets the value that a checkpoint, restored before, has for it.
        """
        # By id, as Variables have no hash; the pair keeps the Variable alive.
        self._slots.setdefault(slot_name, {})[id(variable)] = (variable, slot)
        if self._pending_slots is not None:
            self._pending_slots.restore(variable, slot_name, slot)
        return slot

    def _await_slots(self, pending: PendingSlots) -> None:
        """Keeps values of a checkpoint for slots that don't exist yet; the latest wins."""
        object.__setattr__(self, "_pending_slots", pending)

    def get_slot_names(self) -> list[str]:
        """Returns the names of slots in the order in which they were first used."""
        return list(self._slots)

    def get_slot(self, variable: Trackable, slot_name: str) -> Trackable | None:
        """Returns a Variable's slot, or None if there is none."""
        found = self._slots.get(slot_name, {}).get(id(variable))
        return None if found is None else found[1]
