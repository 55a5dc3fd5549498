"""AutoTrackable and Module: objects whose attributes are their children."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from savax.errors import InvalidArgumentError, TrackingError
from savax.trackable._base import FunctionLike, SaveType, Trackable
from savax.trackable._containers import wrap
from savax.trackable._name_scope import NameScope, nested_name_scope
from savax.trackable._variable import Variable

_Method = TypeVar("_Method", bound=Callable[..., Any])


class AutoTrackable(Trackable):
    """An object that tracks what is assigned to its attributes.

    Lists and dicts are replaced by tracked ones; wrap a value in ``NoDependency`` to store it as
    it is, untracked. Assigning to an attribute again replaces the child, deleting it removes it.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if vars(self).get(name, _MISSING) is value:
            return
        stored, child = wrap(value)
        super().__setattr__(name, stored)  # first, as it refuses read-only properties
        if child is None:
            self._untrack(name)
        else:
            self._track(child, name, overwrite=True)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._untrack(name)

    def _add_trackable_child(self, name: str, value: Trackable) -> None:
        setattr(self, name, value)

    def _trackable_children(
        self, save_type: SaveType = "checkpoint", **_: Any
    ) -> Mapping[str, Trackable]:
        if save_type == "checkpoint":
            return self._edges
        functions = self._functions()
        children: dict[str, Trackable] = {}
        for name, child in self._edges.items():
            if isinstance(child, FunctionLike):
                continue
            if name in functions:
                raise TrackingError(
                    f"{type(self).__name__} has two children named {name!r}: a tracked "
                    f"{type(child).__name__} and a function. Rename one."
                )
            children[name] = child
        return {**children, **functions}

    def _functions(self) -> dict[str, FunctionLike]:
        """Returns functions among the attributes, of the class too, in alphabetical order."""
        functions: dict[str, FunctionLike] = {}
        for name in sorted(dir(self)):
            # Statically, so that no property runs.
            if isinstance(inspect.getattr_static(self, name, None), FunctionLike):
                functions[name] = getattr(self, name)
        return functions


class Module(AutoTrackable):
    """A named container of Variables, other Modules and functions.

    Args:
      name: a Python identifier; by default the class's name in snake case.

    Raises:
      InvalidArgumentError: the name is no identifier.
    """

    def __init__(self, name: str | None = None) -> None:
        if name is not None and not name.isidentifier():
            raise InvalidArgumentError(
                f"{name!r} can't name a Module: use a Python identifier, such as a class has."
            )
        object.__setattr__(
            self, "_name", _snake_case(type(self).__name__) if name is None else name
        )
        object.__setattr__(self, "_name_scope", nested_name_scope(self._name))

    _name: str
    _name_scope: NameScope

    @property
    def name(self) -> str:
        """The name that was given, or made from the class's."""
        return self._name

    @property
    def name_scope(self) -> NameScope:
        """A context in which Variables get this Module's name before theirs."""
        return self._name_scope

    @classmethod
    def with_name_scope(cls, method: _Method) -> _Method:
        """Decorates a method to run inside its Module's name scope."""

        @functools.wraps(method)
        def in_name_scope(self: Module, *args: Any, **kwargs: Any) -> Any:
            with self.name_scope:
                return method(self, *args, **kwargs)

        return in_name_scope  # type: ignore[return-value]

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Variables of this Module, sorted by attribute name, then those of its submodules."""
        return tuple(self._flatten(_is_variable))

    @property
    def trainable_variables(self) -> tuple[Variable, ...]:
        """Those of ``variables`` that are trainable."""
        return tuple(self._flatten(_is_trainable))

    @property
    def non_trainable_variables(self) -> tuple[Variable, ...]:
        """Those of ``variables`` that aren't trainable."""
        return tuple(self._flatten(_is_not_trainable))

    @property
    def submodules(self) -> tuple[Module, ...]:
        """Modules in this Module's attributes, and in theirs."""
        return tuple(self._flatten(_is_module))

    def _flatten(self, predicate: Callable[[Any], bool], recursive: bool = True) -> Iterator[Any]:
        """Yields values of attributes, and inside lists, dicts and tuples of them, once each.

        Each Module's own values come before those of its submodules.

        Args:
          predicate: which values to yield.
          recursive: whether to look into submodules.
        """
        seen = {id(self)}
        pending: list[Module] = [self]
        while pending:
            module = pending.pop()
            submodules = []
            for leaf in _attribute_leaves(module):
                if id(leaf) in seen:
                    continue
                seen.add(id(leaf))
                if predicate(leaf):
                    yield leaf
                if recursive and isinstance(leaf, Module):
                    submodules.append(leaf)
            pending.extend(reversed(submodules))


_MISSING = object()
_INTERNAL = frozenset({"_edges", "_pending", "_name", "_name_scope"})


def _attribute_leaves(module: Module) -> Iterator[Any]:
    attributes = vars(module)
    for name in sorted(attributes.keys() - _INTERNAL):
        yield from _leaves(attributes[name])


def _leaves(value: Any) -> Iterator[Any]:
    """Yields what is inside nested lists, tuples and dicts; dicts in the order of their keys."""
    pending = [value]
    open_ids: set[int] = set()
    while pending:
        item = pending.pop()
        if not isinstance(item, list | tuple | Mapping):
            yield item
        elif id(item) not in open_ids:
            open_ids.add(id(item))
            elements = list(_sorted_values(item) if isinstance(item, Mapping) else item)
            pending.extend(reversed(elements))


def _sorted_values(mapping: Mapping[Any, Any]) -> list[Any]:
    try:
        return [mapping[key] for key in sorted(mapping)]
    except TypeError:  # keys of several types have no order; then it is the dict's own
        return list(mapping.values())


def _is_variable(value: Any) -> bool:
    return isinstance(value, Variable)


def _is_trainable(value: Any) -> bool:
    return isinstance(value, Variable) and value.trainable


def _is_not_trainable(value: Any) -> bool:
    return isinstance(value, Variable) and not value.trainable


def _is_module(value: Any) -> bool:
    return isinstance(value, Module)


def _snake_case(name: str) -> str:
    """Returns a class's name in snake case, as TensorFlow does: ``my_dense2_d``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<!^)(?=[A-Z][a-z])", "_", name)
    return words.lower()
