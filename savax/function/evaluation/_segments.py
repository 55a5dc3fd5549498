"""Running a plan on concrete values: compiled segments around what has to run on the host.

Nodes with strings and tables, and nodes that need to know a value, run on the host one by one; so
do constants, and integer arithmetic on what the host has made, whose sizes vary (row splits of
words). All others are grouped into segments that are compiled, as late as possible, so that what
lies between the strings in front and those behind is one segment. Which nodes need a value shows
when a segment is traced: they join the host's from then on. A call, branch or loop that holds such
a node runs on the host too, and its body is cut in the same way.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from savax.function.evaluation._batch_pieces import compute_batch
from savax.function.evaluation._carry import can_be_array, handles_of, is_known
from savax.function.evaluation._effects import (
    CALL_OPS,
    CASE_OPS,
    FOR_OPS,
    IDENTITY_OPS,
    IF_OPS,
    WHILE_OPS,
    called_functions,
)
from savax.function.evaluation._plan_values import NeedsValue, array_value, static_value
from savax.function.evaluation._walk import Store, Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from savax.function.evaluation._plan import Plan, PlanLibrary
    from savax.function.evaluation._plan_nodes import PlanNode
    from savax.function.evaluation._plan_values import Value

# Compiled programs kept for one plan; each belongs to a segment, and to shapes.
_MAX_PROGRAMS = 128

# Ops on resources and variants that are values of a plan rather than objects of the host.
_DEVICE_PREFIXES = (
    *("Assign", "Resource", "TensorArray", "TensorList", "EmptyTensorList"),
    *("Var", "ReadVariable", "Mutex", "ConsumeMutexLock"),
)
_STRUCTURAL = (
    IDENTITY_OPS | CALL_OPS | IF_OPS | CASE_OPS | WHILE_OPS | FOR_OPS | {"DisableCopyOnRead"}
)


class Segment(NamedTuple):
    """A part of a function that runs in one piece.

    Attributes:
      on_host: whether its nodes run one by one in Python; else it is compiled.
      function: name of the FunctionDef that its nodes are in.
      nodes: their names, in running order.
      programs: how many times it has been compiled, once for each set of shapes.
    """

    on_host: bool
    function: str
    nodes: tuple[str, ...]
    programs: int


class SegmentRunner:
    """Runs plans on concrete values; one for all calls of a function.

    Args:
      library: plans of the model's functions.
    """

    def __init__(self, library: PlanLibrary) -> None:
        self._library = library
        self._cut: dict[Plan, _CutPlan] = {}
        self._lock = threading.RLock()

    def run(self, walk: Walk, plan: Plan, args: Sequence[Value]) -> list[Value]:
        """Returns the results of a plan; numpy arrays among the arguments are taken for known."""
        return self._cut_plan(plan).run(walk, args)

    def segments(self, plan: Plan) -> list[Segment]:
        """Returns the parts of a plan, and of those that it calls on the host, in running order."""
        return self._cut_plan(plan).segments(lambda name: self.segments(self._library.plan(name)))

    def has_host_nodes(self, plan: Plan) -> bool:
        """Whether a plan or one it calls has strings or objects of the host."""
        return self._cut_plan(plan).has_host_nodes

    def _cut_plan(self, plan: Plan) -> _CutPlan:
        with self._lock:
            if plan not in self._cut:
                callees = {name: self._library.plan(name) for name in plan.callees}
                hosted = {name for name, p in callees.items() if self.has_host_nodes(p)}
                self._cut[plan] = _CutPlan(plan, hosted)
            return self._cut[plan]


@dataclasses.dataclass(frozen=True, eq=False)
class _Step:
    """Nodes that run together.

    Attributes:
      nodes: their positions in the plan.
      on_host: whether they run one by one.
      inputs: slots that they take from other steps.
      outputs: slots that others take from them.
      accesses: resources that they read or write.
      writes: resources that they write.
    """

    nodes: tuple[int, ...]
    on_host: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    accesses: tuple[int | str, ...]
    writes: tuple[int | str, ...]


class _NodeNeedsValue(Exception):  # noqa: N818 - a signal, not an error
    """A node of a segment can't be traced."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class _CutPlan:
    """A plan, the nodes of it that run on the host, and compiled programs of the others."""

    def __init__(self, plan: Plan, hosted_functions: Iterable[str]) -> None:
        self._plan = plan
        self._hosted = frozenset(hosted_functions)
        self.host = _host_nodes(plan, self._hosted)
        self.has_host_nodes = bool(self.host)
        self._add_small_nodes()
        self._needs = _dependencies(plan)
        self._steps: tuple[_Step, ...] | None = None
        self._programs: OrderedDict[Any, _Program] = OrderedDict()
        self._lock = threading.Lock()

    def _add_small_nodes(self) -> None:
        """Leaves constants, integer arithmetic on values of the host, and handles to the host.

        Each run of a loop of version 1 has stacks of its own. A program that passed on a handle
        would be compiled for each of them.
        """
        varying: set[int] = set()
        fixed: set[int] = set()
        for position, node in enumerate(self._plan.nodes):
            if node.op == "Const":
                self.host.add(position)
                fixed.update(node.output_slots)
                continue
            if _passes_a_handle(node) or _is_small_arithmetic(node, varying, fixed):
                self.host.add(position)
            if position in self.host:
                varying.update(node.output_slots)
        self._varying = frozenset(varying)

    def segments(self, of_function: Callable[[str], list[Segment]]) -> list[Segment]:
        """Returns the parts in running order; ``of_function`` returns those of a callee."""
        found: list[Segment] = []
        for step in self._steps or self._schedule(set()):
            pending: list[str] = []
            for position in step.nodes:
                node = self._plan.nodes[position]
                callees = [n for n in called_functions(node) if n in self._hosted]
                if not (step.on_host and callees):
                    pending.append(node.name)
                    continue
                found += self._segment(step, pending)
                pending = []
                for callee in callees:
                    found += of_function(callee)
            found += self._segment(step, pending)
        return found

    def _segment(self, step: _Step, nodes: Sequence[str]) -> list[Segment]:
        if not nodes:
            return []
        with self._lock:
            programs = sum(key[0] == step.nodes for key in self._programs)
        return [Segment(step.on_host, self._plan.name, tuple(nodes), programs)]

    def run(self, walk: Walk, args: Sequence[Value]) -> list[Value]:
        values: dict[int, Value] = dict(enumerate(args))
        if self._steps is None:
            self._steps = self._schedule(set())
        pending = list(self._steps)
        done: set[int] = set()
        while pending:
            step = pending.pop(0)
            if step.on_host:
                for position in step.nodes:
                    self._run_on_host(walk, position, values)
            else:
                try:
                    self._run_compiled(walk, step, values, args)
                except _NodeNeedsValue as signal:
                    self._give_to_host(signal.position)
                    self._steps = None
                    pending = list(self._schedule(done))
                    continue
            done.update(step.nodes)
        return [values[slot] for slot in self._plan.outputs]

    def _run_on_host(self, walk: Walk, position: int, values: dict[int, Value]) -> None:
        node = self._plan.nodes[position]
        local: dict[int, Value] = {}
        for slot in node.input_slots:
            local[slot] = values[slot]
            if called_functions(node):
                local[slot] = self._as_varying(slot, values[slot])
            elif node.fold is not None:
                known = static_value(values[slot])
                local[slot] = values[slot] if known is None else known
        walk.evaluate(self._plan, node, local)
        for slot in node.output_slots:
            values[slot] = array_value(local[slot])

    def _as_varying(self, slot: int, value: Value) -> Value:
        """Returns what the host has made as an array, which asks for no program of its own."""
        return jnp.asarray(value) if slot in self._varying and can_be_array(value) else value

    def _run_compiled(
        self, walk: Walk, step: _Step, values: dict[int, Value], args: Sequence[Value]
    ) -> None:
        handles = handles_of(args, step.accesses, walk.resources)
        written = handles_of(args, step.writes, walk.resources)
        state = [walk.store.values.get(handle) for handle in handles]
        inputs = {slot: self._as_varying(slot, values[slot]) for slot in step.inputs}
        known = {slot: value for slot, value in inputs.items() if is_known(value)}
        given = [value for slot, value in inputs.items() if slot not in known]
        leaves, tree = jax.tree.flatten((given, state))
        key = (
            step.nodes,
            tree,
            tuple((leaf.shape, leaf.dtype) for leaf in leaves),
            tuple((slot, _key(value)) for slot, value in known.items()),
            tuple(handles),
            jax.config.jax_enable_x64,  # type: ignore[attr-defined]
        )
        program = self._program(key)
        if program is None:
            program = _Program(self._plan, step, walk, known, handles, written)
            results = program(given, state)
            self._keep(key, program)
        else:
            results = program(given, state)
        values.update(results[0])
        for handle, value in zip(written, results[1], strict=True):
            walk.store.write(handle, value)

    def _program(self, key: Any) -> _Program | None:
        with self._lock:
            if key in self._programs:
                self._programs.move_to_end(key)
            return self._programs.get(key)

    def _keep(self, key: Any, program: _Program) -> None:
        with self._lock:
            self._programs[key] = program
            if len(self._programs) > _MAX_PROGRAMS:
                self._programs.popitem(last=False)

    def _schedule(self, done: set[int]) -> tuple[_Step, ...]:
        """Groups the nodes that are left: all that the host can run, then what it waits for."""
        nodes = self._plan.nodes
        left = [i for i, node in enumerate(nodes) if i not in done and node.op != "NoOp"]
        finished = set(done)
        steps: list[_Step] = []
        while left:
            group = [p for p in left if p in self.host and self._is_ready(p, finished)]
            if group:
                steps.append(self._step(group, on_host=True))
            else:
                group = self._awaited(left, finished)
                finished.update(group)
                steps.append(self._step(group, on_host=False))
            left = [position for position in left if position not in finished]
        return tuple(steps)

    def _is_ready(self, position: int, finished: set[int]) -> bool:
        """Whether a node can run now; it then counts as finished."""
        if not self._needs[position] <= finished:
            return False
        finished.add(position)
        return True

    def _awaited(self, left: Sequence[int], finished: set[int]) -> list[int]:
        """Returns the nodes to compile that the next nodes of the host wait for; in the end all."""
        blocked: dict[int, bool] = {}  # whether a node waits, directly or not, for one of the host
        for position in left:
            waits = self._needs[position] - finished
            blocked[position] = any(other in self.host or blocked[other] for other in waits)
        compiled = [position for position in left if position not in self.host]
        pending = [p for p in left if p in self.host and not blocked[p]]
        if not pending or not any(blocked[position] for position in compiled):
            return compiled  # no more of them comes behind nodes of the host
        wanted: set[int] = set()
        while pending:
            for other in self._needs[pending.pop()] - finished - wanted:
                wanted.add(other)
                pending.append(other)
        return sorted(wanted)

    def _give_to_host(self, position: int) -> None:
        self.host.add(position)
        self._varying |= set(self._plan.nodes[position].output_slots)

    def _step(self, group: Sequence[int], on_host: bool) -> _Step:
        plan = self._plan
        made = {slot for position in group for slot in plan.nodes[position].output_slots}
        inputs = {slot for position in group for slot in plan.nodes[position].input_slots}
        members = set(group)
        read = set(plan.outputs)
        for position, node in enumerate(plan.nodes):
            if position not in members:
                read.update(node.input_slots)
        effects = [plan.effects.by_node[position] for position in group]
        writes = {access for _, written in effects for access in written}
        accesses = writes | {access for reads, _ in effects for access in reads}
        return _Step(
            nodes=tuple(group),
            on_host=on_host,
            inputs=tuple(sorted(inputs - made)),
            outputs=tuple(sorted(made & read)),
            accesses=tuple(sorted(accesses, key=str)),
            writes=tuple(sorted(writes, key=str)),
        )


