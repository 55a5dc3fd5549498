"""Variables of a graph: nodes that hold a value in each session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import InvalidArgumentError, UnsupportedOptionError
from savax.function.graph._default_stack import evaluate, get_default_graph
from savax.function.graph._graph_keys import VARIABLE_COLLECTIONS, GraphKeys
from savax.function.graph._operators import TensorOperators
from savax.protos import SaveSliceInfoDef, VariableDef
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from savax.function.graph._graph import Graph
    from savax.function.graph._handles import Operation, Tensor
    from savax.trackable import Variable
    from savax.types import DType, DTypeLike, Shape


class GraphVariable(TensorOperators):
    """A variable of a graph; each session has a value of it.

    It belongs to the default graph. Where a tensor is wanted it stands for the value that it has
    when a session runs.

    Args:
      initial_value: what its initializer assigns: an array, a tensor of the graph, or a function
        without arguments that returns one.
      trainable: whether it is in the collection of trainable variables.
      collections: names of the collections that it is added to; by default the global variables.
      validate_shape: whether later values must have the initial value's shape.
      name: of the node that holds it.
      dtype: casts the initial value.
      use_resource: accepted if it isn't False; savax writes no reference variables.

    Raises:
      InvalidArgumentError: there is no initial value, or it makes no tensor.
      UnsupportedOptionError: a reference variable is asked for.
    """

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool = True,
        collections: Iterable[str] | None = None,
        validate_shape: bool = True,
        *,
        name: str | None = None,
        dtype: DTypeLike = None,
        use_resource: bool | None = None,
    ) -> None:
        if initial_value is None:
            raise InvalidArgumentError("A variable needs an initial value.")
        if use_resource is False:
            raise UnsupportedOptionError("savax writes resource variables only: use_resource.")
        graph = get_default_graph()
        unique = graph.unique_name(name or "Variable")
        value = initial_value() if callable(initial_value) else initial_value
        with graph.name_scope(f"{unique}/"), graph.control_dependencies(None):
            initial = graph.as_tensor(value, dtype, name="initial_value")
        wanted = initial.dtype if dtype is None else as_dtype(dtype)
        if initial.dtype is not wanted:
            initial = graph.op("Cast", initial, DstT=wanted, name=f"{unique}/Cast/")
        self._finish(
            _add_variable(graph, unique, initial, initial.shape if validate_shape else None),
            graph,
            trainable=trainable,
        )
        names = [GraphKeys.GLOBAL_VARIABLES] if collections is None else list(collections)
        for collection in names + [GraphKeys.TRAINABLE_VARIABLES] * trainable:
            graph.add_to_collection(collection, self)

    def _finish(self, parts: VariableDef, graph: Graph, *, trainable: bool) -> None:
        self._parts = parts
        self._graph = graph
        self._trainable = trainable

    @classmethod
    def from_proto(
        cls, variable_def: VariableDef, import_scope: str | None = None, graph: Graph | None = None
    ) -> GraphVariable:
        """Returns the variable whose nodes a message names, in a graph that has them.

        Raises:
          KeyNotFoundError: the graph doesn't have them.
        """
        chosen = graph or get_default_graph()
        parts = VariableDef()
        parts.CopyFrom(variable_def)
        if import_scope:
            for field in _NAMES:
                if name := getattr(parts, field):
                    setattr(parts, field, f"{import_scope}/{name}")
        variable = cls.__new__(cls)
        variable._finish(parts, chosen, trainable=bool(parts.trainable))
        chosen.get_tensor_by_name(parts.variable_name)
        return variable

    def to_proto(self, export_scope: str | None = None) -> VariableDef:
        """Returns the message that names the variable's nodes."""
        parts = VariableDef()
        parts.CopyFrom(self._parts)
        parts.trainable = self._trainable
        for field in _NAMES if export_scope else ():
            setattr(parts, field, getattr(parts, field).removeprefix(f"{export_scope}/"))
        return parts

    @property
    def graph(self) -> Graph:
        """The graph that holds it."""
        return self._graph

    @property
    def name(self) -> str:
        """Name of the tensor that refers to it, such as ``"w:0"``."""
        return self._parts.variable_name

    @property
    def handle(self) -> Tensor:
        """The tensor that refers to it."""
        return self._graph.get_tensor_by_name(self.name)

    @property
    def op(self) -> Operation:
        """The operation that holds it."""
        return self.handle.op

    @property
    def device(self) -> str:
        """The device that it asks for."""
        return self.op.device

    @property
    def dtype(self) -> DType:
        """The dtype of its values."""
        return as_dtype(self.op.get_attr("dtype"))

    @property
    def shape(self) -> Shape:
        """The shape of its values, with None for what may vary."""
        shape: Shape = self.op.get_attr("shape").dims
        return shape

    @property
    def trainable(self) -> bool:
        """Whether it is meant to be trained."""
        return self._trainable

    @property
    def is_resource(self) -> bool:
        """Whether it is a resource; variables of early graphs are references."""
        return self.op.type == "VarHandleOp"

    @property
    def initializer(self) -> Operation:
        """The operation that assigns the initial value."""
        return self._graph.get_operation_by_name(self._parts.initializer_name)

    @property
    def initial_value(self) -> Tensor:
        """What the initializer assigns."""
        return self._graph.get_tensor_by_name(self._parts.initial_value_name)

    @property
    def save_slice(self) -> SaveSliceInfoDef | None:
        """The part of a partitioned variable that this one is, None for a whole one."""
        if not self._parts.HasField("save_slice_info_def"):
            return None
        return self._parts.save_slice_info_def

    def value(self) -> Tensor:
        """Returns the tensor of its value at the time when a session runs."""
        name = self._parts.snapshot_name
        return self._graph.get_tensor_by_name(name) if name else self.read_value()

    def graph_tensor(self) -> Tensor:
        """Returns the tensor that stands for it where one is wanted."""
        return self.value()

    def read_value(self) -> Tensor:
        """Adds a node that reads it after the current control inputs."""
        if not self.is_resource:
            return self._graph.op("Identity", self.handle, name="read", output_shape=self.shape)  # type: ignore[no-any-return]
        return self._graph.op(  # type: ignore[no-any-return]
            "ReadVariableOp", self.handle, name="read", dtype=self.dtype, output_shape=self.shape
        )

    def assign(
        self,
        value: Any,
        use_locking: bool | None = None,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Adds nodes that assign a value.

        Args:
          value: the new value.
          use_locking: accepted and ignored: each run of a session is one step.
          name: of the node.
          read_value: whether to return the tensor of the new value, or else the operation.
        """
        del use_locking
        return self._assign("Assign", value, name, read_value)

    def assign_add(
        self,
        delta: Any,
        use_locking: bool | None = None,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Adds nodes that add to the value; see ``assign``."""
        del use_locking
        return self._assign("AssignAdd", delta, name, read_value)

    def assign_sub(
        self,
        delta: Any,
        use_locking: bool | None = None,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """Adds nodes that subtract from the value; see ``assign``."""
        del use_locking
        return self._assign("AssignSub", delta, name, read_value)

    def _assign(self, op: str, value: Any, name: str | None, read_value: bool) -> Any:
        graph = self._graph
        tensor = graph.as_tensor(value, self.dtype)
        if not self.is_resource:
            found = graph.op(op, self.handle, tensor, name=name or op, output_shape=self.shape)
            return found if read_value else found.op
        operation = graph.op(f"{op}VariableOp", self.handle, tensor, name=name or op)
        if not read_value:
            return operation
        with graph.control_dependencies([operation]):
            return self.read_value()

    def eval(self, session: Any = None) -> Any:
        """Returns its value in a session, by default in that of the nearest ``with``."""
        return evaluate(self, None, session)

    def load(self, value: Any, session: Any = None) -> None:
        """Gives it a value in a session, without adding nodes to the graph."""
        evaluate(self.initializer, {self.initializer.inputs[1]: value}, session)

    def __repr__(self) -> str:
        return f"<savax GraphVariable {self.name!r} shape={self.shape} dtype={self.dtype.name}>"


_NAMES = ("variable_name", "initializer_name", "snapshot_name", "initial_value_name")


def _add_variable(graph: Graph, name: str, initial: Tensor, shape: Shape) -> VariableDef:
    """Adds the nodes of a variable, named as TensorFlow names them."""
    dtype = initial.dtype
    with graph.control_dependencies(None):
        handle = graph.op(
            "VarHandleOp", name=f"{name}/", dtype=dtype, shape=shape, shared_name=name
        )
        graph.op("VarIsInitializedOp", handle, name=f"{name}/IsInitialized/VarIsInitializedOp/")
        assign = graph.op("AssignVariableOp", handle, initial, name=f"{name}/Assign/")
        read = graph.op(
            "ReadVariableOp",
            handle,
            name=f"{name}/Read/ReadVariableOp/",
            dtype=dtype,
            output_shape=shape,
        )
    return VariableDef(
        variable_name=handle.name,
        initializer_name=assign.name,
        snapshot_name=read.name,
        initial_value_name=initial.name,
        is_resource=True,
    )


def resource_of(graph: Graph, variable: Variable) -> GraphVariable:
    """Returns the variable of a graph that stands for a ``savax.Variable``, added if it is new."""
    found = graph.resources.get(id(variable))
    if found is None:
        with graph.as_default(), graph.name_scope(None), graph.control_dependencies(None):
            made = GraphVariable(
                np.asarray(variable._host_value()),
                trainable=variable.trainable,
                name=variable.name,
                dtype=variable.dtype,
                validate_shape=variable.shape is not None and None not in variable.shape,
            )
        # The object is kept, as its id is a key.
        found = graph.resources[id(variable)] = (variable, made)
    stand_in: GraphVariable = found[1]
    return stand_in


def variables_of(graph: Graph, collections: Sequence[str] = VARIABLE_COLLECTIONS) -> list[Any]:
    """Returns the variables in some of a graph's collections, each once.

    Collections of models hold what somebody has put there; other things are passed over.
    """
    values = (value for name in collections for value in graph.get_collection(name))
    return list({v.name: v for v in values if isinstance(v, GraphVariable)}.values())
