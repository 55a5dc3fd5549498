"""Custom classes that SavedModels name, so that loading makes instances of them again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from savax.errors import InvalidArgumentError
from savax.trackable._base import Trackable

if TYPE_CHECKING:
    from collections.abc import Callable

_Class = TypeVar("_Class", bound=type[Trackable])
_VALID_NAME = re.compile(r"[a-zA-Z0-9._-]+")  # what TensorFlow's registry accepts


class ClassRegistry:
    """Names of classes, as SavedModels write them: ``package.Name``.

    An object's name is that of the nearest registered class among its class's bases.
    """

    def __init__(self) -> None:
        self._classes: dict[str, type[Trackable]] = {}
        self._names: dict[type[Trackable], str] = {}

    def register(self, cls: type[Trackable], package: str, name: str | None = None) -> None:
        """Gives a class a name.

        Args:
          cls: a subclass of Trackable.
          package: first part of the name.
          name: second part; by default the class's own name.

        Raises:
          InvalidArgumentError: the value is no such class, the name has characters that names
            can't have, or the class or the name is registered already.
        """
        if not (isinstance(cls, type) and issubclass(cls, Trackable)):
            raise InvalidArgumentError(f"Only subclasses of Trackable can be registered: {cls!r}.")
        full_name = f"{package}.{cls.__name__ if name is None else name}"
        if not _VALID_NAME.fullmatch(full_name):
            raise InvalidArgumentError(
                f"{full_name!r} can't name a class; use letters, digits, '.', '_' and '-'."
            )
        if full_name in self._classes:
            other = self._classes[full_name]
            raise InvalidArgumentError(
                f"{full_name!r} names {other.__module__}.{other.__qualname__} already."
            )
        if cls in self._names:
            raise InvalidArgumentError(
                f"{cls.__qualname__} is registered as {self._names[cls]!r} already."
            )
        self._classes[full_name] = cls
        self._names[cls] = full_name

    def class_of(self, full_name: str) -> type[Trackable] | None:
        """Returns the class that a name stands for, or None."""
        return self._classes.get(full_name)

    def name_of(self, obj: Trackable) -> str | None:
        """Returns the name that an object's class is saved under, or None."""
        return next((self._names[cls] for cls in type(obj).__mro__ if cls in self._names), None)


CLASS_REGISTRY = ClassRegistry()


def register_serializable(
    package: str = "Custom", name: str | None = None
) -> Callable[[_Class], _Class]:
    """Returns a class decorator that registers a Trackable's class under ``package.name``.

    Raises:
      InvalidArgumentError: see ``ClassRegistry.register``.
    """

    def register(cls: _Class) -> _Class:
        CLASS_REGISTRY.register(cls, package, name)
        return cls

    return register
