"""A finished pass becomes a TracedBody: captures in order, large constants as captures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core
import numpy as np

from savax.function._arrays import is_tracer
from savax.function._jaxpr_checks import escaped_tracer_error, holds_tracers
from savax.function._traced_body import TracedBody
from savax.trackable import Constant, Variable
from savax.types import TensorSpec, as_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function._trace_passes import TracePass

# Larger arrays would blow up the graph, whose size is limited to 2 GiB; as captures they are
# written once, however many functions use them.
_LARGEST_CONSTANT_BYTES = 64 * 1024


def assemble_body(
    done: TracePass,
    arg_specs: Sequence[TensorSpec],
    arg_names: Sequence[str],
    constraints: Sequence[str],
    *,
    named_dims: frozenset[str],
    under_trace: bool,
    captures: Sequence[Variable] | None = None,
    written: Sequence[Variable] | None = None,
) -> TracedBody:
    """Returns the body for a pass.

    Args:
      done: the pass.
      arg_specs: of the arguments, as the body shall have them.
      arg_names: likewise.
      constraints: what was assumed of dims.
      named_dims: names of dims that results may keep.
      under_trace: whether the values of an enclosing JAX transformation may be constants.
      captures: which Variables the body takes, in order; by default those that were used.
      written: which of them it gives new values for; by default those that were assigned.

    Raises:
      EscapedTracerError: constants of the jaxpr exist only inside a transformation.
    """
    closes_over_tracers = holds_tracers(done.jaxpr)
    if closes_over_tracers and not under_trace:
        raise escaped_tracer_error(done.jaxpr)
    captures = done.frame.touched if captures is None else captures
    written = done.written if written is None else written
    written_ids = {id(variable) for variable in written}
    positions = tuple(i for i, v in enumerate(captures) if id(v) in written_ids)
    jaxpr, constants = _arranged(done, captures, [captures[i] for i in positions])
    return TracedBody(
        jaxpr=jaxpr,
        captures=(*captures, *constants),
        written=positions,
        arg_specs=tuple(arg_specs),
        arg_names=tuple(arg_names),
        out_specs=tuple(_out_spec(a, named_dims) for a in jaxpr.out_avals[: done.num_outputs]),
        aux=done.aux,
        constraints=tuple(constraints),
        closes_over_tracers=closes_over_tracers,
    )


def _arranged(
    done: TracePass, captures: Sequence[Variable], written: Sequence[Variable]
) -> tuple[jax.extend.core.ClosedJaxpr, list[Constant]]:
    """Returns the jaxpr with inputs and outputs in the body's order, and the large constants."""
    jaxpr, consts = done.jaxpr.jaxpr, done.jaxpr.consts
    inputs = {id(v): var for v, var in zip(done.captures, jaxpr.invars, strict=False)}
    new_values = dict(zip(map(id, done.written), jaxpr.outvars[done.num_outputs :], strict=False))
    large: dict[int, tuple[Any, Any]] = {}
    small: list[tuple[Any, Any]] = []
    for var, const in zip(jaxpr.constvars, consts, strict=True):
        if not is_tracer(const) and _size_bytes(const) > _LARGEST_CONSTANT_BYTES:
            large[id(const)] = (var, const)
        else:
            small.append((var, const))
    arranged = jaxpr.replace(
        constvars=[var for var, _ in small],
        invars=[
            *(inputs[id(v)] for v in captures),
            *(var for var, _ in large.values()),
            *jaxpr.invars[len(done.captures) :],
        ],
        outvars=[
            *jaxpr.outvars[: done.num_outputs],
            *(new_values.get(id(v), inputs[id(v)]) for v in written),
        ],
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    closed = jax.extend.core.ClosedJaxpr(arranged, [const for _, const in small])
    return closed, [Constant(_plain_array(const)) for _, const in large.values()]


def _size_bytes(const: Any) -> int:
    return int(math.prod(const.shape) * np.dtype(const.dtype).itemsize)


def _plain_array(const: Any) -> Any:
    return const if isinstance(const, jax.Array) else np.asarray(const)


def _out_spec(aval: Any, named_dims: frozenset[str]) -> TensorSpec:
    dims = [d if isinstance(d, int) else _kept_name(str(d), named_dims) for d in aval.shape]
    return TensorSpec(dims, as_dtype(aval.dtype))


def _kept_name(dim: str, named_dims: frozenset[str]) -> str | None:
    return dim if dim in named_dims else None
