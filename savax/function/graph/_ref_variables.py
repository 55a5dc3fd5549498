"""Reference variables of early version 1 graphs, written as resources.

``VariableV2`` gives a reference that ops read when they run and that ``Assign`` writes. Resources
do the same by ReadVariableOp and AssignVariableOp nodes, which is what savax evaluates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from savax.errors import CorruptSavedModelError
from savax.function._op_schemas import input_ranges, is_known_op, op_schema
from savax.protos import NodeDef
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIABLE_OPS = frozenset({"TemporaryVariable", "Variable", "VariableV2"})

# Ops on references, and what they are on resources.
_RESOURCE_OPS = {
    "Assign": "AssignVariableOp",
    "AssignAdd": "AssignAddVariableOp",
    "AssignSub": "AssignSubVariableOp",
    "CountUpTo": "ResourceCountUpTo",
    "IsVariableInitialized": "VarIsInitializedOp",
    "ScatterAdd": "ResourceScatterAdd",
    "ScatterDiv": "ResourceScatterDiv",
    "ScatterMax": "ResourceScatterMax",
    "ScatterMin": "ResourceScatterMin",
    "ScatterMul": "ResourceScatterMul",
    "ScatterNdAdd": "ResourceScatterNdAdd",
    "ScatterNdMax": "ResourceScatterNdMax",
    "ScatterNdMin": "ResourceScatterNdMin",
    "ScatterNdSub": "ResourceScatterNdSub",
    "ScatterNdUpdate": "ResourceScatterNdUpdate",
    "ScatterSub": "ResourceScatterSub",
    "ScatterUpdate": "ResourceScatterUpdate",
    "StridedSliceAssign": "ResourceStridedSliceAssign",
    **{
        f"Apply{rule}": f"ResourceApply{rule}"
        for rule in (
            *("Adadelta", "Adagrad", "AdagradDA", "AdagradV2", "Adam", "AdaMax", "AddSign"),
            *("CenteredRMSProp", "Ftrl", "FtrlV2", "GradientDescent", "Momentum", "PowerSign"),
            *("ProximalAdagrad", "ProximalGradientDescent", "RMSProp"),
        )
    },
    **{
        f"SparseApply{rule}": f"ResourceSparseApply{rule}"
        for rule in (
            *("Adadelta", "Adagrad", "AdagradDA", "AdagradV2", "CenteredRMSProp", "Ftrl"),
            *("FtrlV2", "Momentum", "ProximalAdagrad", "ProximalGradientDescent", "RMSProp"),
        )
    },
}
_PASSING_OPS = frozenset({"DestroyTemporaryVariable", "Identity", "RefIdentity"})

# The chain of assignments of one reference is followed so far.
_MAX_CHAIN = 1000


# Ops that pass a reference on into a branch or loop, and what they are on resources.
_FORWARDING_OPS = {"RefSwitch": "Switch", "RefEnter": "Enter"}


class _Reference(NamedTuple):
    """What a reference refers to.

    Attributes:
      variable: the node of the variable.
      handle: the tensor that refers to it where the reference is used.
      after: the assignments before.
    """

    variable: str
    handle: str
    after: tuple[str, ...]


class ResourceNodes(NamedTuple):
    """A graph without references.

    Attributes:
      nodes: its nodes.
      values: for each output that was a reference the tensor that has its value.
    """

    nodes: list[NodeDef]
    values: dict[str, str]


def as_resources(nodes: Sequence[NodeDef]) -> ResourceNodes:
    """Returns a graph with its reference variables written as resources.

    Args:
      nodes: the graph; what has no references is taken over as it is.
    """
    if not any(node.op in VARIABLE_OPS for node in nodes):
        return ResourceNodes(list(nodes), {})
    return _Rewriting({node.name: node for node in nodes}).rewritten()


class _Rewriting:
    def __init__(self, nodes: Mapping[str, NodeDef]) -> None:
        self._nodes = nodes
        self._result = ResourceNodes([], {})

    def rewritten(self) -> ResourceNodes:
        for node in self._nodes.values():
            if node.op in VARIABLE_OPS:
                self._result.nodes.append(_handle(node))
            elif node.op in _FORWARDING_OPS and self._reference_inputs(node):
                self._result.nodes.append(self._forwarding(node))
                continue
            elif self._reference_inputs(node):
                self._rewrite(node)
            else:
                self._result.nodes.append(node)
            if self._is_reference(node):
                value = self._read(f"{node.name}/reference_value", f"{node.name}:0", ())
                self._result.values[f"{node.name}:0"] = f"{value}:0"
        return self._result

    def _is_reference(self, node: NodeDef) -> bool:
        if node.op in VARIABLE_OPS:
            return True
        outputs = op_schema(node.op).outputs if is_known_op(node.op) else ()
        return bool(outputs and outputs[0].is_ref and self._reference_inputs(node))

    def _reference_inputs(self, node: NodeDef) -> dict[int, _Reference]:
        """Returns the inputs of a node that are references, by position."""
        found = {}
        for position, tensor in enumerate(node.input):
            reference = self._reference(tensor)
            if reference is not None:
                found[position] = reference
        return found

    def _reference(self, tensor: str) -> _Reference | None:
        """Follows a tensor to the variable that it refers to."""
        after: list[str] = []
        handle = ""
        for _ in range(_MAX_CHAIN):
            name, _, index = tensor.partition(":")
            node = self._nodes.get(name)
            if node is None or tensor.startswith("^"):
                return None
            if node.op in VARIABLE_OPS:
                return _Reference(name, handle or name, tuple(reversed(after)))
            if not is_known_op(node.op) or not node.input:
                return None
            outputs = op_schema(node.op).outputs
            if not outputs or not outputs[0].is_ref:
                return None
            if node.op in _FORWARDING_OPS:
                handle = handle or tensor
            elif index not in ("", "0"):
                return None
            elif not handle:
                after.append(name)
            tensor = node.input[0]
        raise CorruptSavedModelError(f"The graph assigns {tensor!r} in a circle or without end.")

    def _forwarding(self, node: NodeDef) -> NodeDef:
        """Returns the node that passes a resource on as another one did a reference."""
        reference = self._reference(node.input[0])
        assert reference is not None
        changed = NodeDef()
        changed.CopyFrom(node)
        changed.op = _FORWARDING_OPS[node.op]
        changed.input[0] = reference.handle
        changed.input.extend(f"^{name}" for name in reference.after)
        changed.attr["T"].type = as_dtype("resource").number
        return changed

    def _rewrite(self, node: NodeDef) -> None:
        references = self._reference_inputs(node)
        if node.op in _PASSING_OPS:
            self._read(node.name, node.input[0], [t for t in node.input if t.startswith("^")])
            return
        changed = NodeDef()
        changed.CopyFrom(node)
        wanted = _wants_references(node)
        op = _RESOURCE_OPS.get(node.op)
        waits: list[str] = []
        for position, reference in references.items():
            if op is not None and position in wanted:
                changed.input[position] = reference.handle
                waits += [f"^{name}" for name in reference.after]
            elif position not in wanted:
                controls = [t for t in node.input if t.startswith("^")]
                name = f"{node.name}/read_{position}"
                changed.input[position] = self._read(name, node.input[position], controls)
        changed.input.extend(wait for wait in dict.fromkeys(waits) if wait not in changed.input)
        if op is not None:
            changed.op = op
            _adapt_attrs(changed)
        self._result.nodes.append(changed)

    def _read(self, name: str, tensor: str, controls: Sequence[str]) -> str:
        """Adds a node that reads what a tensor refers to; returns its name."""
        reference = self._reference(tensor)
        assert reference is not None
        variable = self._nodes[reference.variable]
        waits = dict.fromkeys([*controls, *(f"^{name}" for name in reference.after)])
        node = NodeDef(name=name, op="ReadVariableOp", input=[reference.handle, *waits])
        node.attr["dtype"].CopyFrom(variable.attr["dtype"])
        self._result.nodes.append(node)
        return name


def _handle(variable: NodeDef) -> NodeDef:
    node = NodeDef(name=variable.name, op="VarHandleOp", input=variable.input)
    node.attr["dtype"].CopyFrom(variable.attr["dtype"])
    node.attr["shape"].CopyFrom(variable.attr["shape"])
    node.attr["shared_name"].s = variable.attr["shared_name"].s or variable.name.encode()
    return node


def _wants_references(node: NodeDef) -> frozenset[int]:
    """Returns the positions of the inputs that a node's op takes as references."""
    if not is_known_op(node.op):
        return frozenset()
    schema = op_schema(node.op)
    ranges = input_ranges(schema, node.attr)
    return frozenset(
        position
        for arg in schema.inputs
        if arg.is_ref
        for position in range(ranges[arg.name][0], sum(ranges[arg.name]))
    )


def _adapt_attrs(node: NodeDef) -> None:
    """Gives a node the attributes of its new op, from those of its old one."""
    declared = op_schema(node.op).attrs
    for name in [name for name in node.attr if name not in declared and name[0] != "_"]:
        if name == "T" and "dtype" in declared:
            node.attr["dtype"].CopyFrom(node.attr[name])
        del node.attr[name]
    if node.op == "VarIsInitializedOp":
        node.ClearField("attr")
