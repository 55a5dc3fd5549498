"""The report of ``savax show`` as text and as JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from savax.saved_model.cli._values import tensor_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from savax.saved_model.cli._functions import FunctionReport
    from savax.saved_model.cli._objects import ObjectReport
    from savax.saved_model.cli._show import (
        GraphReport,
        ModelReport,
        SignatureReport,
        TensorReport,
    )

_UNITS = ("kB", "MB", "GB", "TB")


def render_json(model: ModelReport) -> str:
    """Returns the whole report as JSON; its keys are the attributes of the report classes."""
    return json.dumps(dataclasses.asdict(model), indent=2)


def render_text(
    model: ModelReport, *, signatures_only: bool = False, everything: bool = False
) -> str:
    """Returns the report for people.

    Args:
      model: what to show.
      signatures_only: leave out functions and objects.
      everything: add every object and operation.
    """
    lines = list(_model_lines(model))
    for graph in model.graphs:
        lines += ["", f"Tags: {', '.join(graph.tags) or '(none)'}"]
        if graph.tensorflow_version:
            lines[-1] += f"   (TensorFlow {graph.tensorflow_version})"
        for signature in graph.signatures:
            lines += ["", *_signature_lines(signature)]
        if not graph.signatures:
            lines += ["", "No signatures."]
        if signatures_only:
            continue
        lines += _section("Functions", _function_lines(graph.functions))
        if everything:
            lines += _section("Objects", _tree_lines(graph.objects))
            lines += _section("Operations", _operation_lines(graph))
    return "\n".join(map(printable, lines))


def _section(title: str, lines: Iterable[str]) -> list[str]:
    indented = [f"  {line}" for line in lines]
    return ["", f"{title}:", *indented] if indented else []


def _model_lines(model: ModelReport) -> Iterator[str]:
    yield f"SavedModel {model.path}"
    yield f"  {_count(len(model.files), 'file')}, {size_text(model.size_bytes)}"
    tensors = _count(model.num_tensors, "tensor")
    yield f"  {tensors} in the checkpoint, {size_text(model.tensor_bytes)}"
    if model.fingerprint is not None:
        yield f"  fingerprint {model.fingerprint}"


def _signature_lines(signature: SignatureReport) -> Iterator[str]:
    method = f"   ({signature.method_name})" if signature.method_name else ""
    yield f"Signature {signature.key!r}{method}"
    yield from _tensor_lines("inputs", signature.inputs)
    yield from _tensor_lines("outputs", signature.outputs)
    yield "  call"
    yield from (f"    {line}" for line in signature.example.splitlines())


def _tensor_lines(title: str, tensors: Sequence[TensorReport]) -> Iterator[str]:
    yield f"  {title}"
    if not tensors:
        yield "    (none)"
    rows = [(t.name, tensor_text(t.dtype, t.shape), t.tensor) for t in tensors]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)] if rows else [0, 0]
    for name, kind, tensor in rows:
        yield f"    {name:{widths[0]}}  {kind:{widths[1]}}  {tensor}"


def _function_lines(functions: Sequence[FunctionReport]) -> Iterator[str]:
    for function in functions:
        yield f"{function.path}({function.parameters})"
        if not function.traces:
            yield "  never traced"
        for trace in function.traces:
            yield f"  ({trace.arguments}) -> {trace.result}"
            nodes, captures = _count(trace.num_nodes, "node"), _count(trace.num_captures, "capture")
            yield f"    {trace.name}: {nodes}, {captures}"


def _tree_lines(objects: Sequence[ObjectReport]) -> Iterator[str]:
    """Yields the object graph as a tree; an object that was shown already appears as its path."""
    by_path = {report.path: report for report in objects}
    if not objects:
        return
    # (text before the local name, text before the children's lines, local name, path, is here)
    pending = [("", "", "root", "root", True)]
    while pending:
        lead, indent, name, path, here = pending.pop()
        if not here:
            yield f"{lead}{name} -> {path}"
            continue
        report = by_path[path]
        size = "" if report.size_bytes is None else f", {size_text(report.size_bytes)}"
        yield f"{lead}{name}: {' '.join(filter(None, (report.kind, report.detail)))}{size}"
        children = list(report.children.items())
        for i, (local_name, child) in reversed(list(enumerate(children))):
            last = i == len(children) - 1
            is_here = child == f"{path}.{local_name}"
            lead_of_child = indent + ("└─ " if last else "├─ ")
            below = indent + ("   " if last else "│  ")
            pending.append((lead_of_child, below, local_name, child, is_here))


def _operation_lines(graph: GraphReport) -> Iterator[str]:
    width = max((len(str(count)) for count in graph.operations.values()), default=0)
    yield from (f"{count:{width}}  {op}" for op, count in graph.operations.items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_text(size_bytes: int) -> str:
    """Returns a number of bytes as people write it: ``1.5 kB`` is 1500 bytes."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value, unit = float(size_bytes), 0
    while (value := value / 1000) >= 999.5 and unit + 1 < len(_UNITS):
        unit += 1
    return f"{value:.3g} {_UNITS[unit]}"


def printable(text: str) -> str:
    """Returns a line with control characters escaped: a model's names may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
