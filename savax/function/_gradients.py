"""Derivatives with respect to Variables and arguments, on top of ``jax.value_and_grad``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from savax.errors import InvalidArgumentError
from savax.function._function_spec import FunctionSpec, function_name
from savax.function._jax_names import is_under_trace
from savax.function._polymorphic import Function
from savax.function._value_frame import ValueFrame
from savax.trackable import Module, Variable, current_frame, frame_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# Who gives Variables their values, for messages.
_CALLER = "savax.value_and_grad differentiates"


class _Derivative:
    """What ``value_and_grad`` returns: call it as the function itself.

    Args:
      fn: the function.
      variables: Variables in a structure, or None.
      argnums: positions of arguments, or None.
      has_aux: whether the function returns a pair of the value and something else.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        variables: Any,
        argnums: int | Sequence[int] | None,
        has_aux: bool,
    ) -> None:
        self._fn = fn
        self._variables = variables
        self._argnums = argnums
        self._has_aux = has_aux
        self._compiled: dict[tuple[int, ...], Function] = {}
        self.__name__ = f"value_and_grad_{function_name(fn)}"
        self.__wrapped__ = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the function's result and the gradients that were asked for."""
        discovers = self._variables is None and self._argnums is None
        if discovers:
            variables = self._discover(args, kwargs)
            structure: Any = None
        else:
            variables, structure = _flatten_variables(self._variables)
        value, (of_arguments, of_variables) = self._compute(variables, args, kwargs)
        if discovers:
            named = zip(variables, of_variables, strict=True)
            return value, {variable.ref(): gradient for variable, gradient in named}
        if self._variables is None:
            return value, of_arguments
        gradients = jax.tree.unflatten(structure, of_variables)
        return value, gradients if self._argnums is None else (of_arguments, gradients)

    def _discover(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Variable]:
        """Returns the trainable floating-point Variables that a call uses."""
        if isinstance(self._fn, Function) and current_frame() is None and not is_under_trace():
            used: Iterable[Variable] = self._fn.get_concrete_function(*args, **kwargs).variables
        else:
            frame = ValueFrame({}, current_frame(), _CALLER)

            def call() -> Any:
                frame.open()
                with frame_scope(frame):
                    return jax.tree.map(jnp.asarray, self._fn(*args, **kwargs))

            jax.eval_shape(call)
            used = frame.used.values()
        found = [v for v in used if v.trainable and _is_differentiable(v)]
        if not found:
            raise InvalidArgumentError(
                f"{function_name(self._fn)} uses no trainable floating-point Variable. Name "
                "variables=..., or argnums=... for derivatives with respect to arguments."
            )
        return found

    def _compute(
        self, variables: Sequence[Variable], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        # A savax.function is compiled, and so is its derivative, unless a trace is running already.
        is_function = isinstance(self._fn, Function) and self._fn.python_function is not None
        if not is_function or current_frame() is not None or is_under_trace():
            return self._differentiate(variables, args, kwargs)
        key = tuple(id(variable) for variable in variables)
        compiled = self._compiled.get(key)
        if compiled is None:

            def derivative(*args: Any, **kwargs: Any) -> Any:
                return self._differentiate(variables, args, kwargs)

            spec = FunctionSpec(name=self.__name__, varargs="args", varkw="kwargs")
            compiled = self._compiled.setdefault(key, Function(derivative, spec))
        return compiled(*args, **kwargs)

    def _differentiate(
        self, variables: Sequence[Variable], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        outer = current_frame()
        positions = _positions(self._argnums, len(args), function_name(self._fn))
        written: list[Variable] = []

        def pure(values: Sequence[Any], picked: Sequence[Any]) -> Any:
            frame = ValueFrame(
                {id(v): value for v, value in zip(variables, values, strict=True)}, outer, _CALLER
            )
            given = list(args)
            for position, argument in zip(positions, picked, strict=True):
                given[position] = argument
            with frame_scope(frame):
                result = self._fn(*given, **kwargs)
            value, aux = result if self._has_aux else (result, None)
            written[:] = frame.written.values()
            value = value.value if isinstance(value, Variable) else value
            return jnp.asarray(value), (aux, frame.new_values())

        values = [variable.value for variable in variables]
        picked = [_array(args[position]) for position in positions]
        (value, (aux, new_values)), gradients = jax.value_and_grad(
            pure, argnums=(0, 1), has_aux=True
        )(values, picked)
        for variable, new_value in zip(written, new_values, strict=True):
            variable.assign(new_value)
        of_variables, of_arguments = gradients
        if isinstance(self._argnums, int):
            of_arguments = of_arguments[0]
        elif self._argnums is not None:
            of_arguments = tuple(of_arguments)
        return ((value, aux) if self._has_aux else value), (of_arguments, of_variables)


def value_and_grad(
    fn: Callable[..., Any],
    variables: Any = None,
    argnums: int | Sequence[int] | None = None,
    *,
    has_aux: bool = False,
) -> Callable[..., Any]:
    """Returns a function that computes a function's value and its derivatives.

    Assignments to Variables in the function take effect, once. If ``fn`` is a savax.function, the
    derivative is compiled as it is.

    Args:
      fn: returns a real scalar, or with ``has_aux`` a pair of that and anything else.
      variables: with respect to which Variables: one, or any structure of them, or a Module, which
        stands for the tuple of its trainable Variables.
      argnums: with respect to which positional arguments: a position or several.
      has_aux: whether ``fn`` returns a pair.

    Returns:
      A function of the same arguments that returns ``(value, gradients)``. The gradients have the
      structure of ``variables``, or follow ``argnums`` as in ``jax.value_and_grad``; if both are
      given they are a pair ``(argument gradients, variable gradients)``. If neither is, they are a
      dict with the ``ref()`` of each trainable floating-point Variable that ``fn`` uses.

    Raises:
      InvalidArgumentError: a Variable isn't of a floating-point or complex dtype, or there is
        nothing to differentiate.
      VariableWriteError: ``fn`` assigns a Variable inside a JAX transformation of its own.
    """
    return _Derivative(fn, variables, argnums, has_aux)


def grad(
    fn: Callable[..., Any],
    variables: Any = None,
    argnums: int | Sequence[int] | None = None,
    *,
    has_aux: bool = False,
) -> Callable[..., Any]:
    """Returns a function that computes a function's derivatives; see ``value_and_grad``.

    With ``has_aux`` the result is a pair of the gradients and what ``fn`` returns beside its value.
    """
    both = _Derivative(fn, variables, argnums, has_aux)

    def gradients(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradients


def _flatten_variables(variables: Any) -> tuple[list[Variable], Any]:
    if isinstance(variables, Module):
        variables = tuple(v for v in variables.trainable_variables if _is_differentiable(v))
    leaves, structure = jax.tree.flatten(variables, is_leaf=lambda leaf: isinstance(leaf, Variable))
    wrong = [leaf for leaf in leaves if not isinstance(leaf, Variable)]
    if wrong:
        raise InvalidArgumentError(f"variables holds {wrong[0]!r}, which is no savax.Variable.")
    integers = [leaf for leaf in leaves if not _is_differentiable(leaf)]
    if integers:
        names = ", ".join(f"{v.name!r} ({v.dtype.name})" for v in integers)
        raise InvalidArgumentError(
            f"There are no derivatives with respect to {names}: only floating-point and complex "
            "Variables have them."
        )
    return leaves, structure


def _is_differentiable(variable: Variable) -> bool:
    return variable.dtype.is_floating or variable.dtype.is_complex


def _positions(argnums: int | Sequence[int] | None, count: int, name: str) -> tuple[int, ...]:
    if argnums is None:
        return ()
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if any(not -count <= position < count for position in positions):
        raise InvalidArgumentError(
            f"argnums={argnums!r} doesn't fit a call of {name} with {count} positional arguments."
        )
    return tuple(position % count for position in positions)


def _array(argument: Any) -> Any:
    is_variable = isinstance(argument, Variable)
    return argument.value if is_variable else jax.tree.map(jnp.asarray, argument)
