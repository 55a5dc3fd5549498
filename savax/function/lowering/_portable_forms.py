"""Graphs for other readers than TensorFlow: ops that they lack are replaced, or reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.function._op_schemas import op_schema
from savax.function._source_lines import is_of_rule
from savax.function.evaluation._attr_decoding import default_attrs
from savax.function.lowering._graph_nodes import is_static
from savax.function.lowering._primitive_scan import nearest_line
from savax.function.ops._registry import REPLACEMENTS
from savax.portability import InputView, NodeView, TargetProblems, refusals, value_dtypes
from savax.types import DType, as_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.function.lowering._graph_nodes import Graph, Node, Symbol

# The type that a constant is written in, where consumers read it wrongly in its own.
_CONSTANT_TYPES = {
    "bfloat16": "float32",
    "uint32": "int32",
    "uint8": "int32",
    "uint16": "int32",
    "int8": "int32",
    "int16": "int32",
}


# Ops that a consumer runs, but gives wrong results of for some values.
_DELICATE = {"SelectV2": "onnx"}


class PortableForms:
    """What functions are written for, and what of them it can't run.

    Args:
      consumers: names of the consumers that have to run them.

    Attributes:
      consumers: those names.
      problems: what no form was found for, and the consumers.
    """

    def __init__(self, consumers: Sequence[str]) -> None:
        self.consumers = tuple(consumers)
        self.problems = TargetProblems()

    def runs(self, op: str, *dtypes: str) -> bool:
        """Whether all consumers run an op for dtypes."""
        return not refusals(NodeView(op, frozenset(dtypes)), self.consumers)

    def moves_reshape(self, x: Symbol, shape: Sequence[Any]) -> bool:
        """Whether a reader moves a Reshape to before what transposes ``x``, with a size of -1.

        LiteRT's converter does, unless the sizes are computed or the unknown one stays the first.
        """
        if "litert" not in self.consumers or x.node is None or not x.shape or not shape:
            return False
        is_transposed = x.node.op in ("BatchMatMulV2", "MatMul", "Transpose")
        return is_transposed and (is_static(shape[0]) or is_static(x.shape[0]))

    def prefers_right(self, lhs: Symbol) -> bool:
        """Whether a reader multiplies by what is known from the right only, and else as above."""
        return "litert" in self.consumers and is_static(lhs.shape)

    def replaced(
        self,
        g: Any,
        op: str,
        inputs: Sequence[Any],
        attrs: Mapping[str, Any],
        shapes: Sequence[Sequence[Any]],
    ) -> tuple[Symbol, ...] | None:
        """Returns the outputs of a node written by other ops, if consumers lack its own.

        Args:
          g: the graph builder.
          op: op type.
          inputs: as ``GraphBuilder.op`` takes them.
          attrs: attributes that the inputs don't determine.
          shapes: of the outputs.

        Returns:
          None if all consumers run the op, or there is no other form of it.
        """
        row = REPLACEMENTS.get(op)
        if row is None:
            return None
        schema = op_schema(op)
        known = dict(attrs)
        flat = g.graph.typed_inputs(schema, inputs, known)
        delicate = _DELICATE.get(op) in self.consumers
        if not delicate and not refusals(_view(op, flat, known), self.consumers):
            return None
        known = {**default_attrs(schema), **known}
        passed = {name: known[name] for name in row.attrs if name != "shape"}
        if "shape" in row.attrs:
            passed["shape"] = tuple(shapes[0])
        results = row.rule(g, *flat, **passed)
        if results is None:
            return None
        return tuple(results) if isinstance(results, tuple | list) else (results,)

    def replace_constants(self, graph: Graph) -> None:
        """Writes constants of types that consumers read wrongly in another type, with a Cast."""
        for node in [node for node in graph.nodes if node.op == "Const"]:
            dtype: DType = node.attrs["dtype"]
            wider = _CONSTANT_TYPES.get(dtype.name)
            if wider is None or self.runs("Const", dtype.name):
                continue
            kept = as_dtype(wider)
            array = node.attrs["value"].astype(kept.numpy_dtype)
            constant = graph.constant(array, kept, node.base_name)
            node.op, node.schema, node.inputs = "Cast", op_schema("Cast"), (constant,)
            node.attrs = {"SrcT": kept, "DstT": dtype}
        # What is read comes first.
        graph.nodes.sort(key=lambda node: node.op != "Const")

    def check(self, function: str, graph: Graph) -> None:
        """Notes the nodes of a written graph that a consumer doesn't run."""
        for node in graph.nodes:
            if not node.name or node.op in ("Placeholder", "NoOp"):
                continue
            view = _view(node.op, node.inputs, node.attrs)
            for refusal in refusals(view, self.consumers):
                self.problems.add(_origin(function, node), refusal)


def _view(op: str, inputs: Sequence[Symbol], attrs: Mapping[str, Any]) -> NodeView:
    types = {name: value.name for name, value in attrs.items() if isinstance(value, DType)}
    return NodeView(op, value_dtypes(types), tuple(map(_input_view, inputs)))


def _input_view(x: Symbol) -> InputView:
    return InputView(None if x.node is None else x.node.op, x.constant, x.shape)


def _origin(function: str, node: Node) -> str:
    """Returns the primitive and the user's line that a node was written for."""
    equations = [e for e in reversed(node.source) if not is_of_rule(e)]
    if not equations:
        return f"the function {function!r}"
    return f"{equations[0].primitive.name}, {nearest_line(equations)}"
