"""The limit of a model's graph, and what is said of one that is too large."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

from savax.errors import InvalidArgumentError
from savax.function import ConcreteFunction, TracedExecution
from savax.trackable import Constant
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from savax.protos import NodeDef
    from savax.saved_model._functions_export import ExportedFunctions
    from savax.saved_model._graph_export import MainGraph
    from savax.trackable import ObjectGraph

# A protobuf message can't have 2 GiB. Readers add to the graph: they inline functions, and make
# constants of Variables.
MOST_GRAPH_BYTES = 15 << 27

_SHOWN = 5


class _SizedNode(NamedTuple):
    """A constant of the graph.

    Attributes:
      size: how many bytes the graph has for it.
      name: of its node.
      function: name of the function that it is in; empty for the main graph.
      what: dtype and shape.
    """

    size: int
    name: str
    function: str
    what: str


def check_graph_size(graph: ObjectGraph, functions: ExportedFunctions, main: MainGraph) -> None:
    """Checks that what must be constants has a place in a model's graph.

    Args:
      graph: the frozen object graph.
      functions: its functions.
      main: the main graph.

    Raises:
      InvalidArgumentError: there is too much; the message has the largest constants.
    """
    nodes = list(_constants(functions, main))
    total = sum(node.size for node in nodes)
    if total <= MOST_GRAPH_BYTES:
        return
    users = _users(graph, functions, main)
    lines = [
        f"{node.what}, {node.size:,} bytes, {users.get(node[1:3]) or _place(node)}"
        for node in heapq.nlargest(_SHOWN, nodes)
    ]
    more = [f"and {len(nodes) - _SHOWN:,} more"] if len(nodes) > _SHOWN else []
    raise InvalidArgumentError(
        f"The constants of the model's graph have {total:,} bytes, and no more than "
        f"{MOST_GRAPH_BYTES:,} have a place in it. Make arrays that functions close over "
        "savax.Variables, or pass them as arguments; savax does so itself with arrays of numbers "
        "of 1 MiB and more. SaveOptions(experimental_image_format=True) writes a larger graph, "
        "in a form that TensorFlow's Python doesn't load. The largest constants are\n  "
        + "\n  ".join([*lines, *more])
    )


def _constants(functions: ExportedFunctions, main: MainGraph) -> Iterator[_SizedNode]:
    apart = main.large_constants
    for node in _only_constants(main.writer.graph.node):
        size = apart[node.name].nbytes if node.name in apart else node.ByteSize()
        yield _SizedNode(size, node.name, "", _described(node))
    for name, definition in functions.library.items():
        for node in _only_constants(definition.node_def):
            yield _SizedNode(node.ByteSize(), node.name, name, _described(node))


def _only_constants(nodes: Iterable[NodeDef]) -> Iterator[NodeDef]:
    return (node for node in nodes if node.op == "Const")


def _described(node: NodeDef) -> str:
    tensor = node.attr["value"].tensor
    sizes = ", ".join(str(dim.size) for dim in tensor.tensor_shape.dim)
    return f"{as_dtype(tensor.dtype).name}[{sizes}]"


def _place(node: _SizedNode) -> str:
    return f"node {node.name!r}" + (f" of {node.function!r}" if node.function else "")


def _users(
    graph: ObjectGraph, functions: ExportedFunctions, main: MainGraph
) -> dict[Sequence[str], str]:
    """Returns which function of the object graph needs a constant, by node and function."""
    users: dict[Sequence[str], str] = {}
    for node in graph.nodes:
        concrete = node.obj
        if not isinstance(concrete, ConcreteFunction):
            continue
        path = graph.path_of(node.id)
        for capture in concrete.captures:
            if isinstance(capture, Constant) and id(capture) in main.constants:
                text = f"closed over by {path}"
                if isinstance(concrete.body, TracedExecution):
                    text += f" at {concrete.body.line_of(capture)}"
                users.setdefault((main.constants[id(capture)], ""), text)
        name = functions.name_of(concrete)
        for constant in _only_constants(functions.library[name].node_def):
            users[constant.name, name] = f"node {constant.name!r} of {path}"
    return users
