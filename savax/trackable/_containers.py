"""Lists, dicts and tuples as nodes of the object graph.

A list or dict that is assigned to an attribute is replaced by a subclass of ``list`` or ``dict``
which tracks its elements; a tuple stays what it is and gets a node beside it. Elements that
aren't Trackables stay plain Python values; they aren't saved.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

from savax.errors import TrackingError
from savax.trackable._base import PendingRestoration, SaveType, Trackable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class NoDependency:
    """Wraps a value that is assigned to an attribute or container without being tracked."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class TrackedContainer(Trackable):
    """What containers share: which elements are children, and under which local names."""

    _exempt: dict[int, Any]
    _tuple_nodes: dict[int, TrackedTuple]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Returns an empty container."""
        self = super().__new__(cls, *args, **kwargs)
        # By id, as elements need not have a hash; the value keeps the element alive.
        object.__setattr__(self, "_exempt", {})
        object.__setattr__(self, "_tuple_nodes", {})
        return self

    def _adopt(self, value: Any, name: Any) -> Any:
        """Returns what is stored for an element, and restores values that wait for it."""
        stored, node = wrap(value)
        if isinstance(value, NoDependency):
            self._exempt[id(stored)] = stored
        elif isinstance(node, TrackedTuple):
            self._tuple_nodes[id(stored)] = node
        if node is not None and isinstance(name, str):
            self._restore_pending(name, node)
        return stored

    def _child(self, element: Any) -> Trackable | None:
        """Returns the node of an element, or None if it has none."""
        if id(element) in self._exempt:
            return None
        return element if isinstance(element, Trackable) else self._tuple_nodes.get(id(element))


class TrackedList(TrackedContainer, list[Any]):
    """A list whose elements are children, named by their positions.

    Appending is always possible. Replacing, removing or moving Trackables gives the same name to
    several objects over time, so a list where that has happened can't be saved.

    Args:
      values: the elements. If it is a list, it must not be changed afterwards.
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self._moved = False
        self._source = values if type(values) is list else None
        self._source_snapshot = list(values) if self._source is not None else []
        super().__init__()
        self.extend(values)

    def _trackable_children(
        self, save_type: SaveType = "checkpoint", **_: Any
    ) -> dict[str, Trackable]:
        self._check_saveable()
        children = ((str(index), self._child(element)) for index, element in enumerate(self))
        return {name: child for name, child in children if child is not None}

    def _check_saveable(self) -> None:
        if self._moved:
            raise TrackingError(
                f"The list of {len(self)} elements can't be saved: a Trackable in it was replaced, "
                "removed or moved, and positions are names in the file. Assign a new list to the "
                "attribute, or wrap it in NoDependency if it needn't be saved."
            )
        if self._source is not None and not _same_elements(self._source, self._source_snapshot):
            raise TrackingError(
                f"The list of {len(self)} elements can't be saved: the list it was made from was "
                "changed after it was assigned to an attribute. Append to the attribute instead, "
                "or assign the list when it is complete."
            )

    def _note_move(self, affected: Iterable[Any]) -> None:
        if any(self._child(element) is not None for element in affected):
            self._moved = True

    def append(self, value: Any) -> None:
        """Adds an element and tracks it."""
        super().append(self._adopt(value, str(len(self))))

    def extend(self, values: Iterable[Any]) -> None:
        """Adds elements and tracks them."""
        for value in list(values):
            self.append(value)

    def __iadd__(self, values: Iterable[Any]) -> Self:  # type: ignore[misc]
        self.extend(values)
        return self

    def __imul__(self, count: SupportsIndex) -> Self:
        times = count.__index__()
        if times <= 0:
            self.clear()
        else:
            self.extend(list(self) * (times - 1))
        return self

    def insert(self, index: SupportsIndex, value: Any) -> None:
        """Inserts an element; a list with Trackables can't be saved afterwards."""
        at_end = index.__index__() >= len(self)
        stored = self._adopt(value, str(len(self)) if at_end else None)
        if not at_end:
            self._note_move([stored, *self])
        super().insert(index, stored)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            before = list(self)
            super().__setitem__(index, [self._adopt(item, None) for item in value])
            kept = [a is b for a, b in zip(before, self, strict=False)]
            changed = next((i for i, same in enumerate(kept) if not same), len(kept))
            self._note_move(before[changed:])
            return
        position = index.__index__()
        self._note_move([self[position]])
        name = str(position if position >= 0 else position + len(self))
        super().__setitem__(index, self._adopt(value, name))

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        self._note_move(self)
        super().__delitem__(index)

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Removes and returns an element; a list with Trackables can't be saved afterwards."""
        self._note_move(self)
        return super().pop(index)

    def remove(self, value: Any) -> None:
        """Removes an element; a list with Trackables can't be saved afterwards."""
        self._note_move(self)
        super().remove(value)

    def clear(self) -> None:
        """Removes all elements; a list with Trackables can't be saved afterwards."""
        self._note_move(self)
        super().clear()

    def reverse(self) -> None:
        """Reverses the order; a list with Trackables can't be saved afterwards."""
        self._note_move(self)
        super().reverse()

    def sort(self, **kwargs: Any) -> None:
        """Sorts; a list with Trackables can't be saved afterwards."""
        self._note_move(self)
        super().sort(**kwargs)

    def copy(self) -> TrackedList:
        """Returns a tracked list of the same elements."""
        return self.__copy__()

    def __copy__(self) -> TrackedList:
        copied = TrackedList()
        copied._exempt = dict(self._exempt)
        list.extend(copied, self)
        copied._moved = self._moved
        return copied

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        elements = [NoDependency(e) if id(e) in self._exempt else e for e in self]
        return (_rebuilt_list, (elements, self._moved))


