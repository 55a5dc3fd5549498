"""LoadedBody: a FunctionDef of a model as something to call on JAX arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from savax.errors import (
    CorruptSavedModelError,
    DTypeMismatchError,
    SignatureMismatchError,
    TracingError,
    VariableWriteError,
)
from savax.function._arrays import device_array
from savax.function.evaluation._batch_pieces import compute_batch
from savax.function.evaluation._bound_captures import BoundCaptures
from savax.function.evaluation._carry import can_be_array
from savax.function.evaluation._plan import Plan, PlanLibrary
from savax.function.evaluation._plan_values import NeedsValue, ResourceHandle, array_value
from savax.function.evaluation._segments import Segment, SegmentRunner
from savax.function.evaluation._walk import Store, Walk
from savax.function.evaluation._x64 import concrete_64, in_trace, trace_x64, x64_call, x64_enabled
from savax.protos import compiled_modules
from savax.trackable import Trackable, current_frame, host_array
from savax.types import DType, as_dtype, same_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jax.extend.core import ClosedJaxpr

    from savax.function.evaluation._registered_gradients import RegisteredGradients
    from savax.function.stablehlo._options import Backend
    from savax.protos import CompiledModule, FunctionDef

# In a concrete run, integer arguments up to this size are taken for sizes and indices.
_MAX_KNOWN_SIZE = 64

_Results: TypeAlias = "tuple[list[Any], list[Any]]"


class LoadedBody:
    """A function of a loaded model.

    Args:
      function_name: name of its FunctionDef.
      library: the model's functions; LoadedBodies of one model share a ``PlanLibrary``, so that
        each function is planned once.
      captures: what the function's last arguments are bound to, in their order.
      is_frozen: whether Variables keep the values that they have at the first call.
    """

    def __init__(
        self,
        function_name: str,
        library: Mapping[str, FunctionDef] | PlanLibrary,
        captures: Sequence[Trackable],
        *,
        is_frozen: bool = False,
    ) -> None:
        self.function_name = function_name
        self.captures: tuple[Trackable, ...] = tuple(captures)
        self._library = library if isinstance(library, PlanLibrary) else PlanLibrary(library)
        self._is_frozen = is_frozen
        self._program: _Program | None = None

    @property
    def functions(self) -> Mapping[str, FunctionDef]:
        """All functions of the model, by name."""
        return self._library.functions

    @property
    def gradients(self) -> RegisteredGradients:
        """The custom gradients of the model."""
        return self._library.gradients

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
        program = self._program or self._bound_program()
        return program(flat_arguments)

    def frozen(self) -> LoadedBody:
        """Returns a body in whose compiled programs the Variables' present values are constants.

        Raises:
          UnsupportedOpError: ops of the function can't be evaluated.
          VariableWriteError: the function assigns Variables.
        """
        body = LoadedBody(self.function_name, self._library, self.captures, is_frozen=True)
        body._bound_program()
        return body

    def segments(self) -> list[Segment]:
        """Returns the parts in which calls outside of JAX's transformations run.

        What must run on the host may show in a call only, so the parts can change with the first.

        Raises:
          UnsupportedOpError: ops of the function can't be evaluated.
        """
        program = self._bound_program()
        plan = self._library.plan(self.function_name)
        if program._needs_values:
            return program._runner.segments(plan)
        names = tuple(node.name for node in plan.nodes)
        return [Segment(False, plan.name, names, program._num_traces)]

    def compiled_modules(self, name: str, backend: Backend) -> tuple[CompiledModule, ...]:
        """Returns the compiled modules of the function; it is saved as it is."""
        return compiled_modules(self.function_name, self.functions)

    def _bound_program(self) -> _Program:
        program = self._program
        if program is None:
            plan = self._library.runnable_plan(self.function_name)
            program = _Program(plan, self._library, self.captures)
            if self._is_frozen:
                program.freeze()
            self._program = program
        return program


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
        self._strings = [
            i for i, d in enumerate(plan.arg_dtypes[: self._num_args]) if d.name == "string"
        ]
        self._state = BoundCaptures(plan, library, captures)
        # Larger constants are arguments, not parts of the compiled program.
        self._large = [
            device_array(array) if isinstance(array, np.ndarray) else array
            for _, array in self._state.arrays
        ]
        self._num_traces = 0
        self._jitted = jax.jit(self._compute_batch if plan.uses_convolutions else self._compute)
        self._runner = SegmentRunner(library)
        needs_host = plan.needs_host or any(v.dtype.name == "string" for v in self._state.reads)
        self._needs_values = needs_host
        # Whether running it is the same thing inside a trace and outside.
        self._is_plain = not (needs_host or plan.uses_64_bit or self._state.writes)
        self._scopes: dict[Any, tuple[ClosedJaxpr, Any]] = {}

    def freeze(self) -> None:
        """Makes the Variables' present values constants; see ``BoundCaptures.freeze``."""
        self._state.freeze()

    def __call__(self, flat_arguments: Sequence[Any]) -> list[Any]:
        dtypes = self._dtypes
        if len(flat_arguments) != len(dtypes):
            raise SignatureMismatchError(
                f"The function {self._plan.name!r} takes {len(dtypes)} tensors, "
                f"got {len(flat_arguments)}."
            )
        arguments = [
            value if getattr(value, "dtype", None) is dtype else self._converted(value, i)
            for i, (value, dtype) in enumerate(zip(flat_arguments, dtypes, strict=True))
        ]
        for i in self._strings:
            arguments[i] = _encoded(arguments[i])
        if self._is_plain:
            try:
                outputs: list[Any] = self._jitted(*self._operands(arguments))[0]
                return outputs
            except NeedsValue:
                self._is_plain = False
        run = self._run_traced if in_trace() else self._run
        if not self._state.writes:
            return run(arguments)[0]
        if current_frame() is None and run == self._run_traced:
            raise self._write_error()
        with self._library.write_lock:
            outputs, values = run(arguments)
            for (variable, _), value in zip(self._state.writes, values, strict=True):
                variable.assign(value)
        return outputs

    def _converted(self, value: Any, i: int) -> Any:
        """Returns an argument as an array of its dtype, or of another width of the same kind."""
        dtype, name = self._plan.arg_dtypes[i], self._plan.arg_names[i]
        if dtype.name in ("resource", "variant"):
            return value
        if not hasattr(value, "dtype") or dtype.name == "string":
            return host_array(value, dtype)
        if not _may_cast(as_dtype(value.dtype), dtype):
            raise DTypeMismatchError(
                f"Argument {name!r} of {self._plan.name!r}: expected {dtype.name}, "
                f"found {value.dtype}."
            )
        # A JAX array is cast inside the program, where 64-bit types are on.
        return value if isinstance(value, jax.Array) else np.asarray(value, dtype.numpy_dtype)

    def _operands(self, arguments: list[Any]) -> list[Any]:
        frame = current_frame()
        if frame is None:
            values = [variable._stored_value() for variable in self._state.reads]
        else:
            values = [frame.read(variable) for variable in self._state.reads]
        return [*values, *self._large, *arguments]

    def _run(self, arguments: list[Any]) -> _Results:
        """Runs outside of any trace."""
        operands = self._operands(arguments)
        if self._plan.uses_64_bit and not x64_enabled():
            with jax.enable_x64(True):
                return self._run_operands(operands)
        return self._run_operands(operands)

    def _run_operands(self, operands: list[Any]) -> _Results:
        if not self._needs_values:
            try:
                return self._jitted(*operands)  # type: ignore[no-any-return]
            except NeedsValue:
                self._needs_values = True
        try:
            arrays = [jnp.asarray(x) if can_be_array(x) else x for x in operands]
            outputs, written = self._compute(*arrays, runner=self._runner)
        except NeedsValue as signal:
            raise self._tracing_error(signal) from None
        return [_result(value) for value in outputs], written

    def _run_traced(self, arguments: list[Any]) -> _Results:
        """Runs inside a trace; what isn't traced itself stays known."""
        operands = self._operands(arguments)
        try:
            if not self._needs_values:
                try:
                    return self._staged(self._jitted, operands)
                except NeedsValue:
                    pass
            try:
                return self._staged_partly(operands)
            except NeedsValue:
                # What is needed may depend on known values alone, by ops without a numpy form.
                return self._staged_partly(operands, computes_known=True)
        except NeedsValue as signal:
            raise self._tracing_error(signal) from None

    def _staged_partly(self, operands: list[Any], *, computes_known: bool = False) -> _Results:
        traced = [isinstance(value, Tracer) for value in operands]
        known = [_known_if_small(value) for value in operands]

        def compute(*tracers: Any) -> _Results:
            rest = iter(tracers)
            outputs, written = self._compute(
                *[next(rest) if t else k for t, k in zip(traced, known, strict=True)],
                computes_known=computes_known,
            )
            hosted[:] = [x if is_host_value(x) else None for x in outputs]
            return [None if is_host_value(x) else x for x in outputs], written

        hosted: list[Any] = []
        tracers = [value for value, t in zip(operands, traced, strict=True) if t]
        outputs, written = self._staged(compute, tracers)
        return [h if h is not None else x for h, x in zip(hosted, outputs, strict=True)], written

    def _staged(self, compute: Callable[..., _Results], operands: list[Any]) -> _Results:
        if not self._plan.uses_64_bit or x64_enabled():
            return compute(*operands)
        operands = [concrete_64(value) for value in operands]
        if compute is not self._jitted:
            jaxpr, tree = trace_x64(compute, *operands)
        else:
            key = tuple((value.shape, value.dtype) for value in operands)
            if key not in self._scopes:
                self._scopes[key] = trace_x64(compute, *operands)
            jaxpr, tree = self._scopes[key]
        results: _Results = jax.tree.unflatten(tree, x64_call(jaxpr, *operands))
        return results

    def _compute_batch(self, *operands: Any) -> _Results:
        """Computes what ``_compute`` does; large batches of images in pieces."""
        count = len(operands) - self._num_args

        def compute(arguments: Sequence[Any], fixed: Sequence[Any]) -> _Results:
            return self._compute(*fixed, *arguments)

        results: _Results = compute_batch(compute, operands[count:], operands[:count])
        return results

    def _compute(
        self,
        *operands: Any,
        runner: SegmentRunner | None = None,
        computes_known: bool = False,
    ) -> _Results:
        """Walks the plan on values of Variables, large constants and arguments, in this order."""
        self._num_traces += runner is None
        values = operands[: len(self._state.reads)]
        arrays = operands[len(self._state.reads) : len(self._state.reads) + len(self._state.arrays)]
        arguments = operands[len(self._state.reads) + len(self._state.arrays) :]
        bound = list(self._state.bound)
        for (position, _), array in zip(self._state.arrays, arrays, strict=True):
            bound[position] = array
        store = Store(
            self._state.fixed
            | {
                handle: _cast(value, variable.dtype.numpy_dtype)
                for handle, variable, value in zip(
                    self._state.read_handles, self._state.reads, values, strict=True
                )
                if value is not None
            }
        )
        walk = Walk(self._library, store, self._state.shared, runner, computes_known=computes_known)
        cast = [_cast(x, dtype) for x, dtype in zip(arguments, self._dtypes, strict=True)]
        outputs = walk.run(self._plan, [*cast, *bound])
        return [array_value(value) for value in outputs], [
            store.values[handle] for _, handle in self._state.writes
        ]

    def _write_error(self) -> VariableWriteError:
        names = ", ".join(repr(variable.name) for variable, _ in self._state.writes)
        return VariableWriteError(
            f"The loaded function {self._plan.name!r} assigns {names}, which can't take effect "
            "under jax.jit, jax.grad or another transformation of JAX outside savax. Call it "
            "from a savax.function, or use savax.value_and_grad."
        )

    def _tracing_error(self, signal: NeedsValue) -> TracingError:
        return TracingError(
            f"{signal}. Call {self._plan.name!r} outside of JAX's transformations, or close over "
            "the argument that it comes from instead of passing it through them."
        )


