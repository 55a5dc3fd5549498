"""CallMemo: calls with arguments like those of an earlier call skip binding and checking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import jax
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

_Target = TypeVar("_Target")

# Python values that a key can hold as they are. Not floats: 0.0 and -0.0 are equal.
_STATIC_TYPES = frozenset([bool, int, str, type(None)])


class CallMemo(Generic[_Target]):
    """What earlier calls turned into, by the kinds of their arguments.

    Binding and checking a call takes longer than running a small program. Calls whose arguments
    have the same names and are arrays of the same types, dtypes and shapes, or the same Python
    values, turn into the same thing: a target, and its tensors in some order of the arguments.
    """

    def __init__(self) -> None:
        self._array_types: set[type] = set()
        self._entries: dict[Hashable, tuple[_Target, tuple[int, ...] | None]] = {}

    def find(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[_Target, Sequence[Any]] | None:
        """Returns the target of a call and its tensors in order, if such a call is known."""
        values = (*args, *kwargs.values()) if kwargs else args
        entry = self._entries.get(self._key(values, kwargs))
        if entry is None:
            return None
        target, order = entry
        return target, values if order is None else [values[i] for i in order]

    def remember(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        tensors: Sequence[Any],
        target: _Target,
    ) -> None:
        """Keeps what a call turned into, if calls of its kind will turn into the same.

        Args:
          args: of the call.
          kwargs: of the call.
          tensors: what the target takes, checked and converted.
          target: anything.
        """
        values = (*args, *kwargs.values())
        places = {id(value): i for i, value in enumerate(values)}
        # A tensor that is no argument was converted, or is a default; of two arguments that are
        # one object, the order can't be told.
        if len(places) < len(values) or any(id(tensor) not in places for tensor in tensors):
            return
        arrays = [value for value in values if type(value) not in _STATIC_TYPES]
        if len(arrays) != len(tensors) or not all(map(_is_concrete, arrays)):
            return
        self._array_types.update(map(type, arrays))
        order = tuple(places[id(tensor)] for tensor in tensors)
        as_given = order == tuple(range(len(values)))
        self._entries[self._key(values, kwargs)] = (target, None if as_given else order)

    def _key(self, values: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
        """Returns None for a call that isn't known for sure."""
        array_types = self._array_types
        key: list[Any] = [*kwargs]
        for value in values:
            kind = type(value)
            if kind in array_types:
                key += (kind, value.shape, value.dtype)
            elif kind in _STATIC_TYPES:
                key += (kind, value)
            else:
                return None
        return tuple(key)


def _is_concrete(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic) or (
        isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    )
