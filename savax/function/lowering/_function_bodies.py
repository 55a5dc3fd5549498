"""Bodies of loops, branches and shared calls: functions that are built while another one is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.function.lowering._function_library import (
    FunctionArgument,
    FunctionParts,
)
from savax.function.lowering._graph_builder import GraphBuilder
from savax.function.lowering._graph_nodes import Symbol
from savax.types import DType, as_dtype

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

# A constant operand up to this many elements is repeated inside a body instead of passed to it.
_MAX_REPEATED_SIZE = 16


class RefCell:
    """The content of a JAX Ref while its function is lowered.

    Attributes:
      value: the symbol that the Ref holds at this point of the function.
    """

    __slots__ = ("value",)

    def __init__(self, value: Symbol) -> None:
        self.value = value


class FunctionBody:
    """A function under construction.

    Sizes that the body needs become int32 arguments, so a body never asks the shapes of its
    arguments, which may be loop variables.

    Args:
      outer: builder of the function that it is called from.
      in_loop: whether it is called again and again.

    Attributes:
      g: builder of the body's graph.
    """

    def __init__(self, outer: GraphBuilder, *, in_loop: bool = False) -> None:
        self._library = outer.lowerer.library
        self._sizes: dict[str, Symbol] = {}
        self.g = GraphBuilder(outer.lowerer, size_argument=self.size)
        self.g.in_loop = in_loop or outer.in_loop

    def size(self, name: str) -> Symbol:
        """Returns the argument that holds a named size."""
        if name not in self._sizes:
            self._sizes[name] = argument_symbol(as_dtype("int32"), ())
        return self._sizes[name]

    def size_names(self) -> set[str]:
        """Returns the names of the sizes that the body has asked for."""
        return set(self._sizes)

    def finish(
        self,
        base_name: str,
        arguments: Sequence[tuple[str, Symbol]],
        outputs: Sequence[Symbol],
        output_names: Sequence[str] | None = None,
    ) -> str:
        """Adds the function to the library.

        Args:
          base_name: what its name starts with.
          arguments: names and symbols of the arguments.
          outputs: symbols of the results.
          output_names: names of the results.

        Returns:
          The function's name.
        """
        name = self._library.unique_name(base_name)
        if self._library.portable_forms is not None:
            # ONNX has one name space for a loop and what is around it.
            for node in self.g.graph.nodes:
                node.base_name = f"{name}/{node.base_name}"
        parts = FunctionParts(
            name,
            self.g.graph,
            [FunctionArgument(symbol, argument) for argument, symbol in arguments],
            outputs,
            output_names,
        )
        self._library.build(parts)
        return name

    def size_arguments(self, names: Iterable[str]) -> list[tuple[str, Symbol]]:
        """Returns the arguments for sizes of a family of bodies that are called alike."""
        return [(f"size_{name}", self.size(name)) for name in names]


def argument_symbol(dtype: DType, shape: Sequence[Any]) -> Symbol:
    """Returns a symbol for an argument; it gets its name when the function is finished."""
    return Symbol(dtype, tuple(shape))


def like(symbol: Symbol) -> Symbol:
    """Returns an argument symbol with the type of a symbol."""
    return argument_symbol(symbol.dtype, symbol.shape)


def named(prefix: str, symbols: Iterable[Symbol]) -> list[tuple[str, Symbol]]:
    """Returns arguments of one kind with names: ``prefix_0``, ``prefix_1``."""
    return [(f"{prefix}_{number}", symbol) for number, symbol in enumerate(symbols)]


class Operands:
    """Outer values that a body reads: each is passed once, small constants and dims not at all.

    Attributes:
      passed: symbols to pass, without repetition.
      cells: Refs among the values, without repetition.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self._values = tuple(values)
        self.passed: list[Symbol] = []
        self.cells: list[RefCell] = []
        self._places = [self._place(value) for value in self._values]

    def _place(self, value: Any) -> tuple[str, Any]:
        if isinstance(value, RefCell):
            return "cell", _index(self.cells, value)
        if value.dim is not None and not value.shape:
            return "dim", value
        if value.constant is not None and value.constant.size <= _MAX_REPEATED_SIZE:
            return "constant", value
        return "passed", _index(self.passed, value)

    def inside(
        self, body: GraphBuilder, passed: Sequence[Symbol], cells: Sequence[RefCell]
    ) -> list[Any]:
        """Returns the values as they are known inside a body.

        Args:
          body: builder of the body.
          passed: the body's arguments for ``self.passed``.
          cells: the body's own cells for ``self.cells``.
        """
        found: list[Any] = []
        for kind, place in self._places:
            if kind == "cell":
                found.append(cells[place])
            elif kind == "passed":
                found.append(passed[place])
            elif kind == "dim":
                found.append(body.dim_value(place.dim, place.dtype))
            else:
                found.append(body.const(place.constant, place.dtype))
        return found

    def key(self) -> Hashable:
        """Returns what a body depends on: types, known values and which operands are the same."""
        return tuple(self._place_key(kind, place) for kind, place in self._places)

    def _place_key(self, kind: str, place: Any) -> Hashable:
        if kind == "cell":
            return kind, place, type_key(self.cells[place].value)
        if kind == "passed":
            return kind, place, type_key(self.passed[place])
        if kind == "dim":
            return kind, str(place.dim), place.dtype
        content = place.constant.tolist() if place.dtype.name == "string" else None
        return kind, type_key(place), repr(content) if content else place.constant.tobytes()


def type_key(symbol: Symbol) -> Hashable:
    """Returns dtype and shape of a symbol as a key."""
    return symbol.dtype, str(symbol.shape)


def _index(items: list[Any], item: Any) -> int:
    """Returns the place of an object in a list, at whose end it is put if it isn't there."""
    for index, known in enumerate(items):
        if known is item:
            return index
    items.append(item)
    return len(items) - 1
