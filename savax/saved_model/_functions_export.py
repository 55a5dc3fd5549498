"""Concrete functions as FunctionDefs of one library, each under a name of its own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from savax.errors import UnsupportedError
from savax.function import (
    GRADIENT_ATTR,
    OPS,
    Backend,
    CapturedArrays,
    ConcreteFunction,
    FrozenBody,
    FunctionLibrary,
    GradientFunction,
    LoadedBody,
    TracedExecution,
    chosen_backend,
    gradient_type_of,
    lower_body,
    lower_gradients,
    renamed_function,
)
from savax.protos import (
    AttrValue,
    FunctionDef,
    FunctionRef,
    encode_attr,
    reachable_functions,
)
from savax.saved_model._gradients import renamed_gradient
from savax.saved_model._signatures import SignatureBody
from savax.saved_model._targets import TargetChecks
from savax.types import DType, TensorShape, as_dtype

_NUMBER = re.compile(r"_(\d+)$")


@dataclasses.dataclass(frozen=True)
class ExportedFunctions:
    """The library of a model, and which of its functions is which concrete function.

    Attributes:
      library: all FunctionDefs by name, in the order in which they were added.
      names: name of each concrete function, by the object's id.
      captured: the Variables of large arrays that the functions close over.
      gradients: the custom gradients of nodes in the library.
      sources: for each function that was lowered, if that is wanted, the names of its nodes and the
        equations that they were written for, outermost first.
    """

    library: dict[str, FunctionDef]
    names: Mapping[int, str]
    captured: CapturedArrays
    gradients: Sequence[GradientFunction]
    sources: Mapping[str, Mapping[str, tuple[Any, ...]]]

    def name_of(self, concrete: ConcreteFunction) -> str:
        """Returns the name of a concrete function's FunctionDef."""
        return self.names[id(concrete)]

    def definition_of(self, concrete: ConcreteFunction) -> FunctionDef:
        """Returns a concrete function's FunctionDef."""
        return self.library[self.name_of(concrete)]


def export_functions(
    concretes: Sequence[ConcreteFunction],
    *,
    custom_gradients: bool = True,
    captured_arrays: bool = True,
    with_sources: bool = False,
    backend: Backend = OPS,
    targets: Mapping[int, str] | None = None,
) -> ExportedFunctions:
    """Lowers the functions that were traced, and adds those that were loaded unchanged.

    Args:
      concretes: in the order in which they get their numbers.
      custom_gradients: whether the gradient functions that models registered are kept.
      captured_arrays: whether large arrays that functions close over become Variables.
      with_sources: whether to remember which equations nodes were written for.
      backend: what functions without a wish of their own are written as.
      targets: what has to run functions, by the objects' ids; TensorFlow, unless they say so.

    Raises:
      UnsupportedPrimitiveError: some primitives have no lowering; the message has all of them.
      UnsupportedTargetError: targets don't run some ops; the message has all of them.
    """
    ordered = _inner_first(concretes)
    _check_frozen(ordered)
    loaded = [c for c in ordered if isinstance(c.body, LoadedBody)]
    library = FunctionLibrary(_first_free_number(loaded), custom_gradients=custom_gradients)
    library.captured_arrays = CapturedArrays() if captured_arrays else None
    library.sources = {} if with_sources else None
    gradients: dict[str, GradientFunction] = {}
    names = _add_loaded(library, loaded, gradients if custom_gradients else None)
    checks = TargetChecks(library, targets or {})
    checks.check_loaded(loaded)
    problems: dict[str, None] = {}
    for concrete in ordered:
        body = concrete.body
        if isinstance(body, TracedExecution):
            name = library.unique_name(f"__inference_{concrete.name}")
            names[id(concrete)] = name
            checks.begin(concrete)
            try:
                _lower_traced(concrete, body, name, library, backend)
            except UnsupportedError as error:
                problems[f"In function {concrete.name!r}: {error}"] = None
                kind = type(error)
        elif isinstance(body, SignatureBody) and not problems:
            name = library.unique_name(f"__inference_{concrete.name}")
            names[id(concrete)] = name
            library.add(_wrapper(name, concrete, body, library.functions[names[id(body.inner)]]))
    if problems:
        raise kind("\n".join(problems))
    checks.finish()
    of_both = [*gradients.values(), *lower_gradients(library)]
    return _exported(library, names, of_both)


