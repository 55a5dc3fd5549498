"""The functions of a graph's library by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.errors import CorruptSavedModelError

if TYPE_CHECKING:
    from savax.protos._messages import FunctionDef, FunctionDefLibrary


def functions_by_name(library: FunctionDefLibrary) -> dict[str, FunctionDef]:
    """Returns a library's functions; one that is there twice, and is the same, counts once.

    Raises:
      CorruptSavedModelError: two different functions have one name.
    """
    found: dict[str, FunctionDef] = {}
    for function in library.function:
        other = found.setdefault(function.signature.name, function)
        if other is not function and other != function:
            raise CorruptSavedModelError(
                f"The function library has two different functions {function.signature.name!r}."
            )
    return found
