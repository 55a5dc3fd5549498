"""import_graph_def: the nodes of a GraphDef, under a prefix, in the default graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.errors import CorruptSavedModelError, InvalidArgumentError, KeyNotFoundError
from savax.function.graph._default_stack import get_default_graph
from savax.function.graph._tensor_names import canonical_tensor
from savax.function.lowering._body_lowering import rename_calls, renamed_function
from savax.protos import GraphDef, NodeDef, functions_by_name, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.function.graph._graph import Graph
    from savax.function.graph._handles import Tensor

_COLOCATION = b"loc:@"


def import_graph_def(
    graph_def: Any,
    input_map: Mapping[str, Tensor] | None = None,
    return_elements: Sequence[str] | None = None,
    name: str | None = None,
) -> list[Any] | None:
    """Adds the nodes of a GraphDef to the default graph.

    Args:
      graph_def: the message, also that of TensorFlow.
      input_map: tensors of the default graph that take the place of the GraphDef's, by their names
        there.
      return_elements: names of tensors and operations to return.
      name: the prefix, ``import`` by default; empty for none.

    Returns:
      What ``return_elements`` names, or None.

    Raises:
      TypeError: it is no GraphDef.
      InvalidArgumentError: a name is taken, or names that are given aren't in the GraphDef.
      CorruptSavedModelError: nodes take tensors of nodes that aren't there.
    """
    graph = get_default_graph()
    message = as_graph_def(graph_def)
    prefix = "import" if name is None else name.removesuffix("/")
    if prefix and not (name or "").endswith("/"):
        prefix = graph.unique_name(prefix)
    scope = f"{prefix}/" if prefix else graph.scopes.prefix
    importing = _Import(graph, message, scope, input_map or {})
    importing.add_functions()
    importing.add_nodes()
    if return_elements is None:
        return None
    return [importing.element(element) for element in return_elements]


def as_graph_def(graph_def: Any) -> GraphDef:
    """Returns a GraphDef of this package's for one of any runtime.

    Raises:
      TypeError: it is none.
    """
    if isinstance(graph_def, GraphDef):
        return graph_def
    descriptor = getattr(graph_def, "DESCRIPTOR", None)
    if getattr(descriptor, "full_name", None) != GraphDef.DESCRIPTOR.full_name:
        raise TypeError(f"graph_def must be a GraphDef, got {type(graph_def).__name__}.")
    return parse(GraphDef, graph_def.SerializeToString(), "the given GraphDef")


class _Import:
    def __init__(
        self, graph: Graph, message: GraphDef, scope: str, input_map: Mapping[str, Tensor]
    ) -> None:
        self._graph = graph
        self._message = message
        self._scope = scope
        self._renames: dict[str, str] = {}
        self._names = {node.name for node in message.node}
        self._mapped = {_key(key): tensor for key, tensor in input_map.items()}
        missing = [key for key in input_map if key.lstrip("^").split(":", 1)[0] not in self._names]
        if missing:
            raise InvalidArgumentError(f"input_map names what isn't in the GraphDef: {missing}.")
        if len(self._names) < len(message.node):
            raise CorruptSavedModelError("The GraphDef has two nodes of one name.")

    def add_functions(self) -> None:
        """Adds the library; a function whose name another one has gets a new one."""
        library = self._graph.library
        given = functions_by_name(self._message.library)
        for name, function in given.items():
            if name in library.functions and library.functions[name] != function:
                self._renames[name] = library.unique_name(name)
        for function in given.values():
            renamed = renamed_function(function, self._renames) if self._renames else function
            library.add(renamed)

    def add_nodes(self) -> None:
        taken = [
            name for name in sorted(self._names) if self._graph.has_operation(self._scope + name)
        ]
        if taken:
            raise InvalidArgumentError(f"The graph has operations {taken[:10]} already.")
        for node in self._message.node:
            copied = NodeDef()
            copied.CopyFrom(node)
            copied.name = self._scope + node.name
            rename_calls(copied, self._renames)
            copied.ClearField("input")
            copied.input.extend(self._input(node, tensor) for tensor in node.input)
            copied.input.extend(f"^{name}" for name in self._graph.scopes.control_inputs)
            if self._scope and "_class" in copied.attr:
                self._move_colocation(copied)
            if self._graph.scopes.device and not copied.device:
                copied.device = self._graph.scopes.device
            self._graph.append_node(copied)

    def _input(self, node: NodeDef, tensor: str) -> str:
        mapped = self._mapped.get(_key(tensor))
        if mapped is not None:
            return f"^{mapped.op.name}" if tensor.startswith("^") else mapped.name
        mark = "^" if tensor.startswith("^") else ""
        source = tensor.removeprefix("^")
        if source.split(":", 1)[0] not in self._names:
            raise CorruptSavedModelError(
                f"The node {node.name!r} takes {tensor!r}, which no node of the GraphDef produces."
            )
        return f"{mark}{self._scope}{source}"

    def _move_colocation(self, node: NodeDef) -> None:
        values = list(node.attr["_class"].list.s)
        del node.attr["_class"].list.s[:]
        node.attr["_class"].list.s.extend(
            _COLOCATION + self._scope.encode() + value[len(_COLOCATION) :]
            if value.startswith(_COLOCATION)
            else value
            for value in values
        )

    def element(self, name: str) -> Any:
        if name.split(":", 1)[0] not in self._names:
            raise InvalidArgumentError(f"return_elements: the GraphDef has no {name!r}.")
        try:
            return self._graph.as_graph_element(self._scope + name)
        except KeyNotFoundError as error:
            raise InvalidArgumentError(f"return_elements: {error}") from None


def _key(tensor: str) -> str:
    return tensor if tensor.startswith("^") else canonical_tensor(tensor)