def _lower_traced(
    concrete: ConcreteFunction,
    body: TracedExecution,
    name: str,
    library: FunctionLibrary,
    backend: Backend,
) -> None:
    spec = concrete.function_spec
    chosen = chosen_backend(spec.lowering, spec.fallback, backend)
    names = _output_names(concrete)
    definition = lower_body(body.traced, name, library, output_names=names, backend=chosen)
    _write_jit_compile(definition, spec.jit_compile)


def _exported(
    library: FunctionLibrary, names: Mapping[int, str], gradients: Sequence[GradientFunction]
) -> ExportedFunctions:
    captured = library.captured_arrays or CapturedArrays()
    sources = library.sources or {}
    return ExportedFunctions(library.functions, names, captured, gradients, sources)


def _check_frozen(concretes: Iterable[ConcreteFunction]) -> None:
    frozen = [repr(c.name) for c in concretes if isinstance(c.body, FrozenBody)]
    if frozen:
        raise UnsupportedError(
            f"The functions {', '.join(frozen)} are frozen, and can't be saved. Save the functions "
            "that they were made from; `savax freeze` then writes a model with constants."
        )


def _write_jit_compile(definition: FunctionDef, wanted: bool | None) -> None:
    if wanted is not None:
        definition.attr["_XlaMustCompile"].b = wanted
    if wanted:
        definition.attr["_noinline"].b = True  # what is compiled stays one function


def _inner_first(concretes: Iterable[ConcreteFunction]) -> list[ConcreteFunction]:
    """Returns the functions, each once, and before each wrapper the function that it calls."""
    ordered: dict[int, ConcreteFunction] = {}
    for concrete in concretes:
        if isinstance(concrete.body, SignatureBody):
            ordered.setdefault(id(concrete.body.inner), concrete.body.inner)
        ordered.setdefault(id(concrete), concrete)
    return list(ordered.values())


def _first_free_number(loaded: Iterable[ConcreteFunction]) -> int:
    numbers = [0]
    for concrete in loaded:
        assert isinstance(concrete.body, LoadedBody)
        matches = (_NUMBER.search(name) for name in concrete.body.functions)
        numbers += [int(match.group(1)) + 1 for match in matches if match]
    return max(numbers)


def _add_loaded(
    library: FunctionLibrary,
    concretes: Iterable[ConcreteFunction],
    gradients: dict[str, GradientFunction] | None,
) -> dict[int, str]:
    """Adds loaded functions and all that they call; returns their names by the objects' ids.

    Args:
      library: gets the functions.
      concretes: the loaded functions.
      gradients: gets the models' custom gradients, by type; None leaves them out.
    """
    models: dict[int, list[LoadedBody]] = {}
    owners: dict[int, ConcreteFunction] = {}
    for concrete in concretes:
        assert isinstance(concrete.body, LoadedBody)
        models.setdefault(id(concrete.body.functions), []).append(concrete.body)
        owners[id(concrete.body)] = concrete
    names: dict[int, str] = {}
    for bodies in models.values():
        found = _add_model(library, bodies, frozenset(names.values()), gradients)
        names |= {id(owners[key]): name for key, name in found.items()}
    return names


def _add_model(
    library: FunctionLibrary,
    bodies: Sequence[LoadedBody],
    taken: frozenset[str],
    gradients: dict[str, GradientFunction] | None,
) -> dict[int, str]:
    """Adds the functions of one loaded model; what another model has by their names stays."""
    names = {id(body): body.function_name for body in bodies}
    wanted = list(names.values())
    registered: dict[str, GradientFunction] = {}
    if gradients is not None:
        registered = {g.gradient_type: g for g in bodies[0].gradients.reached_from(wanted)}
        wanted += [gradient.function for gradient in registered.values()]
    functions: dict[str, FunctionDef] = {}
    for name in wanted:
        if name not in functions:
            functions |= reachable_functions(name, bodies[0].functions)
    # The captures belong to the name of a concrete function, so two can't share one; and
    # TensorFlow's fingerprint needs the number at its end.
    taken |= {gradient.function for gradient in (gradients or {}).values()}
    clashing = {name for name in wanted if name in taken or not _NUMBER.search(name)}
    clashing |= {n for n, definition in functions.items() if _differs(library, n, definition)}
    types = _new_types(registered, gradients or {})
    clashing |= {name for name, definition in functions.items() if _has_types(definition, types)}
    if clashing:
        for name in functions.keys() & library.functions.keys():
            if clashing & reachable_functions(name, functions).keys():
                clashing.add(name)
    new = {name: library.unique_name(_NUMBER.sub("", name)) for name in sorted(clashing)}
    for definition in functions.values():
        library.add(_renamed(definition, new, types) if new else definition)
    if gradients is not None:
        for gradient in registered.values():
            renamed = renamed_gradient(gradient, new, types)
            gradients[renamed.gradient_type] = renamed
    return {key: new.get(name, name) for key, name in names.items()}


