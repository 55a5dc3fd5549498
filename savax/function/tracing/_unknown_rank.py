"""Arguments of unknown rank: the function is traced at each rank that it may have."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jax.extend.core import ClosedJaxpr, Var

from savax.errors import TracingError
from savax.function.tracing._body_assembly import assemble_body
from savax.function.tracing._traced_body import RankPolymorphicBody, TracedBody
from savax.trackable import Constant, content_key
from savax.types import TensorSpec, generalize_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from savax.function.tracing._body_assembly import SettledTrace
    from savax.trackable import Variable

RANKS = range(6)  # higher ones are rare, and each costs a trace and a branch of the graph


def trace_ranks(
    settle: Callable[[Sequence[TensorSpec]], SettledTrace],
    specs: Sequence[TensorSpec],
    arg_names: Sequence[str],
    under_trace: bool,
) -> RankPolymorphicBody:
    """Traces a function at ranks 0 to 5 and keeps those at which it can be traced.

    Args:
      settle: traces the function for specs of known ranks.
      specs: the arguments'; those without a rank have one rank together.
      arg_names: of the arguments.
      under_trace: whether a JAX transformation is running.

    Raises:
      TracingError: the function can't be traced at any rank, or returns something else at each.
    """
    unranked = tuple(i for i, spec in enumerate(specs) if spec.shape is None)
    settled: dict[int, SettledTrace] = {}
    failures: dict[int, Exception] = {}
    for rank in RANKS:
        try:
            settled[rank] = settle(_with_rank(specs, unranked, rank))
        except Exception as error:
            failures[rank] = error
    if not settled:
        raise _no_rank_error(failures, [arg_names[i] for i in unranked])
    captures = _union([one.done.frame.touched for one in settled.values()])
    written = _union([one.done.written for one in settled.values()])
    bodies = {
        rank: assemble_body(
            one, arg_names, under_trace=under_trace, captures=captures, written=written
        )
        for rank, one in settled.items()
    }
    return _merged(_with_common_constants(bodies, len(captures)), unranked, specs, failures)


def _with_rank(specs: Sequence[TensorSpec], unranked: Sequence[int], rank: int) -> list[TensorSpec]:
    return [
        TensorSpec([None] * rank, spec.dtype, spec.name) if i in unranked else spec
        for i, spec in enumerate(specs)
    ]


def _union(groups: Sequence[Sequence[Variable]]) -> list[Variable]:
    return list({id(v): v for group in groups for v in group}.values())


def _with_common_constants(bodies: Mapping[int, TracedBody], start: int) -> dict[int, TracedBody]:
    """Returns bodies with the same captures in all.

    Args:
      bodies: traces whose large constants each trace may have made anew.
      start: how many Variables they capture, before the constants.
    """
    if all(len(body.captures) == start for body in bodies.values()):
        return dict(bodies)
    common: dict[tuple[Hashable, int], tuple[Constant, Any]] = {}
    inputs: dict[int, dict[tuple[Hashable, int], Any]] = {}
    for rank, body in bodies.items():
        own: dict[tuple[Hashable, int], Any] = {}
        inputs[rank] = own
        variables = body.jaxpr.jaxpr.invars[start:]
        for capture, variable in zip(body.captures[start:], variables, strict=False):
            assert isinstance(capture, Constant)
            content = content_key(capture.array)
            count = sum(key[0] == content for key in own)
            common.setdefault((content, count), (capture, variable.aval))
            own[content, count] = variable
    constants = tuple(constant for constant, _ in common.values())
    return {
        rank: dataclasses.replace(
            body,
            captures=(*body.captures[:start], *constants),
            jaxpr=_taking(
                body.jaxpr,
                start,
                len(body.captures),
                [inputs[rank].get(key) or Var(aval) for key, (_, aval) in common.items()],
            ),
        )
        for rank, body in bodies.items()
    }


def _taking(closed: ClosedJaxpr, start: int, stop: int, variables: Sequence[Any]) -> ClosedJaxpr:
    """Returns a jaxpr with other inputs in the place of some."""
    jaxpr = closed.jaxpr
    invars = [*jaxpr.invars[:start], *variables, *jaxpr.invars[stop:]]
    debug_info = jaxpr.debug_info.with_unknown_names()
    return ClosedJaxpr(jaxpr.replace(invars=invars, debug_info=debug_info), closed.consts)


def _merged(
    bodies: Mapping[int, TracedBody],
    unranked: tuple[int, ...],
    specs: Sequence[TensorSpec],
    failures: Mapping[int, Exception],
) -> RankPolymorphicBody:
    rank, first = next(iter(bodies.items()))
    for other_rank, other in bodies.items():
        if _kinds(other) != _kinds(first):
            raise TracingError(
                f"The function returns {_kinds(first)} for arguments of rank {rank}, but "
                f"{_kinds(other)} at rank {other_rank}. Give the arguments a rank in the signature."
            )
    return RankPolymorphicBody(
        bodies=dict(bodies),
        unranked_args=unranked,
        failures={rank: str(error) for rank, error in failures.items()},
        captures=first.captures,
        written=first.written,
        arg_specs=tuple(
            spec if i in unranked else _common([b.arg_specs[i] for b in bodies.values()])
            for i, spec in enumerate(specs)
        ),
        arg_names=first.arg_names,
        out_specs=tuple(
            _common(list(group))
            for group in zip(*(b.out_specs for b in bodies.values()), strict=True)
        ),
        aux=first.aux,
        constraints=first.constraints,
        closes_over_tracers=any(body.closes_over_tracers for body in bodies.values()),
    )


def _kinds(body: TracedBody) -> tuple[Any, tuple[str, ...]]:
    """Returns what must not depend on the rank: the structure and the dtypes of the results."""
    return body.aux, tuple(spec.dtype.name for spec in body.out_specs)


def _common(specs: Sequence[TensorSpec]) -> TensorSpec:
    first = specs[0]
    if all(spec.dims == first.dims for spec in specs):
        return first
    shape = first.shape
    for spec in specs:
        shape = generalize_shapes(shape, spec.shape)
    return TensorSpec(shape, first.dtype, first.name)


def _no_rank_error(failures: Mapping[int, Exception], names: Sequence[str]) -> Exception:
    errors = list(failures.values())
    if len({(type(error), str(error)) for error in errors}) == 1:
        return errors[0]  # the rank has nothing to do with it
    causes = "\n".join(f"  rank {rank}: {error}" for rank, error in failures.items())
    return TracingError(
        f"The function can't be traced for any rank of {', '.join(names)}, which the signature "
        f"leaves open:\n{causes}\nGive the rank, e.g. shape=[None, None] for a matrix."
    )
