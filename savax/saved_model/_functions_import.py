"""FunctionDefs and their signatures as ConcreteFunctions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from savax.errors import CorruptSavedModelError, InvalidArgumentError
from savax.function import (
    ConcreteFunction,
    FunctionSpec,
    GradientFunction,
    LoadedBody,
    PlanLibrary,
    RegisteredGradients,
    import_composites,
)
from savax.protos import (
    FunctionDef,
    GraphDef,
    SavedBareConcreteFunction,
    SavedConcreteFunction,
    SavedObjectGraph,
    StructuredValue,
    TypeSpecValue,
    decode_shape,
    decode_structure,
    functions_by_name,
)
from savax.protos import FunctionSpec as FunctionSpecProto
from savax.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from savax.trackable import Trackable

_JIT_COMPILE = {
    FunctionSpecProto.JitCompile.ON: True,
    FunctionSpecProto.JitCompile.OFF: False,
}


class FunctionImporter:
    """Makes the ConcreteFunctions of one model, each once.

    Args:
      graph: the main graph, for its library.
      objects: the object graph, for the functions' signatures.
      assets: the folder whose files the functions may read.
      owner: what must live as long as that folder is read.
    """

    def __init__(
        self, graph: GraphDef, objects: SavedObjectGraph, assets: str, owner: object = None
    ) -> None:
        self._signatures = objects.concrete_functions
        self._definitions = functions_by_name(graph.library)
        # One library for all, so that what two functions call is planned once.
        self._library = PlanLibrary(self._definitions, assets, owner)
        self._made: dict[str, ConcreteFunction] = {}

    def register_gradients(self, gradients: Iterable[GradientFunction]) -> None:
        """Gives the functions their custom gradients; before one of them is called."""
        self._library.gradients = RegisteredGradients(self._definitions, gradients)

    def bound_inputs(self, name: str) -> Sequence[int]:
        """Returns the node ids of what a function captures."""
        return self._signature(name).bound_inputs

    def concrete(
        self,
        name: str,
        captures: Sequence[Trackable],
        spec: FunctionSpec,
        bare: SavedBareConcreteFunction | None = None,
    ) -> ConcreteFunction:
        """Returns a function by the name of its FunctionDef."""
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = self._make(name, captures, spec, bare)
        return found

    def _make(
        self,
        name: str,
        captures: Sequence[Trackable],
        spec: FunctionSpec,
        bare: SavedBareConcreteFunction | None,
    ) -> ConcreteFunction:
        signature = self._signature(name)
        definition = self._definitions.get(name)
        if definition is None:
            raise CorruptSavedModelError(
                f"The concrete function {name!r} isn't in the model's function library."
            )
        structured = _imported(name, signature.canonicalized_input_signature)
        count = len(definition.signature.input_arg) - len(captures)
        names = [arg.name for arg in definition.signature.input_arg][: max(count, 0)]
        if bare is not None and len(bare.argument_keywords) == len(names):
            names = list(bare.argument_keywords)
        if structured is None:
            # A function that was cut out of a graph (`prune`) takes tensors in their order.
            structured = (_tensors(definition, names), {})
            spec = FunctionSpec(spec.name, tuple(names)) if len({*names}) == len(names) else spec
        if not _is_call(structured):
            raise CorruptSavedModelError(
                f"The input signature of {name!r} is no pair of arguments and keyword arguments."
            )
        leaves = jax.tree.leaves(structured)
        is_plain = not any(isinstance(leaf, TypeSpecValue) for leaf in leaves)
        if is_plain and sum(isinstance(leaf, TensorSpec) for leaf in leaves) != count:
            raise CorruptSavedModelError(
                f"The function {name!r} takes {len(definition.signature.input_arg)} tensors, which "
                f"aren't those of its signature and its {len(captures)} captures."
            )
        outputs = _imported(name, signature.output_signature)
        results = jax.tree.leaves(outputs)
        is_plain = not any(isinstance(leaf, TypeSpecValue) for leaf in results)
        if is_plain and len(results) != len(definition.signature.output_arg):
            raise CorruptSavedModelError(
                f"The function {name!r} returns {len(definition.signature.output_arg)} tensors, "
                f"which aren't the {len(results)} of its signature."
            )
        body = LoadedBody(name, self._library, captures)
        return ConcreteFunction(body, spec, _as_call(structured), outputs, names)

    def _signature(self, name: str) -> SavedConcreteFunction:
        # A map field of protobuf makes an entry for a key that it doesn't have.
        if name not in self._signatures:
            raise CorruptSavedModelError(f"The concrete function {name!r} has no signature.")
        return self._signatures[name]


def _imported(name: str, structured: StructuredValue) -> Any:
    """Returns a signature; composites in it consist of the specs of their parts."""
    try:
        return import_composites(decode_structure(structured))
    except InvalidArgumentError as error:
        raise CorruptSavedModelError(f"The signature of {name!r}: {error}") from error


def _tensors(definition: FunctionDef, names: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Returns the specs of a function's first arguments, from its graph alone."""
    specs = []
    for i, (arg, name) in enumerate(zip(definition.signature.input_arg, names, strict=False)):
        # A map field of protobuf makes an entry for a key that it doesn't have.
        attrs = definition.arg_attr[i].attr if i in definition.arg_attr else {}
        shapes = attrs["_output_shapes"].list.shape if "_output_shapes" in attrs else []
        try:
            specs.append(TensorSpec(decode_shape(shapes[0]) if shapes else None, arg.type, name))
        except InvalidArgumentError as error:
            raise CorruptSavedModelError(
                f"Argument {arg.name!r} of {definition.signature.name!r}: {error}"
            ) from error
    return tuple(specs)


def _is_call(structured: Any) -> bool:
    return (
        isinstance(structured, tuple)
        and len(structured) == 2
        and isinstance(structured[0], tuple)
        and isinstance(structured[1], dict)
    )


def _as_call(structured: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = structured
    return args, kwargs


def import_function_spec(proto: FunctionSpecProto, name: str) -> FunctionSpec:
    """Returns a function's parameters.

    Args:
      proto: as the model holds it; without parameters, calls go by the names of tensors.
      name: the function's name.

    Raises:
      CorruptSavedModelError: the parameters aren't what Python's ``FullArgSpec`` holds.
    """
    # Early versions of TensorFlow 2 wrote no parameters for the functions of signatures.
    full = decode_structure(proto.fullargspec) if proto.HasField("fullargspec") else None
    if full is None:
        return FunctionSpec(name=name, varargs="args", varkw="kwargs")
    try:
        args = list(full.args)
        if proto.is_method and args:
            args = args[1:]
        input_signature = _imported(name, proto.input_signature)
        return FunctionSpec(
            name=name,
            args=tuple(args),
            defaults=tuple(full.defaults or ()),
            varargs=full.varargs,
            varkw=full.varkw,
            kwonlyargs=tuple(full.kwonlyargs or ()),
            kwonlydefaults=dict(full.kwonlydefaults or {}),
            input_signature=None if input_signature is None else tuple(input_signature),
            jit_compile=_JIT_COMPILE.get(proto.jit_compile),
        )
    except (AttributeError, TypeError) as error:
        raise CorruptSavedModelError(
            f"The parameters of {name!r} can't be read: {error}."
        ) from error
