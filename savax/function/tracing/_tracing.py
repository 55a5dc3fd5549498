"""Tracing: a Python function of flat tensors becomes a jaxpr with captured Variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from savax.errors import TracingError
from savax.function._arrays import abstract, captured_dtype, settled_value
from savax.function._dims import bind_dims, dim_names, evaluate_dim
from savax.function._jax_names import is_under_trace
from savax.function.tracing._body_assembly import SettledTrace, assemble_body
from savax.function.tracing._dim_errors import dims_error
from savax.function.tracing._dimensions import DimensionTable, is_shape_error
from savax.function.tracing._trace_session import TraceSession
from savax.function.tracing._traced_body import RankPolymorphicBody, Trace, TracedBody
from savax.function.tracing._unknown_rank import trace_ranks
from savax.trackable import Variable
from savax.types import TensorSpec, as_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax

    from savax.function.tracing._trace_passes import FlatFunction, TracePass


def trace(
    fn: FlatFunction,
    specs: Sequence[TensorSpec],
    *,
    names: Sequence[str] | None = None,
    constraints: Sequence[str] = (),
    candidates: Sequence[Variable] = (),
    may_create: bool = True,
) -> Trace:
    """Traces a function of flat tensors.

    The function is called several times where Variables are found, created or assigned inside a
    transformation, or where unknown dims turn out to be equal; the last call counts.

    Args:
      fn: takes one array per spec; returns a sequence of array-likes, and anything else that the
        caller wants to know about them.
      specs: what the arguments have to be.
      names: of the arguments, for the graph and for messages; by default those of the specs.
      constraints: what is known of unknown dims, in JAX's notation, e.g. ``"b >= 2"``.
      candidates: Variables that the function may use; a first guess that saves a pass.
      may_create: whether the function may create Variables.

    Returns:
      The trace; its body is rank-polymorphic if a spec has no rank.

    Raises:
      TracingError: and its kin; the message names the line, the Variable or the dims.
      Exception: whatever the function raises.
    """
    arg_names = graph_names(names or [s.name or f"arg_{i}" for i, s in enumerate(specs)])
    session = TraceSession(fn, arg_names, candidates, may_create)

    def settle(ranked: Sequence[TensorSpec]) -> SettledTrace:
        return settle_dims(session, ranked, arg_names, constraints)

    under_trace = is_under_trace()
    body: TracedBody | RankPolymorphicBody
    if any(spec.shape is None for spec in specs):
        body = trace_ranks(settle, specs, arg_names, under_trace)
    else:
        body = assemble_body(settle(specs), arg_names, under_trace=under_trace)
    return Trace(body, body.aux, session.created)


def settle_dims(
    session: TraceSession,
    specs: Sequence[TensorSpec],
    arg_names: Sequence[str],
    constraints: Sequence[str],
) -> SettledTrace:
    """Traces a function whose specs have ranks, and finds out which unknown dims are equal.

    Raises:
      TracingError: the function needs to know more about the dims.
      Exception: whatever the function raises.
    """
    table = DimensionTable.of(specs, constraints)

    def avals(captures: Sequence[Variable]) -> list[jax.ShapeDtypeStruct]:
        return _symbolic_avals(table, captures, specs, arg_names)

    done = _settle_dims(session, table, avals, specs, arg_names)
    found = tuple(
        TensorSpec(table.spec_dims(name, spec.dims or ()), spec.dtype, spec.name)
        for name, spec in zip(arg_names, specs, strict=True)
    )
    return SettledTrace(done, found, table.constraints, table.named)


def concrete_trace(
    fn: FlatFunction,
    shapes: Sequence[Sequence[int]],
    symbolic: TracedBody | RankPolymorphicBody,
) -> TracedBody:
    """Traces a function again at known shapes, since symbolic dims can't be computed with.

    Args:
      fn: the function that ``symbolic`` is a trace of.
      shapes: of the arguments.
      symbolic: the trace with the signature's unknown dims.

    Returns:
      A body that can be run. It may have fewer captures than ``symbolic``.

    Raises:
      SignatureMismatchError: a shape doesn't fit the signature.
      TracingError: the function does something else at these shapes than it does at unknown ones,
        so that a saved model would differ from it.
    """
    reference = symbolic
    if isinstance(symbolic, RankPolymorphicBody):
        rank = len(shapes[symbolic.unranked_args[0]])
        reference = symbolic.bodies.get(rank, symbolic)
    sizes = _sizes(reference, shapes)
    specs = tuple(
        TensorSpec(tuple(shape), spec.dtype, spec.name)
        for shape, spec in zip(shapes, symbolic.arg_specs, strict=True)
    )
    variables = [c for c in symbolic.captures if isinstance(c, Variable)]
    session = TraceSession(fn, symbolic.arg_names, variables, may_create=False)
    done = session.settle(lambda captures: _concrete_avals(captures, specs))
    settled = SettledTrace(done, specs, symbolic.constraints)
    body = assemble_body(settled, symbolic.arg_names, under_trace=is_under_trace())
    if isinstance(reference, TracedBody):
        _check_same_program(reference, body, sizes, shapes)
    return body


def graph_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns unique names that are legal for arguments of a FunctionDef.

    As in TensorFlow they are lower-case letters, digits and underscores, begin with a letter, and
    the second of two equal names gets ``_1``.
    """
    taken: set[str] = set()
    legal = []
    for name in names:
        plain = re.sub(r"[^a-z0-9]", "_", name.lower()).lstrip("_0123456789") or "unknown"
        unique, count = plain, 0
        while unique in taken:
            count += 1
            unique = f"{plain}_{count}"
        taken.add(unique)
        legal.append(unique)
    return tuple(legal)


