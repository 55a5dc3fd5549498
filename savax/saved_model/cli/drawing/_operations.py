"""The operations of a body: what a picture has boxes for, and what it folds into other boxes."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from savax.saved_model.cli._values import dtype_name
from savax.saved_model.cli.drawing._bodies import called_functions
from savax.saved_model.cli.drawing._kinds import has_type_of_input
from savax.saved_model.cli.drawing._rows import topological_order
from savax.saved_model.cli.drawing._texts import attr_text, fact, shape_text
from savax.saved_model.cli.drawing._weights import Weight, node_weight

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from savax.protos import GraphDebugInfo, NodeDef
    from savax.saved_model.cli.drawing._bodies import Argument, Body, Result

INPUT, OUTPUT = "input", "output"  # in the place of an op

# A variable or constant stays one after these.
_FORWARDING = frozenset(
    {
        *("ReadVariableOp", "Identity", "Cast", "Reshape", "Squeeze", "ExpandDims", "Transpose"),
        *("DisableCopyOnRead", "StopGradient", "Enter", "RefEnter", "BroadcastTo"),
    }
)
_MOST_FACTS = 24  # rows of a table about a node
_MOST_FRAMES = 3
_MOST_FORWARDED = 32  # control inputs by way of a NoOp


class Fact(NamedTuple):
    """A row of the table about an operation."""

    name: str
    text: str


@dataclasses.dataclass(frozen=True)
class Operation:
    """A box of a picture.

    Attributes:
      name: of the node, input or output.
      op: of the node; ``INPUT`` or ``OUTPUT`` for others.
      sources: indices of operations whose results it takes, without repetitions.
      controls: indices of operations that it waits for.
      weights: variables and constants that it takes.
      type_text: dtype and shape of its first result, where known.
      functions: of the library, by the names of attributes.
      facts: what else there is to know.
    """

    name: str
    op: str
    sources: tuple[int, ...]
    controls: tuple[int, ...]
    weights: tuple[Weight, ...]
    type_text: str
    functions: dict[str, str]
    facts: tuple[Fact, ...]


def collect_operations(body: Body, debug_info: GraphDebugInfo) -> list[Operation]:
    """Returns the operations of a body, so that sources come first where there is no cycle."""
    return list(_Folding(body, debug_info).operations())


class _Folding:
    """Tells apart the nodes that get a box from those that are folded into others."""

    def __init__(self, body: Body, debug_info: GraphDebugInfo) -> None:
        self._body = body
        self._debug_info = debug_info
        self._boxes: dict[str, int] = {}  # by name of argument or node
        self._weights: dict[str, Weight] = {}
        self._copies: dict[str, str] = {}  # what an Identity is a copy of
        self._forwarded: dict[str, tuple[str, ...]] = {}  # what a NoOp waits for

    def operations(self) -> Iterator[Operation]:
        for argument in self._body.arguments:
            if argument.weight is not None:
                self._weights[argument.tensor] = argument.weight
            else:
                self._boxes[argument.tensor] = len(self._boxes)
                yield _input(argument)
        shown = [node for node in _in_order(self._body.nodes) if not self._fold(node)]
        for node in shown:
            self._boxes[node.name] = len(self._boxes)
        for node in shown:
            yield self._operation(node)
        for result in self._body.results:
            yield self._output(result)

    def _fold(self, node: NodeDef) -> bool:
        """Whether a node gets no box; if so, what it stands for is kept."""
        if node.op == "NoOp":
            waits = (n for tensor in node.input for n in self._waits(tensor[1:]))
            self._forwarded[node.name] = tuple(dict.fromkeys(waits))[:_MOST_FORWARDED]
            return True
        weight = node_weight(node)
        if weight is None and node.op in _FORWARDING and node.input:
            inputs = [_producer(t) for t in node.input if not t.startswith("^")]
            if inputs and all(name in self._weights for name in inputs):
                weight = self._weights[inputs[0]]
        if weight is not None:
            self._weights[node.name] = weight
            return True
        if node.op == "Identity" and node.input and not node.input[0].startswith("^"):
            source = _producer(node.input[0])
            source = self._copies.get(source, source)
            after = {n for tensor in node.input[1:] for n in self._waits(tensor[1:])}
            if after <= {source}:
                self._copies[node.name] = source
                return True
        return False

    def _waits(self, name: str) -> tuple[str, ...]:
        if name in self._weights:
            return ()
        name = self._copies.get(name, name)
        return self._forwarded.get(name, (name,))

    def _operation(self, node: NodeDef) -> Operation:
        tensors = [tensor for tensor in node.input if not tensor.startswith("^")]
        sources, weights = self._taken(tensors)
        own = self._boxes[node.name]
        waits = (
            self._boxes[name]
            for tensor in node.input
            if tensor.startswith("^")
            for name in self._waits(tensor[1:])
            if name in self._boxes
        )
        controls = tuple(i for i in dict.fromkeys(waits) if i not in sources and i != own)
        type_text = _type_text(node)
        facts = tuple(itertools.islice(self._facts(node, type_text), _MOST_FACTS))
        functions = called_functions(node)
        return Operation(
            node.name, node.op, sources, controls, weights, type_text, functions, facts
        )

    def _taken(self, tensors: Sequence[str]) -> tuple[tuple[int, ...], tuple[Weight, ...]]:
        names = [self._copies.get(name, name) for name in map(_producer, tensors)]
        sources = tuple(dict.fromkeys(self._boxes[name] for name in names if name in self._boxes))
        return sources, tuple(self._weights[name] for name in names if name in self._weights)

    def _output(self, result: Result) -> Operation:
        sources, weights = self._taken([result.tensor])
        facts = (Fact("tensor", fact(result.tensor)), Fact("type", result.type_text))
        name, type_text = result.label, result.type_text
        return Operation(name, OUTPUT, sources, (), weights, type_text, {}, facts)

    def _facts(self, node: NodeDef, type_text: str) -> Iterator[Fact]:
        yield Fact("node", fact(node.name))
        yield Fact("op", fact(node.op))
        if type_text:
            yield Fact("result", type_text)
        if source := self._source(node.name):
            yield Fact("source", source)
        for tensor in node.input[:8]:
            weight = self._weights.get(_producer(tensor))
            known = "" if weight is None else f"  {weight.name} {weight.text}"
            yield Fact("input", fact(tensor + known))
        if len(node.input) > 8:
            yield Fact("input", f"… {len(node.input) - 8} more")
        if node.device:
            yield Fact("device", fact(node.device))
        for key in sorted(node.attr):
            if not key.startswith("_"):
                yield Fact(fact(key), attr_text(node.attr[key]))

    def _source(self, name: str) -> str:
        """Returns the user's lines that a node comes from, innermost first, where known."""
        info = self._debug_info
        key = f"{name}@{self._body.name}"
        if key not in info.name_to_trace_id:
            return ""
        number = info.name_to_trace_id[key]
        if number not in info.traces_by_id:
            return ""
        lines = []
        for frame_id in reversed(info.traces_by_id[number].frame_id[-_MOST_FRAMES:]):
            if frame_id in info.frames_by_id:
                frame = info.frames_by_id[frame_id]
                known = 0 <= frame.file_index < len(info.files)
                file = info.files[frame.file_index] if known else "unknown file"
                lines.append(f"{file}:{frame.line} ({frame.func})")
        return fact(", ".join(lines))


