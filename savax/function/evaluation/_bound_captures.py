"""What a plan's captures are bound to: handles of Variables, constants, and resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import VariableWriteError
from savax.function.evaluation._plan_values import ResourceHandle
from savax.trackable import Asset, Constant, Trackable, Variable

if TYPE_CHECKING:
    from savax.function.evaluation._plan import Plan, PlanLibrary

# Larger captured constants are arguments of the compiled program, not parts of it.
_MAX_BAKED_SIZE = 4096


class BoundCaptures:
    """The captures of one function.

    Args:
      plan: the function's.
      library: of the model.
      captures: what the last arguments of the plan are bound to.

    Attributes:
      bound: for each capture the value that the plan gets; None for those among ``arrays``.
      arrays: large constants by their positions among the captures.
      reads: Variables whose values a call starts with.
      read_handles: their handles.
      writes: Variables that a call assigns, and their handles.
      shared: handles of Variables that nodes know by name.
      fixed: values by handle of Variables that are frozen.
    """

    def __init__(self, plan: Plan, library: PlanLibrary, captures: tuple[Trackable, ...]) -> None:
        self._plan = plan
        self._library = library
        self._num_args = len(plan.arg_names) - len(captures)
        self.bound: list[Any] = [None] * len(captures)
        self.arrays: list[tuple[int, Any]] = []
        self.reads: list[Variable] = []
        self.read_handles: list[ResourceHandle] = []
        self.writes: list[tuple[Variable, ResourceHandle]] = []
        self.shared: dict[str, ResourceHandle] = {}
        self.fixed: dict[ResourceHandle, Any] = {}
        self._gradient_reads: list[tuple[Variable, ResourceHandle]] = []
        for position, capture in enumerate(captures):
            self._bind(position, capture)
        for name in sorted(access for access in plan.effects.writes if isinstance(access, str)):
            self._bind_random_state(name)
        for name in sorted(access for access in plan.effects.reads if isinstance(access, str)):
            self._bind_gradient_capture(name, captures)

    def freeze(self) -> None:
        """Makes the Variables' present values constants.

        Raises:
          VariableWriteError: the function assigns Variables.
        """
        if self.writes:
            names = ", ".join(repr(variable.name) for variable, _ in self.writes)
            raise VariableWriteError(
                f"The function {self._plan.name!r} can't be frozen: it assigns {names}."
            )
        values = [variable._stored_value() for variable in self.reads]
        self.fixed = dict(zip(self.read_handles, values, strict=True))
        self.reads, self.read_handles = [], []

    def _bind(self, position: int, capture: Trackable) -> None:
        index = self._num_args + position
        effects = self._plan.effects
        if isinstance(capture, Variable):
            handle = ResourceHandle(capture.name, capture.dtype, capture.shape)
            self.bound[position] = handle
            if index in effects.reads or index in effects.writes:
                self.reads.append(capture)
                self.read_handles.append(handle)
            if index in effects.writes:
                self.writes.append((capture, handle))
        elif isinstance(capture, Constant):
            if index not in effects.used:
                return
            if capture.array.size > _MAX_BAKED_SIZE and capture.array.dtype != object:
                self.arrays.append((position, capture.array))
            else:
                self.bound[position] = np.asarray(capture.array)
        elif isinstance(capture, Asset):
            self.bound[position] = np.asarray(capture)
        else:
            self.bound[position] = ResourceHandle(type(capture).__name__, obj=capture)

    def _bind_random_state(self, name: str) -> None:
        variable = self._library.random_variable(name, self._plan.name)
        if variable is None:
            return
        handle = ResourceHandle(name, variable.dtype, variable.shape)
        self.shared[name] = handle
        self.reads.append(variable)
        self.read_handles.append(handle)
        self.writes.append((variable, handle))

    def _bind_gradient_capture(self, name: str, captures: tuple[Trackable, ...]) -> None:
        """Binds a Variable that a custom gradient reads; often the function captures it too."""
        variable = self._library.gradients.variable(name)
        if variable is None:
            return
        for capture, bound in zip(captures, self.bound, strict=True):
            if capture is variable:
                self.shared[name] = bound
        if name not in self.shared:
            same = next((h for v, h in self._gradient_reads if v is variable), None)
            handle = same or ResourceHandle(variable.name, variable.dtype, variable.shape)
            self.shared[name] = handle
            self._gradient_reads.append((variable, handle))
        handle = self.shared[name]
        if handle not in self.read_handles:
            self.reads.append(variable)
            self.read_handles.append(handle)
