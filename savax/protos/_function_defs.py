"""FunctionDefs: what refers to what among them, and the compiled modules in them."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from savax.errors import CorruptSavedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from savax.protos._messages import FunctionDef, FunctionDefLibrary

# MLIR's bytecode: its magic number, a format number, and who wrote it, ended by a zero.
_MODULE_HEADER = re.compile(rb"ML\xefR.{1,2}StableHLO_v(\d{1,4}\.\d{1,4}\.\d{1,4})\0", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class CompiledModule:
    """An XlaCallModule node: a compiled program in the place of operations.

    Attributes:
      function: name of the FunctionDef that has it.
      node: its name there; savax gives it that of the function or JAX primitive.
      platforms: where it runs; none for any.
      stablehlo_version: of the program; None if it isn't StableHLO.
    """

    function: str
    node: str
    platforms: tuple[str, ...]
    stablehlo_version: str | None


def compiled_modules(name: str, functions: Mapping[str, FunctionDef]) -> tuple[CompiledModule, ...]:
    """Returns the compiled modules of a function and of those that it leads to.

    Raises:
      CorruptSavedModelError: a function isn't in the library.
    """
    return tuple(
        CompiledModule(
            function=definition.signature.name,
            node=node.name,
            platforms=tuple(
                text.decode(errors="replace").lower() for text in node.attr["platforms"].list.s
            ),
            stablehlo_version=stablehlo_version(node.attr["module"].s),
        )
        for definition in reachable_functions(name, functions).values()
        for node in definition.node_def
        if node.op == "XlaCallModule"
    )


def stablehlo_version(artifact: bytes) -> str | None:
    """Returns the version of StableHLO that a portable artifact says it has, if it is one."""
    header = _MODULE_HEADER.match(artifact)
    return None if header is None else header.group(1).decode()


def reachable_functions(name: str, functions: Mapping[str, FunctionDef]) -> dict[str, FunctionDef]:
    """Returns a function and all functions that it leads to, by name."""
    found: dict[str, FunctionDef] = {}
    queue = [name]
    while queue:
        current = queue.pop()
        if current in found:
            continue
        definition = functions.get(current)
        if definition is None:
            raise CorruptSavedModelError(f"The function {current!r} isn't in the library.")
        found[current] = definition
        for node in definition.node_def:
            if node.op in functions:
                queue.append(node.op)
            for attr in node.attr.values():
                called = [attr.func.name] if attr.HasField("func") else []
                called += [function.name for function in attr.list.func]
                queue.extend(called_name for called_name in called if called_name in functions)
    return found


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
