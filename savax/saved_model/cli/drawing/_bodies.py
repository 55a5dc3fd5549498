"""What is drawn of a model: a signature or a function, with the functions that it calls."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from savax.errors import KeyNotFoundError, ResourceLimitError
from savax.saved_model._constants import RESERVED_SIGNATURE_KEYS
from savax.saved_model.cli._objects import node_paths
from savax.saved_model.cli._restored_values import ancestors
from savax.saved_model.cli._values import dtype_name
from savax.saved_model.cli.drawing._texts import shape_text
from savax.saved_model.cli.drawing._weights import (
    Weight,
    argument_weight,
    bound_weight,
    node_weight,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from savax.protos import FunctionDef, MetaGraphDef, NodeDef, TensorInfo

MOST_NODES = 100_000  # of all functions that a picture shows
MOST_INPUTS = 400_000  # of these nodes
_MOST_WRAPPERS = 16  # around a function
_MOST_COPIES = 64  # of a tensor by Identity, one after the other
_MOST_CALLED = 12  # functions of a node that are drawn
_MOST_VISITS = 3  # of a function, to find which variables its callers pass

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
_LOOPS = frozenset({"While", "StatelessWhile"})
_BESIDE_A_CALL = frozenset({"Identity", "NoOp", "Const", "VarHandleOp", "Placeholder"})


class Argument(NamedTuple):
    """An input of a body.

    Attributes:
      tensor: how nodes name it.
      label: for people.
      type_text: dtype and shape; empty if nothing is known.
      weight: the variable or constant that it is; None for what callers choose.
    """

    tensor: str
    label: str
    type_text: str
    weight: Weight | None


class Result(NamedTuple):
    """An output of a body: its label, the tensor's name in the body, and dtype and shape."""

    label: str
    tensor: str
    type_text: str


@dataclasses.dataclass(frozen=True)
class Body:
    """Nodes between arguments and results.

    Attributes:
      name: of the function; empty for a part of the main graph.
      arguments: in order.
      results: in order.
      nodes: the operations.
    """

    name: str
    arguments: tuple[Argument, ...]
    results: tuple[Result, ...]
    nodes: Sequence[NodeDef]

    def weight_of(self, tensor: str) -> Weight | None:
        """Returns the variable or constant that a tensor is, be it by way of Identity."""
        for _ in range(_MOST_COPIES):
            name = tensor.partition(":")[0]
            if name in self._arguments:
                return self._arguments[name].weight
            node = self._nodes.get(name)
            if node is None or node.op != "Identity" or not node.input:
                return None if node is None else node_weight(node)
            tensor = node.input[0]
        return None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_nodes", {node.name: node for node in self.nodes})
        object.__setattr__(self, "_arguments", {a.tensor: a for a in self.arguments})

    _nodes: Mapping[str, NodeDef] = dataclasses.field(init=False, repr=False)
    _arguments: Mapping[str, Argument] = dataclasses.field(init=False, repr=False)


class DrawnBodies(NamedTuple):
    """A body, and those of the functions that it calls, by name."""

    root: Body
    functions: dict[str, Body]


def called_functions(node: NodeDef) -> dict[str, str]:
    """Returns the first functions that a node has as attributes, by the attribute's name."""
    found = {}
    for key in sorted(node.attr):
        value = node.attr[key]
        if value.HasField("func"):
            found[key] = value.func.name
        elif value.HasField("list"):
            found |= {f"{key} {i}": f.name for i, f in enumerate(value.list.func[:_MOST_CALLED])}
    return dict(itertools.islice(found.items(), _MOST_CALLED))


def signature_body(meta_graph: MetaGraphDef, key: str | None) -> tuple[str, Body]:
    """Returns a signature's key, and the part of the main graph that it runs.

    Args:
      meta_graph: the graph.
      key: the signature's key; None for ``serving_default``, or the only one.

    Raises:
      KeyNotFoundError: there is none, or several to choose from.
    """
    keys = sorted(set(meta_graph.signature_def) - RESERVED_SIGNATURE_KEYS)
    if key is None:
        default = [k for k in keys if k == "serving_default" or len(keys) == 1]
        if not default:
            raise KeyNotFoundError(
                "The model has no signature that is the one to draw; choose one by --signature "
                f"({', '.join(keys) or 'there are none'}), a function by --function, or --objects."
            )
        key = default[0]
    elif key not in keys:
        raise KeyNotFoundError(
            f"There is no signature {key!r}; there are: {', '.join(keys) or 'none'}."
        )
    proto = meta_graph.signature_def[key]
    arguments = [
        Argument(name.partition(":")[0], label, type_text, None)
        for label, name, type_text in _tensors(proto.inputs)
    ]
    results = tuple(Result(*row) for row in _tensors(proto.outputs))
    fed = {argument.tensor for argument in arguments}
    nodes = {node.name: node for node in meta_graph.graph_def.node if node.name not in fed}
    needed = ancestors(nodes, [result.tensor for result in results])
    shown = [node for name, node in nodes.items() if name in needed]
    return key, Body("", tuple(arguments), results, shown)


