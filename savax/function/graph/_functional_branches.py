"""Branches of version 1 graphs (Switch and Merge), written as If nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from savax.errors import ResourceLimitError
from savax.function._op_schemas import is_known_op, op_schema
from savax.function.graph._frames import (
    MAX_NESTING,
    Frame,
    forward_inputs,
    forward_order,
    is_loop_merge,
    source,
)
from savax.function.graph._tensor_names import canonical_tensor, split_tensor
from savax.protos import FunctionRef, NodeDef, encode_attr, encode_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.function.graph._functional import FunctionalGraph


class _Condition(NamedTuple):
    """What decides between two branches.

    Attributes:
      predicate: the tensor.
      scope: of the names of the nodes that were made with the branches, as TensorFlow makes them;
        two conditions with one predicate differ in it.
    """

    predicate: str
    scope: str


# Conditions that a node runs under, each with the branch.
Guards: TypeAlias = "frozenset[tuple[_Condition, bool]]"

_NONE: Guards = frozenset()

# Ops without effects, though they are registered as stateful.
_PURE = frozenset({"ReadVariableOp", "VarHandleOp"})
_INT32 = 3  # DataType


def write_branches(graph: FunctionalGraph, frame: Frame) -> None:
    """Replaces the Merges of branches in a loop, or outside of all, by If nodes.

    Those that aren't built as TensorFlow builds branches stay.

    Args:
      graph: the graph, whose nodes are changed.
      frame: the loop.
    """
    branches = _Branches(graph, frame)
    for condition, merges, pushes in branches.groups():
        made = _If(branches, condition, merges, pushes)
        if not made.has_effects_of_others():
            made.write()
    branches.wait_for_effects()


class _Branches:
    """The Merges of branches, and what each node is guarded by."""

    def __init__(self, graph: FunctionalGraph, frame: Frame) -> None:
        self.graph = graph
        self.frame = frame
        self._guards: dict[str, Guards] = {}
        self._levels: dict[str, int] = {}  # how many Merges a node comes after
        self._groups: dict[tuple[_Condition, Guards, int], list[str]] = {}
        self._owners: dict[str, _If] = {}
        self.index_readers: dict[str, list[NodeDef]] = {}
        for name in forward_order(graph.nodes, graph.members(frame)):
            self._visit(name)

    def groups(self) -> list[tuple[_Condition, list[str], list[str]]]:
        """Returns the Merges that become one If each, those inside of others first.

        With them, what the branches push onto stacks for a derivative; of several Ifs of one
        condition, the last one does so.
        """
        ordered = sorted(self._groups.items(), key=lambda item: max(map(self._level, item[1])))
        last = {(condition, common): merges for (condition, common, _), merges in ordered}
        pushes: dict[tuple[_Condition, Guards], list[str]] = {}
        for name in self._guards:
            if self.graph.nodes[name].op == "StackPushV2":
                for condition, branch in self._guards[name]:
                    common = self._guards[name] - {(condition, branch)}
                    pushes.setdefault((condition, common), []).append(name)
        return [
            (key[0], merges, pushes.get(key[:2], []) if last[key[:2]] is merges else [])
            for key, merges in ordered
        ]

    def wait_for_effects(self) -> None:
        """Makes the triggers that wait for nodes of branches wait for the Ifs that have them."""
        nodes = self.graph.nodes
        for name in self.graph.members(self.frame):
            if nodes[name].op != "ControlTrigger":
                continue
            waits = [self._waits_for(source(tensor)) for tensor in nodes[name].input]
            nodes[name].ClearField("input")
            nodes[name].input.extend(dict.fromkeys(f"^{other}" for other in waits if other))

    def _waits_for(self, name: str) -> str | None:
        """Returns the If outside of all branches that has a node; None if there is none."""
        while self._guards.get(name):
            owner = self._owners.get(name)
            if owner is None or not owner.name:
                return None
            name = owner.name
        return name

    def _level(self, name: str) -> int:
        return self._levels[name]

    def _visit(self, name: str) -> None:
        nodes = self.graph.nodes
        node = nodes[name]
        inputs = forward_inputs(node, nodes)
        each = [self.guards(tensor) for tensor in inputs]
        level = max((self._levels.get(source(tensor), 0) for tensor in inputs), default=0)
        for tensor in inputs:
            if tensor.endswith(":1") and nodes[source(tensor)].op == "Merge":
                self.index_readers.setdefault(tensor, []).append(node)
        if node.op != "Merge" or is_loop_merge(node, nodes):
            # A trigger runs whichever branch what it waits for is in.
            self._guards[name] = _NONE if node.op == "ControlTrigger" else _NONE.union(*each)
            self._levels[name] = level
            if len(self._guards[name]) > MAX_NESTING:
                raise ResourceLimitError(
                    f"The graph nests more than {MAX_NESTING} branches at {name!r}."
                )
            return
        common = each[0].intersection(*each[1:]) if each else _NONE
        self._guards[name] = common
        self._levels[name] = level + 1
        condition = self._deciding(node)
        if condition is not None:
            # The results of one condition are in its scope, and none of them comes after another.
            # Merges elsewhere, such as those of derivatives, may.
            is_result = condition.scope and condition.scope == name.rpartition("/")[0]
            place = -1 if is_result else level
            self._groups.setdefault((condition, common, place), []).append(name)

    def guards(self, tensor: str) -> Guards:
        """Returns what a tensor or control input is guarded by."""
        found = self._guards.get(source(tensor), _NONE)
        branch = self.switched(tensor)
        return found if branch is None else found | {branch}

    def switched(self, tensor: str) -> tuple[_Condition, bool] | None:
        """Returns the condition and branch that an output of a Switch adds."""
        if tensor.startswith("^"):
            return None
        nodes = self.graph.nodes
        name, index = split_tensor(canonical_tensor(tensor))
        node = nodes.get(name)
        if node is None or node.op != "Switch":
            return None
        decides = source(node.input[1])
        if decides in nodes and nodes[decides].op == "LoopCond":
            return None
        predicate = self._root(node.input[1])
        # TensorFlow makes a Switch of the predicate itself, and an Identity of it for the others.
        pivot = canonical_tensor(node.input[0]) == canonical_tensor(node.input[1])
        scope = (name if pivot else decides).rpartition("/")[0]
        return _Condition(predicate, scope), index == 1

    def _root(self, tensor: str) -> str:
        """Returns the tensor that Identities pass on."""
        tensor = canonical_tensor(tensor)
        seen = {tensor}
        node = self.graph.nodes.get(source(tensor))
        while node is not None and node.op == "Identity":
            tensor = canonical_tensor(node.input[0])
            if tensor in seen:
                break
            seen.add(tensor)
            node = self.graph.nodes.get(source(tensor))
        return tensor

    def _deciding(self, merge: NodeDef) -> _Condition | None:
        """Returns the condition whose two branches a Merge joins, None if there is no such one."""
        data = [t for t in merge.input if not t.startswith("^")]
        if len(data) != 2:
            return None
        first, second = (self.guards(tensor) for tensor in data)
        found = [c for c, branch in first - second if (c, not branch) in second]
        return found[0] if len(found) == 1 else None

    def is_inside(self, name: str, condition: _Condition, branch: bool) -> bool:
        """Whether a node runs only in a branch."""
        return (condition, branch) in self._guards.get(name, _NONE)

    def claim(self, name: str, owner: _If) -> bool:
        """Makes a node part of an If; False if it has effects and is part of another one."""
        op = self.graph.nodes[name].op
        if op in _PURE or not (is_known_op(op) and op_schema(op).is_stateful):
            return True
        return self._owners.setdefault(name, owner) is owner

    def add(self, node: NodeDef, like: str) -> None:
        """Adds a node that is guarded like another one."""
        self._guards[node.name] = self._guards[like]
        self.graph.add(node, self.frame)


class _If:
    """Merges of one condition on their way to become an If."""

    def __init__(
        self,
        branches: _Branches,
        condition: _Condition,
        merges: Sequence[str],
        pushes: Sequence[str],
    ) -> None:
        self.name = ""
        self._branches = branches
        self._graph = branches.graph
        self._condition = condition
        self._merges = merges
        self._sides = [_Side(branches, condition, branch) for branch in (False, True)]
        for name in merges:
            for index, tensor in enumerate(self._graph.nodes[name].input):
                if not tensor.startswith("^"):
                    taken = (condition, True) in branches.guards(tensor)
                    self._sides[taken].fetch(tensor, self._value_index(name, index))
        for name in pushes:
            self._sides[branches.is_inside(name, condition, True)].run(name)

    def has_effects_of_others(self) -> bool:
        """Whether nodes with effects would run here, and in another If too."""
        inside = [name for side in self._sides for name in sorted(side.nodes)]
        claims = [self._branches.claim(name, self) for name in inside]
        return not all(claims)

    def write(self) -> None:
        """Writes the If, and nodes that have its results in the places of the Merges."""
        nodes, sides = self._graph.nodes, self._sides
        passed = {**sides[0].passed, **sides[1].passed}
        functions = [
            self._graph.write_function(
                f"{self._merges[0]}_{len(self._merges)}_{str(side.branch).lower()}",
                list(passed),
                side.fetches,
                frozenset(side.dropped),
                side.targets,
            )
            for side in sides
        ]
        self.name = self._graph.free_name(f"{self._merges[0]}/If")
        node = NodeDef(name=self.name, op="If")
        node.input.extend([self._condition.predicate, *passed.values()])
        node.input.extend(f"^{name}" for name in {**sides[0].controls, **sides[1].controls})
        types = [nodes[name].attr["T"].type for name in self._merges]
        node.attr["Tcond"].CopyFrom(encode_attr("bool", "type"))
        node.attr["Tin"].list.type.extend(self._graph.dtype(t).number for t in passed)
        node.attr["Tout"].list.type.extend(number for t in types for number in (t, _INT32))
        for attr, function in zip(("else_branch", "then_branch"), functions, strict=True):
            node.attr[attr].CopyFrom(encode_attr(FunctionRef(function), "func"))
        self._branches.add(node, self._merges[0])
        for index, (name, number) in enumerate(zip(self._merges, types, strict=True)):
            self._replace(name, f"{node.name}:{2 * index}", number, f"{node.name}:{2 * index + 1}")

    def _value_index(self, merge: str, index: int) -> str:
        """Returns a constant with the position of a Merge's input."""
        node = NodeDef(name=self._graph.free_name(f"{merge}/value_index_{index}"), op="Const")
        node.attr["dtype"].type = _INT32
        node.attr["value"].tensor.CopyFrom(encode_tensor(index, "int32"))
        self._graph.add(node, self._branches.frame)
        return f"{node.name}:0"

    def _replace(self, merge: str, value: str, number: int, value_index: str) -> None:
        result = NodeDef(name=merge, op="Identity", input=[value])
        result.attr["T"].type = number
        self._graph.add(result, self._branches.frame)
        self._graph.values[f"{merge}:1"] = value_index
        for node in self._branches.index_readers.get(f"{merge}:1", ()):
            for position, tensor in enumerate(node.input):
                if tensor == f"{merge}:1":
                    node.input[position] = value_index


