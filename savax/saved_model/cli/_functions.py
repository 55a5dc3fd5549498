"""The functions of a model and their traces, as plain data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from savax.errors import CorruptSavedModelError
from savax.protos import compiled_modules, decode_structure
from savax.saved_model.cli._objects import node_paths
from savax.saved_model.cli._values import value_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from savax.protos import (
        CompiledModule,
        FunctionDef,
        FunctionSpec,
        MetaGraphDef,
        SavedConcreteFunction,
    )


@dataclasses.dataclass(frozen=True)
class TraceReport:
    """One signature of a function.

    Attributes:
      name: of its FunctionDef.
      arguments: each argument with its type or value.
      result: what it returns.
      num_nodes: operations in its body, without those of functions that it calls.
      num_captures: Variables, constants and resources that it uses.
      modules: compiled programs in it, and in functions that it calls.
    """

    name: str
    arguments: str
    result: str
    num_nodes: int
    num_captures: int
    modules: tuple[CompiledModule, ...]


@dataclasses.dataclass(frozen=True)
class FunctionReport:
    """A function that Python callers of the loaded model find.

    Attributes:
      path: where, from the root.
      parameters: its Python parameters.
      traces: its signatures.
    """

    path: str
    parameters: str
    traces: tuple[TraceReport, ...]


def collect_functions(meta_graph: MetaGraphDef) -> tuple[FunctionReport, ...]:
    """Returns the functions of a graph, in the order of the object graph.

    Raises:
      CorruptSavedModelError: a function's signature is missing or no signature.
    """
    objects = meta_graph.object_graph_def
    library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    reports = []
    for node_id, path in node_paths(objects).items():
        saved = objects.nodes[node_id]
        if not saved.HasField("function"):
            continue
        names = _parameter_names(saved.function.function_spec, path)
        traces = []
        for name in saved.function.concrete_functions:
            # A map field of protobuf makes an entry for a key that it doesn't have.
            if name not in objects.concrete_functions:
                raise CorruptSavedModelError(f"The concrete function {name!r} has no signature.")
            concrete = objects.concrete_functions[name]
            traces.append(_trace(name, concrete, library, names))
        reports.append(
            FunctionReport(path, _parameters(saved.function.function_spec, path), tuple(traces))
        )
    return tuple(reports)


def _trace(
    name: str,
    concrete: SavedConcreteFunction,
    library: Mapping[str, FunctionDef],
    parameters: list[str],
) -> TraceReport:
    definition = library.get(name)
    call = decode_structure(concrete.canonicalized_input_signature)
    try:
        args, kwargs = call
        shown = [
            f"{parameters[i]}: {value_text(arg)}" if i < len(parameters) else value_text(arg)
            for i, arg in enumerate(args)
        ]
        shown += [f"{keyword}: {value_text(value)}" for keyword, value in kwargs.items()]
    except (TypeError, ValueError, AttributeError):
        raise CorruptSavedModelError(
            f"The input signature of {name!r} is no pair of arguments and keyword arguments."
        ) from None
    return TraceReport(
        name=name,
        arguments=", ".join(shown),
        result=value_text(decode_structure(concrete.output_signature)),
        num_nodes=0 if definition is None else len(definition.node_def),
        num_captures=len(concrete.bound_inputs),
        modules=() if definition is None else compiled_modules(name, library),
    )


def _full_arg_spec(spec: FunctionSpec, path: str) -> Any:
    full = decode_structure(spec.fullargspec)
    if full is not None and not hasattr(full, "args"):
        raise CorruptSavedModelError(f"The parameters of {path} aren't those of a function.")
    return full


def _parameter_names(spec: FunctionSpec, path: str) -> list[str]:
    full = _full_arg_spec(spec, path)
    names = [] if full is None else list(full.args or ())
    return names[1:] if spec.is_method else names


def _parameters(spec: FunctionSpec, path: str) -> str:
    """Returns a function's Python parameters as its definition lists them."""
    full = _full_arg_spec(spec, path)
    if full is None:
        return "*args, **kwargs"
    names = _parameter_names(spec, path)
    defaults = list(getattr(full, "defaults", None) or ())
    first = len(names) - len(defaults)
    shown = [
        name if i < first else f"{name}={value_text(defaults[i - first])}"
        for i, name in enumerate(names)
    ]
    keyword_only = list(getattr(full, "kwonlyargs", None) or ())
    if varargs := getattr(full, "varargs", None):
        shown.append(f"*{varargs}")
    elif keyword_only:
        shown.append("*")
    keyword_defaults = dict(getattr(full, "kwonlydefaults", None) or {})
    shown += [
        f"{name}={value_text(keyword_defaults[name])}" if name in keyword_defaults else name
        for name in keyword_only
    ]
    if varkw := getattr(full, "varkw", None):
        shown.append(f"**{varkw}")
    return ", ".join(shown)
