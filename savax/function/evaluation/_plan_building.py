"""From a FunctionDef to its nodes in running order, with integer slots for values."""

from __future__ import annotations

import dataclasses
import heapq
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import CorruptSavedModelError, UnsupportedError
from savax.function._op_schemas import (
    ArgSchema,
    OpSchema,
    input_ranges,
    input_types,
    is_known_op,
    op_schema,
    output_ranges,
    output_types,
    schema_of,
)
from savax.function.evaluation._attr_decoding import decode_attrs
from savax.function.evaluation._effects import CALL_OPS, called_functions
from savax.function.evaluation._plan_nodes import PlanNode, UnsupportedNode
from savax.function.evaluation._registered_gradients import (
    NodeGradient,
    RegisteredGradients,
    gradient_type_of,
)
from savax.function.ops._registry import EVALUATIONS, FOLDS
from savax.protos import FunctionRef
from savax.types import DType, as_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from savax.protos import FunctionDef, NodeDef

_64_BIT = frozenset({"int64", "uint64", "float64", "complex128"})

# Ops whose rules take values as they are: partly known vectors, strings, handles.
TRANSPARENT_OPS = frozenset(
    {
        "Assert",
        "BatchFunction",
        "Case",
        "EnsureShape",
        "For",
        "Identity",
        "IdentityN",
        "If",
        "NoOp",
        "PartitionedCall",
        "Placeholder",
        "PlaceholderV2",
        "PlaceholderWithDefault",
        "PreventGradient",
        "Print",
        "PrintV2",
        "RemoteCall",
        "StatefulPartitionedCall",
        "StatelessCase",
        "StatelessIf",
        "StatelessWhile",
        "StopGradient",
        "While",
        "XlaIf",
        "XlaWhile",
        "AssignVariableOp",
        "ReadVariableOp",
        "VarHandleOp",
        "VarIsInitializedOp",
        "VariableShape",
        "DisableCopyOnRead",
        "Const",
        "HostConst",
    }
)


# Ops whose only effect is output that programs don't read. What they would print isn't computed:
# strings made of traced values can't be.
_SILENT_OPS = frozenset({"PrintV2"})


@dataclass(frozen=True, eq=False, slots=True)
class GraphBody:
    """The ordered nodes of one graph; fields as in ``Plan``."""

    name: str
    arg_names: tuple[str, ...]
    arg_dtypes: tuple[DType, ...]
    nodes: tuple[PlanNode, ...]
    outputs: tuple[int, ...]
    output_dtypes: tuple[DType, ...]
    num_slots: int
    callees: tuple[str, ...]
    uses_64_bit: bool
    unsupported: tuple[UnsupportedNode, ...]


def order_nodes(
    function: FunctionDef,
    library: Mapping[str, FunctionDef],
    gradients: RegisteredGradients | None = None,
) -> GraphBody:
    """Returns the nodes that a function's results and effects depend on.

    Args:
      function: its ``node_def`` may use the tensor names of functions (``node:out:0``) and those
        of graphs (``node:0``).
      library: functions that nodes may refer to.
      gradients: the custom gradients of their nodes.

    Raises:
      CorruptSavedModelError: cycles, inputs that nothing produces, missing attributes or results.
      UnsupportedError: a function that is generic in its types, or attributes unknown to the ops.
    """
    signature = function.signature
    missing = [arg.name for arg in signature.output_arg if arg.name not in function.ret]
    if missing:
        raise CorruptSavedModelError(f"The function {signature.name!r} returns no {missing}.")
    return _build_graph(
        signature.name,
        {arg.name: _arg_dtype(signature.name, arg) for arg in signature.input_arg},
        function.node_def,
        [function.ret[arg.name] for arg in signature.output_arg],
        sorted(set(function.control_ret.values())),
        library,
        gradients,
    )


