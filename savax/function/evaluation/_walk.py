"""Running a plan: one loop over its nodes, under a JAX trace or on concrete values."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import jax
import numpy as np

from savax.errors import (
    DTypeMismatchError,
    InvalidArgumentError,
    ShapeMismatchError,
    UnsupportedError,
)
from savax.function.evaluation._custom_gradients import with_custom_gradient
from savax.function.evaluation._partial_forms import PARTIAL_FORMS, PARTIAL_OPERANDS
from savax.function.evaluation._plan_values import (
    NeedsValue,
    PartialVector,
    ResourceHandle,
    TensorListValue,
    array_value,
    static_value,
)
from savax.function.evaluation._random_states import initial_words
from savax.types import shape_is_subtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.function.evaluation._plan import Plan, PlanLibrary
    from savax.function.evaluation._plan_nodes import PlanNode
    from savax.function.evaluation._plan_values import Value
    from savax.protos import FunctionRef, NodeDef
    from savax.types import DType, Shape

# Larger arrays are data rather than shape arithmetic, and numpy's results for them would be
# constants in the compiled program.
_MAX_FOLD_SIZE = 4096


class Slots(Protocol):
    """Values of a plan by slot: a list, or a dict of those that are known."""

    def __getitem__(self, slot: int, /) -> Value: ...

    def __setitem__(self, slot: int, value: Value, /) -> None: ...


class Runner(Protocol):
    """Another way to run plans than node by node."""

    def run(self, walk: Walk, plan: Plan, args: Sequence[Value]) -> list[Value]:
        """Returns the results of a plan."""
        ...


class Store:
    """The values of resources while a plan runs.

    Args:
      values: by handle; a Variable without a value is absent.
      writable: handles that may be written, None for all.
    """

    def __init__(
        self,
        values: Mapping[ResourceHandle, Value],
        writable: frozenset[ResourceHandle] | None = None,
    ) -> None:
        self.values = dict(values)
        self._writable = writable

    def branch(self, writable: Sequence[ResourceHandle]) -> Store:
        """Returns a copy for a branch or loop body that may write some handles."""
        return Store(self.values, frozenset(writable))

    def read(self, handle: ResourceHandle) -> Value:
        """Returns a Variable's value."""
        value = self.values.get(handle)
        if value is None:
            raise InvalidArgumentError(
                f"The Variable {handle.name!r} is read before it has a value."
            )
        return value

    def write(self, handle: ResourceHandle, value: Value) -> None:
        """Replaces a Variable's value."""
        if handle.dtype is not None and value.dtype != handle.dtype.numpy_dtype:
            raise DTypeMismatchError(
                f"Variable {handle.name!r}: expected dtype {handle.dtype.name}, "
                f"found {value.dtype}."
            )
        if not shape_is_subtype(tuple(value.shape), handle.shape):
            raise ShapeMismatchError(
                f"Variable {handle.name!r}: expected shape {handle.shape}, found {value.shape}."
            )
        if self._writable is not None and handle not in self._writable:
            raise UnsupportedError(
                f"The Variable {handle.name!r} is written in a branch or loop that gets its handle "
                "in a way that savax can't follow."
            )
        self.values[handle] = value


