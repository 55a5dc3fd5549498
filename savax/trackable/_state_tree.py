"""TrackedState: a tree of arrays, such as an optimizer's state, that can be saved."""

from __future__ import annotations

import copy
import dataclasses
import enum
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from savax.errors import InvalidArgumentError
from savax.trackable._arrays import is_array
from savax.trackable._base import Trackable
from savax.trackable._containers import is_namedtuple
from savax.trackable._frames import current_frame
from savax.trackable._variable import Variable
from savax.types import as_dtype

# Python's numbers are stored without loss, and come back as what they were.
_NUMBER_DTYPES: dict[type, str] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    complex: "complex128",
}
# What a tree may hold beside arrays; it is part of the structure and isn't saved.
_STATIC_TYPES = (
    type(None),
    str,
    bytes,
    enum.Enum,
    np.dtype,
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
)


class TrackedState(Trackable):
    """A tree of arrays whose leaves are Variables: the state of an optax optimizer, for example.

    Lists, tuples, named tuples, dicts and dataclasses are branches; arrays and Python numbers are
    leaves; None, strings and functions belong to the structure and aren't saved. Children are
    named by fields, keys and positions, so that TensorFlow reads a checkpoint of it as plain
    objects.

    Args:
      tree: the first value. Its structure, dtypes and shapes stay.

    Raises:
      InvalidArgumentError: something in the tree is none of those; the message has its path.
    """

    def __init__(self, tree: Any) -> None:
        self._part = _part(tree, "value")
        if isinstance(self._part, _Branch):
            self._edges.update(self._part._edges)
        elif isinstance(self._part, Trackable):
            self._track(self._part, "value")

    @property
    def value(self) -> Any:
        """The tree with the current values."""
        return _value(self._part)

    def assign(self, tree: Any) -> TrackedState:
        """Replaces all values.

        Args:
          tree: of the same structure, with the same dtypes and shapes.

        Returns:
          The TrackedState.

        Raises:
          InvalidArgumentError: the structure differs; the message has the path where it does.
          ShapeMismatchError, DTypeMismatchError: a leaf's value doesn't fit.
        """
        pairs = list(_paired(self._part, tree, "value"))  # all of it, before anything is assigned
        checked = [(variable, variable._checked(value)) for variable, value in pairs]
        for variable, value in checked:
            variable.assign(value)
        return self

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The Variables that hold the leaves, in the order of the tree."""
        return tuple(_variables(self._part))

    def __repr__(self) -> str:
        return f"TrackedState({len(self.variables)} Variables)"


class _Number(Variable):
    """A leaf that is a Python number."""

    def __init__(self, value: Any, name: str) -> None:
        super().__init__(value, False, name=name, dtype=_NUMBER_DTYPES[type(value)])
        self.python_type = type(value)


class _Branch(Trackable):
    """A container: its parts by local name, and itself with None in their places."""

    def __init__(self, container: Any, parts: dict[str, Any]) -> None:
        self.skeleton = _rebuilt(container, [None] * len(parts))
        self.parts = parts
        self._edges.update({n: part for n, part in parts.items() if isinstance(part, Trackable)})


@dataclasses.dataclass(frozen=True)
class _Static:
    """A part of the structure that isn't saved."""

    value: Any


def _part(value: Any, path: str) -> Any:
    """Returns a Trackable for a branch or leaf, and a _Static for the rest."""
    if isinstance(value, Trackable):
        return value
    if is_array(value):
        try:
            as_dtype(value.dtype)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(
                f"{path} has the dtype {value.dtype}, which checkpoints can't hold; store "
                "jax.random.key_data(key) in place of a random key."
            ) from error
        return Variable(value, False, name=path)
    if type(value) in _NUMBER_DTYPES:
        return _Number(value, path)
    members = _members(value, path)
    if members is not None:
        parts = {name: _part(member, f"{path}.{name}") for name, member in members.items()}
        return _Branch(value, parts)
    if isinstance(value, _STATIC_TYPES):
        return _Static(value)
    raise InvalidArgumentError(
        f"{path} is a {type(value).__name__}, which TrackedState can't look into. Use arrays in "
        "lists, tuples, named tuples, dicts and dataclasses."
    )


def _members(value: Any, path: str) -> dict[str, Any] | None:
    """Returns what a container holds by local name, or None if the value is no container."""
    if is_namedtuple(value):
        return dict(zip(value._fields, value, strict=True))
    if isinstance(value, list | tuple):
        return {str(index): member for index, member in enumerate(value)}
    if isinstance(value, Mapping):
        members = {str(key): member for key, member in value.items()}
        if len(members) < len(value):
            raise InvalidArgumentError(f"{path} is a dict with two keys that are equal as text.")
        return members
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def _rebuilt(container: Any, members: list[Any]) -> Any:
    """Returns a container of the same kind with other members."""
    if is_namedtuple(container):
        return type(container)(*members)
    if isinstance(container, list | tuple):
        return type(container)(members)
    if isinstance(container, Mapping):
        pairs = dict(zip(container, members, strict=True))
        kind: Callable[[Any], Any] = type(container)
        return pairs if kind is dict else kind(pairs)
    copied = copy.copy(container)
    for field, member in zip(dataclasses.fields(container), members, strict=True):
        object.__setattr__(copied, field.name, member)  # frozen dataclasses too
    return copied


def _value(part: Any) -> Any:
    if isinstance(part, _Branch):
        return _rebuilt(part.skeleton, [_value(member) for member in part.parts.values()])
    if isinstance(part, _Static):
        return part.value
    if isinstance(part, _Number):
        return part.value if current_frame() else part.python_type(part._host_value().item())
    return part.value if isinstance(part, Variable) else part


def _paired(part: Any, tree: Any, path: str) -> Iterator[tuple[Variable, Any]]:
    """Yields Variables with the values that a new tree has for them."""
    if isinstance(part, Variable):
        if tree is None or _members(tree, path) is not None:
            raise InvalidArgumentError(f"{path} was an array, and is a {type(tree).__name__} now.")
        yield part, tree
    elif isinstance(part, _Branch):
        members = _members(tree, path)
        if members is None or members.keys() != part.parts.keys():
            found = type(tree).__name__ if members is None else f"with {list(members)!r}"
            raise InvalidArgumentError(
                f"The structure changed at {path}: expected a {type(part.skeleton).__name__} with "
                f"{list(part.parts)!r}, found {found}."
            )
        for name, member in part.parts.items():
            yield from _paired(member, members[name], f"{path}.{name}")
    elif isinstance(part, _Static) and not isinstance(tree, _STATIC_TYPES):
        raise InvalidArgumentError(
            f"{path} was {part.value!r}, and is a {type(tree).__name__} now; make a new "
            "TrackedState."
        )


def _variables(part: Any) -> Iterator[Variable]:
    if isinstance(part, Variable):
        yield part
    elif isinstance(part, _Branch):
        for member in part.parts.values():
            yield from _variables(member)
