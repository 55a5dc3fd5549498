"""Functions for inference: their Variables are constants of the compiled programs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

from savax.errors import InvalidArgumentError
from savax.function._call_memo import CallMemo
from savax.function._concrete import Body, ConcreteFunction
from savax.function._polymorphic import Function

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.evaluation._segments import Segment
    from savax.function.stablehlo._options import Backend
    from savax.protos import CompiledModule

_F = TypeVar("_F", Function, ConcreteFunction)


class FrozenBody:
    """A body that captures nothing any more.

    Args:
      body: runs with constants in the place of captures.
    """

    captures = ()

    def __init__(self, body: Body) -> None:
        self._body = body

    def run(self, flat_arguments: Sequence[Any]) -> Sequence[Any]:
        """Computes the flat results."""
        return self._body.run(flat_arguments)

    def frozen(self) -> FrozenBody:
        """Returns the body itself."""
        return self

    def segments(self) -> list[Segment]:
        """Returns the parts in which a call runs."""
        return self._body.segments()

    def compiled_modules(self, name: str, backend: Backend) -> tuple[CompiledModule, ...]:
        """Returns the compiled modules of the body."""
        return self._body.compiled_modules(name, backend)


def freeze(fn: _F) -> _F:
    """Returns a function with the present values of its Variables as constants, for inference.

    A call hands over its arguments alone, which saves most of the time that a call of a small model
    with many Variables takes, and the compiler may compute ahead with the values. Each compiled
    program has a copy of them. Later assignments to the Variables don't change the function, which
    can't be saved; ``savax freeze`` writes a model with constants.

    Args:
      fn: a function, concrete function or signature. Of a function, the signatures that exist by
        now are frozen, and the one of its input signature.

    Raises:
      InvalidArgumentError: ``fn`` is none of these, or has no signature.
      VariableWriteError: the function assigns Variables.
      UnsupportedOpError: ops of the function can't be evaluated.
    """
    if isinstance(fn, ConcreteFunction):
        frozen = copy.copy(fn)
        frozen.body = FrozenBody(fn.body.frozen())
        frozen._memo = CallMemo()
        return frozen
    if not isinstance(fn, Function):
        raise InvalidArgumentError(
            f"savax.freeze takes a savax.function or a signature, got {fn!r}."
        )
    if fn.input_signature is not None and fn.python_function is not None:
        fn.get_concrete_function()
    if not fn.concrete_functions:
        raise InvalidArgumentError(
            f"{fn.name} has no signature to freeze; call it, or give it an input_signature."
        )
    concretes = [freeze(concrete) for concrete in fn.concrete_functions]
    return Function(None, fn.function_spec, concrete_functions=concretes)
