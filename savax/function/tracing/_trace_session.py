"""Passes of tracing until every Variable that the function uses is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax

from savax.function.tracing._jaxpr_checks import check_ref_uses
from savax.function.tracing._lifting import initialize_created
from savax.function.tracing._trace_passes import FlatFunction, TracePass, run_pass

if TYPE_CHECKING:
    from savax.trackable import Variable

Avals = Sequence[jax.ShapeDtypeStruct]


class TraceSession:
    """What is known about a function from one pass to the next.

    Args:
      fn: takes flat arrays, returns flat arrays and something else.
      arg_names: of its arguments, for messages.
      candidates: Variables that it may use.
      may_create: whether it may create Variables, in the first pass.

    Attributes:
      captures: the Variables that passes take as inputs; more may be found.
    """

    def __init__(
        self,
        fn: FlatFunction,
        arg_names: Sequence[str],
        candidates: Sequence[Variable],
        may_create: bool,
    ) -> None:
        self._fn = fn
        self._arg_names = tuple(arg_names)
        self._may_create = may_create
        self._refs: set[int] = set()
        self._created: list[Variable] = []
        unique = {id(variable): variable for variable in candidates}
        self.captures: list[Variable] = list(unique.values())

    @property
    def created(self) -> tuple[Variable, ...]:
        """The Variables that the function made."""
        return tuple(self._created)

    def settle(self, avals: Callable[[Sequence[Variable]], Avals]) -> TracePass:
        """Makes passes until one holds everything.

        Args:
          avals: returns shapes and dtypes of the given Variables, then of the arguments.

        Raises:
          Exception: what the function raises.
        """
        while True:
            done = run_pass(
                self._fn,
                self.captures,
                avals(self.captures),
                frozenset(self._refs),
                self._may_create,
            )
            initialize_created(done, self._arg_names)
            if not self._learn(done):
                break
        if done.error is not None:
            raise done.error
        if self._refs:
            names = [v.name for v in self.captures if id(v) in self._refs]
            check_ref_uses(done.jaxpr, "Variable " + ", ".join(map(repr, names)))
        return done

    def _learn(self, done: TracePass) -> bool:
        """Takes over what a pass found; returns whether another one is needed."""
        frame = done.frame
        created = [variable for variable, _ in frame.created()]
        known = {id(variable) for variable in self.captures}
        for variable in [*frame.unexpected, *created]:
            if id(variable) not in known:
                known.add(id(variable))
                self.captures.append(variable)
        self._created += created
        if frame.has_created:
            self._may_create = False
        self._refs.update(id(variable) for variable in frame.wants_ref)
        return bool(frame.unexpected or frame.wants_ref or frame.has_created)
