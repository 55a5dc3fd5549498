"""What callers of a SavedModel may call: the user's ``signatures`` as functions of named tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax

from savax.errors import InvalidArgumentError
from savax.function import (
    Body,
    ConcreteFunction,
    Function,
    FunctionSpec,
    unique_names,
)
from savax.saved_model._constants import (
    DEFAULT_SERVING_SIGNATURE_DEF_KEY,
    RESERVED_SIGNATURE_KEYS,
)
from savax.trackable import SaveType, Trackable
from savax.types import TensorSpec

DEFAULT_SAVE_SIGNATURE = "_default_save_signature"
SIGNATURES_ATTRIBUTE = "signatures"


class SignatureMap(Trackable, Mapping[str, ConcreteFunction]):
    """The signatures of a model by key; it doesn't change."""

    def __init__(self, signatures: Mapping[str, ConcreteFunction]) -> None:
        self._signatures = dict(signatures)

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
    return SignatureMap(
        {key: signature_function(key, _concrete(key, value)) for key, value in signatures.items()}
    )


def _default_signature(root: Trackable) -> Any:
    functions = {
        name: child
        for name, child in root._trackable_children("savedmodel").items()
        if isinstance(child, Function | ConcreteFunction)
    }
    preferred = functions.get(DEFAULT_SAVE_SIGNATURE)
    candidates = [preferred] if preferred is not None else list(functions.values())
    valid = []
    for function in candidates:
        if isinstance(function, Function) and function.input_signature is None:
            continue
        try:
            concrete = _concrete(DEFAULT_SERVING_SIGNATURE_DEF_KEY, function)
            _named_outputs("", concrete)
        except InvalidArgumentError:
            continue
        valid.append(concrete)
    return valid[0] if len(valid) == 1 else {}


def _concrete(key: str, value: Any) -> ConcreteFunction:
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
        f"The signature {key!r} is a savax.function with an input_signature or a concrete function, "
        f"got {value!r}."
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
    names = unique_names(concrete.argument_names)
    ordered = sorted(names)
    specs = {
        name: TensorSpec(spec.dims, spec.dtype, name)
        for name, spec in zip(names, concrete.inputs, strict=True)
    }
    keys = sorted(outputs)
    order = [list(outputs).index(output) for output in keys]
    body: Body = SignatureBody(concrete, [ordered.index(name) for name in names], order)
    return ConcreteFunction(
        body,
        FunctionSpec(name=f"signature_wrapper_{concrete.name}", kwonlyargs=tuple(ordered)),
        ((), {name: specs[name] for name in ordered}),
        {
            output: TensorSpec(outputs[output].dims, outputs[output].dtype, output)
            for output in keys
        },
        ordered,
    )


def _is_signature(concrete: ConcreteFunction, outputs: Mapping[str, TensorSpec]) -> bool:
    structured = concrete.structured_outputs
    args, kwargs = concrete.structured_input_signature
    plain = all(isinstance(arg, TensorSpec) for arg in (*args, *kwargs.values()))
    return (
        isinstance(structured, dict)
        and list(structured) == sorted(outputs)
        and plain
        and len(args) + len(kwargs) == len(concrete.argument_names)
        and list(concrete.argument_names[len(args) :]) == list(kwargs)
    )


def _named_outputs(key: str, concrete: ConcreteFunction) -> dict[str, TensorSpec]:
    """Returns the outputs by key, in the order of the flat results."""
    structured = concrete.structured_outputs
    if isinstance(structured, TensorSpec):
        return {"output_0": structured}
    if hasattr(structured, "_asdict"):
        named = structured._asdict()
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
