"""Running a traced function: the trace with its signature, and one program for each input shape."""

from __future__ import annotations

import copy
import dataclasses
import functools
import threading
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core

from savax.errors import VariableWriteError
from savax.function._arrays import current_value, is_tracer, narrowed, settled_value
from savax.function._hosted_execution import hosted_body, runs_on_host
from savax.function._source_lines import user_frame
from savax.function.evaluation._segments import Segment
from savax.function.evaluation._x64 import as_int64
from savax.function.lowering._body_lowering import lower_body
from savax.function.lowering._function_library import FunctionLibrary
from savax.function.stablehlo._options import OPS
from savax.function.tracing._traced_body import RankPolymorphicBody, TracedBody
from savax.function.tracing._tracing import concrete_trace, trace
from savax.protos import compiled_modules
from savax.trackable import Variable, current_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.function.evaluation._evaluation import LoadedBody
    from savax.function.stablehlo._options import Backend
    from savax.protos import CompiledModule
    from savax.trackable import Trackable
    from savax.types import TensorSpec


# Items of the dtypes that JAX narrows while ``jax_enable_x64`` is off have this size or more.
_WIDE_ITEM_BYTES = 8


class _Program:
    """A trace at known shapes, compiled when it is first run.

    Args:
      body: the trace.
      out_specs: of the results; their dtypes may be wider than those of the trace.
      fixed: values that its captures have once and for all, or None.
    """

    def __init__(
        self,
        body: TracedBody,
        out_specs: Sequence[TensorSpec],
        fixed: Sequence[Any] | None = None,
    ) -> None:
        self._captures = body.captures
        self._written = body.written
        self._num_outputs = len(body.out_specs)
        self._names = body.arg_names
        self._dtypes = tuple(aval.dtype for aval in body.jaxpr.in_avals)[len(body.captures) :]
        # Only indices of composites have other dtypes than the trace.
        self._wide = [
            i
            for i, (aval, spec) in enumerate(zip(body.jaxpr.out_avals, out_specs, strict=False))
            if aval.dtype == "int32" and spec.dtype == "int64"
        ]
        self._reads_stored = not any(_may_be_narrowed(c) for c in body.captures)
        run: Callable[..., Sequence[Any]] = jax.extend.core.jaxpr_as_fun(body.jaxpr)
        if fixed is not None:
            self._captures, run = (), functools.partial(run, *fixed)
        self._jitted: Callable[..., Sequence[Any]] = jax.jit(run)
        self._lock = threading.Lock()

    def __call__(self, arguments: Sequence[Any]) -> Sequence[Any]:
        arguments = [
            value if value.dtype is dtype else narrowed(value, f"Argument {name!r}")
            for value, dtype, name in zip(arguments, self._dtypes, self._names, strict=True)
        ]
        outputs = self._outputs(arguments)
        if not self._wide:
            return outputs
        widened = list(outputs)
        for i in self._wide:
            widened[i] = as_int64(widened[i])
        return widened

    def _outputs(self, arguments: Sequence[Any]) -> Sequence[Any]:
        if not self._written:
            return self._jitted(*self._captured_values(), *arguments)
        # Reading, computing and assigning are one step for other threads.
        with self._lock:
            results = self._jitted(*self._captured_values(), *arguments)
            outputs, values = results[: self._num_outputs], results[self._num_outputs :]
            for i, value in zip(self._written, values, strict=True):
                self._assign(self._captures[i], value)
        return outputs

    def _captured_values(self) -> list[Any]:
        if self._reads_stored and current_frame() is None:
            return [
                c._stored_value() if isinstance(c, Variable) else settled_value(c)
                for c in self._captures
            ]
        return [current_value(capture) for capture in self._captures]

    def _assign(self, variable: Any, value: Any) -> None:
        if is_tracer(value) and current_frame() is None:
            raise VariableWriteError(
                f"Variable {variable.name!r} can't be assigned under jax.jit, jax.grad or another "
                "transformation of JAX outside savax. Put the transformation into the "
                "savax.function, or use savax.value_and_grad."
            )
        variable.assign(value)


def _may_be_narrowed(capture: Trackable) -> bool:
    """Whether JAX may compute with less bits than a capture has."""
    return isinstance(capture, Variable) and capture.dtype.size >= _WIDE_ITEM_BYTES