class Walk:
    """One run of a plan and of the functions it calls.

    Attributes:
      library: plans of the model's functions.
      store: values of resources.
      resources: handles of resources that the graph shares by name.
      runner: what runs plans on concrete values; None walks them node by node.
      computes_known: whether nodes of known values are computed while JAX traces, so that what they
        give is known too.
    """

    def __init__(
        self,
        library: PlanLibrary,
        store: Store,
        resources: Mapping[str, ResourceHandle] | None = None,
        runner: Runner | None = None,
        *,
        computes_known: bool = False,
    ) -> None:
        self.library = library
        self.store = store
        self.resources = resources or {}
        self.runner = runner
        self.computes_known = computes_known

    def branch(self, writable: Sequence[ResourceHandle]) -> Walk:
        """Returns a walk of its own for a branch or loop body."""
        store = self.store.branch(writable)
        return Walk(self.library, store, self.resources, computes_known=self.computes_known)

    def run(self, plan: Plan, args: Sequence[Value]) -> list[Value]:
        """Returns the results of a plan.

        Args:
          plan: what to run.
          args: one value for each argument of the plan.

        Raises:
          NeedsValue: it can't run without knowing a traced value.
        """
        if len(args) != len(plan.arg_names):
            raise InvalidArgumentError(
                f"The function {plan.name!r} takes {len(plan.arg_names)} arguments, "
                f"got {len(args)}."
            )
        if self.runner is not None:
            return self.runner.run(self, plan, args)
        values: list[Value] = [None] * plan.num_slots
        values[: len(args)] = args
        for node in plan.nodes:
            self.evaluate(plan, node, values)
        return [values[slot] for slot in plan.outputs]

    def evaluate(self, plan: Plan, node: PlanNode, values: Slots) -> None:
        """Runs one node of a plan, from and to the plan's slots."""
        inputs = [
            values[slots] if isinstance(slots, int) else tuple(values[s] for s in slots)
            for slots in node.operands
        ]
        try:
            results = _checked_results(node, self._result(plan, node, inputs))
            if node.gradient is not None and any(isinstance(x, jax.Array) for x in results):
                results = self._with_gradient(plan, node, values, results)
            for slot, value in zip(node.output_slots, results, strict=True):
                values[slot] = value
        except NeedsValue:
            raise
        except Exception as error:
            error.add_note(f"In the {node.op} node {node.name!r} of function {plan.name!r}.")
            raise

    def _with_gradient(
        self, plan: Plan, node: PlanNode, values: Slots, results: list[Value]
    ) -> list[Value]:
        """Returns the results of a node with the gradient that the model has for it."""
        gradient = node.gradient
        assert gradient is not None
        handles = {name: self.resources[name] for name in gradient.reads if name in self.resources}
        states = {name: (handle, self.store.values.get(handle)) for name, handle in handles.items()}
        library, resources = self.library, self.resources

        def run(
            plan: Plan, args: Sequence[Value], stored: Mapping[ResourceHandle, Value]
        ) -> list[Value]:
            return Walk(library, Store(stored, frozenset()), resources).run(plan, args)

        count = len(node.input_slots) - sum(slot is not None for slot in gradient.captures)
        return with_custom_gradient(
            plan,
            node,
            [values[slot] for slot in node.input_slots[:count]],
            results,
            [None if slot is None else values[slot] for slot in gradient.captures],
            states,
            library,
            run,
        )

    def _result(self, plan: Plan, node: PlanNode, inputs: list[Value]) -> Any:
        if node.fold is not None and _can_fold(node, inputs):
            with np.errstate(all="ignore"):
                return node.fold(*inputs, **node.fold_keywords)
        form = PARTIAL_FORMS.get(node.op)
        if form is not None:
            found = form(node, inputs)
            if found is not NotImplemented:
                return found
        if node.is_host:
            return self._host_result(plan, node, inputs)
        if not node.is_transparent:
            inputs = [
                _prepared(plan, node, position, value) for position, value in enumerate(inputs)
            ]
        if self.computes_known and not node.is_stateful and _are_known(inputs):
            with jax.ensure_compile_time_eval():
                return jax.tree.map(np.asarray, self._computed(plan, node, inputs))
        return self._computed(plan, node, inputs)

    def _computed(self, plan: Plan, node: PlanNode, inputs: list[Any]) -> Any:
        if node.with_context:
            return node.rule(NodeContext(self, plan, node), *inputs, **node.keywords)
        return node.rule(*inputs, **node.keywords)

    def _host_result(self, plan: Plan, node: PlanNode, inputs: list[Value]) -> Any:
        """Runs a node that has strings: on numpy arrays, now."""
        host = [
            _mapped(value, lambda item, name=name: _host(plan, node, name, item))
            for name, value in zip(node.operand_names, inputs, strict=True)
        ]
        if node.fold is not None:
            return node.fold(*host, **node.fold_keywords)
        return self._computed(plan, node, host)


