"""Leaves of trees in checkpoints: those that are written, and those that wait for a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import DTypeMismatchError, InvalidArgumentError
from savax.trackable._arrays import BACKEND, fitted_array, host_array
from savax.trackable._assignment import escaped_tracer
from savax.trackable._base import Trackable
from savax.trackable._containers import TrackedContainer
from savax.trackable._tree_parts import NUMBER_DTYPES, RandomKey
from savax.trackable._trees import TREES
from savax.trackable._variable import VARIABLE_VALUE, Variable
from savax.trackable.checkpoint._stored_tree import writable
from savax.types import DType, TensorSpec, as_dtype, same_kind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from savax.trackable._base import StoredTensor
    from savax.trackable._placement import Box, Placement
    from savax.trackable._trees import RandomKeyParts


class SavedLeaf(Trackable):
    """A leaf that is written under the name of a Variable's value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def _serialize_to_tensors(self) -> Mapping[str, Any]:
        return {VARIABLE_VALUE: self._value}

    def _tensor_names(self) -> Collection[str]:
        return (VARIABLE_VALUE,)


class SavedLeafMaker:
    """Makes leaves of values as they are, without a copy."""

    def array(self, value: Any, path: str) -> SavedLeaf:
        if BACKEND.is_tracer(value):
            raise escaped_tracer("its value", path)
        dtype = _leaf_dtype(value, path)
        if not hasattr(value, "__array__"):
            raise InvalidArgumentError(
                f"{path} is a {type(value).__name__}, which has a shape and a dtype but no value."
            )
        is_deleted = getattr(value, "is_deleted", None)
        if is_deleted is not None and is_deleted():
            raise InvalidArgumentError(
                f"{path} is an array that was deleted or donated, so it has no value any more."
            )
        return SavedLeaf(host_array(value, dtype) if dtype.name == "string" else value)

    def number(self, value: Any, path: str) -> SavedLeaf:
        try:
            return SavedLeaf(host_array(value, as_dtype(NUMBER_DTYPES[type(value)])))
        except InvalidArgumentError as error:
            raise type(error)(f"{path}: {error}") from error

    def random_key(self, value: Any, parts: RandomKeyParts, path: str) -> RandomKey:
        return RandomKey(self.array(parts.data, path), parts, path)

    def trackable(self, value: Trackable, path: str) -> Trackable | None:
        return value if _is_variable(value, path) else None


class Leaf(Variable):
    """A leaf that waits for a value; what it is like says which, and as what it comes back."""

    like: Any
    wanted: DType
    may_cast: bool
    placement: Placement | None
    taken: set[int]

    @classmethod
    def waiting(cls, spec: TensorSpec, like: Any, may_cast: bool, taken: set[int]) -> Leaf:
        """Returns a leaf without a value.

        Args:
          spec: of what comes back; its name is the leaf's path.
          like: the target's leaf.
          may_cast: whether the stored dtype may be another one.
          taken: ids of arrays that leaves of the same tree have got.
        """
        leaf = cls.without_value(spec, trainable=False)
        leaf.like, leaf.wanted, leaf.may_cast, leaf.taken = like, spec.dtype, may_cast, taken
        leaf.placement = _placement(like)
        return leaf

    def _tensor_placements(self) -> Mapping[str, Placement]:
        placement = None if self._dtype is not self.wanted else self.placement
        return {} if placement is None else {VARIABLE_VALUE: placement}

    def _set_host_value(self, value: Any) -> None:
        # The checkpoint may have once what the target has twice.
        if isinstance(value, np.ndarray) and id(value) in self.taken:
            value = value.copy()
        self.taken.add(id(value))
        super()._set_host_value(value)

    def _restoration_problems(self, stored: Mapping[str, StoredTensor]) -> Sequence[str]:
        found = stored[VARIABLE_VALUE].dtype
        if found is not self.wanted and self._accepts(found):
            self._dtype = found  # it is cast when it has been read
        return super()._restoration_problems(stored)

    def _accepts(self, found: DType) -> bool:
        if type(self.like) in NUMBER_DTYPES and same_kind(found, self.wanted):
            return True
        return self.may_cast and _castable(found, self.wanted)