def _input(argument: Argument) -> Operation:
    facts = (Fact("input", fact(argument.label)), Fact("type", argument.type_text))
    return Operation(argument.label, INPUT, (), (), (), argument.type_text, {}, facts)


def _producer(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _in_order(nodes: Sequence[NodeDef]) -> list[NodeDef]:
    index = {node.name: i for i, node in enumerate(nodes)}
    targets: dict[int, list[int]] = defaultdict(list)
    for i, node in enumerate(nodes):
        for name in dict.fromkeys(map(_producer, node.input)):
            if name in index and index[name] != i:
                targets[index[name]].append(i)
    # Of nodes of one name, which a graph shouldn't have, the last is taken for all.
    return [nodes[i] for i in topological_order(len(nodes), targets) if index[nodes[i].name] == i]


def _type_text(node: NodeDef) -> str:
    """Returns dtype and shape of the first result, as far as the node says them for sure."""
    dtype = ""
    for key in ("DstT", "dtype", "out_type", "output_type"):
        if key in node.attr and node.attr[key].WhichOneof("value") == "type":
            dtype = dtype_name(node.attr[key].type)
            break
    else:
        if has_type_of_input(node.op) and "T" in node.attr:
            dtype = dtype_name(node.attr["T"].type)
    if "_output_shapes" in node.attr:
        shapes = node.attr["_output_shapes"].list.shape
        if shapes and not shapes[0].unknown_rank:
            return shape_text(dtype, shapes[0])
    return dtype
