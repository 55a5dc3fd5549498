"""Operation and Tensor: handles of a graph's nodes, and of what they produce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from savax.errors import InvalidArgumentError, KeyNotFoundError, TracingError
from savax.function.graph._declared_shapes import declared_shape
from savax.function.graph._default_stack import evaluate
from savax.function.graph._operators import TensorOperators
from savax.function.graph._tensor_names import canonical_tensor
from savax.protos import decode_attr
from savax.types import TensorShape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.graph._graph import Graph
    from savax.protos import NodeDef, OpDef
    from savax.types import DType, Shape


class Operation:
    """A node of a graph.

    Attributes:
      graph: the graph.
      node_def: the node's message; not to be changed.
    """

    __slots__ = ("_outputs", "graph", "node_def")

    def __init__(self, graph: Graph, node_def: NodeDef) -> None:
        self.graph = graph
        self.node_def = node_def
        self._outputs: tuple[Tensor, ...] | None = None

    @property
    def name(self) -> str:
        """The node's name, unique in its graph."""
        return self.node_def.name

    @property
    def type(self) -> str:
        """The op, or the name of the library function that the node calls."""
        return self.node_def.op

    @property
    def device(self) -> str:
        """The device that the node asks for, empty for any."""
        return self.node_def.device

    @property
    def op_def(self) -> OpDef:
        """What is registered about the op."""
        return self.graph.schema_of(self.type).op_def

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that the node takes."""
        names = [name for name in self.node_def.input if not name.startswith("^")]
        return tuple(self.graph.get_tensor_by_name(canonical_tensor(name)) for name in names)

    @property
    def control_inputs(self) -> tuple[Operation, ...]:
        """The nodes that run before it."""
        names = [name[1:] for name in self.node_def.input if name.startswith("^")]
        return tuple(self.graph.get_operation_by_name(name) for name in names)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The tensors that the node produces."""
        if self._outputs is None:
            dtypes = self.graph.output_types(self.node_def)
            self._outputs = tuple(Tensor(self, i, dtype) for i, dtype in enumerate(dtypes))
        return self._outputs

    def values(self) -> tuple[Tensor, ...]:
        """Returns the outputs (TensorFlow's spelling)."""
        return self.outputs

    def get_attr(self, name: str) -> Any:
        """Returns an attribute; one that the node leaves out has its op's default.

        Raises:
          InvalidArgumentError: the op has no such attribute.
        """
        attr = self.node_def.attr
        if name in attr and attr[name].WhichOneof("value") is not None:
            return decode_attr(attr[name])
        declared = self.graph.schema_of(self.type).attrs.get(name)
        if declared is None or declared.default is None:
            raise InvalidArgumentError(f"The operation {self.name!r} has no attribute {name!r}.")
        return decode_attr(declared.default)

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Runs the operation in a session, by default in that of the nearest ``with``."""
        evaluate(self, feed_dict, session)

    def __repr__(self) -> str:
        return f"<savax.Operation {self.name!r} type={self.type}>"


class Tensor(TensorOperators):
    """An output of an operation: a value that exists when a session runs.

    Arithmetic and indexing add nodes to the graph. ``==`` compares handles, not values.

    Attributes:
      op: the operation.
      value_index: position among its outputs.
    """

    __slots__ = ("_dtype", "_shape", "_shape_is_known", "op", "value_index")

    def __init__(self, op: Operation, value_index: int, dtype: DType) -> None:
        self.op = op
        self.value_index = value_index
        self._dtype = dtype
        self._shape: Shape = None
        self._shape_is_known = False

    @property
    def name(self) -> str:
        """The tensor's name, such as ``"dense/add:0"``."""
        return f"{self.op.name}:{self.value_index}"

    @property
    def graph(self) -> Graph:
        """The graph that holds it."""
        return self.op.graph

    @property
    def dtype(self) -> DType:
        """The dtype of the elements."""
        return self._dtype

    @property
    def device(self) -> str:
        """The device that its operation asks for."""
        return self.op.device

    @property
    def shape(self) -> Shape:
        """Sizes as a tuple, with None for those that vary; None if the rank is unknown."""
        if not self._shape_is_known:
            self._shape = self.graph.inferred_shape(self)
            self._shape_is_known = True
        return self._shape

    @property
    def known_shape(self) -> Shape:
        """What is known of the shape without evaluating the graph."""
        return self._shape if self._shape_is_known else declared_shape(self)

    def get_shape(self) -> TensorShape:
        """Returns the shape as a value of its own (TensorFlow's spelling)."""
        return TensorShape(self.shape)

    def set_shape(self, shape: Shape) -> None:
        """Says what the shape is."""
        self._shape = None if shape is None else tuple(shape)
        self._shape_is_known = True

    def consumers(self) -> list[Operation]:
        """Returns the operations that take the tensor."""
        return [op for op in self.graph.get_operations() if self in op.inputs]

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """Returns the value in a session, by default in that of the nearest ``with``."""
        return evaluate(self, feed_dict, session)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TracingError(
            f"The graph tensor {self.name!r} has no value until a session runs. To apply a JAX or "
            "numpy function to it, use `graph.add(function, tensor)`."
        )

    def __bool__(self) -> NoReturn:
        raise TracingError(
            f"The graph tensor {self.name!r} is neither true nor false until a session runs; use "
            "`graph.add` with jax.lax.cond."
        )

    def __iter__(self) -> NoReturn:
        raise TracingError(f"The graph tensor {self.name!r} can't be iterated over.")

    def __repr__(self) -> str:
        return f"<savax.Tensor {self.name!r} shape={self.shape} dtype={self.dtype.name}>"


def operation_outputs(op: Operation, index: int) -> Tensor:
    """Returns one output of an operation.

    Raises:
      KeyNotFoundError: it has fewer.
    """
    outputs: Sequence[Tensor] = op.outputs
    if index >= len(outputs):
        raise KeyNotFoundError(
            f"There is no tensor '{op.name}:{index}': the operation has {len(outputs)} outputs."
        )
    return outputs[index]
