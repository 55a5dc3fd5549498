"""The nodes of a model: where they are, and what they are run for."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from savax.saved_model.cli._op_dangers import RESTORING, SAVING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from savax.protos import FunctionDef, MetaGraphDef, NodeDef

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_MAX_STEPS = 100_000  # for a model, from file names back to where they come from


class Place(NamedTuple):
    """Where a node is.

    Attributes:
      function: that it is in; empty for the main graph.
      node: its name.
    """

    function: str
    node: str

    def __str__(self) -> str:
        return f"{self.function}: {self.node}" if self.function else self.node


class _Call(NamedTuple):
    caller: str
    node: NodeDef


class ModelNodes:
    """The nodes of a MetaGraphDef, in the main graph and in functions.

    Args:
      meta_graph: the graph.

    Attributes:
      functions: the library by name.
      is_version_1: whether the main graph itself is what a caller runs, as there are no objects.
    """

    def __init__(self, meta_graph: MetaGraphDef) -> None:
        self._meta_graph = meta_graph
        self._main = {node.name: node for node in meta_graph.graph_def.node}
        library = meta_graph.graph_def.library
        self.functions: dict[str, FunctionDef] = {f.signature.name: f for f in library.function}
        self.is_version_1 = not meta_graph.HasField("object_graph_def")
        self._callees = {
            name: set(_mentioned(function.node_def, self.functions))
            for name, function in self.functions.items()
        }
        for gradient in library.gradient:
            self._callees.setdefault(gradient.function_name, set()).add(gradient.gradient_func)
        saver = meta_graph.saver_def
        self._restoring = self._ancestors(saver.restore_op_name)
        self._saving = self._ancestors(saver.save_tensor_name)
        of_saver = self._restoring | self._saving
        others = [node for name, node in self._main.items() if name not in of_saver]
        roots = set(meta_graph.object_graph_def.concrete_functions)
        self._of_model = self._reached(roots | set(_mentioned(others, self.functions)))
        self._of_restoring = self._functions_of(self._restoring) - self._of_model
        self._of_saving = self._functions_of(self._saving) - self._of_model
        self._only_saver = self._of_restoring | self._of_saving
        self._saver_nodes = of_saver
        self._calls = self._calls_by_function()
        self._steps = 0
        self._nodes_of = {
            name: {node.name: node for node in function.node_def}
            for name, function in self.functions.items()
        }
        self._users: dict[str, list[NodeDef]] = defaultdict(list)
        for node in self._main.values():
            for source in _input_nodes(node):
                self._users[source].append(node)
        self._handles = Counter(
            node.attr["shared_name"].s for _, node in self if node.op == "VarHandleOp"
        )
        self._assets = {_canonical(a.tensor_info.name) for a in meta_graph.asset_file_def}

    def __iter__(self) -> Iterator[tuple[Place, NodeDef]]:
        for node in self._meta_graph.graph_def.node:
            yield Place("", node.name), node
        for function in self._meta_graph.graph_def.library.function:
            for node in function.node_def:
                yield Place(function.signature.name, node.name), node

    def is_of_saver(self, place: Place, node: NodeDef) -> bool:
        """Whether a node does what savers do, in the part of the model that is its saver."""
        if place.function:
            restores = place.function in self._of_restoring
            saves = place.function in self._of_saving
        else:
            restores, saves = place.node in self._restoring, place.node in self._saving
        return (restores and node.op in RESTORING) or (saves and node.op in SAVING)

    def is_run(self, place: Place) -> bool:
        """Whether callers of the loaded model run a node, by one of its functions."""
        if place.function:
            return place.function not in self._only_saver
        return self.is_version_1 and place.node not in self._saver_nodes

    def reads_asset(self, place: Place, node: NodeDef) -> bool:
        """Whether the file name that initializes a table is that of an asset, for all callers."""
        pending = [(place.function, node.input[1])] if len(node.input) > 1 else []
        seen = set(pending)
        is_asset = bool(pending)
        while pending and is_asset and self._steps < _MAX_STEPS:
            self._steps += 1
            sources = self._sources(*pending.pop())
            is_asset = sources is not None
            for source in sources or ():
                if source not in seen:
                    seen.add(source)
                    pending.append(source)
        return is_asset and not pending

    def _sources(self, function: str, tensor: str) -> list[tuple[str, str]] | None:
        """Returns where a file name comes from: nothing for an asset, None if from elsewhere."""
        if not function:
            if _canonical(tensor) in self._assets:
                return []
            return self._main_sources(self._main.get(tensor.split(":")[0]))
        definition = self.functions[function]
        names = [arg.name for arg in definition.signature.input_arg]
        if tensor not in names:
            inner = tensor.split(":")[0]
            passed = self._nodes_of[function].get(inner)
            if passed is None or passed.op != "Identity" or not passed.input:
                return None
            return [(function, passed.input[0])]
        return self._passed(function, names.index(tensor), len(names))

    def _main_sources(self, node: NodeDef | None) -> list[tuple[str, str]] | None:
        if node is None or not node.input:
            return None
        if node.op == "Identity":
            return [("", node.input[0])]
        handle = self._main.get(node.input[0].split(":")[0])
        if node.op != "ReadVariableOp" or handle is None or handle.op != "VarHandleOp":
            return None
        # TensorFlow gives the path of an asset to functions by way of a variable.
        if self._handles[handle.attr["shared_name"].s] != 1:
            return None  # another node is a handle of the same variable
        users = self._users[handle.name]
        if {n.op for n in users} - {"AssignVariableOp", "ReadVariableOp", "VarIsInitializedOp"}:
            return None
        values = [n.input[1] for n in users if n.op == "AssignVariableOp" and len(n.input) > 1]
        return [("", value) for value in values] or None

    def _passed(self, function: str, index: int, count: int) -> list[tuple[str, str]] | None:
        """Returns what callers pass as an argument."""
        objects = self._meta_graph.object_graph_def
        if function in objects.concrete_functions:
            bound = objects.concrete_functions[function].bound_inputs
            position = index - (count - len(bound))
            if position < 0 or not 0 <= bound[position] < len(objects.nodes):
                return None
            if objects.nodes[bound[position]].WhichOneof("kind") != "asset":
                return None
        calls = self._calls[function]
        if any(c.node.op not in _CALLS or index >= len(c.node.input) for c in calls):
            return None
        return [(call.caller, call.node.input[index]) for call in calls]

    def _calls_by_function(self) -> Mapping[str, list[_Call]]:
        calls: dict[str, list[_Call]] = defaultdict(list)
        bodies = {"": self._meta_graph.graph_def.node}
        bodies |= {name: function.node_def for name, function in self.functions.items()}
        for caller, nodes in bodies.items():
            for node in nodes:
                for callee in set(_mentioned([node], self.functions)):
                    calls[callee].append(_Call(caller, node))
        return calls

    def _ancestors(self, name: str) -> set[str]:
        """Returns the nodes of the main graph that one needs, itself too."""
        pending = [name.split(":")[0]]
        found: set[str] = set()
        while pending:
            node = self._main.get(pending.pop())
            if node is not None and node.name not in found:
                found.add(node.name)
                pending += [source.lstrip("^").split(":")[0] for source in node.input]
        return found

    def _functions_of(self, nodes: set[str]) -> set[str]:
        return self._reached(set(_mentioned((self._main[n] for n in nodes), self.functions)))

    def _reached(self, names: set[str]) -> set[str]:
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += self._callees.get(name, ())
        return found


def _mentioned(nodes: Iterable[NodeDef], known: Mapping[str, FunctionDef]) -> Iterator[str]:
    """Yields the functions that nodes call, or have as attributes."""
    for node in nodes:
        if node.op in known:
            yield node.op
        for value in node.attr.values():
            if value.HasField("func"):
                yield value.func.name
            elif value.HasField("list"):
                yield from (func.name for func in value.list.func)


def _input_nodes(node: NodeDef) -> set[str]:
    return {source.lstrip("^").split(":")[0] for source in node.input}


def _canonical(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"