def _build_graph(
    name: str,
    args: Mapping[str, DType],
    node_defs: Sequence[NodeDef],
    fetches: Sequence[str],
    targets: Sequence[str],
    library: Mapping[str, FunctionDef],
    gradients: RegisteredGradients | None = None,
) -> GraphBody:
    """Returns the nodes that fetched tensors and target nodes depend on, in running order.

    Args:
      name: of the function or graph, for errors.
      args: dtypes by name of the argument. An argument takes the place of a node of its name.
      node_defs: the graph.
      fetches: names of the tensors to return.
      targets: names of nodes that run for their effects.
      library: functions that nodes may refer to.
      gradients: the custom gradients of their nodes.
    """
    graph = _Graph(name, args, node_defs, library, gradients or RegisteredGradients(library))
    for index in graph.running_order(fetches, targets):
        graph.add(node_defs[index])
    outputs = [graph.slot(tensor, None) for tensor in fetches]
    return GraphBody(
        name=name,
        arg_names=tuple(args),
        arg_dtypes=tuple(args.values()),
        nodes=tuple(graph.nodes),
        outputs=tuple(outputs),
        output_dtypes=tuple(graph.dtypes[slot] for slot in outputs),
        num_slots=len(graph.dtypes),
        callees=tuple(dict.fromkeys(graph.callees)),
        uses_64_bit=any(dtype.name in _64_BIT for dtype in graph.dtypes)
        or any(
            EVALUATIONS[node.op].needs_64_bit
            or (node.gradient and graph.gradients.uses_64_bit(node.gradient.gradient_type))
            for node in graph.nodes
        ),
        unsupported=tuple(graph.unsupported),
    )


def _arg_dtype(function: str, arg: Any) -> DType:
    if not arg.type or arg.number_attr or arg.type_list_attr:
        raise UnsupportedError(
            f"The function {function!r} is generic in the type of {arg.name!r}; such functions "
            "can't be evaluated."
        )
    return as_dtype(arg.type % 100)  # plus 100 is a reference


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Where a node's outputs are; ``ranges`` is None if its op is unknown."""

    first: int
    count: int
    ranges: Mapping[str, tuple[int, int]] | None


