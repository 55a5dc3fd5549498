"""A finished pass becomes a TracedBody: captures in order, large constants as captures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core
import numpy as np

from savax.function._arrays import captured_dtype, jax_dtype, settled_value
from savax.function.tracing._constant_hoisting import IsCaptured, hoist_constants, is_large
from savax.function.tracing._jaxpr_checks import escaped_tracer_error, holds_tracers
from savax.function.tracing._traced_body import TracedBody
from savax.trackable import Constant, Variable
from savax.types import TensorSpec, as_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.function.tracing._trace_passes import TracePass


@dataclasses.dataclass(frozen=True)
class SettledTrace:
    """A finished pass with what was found about its arguments.

    Attributes:
      done: the pass.
      arg_specs: of the arguments, with what was found about their dims.
      constraints: what was assumed of dims.
      named_dims: names of dims that results may keep.
    """

    done: TracePass
    arg_specs: tuple[TensorSpec, ...]
    constraints: tuple[str, ...] = ()
    named_dims: frozenset[str] = frozenset()


def assemble_body(
    settled: SettledTrace,
    arg_names: Sequence[str],
    *,
    under_trace: bool,
    captures: Sequence[Variable] | None = None,
    written: Sequence[Variable] | None = None,
    is_captured: IsCaptured = is_large,
) -> TracedBody:
    """Returns the body for a finished pass.

    Args:
      settled: the pass.
      arg_names: of the arguments, for the graph.
      under_trace: whether the values of an enclosing JAX transformation may be constants.
      captures: which Variables the body takes, in order, before large constants; by default those
        that were used.
      written: which of them it gives new values for; by default those that were assigned.
      is_captured: whether a constant counts as large.

    Raises:
      EscapedTracerError: constants of the jaxpr exist only inside a transformation.
    """
    done = settled.done
    closes_over_tracers = holds_tracers(done.jaxpr)
    if closes_over_tracers and not under_trace:
        raise escaped_tracer_error(done.jaxpr)
    closed = hoist_constants(done.jaxpr, is_captured)
    pairs = zip(closed.jaxpr.constvars, closed.consts, strict=True)
    large = {var: const for var, const in pairs if is_captured(const)}
    captures = done.frame.touched if captures is None else captures
    written_ids = {id(variable) for variable in (done.written if written is None else written)}
    positions = tuple(i for i, v in enumerate(captures) if id(v) in written_ids)
    jaxpr = _arranged(closed, done, captures, [captures[i] for i in positions], large)
    outputs = jaxpr.out_avals[: done.num_outputs]
    return TracedBody(
        jaxpr=jaxpr,
        captures=(*captures, *(Constant(_plain_array(const)) for const in large.values())),
        written=positions,
        arg_specs=settled.arg_specs,
        arg_names=tuple(arg_names),
        out_specs=tuple(_out_spec(aval, settled.named_dims) for aval in outputs),
        aux=done.aux,
        constraints=settled.constraints,
        closes_over_tracers=closes_over_tracers,
    )


def _arranged(
    closed: jax.extend.core.ClosedJaxpr,
    done: TracePass,
    captures: Sequence[Variable],
    written: Sequence[Variable],
    large: Mapping[Any, Any],
) -> jax.extend.core.ClosedJaxpr:
    """Returns the jaxpr with inputs and outputs in the body's order."""
    jaxpr = closed.jaxpr
    inputs = {id(v): var for v, var in zip(done.captures, jaxpr.invars, strict=False)}
    for variable in captures:
        if id(variable) not in inputs:
            unused = jax.core.ShapedArray(*_shape_and_dtype(variable))
            inputs[id(variable)] = jax.extend.core.Var(unused)
    new_values = dict(zip(map(id, done.written), jaxpr.outvars[done.num_outputs :], strict=False))
    pairs = zip(jaxpr.constvars, closed.consts, strict=True)
    small = [(var, const) for var, const in pairs if var not in large]
    arranged = jaxpr.replace(
        constvars=[var for var, _ in small],
        invars=[
            *(inputs[id(v)] for v in captures),
            *large,
            *jaxpr.invars[len(done.captures) :],
        ],
        outvars=[
            *jaxpr.outvars[: done.num_outputs],
            *(new_values.get(id(v), inputs[id(v)]) for v in written),
        ],
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    return jax.extend.core.ClosedJaxpr(arranged, [const for _, const in small])


def _shape_and_dtype(variable: Variable) -> tuple[tuple[int, ...], Any]:
    value = settled_value(variable)
    return tuple(value.shape), jax_dtype(captured_dtype(variable))


def _plain_array(const: Any) -> Any:
    return const if isinstance(const, jax.Array) else np.asarray(const)


def _out_spec(aval: Any, named_dims: frozenset[str]) -> TensorSpec:
    dims = [d if isinstance(d, int) else _kept_name(str(d), named_dims) for d in aval.shape]
    return TensorSpec(dims, as_dtype(aval.dtype))


def _kept_name(dim: str, named_dims: frozenset[str]) -> str | None:
    return dim if dim in named_dims else None