class TracedExecution:
    """A Python function of flat tensors, traced for one signature and run at any shape of it.

    Attributes:
      traced: the trace with the signature's unknown dims.
      out_tree: structure of the Python function's result.
      created: the Variables that the function made when it was traced.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        specs: Sequence[TensorSpec],
        names: Sequence[str],
        *,
        constraints: Sequence[str] = (),
        candidates: Sequence[Variable] = (),
        may_create: bool = True,
    ) -> None:
        self._function = function
        found = trace(
            function,
            specs,
            names=names,
            constraints=constraints,
            candidates=candidates,
            may_create=may_create,
        )
        self.traced = found.body
        self.out_tree = found.aux
        self.created = found.created
        self._programs: dict[Any, _Program] = {}
        self._lock = threading.RLock()
        self._fixed: dict[int, Any] | None = None
        self._only: _Program | None = None
        self._is_hosted = runs_on_host(self.traced)
        self._hosted: LoadedBody | None = None
        if self._is_hosted:
            return
        if isinstance(self.traced, TracedBody) and self.traced.is_static:
            self._only = _Program(self.traced, self.traced.out_specs)

    def set_result_specs(self, specs: tuple[TensorSpec, ...]) -> None:
        """Gives results wider dtypes than the trace has: in calls, and in a saved function."""
        if self._only is not None and isinstance(self.traced, TracedBody):
            self._only = _Program(self.traced, specs)
        self.traced = dataclasses.replace(self.traced, out_specs=specs)

    @property
    def captures(self) -> tuple[Trackable, ...]:
        """The Variables and constants that the function closes over, in order."""
        return self.traced.captures

    def line_of(self, capture: Trackable) -> str:
        """Returns where the user's code uses a capture first, as ``"file:line (function)"``."""
        bodies = [self.traced]
        if isinstance(self.traced, RankPolymorphicBody):
            bodies = list(self.traced.bodies.values())
        for body in bodies:
            assert isinstance(body, TracedBody)
            position = next(i for i, c in enumerate(body.captures) if c is capture)
            variable = body.jaxpr.jaxpr.invars[position]
            for equation in body.jaxpr.jaxpr.eqns:
                if any(atom is variable for atom in equation.invars):
                    return user_frame(equation)
        return "unknown line"

    def run(self, flat_arguments: Sequence[Any]) -> Sequence[Any]:
        """Computes the flat results; reads and assigns the captured Variables."""
        if self._only is not None:
            return self._only(flat_arguments)
        if self._is_hosted:
            return self._hosted_body().run(flat_arguments)
        shapes = tuple(value.shape for value in flat_arguments)
        program = self._programs.get(shapes)
        if program is None:
            with self._lock:
                program = self._programs.get(shapes)
                if program is None:
                    body = concrete_trace(self._function, shapes, self.traced)
                    program = _Program(body, self.traced.out_specs, self._fixed_values(body))
                    self._programs[shapes] = program
        return program(flat_arguments)

    def frozen(self) -> TracedExecution | LoadedBody:
        """Returns what runs the trace with the captures' present values as constants.

        Raises:
          VariableWriteError: the function assigns Variables.
        """
        if self._is_hosted:
            return self._hosted_body().frozen()
        captures = self.traced.captures
        if self.traced.written:
            names = ", ".join(repr(getattr(captures[i], "name", "")) for i in self.traced.written)
            raise VariableWriteError(f"The function can't be frozen: it assigns {names}.")
        other = copy.copy(self)
        other._fixed = {id(capture): settled_value(capture) for capture in captures}
        other._programs, other._lock = {}, threading.RLock()
        if self._only is not None and isinstance(self.traced, TracedBody):
            fixed = other._fixed_values(self.traced)
            other._only = _Program(self.traced, self.traced.out_specs, fixed)
        return other

    def _fixed_values(self, body: TracedBody) -> list[Any] | None:
        if self._fixed is None:
            return None
        return [
            self._fixed[id(c)] if id(c) in self._fixed else settled_value(c) for c in body.captures
        ]

    def segments(self) -> list[Segment]:
        """Returns the parts in which a call runs; without strings or tables it is one."""
        if self._is_hosted:
            return self._hosted_body().segments()
        body = self.traced
        if isinstance(body, RankPolymorphicBody):
            body = next(iter(body.bodies.values()))
        names = tuple(str(equation.primitive) for equation in body.jaxpr.jaxpr.eqns)
        programs = len(self._programs) + (self._only is not None)
        return [Segment(False, "", names, programs)]

    def compiled_modules(self, name: str, backend: Backend) -> tuple[CompiledModule, ...]:
        """Returns the compiled modules of the trace when it is written in some way."""
        if backend == OPS:
            return ()
        library = FunctionLibrary()
        unique = library.unique_name(name)
        lower_body(self.traced, unique, library, backend=backend)
        return compiled_modules(unique, library.functions)

    def _hosted_body(self) -> LoadedBody:
        with self._lock:
            if self._hosted is None:
                self._hosted = hosted_body(self.traced, "hosted")
            return self._hosted