class _Program:
    """A segment, compiled for inputs of one kind."""

    def __init__(
        self,
        plan: Plan,
        step: _Step,
        walk: Walk,
        known: Mapping[int, Value],
        handles: Sequence[Any],
        written: Sequence[Any],
    ) -> None:
        self._plan = plan
        self._step = step
        self._walk = Walk(walk.library, Store({}), walk.resources)
        self._known = dict(known)
        self._handles = handles
        self._written = written
        self._given_slots = [slot for slot in step.inputs if slot not in known]
        self._known_outputs: dict[int, Value] = {}
        self._compiled = jax.jit(self._compute_batch if plan.uses_convolutions else self._compute)

    def __call__(
        self, given: Sequence[Value], state: Sequence[Value]
    ) -> tuple[dict[int, Value], list[Value]]:
        """Returns values by slot, and those of the written resources."""
        computed, written = self._compiled(given, state)
        slots = [slot for slot in self._step.outputs if slot not in self._known_outputs]
        return {**self._known_outputs, **dict(zip(slots, computed, strict=True))}, written

    def _compute_batch(self, given: Sequence[Value], state: Sequence[Value]) -> Any:
        return compute_batch(self._compute, given, state)

    def _compute(
        self, given: Sequence[Value], state: Sequence[Value]
    ) -> tuple[list[Value], list[Value]]:
        pairs = zip(self._handles, state, strict=True)
        store = Store({handle: value for handle, value in pairs if value is not None})
        walk = Walk(self._walk.library, store, self._walk.resources)
        values = {**self._known, **dict(zip(self._given_slots, given, strict=True))}
        for position in self._step.nodes:
            try:
                walk.evaluate(self._plan, self._plan.nodes[position], values)
            except NeedsValue as signal:
                raise _NodeNeedsValue(position) from signal
        outputs = {slot: array_value(values[slot]) for slot in self._step.outputs}
        self._known_outputs = {slot: v for slot, v in outputs.items() if is_known(v)}
        return [v for v in outputs.values() if not is_known(v)], [
            store.values[handle] for handle in self._written
        ]


