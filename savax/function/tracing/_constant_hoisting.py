"""Large constants inside the calls and loops of a jaxpr come out of them, to be captured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.extend.core
import numpy as np

from savax.function._arrays import is_tracer
from savax.function.tracing._inner_constants import CARRIERS, bodies_of, with_operands

if TYPE_CHECKING:
    from collections.abc import Sequence

# Larger arrays would blow up the graph, whose size is limited to 2 GiB; as captures they are
# written once, however many functions use them.
LARGEST_CONSTANT_BYTES = 64 * 1024

_JIT_NAMES = ("jit", "pjit")

IsCaptured = Callable[[Any], bool]


def is_large(const: Any) -> bool:
    """Whether a constant of a jaxpr shall be a capture."""
    if is_tracer(const) or np.dtype(const.dtype).kind in "OT":
        return False
    return num_bytes(const) > LARGEST_CONSTANT_BYTES


def num_bytes(const: Any) -> int:
    """Returns the size of an array; some of JAX's own kinds don't know it."""
    return int(math.prod(const.shape) * np.dtype(const.dtype).itemsize)


def hoist_constants(
    closed: jax.extend.core.ClosedJaxpr, is_captured: IsCaptured = is_large
) -> jax.extend.core.ClosedJaxpr:
    """Returns a jaxpr in which calls, loops and branches have no large constants of their own.

    JAX gives the bodies of loops and branches their constants as operands, but keeps those of a
    ``jit`` inside it. Such a call is replaced by the equations of its body. Loops, branches and
    others around it get the constants as further operands.

    Args:
      closed: the jaxpr.
      is_captured: whether a constant counts as large.
    """
    return _Hoisting(is_captured).hoisted(closed)


class _Hoisting:
    """Moves constants out of jaxprs of one kind after another, each jaxpr once."""

    def __init__(self, is_captured: IsCaptured) -> None:
        self._is_captured = is_captured
        self._opened: dict[int, tuple[Any, Any, list[Any]]] = {}

    def hoisted(self, closed: jax.extend.core.ClosedJaxpr) -> jax.extend.core.ClosedJaxpr:
        """Returns a jaxpr whose large constants are its own."""
        if not any(map(self.has_large, closed.jaxpr.eqns)):
            return closed
        inlining = _Inlining(closed, self)
        names: dict[Any, Any] = {}
        equations = inlining.equations_of(closed.jaxpr, names, is_outermost=True)
        jaxpr = closed.jaxpr.replace(
            eqns=equations,
            constvars=[*closed.jaxpr.constvars, *inlining.constvars],
            outvars=[_renamed(atom, names) for atom in closed.jaxpr.outvars],
        )
        return jax.extend.core.ClosedJaxpr(jaxpr, [*closed.consts, *inlining.consts])

    def has_large(self, equation: Any) -> bool:
        """Whether an equation has large constants inside that can come out of it."""
        if equation.primitive.name in _JIT_NAMES:
            body = equation.params["jaxpr"]
            if any(map(self._is_captured, body.consts)):
                return True
            return any(map(self.has_large, body.jaxpr.eqns))
        # An effect on a Ref names it by its position among the operands.
        if equation.primitive.name not in CARRIERS or equation.effects:
            return False
        return any(any(map(self.has_large, body.jaxpr.eqns)) for body in bodies_of(equation))

    def opened(self, body: jax.extend.core.ClosedJaxpr) -> tuple[Any, list[Any]]:
        """Returns a jaxpr with its large constants as its first inputs, and these constants."""
        if id(body.jaxpr) not in self._opened:
            whole = self.hoisted(body)
            pairs = list(zip(whole.jaxpr.constvars, whole.consts, strict=True))
            large = {var: const for var, const in pairs if self._is_captured(const)}
            small = [(var, const) for var, const in pairs if var not in large]
            jaxpr = whole.jaxpr.replace(
                constvars=[var for var, _ in small],
                invars=[*large, *whole.jaxpr.invars],
                debug_info=whole.jaxpr.debug_info.with_unknown_names(),
            )
            new = jax.extend.core.ClosedJaxpr(jaxpr, [const for _, const in small])
            # The jaxpr is kept, as its id is a key.
            self._opened[id(body.jaxpr)] = (body.jaxpr, new, list(large.values()))
        return self._opened[id(body.jaxpr)][1:]


class _Inlining:
    """Copies equations, and collects the constants that they bring.

    Args:
      closed: the outermost jaxpr.
      hoisting: knows what is large.
    """

    def __init__(self, closed: jax.extend.core.ClosedJaxpr, hoisting: _Hoisting) -> None:
        self.constvars: list[Any] = []
        self.consts: list[Any] = []
        self._hoisting = hoisting
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
            if self._hoisting.has_large(equation):
                if equation.primitive.name in _JIT_NAMES:
                    equations += self._inlined(equation, operands, names)
                    continue
                equation, operands = self._with_operands(equation, operands)
            if not is_outermost:
                names.update((v, jax.extend.core.Var(v.aval)) for v in equation.outvars)
            results = [_renamed(v, names) for v in equation.outvars]
            equations.append(equation.replace(invars=operands, outvars=results))
        return equations

    def _with_operands(self, equation: Any, operands: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Returns an equation that takes the constants inside it as operands, and all operands."""
        opened = [self._hoisting.opened(body) for body in bodies_of(equation)]
        added = [
            [
                self._constvar(variable, const)
                for variable, const in zip(body.jaxpr.invars, consts, strict=False)
            ]
            for body, consts in opened
        ]
        return with_operands(equation, operands, [body for body, _ in opened], added)

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
