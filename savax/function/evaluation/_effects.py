"""What a function may write: an inter-procedural analysis over resource arguments.

A loop carries only the resources that its body may write, a branch returns only them, and a call
writes back only them; handles themselves are static.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from savax.protos import FunctionRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from savax.function.evaluation._plan import Plan
    from savax.function.evaluation._plan_nodes import PlanNode
    from savax.types import DType

# Where a value comes from unchanged: the index of an argument, or the name of a shared resource.
Origin: TypeAlias = "int | str | None"

IDENTITY_OPS = frozenset({"Identity", "IdentityN", "StopGradient", "PreventGradient"})
CALL_OPS = frozenset({"BatchFunction", "PartitionedCall", "StatefulPartitionedCall"})
IF_OPS = frozenset({"If", "StatelessIf", "XlaIf"})
FOR_OPS = frozenset({"For"})
WHILE_OPS = frozenset({"While", "StatelessWhile", "XlaWhile"})
CASE_OPS = frozenset({"Case", "StatelessCase"})
HANDLE_OPS = frozenset({"VarHandleOp"})

# Ops on objects that aren't values of resources: lists of tensors, and mutexes.
_OBJECTS = ("TensorArray", "Stack", "Mutex")

# Ops that take a resource and leave it as it is. Tables are objects of their own, whose contents
# aren't values that a loop could carry.
READERS = frozenset(
    {
        "DisableCopyOnRead",
        "ReadVariableOp",
        "ReadVariableXlaSplitND",
        "ResourceGather",
        "ResourceGatherNd",
        "VarIsInitializedOp",
        "VariableShape",
    }
)


@dataclass(frozen=True)
class Effects:
    """What a function does to its arguments.

    Attributes:
      reads: resource arguments (by index) and shared resources (by name) that it may read.
      writes: those that it may write.
      origins: for each output, where its value comes from unchanged.
      used: arguments on which an output or an effect depends.
      by_node: for each node what it may read and what it may write.
    """

    reads: frozenset[int | str]
    writes: frozenset[int | str]
    origins: tuple[Origin, ...]
    used: frozenset[int]
    by_node: tuple[tuple[frozenset[int | str], frozenset[int | str]], ...]


def analyse(
    nodes: Sequence[PlanNode],
    arg_dtypes: Sequence[DType],
    outputs: Sequence[int],
    callees: Mapping[str, Plan],
) -> Effects:
    """Returns the effects of a function whose callees are known.

    Args:
      nodes: in the order in which they run.
      arg_dtypes: of the arguments, which have the first slots.
      outputs: slots of the results.
      callees: plans of all functions that the nodes refer to.
    """
    origins: dict[int, Origin] = {slot: slot for slot in range(len(arg_dtypes))}
    resources = frozenset(i for i, dtype in enumerate(arg_dtypes) if dtype.name == "resource")
    by_node: list[tuple[frozenset[int | str], frozenset[int | str]]] = []
    used: set[int] = set()
    for node in nodes:
        inputs = [origins.get(slot) for slot in node.input_slots]
        reads, writes = _accesses(node, inputs, callees, resources)
        by_node.append((reads | node.gradient.reads if node.gradient else reads, writes))
        for slot, origin in zip(node.output_slots, _origins(node, inputs, callees), strict=False):
            if origin is not None:
                origins[slot] = origin
        if not _passes_on(node):
            used |= {o for o in _used(node, inputs, callees) if isinstance(o, int)}
    results = tuple(origins.get(slot) for slot in outputs)
    used |= {origin for origin in results if isinstance(origin, int)}
    return Effects(
        reads=frozenset().union(*(reads for reads, _ in by_node)),
        writes=frozenset().union(*(writes for _, writes in by_node)),
        origins=results,
        used=frozenset(used),
        by_node=tuple(by_node),
    )


def called_functions(node: PlanNode) -> list[str]:
    """Returns the names of the functions that a node's attributes refer to."""
    names = []
    for value in node.attrs.values():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, FunctionRef):
                names.append(item.name)
    return names