def _host_nodes(plan: Plan, hosted_functions: frozenset[str]) -> set[int]:
    """Returns the positions of the nodes that run on the host."""
    found: set[int] = set()
    made: set[int] = set()  # variants that the host has made
    for position, node in enumerate(plan.nodes):
        passes_on = node.op in IDENTITY_OPS and not made.isdisjoint(node.input_slots)
        if passes_on or _is_host(node, hosted_functions):
            found.add(position)
            pairs = zip(node.output_slots, node.output_dtypes, strict=True)
            made |= {slot for slot, dtype in pairs if dtype.name == "variant"}
    return found


def _is_host(node: PlanNode, hosted_functions: frozenset[str]) -> bool:
    """Whether a node has strings, or objects that only the host holds."""
    names = {dtype.name for dtype in (*node.input_dtypes, *node.output_dtypes)}
    if "string" in names or node.is_host:
        return True
    if any(name in hosted_functions for name in called_functions(node)):
        return True
    if not names & {"resource", "variant"} or node.op in _STRUCTURAL:
        return False
    element = node.attrs.get("element_dtype")
    if element is not None and element.size == 0:  # a list of strings or variants
        return True
    return not node.op.startswith(_DEVICE_PREFIXES)


def _passes_a_handle(node: PlanNode) -> bool:
    return node.op in IDENTITY_OPS and "resource" in {dtype.name for dtype in node.output_dtypes}


