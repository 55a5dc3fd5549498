"""Plans: a graph's nodes in the order in which they run, decoded and checked once.

``PlanLibrary`` makes one plan for each function of a model when it is first called, with those of
all functions it refers to. ``_walk`` runs them.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from savax.errors import (
    CorruptSavedModelError,
    ResourceLimitError,
    UnsafePathError,
    UnsupportedOpError,
)
from savax.function.evaluation._effects import Effects, analyse, called_functions
from savax.function.evaluation._plan_building import (
    GraphBody,
    order_nodes,
)
from savax.function.evaluation._random_states import initial_words
from savax.function.evaluation._registered_gradients import RegisteredGradients
from savax.function.ops._registry import EVALUATIONS
from savax.function.ops.refused_ops import op_reason
from savax.trackable import Variable
from savax.types import contained_path

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from savax.function.evaluation._plan_nodes import PlanNode, UnsupportedNode
    from savax.protos import FunctionDef
    from savax.types import DType

# Each level of calls takes some frames of Python's stack (1000 by default) while a plan runs.
_MAX_CALL_DEPTH = 100

# Calls are run in place, so that calls inside calls can make many nodes of a small file.
_MAX_NODES = 10_000_000


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """A function, ready to run.

    Attributes:
      name: of the function.
      arg_names: of its arguments, whose slots are 0 to ``len(arg_names) - 1``.
      arg_dtypes: of its arguments.
      nodes: in the order in which they run.
      outputs: slots of the results.
      output_dtypes: of the results.
      num_slots: how many values the nodes produce, with the arguments.
      callees: names of the functions that the nodes refer to.
      effects: what the function does to its arguments.
      uses_64_bit: whether 64-bit values occur, here or in a callee.
      uses_tables: whether lookup tables are used, here or in a callee.
      uses_convolutions: whether images are convolved, here or in a callee.
      unsupported: nodes without an evaluation, here and in callees.
      depth: longest chain of calls, 1 without any.
      size: number of nodes, with those of callees.
    """

    name: str
    arg_names: tuple[str, ...]
    arg_dtypes: tuple[DType, ...]
    nodes: tuple[PlanNode, ...]
    outputs: tuple[int, ...]
    output_dtypes: tuple[DType, ...]
    num_slots: int
    callees: tuple[str, ...]
    effects: Effects
    uses_64_bit: bool
    uses_tables: bool
    uses_convolutions: bool
    unsupported: tuple[UnsupportedNode, ...]
    depth: int
    size: int

    @property
    def has_strings(self) -> bool:
        """Whether arguments or results are strings, which no array on a device can hold."""
        return any(d.name == "string" for d in (*self.arg_dtypes, *self.output_dtypes))

    @property
    def needs_host(self) -> bool:
        """Whether compiled code can't run it as a whole, whatever its arguments are."""
        return self.has_strings or self.uses_tables


