"""Names of a package that are imported when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class LazyNames(NamedTuple):
    """What a package with lazy names assigns to the attributes of the same meaning.

    Attributes:
      getattr: its ``__getattr__``.
      dir: its ``__dir__``.
      all: its ``__all__``.
    """

    getattr: Callable[[str], Any]
    dir: Callable[[], list[str]]
    all: list[str]


def lazy_names(
    package: str, submodules: Iterable[str], names: Mapping[str, Iterable[str]]
) -> LazyNames:
    """Returns the attributes that make a package resolve its public names lazily.

    Args:
      package: the package's ``__name__``.
      submodules: public modules of the package, by their last name.
      names: for each module that defines public names, those names.
    """
    modules = {name: f"{package}.{name}" for name in submodules}
    sources = {name: module for module, defined in names.items() for name in defined}
    public = sorted({*modules, *sources})

    def get(name: str) -> Any:
        if name in modules:
            return importlib.import_module(modules[name])
        if name not in sources:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name)
        value = getattr(importlib.import_module(sources[name]), name)
        setattr(sys.modules[package], name, value)  # the next use finds it without this function
        return value

    def names_of_package() -> list[str]:
        special = (name for name in vars(sys.modules[package]) if name.startswith("__"))
        return sorted({*special, *public})

    return LazyNames(get, names_of_package, public)
