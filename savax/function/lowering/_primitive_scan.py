"""A look at all equations of a jaxpr before it is lowered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jax.extend.core import Literal

from savax.errors import UnsupportedPrimitiveError
from savax.function._jax_names import jaxprs_in_params
from savax.function._source_lines import user_frame
from savax.function.ops.unsupported import REASONS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence


def live_equations(
    jaxpr: Any, read: Sequence[bool] | None = None
) -> list[tuple[Any, tuple[bool, ...]]]:
    """Returns the equations whose results or effects are needed, in order.

    Args:
      jaxpr: a Jaxpr.
      read: which of its results are read; all by default.

    Returns:
      Pairs of an equation and, for each of its results, whether it is read.
    """
    outvars = jaxpr.outvars
    needed = {
        atom
        for atom, is_read in zip(outvars, read or (True,) * len(outvars), strict=True)
        if is_read and not isinstance(atom, Literal)
    }
    live = []
    for equation in reversed(jaxpr.eqns):
        reads = tuple([var in needed for var in equation.outvars])
        if True in reads or equation.effects:
            needed.update([atom for atom in equation.invars if not isinstance(atom, Literal)])
            live.append((equation, reads))
    live.reverse()
    return live


@dataclass
class PrimitiveScan:
    """What is known about the equations of a jaxpr, sub-jaxprs included.

    Attributes:
      counts: how many equations each primitive has.
      first: the first equation of each primitive, then those that it is part of, outwards.
      calls: how many ``jit`` equations call each jaxpr, by identity of the closed jaxpr.
      sizes: number of equations of each jaxpr, its sub-jaxprs included, by identity.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    calls: Counter[int] = field(default_factory=Counter)
    sizes: dict[int, int] = field(default_factory=dict)

    def visit(self, jaxpr: Any, around: tuple[Any, ...] = ()) -> int:
        """Adds the equations of a Jaxpr inside other equations; returns their number."""
        known = self.sizes.get(id(jaxpr))
        if known is not None:
            return known
        size = 0
        for equation, _ in live_equations(jaxpr):
            name = equation.primitive.name
            self.counts[name] += 1
            self.first.setdefault(name, (equation, *around))
            size += 1
            if name in _CALLS:
                self.calls[id(equation.params["jaxpr"])] += 1
            if equation.params:
                for inner in jaxprs_in_params(equation.params):
                    size += self.visit(inner, (equation, *around))
        self.sizes[id(jaxpr)] = size
        return size


_CALLS = frozenset({"jit", "pjit"})


def check_primitives(
    jaxpr: Any, function: str, lowered: Container[str], *, allow_others: bool = False
) -> PrimitiveScan:
    """Scans a closed jaxpr.

    Args:
      jaxpr: the ClosedJaxpr.
      function: name of the function, for the message.
      lowered: names of the primitives that have a lowering.
      allow_others: whether others are accepted.

    Raises:
      UnsupportedPrimitiveError: it uses primitives that have none; all are listed.
    """
    scan = PrimitiveScan()
    scan.visit(jaxpr.jaxpr)
    missing = sorted(name for name in scan.counts if name not in lowered)
    if missing and not allow_others:
        lines = "".join(f"\n  {_describe(name, scan)}" for name in missing)
        count = "1 JAX primitive" if len(missing) == 1 else f"{len(missing)} JAX primitives"
        verb = "has" if len(missing) == 1 else "have"
        raise UnsupportedPrimitiveError(
            f"{count} in the function {function!r} {verb} no lowering to TensorFlow ops:{lines}"
        )
    return scan


def nearest_line(equations: Iterable[Any]) -> str:
    """Returns the user's line of the first equation that has one.

    Args:
      equations: an equation, then those that it is part of, outwards.
    """
    lines = [user_frame(equation) for equation in equations]
    return next((line for line in lines if line != "unknown line"), lines[0])


def _describe(name: str, scan: PrimitiveScan) -> str:
    count = scan.counts[name]
    uses = "1 use" if count == 1 else f"{count} uses, first"
    reason = REASONS.get(name, "")
    return f"{name} ({uses} at {nearest_line(scan.first[name])})" + (
        f": {reason}" if reason else ""
    )
