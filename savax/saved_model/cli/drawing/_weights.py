"""Variables and constants, which a picture shows beside what uses them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from savax.protos import decode_shape
from savax.saved_model.cli._restored_values import variable_name
from savax.saved_model.cli._values import dtype_name
from savax.saved_model.cli.drawing._texts import constant_text, shape_text

if TYPE_CHECKING:
    from savax.protos import MetaGraphDef, NodeDef, OpDef, TensorShapeProto

_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
_TABLES = frozenset({"HashTableV2", "HashTable", "MutableHashTableV2", "MutableHashTable"})


class Weight(NamedTuple):
    """What a node needs that isn't computed from inputs.

    Attributes:
      kind: ``"variable"``, ``"constant"`` or ``"resource"``.
      name: of the variable.
      text: dtype and shape, or the value of a small constant.
      elements: of a variable; 0 if unknown.
    """

    kind: str
    name: str
    text: str
    elements: int = 0


def node_weight(node: NodeDef) -> Weight | None:
    """Returns the variable or constant that a node is; None for other nodes."""
    if node.op == "Const":
        return Weight("constant", "", constant_text(node.attr["value"].tensor))
    if node.op in _VARIABLES:
        attr = node.attr
        return _variable(variable_name(node), attr["dtype"].type, attr["shape"].shape)
    if node.op in _TABLES:
        return Weight("resource", node.name, "table")
    return None


def argument_weight(arg: OpDef.ArgDef) -> Weight | None:
    """Returns the variable that an argument is the handle of, under the argument's name."""
    if dtype_name(arg.type) != "resource":
        return None
    if not arg.handle_data:
        return Weight("resource", arg.name, "")
    handle = arg.handle_data[0]
    return _variable(arg.name, handle.dtype, handle.shape)


def bound_weight(meta_graph: MetaGraphDef, node_id: int) -> Weight | None:
    """Returns what the object graph says that a function has captured."""
    objects = meta_graph.object_graph_def
    if not 0 <= node_id < len(objects.nodes):
        return None
    saved = objects.nodes[node_id]
    kind = saved.WhichOneof("kind")
    if kind == "variable":
        return _variable(saved.variable.name, saved.variable.dtype, saved.variable.shape)
    return Weight("constant", "", "") if kind == "constant" else Weight("resource", kind or "", "")


def _variable(name: str, dtype: int, shape: TensorShapeProto) -> Weight:
    dims = decode_shape(shape)
    known = dims is not None and None not in dims
    elements = math.prod(size or 0 for size in dims or ()) if known else 0
    return Weight("variable", name, shape_text(dtype_name(dtype), shape), elements)
