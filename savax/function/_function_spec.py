"""FunctionSpec: a function's parameters, as a call binds to them and as a file records them."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

import jax

from savax.errors import SignatureMismatchError
from savax.function._composites import is_composite
from savax.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from savax.function.stablehlo._options import StableHLO

# The canonical form of a call: positional values with defaults filled in, then keyword-only ones.
Canonical = tuple[tuple[Any, ...], dict[str, Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class FunctionSpec:
    """The parameters of a Python function, without ``self``.

    Attributes:
      name: the Python name, for messages and for names in a graph.
      args: names of the positional parameters.
      defaults: default values of the last positional parameters.
      varargs: name of the ``*args`` parameter, or None.
      varkw: name of the ``**kwargs`` parameter, or None.
      kwonlyargs: names of the keyword-only parameters.
      kwonlydefaults: their default values, by name.
      input_signature: one (nested) spec a positional parameter, or None.
      jit_compile: TensorFlow's three-valued wish; None leaves it to the runtime.
      lowering: what it is saved as, as ``checked_lowering`` returns it.
      fallback: what its primitives without operations are saved as, as ``checked_fallback`` does.
      target: what the function is saved for, one of ``savax.portability.TARGETS``; None leaves it
        to the options of saving. Not recorded in files.
    """

    name: str
    args: tuple[str, ...] = ()
    defaults: tuple[Any, ...] = ()
    varargs: str | None = None
    varkw: str | None = None
    kwonlyargs: tuple[str, ...] = ()
    kwonlydefaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    input_signature: tuple[Any, ...] | None = None
    jit_compile: bool | None = None
    lowering: StableHLO | str | None = None
    fallback: StableHLO | str | None = None
    target: str | None = None

    @classmethod
    def from_callable(
        cls,
        function: Callable[..., Any],
        input_signature: Sequence[Any] | None = None,
        jit_compile: bool | None = None,
    ) -> FunctionSpec:
        """Returns the spec of a Python callable; a bound method's ``self`` doesn't count.

        Raises:
          SignatureMismatchError: the input signature doesn't fit the parameters.
        """
        kinds: dict[Any, list[inspect.Parameter]] = {}
        for parameter in inspect.signature(function).parameters.values():
            kinds.setdefault(parameter.kind, []).append(parameter)
        positional = kinds.get(inspect.Parameter.POSITIONAL_ONLY, []) + kinds.get(
            inspect.Parameter.POSITIONAL_OR_KEYWORD, []
        )
        kwonly = kinds.get(inspect.Parameter.KEYWORD_ONLY, [])
        empty = inspect.Parameter.empty
        spec = cls(
            name=function_name(function),
            args=tuple(p.name for p in positional),
            defaults=tuple(p.default for p in positional if p.default is not empty),
            varargs=next((p.name for p in kinds.get(inspect.Parameter.VAR_POSITIONAL, [])), None),
            varkw=next((p.name for p in kinds.get(inspect.Parameter.VAR_KEYWORD, [])), None),
            kwonlyargs=tuple(p.name for p in kwonly),
            kwonlydefaults={p.name: p.default for p in kwonly if p.default is not empty},
            input_signature=None if input_signature is None else _checked(input_signature),
            jit_compile=jit_compile,
        )
        spec._check_input_signature()
        return spec

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Canonical:
        """Returns the canonical form of a call.

        Raises:
          SignatureMismatchError: an argument is missing, unexpected or given twice.
        """
        if not kwargs and not self.kwonlyargs and len(args) == len(self.args):
            return args, {}
        positional, problems = self._bind_positional(args, kwargs)
        keyword = {name: value for name, value in kwargs.items() if name not in self.args}
        for name in self.kwonlyargs:
            if name not in keyword:
                if name in self.kwonlydefaults:
                    keyword[name] = self.kwonlydefaults[name]
                else:
                    problems.append(f"the keyword argument {name!r} is missing")
        if self.varkw is None:
            problems += [
                f"there is no parameter {name!r}" for name in keyword if name not in self.kwonlyargs
            ]
        if problems:
            raise SignatureMismatchError(
                f"{self.name}{self.describe()} can't be called so: {'; '.join(problems)}."
            )
        return tuple(positional), keyword

    def _bind_positional(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], list[str]]:
        problems: list[str] = []
        positional = list(args[: len(self.args)])
        if len(args) > len(self.args) and self.varargs is None:
            problems.append(f"{len(args)} positional arguments for {len(self.args)} parameters")
        first_default = len(self.args) - len(self.defaults)
        for i, name in enumerate(self.args):
            if i < len(positional):
                if name in kwargs:
                    problems.append(f"{name!r} is given twice")
            elif name in kwargs:
                positional.append(kwargs[name])
            elif i >= first_default:
                positional.append(self.defaults[i - first_default])
            else:
                problems.append(f"the argument {name!r} is missing")
                positional.append(None)
        return positional + list(args[len(self.args) :]), problems

    def signature_call(self) -> Canonical:
        """Returns the canonical call that the input signature describes."""
        assert self.input_signature is not None
        return self.bind(self.input_signature, {})

    def parameter_of(self, index: int) -> str:
        """Returns the name of a canonical positional argument, ``args_0`` for ``*args`` members."""
        if index < len(self.args):
            return self.args[index]
        return f"{self.varargs or 'args'}_{index - len(self.args)}"

    def describe(self) -> str:
        """Returns the parameter list as Python writes it."""
        first_default = len(self.args) - len(self.defaults)
        parts = [
            name if i < first_default else f"{name}={_short(self.defaults[i - first_default])}"
            for i, name in enumerate(self.args)
        ]
        if self.varargs is not None:
            parts.append(f"*{self.varargs}")
        elif self.kwonlyargs:
            parts.append("*")
        parts += [
            f"{name}={_short(self.kwonlydefaults[name])}" if name in self.kwonlydefaults else name
            for name in self.kwonlyargs
        ]
        if self.varkw is not None:
            parts.append(f"**{self.varkw}")
        return f"({', '.join(parts)})"

    def _check_input_signature(self) -> None:
        if self.input_signature is None:
            return
        given = len(self.input_signature)
        if given > len(self.args) and self.varargs is None:
            raise SignatureMismatchError(
                f"The input_signature of {self.name}{self.describe()} has {given} specs for "
                f"{len(self.args)} positional parameters."
            )
        missing = self.args[given : len(self.args) - len(self.defaults)]
        missing += tuple(name for name in self.kwonlyargs if name not in self.kwonlydefaults)
        if missing:
            raise SignatureMismatchError(
                f"The input_signature of {self.name}{self.describe()} has no spec for "
                f"{', '.join(map(repr, missing))}, which has no default either."
            )


def function_name(function: Callable[..., Any]) -> str:
    """Returns the Python name of a callable; that of its class for a callable object."""
    name = getattr(function, "__name__", None)
    if name is None and hasattr(function, "func"):  # functools.partial
        return function_name(function.func)
    return name or type(function).__name__


def _checked(input_signature: Any) -> tuple[Any, ...]:
    if not isinstance(input_signature, list | tuple):
        raise SignatureMismatchError(
            "An input_signature is a list or tuple with one TensorSpec a parameter, "
            f"got {_short(input_signature)}."
        )
    specs = jax.tree.map(
        lambda leaf: leaf if is_composite(leaf) else as_spec(leaf),
        tuple(input_signature),
        # A part of a composite may be None.
        is_leaf=lambda leaf: leaf is None or is_composite(leaf),
    )
    wrong = [leaf for leaf in jax.tree.leaves(specs) if not isinstance(leaf, TensorSpec)]
    if wrong:
        raise SignatureMismatchError(
            f"An input_signature holds TensorSpecs, got {', '.join(map(_short, wrong))}."
        )
    checked: tuple[Any, ...] = specs
    return checked


def as_spec(value: Any) -> Any:
    """Returns JAX's ``ShapeDtypeStruct`` as a TensorSpec, anything else as it is."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return TensorSpec(value.shape, value.dtype)
    return value if value is not None else _NO_SPEC


class _NoSpec:
    def __repr__(self) -> str:
        return "None"


_NO_SPEC = _NoSpec()  # a None among the specs: a mistake, which must not vanish as an empty tree


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
