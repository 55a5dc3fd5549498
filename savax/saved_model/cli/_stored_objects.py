"""``savax checkpoint show``: the object tree of a checkpoint, and values of its tensors."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from savax.saved_model.cli._listing import (
    StoredTensorReport,
    describe_entry,
    tensor_table,
)
from savax.saved_model.cli._objects import ObjectReport, node_paths
from savax.saved_model.cli._summary import ValueReport, summarize, summary_lines
from savax.saved_model.cli._tables import aligned, count_text, section, size_text, tree_lines
from savax.saved_model.cli._values import tensor_text
from savax.trackable import OBJECT_GRAPH_KEY
from savax.trackable.bundle import BundleReader
from savax.trackable.checkpoint import decode_object_graph, resolve_prefix
from savax.trackable.checkpoint._stored_graph import StoredGraph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from savax.types import PathLike

_VALUE = "VARIABLE_VALUE"  # name of a Variable's only attribute


@dataclasses.dataclass(frozen=True)
class SlotReport:
    """The value that an optimizer keeps beside a Variable.

    Attributes:
      optimizer: path of the optimizer.
      slot_name: the optimizer's name for it.
      variable: path of the Variable.
      tensors: what is stored.
    """

    optimizer: str
    slot_name: str
    variable: str
    tensors: tuple[StoredTensorReport, ...]


@dataclasses.dataclass(frozen=True)
class CheckpointReport:
    """A checkpoint.

    Attributes:
      prefix: of its files.
      num_shards: number of its data files.
      num_tensors: tensors in it, without the object graph.
      size_bytes: bytes of these tensors.
      objects: the object graph, breadth first; empty for a name-based checkpoint.
      slots: slot variables.
      others: tensors that no object holds: all of them in a name-based checkpoint.
    """

    prefix: str
    num_shards: int
    num_tensors: int
    size_bytes: int
    objects: tuple[ObjectReport, ...]
    slots: tuple[SlotReport, ...]
    others: tuple[StoredTensorReport, ...]


@dataclasses.dataclass(frozen=True)
class ValuesReport:
    """Values of a checkpoint's tensors.

    Attributes:
      prefix: of its files.
      tensors: in the order in which they were asked for.
    """

    prefix: str
    tensors: tuple[ValueReport, ...]


def read_graph(reader: BundleReader) -> StoredGraph | None:
    """Returns the object graph of an open checkpoint; None in a name-based one.

    Raises:
      CorruptBundleError: the graph is damaged, or contradicts itself.
    """
    if OBJECT_GRAPH_KEY not in reader:
        return None
    data: Any = reader.read(OBJECT_GRAPH_KEY)[()]
    return StoredGraph(decode_object_graph(data, reader.prefix), reader, reader.prefix)


def collect_checkpoint(path: PathLike) -> CheckpointReport:
    """Returns the objects and tensors of a checkpoint.

    Args:
      path: prefix, index file, directory of checkpoints (its latest), or SavedModel directory.

    Raises:
      NotFoundError: there is no checkpoint.
      CorruptBundleError: the index or the object graph is damaged.
    """
    with BundleReader(resolve_prefix(path)) as reader:
        graph = read_graph(reader)
        tensors = {
            key: describe_entry(reader.entry(key)) for key in reader if key != OBJECT_GRAPH_KEY
        }
        num_shards = reader.header.num_shards
    objects: tuple[ObjectReport, ...] = ()
    slots: tuple[SlotReport, ...] = ()
    others = dict(tensors)
    if graph is not None:
        paths = node_paths(graph)
        objects = tuple(_object(graph, node_id, paths, tensors) for node_id in paths)
        slots = tuple(_slots(graph, tensors))
        held = [*paths, *(slot for _, slot in _slot_nodes(graph))]
        for key in {key for node_id in held for key in graph.keys_of(node_id).values()}:
            others.pop(key, None)
    return CheckpointReport(
        prefix=reader.prefix,
        num_shards=num_shards,
        num_tensors=len(tensors),
        size_bytes=sum(tensor.size_bytes for tensor in tensors.values()),
        objects=objects,
        slots=slots,
        others=tuple(others.values()),
    )


def collect_values(path: PathLike, names: Sequence[str]) -> ValuesReport:
    """Returns summaries of tensors' values, of which it holds one at a time.

    Args:
      path: see ``collect_checkpoint``.
      names: checkpoint keys, or paths of objects, with or without ``root.``.

    Raises:
      NotFoundError: there is no checkpoint.
      KeyNotFoundError: no such key or path; the message names the nearest keys.
      CorruptBundleError: the index, the object graph or the data of a tensor are damaged.
      UnsupportedError: a tensor's values can only be read by TensorFlow.
    """
    with BundleReader(resolve_prefix(path)) as reader:
        graph = None if all(name in reader for name in names) else read_graph(reader)
        keys = []
        for name in names:
            found = () if name in reader or graph is None else _keys_at(graph, name)
            keys += found or [name]
        entries = [reader.entry(key) for key in keys]
        tensors = tuple(summarize(entry, reader.read(entry.key)) for entry in entries)
    return ValuesReport(reader.prefix, tensors)


def _keys_at(graph: StoredGraph, path: str) -> list[str]:
    """Returns the keys of the object at a path, which may be any of its paths."""
    pending = [(0, path.removeprefix("root."))]
    seen = set(pending)
    while pending:
        node_id, rest = pending.pop()
        for child in graph.nodes[node_id].children:
            if rest == child.local_name:
                return list(graph.keys_of(child.node_id).values())
            # Local names may hold dots themselves, so that there can be several ways to go on.
            step = (child.node_id, rest.removeprefix(f"{child.local_name}."))
            if step[1] != rest and step not in seen:
                seen.add(step)
                pending.append(step)
    return []


def relations(graph: StoredGraph | None) -> Iterator[str]:
    """Yields what an object graph says, by paths: one text for each edge, value and slot."""
    if graph is None:
        return
    names = node_paths(graph)
    for slot, node_id in _slot_nodes(graph):
        optimizer, variable = (names.get(node, "an object without a path") for node in slot[::2])
        text = f"{slot[1]!r} of {variable} in {optimizer}"
        yield text
        names.setdefault(node_id, text)
    for node_id, name in names.items():
        for child in graph.nodes[node_id].children:
            path = f"{name}.{child.local_name}"
            child_path = names.get(child.node_id, path)
            yield path if path == child_path else f"{path} -> {child_path}"
        for attribute, key in graph.keys_of(node_id).items():
            yield f"{name}: {attribute} under {key}"


def _slot_nodes(graph: StoredGraph) -> Iterator[tuple[tuple[int, str, int], int]]:
    """Yields (optimizer, slot name, Variable) and the node of each slot variable."""
    for optimizer in range(len(graph.nodes)):
        for slot in graph.slots_of(optimizer):
            yield (
                (optimizer, slot.slot_name, slot.original_variable_node_id),
                slot.slot_variable_node_id,
            )


def _object(
    graph: StoredGraph,
    node_id: int,
    paths: dict[int, str],
    tensors: dict[str, StoredTensorReport],
) -> ObjectReport:
    keys = graph.keys_of(node_id)
    held = {name: tensors[key] for name, key in keys.items() if key in tensors}
    kind = "variable" if list(keys) == [_VALUE] else "object"
    texts = [
        ("" if kind == "variable" else f"{name} ") + tensor_text(tensor.dtype, tensor.shape)
        for name, tensor in held.items()
    ]
    children = {child.local_name: paths[child.node_id] for child in graph.nodes[node_id].children}
    size_bytes = sum(tensor.size_bytes for tensor in held.values()) if held else None
    return ObjectReport(paths[node_id], kind, ", ".join(texts), size_bytes, children)


def _slots(graph: StoredGraph, tensors: dict[str, StoredTensorReport]) -> Iterator[SlotReport]:
    paths = graph.paths()
    for (optimizer, slot_name, variable), node_id in _slot_nodes(graph):
        keys = graph.keys_of(node_id).values()
        yield SlotReport(
            paths[optimizer],
            slot_name,
            paths[variable],
            tuple(tensors[key] for key in keys if key in tensors),
        )


def checkpoint_lines(report: CheckpointReport) -> Iterator[str]:
    """Yields the report for people."""
    yield f"Checkpoint {report.prefix}"
    kind = "object-based" if report.objects else "name-based"
    yield (
        f"  {kind}, {count_text(report.num_tensors, 'tensor')}, {size_text(report.size_bytes)} in "
        f"{count_text(report.num_shards, 'data file')}"
    )
    yield from section("Objects", tree_lines(report.objects))
    slots = [
        (
            f"{slot.variable}: {slot.slot_name}",
            ", ".join(tensor_text(tensor.dtype, tensor.shape) for tensor in slot.tensors),
            size_text(sum(tensor.size_bytes for tensor in slot.tensors)),
            f"in {slot.optimizer}",
        )
        for slot in report.slots
    ]
    yield from section("Slot variables", aligned(slots, right={2}))
    title = "Tensors of no object" if report.objects else "Tensors"
    yield from section(title, tensor_table(report.others))


def values_lines(report: ValuesReport) -> Iterator[str]:
    """Yields the report for people."""
    for i, tensor in enumerate(report.tensors):
        if i:
            yield ""
        yield from summary_lines(tensor)
