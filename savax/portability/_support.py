"""Which ops each consumer runs, for which dtypes, and the way around where it doesn't.

The data is support.json, which ``tools/portability/measure.py`` writes: models of one op each were
converted and run, and the results compared with TensorFlow's. A dtype is listed if all results
were right, those of repeated indices and of numbers at the ends of the type's range included.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from savax.portability._advice import way_around
from savax.portability._conditions import CONDITIONS, NodeView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# An op that passes values on, or calls functions, does it for every dtype.
ANY_DTYPE = "any"

# Attributes with the types of indices, sizes and axes; consumers take both integer types there.
_INDEX_ATTRS = frozenset(
    (
        *("Tidx", "Tindices", "Tshape", "Tdim", "Tpaddings", "Tperm", "Tmultiples", "Tlen"),
        *("Tindex", "TI", "Taxis", "Tsplits", "Tsegmentids", "Tnumsegments", "Index", "shape_type"),
        *("index_type", "out_type", "output_type", "TIndex", "Tsize", "out_idx", "Tnumels"),
        *("Tin", "Tout_types", "Tcond", "Tkeys"),
    )
)


class Refusal(NamedTuple):
    """An op that a consumer doesn't run.

    Attributes:
      consumer: its name among ``CONSUMERS``.
      op: the op's name.
      dtypes: the dtypes that it has in the node, sorted.
      advice: the way around.
    """

    consumer: str
    op: str
    dtypes: tuple[str, ...]
    advice: str


class TargetProblems:
    """Ops that consumers don't run, by where they come from; equal ones of consumers are one."""

    def __init__(self) -> None:
        self._consumers: dict[tuple[str, str, tuple[str, ...], str], dict[str, None]] = {}

    def add(self, origin: str, refusal: Refusal) -> None:
        """Adds an op that comes from a line or node."""
        key = origin, refusal.op, refusal.dtypes, refusal.advice
        self._consumers.setdefault(key, {})[refusal.consumer] = None

    def update(self, other: TargetProblems) -> None:
        """Adds those of another."""
        for key, consumers in other._consumers.items():
            self._consumers.setdefault(key, {}).update(consumers)

    def __iter__(self) -> Iterator[str]:
        """Yields a line for each."""
        for (origin, op, dtypes, advice), names in self._consumers.items():
            types = f" of {' and '.join(dtypes)}" if dtypes else ""
            verb = "doesn't" if len(names) == 1 else "don't"
            yield f"{origin}: {', '.join(names)} {verb} run {op}{types}; {advice}."


class SupportTable(NamedTuple):
    """What was measured.

    Attributes:
      versions: the consumers' versions.
      ops: for each op and consumer the dtypes that it runs.
    """

    versions: Mapping[str, str]
    ops: Mapping[str, Mapping[str, frozenset[str]]]


@functools.cache
def support_table() -> SupportTable:
    """Returns what was measured."""
    data = json.loads(Path(__file__).with_name("support.json").read_text())
    ops = {
        op: {consumer: frozenset(dtypes.split()) for consumer, dtypes in row.items()}
        for op, row in data["ops"].items()
    }
    return SupportTable(data["versions"], ops)


def value_dtypes(types: Mapping[str, str]) -> frozenset[str]:
    """Returns the dtypes that a node computes with.

    Args:
      types: its attributes that are types: names of dtypes by name of the attribute.
    """
    return frozenset(dtype for name, dtype in types.items() if name not in _INDEX_ATTRS)


def refusals(node: NodeView, consumers: Iterable[str]) -> list[Refusal]:
    """Returns which consumers don't run a node, and the ways around."""
    found = []
    wanted = tuple(sorted(node.dtypes))
    for consumer in consumers:
        supported = support_table().ops.get(node.op, {}).get(consumer, frozenset())
        condition = CONDITIONS.get((consumer, node.op))
        missing = not supported or not (ANY_DTYPE in supported or node.dtypes <= supported)
        if missing:
            advice = way_around(node.op, wanted, supported)
        elif condition is not None and not condition.is_met(node):
            advice = condition.advice
        else:
            continue
        found.append(Refusal(consumer, node.op, wanted, advice))
    return found