@dataclass(slots=True)
class _Graph:
    """A graph while its nodes get slots."""

    name: str
    args: Mapping[str, DType]
    node_defs: Sequence[NodeDef]
    library: Mapping[str, FunctionDef]
    gradients: RegisteredGradients
    nodes: list[PlanNode] = field(default_factory=list)
    dtypes: list[DType] = field(default_factory=list)
    callees: list[str] = field(default_factory=list)
    unsupported: list[UnsupportedNode] = field(default_factory=list)
    _produced: dict[str, _Outputs] = field(default_factory=dict)
    _index: dict[str, int] = field(default_factory=dict)
    _positions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for slot, arg in enumerate(self.args):
            self.dtypes.append(self.args[arg])
            self._produced[arg] = _Outputs(slot, 1, {})
        for index, node in enumerate(self.node_defs):
            if node.name in self._index:
                raise self._corrupt(f"has two nodes named {node.name!r}")
            self._index[node.name] = index

    def running_order(self, fetches: Iterable[str], targets: Iterable[str]) -> list[int]:
        """Returns the indices of needed nodes: topological, ties in the order of the graph."""
        needed: dict[int, list[int]] = {}
        pending = [self._producer(tensor, None) for tensor in fetches]
        pending += [self._producer(f"^{target}", None) for target in targets]
        while pending:
            index = pending.pop()
            if index is None or index in needed:
                continue
            node = self.node_defs[index]
            wanted = [*_needed_inputs(node), *filter(None, self.captured(node))]
            sources = [self._producer(tensor, node) for tensor in wanted]
            needed[index] = [source for source in sources if source is not None]
            pending += needed[index]
        return self._sorted(needed)

    def _sorted(self, needed: Mapping[int, list[int]]) -> list[int]:
        waiting = {index: len(set(sources)) for index, sources in needed.items()}
        readers: dict[int, list[int]] = {}
        for index, sources in needed.items():
            for source in set(sources):
                readers.setdefault(source, []).append(index)
        ready = [index for index, count in waiting.items() if count == 0]
        heapq.heapify(ready)
        order = []
        while ready:
            index = heapq.heappop(ready)
            order.append(index)
            for reader in readers.get(index, ()):
                waiting[reader] -= 1
                if waiting[reader] == 0:
                    heapq.heappush(ready, reader)
        if len(order) < len(needed):
            stuck = min(index for index, count in waiting.items() if count)
            raise self._corrupt(f"has a cycle that holds up node {self.node_defs[stuck].name!r}")
        return order

    def _producer(self, tensor: str, reader: NodeDef | None) -> int | None:
        """Returns the index of the node that a tensor or control input names, None for args."""
        name = tensor.removeprefix("^").split(":", 1)[0]
        if name in self.args:
            return None
        if name not in self._index:
            raise self._dangling(tensor, reader)
        return self._index[name]

    def add(self, node: NodeDef) -> None:
        """Decodes a node whose inputs have been added."""
        if node.op in _SILENT_OPS:
            self._produced[node.name] = _Outputs(len(self.dtypes), 0, {})
            return
        schema, function = self._schema(node)
        if schema is None:
            self.unsupported.append(UnsupportedNode(node.op, node.name, self.name))
            self._produced[node.name] = _Outputs(len(self.dtypes), 0, None)
            return
        attrs = decode_attrs(node, schema)
        if function is not None:
            attrs["f"] = FunctionRef(function, {})
        dtypes = output_types(schema, attrs)
        first = len(self.dtypes)
        self._produced[node.name] = _Outputs(first, len(dtypes), output_ranges(schema, attrs))
        operands, slots = self._operands(node, schema, attrs)
        self.dtypes += dtypes
        op = node.op if function is None else "PartitionedCall"
        if op not in EVALUATIONS:
            self.unsupported.append(UnsupportedNode(op, node.name, self.name))
            return
        outputs = range(first, len(self.dtypes))
        controls = (tensor[1:] for tensor in node.input if tensor.startswith("^"))
        after = tuple(self._positions[name] for name in controls if name in self._positions)
        state = f"random state of {self.name}/{node.name}" if EVALUATIONS[op].draws else None
        planned = _plan_node(
            node, op, schema, attrs, operands, slots, outputs, self.dtypes, after, state
        )
        planned = _with_gradient(self, planned)
        self._positions[node.name] = len(self.nodes)
        self.callees += called_functions(planned)
        self.nodes.append(planned)

    def captured(self, node: NodeDef) -> tuple[str | None, ...]:
        """Returns the tensors of the graph that a node's custom gradient captures."""
        return self.gradients.captured_tensors(node, self.name)

    def _schema(self, node: NodeDef) -> tuple[OpSchema | None, str | None]:
        """Returns a node's schema, and the function that it calls by having its name as op."""
        if is_known_op(node.op):
            return op_schema(node.op), None
        function = self.library.get(node.op)
        if function is None:
            return None, None
        for arg in (*function.signature.input_arg, *function.signature.output_arg):
            _arg_dtype(node.op, arg)
        return schema_of(function.signature), node.op

    def _operands(
        self, node: NodeDef, schema: OpSchema, attrs: Mapping[str, Any]
    ) -> tuple[tuple[int | tuple[int, ...], ...], tuple[int, ...]]:
        inputs = [tensor for tensor in node.input if not tensor.startswith("^")]
        ranges = input_ranges(schema, attrs)
        expected = sum(length for _, length in ranges.values())
        if expected != len(inputs):
            raise self._corrupt(
                f"has a {node.op} node {node.name!r} with {len(inputs)} inputs, "
                f"where its attributes make it {expected}"
            )
        slots = tuple(self.slot(tensor, node) for tensor in inputs)
        self._check_types(node, slots, input_types(schema, attrs))
        operands: list[int | tuple[int, ...]] = []
        for arg in schema.inputs:
            start, length = ranges[arg.name]
            operands.append(slots[start : start + length] if _is_list(arg) else slots[start])
        return tuple(operands), slots

    def _check_types(self, node: NodeDef, slots: Sequence[int], types: Sequence[DType]) -> None:
        for slot, tensor, expected in zip(slots, node.input, types, strict=False):
            found = self.dtypes[slot] if slot >= 0 else expected
            if found is not expected:
                raise self._corrupt(
                    f"has a {node.op} node {node.name!r} whose input {tensor!r} is "
                    f"{found.name}, where its attributes say {expected.name}"
                )

    def slot(self, tensor: str, reader: NodeDef | None) -> int:
        """Returns the slot of a tensor name; -1 if an unknown op produces it."""
        name, *rest = tensor.split(":")
        outputs = self._produced.get(name)
        if outputs is None or len(rest) > 2:
            raise self._dangling(tensor, reader)
        if outputs.ranges is None:
            return -1
        if name in self.args:
            return outputs.first
        start, length = 0, outputs.count
        if rest and not rest[0].isdecimal():
            if rest[0] not in outputs.ranges:
                raise self._dangling(tensor, reader)
            start, length = outputs.ranges[rest.pop(0)]
        index = rest[0] if rest else "0"
        if len(rest) > 1 or not index.isdecimal() or int(index) >= length:
            raise self._dangling(tensor, reader)
        return outputs.first + start + int(index)

    def _dangling(self, tensor: str, reader: NodeDef | None) -> CorruptSavedModelError:
        who = "returns" if reader is None else f"has a {reader.op} node {reader.name!r} that reads"
        return self._corrupt(f"{who} {tensor!r}, which nothing produces")

    def _corrupt(self, what: str) -> CorruptSavedModelError:
        return CorruptSavedModelError(f"The function {self.name!r} {what}.")


