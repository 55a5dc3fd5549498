"""Large constants inside ``jit`` calls of a jaxpr come out of them, to be captured."""

from __future__ import annotations

import math
from typing import Any

import jax.extend.core
import numpy as np

from savax.function._arrays import is_tracer

# Larger arrays would blow up the graph, whose size is limited to 2 GiB; as captures they are
# written once, however many functions use them.
LARGEST_CONSTANT_BYTES = 64 * 1024

_JIT_NAMES = ("jit", "pjit")


def is_large(const: Any) -> bool:
    """Whether a constant of a jaxpr shall be a capture."""
    if is_tracer(const) or np.dtype(const.dtype).kind in "OT":
        return False
    return bool(math.prod(const.shape) * np.dtype(const.dtype).itemsize > LARGEST_CONSTANT_BYTES)


def hoist_constants(closed: jax.extend.core.ClosedJaxpr) -> jax.extend.core.ClosedJaxpr:
    """Returns a jaxpr in which no call of ``jit`` has a large constant of its own.

    JAX gives the bodies of loops and branches their constants as operands, but keeps those of a
    ``jit`` inside it. Such a call is replaced by the equations of its body.
    """
    if not any(_has_large(equation) for equation in closed.jaxpr.eqns):
        return closed
    inlining = _Inlining(closed)
    names: dict[Any, Any] = {}
    equations = inlining.equations_of(closed.jaxpr, names, is_outermost=True)
    jaxpr = closed.jaxpr.replace(
        eqns=equations,
        constvars=[*closed.jaxpr.constvars, *inlining.constvars],
        outvars=[_renamed(atom, names) for atom in closed.jaxpr.outvars],
    )
    return jax.extend.core.ClosedJaxpr(jaxpr, [*closed.consts, *inlining.consts])


def _has_large(equation: Any) -> bool:
    if equation.primitive.name not in _JIT_NAMES:
        return False
    body = equation.params["jaxpr"]
    return any(map(is_large, body.consts)) or any(map(_has_large, body.jaxpr.eqns))


class _Inlining:
    """Copies equations, and collects the constants that they bring.

    Args:
      closed: the outermost jaxpr.
    """

    def __init__(self, closed: jax.extend.core.ClosedJaxpr) -> None:
        self.constvars: list[Any] = []
        self.consts: list[Any] = []
        self._by_const: dict[int, Any] = dict(
            zip(map(id, closed.consts), closed.jaxpr.constvars, strict=True)
        )

    def equations_of(
        self, jaxpr: Any, names: dict[Any, Any], *, is_outermost: bool = False
    ) -> list[Any]:
        """Returns the equations of a jaxpr with its calls inlined.

        Args:
          jaxpr: the jaxpr.
          names: variable -> what stands for it; more are added.
          is_outermost: whether variables that need no other name keep theirs. Those of a body
            get new ones, as it may be inlined several times.
        """
        equations = []
        for equation in jaxpr.eqns:
            operands = [_renamed(atom, names) for atom in equation.invars]
            if _has_large(equation):
                equations += self._inlined(equation, operands, names)
                continue
            if not is_outermost:
                names.update((v, jax.extend.core.Var(v.aval)) for v in equation.outvars)
            results = [_renamed(v, names) for v in equation.outvars]
            equations.append(equation.replace(invars=operands, outvars=results))
        return equations

    def _inlined(self, equation: Any, operands: list[Any], outer: dict[Any, Any]) -> list[Any]:
        body = equation.params["jaxpr"]
        names = dict(zip(body.jaxpr.invars, operands, strict=True))
        for variable, const in zip(body.jaxpr.constvars, body.consts, strict=True):
            names[variable] = self._constvar(variable, const)
        equations = self.equations_of(body.jaxpr, names)
        for result, atom in zip(equation.outvars, body.jaxpr.outvars, strict=True):
            outer[result] = _renamed(atom, names)
        return equations

    def _constvar(self, variable: Any, const: Any) -> Any:
        if id(const) not in self._by_const:
            self._by_const[id(const)] = fresh = jax.extend.core.Var(variable.aval)
            self.constvars.append(fresh)
            self.consts.append(const)
        return self._by_const[id(const)]


def _renamed(atom: Any, names: dict[Any, Any]) -> Any:
    """Returns what stands for a variable, which may be a literal."""
    return atom if isinstance(atom, jax.extend.core.Literal) else names.get(atom, atom)
