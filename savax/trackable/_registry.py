"""What users register for classes of their own: names in SavedModels, and checkpoint savers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

from savax.errors import InvalidArgumentError
from savax.trackable._base import Trackable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Predicate: TypeAlias = Callable[[Trackable], bool]
    SaveFn: TypeAlias = Callable[..., str | Iterable[str] | None]
    RestoreFn: TypeAlias = Callable[..., Any]

_Class = TypeVar("_Class", bound=type[Trackable])
_Item = TypeVar("_Item")
_VALID_NAME = re.compile(r"[a-zA-Z0-9._-]+")  # what TensorFlow's registry accepts
# What TensorFlow registers for classes of its own, and savax writes for such objects.
_RESERVED_NAMES = frozenset({"tf.StaticHashTable", "tf.TrackableConstant"})


class RegistrationTypeError(InvalidArgumentError, TypeError):
    """What is registered, or its name, is of a type that can't be."""


class Registry(Generic[_Item]):
    """Items by name, and predicates that say which objects each is for.

    Of several items whose predicates accept an object, the one that was registered last is meant.

    Args:
      what: an item, for messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._items: dict[str, tuple[_Item, Predicate]] = {}

    def register(self, package: str, name: str, predicate: Predicate, item: _Item) -> None:
        """Gives an item a name.

        Args:
          package: first part of the name.
          name: second part, behind a dot.
          predicate: tells for a Trackable whether the item is for it.
          item: what is registered.

        Raises:
          InvalidArgumentError: the name has characters that names can't have, or is taken; also a
            TypeError if the parts are no strings or the predicate is no function.
        """
        if not isinstance(package, str) or not isinstance(name, str):
            raise RegistrationTypeError(
                f"A {self._what} is registered under a package and a name that are strings, got "
                f"{package!r} and {name!r}."
            )
        if not callable(predicate):
            raise RegistrationTypeError(
                f"The predicate of a {self._what} must be a function of an object, got "
                f"{predicate!r}."
            )
        full_name = f"{package}.{name}"
        if not _VALID_NAME.fullmatch(full_name):
            raise InvalidArgumentError(
                f"{full_name!r} can't name a {self._what}; use letters, digits, '.', '_' and '-'."
            )
        if full_name in self._items or full_name in _RESERVED_NAMES:
            raise InvalidArgumentError(f"{full_name!r} names a {self._what} already.")
        self._items[full_name] = (item, predicate)

    def get(self, full_name: str) -> _Item | None:
        """Returns the item of a name, or None."""
        found = self._items.get(full_name)
        return None if found is None else found[0]

    def accepts(self, full_name: str, obj: Trackable) -> bool:
        """Whether the item of a name is for an object."""
        found = self._items.get(full_name)
        return found is not None and bool(found[1](obj))

    def name_of(self, obj: Trackable) -> str | None:
        """Returns the name of the item that is for an object, or None."""
        if not self._items:
            return None
        # A copy, as another thread may register something.
        for full_name, (_, predicate) in reversed(list(self._items.items())):
            if predicate(obj):
                return full_name
        return None


class CheckpointSaver(NamedTuple):
    """Functions that write and restore the values of some objects.

    Attributes:
      save_fn: writes the values.
      restore_fn: restores them.
      is_strict: whether a checkpoint can't be restored into objects that the predicate refuses.
    """

    save_fn: SaveFn
    restore_fn: RestoreFn
    is_strict: bool


# The process's own, as in TensorFlow: registrations are made where classes are defined.
CLASS_REGISTRY: Registry[type[Trackable]] = Registry("serializable class")
SAVER_REGISTRY: Registry[CheckpointSaver] = Registry("checkpoint saver")


def register_serializable(
    package: str = "Custom", name: str | None = None, predicate: Predicate | None = None
) -> Callable[[_Class], _Class]:
    """Returns a class decorator: loading a SavedModel makes objects of the class again.

    Objects are saved under the name ``package.name``, with what their ``_serialize_to_proto``
    returns. Loading calls the class's ``_deserialize_from_proto`` and then, for each child,
    ``_add_trackable_child``. Where the name isn't registered, objects load as plain ones.

    Args:
      package: first part of the name.
      name: second part; by default the class's own name.
      predicate: tells for a Trackable whether it is saved under this name. By default instances
        are, those of subclasses too. Later registrations are asked first.

    Raises:
      InvalidArgumentError: the class is no subclass of Trackable, or the name isn't valid or is
        taken; also a TypeError if an argument is of a wrong type.
    """

    def register(cls: _Class) -> _Class:
        if not (isinstance(cls, type) and issubclass(cls, Trackable)):
            raise RegistrationTypeError(
                f"Only subclasses of Trackable can be registered, got {cls!r}."
            )
        is_instance = predicate or (lambda obj: isinstance(obj, cls))
        CLASS_REGISTRY.register(package, cls.__name__ if name is None else name, is_instance, cls)
        return cls

    return register


def register_checkpoint_saver(
    package: str = "Custom",
    name: str | None = None,
    predicate: Predicate | None = None,
    save_fn: SaveFn | None = None,
    restore_fn: RestoreFn | None = None,
    strict_predicate_restore: bool = True,
) -> None:
    """Registers functions that write and restore the values of objects in checkpoints.

    For objects that the predicate accepts, they take the place of ``_serialize_to_tensors`` and
    ``_restore_from_tensors``. Their children are saved as ever.

    Args:
      package: first part of the saver's name, by which checkpoints refer to it.
      name: second part; required.
      predicate: tells for a Trackable whether it is saved so; required. Later registrations are
        asked first.
      save_fn: called as ``save_fn(trackables=..., file_prefix=...)`` with the objects by unique
        names. It writes their tensors to a bundle of that prefix, or several that begin with it,
        and returns the prefix or a list of them; ``train.experimental.write_bundle`` writes one.
        The checkpoint gets all the tensors. Required.
      restore_fn: called as ``restore_fn(trackables=..., merged_prefix=...)`` after other values
        have been restored; ``train.load_checkpoint(merged_prefix)`` reads the tensors. Required.
      strict_predicate_restore: whether restoring into an object that the predicate refuses is an
        error; otherwise the object is left as it is.

    Raises:
      InvalidArgumentError: the name isn't valid or is taken; also a TypeError if an argument is
        missing or of a wrong type.
    """
    for argument, function in (("save_fn", save_fn), ("restore_fn", restore_fn)):
        if not callable(function):
            raise RegistrationTypeError(f"{argument} must be a function, got {function!r}.")
    saver = CheckpointSaver(save_fn, restore_fn, strict_predicate_restore)  # type: ignore[arg-type]
    SAVER_REGISTRY.register(package, name, predicate, saver)  # type: ignore[arg-type]
