"""Functions of one graph: their unique names, and the FunctionDef made of a finished graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from savax.function._op_schemas import op_schema
from savax.function.lowering._graph_nodes import Graph, Node, Symbol, known_shape, reachable
from savax.function.lowering._graph_writer import (
    NodeEncoder,
    UniqueNames,
    legal_argument_name,
    legal_function_name,
    legal_node_name,
)
from savax.protos import FunctionDef, OpDef, encode_attr, encode_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._captured_arrays import CapturedArrays
    from savax.function.lowering._custom_gradient_calls import CustomGradientCall
    from savax.function.lowering._portable_forms import PortableForms
    from savax.function.tracing._traced_body import Capture
    from savax.types import Shape


class FunctionLibrary:
    """The functions that one save writes.

    Args:
      first_number: the lowest number that ``unique_name`` may use.
      custom_gradients: whether gradients of ``jax.custom_vjp`` functions and the like are wanted.

    Attributes:
      functions: FunctionDefs by name.
      encoder: writes their nodes.
      shared: functions that are called from several places, by what they compute.
      sources: for each function, the names of its nodes and the equations that they were written
        for, outermost first; None if nobody wants to know.
      custom_gradient_calls: calls whose gradients are still to be lowered; None if none is wanted.
      gradient_order: how many derivatives the gradient of a call that is lowered now would be.
      captured_arrays: gets the large arrays that functions close over, to pass them as Variables;
        None if they are passed as values.
      portable_forms: what the functions that are lowered now must run in; None for TensorFlow.
    """

    def __init__(self, first_number: int = 0, *, custom_gradients: bool = False) -> None:
        self.functions: dict[str, FunctionDef] = {}
        self.encoder = NodeEncoder()
        self.shared: dict[Any, Any] = {}
        self.sources: dict[str, dict[str, tuple[Any, ...]]] | None = None
        self.custom_gradient_calls: list[CustomGradientCall] | None = (
            [] if custom_gradients else None
        )
        self.gradient_order = 1
        self.captured_arrays: CapturedArrays | None = None
        self.portable_forms: PortableForms | None = None
        self._number = first_number

    def unique_name(self, base: str) -> str:
        """Returns ``<base>_<number>`` with a number that no other function of the library has.

        TensorFlow's fingerprint of a SavedModel needs the number, and that it is unique.
        """
        legal = legal_function_name(base)
        while (name := f"{legal}_{self._number}") in self.functions:
            self._number += 1
        self._number += 1
        return name

    def stand_in(self, capture: Capture) -> Capture:
        """Returns what a function gets in the place of a capture; see ``CapturedArrays``."""
        return capture if self.captured_arrays is None else self.captured_arrays.stand_in(capture)

    def has_stand_in(self, const: Any) -> bool:
        """Whether an array in a jaxpr has a place among ``captured_arrays``."""
        return self.captured_arrays is not None and self.captured_arrays.takes(const)

    def add(self, function: FunctionDef) -> None:
        """Adds a FunctionDef under its own name."""
        self.functions[function.signature.name] = function

    def build(self, parts: FunctionParts) -> FunctionDef:
        """Adds the FunctionDef of a finished graph, and returns it."""
        if self.portable_forms is not None:
            self.portable_forms.replace_constants(parts.graph)
        function = build_function(parts, self.encoder)
        self.add(function)
        if self.portable_forms is not None:
            self.portable_forms.check(parts.name, parts.graph)
        if self.sources is not None:
            named = {node.name: node.source for node in parts.graph.nodes if node.name}
            self.sources[parts.name] = {name: source for name, source in named.items() if source}
        return function


@dataclass(frozen=True)
class FunctionArgument:
    """One argument of a function under construction.

    Attributes:
      symbol: the argument inside the graph.
      name: the name it should have.
      user_name: the name that callers know it by, if they do.
      handle: (dtype, shape) of the Variable, if the argument is a resource.
    """

    symbol: Symbol
    name: str
    user_name: str | None = None
    handle: tuple[Any, Shape] | None = None


@dataclass(frozen=True)
class FunctionParts:
    """A finished graph and what it is called with and returns.

    Attributes:
      name: name of the function.
      graph: its nodes.
      arguments: arguments in order.
      outputs: results in order.
      output_names: the names they should have; ``output_0`` ... by default.
    """

    name: str
    graph: Graph
    arguments: Sequence[FunctionArgument]
    outputs: Sequence[Symbol]
    output_names: Sequence[str] | None = None


def build_function(parts: FunctionParts, encoder: NodeEncoder) -> FunctionDef:
    """Returns the FunctionDef of a graph: the nodes that its outputs and effects need.

    Each output is an Identity, so that results have names of their own. If nodes have effects,
    a NoOp waits for them and the Identities wait for the NoOp, and the effects are control outputs
    of the function: calls by name and pruned graphs run them alike.
    """
    function = FunctionDef()
    function.signature.name = parts.name
    names = _write_arguments(function, parts.arguments)
    live = reachable(parts.outputs, parts.graph.effects)
    nodes = [node for node in parts.graph.nodes if id(node) in live]
    unique = UniqueNames(names)
    unique_outputs = UniqueNames(names)
    for node in nodes:
        node.name = unique.unique(legal_node_name(node.base_name))
        _write_node(function, node, encoder)
    effects = [node for node in nodes if node.schema.is_stateful]
    barrier = _write_barrier(function, effects, unique, encoder)
    wanted = parts.output_names or [f"output_{i}" for i in range(len(parts.outputs))]
    for symbol, output_name in zip(parts.outputs, wanted, strict=True):
        output = unique_outputs.unique(legal_argument_name(output_name))
        function.signature.output_arg.add(name=output, type=symbol.dtype.number)
        identity = unique.unique("Identity")
        encoder.encode(
            function.node_def.add(),
            identity,
            "Identity",
            [symbol.name, *barrier],
            {"T": symbol.dtype},
            op_schema("Identity"),
        )
        function.ret[output] = f"{identity}:output:0"
    return function


def _write_arguments(function: FunctionDef, arguments: Sequence[FunctionArgument]) -> list[str]:
    """Writes the arguments, names their symbols and returns the names."""
    unique = UniqueNames()
    names = []
    for index, argument in enumerate(arguments):
        symbol = argument.symbol
        name = unique.unique(legal_argument_name(argument.name))
        names.append(name)
        symbol.rename(name)
        arg = function.signature.input_arg.add(name=name, type=symbol.dtype.number)
        attrs = function.arg_attr[index].attr
        if argument.handle is not None:
            _write_handle(arg, argument.handle)
        attrs["_output_shapes"].CopyFrom(encode_attr([known_shape(symbol.shape)], "list(shape)"))
        if argument.user_name is not None:
            attrs["_user_specified_name"].CopyFrom(encode_attr(argument.user_name, "string"))
    return names


def _write_handle(arg: OpDef.ArgDef, handle: tuple[Any, Shape]) -> None:
    dtype, shape = handle
    arg.handle_data.add(dtype=dtype.number, shape=encode_shape(shape))


def _write_node(function: FunctionDef, node: Node, encoder: NodeEncoder) -> None:
    inputs = [symbol.name for symbol in node.inputs]
    inputs += [f"^{control.name}" for control in node.controls if control.name]
    encoder.encode(function.node_def.add(), node.name, node.op, inputs, node.attrs, node.schema)


def _write_barrier(
    function: FunctionDef, effects: Sequence[Node], unique: UniqueNames, encoder: NodeEncoder
) -> list[str]:
    """Writes the NoOp that waits for all effects; returns the control input on it, if any."""
    if not effects:
        return []
    function.signature.is_stateful = True
    for node in effects:
        function.signature.control_output.append(node.name)
        function.control_ret[node.name] = node.name
    name = unique.unique("NoOp")
    waits = [f"^{node.name}" for node in effects]
    encoder.encode(function.node_def.add(), name, "NoOp", waits, {}, op_schema("NoOp"))
    return [f"^{name}"]
