"""``savax check``: what other readers of a model don't run."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from savax.portability import REPLACED_OPS, consumers_of, refused_nodes
from savax.saved_model._constants import RESERVED_SIGNATURE_KEYS
from savax.saved_model._reader import choose_meta_graph, open_model, read_saved_model
from savax.saved_model._stored_debug_info import line_of, read_debug_info
from savax.saved_model.cli._tables import count_text, section

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from savax.protos import FunctionDef, GraphDebugInfo, MetaGraphDef, NodeDef
    from savax.types import PathLike

_MAX_PLACES = 3


@dataclasses.dataclass(frozen=True)
class TargetProblem:
    """Nodes that a target doesn't run.

    Attributes:
      op: their op.
      dtypes: that they compute with.
      consumers: that don't run them.
      advice: the way around.
      count: number of nodes.
      places: the first of them: ``node`` of the main graph or ``function: node``.
      lines: where those come from in the program that wrote the model, if it says so.
    """

    op: str
    dtypes: tuple[str, ...]
    consumers: tuple[str, ...]
    advice: str
    count: int
    places: tuple[str, ...]
    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What a target doesn't run of a model.

    Attributes:
      path: of the model.
      tags: of the graph that was looked at, sorted.
      target: that was asked for.
      num_nodes: that its signatures run.
      problems: by op.
    """

    path: str
    tags: tuple[str, ...]
    target: str
    num_nodes: int
    problems: tuple[TargetProblem, ...]


def check_model(
    export_dir: PathLike, target: str, tags: Iterable[str] | None = None
) -> CheckReport:
    """Looks at the nodes that the signatures of a model run, without running any.

    Args:
      export_dir: directory of the model.
      target: one of ``savax.portability.TARGETS``.
      tags: of the graph; None if there is one.

    Raises:
      InvalidArgumentError: there is no such target.
      NotFoundError: there is no model.
      TagsMismatchError: there is no graph with these tags, or more than one without.
      CorruptSavedModelError: the model is damaged.
    """
    consumers = consumers_of(target)
    with open_model(export_dir) as directory:
        meta_graph = choose_meta_graph(read_saved_model(directory), tags, directory.path)
        debug_info = read_debug_info(directory)
        path = directory.path
    bodies = signature_nodes(meta_graph)
    found: dict[tuple[str, tuple[str, ...], str], _Nodes] = {}
    for function, nodes in bodies.items():
        for node, refusal in refused_nodes(nodes, consumers, bodies):
            key = refusal.op, refusal.dtypes, refusal.advice
            found.setdefault(key, _Nodes()).add(function, node.name, refusal.consumer)
    problems = [
        nodes.problem(op, dtypes, advice, debug_info)
        for (op, dtypes, advice), nodes in sorted(found.items())
    ]
    return CheckReport(
        path=path,
        tags=tuple(sorted(meta_graph.meta_info_def.tags)),
        target=target,
        num_nodes=sum(map(len, bodies.values())),
        problems=tuple(problems),
    )


class _Nodes:
    """Nodes with the same problem."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], None] = {}
        self._consumers: dict[str, None] = {}

    def add(self, function: str, node: str, consumer: str) -> None:
        self._places[function, node] = None
        self._consumers[consumer] = None

    def problem(
        self, op: str, dtypes: tuple[str, ...], advice: str, info: GraphDebugInfo
    ) -> TargetProblem:
        first = list(self._places)[:_MAX_PLACES]
        lines = [line_of(info, *place) for place in first]
        if op in REPLACED_OPS:
            advice = f"export the program by savax for the target, which has other forms; {advice}"
        return TargetProblem(
            op=op,
            dtypes=dtypes,
            consumers=tuple(self._consumers),
            advice=advice,
            count=len(self._places),
            places=tuple(f"{f}: {node}" if f else node for f, node in first),
            lines=tuple(dict.fromkeys(line for line in lines if line is not None)),
        )


def signature_nodes(meta_graph: MetaGraphDef) -> dict[str, list[NodeDef]]:
    """Returns the nodes that signatures run, by function; the main graph's under ``""``."""
    library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    outputs = [
        info.name
        for key, signature in meta_graph.signature_def.items()
        if key not in RESERVED_SIGNATURE_KEYS
        for info in signature.outputs.values()
    ]
    bodies = {"": _needed(meta_graph.graph_def.node, outputs)}
    waiting = list(bodies[""])
    while waiting:
        for name in _called(waiting.pop()):
            if name in library and name not in bodies:
                bodies[name] = _body(library[name])
                waiting += bodies[name]
    return bodies


def _body(function: FunctionDef) -> list[NodeDef]:
    return _needed(function.node_def, [*function.ret.values(), *function.control_ret.values()])


def _needed(nodes: Sequence[NodeDef], outputs: Iterable[str]) -> list[NodeDef]:
    """Returns the nodes that outputs need, in the order of the graph."""
    named = {node.name: node for node in nodes}
    waiting = [_node_name(output) for output in outputs]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in named and name not in found:
            found.add(name)
            waiting += map(_node_name, named[name].input)
    return [node for node in nodes if node.name in found]


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").split(":")[0]


def _called(node: NodeDef) -> Iterator[str]:
    yield node.op
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def check_lines(report: CheckReport) -> Iterator[str]:
    """Yields the report for people."""
    yield f"SavedModel {report.path}"
    tags = ", ".join(report.tags) or "(none)"
    yield f"Tags: {tags}   Target: {report.target}   ({count_text(report.num_nodes, 'node')})"
    if not report.problems:
        yield f"  {report.target} runs every node"
    for problem in report.problems:
        types = f" of {' and '.join(problem.dtypes)}" if problem.dtypes else ""
        title = f"{problem.op}{types}: not in {', '.join(problem.consumers)}"
        more = ", ..." if problem.count > len(problem.places) else ""
        rows = [f"{count_text(problem.count, 'node')}: {', '.join(problem.places)}{more}"]
        rows += [f"written at {line}" for line in problem.lines]
        yield from section(title, [*rows, f"way around: {problem.advice}"])