def _new_types(wanted: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Returns other names for the types of custom gradients that another model has, too."""
    used = {*wanted, *taken}
    new: dict[str, str] = {}
    for gradient_type in sorted(set(wanted) & set(taken)):
        number = 1
        while (name := f"{gradient_type}-{number}") in used:
            number += 1
        used.add(name)
        new[gradient_type] = name
    return new


def _has_types(definition: FunctionDef, types: Mapping[str, str]) -> bool:
    return bool(types) and any(gradient_type_of(node) in types for node in definition.node_def)


def _renamed(
    definition: FunctionDef, names: Mapping[str, str], types: Mapping[str, str]
) -> FunctionDef:
    """Returns a copy of a function in which functions and custom gradients have other names."""
    renamed = renamed_function(definition, names)
    for node in renamed.node_def:
        gradient_type = gradient_type_of(node) or ""
        if gradient_type in types:
            node.attr[GRADIENT_ATTR].s = types[gradient_type].encode()
    return renamed


def _differs(library: FunctionLibrary, name: str, definition: FunctionDef) -> bool:
    found = library.functions.get(name)
    return found is not None and found is not definition and found != definition


def _output_names(concrete: ConcreteFunction) -> list[str]:
    structured = concrete.structured_outputs
    if isinstance(structured, Mapping):
        return [spec.name or f"output_{i}" for i, spec in enumerate(concrete.outputs)]
    return [f"output_{i}" for i in range(len(concrete.outputs))]


def _wrapper(
    name: str, concrete: ConcreteFunction, body: SignatureBody, inner: FunctionDef
) -> FunctionDef:
    """Returns a function that takes inputs and returns outputs in the order of their names."""
    wrapper = FunctionDef()
    wrapper.signature.name = name
    num_inputs = len(body.order)
    for position, index in enumerate(_inverse(body.order)):
        arg = wrapper.signature.input_arg.add()
        arg.CopyFrom(inner.signature.input_arg[index])
        wrapper.arg_attr[position].CopyFrom(inner.arg_attr[index])
    for index in range(num_inputs, len(inner.signature.input_arg)):
        wrapper.signature.input_arg.add().CopyFrom(inner.signature.input_arg[index])
        wrapper.arg_attr[index].CopyFrom(inner.arg_attr[index])
    stateful = inner.signature.is_stateful
    call = wrapper.node_def.add(name="StatefulPartitionedCall" if stateful else "PartitionedCall")
    call.op = call.name
    names = [arg.name for arg in inner.signature.input_arg]
    call.input.extend(names)
    call.attr["Tin"].CopyFrom(_types(arg.type for arg in inner.signature.input_arg))
    call.attr["Tout"].CopyFrom(_types(arg.type for arg in inner.signature.output_arg))
    call.attr["f"].CopyFrom(encode_attr(FunctionRef(inner.signature.name), "func"))
    shapes = [TensorShape(None)] * len(inner.signature.output_arg)
    for index, spec in zip(body.results, concrete.outputs, strict=True):
        shapes[index] = TensorShape(spec.shape)
    # TensorFlow infers no shapes of calls.
    call.attr["_output_shapes"].CopyFrom(encode_attr(shapes, "list(shape)"))
    wait = []
    if stateful:
        wrapper.signature.is_stateful = True
        wrapper.signature.control_output.append(call.name)
        wrapper.control_ret[call.name] = call.name
        wrapper.node_def.add(name="NoOp", op="NoOp", input=[f"^{call.name}"])
        wait = ["^NoOp"]
    for position, (index, spec) in enumerate(zip(body.results, concrete.outputs, strict=True)):
        output = f"output_{position}"
        dtype: DType = spec.dtype
        wrapper.signature.output_arg.add(name=output, type=dtype.number)
        identity = wrapper.node_def.add(
            name=f"Identity_{position}" if position else "Identity",
            op="Identity",
            input=[f"{call.name}:output:{index}", *wait],
        )
        identity.attr["T"].CopyFrom(encode_attr(dtype, "type"))
        wrapper.ret[output] = f"{identity.name}:output:0"
    return wrapper


def _inverse(order: Sequence[int]) -> list[int]:
    inverse = [0] * len(order)
    for index, position in enumerate(order):
        inverse[position] = index
    return inverse


def _types(numbers: Iterable[int]) -> AttrValue:
    return encode_attr([as_dtype(int(number)) for number in numbers], "list(type)")
