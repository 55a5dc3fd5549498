"""A StatelessWhile with its two functions, as loops of JAX need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from savax.function.lowering._function_bodies import (
    FunctionBody,
    Operands,
    RefCell,
    argument_symbol,
    like,
    named,
)
from savax.function.lowering._graph_builder import GraphBuilder, Symbol, known_shape
from savax.protos import FunctionRef
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

_INT32 = as_dtype("int32")


@dataclass(frozen=True)
class LoopPart:
    """Condition or step of a loop, with its arguments by kind.

    Attributes:
      body: the function.
      counter: number of the iteration, an int32 scalar.
      limit: number of iterations, -1 if it isn't known before the loop.
      passed: invariants.
      state: values that the step replaces.
      contents: contents of Refs as the part starts.
      cells: the Refs inside the part.
    """

    body: FunctionBody
    counter: Symbol
    limit: Symbol
    passed: list[Symbol]
    state: list[Symbol]
    contents: list[Symbol]
    cells: list[RefCell]

    def values(self, operands: Operands) -> list[Any]:
        """Returns the loop's operands as this part knows them."""
        return operands.inside(self.body.g, self.passed, self.cells)

    def arguments(self, sizes: Sequence[str]) -> list[tuple[str, Symbol]]:
        """Returns names and symbols of all arguments, in the order of the loop variables."""
        return [
            ("i", self.counter),
            ("n", self.limit),
            *self.body.size_arguments(sizes),
            *named("const", self.passed),
            *named("state", self.state),
            *named("ref", self.contents),
        ]


class Loop:
    """A StatelessWhile under construction.

    Its variables are: counter, limit, sizes, invariants, the state, contents of Refs. Condition and
    step are functions of all of them; the step returns limit, sizes and invariants unchanged.
    TensorFlow's gradient of a loop takes the first two for what they are here.

    Args:
      g: builder of the function that holds the loop.
      operands: invariants and Refs.
      initial: initial values of the state.
      limit: number of iterations, or None if the condition decides.
      name: what the names of the node and its functions start with.
    """

    def __init__(
        self,
        g: GraphBuilder,
        operands: Operands,
        initial: Sequence[Symbol],
        *,
        limit: Symbol | None,
        name: str,
    ) -> None:
        self._g = g
        self._operands = operands
        self._initial = list(initial)
        self._limit = g.const(-1) if limit is None else limit
        self._name = name

    def part(self) -> LoopPart:
        """Returns a new function of the loop variables: the condition or the step."""
        contents = [like(cell.value) for cell in self._operands.cells]
        return LoopPart(
            FunctionBody(self._g, in_loop=True),
            argument_symbol(_INT32, ()),
            argument_symbol(_INT32, ()),
            [like(symbol) for symbol in self._operands.passed],
            [like(symbol) for symbol in self._initial],
            contents,
            [RefCell(symbol) for symbol in contents],
        )

    def add_state(self, part: LoopPart, initial: Symbol) -> None:
        """Adds a state to the loop and to a part that there is already."""
        self._initial.append(initial)
        part.state.append(like(initial))

    def write(
        self, condition: LoopPart, go_on: Symbol, step: LoopPart, state: Sequence[Symbol]
    ) -> list[Symbol]:
        """Writes the loop and sets the Refs.

        Args:
          condition: the function that decides whether another step is made.
          go_on: its result.
          step: the function that makes a step.
          state: the state after the step.

        Returns:
          The final state.
        """
        pairs = zip(condition.cells, condition.contents, strict=True)
        if any(cell.value is not content for cell, content in pairs):
            self._g.unsupported("The condition of a loop writes a Ref.")
        sizes = sorted(condition.body.size_names() | step.body.size_names())
        names = self._write_functions(condition, go_on, step, state, sizes)
        cells = self._operands.cells
        inputs = [
            self._g.const(0),
            self._limit,
            *map(self._g.size, sizes),
            *self._operands.passed,
            *self._initial,
            *(cell.value for cell in cells),
        ]
        results = self._g.op(
            "StatelessWhile",
            inputs,
            shapes=[symbol.shape for symbol in inputs],
            name=self._name,
            cond=FunctionRef(names[0]),
            body=FunctionRef(names[1]),
            output_shapes=[known_shape(symbol.shape) for symbol in inputs],
        )
        for cell, content in zip(cells, results[len(results) - len(cells) :], strict=True):
            cell.value = content
        start = len(results) - len(cells) - len(self._initial)
        return list(results[start : start + len(self._initial)])

    def _write_functions(
        self,
        condition: LoopPart,
        go_on: Symbol,
        step: LoopPart,
        state: Sequence[Symbol],
        sizes: Sequence[str],
    ) -> tuple[str, str]:
        """Writes condition and step; returns the names of their functions."""
        test = condition.body.finish(
            f"{self._name}_cond", condition.arguments(sizes), [go_on], ["go_on"]
        )
        arguments = step.arguments(sizes)
        following = {id(a): b for a, b in zip(step.state, state, strict=True)}
        following |= {
            id(content): cell.value for content, cell in zip(step.contents, step.cells, strict=True)
        }
        following[id(step.counter)] = step.body.g.op("AddV2", step.counter, 1, shape=())
        body = step.body.finish(
            f"{self._name}_body",
            arguments,
            [following.get(id(symbol), symbol) for _, symbol in arguments],
            [f"{argument}_next" for argument, _ in arguments],
        )
        return test, body
