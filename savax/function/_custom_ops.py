"""Ops of users' own: what savax computes for ops that TensorFlow gets from a plugin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import savax.function.ops  # noqa: F401 - fills the table first
from savax.errors import InvalidArgumentError
from savax.function._op_declarations import declared_op
from savax.function._op_schemas import add_op, is_tensorflow_op, op_schema
from savax.function.ops._registry import EVALUATIONS, Evaluation, rule_keywords

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from savax.protos import OpDef

_F = TypeVar("_F", bound="Callable[..., Any]")
_NAME = re.compile(r"[A-Z][A-Za-z0-9_]*(?:>[A-Z][A-Za-z0-9_]*)*")


def register_op(
    name: str,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    attrs: Sequence[str] = (),
    static: Collection[str] = (),
    on_host: bool = False,
    is_stateful: bool = False,
) -> Callable[[_F], _F]:
    """Registers the decorated function as what an op of loaded models computes.

        @savax.register_op(
            "Acme>Scale", inputs=["x: T"], outputs=["y: T"], attrs=["T: type", "by: float = 2.0"]
        )
        def scale(x, *, by):
            return x * by

    The function takes the op's inputs in order, a list of tensors as one tuple, and those
    attributes that it names as keyword-only parameters: numbers, strings, DTypes, shapes as tuples
    with None. It returns an array, or a tuple of one value for each output. It is written in JAX,
    and so is compiled and differentiated with the model; ``jax.custom_vjp`` functions are welcome.

    The registration holds for the process, and for models that are loaded later; a further one
    of the same op replaces it.

    Args:
      name: the op's name, with its package where it has one: ``Acme>Scale``.
      inputs: declarations in TensorFlow's notation: ``"x: T"``, ``"xs: N * float"``. An op that
        TensorFlow has, and savax can't compute, is declared already.
      outputs: declarations of the outputs.
      attrs: declarations of the attributes: ``"T: {float, double}"``, ``"n: int >= 1 = 3"``.
      static: names of the inputs that the function needs as numpy arrays, because shapes depend
        on them.
      on_host: whether it takes and returns numpy arrays, outside of compiled code. Ops of strings,
        which are object arrays of bytes, always do.
      is_stateful: whether it has effects, so that it runs even if nothing uses its results.

    Returns:
      A decorator, which returns the function itself.

    Raises:
      InvalidArgumentError: a declaration can't be read, the function takes attributes that aren't
        declared, or savax has the op.
    """
    definition = _declaration(name, inputs, outputs, attrs, is_stateful=is_stateful)

    def register(rule: _F) -> _F:
        _add(definition, rule, frozenset(static), on_host=on_host)
        return rule

    return register


def _declaration(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attrs: Sequence[str],
    *,
    is_stateful: bool,
) -> OpDef:
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"{name!r} can't be the name of an op: it starts with a capital letter and has "
            "letters, digits and underscores, after packages as in 'Acme>Scale'."
        )
    if not is_tensorflow_op(name):
        return declared_op(name, inputs, outputs, attrs, is_stateful=is_stateful)
    if inputs or outputs or attrs:
        raise InvalidArgumentError(f"TensorFlow declares the op {name!r}; leave that to it.")
    if name in EVALUATIONS and not EVALUATIONS[name].is_custom:
        raise InvalidArgumentError(f"savax computes the op {name!r} already.")
    return op_schema(name).op_def


def _add(
    definition: OpDef, rule: Callable[..., Any], static: frozenset[str], *, on_host: bool
) -> None:
    keywords = rule_keywords(rule)
    declared = {attr.name for attr in definition.attr}
    unknown = sorted(keywords - declared)
    unknown += sorted(static - {arg.name for arg in definition.input_arg})
    if unknown:
        raise InvalidArgumentError(
            f"The op {definition.name!r} doesn't declare {', '.join(map(repr, unknown))}."
        )
    if not is_tensorflow_op(definition.name):
        add_op(definition)
    EVALUATIONS[definition.name] = Evaluation(
        definition.name,
        rule,
        static,
        attrs=keywords,
        ignores=frozenset(declared - keywords),
        on_host=on_host,
        is_custom=True,
    )