def _rebuilt_list(elements: list[Any], moved: bool) -> TrackedList:
    rebuilt = TrackedList(tuple(elements))
    rebuilt._moved = moved
    return rebuilt


class _DictTracking(TrackedContainer):
    """The tracking of dicts, mixed into ``dict`` and ``OrderedDict``."""

    _source: dict[Any, Any] | None
    _source_snapshot: dict[Any, Any]

    def _fill(self, source: Any, values: Mapping[Any, Any]) -> None:
        self._source = source
        self._source_snapshot = {} if source is None else dict(source)
        self.update(values)

    def _trackable_children(
        self, save_type: SaveType = "checkpoint", **_: Any
    ) -> dict[str, Trackable]:
        self._check_source()
        children = {}
        for key, element in self.items():  # type: ignore[attr-defined]
            child = self._child(element)
            if child is None:
                continue
            if not isinstance(key, str):
                raise TrackingError(
                    f"A dict can't be saved: its key {key!r} isn't a string but leads to a "
                    f"{type(element).__name__}, and keys are names in the file. Use a string, or "
                    "wrap the value in NoDependency if it needn't be saved."
                )
            children[key] = child
        return children

    def _check_source(self) -> None:
        source, snapshot = self._source, self._source_snapshot
        if source is not None and not (
            _same_elements(list(source), list(snapshot))
            and _same_elements(source.values(), snapshot.values())
        ):
            raise TrackingError(
                f"A dict with the keys {list(snapshot)[:5]!r} can't be saved: the dict it was made "
                "from was changed after it was assigned to an attribute. Change the attribute "
                "instead, or assign the dict when it is complete."
            )

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, self._adopt(value, key))  # type: ignore[misc]

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Returns the value of a key; a missing one gets the default, tracked."""
        if key not in self:  # type: ignore[operator]
            self[key] = default
        return self[key]  # type: ignore[index]

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Sets several keys and tracks their values."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def copy(self) -> Any:
        """Returns a tracked dict of the same elements."""
        return self.__copy__()

    def __copy__(self) -> Any:
        rebuild, arguments = self.__reduce_ex__(4)
        return rebuild(*arguments)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        items = [
            (key, NoDependency(value) if id(value) in self._exempt else value)
            for key, value in self.items()  # type: ignore[attr-defined]
        ]
        return (type(self), (items,))


class TrackedDict(_DictTracking, dict[Any, Any]):
    """A dict whose values are children, named by their keys.

    Any change is possible. Keys that lead to Trackables must be strings when the dict is saved.

    Args:
      values: a mapping or pairs. If it is a dict, it must not be changed afterwards.
    """

    def __init__(self, values: Any = (), **kwargs: Any) -> None:
        super().__init__()
        self._fill(values if type(values) is dict else None, dict(values, **kwargs))


class TrackedOrderedDict(_DictTracking, collections.OrderedDict[Any, Any]):
    """An ``OrderedDict`` whose values are children, named by their keys; see ``TrackedDict``."""

    def __init__(self, values: Any = (), **kwargs: Any) -> None:
        self._source, self._source_snapshot = None, {}
        super().__init__()
        is_source = type(values) is collections.OrderedDict
        self._fill(values if is_source else None, dict(values, **kwargs))


class TrackedTuple(Trackable):
    """The node of a tuple; elements of a named tuple are children by field name and by index.

    Args:
      value: the tuple, its elements wrapped.
      nodes: for each element its node, or None.
    """

    def __init__(self, value: tuple[Any, ...], nodes: Sequence[Trackable | None]) -> None:
        self.value = value
        fields = type(value)._fields if is_namedtuple(value) else ()  # type: ignore[attr-defined]
        for name, node in [
            *zip(fields, nodes, strict=False),
            *((str(index), node) for index, node in enumerate(nodes)),
        ]:
            if node is not None:
                self._edges[name] = node

    def _await_restoration(self, name: str, restoration: PendingRestoration) -> None:
        return  # a tuple never changes: what it lacks now, it will always lack


def is_namedtuple(value: Any) -> bool:
    """Whether a value is a tuple whose class names its elements."""
    return isinstance(value, tuple) and isinstance(getattr(type(value), "_fields", None), tuple)


def wrap(value: Any) -> tuple[Any, Trackable | None]:
    """Returns a value as an attribute or element stores it, and its node in the object graph.

    Only exact ``list``, ``dict`` and ``OrderedDict`` are replaced, not subclasses; tuples are
    rebuilt if something in them is. The node is None for values that aren't tracked.

    Raises:
      TrackingError: a named tuple can't be made from its fields.
    """
    if isinstance(value, NoDependency):
        return value.value, None
    if isinstance(value, tuple) and not isinstance(value, Trackable):
        return _wrap_tuple(value)
    container = _CONTAINERS.get(type(value))
    stored = value if container is None else container(value)
    return stored, stored if isinstance(stored, Trackable) else None


_CONTAINERS: dict[type, type[TrackedContainer]] = {
    list: TrackedList,
    dict: TrackedDict,
    collections.OrderedDict: TrackedOrderedDict,
}


def _wrap_tuple(value: tuple[Any, ...]) -> tuple[tuple[Any, ...], TrackedTuple | None]:
    pairs = [wrap(element) for element in value]
    elements, nodes = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    stored = value if _same_elements(elements, value) else _rebuilt_tuple(value, elements)
    has_node = any(node is not None for node in nodes)
    return stored, TrackedTuple(stored, nodes) if has_node else None


def _rebuilt_tuple(value: tuple[Any, ...], elements: list[Any]) -> tuple[Any, ...]:
    if not is_namedtuple(value):
        return type(value)(elements)
    try:
        return type(value)(*elements)
    except TypeError as error:
        raise TrackingError(
            f"The named tuple {type(value).__name__} can't be rebuilt from its fields "
            f"{type(value)._fields!r}, so it can't hold lists or dicts here: {error}. "  # type: ignore[attr-defined]
            "Wrap it in NoDependency if it needn't be saved."
        ) from error


def _same_elements(a: Iterable[Any], b: Iterable[Any]) -> bool:
    """Whether two collections hold the same objects; elements may have an elementwise ``==``."""
    first, second = list(a), list(b)
    return len(first) == len(second) and all(x is y for x, y in zip(first, second, strict=True))
