"""TensorArrays of the first and second version, written as those of the third.

Their handles are strings, and their flow starts with a constant that has nothing to do with the
array. The third version has a resource as its handle, and the flow as a second result, which is
what savax keeps the elements in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from savax.errors import UnsupportedError
from savax.function._op_schemas import op_schema
from savax.function.graph._frames import source
from savax.function.graph._tensor_names import canonical_tensor, split_tensor
from savax.function.lowering._graph_writer import free_name
from savax.protos import NodeDef, encode_attr
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MAKERS = frozenset({"TensorArray", "TensorArrayV2"})
_GRADIENTS = frozenset({"TensorArrayGrad", "TensorArrayGradV2"})

# Ops on arrays, and what they are in the third version.
_THIRD_VERSION = {
    **{
        f"TensorArray{name}{version}": f"TensorArray{name}V3"
        for name in ("Close", "Concat", "Gather", "Grad", "Read", "Scatter", "Size", "Split")
        for version in ("", "V2")
    },
    **dict.fromkeys(_MAKERS, "TensorArrayV3"),
    **dict.fromkeys(("TensorArrayWrite", "TensorArrayWriteV2"), "TensorArrayWriteV3"),
    "TensorArrayPack": "TensorArrayGatherV3",
    "TensorArrayUnpack": "TensorArrayScatterV3",
}
OLD_ARRAY_OPS = frozenset(_THIRD_VERSION)

# Ops that pass a handle or a flow on, and what they are for handles that are no references.
_PASSING_OPS = {
    **{op: op for op in ("Enter", "Exit", "Identity", "Merge", "NextIteration", "Switch")},
    "RefEnter": "Enter",
    "RefExit": "Exit",
    "RefIdentity": "Identity",
    "RefMerge": "Merge",
    "RefNextIteration": "NextIteration",
    "RefSwitch": "Switch",
}
_FLOW = "flow_in"


def with_new_arrays(nodes: Sequence[NodeDef]) -> list[NodeDef]:
    """Returns a graph with its old TensorArrays written as those of the third version.

    Args:
      nodes: the graph; what has no such arrays is taken over as it is.

    Raises:
      UnsupportedError: a node gets the handle of an array in a way that can't be followed.
    """
    if not any(node.op in _MAKERS for node in nodes):
        return list(nodes)
    return _Rewriting({node.name: node for node in nodes}).rewritten()


class _Rewriting:
    def __init__(self, nodes: Mapping[str, NodeDef]) -> None:
        self._nodes = nodes
        self._arrays: dict[str, str] = {}  # the maker behind each node that passes a handle on
        self._flows: dict[tuple[str, int], str] = {}  # inputs that start the flow of a maker

    def rewritten(self) -> list[NodeDef]:
        users = [node for node in self._nodes.values() if node.op in _THIRD_VERSION]
        for node in users:
            if node.op not in _MAKERS:
                self._follow_flow(node, self._maker(node, node.input[0]))
        result: list[NodeDef] = []
        for node in self._nodes.values():
            result += self._changed(node)
        return result

    def _maker(self, user: NodeDef, tensor: str) -> str:
        """Returns the node that made the array of a handle; what lies between passes it on."""
        pending, seen = [source(tensor)], set()
        while pending:
            name = pending.pop()
            node = self._nodes.get(name)
            if node is None or name in seen:
                continue
            seen.add(name)
            if node.op in _MAKERS:
                self._arrays.update(dict.fromkeys(seen, name))
                return name
            if node.op in _PASSING_OPS or node.op in _GRADIENTS:
                pending += [source(node.input[i]) for i in _passed(node)]
        raise UnsupportedError(
            f"The {user.op} node {user.name!r} gets no handle of a TensorArray that savax knows."
        )

    def _follow_flow(self, user: NodeDef, maker: str) -> None:
        """Finds the constants that a flow starts with."""
        names = [arg.name for arg in op_schema(user.op).inputs]
        pending = [(user.name, names.index(_FLOW))] if _FLOW in names else []
        seen = set()
        while pending:
            place = pending.pop()
            name, position = place
            node = self._nodes.get(source(self._nodes[name].input[position]))
            if node is None or place in seen:
                continue
            seen.add(place)
            if node.op == "Const":
                self._flows.setdefault(place, maker)
            elif node.op in _PASSING_OPS:
                pending += [(node.name, i) for i in _passed(node)]

    def _changed(self, node: NodeDef) -> list[NodeDef]:
        changed = NodeDef()
        changed.CopyFrom(node)
        for position in range(len(node.input)):
            maker = self._flows.get((node.name, position))
            if maker is not None:
                changed.input[position] = f"{maker}:1"
        if node.op in _PASSING_OPS and node.name in self._arrays:
            changed.op = _PASSING_OPS[node.op]
            changed.attr["T"].type = as_dtype("resource").number
        if node.op not in _THIRD_VERSION:
            return [changed]
        changed.op = _THIRD_VERSION[node.op]
        added: list[NodeDef] = []
        if node.op == "TensorArrayPack":
            size = NodeDef(name=self._free(f"{node.name}/size"), op="TensorArraySizeV3")
            size.input.extend(changed.input)
            added = [size, *self._positions(changed, size.name, changed.input[1])]
            changed.input.insert(1, added[-1].name)
        elif node.op == "TensorArrayUnpack":
            added = self._row_count(changed)
            added += self._positions(changed, added[-1].name, changed.input[1])
            changed.input.insert(1, added[-1].name)
        declared = op_schema(changed.op).attrs
        for name in [name for name in changed.attr if name not in declared and name[0] != "_"]:
            del changed.attr[name]
        return [*added, changed]

    def _positions(self, node: NodeDef, count: str, after: str) -> list[NodeDef]:
        """Returns nodes of which the last one counts from 0."""
        start = self._number(node, "start", 0, after)
        step = self._number(node, "step", 1, after)
        positions = NodeDef(name=self._free(f"{node.name}/positions"), op="Range")
        positions.input.extend([start.name, count, step.name])
        positions.attr["Tidx"].type = as_dtype("int32").number
        return [start, step, positions]

    def _row_count(self, node: NodeDef) -> list[NodeDef]:
        """Returns nodes of which the last one gives the first size of what is unpacked."""
        value = node.input[1]
        shape = NodeDef(name=self._free(f"{node.name}/shape"), op="Shape", input=[value])
        shape.attr["T"].CopyFrom(node.attr["T"])
        shape.attr["out_type"].type = as_dtype("int32").number
        bounds = [
            self._number(node, part, [number], value)
            for part, number in (("begin", 0), ("end", 1), ("stride", 1))
        ]
        count = NodeDef(name=self._free(f"{node.name}/count"), op="StridedSlice")
        count.input.extend([shape.name, *(bound.name for bound in bounds)])
        count.attr["T"].type = count.attr["Index"].type = as_dtype("int32").number
        count.attr["shrink_axis_mask"].i = 1
        return [shape, *bounds, count]

    def _number(self, node: NodeDef, part: str, value: int | list[int], after: str) -> NodeDef:
        """Returns a constant that runs where another tensor is computed."""
        constant = NodeDef(name=self._free(f"{node.name}/{part}"), op="Const")
        constant.input.append(f"^{split_tensor(canonical_tensor(after))[0]}")
        constant.attr["dtype"].type = as_dtype("int32").number
        constant.attr["value"].CopyFrom(encode_attr(np.array(value, np.int32)))
        return constant

    def _free(self, base: str) -> str:
        return free_name(base, self._nodes)


def _passed(node: NodeDef) -> list[int]:
    """Returns the positions of the inputs that a node passes on, or takes the array of."""
    count = len(node.input) if node.op in ("Merge", "RefMerge") else 1
    return [i for i in range(count) if not node.input[i].startswith("^")]
