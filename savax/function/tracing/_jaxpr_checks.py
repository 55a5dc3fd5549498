"""What a finished jaxpr may not hold: escaped tracers, and assignments that JAX would repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.extend.core

from savax.errors import EscapedTracerError, VariableWriteError
from savax.function._arrays import is_tracer
from savax.function._jax_names import jaxprs_in_params
from savax.function._source_lines import is_user_file, recorded_frames, user_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

# The primitives that assign a Ref, their first operand.
_WRITING = {"swap", "addupdate"}
_REPEATING = {"remat2", "checkpoint"}


def equations_of(jaxpr: Any) -> Iterator[Any]:
    """Yields all equations of a jaxpr, those of inner jaxprs too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations_of(inner)


def closed_jaxprs_of(closed: Any) -> Iterator[Any]:
    """Yields a closed jaxpr and those in its parameters, at any depth."""
    yield closed
    for equation in equations_of(closed.jaxpr):
        for value in equation.params.values():
            for item in value if isinstance(value, tuple | list) else (value,):
                if isinstance(item, jax.extend.core.ClosedJaxpr):
                    yield item


def holds_tracers(closed: Any) -> bool:
    """Whether constants of a closed jaxpr, at any depth, exist only while something is traced."""
    return any(is_tracer(const) for inner in closed_jaxprs_of(closed) for const in inner.consts)


def escaped_tracer_error(closed: Any) -> EscapedTracerError:
    """Returns the error for a jaxpr among whose constants there are tracers."""
    places = []
    for inner in closed_jaxprs_of(closed):
        for variable, const in zip(inner.jaxpr.constvars, inner.consts, strict=True):
            if is_tracer(const):
                users = [e for e in inner.jaxpr.eqns if variable in _variables(e)]
                where = f", used at {user_frame(users[0])}" if users else ""
                places.append(f"{const.aval.str_short()}{where}")
    return EscapedTracerError(
        "The function uses values that exist only inside a JAX transformation (jit, grad, vmap, "
        f"scan, ...) after it has ended: {'; '.join(places)}. Return them from the inner function "
        "instead of keeping them in an attribute, a list or a global."
    )


def check_ref_uses(closed: Any, ref_names: str) -> None:
    """Refuses assignments in places where JAX would lose or repeat them, without an error.

    Args:
      closed: the jaxpr.
      ref_names: the names of the Variables that are assigned inside transformations.

    Raises:
      VariableWriteError: there is such a place.
    """
    loops: set[Any] = set()
    for equation in equations_of(closed.jaxpr):
        if not any(_is_ref(v.aval) for v in equation.invars):
            continue
        reason = _refusal(equation, loops)
        if reason is not None:
            raise VariableWriteError(
                f"At {user_frame(equation)}, {ref_names} would be assigned inside {reason}. Return "
                "the value from that function and assign it outside."
            )


def _refusal(equation: Any, loops: set[Any]) -> str | None:
    """Returns what is wrong with an equation that uses Refs.

    Args:
      equation: the equation.
      loops: the linearized loops that were met before; more are added.
    """
    name = equation.primitive.name
    if name == "custom_jvp_call":
        return "a function with jax.custom_jvp, for which JAX has no rule"
    if name in _REPEATING and equation.params.get("differentiated"):
        return "a jax.checkpoint that is differentiated, which JAX runs twice"
    if name != "while":
        return None
    if _writes(equation.params["cond_jaxpr"]):
        return "the condition of a while_loop, whose last assignment JAX loses"
    if _condition_reads_what_body_writes(equation):
        return "a while_loop whose condition reads it, and JAX would give it the first value"
    if _writes(equation.params["body_jaxpr"]) and _is_repeated(equation, loops):
        return "a while_loop in jax.linearize, which JAX runs twice"
    return None


def _condition_reads_what_body_writes(equation: Any) -> bool:
    params = equation.params
    count = params["cond_nconsts"]
    condition = {v for v in equation.invars[:count] if _is_ref(v.aval)}
    body = params["body_jaxpr"].jaxpr
    written = _written_refs(body)
    operands = zip(equation.invars[count:], body.invars, strict=True)
    return any(operand in condition for operand, inner in operands if inner in written)


def _written_refs(jaxpr: Any) -> set[Any]:
    """Returns the Refs that a jaxpr may assign; an inner one that assigns, may assign all."""
    written = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name in _WRITING:
            written.add(equation.invars[0])
        elif any(
            inner.primitive.name in _WRITING
            for body in jaxprs_in_params(equation.params)
            for inner in equations_of(body)
        ):
            written.update(v for v in _variables(equation) if _is_ref(v.aval))
    return written


def _is_repeated(equation: Any, loops: set[Any]) -> bool:
    """Whether partial evaluation has made a loop twice: once for values, once for derivatives."""
    frames = recorded_frames(equation)
    if not any("partial_eval" in frame.function_name for frame in frames):
        return False
    lines = tuple((f.file_name, f.line_num) for f in frames if is_user_file(f.file_name))
    if lines in loops:
        return True
    loops.add(lines)
    return False


def _variables(equation: Any) -> list[Any]:
    return [v for v in equation.invars if not isinstance(v, jax.extend.core.Literal)]


def _writes(closed: Any) -> bool:
    return any(e.primitive.name in _WRITING for e in equations_of(closed.jaxpr))


def _is_ref(aval: Any) -> bool:
    return isinstance(aval, jax.ref.AbstractRef)
