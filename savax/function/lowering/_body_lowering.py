"""FunctionDefs of traced bodies of either kind, and what refers to what among FunctionDefs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.errors import UnsupportedError
from savax.function.lowering._lowering import lower_function
from savax.function.lowering._rank_lowering import lower_ranks
from savax.function.stablehlo._options import OPS, Backend
from savax.function.tracing._traced_body import RankPolymorphicBody, TracedBody
from savax.protos import FunctionDef

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from savax.function.lowering._function_library import FunctionLibrary
    from savax.protos import NodeDef


def lower_body(
    body: TracedBody | RankPolymorphicBody,
    name: str,
    library: FunctionLibrary,
    *,
    output_names: Sequence[str] | None = None,
    backend: Backend = OPS,
) -> FunctionDef:
    """Lowers a traced function and adds the FunctionDef to the library.

    Args:
      body: the trace.
      name: name of the function, unique in the library.
      library: gets the function and those that it calls.
      output_names: names of the results.
      backend: what it is written as.

    Raises:
      UnsupportedPrimitiveError: primitives have no lowering; all are listed.
      UnsupportedError: it has no module.
    """
    if isinstance(body, RankPolymorphicBody):
        if backend != OPS:
            raise UnsupportedError(
                "A compiled module has arguments of known rank, and this function has arguments of "
                "unknown rank. Give it an input_signature with ranks, or lower it as operations."
            )
        return lower_ranks(body, name, library, output_names=output_names)
    return lower_function(body, name, library, output_names=output_names, backend=backend)


def renamed_function(definition: FunctionDef, names: Mapping[str, str]) -> FunctionDef:
    """Returns a copy of a function in which functions go by other names.

    Args:
      definition: the function.
      names: old name to new one.
    """
    renamed = FunctionDef()
    renamed.CopyFrom(definition)
    renamed.signature.name = names.get(renamed.signature.name, renamed.signature.name)
    for node in renamed.node_def:
        rename_calls(node, names)
    return renamed


def rename_calls(node: NodeDef, names: Mapping[str, str]) -> None:
    """Makes a node refer to functions by other names, in place."""
    node.op = names.get(node.op, node.op)
    for attr in node.attr.values():
        if attr.HasField("func"):
            attr.func.name = names.get(attr.func.name, attr.func.name)
        for function in attr.list.func:
            function.name = names.get(function.name, function.name)
