"""Graph: a version 1 graph under construction, or an imported one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.errors import InvalidArgumentError
from savax.function.graph._collections import Collections
from savax.function.graph._declared_shapes import shapes_attr
from savax.function.graph._default_stack import graph_scope
from savax.function.graph._graph_nodes import GraphNodes
from savax.function.graph._handles import Operation, Tensor
from savax.function.graph._jax_functions import add_function
from savax.function.graph._node_building import add_node, constant_array
from savax.function.graph._scopes import VariableScope
from savax.protos import GraphDef
from savax.protos._graph_versions import GRAPH_MIN_CONSUMER, GRAPH_PRODUCER
from savax.trackable import Constant

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from contextlib import AbstractContextManager

    from savax.types import DTypeLike, Shape


class Graph(GraphNodes, Collections):
    """Nodes of TensorFlow's ops, with collections of what belongs together.

    Nodes are added by the functions of ``savax.compat.v1`` while the graph is the default one, by
    operators of its tensors, by ``op``, by ``import_graph_def``, and by ``add`` from JAX functions.

    Attributes:
      resources: for objects outside the graph that functions captured, their handles in it.
      captured: tensors of the large arrays that functions close over, by content.
      variable_scope: where ``get_variable`` looks.
      variables_by_name: what it has made.
    """

    def __init__(self) -> None:
        GraphNodes.__init__(self)
        Collections.__init__(self)
        self.resources: dict[int, Any] = {}
        self.captured: dict[Hashable, Tensor] = {}
        self.variable_scope = VariableScope()
        self.variables_by_name: dict[str, Any] = {}

    # Contexts.

    def as_default(self) -> AbstractContextManager[Graph]:
        """Makes this the graph that new nodes go to, inside a ``with``."""
        return graph_scope(self)

    def name_scope(self, name: str | None) -> AbstractContextManager[str]:
        """Puts a prefix before the names of new nodes; see ``Scopes.name_scope``."""
        return self.scopes.name_scope(name)

    def get_name_scope(self) -> str:
        """Returns the current prefix, without the slash at its end."""
        return self.scopes.prefix.removesuffix("/")

    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> Any:
        """Makes new nodes wait for operations, inside a ``with``; None drops what waits so far."""
        if control_inputs is None:
            return self.scopes.controls(None)
        return self.scopes.controls(
            [_operation_of(self.as_graph_element(item)).name for item in control_inputs]
        )

    def device(self, device: str | None) -> Any:
        """Asks for a device for new nodes, inside a ``with``; savax itself ignores it."""
        return self.scopes.on_device(device)

    # Nodes.

    def op(
        self,
        op: str,
        *inputs: Any,
        name: str | None = None,
        output_shape: Any = "infer",
        **attrs: Any,
    ) -> Any:
        """Adds a node of any of TensorFlow's ops.

        Args:
          op: the op's name, such as ``"MatMul"``.
          *inputs: for each of the op's inputs a tensor, or a list of them; numbers and arrays
            become constants.
          name: of the node; the op's name by default.
          output_shape: of the only output, if it is known; by default it is inferred when somebody
            asks.
          **attrs: the op's attributes that the inputs don't determine.

        Returns:
          The output; a tuple of them if there are several, the Operation if there are none.

        Raises:
          UnsupportedOpError: TensorFlow has no such op.
          InvalidArgumentError: the inputs or attributes don't fit it.
        """
        operation = add_node(self, op, inputs, attrs, name or op)
        outputs = operation.outputs
        if output_shape != "infer":
            outputs[0].set_shape(output_shape)
        if not outputs:
            return operation
        return outputs[0] if len(outputs) == 1 else outputs

    def constant(
        self, value: Any, dtype: DTypeLike = None, shape: Shape = None, name: str = "Const"
    ) -> Tensor:
        """Adds a constant; see ``savax.compat.v1.constant``."""
        array, found = constant_array(value, dtype, shape)
        operation = self.append("Const", name, [], {"dtype": found, "value": array})
        return operation.outputs[0]

    def as_tensor(self, value: Any, dtype: DTypeLike = None, name: str = "Const") -> Tensor:
        """Returns a value as a tensor of this graph; what isn't one becomes a constant.

        Raises:
          InvalidArgumentError: it is a tensor of another graph.
        """
        found = value.graph_tensor() if hasattr(value, "graph_tensor") else value
        if not isinstance(found, Tensor):
            if isinstance(found, Constant):
                found = found.array
            return self.constant(found, dtype, name=name)
        if found.graph is not self:
            raise InvalidArgumentError(f"The tensor {found.name!r} belongs to another graph.")
        return found

    def add(self, function: Callable[..., Any], *args: Any, name: str | None = None) -> Any:
        """Adds a JAX function, applied to tensors, as nodes of TensorFlow's ops.

        The function is traced once, with unknown sizes as JAX's symbolic dimensions.
        ``savax.Variable`` objects that it uses become variables of the graph, with their present
        values as initial ones; if it assigns them, running its results does so.

        Args:
          function: takes and returns arrays, in any structure of lists, tuples and dicts.
          *args: its arguments: tensors and variables of the graph, and whatever else it takes.
          name: what the result is called; by default the function's name. Several results are
            called ``name/key``, by their keys or as ``output_0`` and so on.

        Returns:
          The tensors, in the structure that the function returns; the Operation that runs it, if it
          returns nothing.

        Raises:
          UnsupportedPrimitiveError: the function has no form in TensorFlow's ops.
          TracingError: it can't be traced.
        """
        return add_function(self, function, args, name)

    # The whole.

    def as_graph_def(self, from_version: int | None = None, add_shapes: bool = False) -> GraphDef:
        """Returns the graph as a message.

        Args:
          from_version: leaves out the nodes that the graph had at this ``version``.
          add_shapes: whether nodes get their shapes, as the attribute ``_output_shapes``.
        """
        graph = GraphDef()
        for operation in list(self._operations.values())[from_version or 0 :]:
            node = graph.node.add()
            node.CopyFrom(operation.node_def)
            if add_shapes:
                shapes_attr(operation, node)
        for function in self.library.functions.values():
            graph.library.function.add().CopyFrom(function)
        graph.versions.producer = GRAPH_PRODUCER
        if self.library.functions:
            graph.versions.min_consumer = GRAPH_MIN_CONSUMER
        return graph

    def __repr__(self) -> str:
        return f"<savax.Graph with {len(self._operations)} operations>"


def _operation_of(element: Tensor | Operation) -> Operation:
    return element.op if isinstance(element, Tensor) else element
