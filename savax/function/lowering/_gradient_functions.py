"""The derivatives that calls have of their own as functions of the library.

They take the gradients of an IdentityN's results, capture its inputs, and compute anew from these
what the backward pass needs, so that a forward pass alone computes nothing more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.errors import TracerArrayConversionError, UnexpectedTracerError
from jax.extend.core import Literal

from savax.errors import EscapedTracerError, UnsupportedError
from savax.function._arrays import abstract
from savax.function._op_schemas import op_schema, output_ranges
from savax.function.evaluation._attr_decoding import decode_attrs
from savax.function.evaluation._registered_gradients import (
    CapturedTensor,
    GradientFunction,
    gradient_type_of,
)
from savax.function.lowering._custom_gradient_calls import JAX_FOLDER
from savax.function.lowering._lowering import CaptureSpec, capture_spec, lower_jaxpr
from savax.function.lowering._primitive_scan import live_equations
from savax.function.stablehlo._compilation import is_64_bit
from savax.function.stablehlo._options import OPS, Backend
from savax.function.tracing._body_assembly import SettledTrace, assemble_body
from savax.function.tracing._trace_session import TraceSession
from savax.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.function.lowering._custom_gradient_calls import CustomGradientCall
    from savax.function.lowering._function_library import FunctionLibrary
    from savax.function.tracing._trace_passes import FlatFunction
    from savax.function.tracing._traced_body import Capture
    from savax.protos import FunctionDef, NodeDef
    from savax.trackable import Variable

# What a gradient raises that TensorFlow does without. The last two are JAX's for tracers that a
# derivative of a derivative found in the trace before.
_UNWRITABLE = (
    UnsupportedError,
    EscapedTracerError,
    TracerArrayConversionError,
    UnexpectedTracerError,
)


# What to do without a derivative of a module, by the derivative's order.
_ORDERS = {
    1: "its gradient: StableHLO(gradients=False)",
    2: "its second derivative: StableHLO(gradients=1)",
}


class _Backward(NamedTuple):
    """A traced backward pass.

    Attributes:
      jaxpr: from values of its own captures, captured operands and gradients of results to
        gradients of operands.
      captures: the Variables that it reads by itself, and large arrays that it closes over.
    """

    jaxpr: Any
    captures: tuple[Capture, ...]


class UnwrittenGradientError(UnsupportedError):
    """A module's gradient, which was wanted, has no module."""


def lower_gradients(library: FunctionLibrary) -> list[GradientFunction]:
    """Adds the gradients of all calls in the library's functions.

    A gradient that can't be written is left out: its node names it all the same, so that TensorFlow
    runs the function, and refuses to differentiate it.

    Returns:
      What to register.

    Raises:
      UnwrittenGradientError: JAX has the gradient of a module, and it can't be written as one.
    """
    calls = library.custom_gradient_calls or []
    found = []
    for call in calls:  # which grows, where backward passes have such calls themselves
        place = _named_node(library.functions, call.name)
        if place is None:
            continue  # nobody needed the results
        function, node = place
        library.gradient_order = call.order + 1
        try:
            captured = _needed(call, library)
            own = _lower(call, captured, library)
        except UnwrittenGradientError:
            raise
        except _UNWRITABLE:
            continue
        except Exception as error:
            # JAX has no derivative of some loops in modules, and of some of its own functions,
            # such as xlog1py of an integer.
            if JAX_FOLDER in call.call.place or (
                call.call.module is not None
                and isinstance(error, NotImplementedError | TypeError | ValueError)
            ):
                continue
            error.add_note(
                f"This happened while the derivative of {call.call.place or call.call.name} was "
                "traced, for TensorFlow to use. SaveOptions(experimental_custom_gradients=False) "
                "saves the model without its functions' own derivatives."
            )
            raise
        found.append(_gradient_function(call, captured, own, function, node))
    return found


def _lower(
    call: CustomGradientCall, captured: Sequence[int], library: FunctionLibrary
) -> list[Capture]:
    """Adds the gradient of a call to the library; returns what it captures by itself."""
    backward = _trace_backward(call, captured, library)
    own = [library.stand_in(capture) for capture in backward.captures]
    specs = [call.specs[len(call.wrapped) + i] for i in captured]
    captures = [
        CaptureSpec(f"capture_{i}", spec.dtype, spec.shape, is_variable=False)
        for i, spec in enumerate(specs)
    ]
    module = call.call.module
    try:
        lower_jaxpr(
            backward.jaxpr,
            call.name,
            library,
            arg_specs=_named(call.specs),
            captures=[*map(capture_spec, own), *captures],
            backend=OPS
            if module is None
            else Backend(replace(module, gradients=module.gradients - 1)),
        )
    except UnsupportedError as error:
        if module is None:
            raise
        raise UnwrittenGradientError(
            f"{error} Or save the function without {_ORDERS[call.order]}."
        ) from error
    return own


def _needed(call: CustomGradientCall, library: FunctionLibrary) -> list[int]:
    """Returns which of the moving and fixed operands the gradient depends on.

    TensorFlow has no gradients of loops whose bodies' tensors a gradient captures.
    """
    everything = range(len(call.moving) + len(call.fixed))
    backward = _trace_backward(call, everything, library)
    jaxpr = backward.jaxpr.jaxpr
    operands = jaxpr.invars[len(backward.captures) :]
    used = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    for equation, _ in live_equations(jaxpr):
        used.update(atom for atom in equation.invars if not isinstance(atom, Literal))
    return [i for i in everything if operands[i] in used or not _is_numeric(operands[i])]