class PlanLibrary:
    """The functions of one model and their plans; may be used from several threads.

    Args:
      functions: FunctionDefs by name. They must not change afterwards.
      assets: the folder whose files the functions may read; without one, they may read none.
      owner: what must live as long as that folder is read.

    Attributes:
      functions: FunctionDefs by name.
      gradients: the custom gradients of their nodes; set before the first plan is made.
      write_lock: held while a call reads, computes and writes back Variables.
    """

    def __init__(
        self,
        functions: Mapping[str, FunctionDef],
        assets: str | None = None,
        owner: object = None,
    ) -> None:
        self.functions = functions
        self.gradients = RegisteredGradients(functions)
        self._assets = assets
        self._owner = owner
        self._shared: dict[Hashable, Any] = {}
        self._seeds: dict[str, tuple[int, int]] = {}
        self._plans: dict[str, Plan] = {}
        self._lock = threading.Lock()
        self.write_lock = threading.RLock()

    def shared_object(self, name: Hashable, fresh: Any) -> Any:
        """Returns the object that the graphs share by a name; the given one if there is none.

        A graph's own names are strings; what savax keeps with a model has other keys.
        """
        with self._lock:
            return self._shared.setdefault(name, fresh)

    def random_variable(self, state: str, caller: str) -> Variable | None:
        """Returns what holds a random state of a node; None for another name.

        Args:
          state: its name.
          caller: the function that was called from outside; each has states of its own, also
            those of nodes in functions that several call.
        """
        seeds = self._seeds.get(state)
        if seeds is None:
            return None
        name = f"{caller}/{state}"
        found: Variable = self.shared_object(name, Variable(initial_words(*seeds), name=name))
        return found

    def asset_file(self, path: bytes) -> str:
        """Returns the path of a file that a graph wants to read.

        Raises:
          UnsafePathError: it isn't one of the model's assets.
        """
        name = os.fsdecode(path)
        if self._assets is None:
            raise UnsafePathError(
                f"The graph reads the file {name!r}, and there is no folder whose files it may "
                "read; those are the assets of a SavedModel."
            )
        relative = os.path.relpath(name, self._assets) if os.path.isabs(name) else name
        return contained_path(self._assets, relative, "asset file")

    def plan(self, name: str) -> Plan:
        """Returns the plan of a function; unsupported ops are listed in it, not refused.

        Raises:
          CorruptSavedModelError: the function, or one it refers to, doesn't exist, refers to
            itself, or has nodes that can't run (cycles, inputs that nothing produces).
          ResourceLimitError: calls are nested too deeply.
        """
        found = self._plans.get(name)
        if found is not None:
            return found
        with self._lock:
            return self._build(name)

    def plan_of(self, function: FunctionDef) -> Plan:
        """Returns the plan of a function that isn't one of the model's, but may call these.

        Args:
          function: its name is no legal name of a function; the same name is the same function.
        """
        name = function.signature.name
        with self._lock:
            if name not in self._plans:
                body = order_nodes(function, self.functions, self.gradients)
                for callee in body.callees:
                    self._build(callee)
                self._plans[name] = self._finish(body)
            return self._plans[name]

    def runnable_plan(self, name: str) -> Plan:
        """Returns the plan of a function all of whose ops can be evaluated.

        Raises:
          UnsupportedOpError: some can't; the message has all of them.
        """
        plan = self.plan(name)
        if plan.unsupported:
            raise UnsupportedOpError(_unsupported_message(plan))
        return plan

    def _build(self, name: str) -> Plan:
        """Builds a plan after those of its callees, with an explicit stack."""
        bodies: dict[str, GraphBody] = {}
        path: list[str] = []
        pending = [(name, False)]
        while pending:
            current, callees_done = pending.pop()
            if callees_done:
                self._plans[current] = self._finish(bodies.pop(current))
                path.pop()
            elif current in path:
                loop = " -> ".join([*path[path.index(current) :], current])
                raise CorruptSavedModelError(f"The function {current!r} calls itself: {loop}.")
            elif current not in self._plans:
                bodies[current] = self._body(current, path)
                path.append(current)
                pending.append((current, True))
                pending += [(callee, False) for callee in bodies[current].callees]
        return self._plans[name]

    def _body(self, name: str, path: Sequence[str]) -> GraphBody:
        function = self.functions.get(name)
        if function is None:
            caller = f", which {path[-1]!r} calls" if path else ""
            raise CorruptSavedModelError(f"The model has no function {name!r}{caller}.")
        if len(path) >= _MAX_CALL_DEPTH:
            raise ResourceLimitError(
                f"The function {path[0]!r} nests calls more than {_MAX_CALL_DEPTH} deep, "
                f"down to {name!r}."
            )
        return order_nodes(function, self.functions, self.gradients)

    def _finish(self, body: GraphBody) -> Plan:
        callees = {callee: self._plans[callee] for callee in body.callees}
        for node in body.nodes:
            if node.random_state is not None:
                seeds = node.attrs.get("seed", 0), node.attrs.get("seed2", 0)
                self._seeds[node.random_state] = seeds
        depth = 1 + max((plan.depth for plan in callees.values()), default=0)
        if depth > _MAX_CALL_DEPTH:
            raise ResourceLimitError(
                f"The function {body.name!r} nests calls more than {_MAX_CALL_DEPTH} deep."
            )
        size = len(body.nodes)
        for node in body.nodes:
            size += sum(callees[name].size for name in called_functions(node) if name in callees)
        if size > _MAX_NODES:
            raise ResourceLimitError(
                f"The function {body.name!r} runs more than {_MAX_NODES} nodes, with those of the "
                "functions it calls."
            )
        return Plan(
            name=body.name,
            arg_names=body.arg_names,
            arg_dtypes=body.arg_dtypes,
            nodes=body.nodes,
            outputs=body.outputs,
            output_dtypes=body.output_dtypes,
            num_slots=body.num_slots,
            callees=body.callees,
            effects=analyse(body.nodes, body.arg_dtypes, body.outputs, callees),
            uses_64_bit=body.uses_64_bit or any(plan.uses_64_bit for plan in callees.values()),
            uses_tables=any(EVALUATIONS[node.op].on_host for node in body.nodes)
            or any(plan.uses_tables for plan in callees.values()),
            uses_convolutions=any("Conv" in node.op for node in body.nodes)
            or any(plan.uses_convolutions for plan in callees.values()),
            unsupported=_unique(
                [*body.unsupported, *(n for plan in callees.values() for n in plan.unsupported)]
            ),
            depth=depth,
            size=size,
        )


def _unique(nodes: Iterable[UnsupportedNode]) -> tuple[UnsupportedNode, ...]:
    return tuple(dict.fromkeys(nodes))


def _unsupported_message(plan: Plan) -> str:
    by_op: dict[str, list[UnsupportedNode]] = {}
    for node in plan.unsupported:
        by_op.setdefault(node.op, []).append(node)
    count = f"{len(by_op)} TensorFlow op{'s' if len(by_op) > 1 else ''}"
    lines = [
        f"{count} in function {plan.name!r} {'have' if len(by_op) > 1 else 'has'} no evaluation "
        "rule:"
    ]
    for op, nodes in sorted(by_op.items()):
        first = nodes[0]
        where = "" if first.function == plan.name else f" in {first.function!r}"
        many = f"{len(nodes)} nodes, first" if len(nodes) > 1 else "1 node,"
        reason = op_reason(op)
        lines.append(f"  {op}  ({many} {first.node!r}{where}){': ' + reason if reason else ''}")
    lines.append("savax.register_op registers a function that computes an op.")
    return "\n".join(lines)
