"""Lowering: a traced function becomes a TensorFlow FunctionDef."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import savax.function.ops as _ops
from savax.function.lowering._function_library import (
    FunctionArgument,
    FunctionLibrary,
    FunctionParts,
)
from savax.function.lowering._graph_builder import GraphBuilder, ResultType
from savax.function.lowering._graph_nodes import Symbol, known_shape
from savax.function.lowering._jaxpr_lowering import JaxprLowering, LoweringRuleError, result_type
from savax.function.lowering._module_calls import call_jaxpr
from savax.function.lowering._primitive_scan import PrimitiveScan, check_primitives
from savax.function.ops._registry import LOWERINGS
from savax.function.stablehlo._options import OPS, Backend
from savax.trackable import Constant, TableResource, Variable
from savax.types import DType, Shape, TensorSpec, as_dtype, as_shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from savax.function.tracing._traced_body import Capture, TracedBody
    from savax.protos import FunctionDef

__all__ = ["CaptureSpec", "FunctionLibrary", "LoweringRuleError", "lower_function", "lower_jaxpr"]

# Importing the families is what fills LOWERINGS.
OP_FAMILIES: tuple[str, ...] = tuple(_ops.__all__)


_RESOURCE = as_dtype("resource")


@dataclass(frozen=True)
class CaptureSpec:
    """A captured input of a function.

    Attributes:
      name: name of the captured object.
      dtype: its dtype.
      shape: its shape; None for unknown dims.
      is_variable: whether it is passed as a resource and read; else it is passed as a value.
      is_constant: whether it is an array that the function closes over.
    """

    name: str
    dtype: DType
    shape: Shape
    is_variable: bool = True
    is_constant: bool = False


def lower_jaxpr(
    jaxpr: Any,
    name: str,
    library: FunctionLibrary,
    *,
    arg_specs: Sequence[TensorSpec] | None = None,
    captures: Sequence[CaptureSpec] = (),
    written: Sequence[int] = (),
    out_dtypes: Sequence[DType] | None = None,
    output_names: Sequence[str] | None = None,
    backend: Backend = OPS,
) -> FunctionDef:
    """Lowers a closed jaxpr and adds the FunctionDef to the library.

    Args:
      jaxpr: ClosedJaxpr; its inputs are the captured values, then the arguments, its outputs the
        results, then the new values of the captures in ``written``.
      name: name of the function, unique in the library.
      library: gets the function and the functions that it calls.
      arg_specs: names and dtypes of the arguments; a dtype other than the jaxpr's is cast.
      captures: what the function captures; its inputs after the arguments.
      written: indices of the captures that are assigned.
      out_dtypes: dtypes of the results; one other than the jaxpr's is cast.
      output_names: names of the results.
      backend: what the jaxpr is written as.

    Returns:
      The FunctionDef.

    Raises:
      UnsupportedPrimitiveError: primitives have no lowering; all are listed.
      UnsupportedParamError: uses of primitives have no lowering; all are listed.
      UnsupportedError: it has no module.
    """
    if backend.whole is None:
        single = backend.single
        scan = check_primitives(jaxpr, name, LOWERINGS, allow_others=single is not None)
    else:
        single, scan = None, PrimitiveScan()
    lowering = JaxprLowering(library, name, scan, single)
    boundary = _Boundary(lowering, jaxpr, arg_specs, captures)
    g = boundary.builder
    operands = [*boundary.captured_values(), *boundary.arg_values()]
    if backend.whole is None:
        results = lowering.inline(g, jaxpr, (), operands)
    else:
        g.out = tuple(result_type(aval) for aval in jaxpr.out_avals)
        g.is_read = (True,) * len(g.out)
        constant = {i for i, capture in enumerate(captures) if capture.is_constant}
        results = call_jaxpr(g, jaxpr, operands, _label(name), backend.whole, constant)
    count = len(results) - len(written)
    outputs = boundary.outputs(results[:count], out_dtypes)
    for index, value in zip(written, results[count:], strict=True):
        boundary.assign(index, value)
    lowering.raise_problems()
    parts = FunctionParts(name, g.graph, boundary.arguments, outputs, output_names)
    return library.build(parts)


def lower_function(
    body: TracedBody,
    name: str,
    library: FunctionLibrary,
    *,
    output_names: Sequence[str] | None = None,
    backend: Backend = OPS,
) -> FunctionDef:
    """Lowers a traced function and adds the FunctionDef to the library.

    The FunctionDef takes the flat arguments, then the captures: Variables as resources, Constants
    as values, if the library has no Variables for them. It returns the flat results, and assigns
    the Variables that the function writes.

    Args:
      body: the traced function.
      name: name of the FunctionDef, unique in the library.
      library: gets it and the functions that it calls.
      output_names: names of the results; ``output_0`` ... by default.
      backend: what it is written as.

    Raises:
      UnsupportedPrimitiveError: primitives have no lowering; all are listed.
      UnsupportedParamError: uses of primitives have no lowering; all are listed.
      UnsupportedError: it has no module.
    """
    specs = [
        TensorSpec(spec.dims, spec.dtype, argument)
        for spec, argument in zip(body.arg_specs, body.arg_names, strict=True)
    ]
    return lower_jaxpr(
        body.jaxpr,
        name,
        library,
        arg_specs=specs,
        captures=capture_specs(body.captures, library),
        written=body.written,
        out_dtypes=[spec.dtype for spec in body.out_specs],
        output_names=output_names,
        backend=backend,
    )


def _label(name: str) -> str:
    """Returns what a user calls the function of a FunctionDef."""
    return re.sub(r"^__inference_|_\d+$", "", name)


def capture_spec(capture: Capture) -> CaptureSpec:
    """Returns how a function gets a capture: a Variable as a resource, a constant as a value."""
    if isinstance(capture, Variable):
        return CaptureSpec(capture.name, capture.dtype, as_shape(capture.shape))
    if isinstance(capture, TableResource):
        return CaptureSpec(capture.name, capture.dtype, (), is_variable=False)
    array = capture.array
    return CaptureSpec("constant", as_dtype(array.dtype), tuple(array.shape), is_variable=False)


def capture_specs(captures: Sequence[Capture], library: FunctionLibrary) -> list[CaptureSpec]:
    """Returns how a function of a library gets its captures."""
    return [
        replace(capture_spec(library.stand_in(capture)), is_constant=isinstance(capture, Constant))
        for capture in captures
    ]


class _Boundary:
    """Arguments, captures and effects of a function.

    Attributes:
      builder: the builder of the function's graph.
      arguments: arguments, then captures.
    """

    def __init__(
        self,
        lowering: JaxprLowering,
        jaxpr: Any,
        arg_specs: Sequence[TensorSpec] | None,
        captures: Sequence[CaptureSpec],
    ) -> None:
        avals = [result_type(aval) for aval in jaxpr.in_avals]
        self._captures = captures
        self._capture_types = avals[: len(captures)]
        self._arg_types = avals[len(captures) :]
        specs = arg_specs or [
            TensorSpec(known_shape(type_.shape), type_.dtype, f"arg_{index}")
            for index, type_ in enumerate(self._arg_types)
        ]
        self._args = [
            Symbol(spec.dtype, type_.shape)
            for spec, type_ in zip(specs, self._arg_types, strict=True)
        ]
        self._resources = [
            Symbol(as_dtype("resource") if capture.is_variable else capture.dtype, ())
            for capture in captures
        ]
        self.arguments = [
            FunctionArgument(symbol, spec.name or f"arg_{index}", spec.name)
            for index, (symbol, spec) in enumerate(zip(self._args, specs, strict=True))
        ]
        self.builder = GraphBuilder(lowering)
        self._values = [
            self._capture(*each)
            for each in zip(captures, self._resources, self._capture_types, strict=True)
        ]
        # Sizes come from values first: TensorFlow gives gradients of unknown size the size 1.
        values = [v for c, v in zip(captures, self._values, strict=True) if not c.is_variable]
        self.builder.dims_lowering.add_sources([*values, *self._args, *self._values])

    def _capture(self, capture: CaptureSpec, symbol: Symbol, type_: ResultType) -> Symbol:
        """Adds the argument of a capture; returns its value as the function starts."""
        if not capture.is_variable:
            symbol = Symbol(capture.dtype, type_.shape)
            self.arguments.append(FunctionArgument(symbol, capture.name))
            return symbol
        handle = (capture.dtype, capture.shape)
        self.arguments.append(
            FunctionArgument(symbol, f"{capture.name}_resource", "resource", handle)
        )
        value: Symbol = self.builder.op(
            "ReadVariableOp",
            symbol,
            shape=type_.shape,
            name=f"{capture.name}/ReadVariableOp",
            dtype=capture.dtype,
            _output_shapes=[known_shape(type_.shape)],
        )
        return value

    def captured_values(self) -> list[Symbol]:
        """Returns the captured values in the jaxpr's dtypes."""
        return self._converted(self._values, self._capture_types)

    def arg_values(self) -> list[Symbol]:
        """Returns the arguments in the jaxpr's dtypes."""
        return self._converted(self._args, self._arg_types)

    def _converted(self, values: Iterable[Symbol], types: Iterable[ResultType]) -> list[Symbol]:
        return [
            value if value.dtype is _RESOURCE else self.builder.cast(value, type_.dtype)
            for value, type_ in zip(values, types, strict=True)
        ]

    def outputs(self, results: Sequence[Any], dtypes: Sequence[DType] | None) -> list[Symbol]:
        """Returns the results in the dtypes to be returned."""
        wanted = dtypes or [result.dtype for result in results]
        return [
            self.builder.cast(result, dtype) for result, dtype in zip(results, wanted, strict=True)
        ]

    def assign(self, index: int, value: Symbol) -> None:
        """Assigns a captured Variable its new value, after it has been read."""
        capture, read = self._captures[index], self._values[index]
        if capture.dtype is _RESOURCE:
            return  # the nodes that change a table are effects by themselves
        value = self.builder.cast(value, capture.dtype)
        node = self.builder.graph.add(
            "AssignVariableOp",
            [self._resources[index], value],
            {},
            [],
            f"{capture.name}/AssignVariableOp",
        )
        if read.node is not None:
            node.controls.append(read.node)  # the old value is read first, if it is read
        self.builder.graph.effects.append(node)