class _Side:
    """One branch: what it takes from outside, and what it gives.

    Attributes:
      branch: the value of the predicate that it is for.
      fetches: the tensors that it gives.
      targets: the nodes that it runs for their effects.
      passed: tensors inside it that stand for tensors outside.
      controls: nodes outside that nodes inside wait for.
      dropped: the control inputs that say so.
      nodes: what runs inside it.
    """

    def __init__(self, branches: _Branches, condition: _Condition, branch: bool) -> None:
        self._branches = branches
        self._graph: Mapping[str, NodeDef] = branches.graph.nodes
        self._condition = condition
        self.branch = branch
        self.fetches: list[str] = []
        self.targets: list[str] = []
        self.passed: dict[str, str] = {}
        self.controls: dict[str, None] = {}
        self.dropped: set[str] = set()
        self.nodes: set[str] = set()

    def fetch(self, tensor: str, value_index: str) -> None:
        """Adds a result and its position among the Merge's inputs."""
        self.fetches += [canonical_tensor(tensor), value_index]
        self._add(tensor)

    def run(self, name: str) -> None:
        """Adds a node that runs for its effect."""
        self.targets.append(name)
        self._add(f"^{name}")

    def _add(self, tensor: str) -> None:
        pending = [tensor]
        while pending:
            pending += self._inputs(pending.pop())

    def _inputs(self, tensor: str) -> Sequence[str]:
        """Returns what a tensor inside the branch needs, if it isn't passed into it."""
        name = source(tensor)
        inside = self._branches.is_inside(name, self._condition, self.branch)
        if tensor.startswith("^"):
            if not inside:
                self.dropped.add(name)
                switched = self._branches.switched(f"{name}:0")
                # Who waits for a Switch waits for what it passes on.
                self.controls[source(self._graph[name].input[0]) if switched else name] = None
                return ()
        elif self._branches.switched(tensor) == (self._condition, self.branch):
            outside = canonical_tensor(self._graph[name].input[0])
            self.passed[canonical_tensor(tensor)] = outside
            return ()
        elif not inside:
            if self._graph[name].op != "Const" or self._graph[name].input:
                self.passed[canonical_tensor(tensor)] = canonical_tensor(tensor)
            return ()
        if name in self.nodes:
            return ()
        self.nodes.add(name)
        return list(self._graph[name].input)