def _may_cast(found: DType, wanted: DType) -> bool:
    """Whether an argument may be cast without asking: floats to floats, integers to integers."""
    return same_kind(found, wanted) or found.numpy_dtype == wanted.numpy_dtype


def is_host_value(value: Any) -> bool:
    """Whether a result is no array that a trace could hold: strings, handles."""
    return isinstance(value, ResourceHandle) or (
        isinstance(value, np.ndarray) and value.dtype == np.dtype(object)
    )


def _cast(value: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(value, jax.Array) and value.dtype != dtype:
        return jax.lax.convert_element_type(value, dtype)
    return value


def _encoded(strings: Any) -> Any:
    """Returns a string array whose elements are all bytes."""
    is_array = isinstance(strings, np.ndarray) and strings.dtype == np.dtype(object)
    if is_array and all(type(item) is bytes for item in strings.reshape(-1).tolist()):
        return strings
    return host_array(strings, as_dtype("string"))


def _known_if_small(value: Any) -> Any:
    """Returns small concrete integers as numpy arrays: sizes and indices, so that they fold."""
    if isinstance(value, np.generic):
        return np.asarray(value)
    if isinstance(value, Tracer) or not isinstance(value, jax.Array):
        return value
    return (
        np.asarray(value) if value.size <= _MAX_KNOWN_SIZE and value.dtype.kind in "iub" else value
    )


def _result(value: Any) -> Any:
    """Returns a result as a JAX array, where one can hold it."""
    if isinstance(value, np.ndarray) and value.dtype != np.dtype(object):
        return jnp.asarray(value)
    return value