def _is_small_arithmetic(node: PlanNode, varying: set[int], fixed: set[int]) -> bool:
    """Whether a node computes integers from what the host has made, and from constants."""
    slots = node.input_slots
    return (
        node.fold is not None
        and any(slot in varying for slot in slots)
        and all(slot in varying or slot in fixed for slot in slots)
        and all(dtype.is_integer or dtype.is_bool for dtype in node.output_dtypes)
        and not node.is_stateful
    )


def _dependencies(plan: Plan) -> list[set[int]]:
    """Returns, for each node, the nodes that must have run: by data, control and resources."""
    maker = {slot: i for i, node in enumerate(plan.nodes) for slot in node.output_slots}
    controls: list[set[int]] = []  # what a node's control inputs stand for; NoOps pass theirs on
    needs: list[set[int]] = []
    last_write: dict[int | str, int] = {}
    last_reads: dict[int | str, list[int]] = {}
    last_effect: int | None = None
    for position, node in enumerate(plan.nodes):
        controls.append(set())
        for other in node.after:
            controls[-1] |= controls[other] if plan.nodes[other].op == "NoOp" else {other}
        found = {maker[slot] for slot in node.input_slots if slot in maker}
        is_handle = any(dtype.name == "resource" for dtype in node.output_dtypes)
        if node.is_stateful or is_handle:  # others compute the same whatever runs before them
            found |= controls[-1]
        reads, writes = plan.effects.by_node[position]
        for access in reads | writes:
            if access in last_write:
                found.add(last_write[access])
            if access in writes:
                found.update(last_reads.pop(access, ()))
                last_write[access] = position
            else:
                last_reads.setdefault(access, []).append(position)
        if node.is_stateful and not reads:  # effects on what isn't a resource: files, output
            if last_effect is not None:
                found.add(last_effect)
            last_effect = position
        needs.append(found)
    return needs


def _key(value: Value) -> Any:
    """Returns what a compiled program depends on in a known value."""
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype, value.tobytes())
    return value