def _with_gradient(graph: _Graph, node: PlanNode) -> PlanNode:
    """Returns a node with its custom gradient, and what this captures as further inputs."""
    gradient_type = gradient_type_of(node.node_def)
    if gradient_type is None:
        return node
    tensors = graph.captured(node.node_def)
    found = [-1 if t is None else graph.slot(t, node.node_def) for t in tensors]
    slots = tuple(slot for slot in found if slot >= 0)
    gradient = NodeGradient(
        gradient_type,
        graph.gradients.find(gradient_type),
        tuple(slot if slot >= 0 else None for slot in found),
        graph.gradients.reads(gradient_type),
    )
    return dataclasses.replace(
        node,
        input_slots=(*node.input_slots, *slots),
        input_dtypes=(*node.input_dtypes, *(graph.dtypes[slot] for slot in slots)),
        gradient=gradient,
    )


def _needed_inputs(node: NodeDef) -> list[str]:
    if node.op in _SILENT_OPS:
        return [tensor for tensor in node.input if tensor.startswith("^")]
    return list(node.input)


def _is_list(arg: ArgSchema) -> bool:
    return arg.number_attr is not None or arg.type_list_attr is not None


def _plan_node(
    node: NodeDef,
    op: str,
    schema: OpSchema,
    attrs: Mapping[str, Any],
    operands: tuple[int | tuple[int, ...], ...],
    slots: tuple[int, ...],
    outputs: range,
    dtypes: Sequence[DType],
    after: tuple[int, ...],
    random_state: str | None,
) -> PlanNode:
    evaluation = EVALUATIONS[op]
    fold = FOLDS.get(op)
    inputs = tuple(dtypes[slot] for slot in slots if slot >= 0)
    results = tuple(dtypes[slot] for slot in outputs)
    if op != node.op:  # a call of a function by its name
        operands = (slots,)
        names: tuple[str, ...] = ("args",)
    else:
        names = tuple(arg.name for arg in schema.inputs)
    transparent = op in TRANSPARENT_OPS
    return PlanNode(
        name=node.name,
        op=op,
        operands=operands,
        operand_names=names,
        input_slots=slots,
        input_dtypes=inputs,
        after=after,
        output_slots=outputs,
        output_dtypes=results,
        rule=evaluation.rule,
        keywords={name: attrs[name] for name in evaluation.attrs},
        fold=fold,
        fold_keywords={name: attrs[name] for name in keyword_names(fold) if name in attrs},
        static=tuple(name in evaluation.static for name in names),
        with_context=evaluation.with_context,
        is_host=evaluation.on_host
        or (not transparent and any(d.name == "string" for d in (*inputs, *results))),
        is_transparent=transparent,
        is_stateful=schema.is_stateful or op in CALL_OPS,
        attrs=attrs,
        node_def=node,
        random_state=random_state,
        gradient=None,
    )


def keyword_names(rule: Callable[..., Any] | None) -> list[str]:
    """Returns the names of the attributes that a numpy form takes."""
    if rule is None or isinstance(rule, np.ufunc):
        return []
    parameters = inspect.signature(rule).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
