"""The report of ``savax show`` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.saved_model.cli._tables import (
    aligned,
    count_text,
    printable,
    section,
    size_text,
    tree_lines,
)
from savax.saved_model.cli._values import tensor_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from savax.protos import CompiledModule
    from savax.saved_model.cli._functions import FunctionReport
    from savax.saved_model.cli._show import (
        GraphReport,
        ModelReport,
        SignatureReport,
        TensorReport,
    )


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
        lines += ["", *_graph_lines(graph)]
        lines += section("Functions", _function_lines(graph.functions))
        if everything:
            lines += section("Objects", tree_lines(graph.objects))
            lines += section("Operations", _operation_lines(graph))
    if everything:
        rows = [(name, size_text(size)) for name, size in sorted(model.files.items())]
        lines += section("Files", aligned(rows, right={1}))
    return "\n".join(map(printable, lines))


def _model_lines(model: ModelReport) -> Iterator[str]:
    yield f"SavedModel {model.path}"
    yield f"  {count_text(len(model.files), 'file')}, {size_text(model.size_bytes)}"
    tensors = count_text(model.num_tensors, "tensor")
    yield f"  {tensors} in the checkpoint, {size_text(model.tensor_bytes)}"
    if model.fingerprint is not None:
        yield f"  fingerprint {model.fingerprint}"


def _graph_lines(graph: GraphReport) -> Iterator[str]:
    functions = count_text(graph.num_functions, "function")
    yield (
        f"Graph of {count_text(graph.num_nodes, 'node')}, and {functions} of "
        f"{count_text(graph.library_nodes, 'node')}"
    )
    if graph.init_op is not None:
        yield f"  initialized by {graph.init_op}"
    if graph.assets:
        yield f"  assets: {', '.join(graph.assets)}"


def _signature_lines(signature: SignatureReport) -> Iterator[str]:
    method = f"   ({signature.method_name})" if signature.method_name else ""
    yield f"Signature {signature.key!r}{method}"
    yield from _tensor_lines("inputs", signature.inputs)
    yield from _tensor_lines("outputs", signature.outputs)
    yield "  call"
    yield from (f"    {line}" for line in signature.example.splitlines())
    yield "  or in a shell"
    yield f"    {signature.command}"


def _tensor_lines(title: str, tensors: Sequence[TensorReport]) -> Iterator[str]:
    yield f"  {title}"
    if not tensors:
        yield "    (none)"
    rows = [(t.name, tensor_text(t.dtype, t.shape), t.tensor) for t in tensors]
    yield from (f"    {line}" for line in aligned(rows))


def _function_lines(functions: Sequence[FunctionReport]) -> Iterator[str]:
    for function in functions:
        yield f"{function.path}({function.parameters})"
        if not function.traces:
            yield "  never traced"
        for trace in function.traces:
            yield f"  ({trace.arguments}) -> {trace.result}"
            nodes, captures = (
                count_text(trace.num_nodes, "node"),
                count_text(trace.num_captures, "capture"),
            )
            yield f"    {trace.name}: {nodes}, {captures}"
            for module in trace.modules:
                yield f"      {_module_text(module)}"


def _module_text(module: CompiledModule) -> str:
    where = ", ".join(module.platforms) or "any platform"
    language = f"StableHLO {module.stablehlo_version or 'of no known version'}"
    return f"compiled module {module.node!r} for {where}, {language}"


def _operation_lines(graph: GraphReport) -> Iterator[str]:
    rows = [(str(count), op) for op, count in graph.operations.items()]
    yield from aligned(rows, right={0})
