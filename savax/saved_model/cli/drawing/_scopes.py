"""Groups of operations: by the scopes of their names, else by parts of the graph."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from savax.saved_model.cli.drawing._operations import INPUT, OUTPUT
from savax.saved_model.cli.drawing._rows import topological_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.saved_model.cli.drawing._operations import Operation

_MOST_DEPTH = 12  # of scopes; what is deeper stays in the labels
_MOST_WORDS = 3  # of a name, one after the other, that make groups
_MANY = 16  # members of a group that are grouped by the words of their names
_TOO_MANY = 48  # members of a group that are divided into parts
_SMALLEST_PART, _LARGEST_PART = 12, 36
_FEWEST_OF_A_WORD = 3


@dataclasses.dataclass
class Leaf:
    """An operation in a group.

    Attributes:
      label: its name, without that of the group.
      index: of the operation.
    """

    label: str
    index: int


@dataclasses.dataclass
class Scope:
    """A group: its label, without that of the group around it, and what is in it."""

    label: str
    members: list[Leaf | Scope]


def group_operations(operations: Sequence[Operation]) -> Scope:
    """Returns operations in groups by the scopes of their names, few enough to look at."""
    root = Scope("", [])
    scopes: dict[tuple[str, ...], Scope] = {(): root}
    for index, operation in enumerate(operations):
        if operation.op in (INPUT, OUTPUT):
            root.members.append(Leaf(operation.name, index))
            continue
        *path, label = operation.name.split("/", _MOST_DEPTH)
        for depth in range(len(path)):
            key = tuple(path[: depth + 1])
            if key not in scopes:
                scopes[key] = Scope(path[depth], [])
                scopes[key[:-1]].members.append(scopes[key])
        scopes[tuple(path)].members.append(Leaf(label, index))
    for key in sorted(scopes, key=len, reverse=True):
        scope = scopes[key]
        scope.members = [_flat(member) for member in scope.members]
        _divide(scope, operations)
    return root


def members_below(scope: Scope) -> list[int]:
    """Returns the operations in a group and in the groups within."""
    found: list[int] = []
    pending: list[Leaf | Scope] = [scope]
    while pending:
        member = pending.pop()
        if isinstance(member, Scope):
            pending += member.members
        else:
            found.append(member.index)
    return found


def _flat(member: Leaf | Scope) -> Leaf | Scope:
    """Returns what a group holds if it is only one thing, under the labels of both."""
    if isinstance(member, Leaf) or len(member.members) != 1:
        return member
    (only,) = member.members
    only.label = f"{member.label}/{only.label}"
    return only


def _divide(scope: Scope, operations: Sequence[Operation]) -> None:
    """Divides a group of too many members."""
    if len(scope.members) > _MANY:
        _group_by_words(scope, "", 1, operations)
    if len(scope.members) > _TOO_MANY:
        _cut_into_parts(scope, operations)


def _member_graph(
    members: Sequence[Leaf | Scope], operations: Sequence[Operation]
) -> dict[int, list[int]]:
    """Returns for each member, by position, those that take its results."""
    member_of = {
        operation: position
        for position, member in enumerate(members)
        for operation in ([member.index] if isinstance(member, Leaf) else members_below(member))
    }
    targets: dict[int, dict[int, None]] = defaultdict(dict)
    for operation, target in member_of.items():
        for source in operations[operation].sources:
            if member_of.get(source, target) != target:
                targets[member_of[source]][target] = None
    return {a: list(bs) for a, bs in targets.items()}


def _group_by_words(
    scope: Scope,
    prefix: str,
    depth: int,
    operations: Sequence[Operation],
) -> None:
    """Groups members whose names go on after a prefix with the same word, as ``conv2_block1_``.

    Words that are an operation's name with numbers, as in ``MatMul_1``, say nothing.
    """
    labels = [member.label for member in scope.members]
    words: dict[str, list[int]] = defaultdict(list)
    for position, member in enumerate(scope.members):
        if isinstance(member, Scope) or operations[member.index].op not in (INPUT, OUTPUT):
            word = labels[position].removeprefix(prefix).partition("_")[0]
            words[prefix + word].append(position)
    groups = {
        word: positions
        for word, positions in words.items()
        if _FEWEST_OF_A_WORD <= len(positions) < len(scope.members) - 1
        and not all(re.fullmatch(rf"{re.escape(word)}(_\d+)?", labels[p]) for p in positions)
    }
    group_of = {p: word for word, positions in groups.items() for p in positions}
    targets = _member_graph(scope.members, operations)
    for word in _on_cycles(group_of, len(scope.members), targets):
        for position in groups[word]:
            del group_of[position]
    made: dict[str, Scope] = {}
    members: list[Leaf | Scope] = []
    for position, member in enumerate(scope.members):
        word = group_of.get(position, "")
        if not word:
            members.append(member)
        elif word in made:
            made[word].members.append(member)
        else:
            made[word] = Scope(word, [member])
            members.append(made[word])
    scope.members = members
    for group in made.values():
        if len(group.members) > _MANY // 2 and depth < _MOST_WORDS:
            _group_by_words(group, f"{group.label}_", depth + 1, operations)
        if len(group.members) > _TOO_MANY:
            _cut_into_parts(group, operations)


def _on_cycles(
    group_of: Mapping[int, str], count: int, targets: Mapping[int, Sequence[int]]
) -> set[str]:
    """Returns the groups that would be in a cycle, as something between their members isn't."""
    number: dict[str, int] = {}
    merged = [
        number.setdefault(group_of[p], count + len(number)) if p in group_of else p
        for p in range(count)
    ]
    missing: dict[int, int] = defaultdict(int)
    following: dict[int, set[int]] = defaultdict(set)
    for a, bs in targets.items():
        for b in bs:
            if merged[a] != merged[b] and merged[b] not in following[merged[a]]:
                following[merged[a]].add(merged[b])
                missing[merged[b]] += 1
    waiting = [node for node in set(merged) if not missing[node]]
    left = set(merged)
    while waiting:
        node = waiting.pop()
        left.discard(node)
        for target in following[node]:
            missing[target] -= 1
            if not missing[target]:
                waiting.append(target)
    return {word for word, node in number.items() if node in left}


