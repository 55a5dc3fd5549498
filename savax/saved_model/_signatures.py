"""What callers of a SavedModel may call: ``signatures`` as functions of named tensors."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from savax.errors import InvalidArgumentError
from savax.function import (
    Backend,
    Body,
    ConcreteFunction,
    Function,
    FunctionSpec,
    Segment,
    freeze,
    unique_names,
)
from savax.saved_model._constants import (
    DEFAULT_SERVING_SIGNATURE_DEF_KEY,
    RESERVED_SIGNATURE_KEYS,
)
from savax.trackable import SaveType, Trackable
from savax.types import TensorSpec

if TYPE_CHECKING:
    from savax.protos import CompiledModule

DEFAULT_SAVE_SIGNATURE = "_default_save_signature"
SIGNATURES_ATTRIBUTE = "signatures"

_NO_PARAMETER = re.compile(r"[^A-Za-z0-9]")


class SignatureMap(Trackable, Mapping[str, ConcreteFunction]):
    """The signatures of a model by key; it doesn't change.

    Args:
      signatures: functions of tensors by name.
      defaults: by key, the values of inputs that callers outside Python may leave out.

    Attributes:
      defaults: as given.
    """

    def __init__(
        self,
        signatures: Mapping[str, ConcreteFunction],
        defaults: Mapping[str, Mapping[str, np.ndarray[Any, Any]]] | None = None,
    ) -> None:
        self._signatures = dict(signatures)
        self.defaults = {key: values for key, values in (defaults or {}).items() if values}

    def __getitem__(self, key: str) -> ConcreteFunction:
        return self._signatures[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._signatures)

    def __len__(self) -> int:
        return len(self._signatures)

    def __repr__(self) -> str:
        return f"SignatureMap({self._signatures})"

    def _trackable_children(
        self, save_type: SaveType = "checkpoint", **_: Any
    ) -> Mapping[str, Trackable]:
        return self._signatures if save_type == "savedmodel" else {}


class SignatureBody:
    """Runs a concrete function as a signature: tensors by name in, tensors by name out.

    Attributes:
      inner: the concrete function.
      order: for each of its tensor arguments the position among the signature's inputs.
      results: for each of the signature's outputs the position among its results.
    """

    def __init__(self, inner: ConcreteFunction, order: list[int], results: list[int]) -> None:
        self.inner = inner
        self.order = order
        self.results = results

    @property
    def captures(self) -> tuple[Trackable, ...]:
        """The captures of the concrete function."""
        return self.inner.captures

    def run(self, flat_arguments: Any) -> list[Any]:
        """Computes the signature's outputs in the order of their keys."""
        outputs = self.inner.body.run([flat_arguments[i] for i in self.order])
        return [outputs[i] for i in self.results]

    def frozen(self) -> SignatureBody:
        """Returns the body of a signature of the frozen concrete function."""
        return SignatureBody(freeze(self.inner), self.order, self.results)

    def segments(self) -> list[Segment]:
        """Returns the parts in which the concrete function runs."""
        return self.inner.segments()

    def compiled_modules(self, name: str, backend: Backend) -> tuple[CompiledModule, ...]:
        """Returns the compiled modules of the concrete function."""
        return self.inner.compiled_modules()


def canonical_signatures(root: Trackable, signatures: Any) -> SignatureMap:
    """Returns the signatures to save.

    Args:
      root: the object to save.
      signatures: what the user gave: None to look for a default among the root's functions, a
        Function with an input signature or a ConcreteFunction, or a mapping of keys to those.

    Raises:
      InvalidArgumentError: something else, a reserved key, or a function whose results have no
        names.
    """
    if signatures is None:
        signatures = _default_signature(root)
    if not isinstance(signatures, Mapping):
        signatures = {DEFAULT_SERVING_SIGNATURE_DEF_KEY: signatures}
    found = {}
    defaults = {}
    for key, value in signatures.items():
        concrete = _concrete(key, value)
        found[key] = signature_function(key, concrete)
        if isinstance(value, Function):
            defaults[key] = _default_inputs(value.function_spec, concrete)
    return SignatureMap(found, defaults)


def _default_signature(root: Trackable) -> Any:
    """Returns the root's only function that can be a signature, or no signatures at all."""
    functions = {
        name: child
        for name, child in root._trackable_children("savedmodel").items()
        if isinstance(child, Function | ConcreteFunction)
    }
    if DEFAULT_SAVE_SIGNATURE in functions:
        return functions[DEFAULT_SAVE_SIGNATURE]
    valid = [function for function in functions.values() if _can_be_signature(function)]
    return valid[0] if len(valid) == 1 else {}


def _can_be_signature(function: Function | ConcreteFunction) -> bool:
    if isinstance(function, Function) and function.input_signature is None:
        return False
    concrete = _concrete(DEFAULT_SERVING_SIGNATURE_DEF_KEY, function)
    try:
        _named_outputs("", concrete)
    except InvalidArgumentError:
        return False
    return True


