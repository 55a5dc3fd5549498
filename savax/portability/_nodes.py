"""What consumers run of the nodes of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.portability._conditions import InputView, NodeView
from savax.portability._support import Refusal, refusals, value_dtypes
from savax.protos import decode_tensor
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from savax.protos import NodeDef

# A dtype's number plus this is a reference of version 1 to a tensor of that dtype.
_REF_OFFSET = 100

# Larger constants are no lists of sizes, and not looked at.
_MAX_CONSTANT_BYTES = 1 << 10


def refused_nodes(
    nodes: Iterable[NodeDef], consumers: Iterable[str], functions: Container[str] = ()
) -> Iterator[tuple[NodeDef, Refusal]]:
    """Yields the nodes that consumers don't run, once for each of them.

    Args:
      nodes: the nodes of a function, or of the main graph.
      consumers: names of consumers.
      functions: names of the library's functions; nodes whose op is one of them are calls.
    """
    consumers = tuple(consumers)
    named = {node.name: node for node in nodes}
    for node in named.values():
        if node.op not in functions:
            for refusal in refusals(_view(node, named), consumers):
                yield node, refusal


def _view(node: NodeDef, named: Mapping[str, NodeDef]) -> NodeView:
    numbers = {
        name: int(value.type) % _REF_OFFSET
        for name, value in node.attr.items()
        if value.HasField("type")
    }
    types = {name: as_dtype(number).name for name, number in numbers.items() if number}
    data = [source for source in node.input if not source.startswith("^")]
    inputs = (_input_view(named.get(source.split(":")[0])) for source in data)
    return NodeView(node.op, value_dtypes(types), tuple(inputs))


def _input_view(producer: NodeDef | None) -> InputView:
    if producer is None:
        return InputView()
    value = producer.attr["value"].tensor if producer.op == "Const" else None
    if value is None or value.ByteSize() > _MAX_CONSTANT_BYTES:
        return InputView(producer.op)
    return InputView(producer.op, decode_tensor(value))
