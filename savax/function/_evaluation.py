"""LoadedBody: a FunctionDef of a model as something to call on JAX arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.extend.core import get_opaque_trace_state, take_current_trace

from savax.errors import (
    CorruptSavedModelError,
    DTypeMismatchError,
    TracingError,
    VariableWriteError,
)
from savax.function._plan import Plan, PlanLibrary
from savax.function._plan_values import NeedsValue, ResourceHandle, array_value
from savax.function._walk import Store, Walk
from savax.trackable import Asset, Constant, Trackable, Variable
from savax.trackable._frames import current_frame

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.protos import FunctionDef
    from savax.types import DType

# Larger captured constants are arguments of the compiled program, not parts of it.
_MAX_BAKED_SIZE = 4096

with take_current_trace():
    _NO_TRACE = get_opaque_trace_state()


class LoadedBody:
    """A function of a loaded model.

    Args:
      function_name: name of its FunctionDef.
      library: the model's functions; LoadedBodies of one model share a ``PlanLibrary``, so that
        each function is planned once.
      captures: what the function's last arguments are bound to, in their order.
    """

    def __init__(
        self,
        function_name: str,
        library: Mapping[str, FunctionDef] | PlanLibrary,
        captures: Sequence[Trackable],
    ) -> None:
        self.function_name = function_name
        self.captures: tuple[Trackable, ...] = tuple(captures)
        self._library = library if isinstance(library, PlanLibrary) else PlanLibrary(library)
        self._program: _Program | None = None

    def run(self, flat_arguments: Sequence[Any]) -> list[Any]:
        """Computes the flat results; reads and assigns the captured Variables.

        Args:
          flat_arguments: one array for each argument of the FunctionDef that isn't a capture.

        Returns:
          JAX arrays; strings as numpy object arrays of bytes.

        Raises:
          UnsupportedOpError: at the first call, if ops of the function can't be evaluated.
          TracingError: under a JAX transformation, where the function needs the values.
          VariableWriteError: the function assigns Variables under a transformation that savax
            knows nothing of.
        """
        program = self._program
        if program is None:
            plan = self._library.runnable_plan(self.function_name)
            program = self._program = _Program(plan, self._library, self.captures)
        return program(flat_arguments)


class _Program:
    """A plan with its captures bound."""

    def __init__(self, plan: Plan, library: PlanLibrary, captures: tuple[Trackable, ...]) -> None:
        self._plan = plan
        self._library = library
        self._num_args = len(plan.arg_names) - len(captures)
        if self._num_args < 0:
            raise CorruptSavedModelError(
                f"The function {plan.name!r} has {len(plan.arg_names)} arguments, fewer than its "
                f"{len(captures)} captures."
            )
        self._dtypes = tuple(dtype.numpy_dtype for dtype in plan.arg_dtypes[: self._num_args])
        self._bound: list[Any] = [None] * len(captures)
        self._arrays: list[tuple[int, Any]] = []  # large constants, by position among captures
        self._reads: list[Variable] = []
        self._read_handles: list[ResourceHandle] = []
        self._writes: list[tuple[Variable, ResourceHandle]] = []
        for position, capture in enumerate(captures):
            self._bind(position, capture)
        self._jitted = jax.jit(self._compute)
        self._concrete = plan.has_strings

    def _bind(self, position: int, capture: Trackable) -> None:
        index = self._num_args + position
        effects = self._plan.effects
        if isinstance(capture, Variable):
            handle = ResourceHandle(capture.name, capture.dtype, capture.shape)
            self._bound[position] = handle
            if index in effects.reads or index in effects.writes:
                self._reads.append(capture)
                self._read_handles.append(handle)
            if index in effects.writes:
                self._writes.append((capture, handle))
        elif isinstance(capture, Constant):
            if index not in effects.used:
                return
            if capture.array.size > _MAX_BAKED_SIZE and capture.array.dtype != object:
                self._arrays.append((position, capture.array))
            else:
                self._bound[position] = np.asarray(capture.array)
        elif isinstance(capture, Asset):
            self._bound[position] = np.asarray(capture)
        else:
            self._bound[position] = ResourceHandle(type(capture).__name__, obj=capture)

    def __call__(self, flat_arguments: Sequence[Any]) -> list[Any]:
        dtypes = self._dtypes
        if len(flat_arguments) != len(dtypes):
            raise DTypeMismatchError(
                f"The function {self._plan.name!r} takes {len(dtypes)} tensors, "
                f"got {len(flat_arguments)}."
            )
        arguments = [
            value
            if getattr(value, "dtype", None) is dtype
            else _converted(value, self._plan.arg_dtypes[i], self._plan.arg_names[i])
            for i, (value, dtype) in enumerate(zip(flat_arguments, dtypes, strict=True))
        ]
        if not self._writes:
            return self._run(arguments)[0]
        self._check_writable()
        with self._library.write_lock:
            outputs, values = self._run(arguments)
            for (variable, _), value in zip(self._writes, values, strict=True):
                variable.assign(value)
        return outputs

    def _check_writable(self) -> None:
        if current_frame() is None and get_opaque_trace_state() != _NO_TRACE:
            names = ", ".join(repr(variable.name) for variable, _ in self._writes)
            raise VariableWriteError(
                f"The loaded function {self._plan.name!r} assigns {names}, which can't take effect "
                "under jax.jit, jax.grad or another transformation of JAX outside savax. Call it "
                "from a savax.function, or use savax.value_and_grad."
            )

    def _run(self, arguments: list[Any]) -> tuple[list[Any], list[Any]]:
        values = [variable.value for variable in self._reads]
        arrays = [array for _, array in self._arrays]
        if self._plan.uses_64_bit and not jax.config.jax_enable_x64:
            with jax.enable_x64(True):
                return self._dispatch(values, arrays, arguments)
        return self._dispatch(values, arrays, arguments)

    def _dispatch(
        self, values: list[Any], arrays: list[Any], arguments: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        if not self._concrete:
            try:
                return self._jitted(values, arrays, arguments)
            except NeedsValue as signal:
                if get_opaque_trace_state() != _NO_TRACE:
                    raise self._tracing_error(signal) from None
                self._concrete = True
        try:
            outputs, written = self._compute(values, arrays, arguments)
        except NeedsValue as signal:
            raise self._tracing_error(signal) from None
        return [_result(value) for value in outputs], written

    def _compute(
        self, values: list[Any], arrays: list[Any], arguments: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Walks the plan; traced once for each set of shapes by ``jax.jit``."""
        bound = list(self._bound)
        for (position, _), array in zip(self._arrays, arrays, strict=True):
            bound[position] = array
        store = Store(
            {h: v for h, v in zip(self._read_handles, values, strict=True) if v is not None}
        )
        walk = Walk(self._library, store)
        outputs = walk.run(self._plan, [*arguments, *bound])
        return [array_value(value) for value in outputs], [
            store.values[handle] for _, handle in self._writes
        ]

    def _tracing_error(self, signal: NeedsValue) -> TracingError:
        return TracingError(
            f"{signal}. Call {self._plan.name!r} outside of JAX's transformations, or close over "
            "the argument that it comes from instead of passing it through them."
        )


def _converted(value: Any, dtype: DType, name: str) -> Any:
    """Returns an argument in the dtype that the function has for it."""
    if dtype.name in ("resource", "variant"):
        return value
    if not hasattr(value, "dtype"):
        return np.asarray(value, dtype.numpy_dtype)
    wanted = dtype.numpy_dtype
    if dtype.name == "string":
        return np.asarray(value)
    if value.dtype == wanted:
        return value
    if value.dtype.kind != wanted.kind and {value.dtype.kind, wanted.kind} - {"f", "V"}:
        raise DTypeMismatchError(f"Argument {name!r}: expected {dtype.name}, found {value.dtype}.")
    return value.astype(wanted)


def _result(value: Any) -> Any:
    """Returns a result as a JAX array, where one can hold it."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return jax.numpy.asarray(value)
    return value