def _is_numeric(var: Any) -> bool:
    return not jnp.issubdtype(var.aval.dtype, jax.dtypes.extended)


def _gradient_function(
    call: CustomGradientCall,
    captured: Sequence[int],
    own: Sequence[Capture],
    function: FunctionDef,
    node: NodeDef,
) -> GradientFunction:
    nodes = {other.name: other for other in function.node_def}
    names = [_graph_name(tensor, nodes) for tensor in node.input if not tensor.startswith("^")]
    start = len(call.wrapped)
    captures = [CapturedTensor(names[start + i], function.signature.name) for i in captured]
    gradients = call.specs[start : start + len(call.moving)]
    return GradientFunction(
        gradient_type=call.name,
        function=call.name,
        captures=(*own, *captures),
        structured_inputs=((None, *_named(call.specs)), {}),
        structured_outputs=[None] * start + [*gradients] + [None] * len(call.fixed),
    )


def _named(specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    return [TensorSpec(spec.dims, spec.dtype, f"result_grads_{i}") for i, spec in enumerate(specs)]


def _named_node(
    functions: Mapping[str, FunctionDef], gradient_type: str
) -> tuple[FunctionDef, NodeDef] | None:
    """Returns the node that names a gradient, and the function that it is in."""
    for function in functions.values():
        for node in function.node_def:
            if node.op == "IdentityN" and gradient_type_of(node) == gradient_type:
                return function, node
    return None


def _graph_name(tensor: str, nodes: Mapping[str, NodeDef]) -> str:
    """Returns the name in a graph (``node:0``) of a tensor of a FunctionDef (``node:output:0``)."""
    name, *rest = tensor.split(":")
    if not rest:
        return f"{name}:0"
    producer = nodes[name]
    schema = op_schema(producer.op)
    start, _ = output_ranges(schema, decode_attrs(producer, schema))[rest[0]]
    return f"{name}:{start + int(rest[1])}"


def _trace_backward(
    call: CustomGradientCall, captured: Sequence[int], library: FunctionLibrary
) -> _Backward:
    """Traces from captures and gradients of results to gradients of moving operands.

    Args:
      call: the call.
      captured: which of the moving and fixed operands it takes; it doesn't depend on the others.
      library: has places for large arrays, or none.

    Raises:
      UnsupportedError: the backward pass assigns or makes Variables.
    """
    positions = (*call.moving, *call.fixed)
    of_operands = [call.call.operand_types[i] for i in positions]
    of_results = [call.call.result_types[i] for i in call.wrapped]

    def backward(*given: Any) -> tuple[list[Any], None]:
        operands: dict[int, Any] = {i: jnp.asarray(value) for i, value in call.known.items()}
        for index, position in enumerate(positions):
            if index not in captured:
                aval = of_operands[index]
                operands[position] = jnp.zeros(aval.shape, aval.dtype)
        for index, value in zip(captured, given, strict=False):
            operands[positions[index]] = value

        def forward(*moving: Any) -> list[Any]:
            values = operands | dict(zip(call.moving, moving, strict=True))
            ordered = [values[i] for i in range(len(values))]
            results = call.call.function(*ordered)
            return [results[i] for i in call.wrapped]

        _, pull = jax.vjp(forward, *(operands[i] for i in call.moving))
        cotangents = given[len(captured) : len(captured) + len(call.wrapped)]
        return [_conjugated(x) for x in pull([_conjugated(ct) for ct in cotangents])], None

    types = [*(of_operands[i] for i in captured), *of_results, *of_operands]
    wide = call.call.wide or any(map(is_64_bit, types))
    return _trace_in_own_frame(backward, types, library, wide=wide)


def _trace_in_own_frame(
    backward: FlatFunction, types: Sequence[Any], library: FunctionLibrary, *, wide: bool
) -> _Backward:
    """Traces a backward pass whose arguments have the given abstract values."""
    wide = wide or bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
    arguments: list[Any] = [
        jax.ShapeDtypeStruct(aval.shape, aval.dtype)  # type: ignore[no-untyped-call]
        for aval in types
    ]

    def avals(variables: Sequence[Variable]) -> list[Any]:
        return [*map(_abstract_variable, variables), *arguments]

    names = [f"arg_{i}" for i in range(len(types))]
    session = TraceSession(backward, names, (), may_create=True)
    with jax.enable_x64(wide):
        done = session.settle(avals)
        if done.written or session.created:
            variable = (*done.written, *session.created)[0]
            raise UnsupportedError(f"The derivative assigns the Variable {variable.name!r}.")
        body = assemble_body(
            SettledTrace(done, ()), names, under_trace=True, is_captured=library.has_stand_in
        )
    return _Backward(body.jaxpr, body.captures)


def _abstract_variable(variable: Variable) -> jax.ShapeDtypeStruct:
    if variable.shape is None or None in variable.shape:
        raise UnsupportedError(f"The Variable {variable.name!r} has no known shape.")
    return abstract(variable.shape, variable.dtype)


def _conjugated(gradient: Any) -> Any:
    """Returns TensorFlow's gradient for JAX's, and back: they differ where they are complex."""
    return jnp.conj(gradient) if jnp.iscomplexobj(gradient) else gradient