class NodeContext:
    """What a rule with ``with_context=True`` may do beside computing.

    Attributes:
      walk: the run it belongs to.
      plan_node: the node, decoded.
    """

    __slots__ = ("_plan", "plan_node", "walk")

    def __init__(self, walk: Walk, plan: Plan, node: PlanNode) -> None:
        self.walk = walk
        self._plan = plan
        self.plan_node = node

    @property
    def node(self) -> NodeDef:
        """The node's message."""
        return self.plan_node.node_def

    @property
    def output_dtypes(self) -> tuple[DType, ...]:
        """The dtypes that the results must have."""
        return self.plan_node.output_dtypes

    def plan(self, function: FunctionRef) -> Plan:
        """Returns the plan of a function that one of the node's attributes names."""
        return self.walk.library.plan(function.name)

    def call(self, function: FunctionRef, args: Sequence[Value]) -> list[Value]:
        """Runs a function in place and returns its results."""
        return self.walk.run(self.plan(function), args)

    def read(self, handle: ResourceHandle) -> Value:
        """Returns the value of a Variable."""
        return self.walk.store.read(handle_of(handle))

    def write(self, handle: ResourceHandle, value: Value) -> None:
        """Replaces the value of a Variable."""
        self.walk.store.write(handle_of(handle), array_value(value))

    def resource(self, name: str, dtype: DType, shape: Shape) -> ResourceHandle:
        """Returns the handle of a Variable that the graph shares under a name."""
        found = self.walk.resources.get(name)
        if found is None:
            raise UnsupportedError(
                f"The graph makes a Variable {name!r} of dtype {dtype.name} and shape {shape} "
                "of its own; savax knows only those that the model's objects hold."
            )
        return found

    def is_initialized(self, handle: ResourceHandle) -> bool:
        """Whether a Variable has a value."""
        return handle_of(handle) in self.walk.store.values

    def random_words(self) -> Value:
        """Returns the random state of the node: two words of its key, four of its counter."""
        state = self.plan_node.random_state
        assert state is not None
        handle = self.walk.resources.get(state)
        if handle is None or handle not in self.walk.store.values:
            attrs = self.plan_node.attrs
            return initial_words(attrs.get("seed", 0), attrs.get("seed2", 0))
        return self.walk.store.read(handle)

    def set_random_words(self, words: Value) -> None:
        """Replaces the random state of the node."""
        handle = self.walk.resources.get(self.plan_node.random_state or "")
        if handle is not None:
            self.walk.store.write(handle, words)

    def needs_value(self, operand: str, why: str = "") -> NoReturn:
        """Gives up, because an operand's value must be known; the plan runs in another way then."""
        node = self.plan_node
        raise NeedsValue(self._plan.name, node.op, node.name, operand, why)


def handle_of(value: Value) -> ResourceHandle:
    if not isinstance(value, ResourceHandle):
        raise UnsupportedError("The node gets no handle of a resource that is known to savax.")
    return value


def _can_fold(node: PlanNode, inputs: Sequence[Value]) -> bool:
    for value in inputs:
        for item in value if isinstance(value, tuple) else (value,):
            if not isinstance(item, np.ndarray):
                return False
            if item.size > _MAX_FOLD_SIZE and not node.is_host:
                return False
    return True


def _are_known(inputs: Sequence[Value]) -> bool:
    items = jax.tree.leaves(inputs)
    return bool(items) and all(isinstance(item, np.ndarray) for item in items)


def _prepared(plan: Plan, node: PlanNode, position: int, value: Value) -> Value:
    if node.static[position]:
        name = node.operand_names[position]
        return _mapped(value, lambda item: _host(plan, node, name, item))
    if isinstance(value, PartialVector) and node.operand_names[position] in PARTIAL_OPERANDS.get(
        node.op, ()
    ):
        return value
    return _mapped(value, array_value)


def _mapped(value: Value, fn: Any) -> Value:
    return tuple(fn(item) for item in value) if isinstance(value, tuple) else fn(value)


def _host(plan: Plan, node: PlanNode, operand: str, value: Value) -> Value:
    """Returns an operand's value as a numpy array."""
    if isinstance(value, ResourceHandle | TensorListValue):
        return value
    if isinstance(value, PartialVector) and value.is_shape:
        return value.elements
    known = static_value(value)
    if known is None:
        raise NeedsValue(plan.name, node.op, node.name, operand, "")
    return known


def _checked_results(node: PlanNode, result: Any) -> list[Value]:
    """Returns a rule's results as a flat list that fits the op's schema."""
    results = _flat(result) if isinstance(result, tuple | list) else [result]
    if len(results) != len(node.output_dtypes):
        if result is None and not node.output_dtypes:
            return []
        raise UnsupportedError(
            f"The rule of {node.op} gave {len(results)} results, expected "
            f"{len(node.output_dtypes)}."
        )
    return [
        _checked(node, value, dtype)
        for value, dtype in zip(results, node.output_dtypes, strict=True)
    ]


def _flat(result: Sequence[Any]) -> list[Value]:
    if any(isinstance(item, tuple | list) for item in result):
        return list(
            itertools.chain.from_iterable(
                item if isinstance(item, tuple | list) else (item,) for item in result
            )
        )
    return list(result)


def _checked(node: PlanNode, value: Value, dtype: DType) -> Value:
    if isinstance(value, jax.Array | PartialVector):
        found = value.dtype
    elif isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value)
        found = value.dtype
    else:
        return value  # handles, lists and other objects
    if found != dtype.numpy_dtype:
        raise DTypeMismatchError(
            f"The rule of {node.op} gave {found}, where the node's output is {dtype.name}."
        )
    return value