def _settle_dims(
    session: TraceSession,
    table: DimensionTable,
    avals: Any,
    specs: Sequence[TensorSpec],
    arg_names: Sequence[str],
) -> TracePass:
    first: tuple[Exception, Exception] | None = None
    while True:
        try:
            return session.settle(avals)
        except Exception as error:
            if first is None:
                signature = _signature_text(table, specs, arg_names)
                first = error, dims_error(error, table, signature)
            if is_shape_error(error) and (
                table.learn(error) or table.share_leading() or table.learn(error, guess=True)
            ):
                continue
        original, explained = first
        if explained is original:
            raise original
        raise explained from original


def _symbolic_avals(
    table: DimensionTable,
    captures: Sequence[Variable],
    specs: Sequence[TensorSpec],
    arg_names: Sequence[str],
) -> list[jax.ShapeDtypeStruct]:
    shapes = [
        table.dims(f"{variable.name}_v{i}", _variable_dims(variable))
        for i, variable in enumerate(captures)
    ]
    shapes += [
        table.dims(name, spec.dims or ()) for name, spec in zip(arg_names, specs, strict=True)
    ]
    dtypes = [captured_dtype(v) for v in captures] + [spec.dtype for spec in specs]
    return list(map(abstract, table.symbolic(shapes), dtypes))


def _concrete_avals(
    captures: Sequence[Variable], specs: Sequence[TensorSpec]
) -> list[jax.ShapeDtypeStruct]:
    return [abstract(_actual_shape(v), captured_dtype(v)) for v in captures] + [
        abstract(spec.shape or (), spec.dtype) for spec in specs
    ]


def _variable_dims(variable: Variable) -> Sequence[int | None]:
    if variable.shape is None:
        return (None,) * len(_actual_shape(variable))
    dims: Sequence[int | None] = variable.shape
    return dims


def _actual_shape(variable: Variable) -> Sequence[int]:
    if variable.shape is not None and None not in variable.shape:
        return tuple(variable.shape)
    return tuple(settled_value(variable).shape)


def _signature_text(
    table: DimensionTable, specs: Sequence[TensorSpec], arg_names: Sequence[str]
) -> str:
    parts = [
        f"{name}: {spec.dtype.name}[{', '.join(map(str, table.dims(name, spec.dims or ())))}]"
        for name, spec in zip(arg_names, specs, strict=True)
    ]
    constraints = ", ".join(table.constraints)
    return f"({', '.join(parts)})" + (f" with {constraints}" if constraints else "")


def _sizes(
    reference: TracedBody | RankPolymorphicBody, shapes: Sequence[Sequence[int]]
) -> dict[str, int]:
    """Returns the sizes of a trace's dims at given shapes of arguments and Variables."""
    if isinstance(reference, RankPolymorphicBody):
        return {}
    count = len(reference.captures)
    dims = [aval.shape for aval in reference.jaxpr.in_avals]
    names = reference.arg_names
    state = [
        (dims[i], _actual_shape(c), f"Variable {c.name}")
        for i, c in enumerate(reference.captures)
        if isinstance(c, Variable)
    ]
    return bind_dims(
        [*dims[count:], *(row[0] for row in state)],
        [*shapes, *(row[1] for row in state)],
        [*names, *(row[2] for row in state)],
    )


def _check_same_program(
    symbolic: TracedBody,
    concrete: TracedBody,
    sizes: dict[str, int],
    shapes: Sequence[Sequence[int]],
) -> None:
    """Compares what a function does at unknown and at known dims."""
    given = ", ".join(str(tuple(shape)) for shape in shapes)
    start = f"With arguments of shapes {given}, the function "
    end = (
        " A Python decision such as `if x.shape[0] == 1` was made once, for unknown sizes. Use "
        "jax.lax.cond, or give the dim a size in the signature."
    )
    if len(symbolic.out_specs) != len(concrete.out_specs) or symbolic.aux != concrete.aux:
        raise TracingError(
            f"{start}returns {concrete.aux} ({len(concrete.out_specs)} tensors), but "
            f"{symbolic.aux} ({len(symbolic.out_specs)} tensors) at the unknown dims of its "
            f"signature.{end}"
        )
    wrote = [{c.name for c in _written(body)} for body in (symbolic, concrete)]
    if wrote[0] != wrote[1]:
        raise TracingError(
            f"{start}assigns the Variables {sorted(wrote[1])}, but {sorted(wrote[0])} at the "
            f"unknown dims of its signature.{end}"
        )
    pairs = zip(symbolic.jaxpr.out_avals, concrete.out_specs, strict=False)
    for i, (wanted, found) in enumerate(pairs):
        shape = tuple(evaluate_known(dim, sizes) for dim in wanted.shape)
        if as_dtype(wanted.dtype) is not found.dtype or shape != found.shape:
            raise TracingError(
                f"{start}returns {found.dtype.name}{found.shape} as result {i}, but "
                f"{as_dtype(wanted.dtype).name}{shape} (from {tuple(map(str, wanted.shape))}) by "
                f"the unknown dims of its signature.{end}"
            )


def evaluate_known(dim: Any, sizes: dict[str, int]) -> int | None:
    """Returns the size of a dim, or None if a name in it has no known size."""
    if isinstance(dim, int):
        return dim
    return None if any(n not in sizes for n in dim_names(dim)) else evaluate_dim(dim, sizes)


def _written(body: TracedBody) -> list[Variable]:
    """Returns the Variables for which a body has more to give than the value that it took."""
    jaxpr = body.jaxpr.jaxpr
    new_values = jaxpr.outvars[len(body.out_specs) :]
    return [
        capture
        for position, new_value in zip(body.written, new_values, strict=True)
        if isinstance(capture := body.captures[position], Variable)
        and new_value is not jaxpr.invars[position]
    ]