def _tensors(infos: Mapping[str, TensorInfo]) -> Iterator[tuple[str, str, str]]:
    """Yields label, tensor and type of the inputs or outputs of a signature."""
    for label in sorted(infos):
        info = infos[label]
        type_text = shape_text(dtype_name(info.dtype), info.tensor_shape)
        encoding = info.WhichOneof("encoding")
        if encoding == "coo_sparse":
            sparse = info.coo_sparse
            yield f"{label}.indices", sparse.indices_tensor_name, "int64"
            yield f"{label}.values", sparse.values_tensor_name, dtype_name(info.dtype)
            yield f"{label}.dense_shape", sparse.dense_shape_tensor_name, "int64"
        elif encoding == "composite_tensor":
            for i, part in enumerate(info.composite_tensor.components):
                yield f"{label}.{i}", part.name, dtype_name(part.dtype)
        else:
            yield label, info.name, type_text


def function_body(meta_graph: MetaGraphDef, name: str) -> Body:
    """Returns a function's body.

    Args:
      meta_graph: the graph.
      name: of a FunctionDef, or a path from the root to a function that has one trace.

    Raises:
      KeyNotFoundError: there is none, or the function has several traces.
    """
    library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    if name not in library:
        name = _trace_at(meta_graph, name, set(library))
    objects = meta_graph.object_graph_def
    weights: dict[str, Weight] = {}
    if name in objects.concrete_functions:
        bound = objects.concrete_functions[name].bound_inputs
        names = [arg.name for arg in library[name].signature.input_arg]
        for arg, node_id in zip(names[len(names) - len(bound) :], bound, strict=False):
            weight = bound_weight(meta_graph, node_id)
            if weight is not None:
                weights[arg] = weight
    return _body(library[name], weights)


def _trace_at(meta_graph: MetaGraphDef, path: str, library: set[str]) -> str:
    objects = meta_graph.object_graph_def
    traces: dict[str, list[str]] = {}
    for node_id, found in node_paths(objects).items():
        saved = objects.nodes[node_id]
        if saved.HasField("function"):
            names = [n for n in saved.function.concrete_functions if n in library]
            traces[found] = traces[found.removeprefix("root.")] = names
    names = traces.get(path, [])
    if len(names) == 1:
        return names[0]
    if names:
        raise KeyNotFoundError(
            f"The function {path!r} has {len(names)} traces; choose one: {', '.join(names)}."
        )
    known = [p for p, found in traces.items() if found and p.startswith("root.")]
    raise KeyNotFoundError(
        f"There is no function {path!r} with a trace; there are: {', '.join(known[:20]) or 'none'}."
    )


def _body(function: FunctionDef, weights: Mapping[str, Weight]) -> Body:
    arguments = []
    for index, arg in enumerate(function.signature.input_arg):
        dtype = dtype_name(arg.type)
        shapes = None
        if index in function.arg_attr and "_output_shapes" in function.arg_attr[index].attr:
            shapes = function.arg_attr[index].attr["_output_shapes"].list.shape
        type_text = shape_text(dtype, shapes[0]) if shapes else dtype
        weight = weights.get(arg.name) or argument_weight(arg)
        arguments.append(Argument(arg.name, arg.name, type_text, weight))
    results = [
        Result(arg.name, function.ret[arg.name], dtype_name(arg.type))
        for arg in function.signature.output_arg
        if arg.name in function.ret
    ]
    name = function.signature.name
    return Body(name, tuple(arguments), tuple(results), list(function.node_def))


def drawn_bodies(meta_graph: MetaGraphDef, root: Body) -> DrawnBodies:
    """Returns a body with those of the functions it calls, and the variables that they are given.

    Wrappers that only call another function are left out.

    Raises:
      ResourceLimitError: they have too many nodes.
    """
    library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    seen = {root.name}
    for _ in range(_MOST_WRAPPERS):
        inner = _unwrapped(root, library)
        if inner is None or inner.name in seen:
            break
        seen.add(inner.name)
        root = inner
    return DrawnBodies(root, _reached(root, library))


