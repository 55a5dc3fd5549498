"""The part of a graph that a run needs, as a FunctionDef."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from savax.errors import InvalidArgumentError, KeyNotFoundError, UnsupportedOpError
from savax.function._op_schemas import (
    OpSchema,
    is_known_op,
    op_schema,
    output_ranges,
    output_types,
    schema_of,
)
from savax.function.graph._functional import FunctionalGraph, has_control_flow
from savax.function.graph._old_arrays import with_new_arrays
from savax.function.graph._ref_variables import as_resources
from savax.function.graph._restore_calls import with_restores
from savax.function.graph._tensor_names import canonical_tensor, split_tensor
from savax.function.lowering._graph_writer import UniqueNames, legal_argument_name
from savax.protos import FunctionDef, NodeDef, decode_shape, encode_attr
from savax.types import TensorSpec, as_dtype

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from savax.types import DType

_HANDLE_OPS = frozenset({"VarHandleOp"})
_REF_OFFSET = 100  # a dtype's number plus this is a reference to a tensor of the dtype


class Feed(NamedTuple):
    """A tensor whose value is given.

    Attributes:
      tensor: its name.
      name: that the argument should have.
    """

    tensor: str
    name: str


class PrunedFunction(NamedTuple):
    """A part of a graph.

    Attributes:
      definition: its arguments are the feeds, then the resources, then the tables; its results are
        the fetches.
      resources: the Variables that it uses: name that they are shared by, dtype and shape.
      tables: the nodes of the tables that it uses, of those that are to be arguments.
      unfed: names of the placeholders that it needs and that aren't fed.
    """

    definition: FunctionDef
    resources: tuple[TensorSpec, ...]
    tables: tuple[str, ...]
    unfed: tuple[str, ...]


class PrunableGraph:
    """A graph's nodes as they are evaluated: variables are resources, control flow is functions.

    Args:
      nodes: the nodes by name, as they are.
      functions: the functions that they call.
      values: for tensors whose nodes were rewritten, those that have their values now.

    Attributes:
      nodes: as given.
      functions: as given.
      values: as given.
    """

    def __init__(
        self,
        nodes: dict[str, NodeDef],
        functions: Mapping[str, FunctionDef],
        values: Mapping[str, str] | None = None,
    ) -> None:
        self.nodes = nodes
        self.functions = functions
        self.values = values or {}

    @classmethod
    def of(cls, nodes: Sequence[NodeDef], functions: Mapping[str, FunctionDef]) -> PrunableGraph:
        """Returns a graph rewritten so that it can be evaluated."""
        written_out, outputs = with_restores(nodes, functions)
        rewritten = as_resources(with_new_arrays(written_out))
        by_name = {node.name: node for node in rewritten.nodes}
        values = rewritten.values | outputs
        if has_control_flow(by_name):
            own = {}
            for name, node in by_name.items():
                own[name] = NodeDef()
                own[name].CopyFrom(node)
            library = dict(functions)
            graph = FunctionalGraph(own, library, cls(own, library))
            graph.rewrite()
            by_name, functions = own, library
            values |= graph.values
        return cls(by_name, functions, values)

    def schema(self, node: NodeDef) -> OpSchema | None:
        """Returns the schema of a node's op or function, None if it is unknown."""
        if is_known_op(node.op):
            return op_schema(node.op)
        function = self.functions.get(node.op)
        return None if function is None else schema_of(function.signature)

    def dtype(self, tensor: str) -> DType:
        """Returns the dtype of a tensor."""
        name, index = split_tensor(tensor)
        node = self.nodes.get(name)
        if node is None:
            raise KeyNotFoundError(f"There is no tensor {tensor!r}: the graph has no {name!r}.")
        schema = self.schema(node)
        if schema is None:
            raise UnsupportedOpError(f"TensorFlow has no op named {node.op!r} ({name!r}).")
        types = output_types(schema, node.attr)
        if index >= len(types):
            raise KeyNotFoundError(f"There is no tensor {tensor!r}: {name!r} has {len(types)}.")
        return types[index]

    def prune(
        self,
        feeds: Sequence[Feed],
        fetches: Sequence[str],
        targets: Sequence[str],
        name: str,
        dropped: frozenset[str] = frozenset(),
        tables: Container[str] = frozenset(),
    ) -> PrunedFunction:
        """Returns what computes tensors and runs operations.

        Args:
          feeds: tensors that are given.
          fetches: names of the tensors to compute.
          targets: names of the operations to run.
          name: of the function.
          dropped: operations that others don't wait for.
          tables: nodes that make tables, which are to be arguments.
        """
        return _Pruning(self, feeds, name, dropped).pruned(fetches, targets, tables)

    def write(
        self,
        arguments: Sequence[str],
        results: Sequence[str],
        targets: Sequence[str],
        name: str,
        dropped: frozenset[str],
    ) -> FunctionDef:
        """Returns the function of some tensors that gives others; see ``prune``."""
        feeds = [Feed(tensor, f"arg_{index}") for index, tensor in enumerate(arguments)]
        return self.prune(feeds, results, targets, name, dropped).definition

    def in_order(self, names: set[str]) -> list[NodeDef]:
        """Returns nodes in the order of the graph."""
        return [node for name, node in self.nodes.items() if name in names]


