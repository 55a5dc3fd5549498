"""Equations with bodies that can take further operands: loops, branches, checkpoints and such."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.extend.core

if TYPE_CHECKING:
    from collections.abc import Sequence

# The parameter that holds the body, by primitive; those of loops and branches are below. All take
# the constants of the body before other operands.
_SINGLE = {
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "scan": "jaxpr",
}
CARRIERS = frozenset({*_SINGLE, "cond", "while"})


def bodies_of(equation: Any) -> list[jax.extend.core.ClosedJaxpr]:
    """Returns the bodies of an equation of one of ``CARRIERS``."""
    name, params = equation.primitive.name, equation.params
    if name == "cond":
        return list(params["branches"])
    if name == "while":
        return [params["cond_jaxpr"], params["body_jaxpr"]]
    body = params[_SINGLE[name]]
    return [body if hasattr(body, "consts") else jax.extend.core.ClosedJaxpr(body, [])]


def with_operands(
    equation: Any,
    operands: Sequence[Any],
    bodies: Sequence[jax.extend.core.ClosedJaxpr],
    added: Sequence[Sequence[Any]],
) -> tuple[Any, list[Any]]:
    """Returns an equation whose bodies take further operands, and all of its operands.

    Args:
      equation: one of ``CARRIERS``.
      operands: of the equation.
      bodies: its bodies, each with its further inputs before the others.
      added: the further operands of each body.
    """
    name, params = equation.primitive.name, dict(equation.params)
    if name == "cond":
        every = list({id(atom): atom for atoms in added for atom in atoms}.values())
        pairs = zip(bodies, added, strict=True)
        params["branches"] = tuple(_with_inputs(body, atoms, every) for body, atoms in pairs)
        return equation.replace(params=params), [operands[0], *every, *operands[1:]]
    if name == "while":
        params["cond_jaxpr"], params["body_jaxpr"] = bodies
        start = params["cond_nconsts"]
        params["cond_nconsts"] += len(added[0])
        params["body_nconsts"] += len(added[1])
        taken = [*added[0], *operands[:start], *added[1], *operands[start:]]
        return equation.replace(params=params), taken
    (body,), (atoms,) = bodies, added
    is_closed = hasattr(params[_SINGLE[name]], "consts")
    params[_SINGLE[name]] = body if is_closed else body.jaxpr
    if "num_consts" in params:
        params["num_consts"] += len(atoms)
    if "linear" in params:
        params["linear"] = (*[False] * len(atoms), *params["linear"])
    return equation.replace(params=params), [*atoms, *operands]


def _with_inputs(
    body: jax.extend.core.ClosedJaxpr, atoms: Sequence[Any], every: Sequence[Any]
) -> jax.extend.core.ClosedJaxpr:
    """Returns a branch that takes the operands of all branches, in their order."""
    own = dict(zip(map(id, atoms), body.jaxpr.invars, strict=False))
    inputs = [own.get(id(atom)) or jax.extend.core.Var(atom.aval) for atom in every]
    jaxpr = body.jaxpr.replace(
        invars=[*inputs, *body.jaxpr.invars[len(atoms) :]],
        debug_info=body.jaxpr.debug_info.with_unknown_names(),
    )
    return jax.extend.core.ClosedJaxpr(jaxpr, body.consts)
