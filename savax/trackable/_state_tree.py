"""TrackedState: a tree of arrays, such as an optimizer's state, that can be saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from savax.errors import InvalidArgumentError
from savax.trackable._base import Trackable
from savax.trackable._containers import TrackedContainer
from savax.trackable._frames import current_frame
from savax.trackable._tree_parts import (
    NUMBER_DTYPES,
    Branch,
    RandomKey,
    Static,
    part_value,
    tree_part,
)
from savax.trackable._trees import TREES, Form, RandomKeyParts, open_container
from savax.trackable._variable import Variable
from savax.types import TensorSpec, as_dtype

_Pairs = Iterator[tuple[Variable, Any]]


class TrackedState(Trackable):
    """A tree of arrays whose leaves are Variables: parameters, or the state of an optimizer.

    Branches are lists, tuples, dicts, dataclasses and whatever is registered with JAX as a pytree;
    leaves are arrays, Python numbers and typed random keys. None, functions, static fields and
    fields that hold text belong to the structure and aren't saved. Children are named by fields,
    keys and positions, so that TensorFlow reads a checkpoint of it as plain objects; a random key
    is an object with the children ``key_data`` and ``key_impl``.

    Args:
      tree: the first value. Its structure, dtypes and shapes stay. Abstract arrays, as
        ``jax.eval_shape`` returns them, have no value until one is restored or assigned.
      trainable: whether the Variables of floating and complex arrays are trainable, as those of
        a model's parameters should be.

    Raises:
      InvalidArgumentError: something in the tree is none of those, or two children have one name;
        the message has the path.
    """

    def __init__(self, tree: Any, *, trainable: bool = False) -> None:
        self._part = tree_part(tree, "value", _VariableMaker(trainable))
        if isinstance(self._part, Branch):
            self._edges.update(self._part._edges)
        elif isinstance(self._part, Trackable):
            self._track(self._part, "value")

    @property
    def value(self) -> Any:
        """The tree with the current values."""
        return part_value(self._part, _leaf_value)

    def assign(self, tree: Any) -> TrackedState:
        """Replaces all values.

        Args:
          tree: of the same structure, with the same dtypes and shapes.

        Returns:
          The TrackedState.

        Raises:
          InvalidArgumentError: the structure differs, a static field too, or the implementation of
            a random key; the message has the path where it does.
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
        super().__init__(value, False, name=name, dtype=NUMBER_DTYPES[type(value)])
        self.python_type = type(value)


class _VariableMaker:
    """Makes Variables of leaves."""

    def __init__(self, trainable: bool) -> None:
        self._trainable = trainable

    def array(self, value: Any, path: str) -> Variable:
        trainable = self._trainable and _has_gradients(value)
        if hasattr(value, "__array__"):
            return Variable(value, trainable, name=path)
        spec = TensorSpec(tuple(value.shape), value.dtype, path)
        return Variable.without_value(spec, trainable, sharding=getattr(value, "sharding", None))

    def number(self, value: Any, path: str) -> Variable:
        return _Number(value, path)

    def random_key(self, value: Any, parts: RandomKeyParts, path: str) -> RandomKey:
        return RandomKey(self.array(parts.data, path), parts, path)

    def trackable(self, value: Trackable, path: str) -> Trackable | None:
        # A tracked container alone would keep Trackables only, and lose arrays.
        return None if isinstance(value, TrackedContainer) else value


def _has_gradients(array: Any) -> bool:
    try:
        dtype = as_dtype(array.dtype)
    except InvalidArgumentError:
        return False  # Variable refuses it, and names it
    return dtype.is_floating or dtype.is_complex


def _leaf_value(leaf: Any) -> Any:
    if isinstance(leaf, RandomKey):
        return leaf.wrapped(leaf.data.value)
    if isinstance(leaf, _Number) and not current_frame():
        return leaf.python_type(leaf._host_value().item())
    return leaf.value if isinstance(leaf, Variable) else leaf


def _paired(part: Any, tree: Any, path: str) -> _Pairs:
    """Yields Variables with the values that a new tree has for them."""
    if isinstance(part, Branch):
        yield from _paired_members(part, tree, path)
    elif isinstance(part, RandomKey):
        yield part.data, _key_data(part, tree, path)
    elif isinstance(part, Variable):
        if tree is None or _container(tree, path) is not None:
            raise InvalidArgumentError(f"{path} was an array, and is a {type(tree).__name__} now.")
        yield part, tree
    elif isinstance(part, Static) and not _same_static(part.value, tree):
        raise InvalidArgumentError(
            f"{path} was {part.value!r}, and is a {type(tree).__name__} now; make a new "
            "TrackedState."
        )


def _paired_members(part: Branch, tree: Any, path: str) -> _Pairs:
    opened = _container(tree, path)
    if opened is None or set(opened[0].names) != set(part.parts):
        found = type(tree).__name__ if opened is None else f"with {list(opened[0].names)!r}"
        raise InvalidArgumentError(
            f"The structure changed at {path}: expected a {part.form.kind} with "
            f"{list(part.parts)!r}, found {found}."
        )
    form, members = opened
    if not part.form.is_like(form):
        raise InvalidArgumentError(
            f"The structure changed at {path}: the {part.form.kind} became a {form.kind}, or has "
            "other static fields; make a new TrackedState."
        )
    found_members = dict(zip(form.names, members, strict=True))
    for name, member in part.parts.items():
        yield from _paired(member, found_members[name], f"{path}.{name}")


def _container(tree: Any, path: str) -> tuple[Form, list[Any]] | None:
    """Opens a container; a Variable is a leaf, though JAX sees a tree in it."""
    return None if isinstance(tree, Variable) else open_container(tree, path)


def _key_data(part: RandomKey, key: Any, path: str) -> Any:
    """Returns the words of a new random key."""
    parts = TREES.random_key(key)
    if parts is None:
        raise InvalidArgumentError(f"{path} was a random key, and is a {type(key).__name__} now.")
    if parts.name != part.implementation_name:
        raise InvalidArgumentError(
            f"{path} was a random key of the implementation {part.implementation_name!r}, and is "
            f"one of {parts.name!r} now."
        )
    return parts.data


def _same_static(stored: Any, found: Any) -> bool:
    return stored is found or (type(stored) is type(found) and bool(stored == found))


def _variables(part: Any) -> Iterator[Variable]:
    if isinstance(part, Variable):
        yield part
    elif isinstance(part, RandomKey):
        yield part.data
    elif isinstance(part, Branch):
        for member in part.parts.values():
            yield from _variables(member)