def _cut_into_parts(scope: Scope, operations: Sequence[Operation]) -> None:
    """Makes groups of members that follow each other, cut where few edges are."""
    members = scope.members
    ends = {
        position: member
        for position, member in enumerate(members)
        if isinstance(member, Leaf) and operations[member.index].op in (INPUT, OUTPUT)
    }
    if len(ends) > _TOO_MANY // 2:
        ends = {}
    targets = _member_graph(members, operations)
    order = [p for p in topological_order(len(members), targets) if p not in ends]
    crossing = _crossing_edges(order, targets)
    parts: list[Leaf | Scope] = []
    start = 0
    while start < len(order):
        latest = min(start + _LARGEST_PART, len(order) - _SMALLEST_PART)
        stops = range(start + _SMALLEST_PART, latest + 1)
        stop = min(stops, key=lambda i: (crossing[i], -i), default=len(order))
        if len(order) - start <= _LARGEST_PART:
            stop = len(order)
        parts.append(Scope("", [members[p] for p in order[start:stop]]))
        start = stop
    while len(parts) > _TOO_MANY:
        parts = [
            Scope("", parts[i : i + _LARGEST_PART]) for i in range(0, len(parts), _LARGEST_PART)
        ]
    _number(parts)
    scope.members = [*ends.values(), *parts]


def _crossing_edges(order: Sequence[int], targets: Mapping[int, Sequence[int]]) -> list[int]:
    """Returns how many edges cross the gap before each place of an order."""
    place = {p: i for i, p in enumerate(order)}
    change = [0] * (len(order) + 2)
    for a, bs in targets.items():
        for b in bs:
            if a in place and b in place:
                low, high = sorted((place[a], place[b]))
                change[low + 1] += 1
                change[high + 1] -= 1
    return list(itertools.accumulate(change))


def _number(parts: Sequence[Leaf | Scope]) -> None:
    """Labels parts, and the parts of which they are made."""
    pending = [[part for part in parts if isinstance(part, Scope)]]
    while pending:
        siblings = pending.pop()
        for i, part in enumerate(siblings):
            part.label = f"part {i + 1} of {len(siblings)}"
            pending.append([m for m in part.members if isinstance(m, Scope) and not m.label])
