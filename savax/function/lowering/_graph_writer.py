"""NodeDefs: unique legal names, attributes without those that hold their default."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from savax.function._op_schemas import OpSchema, is_known_op, op_schema
from savax.protos import AttrValue, GraphDef, NodeDef, encode_attr
from savax.types import DType

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

# What TensorFlow's C++ accepts in node names, beside the rule for the first character and ">"
# between the parts of an op's name; its Python accepts ">" and a backslash everywhere.
_ILLEGAL = re.compile(r"[^A-Za-z0-9_./-]+")
_ILLEGAL_IN_FUNCTION = re.compile(r"[^A-Za-z0-9_]+")
_ILLEGAL_ARGUMENT = re.compile(r"[^a-z0-9_]+")

# Kinds of attributes that every node may have and no schema declares.
_UNDECLARED = {"_output_shapes": "list(shape)"}


def legal_node_name(name: str) -> str:
    """Returns a name as near to the given one as TensorFlow's rules for nodes allow."""
    legal = "/".join(part.strip("_") for part in _ILLEGAL.sub("_", name).split("/"))
    legal = legal.strip("_/")
    if not legal:
        return "node"
    return legal if legal[0].isalnum() or legal[0] == "." else f"n{legal}"


def legal_function_name(name: str) -> str:
    """Returns a name as near to the given one as TensorFlow's rules for functions allow."""
    return _ILLEGAL_IN_FUNCTION.sub("_", name) or "function"


def legal_argument_name(name: str) -> str:
    """Returns a name as near to the given one as TensorFlow's rules for arguments allow."""
    legal = _ILLEGAL_ARGUMENT.sub("_", name.lower()).strip("_")
    if not legal:
        return "arg"
    return legal if legal[0].isalpha() else f"arg_{legal}"


def free_name(base: str, taken: Container[str]) -> str:
    """Returns the base, or the base with the first number behind it that isn't taken."""
    name, number = base, 0
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


class UniqueNames:
    """Hands out names, each once: ``dense``, ``dense_1``, ``dense_2``."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def unique(self, base: str) -> str:
        """Returns the base, or the base with the first free number behind it."""
        name = self.free(base)
        self._taken.add(name)
        return name

    def take(self, name: str) -> None:
        """Makes sure that a name isn't handed out."""
        self._taken.add(name)

    def free(self, base: str) -> str:
        """Returns the name that ``unique`` would give now."""
        if base not in self._taken:
            return base
        number = self._next.get(base, 1)
        while (name := f"{base}_{number}") in self._taken:
            number += 1
        self._next[base] = number
        return name


class NodeEncoder:
    """Writes NodeDefs; attribute values that repeat are encoded once."""

    def __init__(self) -> None:
        self._encoded: dict[tuple[str | None, Any], AttrValue] = {}

    def encode(
        self,
        node: NodeDef,
        name: str,
        op: str,
        inputs: Iterable[str],
        attrs: Mapping[str, Any],
        schema: OpSchema | None,
    ) -> None:
        """Fills in a NodeDef.

        Args:
          node: the empty message.
          name: the node's name, unique and legal.
          op: op type, or the name of a library function.
          inputs: names of the data inputs, then of the control inputs (``"^name"``).
          attrs: attributes as Python values; those that hold their default are left out.
          schema: the op's schema; None for a library function.
        """
        node.name = name
        node.op = op
        node.input.extend(inputs)
        for key, value in attrs.items():
            declared = None if schema is None else schema.attrs.get(key)
            encoded = self._attr(value, _UNDECLARED.get(key) if declared is None else declared.kind)
            if declared is None or declared.default is None or encoded != declared.default:
                node.attr[key].CopyFrom(encoded)

    def _attr(self, value: Any, kind: str | None) -> AttrValue:
        if not isinstance(value, DType | bool | str):
            return encode_attr(value, kind)
        key = (kind, value)
        found = self._encoded.get(key)
        if found is None:
            found = self._encoded[key] = encode_attr(value, kind)
        return found


class GraphWriter:
    """Writes the nodes of a plain GraphDef, where tensors are named ``node:index``.

    Attributes:
      graph: the GraphDef so far.
    """

    def __init__(self, graph: GraphDef | None = None) -> None:
        self.graph = GraphDef() if graph is None else graph
        self._names = UniqueNames(node.name for node in self.graph.node)
        self._encoder = NodeEncoder()

    def add_node(
        self,
        op: str,
        name: str,
        inputs: Sequence[str] = (),
        attrs: Mapping[str, Any] | None = None,
        device: str = "",
    ) -> NodeDef:
        """Adds a node.

        Args:
          op: op type, or the name of a library function.
          name: the name it should have; made legal, and unique with a number if it is taken.
          inputs: names of tensors (``"n"``, ``"n:1"``) and control inputs (``"^n"``).
          attrs: all attributes as Python values, types included.
          device: device of the node.

        Returns:
          The NodeDef in the graph; its ``name`` is the one it got.
        """
        node = self.graph.node.add()
        schema = op_schema(op) if is_known_op(op) else None
        unique = self._names.unique(legal_node_name(name))
        self._encoder.encode(node, unique, op, inputs, attrs or {}, schema)
        if device:
            node.device = device
        return node
