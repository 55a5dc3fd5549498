"""The frame in which chosen Variables have other values than the stored ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.errors import VariableWriteError
from savax.function._jax_names import trace_state
from savax.trackable import Frame, Variable, frame_scope

if TYPE_CHECKING:
    from collections.abc import Mapping


class ValueFrame:
    """Gives some Variables values of their own; what else happens, the outer frame sees.

    Args:
      values: what stands for each of these Variables, by the object's id.
      outer: the frame around this one, or None.
      user: what happens to the function that runs in it, for messages.

    Attributes:
      written: the Variables that were assigned, by id, in order.
      used: the Variables that were read, by id, in order.
    """

    def __init__(self, values: Mapping[int, Any], outer: Frame | None, user: str) -> None:
        self._values = dict(values)
        self._outer = outer
        self._user = user
        self._state = trace_state()
        self.written: dict[int, Variable] = {}
        self.used: dict[int, Variable] = {}

    @property
    def outer(self) -> Frame | None:
        """The frame around this one."""
        return self._outer

    def open(self) -> None:
        """Makes the running transformation of JAX the one whose values the frame holds."""
        self._state = trace_state()

    def read(self, variable: Variable) -> Any:
        """Returns the value given for a Variable, or the one that was assigned since."""
        self.used.setdefault(id(variable), variable)
        if id(variable) in self._values:
            return self._values[id(variable)]
        with frame_scope(self._outer):
            return variable.value

    def write(self, variable: Variable, value: Any) -> None:
        """Keeps a new value, for the caller to hand on."""
        if trace_state() != self._state:
            raise VariableWriteError(
                f"Variable {variable.name!r} is assigned inside a JAX transformation (jit, scan, "
                f"cond, ...) of a function that {self._user}. Return the "
                "value from the transformation and assign it outside."
            )
        self._values[id(variable)] = value
        self.written[id(variable)] = variable

    def create(self, variable: Variable, initial_value: Any) -> None:
        """Leaves a new Variable to the outer frame."""
        if self._outer is not None:
            self._outer.create(variable, initial_value)

    def new_values(self) -> list[Any]:
        """Returns the values of the written Variables, in order."""
        return [self._values[key] for key in self.written]