class RestoredLeafMaker:
    """Makes leaves that wait for values.

    Args:
      may_cast: whether stored dtypes may be other ones.
    """

    def __init__(self, may_cast: bool) -> None:
        self._may_cast = may_cast
        self._taken: set[int] = set()

    def _leaf(self, shape: Any, dtype: DType, path: str, like: Any, may_cast: bool) -> Leaf:
        return Leaf.waiting(TensorSpec(shape, dtype, path), like, may_cast, self._taken)

    def array(self, value: Any, path: str) -> Leaf:
        dtype = _leaf_dtype(value, path)
        return self._leaf(tuple(value.shape), dtype, path, value, self._may_cast)

    def number(self, value: Any, path: str) -> Leaf:
        return self._leaf((), as_dtype(NUMBER_DTYPES[type(value)]), path, value, self._may_cast)

    def random_key(self, value: Any, parts: RandomKeyParts, path: str) -> RandomKey:
        shape, dtype = tuple(parts.data.shape), as_dtype(parts.data.dtype)
        data = self._leaf(shape, dtype, path, value, False)
        data.placement = None  # the words have another rank; the key that is made of them gets it
        return RandomKey(data, parts, path)

    def trackable(self, value: Trackable, path: str) -> Trackable | None:
        if not _is_variable(value, path):
            return None
        dtype, shape = value.dtype, value.shape  # type: ignore[attr-defined]
        return self._leaf(shape, dtype, path, value, self._may_cast)


def leaf_result(leaf: Any, problems: dict[str, str]) -> Any:
    """Returns what a leaf got, as what the target has in its place; the target's without a value.

    Args:
      leaf: from a ``RestoredLeafMaker``.
      problems: gets what is wrong with a value, by the leaf's path.
    """
    data: Leaf = leaf.data if isinstance(leaf, RandomKey) else leaf
    if data._stored is None:
        return data.like
    if isinstance(leaf, RandomKey):
        return leaf.wrapped(data.value, data.like)
    if data.dtype is not data.wanted and type(data.like) not in NUMBER_DTYPES:
        return _cast(data, problems)
    return _like(data)


def _cast(leaf: Leaf, problems: dict[str, str]) -> Any:
    stored = leaf._host_value()
    try:
        value = fitted_array(stored, leaf.wanted)
    except DTypeMismatchError:
        problems[leaf.name] = (
            f"expected dtype {leaf.wanted.name}, found {leaf.dtype.name} with values that it can't "
            "hold"
        )
        return None
    leaf._dtype = leaf.wanted
    if leaf.placement is not None:

        def boxes(wanted: Sequence[Box]) -> list[np.ndarray[Any, Any]]:
            return [
                value[tuple(map(slice, starts, np.add(starts, sizes)))] for starts, sizes in wanted
            ]

        value = leaf.placement.place(value.shape, leaf.wanted, boxes)
    leaf._store(value)
    return _like(leaf)


def _like(leaf: Leaf) -> Any:
    """Returns a leaf's value as what the target has in its place."""
    kind = type(leaf.like)
    if kind in NUMBER_DTYPES:
        return kind(leaf._host_value().item())
    if issubclass(kind, np.generic):
        return leaf._host_value()[()]
    if issubclass(kind, np.ndarray):
        return writable(leaf._host_value())
    return TREES.weak_like(leaf.value, leaf.like)


def _placement(like: Any) -> Placement | None:
    """Returns where the value of a leaf belongs; None if it stays on the host until it is used."""
    if isinstance(like, Variable):
        return like._tensor_placements().get(VARIABLE_VALUE)
    # An abstract array is nowhere yet, and may have a sharding none the less.
    is_abstract = not hasattr(like, "__array__")
    return BACKEND.placement(getattr(like, "sharding", None) if is_abstract else like)


def _leaf_dtype(value: Any, path: str) -> DType:
    try:
        return as_dtype(value.dtype)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"{path} has the dtype {value.dtype}, which checkpoints can't hold."
        ) from error


def _is_variable(value: Trackable, path: str) -> bool:
    """Whether a Trackable in a tree is a leaf; the others that may be there are containers."""
    if isinstance(value, Variable | TrackedContainer):
        return isinstance(value, Variable)
    raise InvalidArgumentError(
        f"{path} is a {type(value).__name__}, which keeps values of its own: save and restore it "
        "with a Checkpoint."
    )


def _castable(found: DType, wanted: DType) -> bool:
    """Whether values of a dtype may be cast, if they fit."""
    if found.is_integer:
        return wanted.is_integer or wanted.is_floating or wanted.is_complex
    return same_kind(found, wanted) or (found.is_floating and wanted.is_complex)
