"""Name scopes: the prefixes that Modules give to the names of Variables made inside them."""

from __future__ import annotations

from contextvars import ContextVar, Token

_SCOPE: ContextVar[str] = ContextVar("savax_name_scope", default="")


class NameScope:
    """A prefix for names, entered by ``with``.

    Args:
      name: the prefix with a ``/`` at its end.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._tokens: list[Token[str]] = []

    def __enter__(self) -> str:
        self._tokens.append(_SCOPE.set(self.name))
        return self.name

    def __exit__(self, *_: object) -> None:
        _SCOPE.reset(self._tokens.pop())

    def __repr__(self) -> str:
        return f"NameScope({self.name!r})"

    def __deepcopy__(self, memo: object) -> NameScope:
        return NameScope(self.name)

    def __reduce__(self) -> tuple[type[NameScope], tuple[str]]:
        return (NameScope, (self.name,))


def nested_name_scope(name: str) -> NameScope:
    """Returns a scope inside the current one."""
    return NameScope(f"{_SCOPE.get()}{name}/")


def scoped_name(name: str) -> str:
    """Returns a name with the prefix of the current scope."""
    return _SCOPE.get() + name
