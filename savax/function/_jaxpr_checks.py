"""What a finished jaxpr may not hold: escaped tracers, and assignments that JAX would repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.extend.core

from savax.errors import EscapedTracerError, VariableWriteError
from savax.function._arrays import is_tracer
from savax.function._jax_names import jaxprs_in_params
from savax.function._source_lines import user_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

# A Ref among the operands of these means that the body assigns or reads it; what JAX would do
# then is named for the message.
_WITHOUT_STATE = {
    "custom_jvp_call": "a function with jax.custom_jvp, for which JAX has no rule",
}
_REPEATING = {"remat2", "checkpoint"}
_WRITING = {"swap", "addupdate"}


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
    """Refuses assignments in places where JAX would lose or repeat them.

    Args:
      closed: the jaxpr.
      ref_names: the names of the Variables that are assigned inside transformations.

    Raises:
      VariableWriteError: a Ref is an operand of such a place.
    """
    for equation in equations_of(closed.jaxpr):
        name = equation.primitive.name
        if not any(_is_ref(v.aval) for v in equation.invars):
            continue
        if name in _WITHOUT_STATE:
            reason = _WITHOUT_STATE[name]
        elif name in _REPEATING and equation.params.get("differentiated"):
            reason = "a jax.checkpoint that is differentiated, which JAX runs twice"
        elif name == "while" and _writes(equation.params["cond_jaxpr"]):
            reason = "the condition of a while_loop, whose last assignment JAX loses"
        else:
            continue
        raise VariableWriteError(
            f"At {user_frame(equation)}, {ref_names} would be assigned inside {reason}. Return the "
            "value from that function and assign it outside."
        )


def _variables(equation: Any) -> list[Any]:
    return [v for v in equation.invars if not isinstance(v, jax.extend.core.Literal)]


def _writes(closed: Any) -> bool:
    return any(e.primitive.name in _WRITING for e in equations_of(closed.jaxpr))


def _is_ref(aval: Any) -> bool:
    return isinstance(aval, jax.ref.AbstractRef)