class _Pruning:
    """One part of a graph, while it is written as a function."""

    def __init__(
        self, graph: PrunableGraph, feeds: Sequence[Feed], name: str, dropped: frozenset[str]
    ) -> None:
        self._graph = graph
        self._dropped = dropped
        self._function = FunctionDef()
        self._function.signature.name = name
        self._unique_nodes = UniqueNames(graph.nodes)
        self._arguments: dict[str, str] = {}
        self._handles: dict[str, str] = {}
        self._shared: dict[str, str] = {}
        self._resources: list[TensorSpec] = []
        unique = UniqueNames()
        for feed in feeds:
            argument = unique.unique(legal_argument_name(feed.name))
            while _clashes(graph.nodes.get(argument), feed.tensor):
                argument = unique.unique(argument)
            self._arguments[feed.tensor] = argument
            dtype = graph.dtype(feed.tensor)
            self._function.signature.input_arg.add(name=argument, type=dtype.number)
        self._taken = unique

    def pruned(
        self, fetches: Sequence[str], targets: Sequence[str], tables: Container[str]
    ) -> PrunedFunction:
        values = [self._graph.values.get(fetch, fetch) for fetch in fetches]
        values = [
            v if f not in self._arguments else f for v, f in zip(values, fetches, strict=True)
        ]
        needed = self._needed([*values, *(f"^{target}" for target in targets)])
        nodes = self._graph.in_order(needed)
        for node in nodes:
            if node.op in _HANDLE_OPS:
                self._add_resource(node)
        captured = [node.name for node in nodes if node.name in tables]
        for table in captured:
            self._add_handle(table, table)
        unfed = [node.name for node in nodes if node.op == "Placeholder"]
        for node in nodes:
            if node.name not in self._handles:
                self._write(node)
        for fetch, value in zip(fetches, values, strict=True):
            self._write_result(fetch, value)
        self._write_effects(nodes, targets)
        return PrunedFunction(self._function, tuple(self._resources), tuple(captured), tuple(unfed))

    def _needed(self, wanted: Sequence[str]) -> set[str]:
        needed: set[str] = set()
        pending = list(wanted)
        while pending:
            name = self._source(pending.pop())
            if name is None or name in needed:
                continue
            node = self._graph.nodes.get(name)
            if node is None:
                raise InvalidArgumentError(f"The graph has no operation {name!r}.")
            needed.add(name)
            pending += node.input
        return needed

    def _source(self, tensor: str) -> str | None:
        """Returns the node that a tensor or control input needs, None if it is given."""
        if tensor.startswith("^"):
            name = tensor[1:]
            if name in self._dropped:
                return None
            node = self._graph.nodes.get(name)
            fed = node is not None and node.op == "Placeholder" and f"{name}:0" in self._arguments
            return None if fed else name
        tensor = canonical_tensor(tensor)
        return None if tensor in self._arguments else split_tensor(tensor)[0]

    def _add_resource(self, node: NodeDef) -> None:
        shared = node.attr["shared_name"].s.decode("utf-8", "surrogateescape") or node.name
        shape = decode_shape(node.attr["shape"].shape)
        spec = TensorSpec(shape, as_dtype(node.attr["dtype"].type % _REF_OFFSET), shared)
        if shared in self._shared:
            self._handles[node.name] = self._shared[shared]
            return
        arg = self._add_handle(node.name, shared)
        arg.handle_data.add(dtype=spec.dtype.number).shape.CopyFrom(node.attr["shape"].shape)
        self._shared[shared] = arg.name
        self._resources.append(spec)

    def _add_handle(self, node: str, name: str) -> Any:
        """Adds an argument for what a node is the handle of; returns its definition."""
        argument = self._taken.unique(legal_argument_name(f"{name}_resource"))
        while argument in self._graph.nodes:
            argument = self._taken.unique(argument)
        self._handles[node] = argument
        return self._function.signature.input_arg.add(
            name=argument, type=as_dtype("resource").number
        )

    def _write(self, node: NodeDef) -> None:
        written = self._function.node_def.add()
        written.CopyFrom(node)
        written.ClearField("input")
        data = [t for t in node.input if not t.startswith("^")]
        controls = [t for t in node.input if t.startswith("^")]
        written.input.extend(self._tensor(tensor) for tensor in data)
        written.input.extend(t for t in controls if self._is_written(t))

    def _is_written(self, control: str) -> bool:
        source = self._source(control)
        return source is not None and source not in self._handles

    def _tensor(self, tensor: str) -> str:
        """Returns the name that a tensor of the graph has inside the function."""
        tensor = canonical_tensor(tensor)
        if tensor in self._arguments:
            return self._arguments[tensor]
        name, index = split_tensor(tensor)
        if name in self._handles:
            return self._handles[name]
        node = self._graph.nodes[name]
        schema = self._graph.schema(node)
        if schema is None:
            return tensor
        for output, (start, length) in output_ranges(schema, node.attr).items():
            if start <= index < start + length:
                return f"{name}:{output}:{index - start}"
        raise KeyNotFoundError(f"There is no tensor {tensor!r}: {node.op} has fewer outputs.")

    def _write_result(self, fetch: str, value: str) -> None:
        dtype = self._graph.dtype(value)
        result = f"output_{len(self._function.signature.output_arg)}"
        self._function.signature.output_arg.add(name=result, type=dtype.number)
        identity = self._function.node_def.add(op="Identity", input=[self._tensor(value)])
        identity.name = self._unique_nodes.unique("Identity")
        identity.attr["T"].CopyFrom(encode_attr(dtype, "type"))
        self._function.ret[result] = f"{identity.name}:output:0"

    def _write_effects(self, nodes: Sequence[NodeDef], targets: Sequence[str]) -> None:
        written = {node.name for node in self._function.node_def}
        effects = []
        for node in nodes:
            schema = self._graph.schema(node)
            if schema is not None and schema.is_stateful and node.name in written:
                effects.append(node.name)
        self._function.signature.is_stateful = bool(effects)
        for name in dict.fromkeys((*effects, *(t for t in targets if t in written))):
            self._function.signature.control_output.append(name)
            self._function.control_ret[name] = name


def _clashes(node: NodeDef | None, fed: str) -> bool:
    """Whether an argument can't have the name of a node, as both may be in the function."""
    return node is not None and (node.op != "Placeholder" or fed != f"{node.name}:0")