def _bodies(node: PlanNode, callees: Mapping[str, Plan]) -> list[Plan]:
    return [callees[name] for name in called_functions(node) if name in callees]


def _call_inputs(node: PlanNode, inputs: Sequence[Origin]) -> Sequence[Origin]:
    """Returns the origins of what a control flow node hands to its functions."""
    if node.op in FOR_OPS:
        return inputs[2:]  # the body takes the index in the place of the step
    is_led = node.op in IF_OPS or node.op in CASE_OPS or node.op == "RemoteCall"
    return inputs[1:] if is_led else inputs


def _accesses(
    node: PlanNode,
    inputs: Sequence[Origin],
    callees: Mapping[str, Plan],
    all_resources: frozenset[int],
) -> tuple[frozenset[int | str], frozenset[int | str]]:
    bodies = _bodies(node, callees)
    if bodies:
        handed = _call_inputs(node, inputs)
        return (
            _outer([a for body in bodies for a in body.effects.reads], handed, all_resources),
            _outer([a for body in bodies for a in body.effects.writes], handed, all_resources),
        )
    if node.random_state is not None:
        own: frozenset[int | str] = frozenset({node.random_state})
        return own, own
    if not node.is_stateful or node.op in HANDLE_OPS or node.op.startswith(_OBJECTS):
        return frozenset(), frozenset()
    # What an op without a rule produces, which is an error when it is called, has no dtype.
    known = [o for o, slot in zip(inputs, node.input_slots, strict=True) if slot >= 0]
    handles = [o for o, d in zip(known, node.input_dtypes, strict=True) if d.name == "resource"]
    resources = _outer(range(len(handles)), handles, all_resources)
    return resources, frozenset() if node.op in READERS else resources


def _outer(
    inner: Iterable[int | str], handed: Sequence[Origin], all_resources: frozenset[int]
) -> frozenset[int | str]:
    """Returns accesses of a callee as accesses of its caller.

    A handle whose way can't be followed may be that of any resource argument.
    """
    found: set[int | str] = set()
    for access in inner:
        origin = handed[access] if isinstance(access, int) and access < len(handed) else access
        found |= all_resources if origin is None else {origin}
    return frozenset(found)


def _passes_on(node: PlanNode) -> bool:
    """Whether the results are the inputs, also when they are differentiated."""
    return node.op in IDENTITY_OPS and node.op != "StopGradient" and node.gradient is None


def _origins(
    node: PlanNode, inputs: Sequence[Origin], callees: Mapping[str, Plan]
) -> Sequence[Origin]:
    if _passes_on(node):
        return inputs
    if node.op in HANDLE_OPS:
        return [handle_name(node)]
    bodies = _bodies(node, callees)
    if node.op in WHILE_OPS and len(bodies) == 2:
        body = callees[node.attrs["body"].name]
        return [
            inputs[i] if origin == i and i < len(inputs) else None
            for i, origin in enumerate(body.effects.origins)
        ]
    if bodies and (node.op in CALL_OPS or node.op in IF_OPS or node.op in CASE_OPS):
        handed = _call_inputs(node, inputs)
        each = [
            [_outer_origin(origin, handed) for origin in body.effects.origins] for body in bodies
        ]
        return [same[0] if len(set(same)) == 1 else None for same in zip(*each, strict=False)]
    return []


def _outer_origin(origin: Origin, handed: Sequence[Origin]) -> Origin:
    if isinstance(origin, int):
        return handed[origin] if origin < len(handed) else None
    return origin


def _used(
    node: PlanNode, inputs: Sequence[Origin], callees: Mapping[str, Plan]
) -> Iterable[Origin]:
    if node.op in CALL_OPS:
        bodies = _bodies(node, callees)
        if len(bodies) == 1:
            return [o for i, o in enumerate(inputs) if i in bodies[0].effects.used]
    return inputs


def handle_name(node: PlanNode) -> str:
    """Returns the name under which a VarHandleOp's resource is shared in its graph."""
    return str(node.attrs.get("shared_name") or node.name)