def _unwrapped(body: Body, library: Mapping[str, FunctionDef]) -> Body | None:
    """Returns what a body calls, under the body's labels; None if it does more than to call."""
    calls = [node for node in body.nodes if node.op not in _BESIDE_A_CALL]
    if len(calls) != 1 or calls[0].op not in CALLS:
        return None
    call = calls[0]
    function = library.get(call.attr["f"].func.name)
    inputs = [tensor for tensor in call.input if not tensor.startswith("^")]
    if function is None or len(inputs) != len(function.signature.input_arg):
        return None
    outer = {argument.tensor: argument for argument in body.arguments}
    arguments = []
    for arg, tensor in zip(function.signature.input_arg, inputs, strict=True):
        given = outer.get(tensor.partition(":")[0])
        weight = body.weight_of(tensor)
        if given is None and weight is None:
            return None
        label, type_text = (given.label, given.type_text) if given else (arg.name, "")
        arguments.append(Argument(arg.name, label, type_text, weight or argument_weight(arg)))
    copies = {node.name: node.input[0] for node in body.nodes if node.op == "Identity"}
    outputs = function.signature.output_arg
    results = []
    for label, tensor, type_text in body.results:
        for _ in range(_MOST_COPIES):
            tensor = copies.get(tensor.partition(":")[0], tensor)
        name, _, rest = tensor.partition(":")
        index = rest.rpartition(":")[2] or "0"
        if name != call.name or not index.isdecimal() or int(index) >= len(outputs):
            return None
        inner = function.ret[outputs[int(index)].name]
        results.append(Result(label, inner, type_text))
    name = function.signature.name
    return Body(name, tuple(arguments), tuple(results), list(function.node_def))


def _reached(root: Body, library: Mapping[str, FunctionDef]) -> dict[str, Body]:
    """Returns the functions that are called, with the weights that all of their callers pass."""
    given: dict[str, tuple[Weight | None, ...]] = {}
    bodies: dict[str, Body] = {}
    visits: Counter[str] = Counter()
    size = _Size()
    size.add(root)
    pending = deque([root])
    while pending:
        body = pending.popleft()
        for node in body.nodes:
            for name in called_functions(node).values():
                if name not in library:
                    continue
                if name not in bodies:
                    bodies[name] = _body(library[name], {})
                    size.add(bodies[name])
                passed = _passed(body, node, bodies[name])
                merged = _merged(given[name], passed) if name in given else passed
                if visits[name] == _MOST_VISITS:
                    merged = ()  # from which nothing leads further
                if merged != given.get(name):
                    given[name] = merged
                    visits[name] += 1
                    bodies[name] = _with_weights(library[name], merged)
                    pending.append(bodies[name])
    return bodies


class _Size:
    """Counts what is drawn, and refuses too much of it."""

    def __init__(self) -> None:
        self._nodes = 0
        self._inputs = 0

    def add(self, body: Body) -> None:
        self._nodes += len(body.nodes) + len(body.arguments) + len(body.results)
        self._inputs += sum(len(node.input) for node in body.nodes)
        if self._nodes > MOST_NODES or self._inputs > MOST_INPUTS:
            raise ResourceLimitError(
                f"What is to be drawn has more than {MOST_NODES:,} nodes or {MOST_INPUTS:,} inputs "
                "of nodes; choose a smaller function by --function."
            )


def _passed(caller: Body, node: NodeDef, callee: Body) -> tuple[Weight | None, ...]:
    """Returns the variables and constants among a function's arguments, as one node passes them.

    It is empty if nothing is known about them.
    """
    inputs = [tensor for tensor in node.input if not tensor.startswith("^")]
    if node.op in _BRANCHES:
        inputs = inputs[1:]
    elif node.op not in CALLS and node.op not in _LOOPS:
        return ()
    if len(inputs) != len(callee.arguments):
        return ()
    passed = [caller.weight_of(tensor) for tensor in inputs]
    if node.op in _LOOPS:
        # All but handles may be others in the next round.
        for position, argument in enumerate(callee.arguments):
            if argument.type_text != "resource":
                passed[position] = None
    return tuple(passed)


def _merged(
    before: tuple[Weight | None, ...], passed: tuple[Weight | None, ...]
) -> tuple[Weight | None, ...]:
    if len(before) != len(passed):
        return ()
    return tuple(a if a == b else None for a, b in zip(before, passed, strict=True))


def _with_weights(function: FunctionDef, weights: tuple[Weight | None, ...]) -> Body:
    names = [arg.name for arg in function.signature.input_arg]
    known = {name: w for name, w in zip(names, weights, strict=False) if w is not None}
    return _body(function, known)