def _default_inputs(
    spec: FunctionSpec, concrete: ConcreteFunction
) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the arrays among a function's default values, by the inputs' names."""
    args, kwargs = concrete.structured_input_signature
    first = len(spec.args) - len(spec.defaults)
    found: dict[str, np.ndarray[Any, Any]] = {}
    position = 0
    for index, (parameter, value) in enumerate((*enumerate(args), *sorted(kwargs.items()))):
        default = None
        if index >= len(args):
            default = spec.kwonlydefaults.get(str(parameter))
        elif first <= index < len(spec.args):
            default = spec.defaults[index - first]
        if isinstance(value, TensorSpec) and isinstance(
            default, jax.Array | np.ndarray | np.generic
        ):
            name = concrete.argument_names[position]
            found[name] = np.asarray(default, value.dtype.numpy_dtype)
        position += sum(isinstance(leaf, TensorSpec) for leaf in jax.tree.leaves(value))
    return found


def _concrete(key: str, value: Any) -> ConcreteFunction:
    if not isinstance(key, str):
        raise InvalidArgumentError(f"The keys of signatures are strings, got {key!r}.")
    if key in RESERVED_SIGNATURE_KEYS:
        raise InvalidArgumentError(f"The signature key {key!r} is reserved by the format.")
    if isinstance(value, ConcreteFunction):
        return value
    if isinstance(value, Function):
        if value.input_signature is not None:
            return value.get_concrete_function()
        if value.python_function is None and len(value.concrete_functions) == 1:
            return value.concrete_functions[0]
        raise InvalidArgumentError(
            f"The signature {key!r} is the function {value.name!r}, which has no input_signature. "
            f"Give it one, or pass `{value.name}.get_concrete_function(savax.TensorSpec(...))`."
        )
    raise InvalidArgumentError(
        f"The signature {key!r} is a savax.function with an input_signature or a concrete "
        f"function, got {value!r}."
    )


def signature_function(key: str, concrete: ConcreteFunction) -> ConcreteFunction:
    """Returns a concrete function that takes and returns tensors by name only.

    A function that is one already is returned as it is; it then serves both as what the object
    graph holds and as the signature.

    Raises:
      InvalidArgumentError: a result is no tensor, or an output's key is no string.
    """
    outputs = _named_outputs(key, concrete)
    if _is_signature(concrete, outputs):
        return concrete
    names = concrete.argument_names
    parameters = _parameter_names(names)
    order = sorted(range(len(names)), key=parameters.__getitem__)
    positions = {index: position for position, index in enumerate(order)}
    specs = {
        parameters[i]: TensorSpec(concrete.inputs[i].dims, concrete.inputs[i].dtype, names[i])
        for i in order
    }
    keys = sorted(outputs)
    flat = {output: position for position, output in enumerate(outputs)}
    body: Body = SignatureBody(
        concrete, [positions[i] for i in range(len(names))], [flat[output] for output in keys]
    )
    return ConcreteFunction(
        body,
        FunctionSpec(name=f"signature_wrapper_{concrete.name}", kwonlyargs=tuple(specs)),
        ((), specs),
        {
            output: TensorSpec(outputs[output].dims, outputs[output].dtype, output)
            for output in keys
        },
        [names[i] for i in order],
    )


def _is_signature(concrete: ConcreteFunction, outputs: Mapping[str, TensorSpec]) -> bool:
    """Whether a function takes tensors by keyword only and returns a dict, both in their order."""
    args, kwargs = concrete.structured_input_signature
    return (
        isinstance(concrete.structured_outputs, dict)
        and list(concrete.structured_outputs) == sorted(outputs)
        and not args
        and all(isinstance(value, TensorSpec) for value in kwargs.values())
        and _parameter_names(concrete.argument_names) == sorted(kwargs)
    )


def _parameter_names(names: Iterable[str]) -> list[str]:
    """Returns the names of inputs as parameters of Python functions, as TensorFlow makes them."""
    parameters = []
    for name in names:
        legal = _NO_PARAMETER.sub("_", name)
        if not legal[:1].isalpha():
            legal = f"arg_{legal}"
        parameters.append(f"{legal}_" if keyword.iskeyword(legal) else legal)
    return unique_names(parameters)


def _named_outputs(key: str, concrete: ConcreteFunction) -> dict[str, TensorSpec]:
    """Returns the outputs by key, in the order of the flat results."""
    structured = concrete.structured_outputs
    if isinstance(structured, TensorSpec):
        return {"output_0": structured}
    if hasattr(structured, "_asdict"):
        named: dict[str, Any] = structured._asdict()
    elif isinstance(structured, list | tuple):
        named = {f"output_{i}": value for i, value in enumerate(structured)}
    elif isinstance(structured, Mapping):
        named = {name: structured[name] for name in _sorted_keys(key, structured)}
    else:
        named = {"output_0": structured}
    wrong = {name: value for name, value in named.items() if not isinstance(value, TensorSpec)}
    if wrong:
        raise InvalidArgumentError(
            f"The signature {key!r} is the function {concrete.name!r}, which returns "
            f"{jax.tree.map(lambda spec: spec.dtype.name, structured)}. A signature returns one "
            "tensor, a flat list of tensors, or a dict of tensors by name; "
            f"{', '.join(map(repr, wrong))} is none."
        )
    return named


def _sorted_keys(key: str, outputs: Mapping[Any, Any]) -> list[str]:
    if wrong := [name for name in outputs if not isinstance(name, str)]:
        raise InvalidArgumentError(
            f"The signature {key!r} returns a dict with the keys {wrong}; the names of outputs "
            "are strings."
        )
    return sorted(outputs)
