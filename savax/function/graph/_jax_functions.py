"""JAX functions as nodes of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from savax.errors import InvalidArgumentError, UnsupportedError
from savax.function._polymorphic import Function
from savax.function._reachable import reachable_variables
from savax.function.graph._graph_variables import resource_of
from savax.function.graph._handles import Operation, Tensor
from savax.function.graph._inlining import InlinedNodes, inlined_nodes
from savax.function.graph._tensor_names import split_tensor
from savax.function.lowering._body_lowering import lower_body
from savax.function.lowering._graph_writer import legal_node_name
from savax.function.stablehlo._options import OPS, Backend, chosen_backend
from savax.function.tracing._tracing import trace
from savax.trackable import Constant, Variable, content_key
from savax.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.function.graph._graph import Graph
    from savax.function.tracing._traced_body import RankPolymorphicBody, TracedBody
    from savax.protos import FunctionDef, NodeDef


def add_function(
    graph: Graph, function: Callable[..., Any], args: Sequence[Any], name: str | None
) -> Any:
    """Adds a JAX function, applied to tensors; see ``Graph.add``."""
    leaves, tree = jax.tree.flatten(list(args), is_leaf=_is_graph_value)
    positions = [i for i, leaf in enumerate(leaves) if _is_graph_value(leaf)]
    tensors = [graph.as_tensor(leaves[i]) for i in positions]

    def flat_function(*arrays: Any) -> tuple[list[Any], Any]:
        values = list(leaves)
        for i, array in zip(positions, arrays, strict=True):
            values[i] = array
        result = function(*jax.tree.unflatten(tree, values))
        keyed, out_tree = jax.tree_util.tree_flatten_with_path(result)
        return [leaf for _, leaf in keyed], (out_tree, [path for path, _ in keyed])

    specs = [TensorSpec(tensor.shape, tensor.dtype, f"x{i}") for i, tensor in enumerate(tensors)]
    traced = trace(flat_function, specs, candidates=reachable_variables(function), may_create=False)
    out_tree, paths = traced.aux
    base = name or legal_node_name(getattr(function, "__name__", "function"))
    with graph.name_scope(base) as scope:
        written = _write(graph, traced.body, tensors, _backend(function))
        names = [_result_name(graph, scope, path) for path in paths]
    if not names:
        return _effect(graph, scope, written)
    results = _renamed(graph, written, names)
    for tensor, spec in zip(results, traced.body.out_specs, strict=True):
        tensor.set_shape(spec.shape)
    return jax.tree.unflatten(out_tree, results)


def _is_graph_value(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) or hasattr(leaf, "graph_tensor")


def _result_name(graph: Graph, scope: str, path: Sequence[Any]) -> str:
    """Returns the name of a result: that of the scope, or inside it by the result's keys."""
    if not path:
        return scope.removesuffix("/")
    keys = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", "")))) for k in path]
    name = "_".join(f"output_{key}" if key.isdecimal() else key for key in keys)
    return graph.unique_name(legal_node_name(name))


def _backend(function: Callable[..., Any]) -> Backend:
    """Returns what a function is written as: operations, unless it is one that says otherwise."""
    if not isinstance(function, Function):
        return OPS
    spec = function.function_spec
    return chosen_backend(spec.lowering, spec.fallback)


def _write(
    graph: Graph,
    body: TracedBody | RankPolymorphicBody,
    tensors: Sequence[Tensor],
    backend: Backend,
) -> InlinedNodes:
    """Returns the nodes of a trace, named inside the current scope but not added yet."""
    captured = []
    for capture in body.captures:
        if isinstance(capture, Variable):
            captured.append(resource_of(graph, capture).handle)
        elif isinstance(capture, Constant):
            captured.append(_constant_of(graph, capture))
        else:
            raise UnsupportedError(
                f"The function uses {capture!r}, which a graph can't hold yet; add a table by "
                "graph.op."
            )
    name = graph.library.unique_name("__inference_graph_function")
    definition: FunctionDef = lower_body(body, name, graph.library, backend=backend)
    del graph.library.functions[name]
    arguments = [tensor.name for tensor in (*tensors, *captured)]

    return inlined_nodes(definition, arguments, graph.library.functions, graph.unique_name)


def _constant_of(graph: Graph, constant: Constant) -> Tensor:
    """Returns the tensor of an array, which the graph has once."""
    key = content_key(constant.array)
    found = graph.captured.get(key)
    if found is None:
        with graph.control_dependencies(None):
            found = graph.captured[key] = graph.constant(constant.array, name="captured")
    return found


def _renamed(graph: Graph, written: InlinedNodes, names: Sequence[str]) -> list[Tensor]:
    """Adds the nodes of a function; those of its results get their names."""
    nodes = {node.name: node for node in written.nodes}
    renames: dict[str, str] = {}
    results = []
    for output, final in zip(written.outputs, names, strict=True):
        identity = split_tensor(output)[0]
        source = _only_source(nodes, identity)
        if source is not None and source not in renames:
            del nodes[identity]
            renames[source] = final
        else:
            renames[identity] = final
        results.append(f"{final}:0")
    for node in nodes.values():
        _add(graph, node, renames)
    return [graph.get_tensor_by_name(name) for name in results]


def _only_source(nodes: dict[str, NodeDef], identity: str) -> str | None:
    """Returns the node whose only output an Identity passes on, if the Identity isn't needed."""
    node = nodes[identity]
    if len(node.input) != 1 or ":" in node.input[0] or node.input[0] not in nodes:
        return None
    source = nodes[node.input[0]]
    outputs = [t for n in nodes.values() for t in n.input if t.startswith(f"{source.name}:")]
    return None if outputs or source.op in ("ReadVariableOp", "Const") else source.name


def _add(graph: Graph, node: NodeDef, renames: dict[str, str]) -> None:
    inputs = []
    for tensor in node.input:
        mark = "^" if tensor.startswith("^") else ""
        source, colon, index = tensor.removeprefix("^").partition(":")
        inputs.append(f"{mark}{renames.get(source, source)}{colon}{index}")
    inputs += [f"^{control}" for control in graph.scopes.control_inputs]
    node.name = renames.get(node.name, node.name)
    node.ClearField("input")
    node.input.extend(inputs)
    node.device = graph.scopes.device
    graph.append_node(node)


def _effect(graph: Graph, scope: str, written: InlinedNodes) -> Operation:
    """Adds the nodes of a function without results; returns the operation that runs them."""
    if not written.effects:
        name = scope.removesuffix("/")
        raise InvalidArgumentError(f"The function {name!r} returns nothing and assigns nothing.")
    for node in written.nodes:
        _add(graph, node, {})
    with graph.control_dependencies([graph.get_operation_by_name(n) for n in written.effects]):
        operation: Operation = graph.op("NoOp", name=scope)
    return operation
