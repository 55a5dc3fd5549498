"""Programs of JAX as one list of steps, as they run on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax.extend.core
import numpy as np

from savax.function._jax_names import bind_params

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Where an equation that is a call of one program keeps it.
_CALLS = {
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "jit": "jaxpr",
    "pjit": "jaxpr",
}


@dataclass(frozen=True, eq=False, slots=True)
class Known:
    """A value that the program holds."""

    value: Any
    aval: Any


# What a step takes: the number of a value, or what is known.
Ref: TypeAlias = "int | Known"


class Step(NamedTuple):
    """A primitive and what it is applied to."""

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Ref, ...]
    outputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the primitive."""
        return str(self.primitive.name)

    def bind(self, operands: Sequence[Any], params: dict[str, Any] | None = None) -> list[Any]:
        """Returns the outputs for operands, with other parameters if any are given."""
        found = bind_params(self.primitive, params or self.params, *operands)
        return list(found) if self.primitive.multiple_results else [found]


class FlatProgram:
    """The steps of a program with its calls in place and the branches of CPUs chosen.

    Rules of differentiation are left out: only values can be computed.

    Args:
      closed: the program.

    Attributes:
      num_inputs: how many inputs there are.
      avals: shape and dtype of each value; the first ones are those of the inputs.
      steps: in running order.
      outputs: the results.
    """

    def __init__(self, closed: jax.extend.core.ClosedJaxpr) -> None:
        self.avals: list[Any] = []
        self.steps: list[Step] = []
        inputs = [self._added(variable) for variable in closed.jaxpr.invars]
        self.num_inputs = len(inputs)
        self.outputs = self._inline(closed, inputs)

    def aval(self, ref: Ref) -> Any:
        """Returns shape and dtype of a value."""
        return ref.aval if isinstance(ref, Known) else self.avals[ref]

    def _added(self, variable: Any) -> int:
        self.avals.append(variable.aval)
        return len(self.avals) - 1

    def _inline(self, closed: Any, inputs: Iterable[Ref]) -> list[Ref]:
        jaxpr = closed.jaxpr
        refs: dict[Any, Ref] = dict(zip(jaxpr.invars, inputs, strict=True))
        for variable, value in zip(jaxpr.constvars, closed.consts, strict=True):
            refs[variable] = Known(value, variable.aval)
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            operands = [_ref(refs, atom) for atom in equation.invars]
            if name == "platform_index":
                branch = _branch_of_cpus(equation.params["platforms"])
                results: list[Ref] = [Known(np.int32(branch), equation.outvars[0].aval)]
            elif name in _CALLS:
                results = self._inline(_closed(equation.params[_CALLS[name]]), operands)
            elif name == "cond" and isinstance(operands[0], Known):
                body = equation.params["branches"][int(operands[0].value)]
                results = self._inline(body, operands[1:])
            else:
                made = tuple(self._added(variable) for variable in equation.outvars)
                results = list(made)
                step = Step(equation.primitive, equation.params, tuple(operands), made)
                self.steps.append(step)
            refs.update(zip(equation.outvars, results, strict=True))
        return [_ref(refs, atom) for atom in jaxpr.outvars]


def _ref(refs: dict[Any, Ref], atom: Any) -> Ref:
    if isinstance(atom, jax.extend.core.Literal):
        return Known(atom.val, atom.aval)
    return refs[atom]


def _closed(body: Any) -> Any:
    return body if hasattr(body, "consts") else jax.extend.core.ClosedJaxpr(body, [])


def _branch_of_cpus(platforms: Sequence[Sequence[str] | None]) -> int:
    """Returns the position of the branch for CPUs; the default one has no platforms."""
    for i, names in enumerate(platforms):
        if names is None or "cpu" in names:
            return i
    raise ValueError(f"No branch for CPUs among those for {platforms}.")
