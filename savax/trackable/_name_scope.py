"""Name scopes: the prefixes that Modules give to the names of Variables made inside them."""

from __future__ import annotations

from contextvars import ContextVar

# The prefixes that are entered, innermost last; an inner one holds the outer ones already.
_SCOPES: ContextVar[tuple[str, ...]] = ContextVar("savax_name_scopes", default=())


class NameScope:
    """A prefix for names, entered by ``with``, again and again and in several threads.

    Args:
      name: the prefix with a ``/`` at its end.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> str:
        _SCOPES.set((*_SCOPES.get(), self.name))
        return self.name

    def __exit__(self, *_: object) -> None:
        _SCOPES.set(_SCOPES.get()[:-1])

    def __repr__(self) -> str:
        return f"NameScope({self.name!r})"


def nested_name_scope(name: str) -> NameScope:
    """Returns a scope inside the current one."""
    return NameScope(f"{_current()}{name}/")


def scoped_name(name: str) -> str:
    """Returns a name with the prefix of the current scope."""
    return _current() + name


def _current() -> str:
    scopes = _SCOPES.get()
    return scopes[-1] if scopes else ""
