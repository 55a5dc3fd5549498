"""A function and its Variables as JAX likes them: a pure function and dicts of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from savax.errors import InvalidArgumentError, VariableWriteError
from savax.function._arrays import device_array, jax_dtype
from savax.function._concrete import ConcreteFunction
from savax.function._function_spec import function_name
from savax.function._polymorphic import Function
from savax.function._reachable import reachable_variables
from savax.function._value_frame import ValueFrame
from savax.trackable import (
    Trackable,
    Variable,
    current_frame,
    frame_scope,
    freeze_object_graph,
    host_array,
)
from savax.types import as_dtype, shapes_compatible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class PureFunction:
    """A function whose Variables are arguments; ``savax.as_jax`` makes it.

    ``params`` holds the trainable floating-point and complex Variables, ``state`` the other
    numeric ones: statistics, counters, seeds. Both are dicts from names to arrays, so that they
    go through ``jax.jit``, ``jax.grad``, ``jax.vmap`` and optax.

    Args:
      fn: the function.
      variables: its Variables by name.
    """

    def __init__(self, fn: Callable[..., Any], variables: Mapping[str, Variable]) -> None:
        self._fn = fn
        trainable = {name: v for name, v in variables.items() if _is_parameter(v)}
        self._params = trainable
        self._state = {name: v for name, v in variables.items() if name not in trainable}
        self.__name__ = function_name(fn)
        self.__doc__ = getattr(fn, "__doc__", None)
        self.__wrapped__ = fn

    @property
    def params(self) -> dict[str, Any]:
        """The present values of the trainable Variables."""
        return {name: variable.value for name, variable in self._params.items()}

    @property
    def state(self) -> dict[str, Any]:
        """The present values of the other Variables."""
        return {name: variable.value for name, variable in self._state.items()}

    def __call__(self, params: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Computes the function with other parameters; all other Variables are as they are.

        Args:
          params: an array for each name in ``params``, of the same shape and dtype.
          args: the function's arguments.
          kwargs: the function's keyword arguments.

        Raises:
          InvalidArgumentError: the parameters aren't those of the function.
          VariableWriteError: the function assigns Variables; ``with_updates`` returns them.
        """
        result, frame = self._run(self._given(params, self._params, "params"), args, kwargs)
        if frame.written:
            names = ", ".join(repr(variable.name) for variable in frame.written.values())
            raise VariableWriteError(
                f"{self.__name__} assigns the Variables {names}, which a pure function can't. "
                "Call with_updates(params, state, ...), which returns their new values."
            )
        return result

    def with_updates(
        self, params: Mapping[str, Any], state: Mapping[str, Any], *args: Any, **kwargs: Any
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Computes a function that assigns Variables.

        Args:
          params: an array for each name in ``params``.
          state: an array for each name in ``state``.
          args: the function's arguments.
          kwargs: the function's keyword arguments.

        Returns:
          The result, and ``params`` and ``state`` with the values that were assigned.

        Raises:
          InvalidArgumentError: the parameters or the state aren't those of the function.
          VariableWriteError: the function assigns a Variable that is in neither.
        """
        values = self._given(params, self._params, "params")
        values |= self._given(state, self._state, "state")
        result, frame = self._run(values, args, kwargs)
        known = {id(v): name for name, v in (self._params | self._state).items()}
        unknown = [v for key, v in frame.written.items() if key not in known]
        if unknown:
            names = ", ".join(repr(variable.name) for variable in unknown)
            raise VariableWriteError(
                f"{self.__name__} assigns the Variables {names}, which are neither in params nor "
                "in state; name a root=... from which they can be reached."
            )
        new = dict(zip(map(known.__getitem__, frame.written), frame.new_values(), strict=True))
        return result, _updated(params, new), _updated(state, new)

    def assign(self, params: Mapping[str, Any], state: Mapping[str, Any] | None = None) -> None:
        """Writes parameters, and state if it is given, back into the Variables.

        Raises:
          InvalidArgumentError: they aren't those of the function; no Variable is changed then.
        """
        values = self._given(params, self._params, "params")
        if state is not None:
            values |= self._given(state, self._state, "state")
        variables = (self._params | self._state).values()
        for variable in variables:
            if id(variable) in values:
                variable.assign(values[id(variable)])

    def _run(
        self, values: Mapping[int, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Any, ValueFrame]:
        frame = ValueFrame(values, current_frame(), "savax.as_jax runs")
        with frame_scope(frame):
            return self._fn(*args, **kwargs), frame

    def _given(
        self, given: Mapping[str, Any], variables: Mapping[str, Variable], what: str
    ) -> dict[int, Any]:
        """Returns the values of Variables by id.

        Raises:
          InvalidArgumentError: names, shapes or dtypes are wrong.
        """
        problems = [f"{name!r} is missing" for name in variables if name not in given]
        problems += [f"there is no {name!r}" for name in given if name not in variables]
        values = {}
        for name, variable in variables.items():
            if name in given:
                value = _as_array(given[name])
                problems += _value_problem(name, value, variable)
                values[id(variable)] = value
        if problems:
            raise InvalidArgumentError(
                f"The {what} of {self.__name__} don't fit: {'; '.join(problems)}."
            )
        return values

    def __repr__(self) -> str:
        return (
            f"<savax.PureFunction {self.__name__} of {len(self._params)} params "
            f"and {len(self._state)} state arrays>"
        )


def as_jax(
    fn: Callable[..., Any], root: Trackable | None = None
) -> tuple[PureFunction, dict[str, Any]]:
    """Returns a function as a pure one, and its parameters: the form of JAX's training loops.

        predict, params = savax.as_jax(model.predict, model)
        gradients = jax.grad(lambda params, x, y: loss(predict(params, x), y))(params, x, y)
        ...
        predict.assign(params)

    Args:
      fn: a function or signature of a loaded model, a savax.function, or any function that reads
        Variables.
      root: the object from which the Variables can be reached, whose paths then name the
        parameters (``encoder.layers.0.kernel``). Without it the Variables are those that ``fn``
        uses, under their own names; those of a method are found from its object.

    Returns:
      The function, whose first argument is the dict of parameters, and that dict.

    Raises:
      InvalidArgumentError: ``fn`` can't be called.
    """
    if not callable(fn):
        raise InvalidArgumentError(f"savax.as_jax takes a function, got {fn!r}.")
    root = root if root is not None else _owner(fn)
    variables = _unique(_used_variables(fn)) if root is None else _by_path(root)
    pure = PureFunction(fn, {name: v for name, v in variables.items() if _is_numeric(v)})
    return pure, pure.params


def _owner(fn: Any) -> Trackable | None:
    method = fn.python_function if isinstance(fn, Function) else fn
    owner = getattr(method, "__self__", None)
    return owner if isinstance(owner, Trackable) else None


def _by_path(root: Trackable) -> dict[str, Variable]:
    graph = freeze_object_graph(root, with_slots=False)
    return {
        ".".join(graph.local_names(node.id)): node.obj
        for node in graph.nodes
        if isinstance(node.obj, Variable)
    }


def _used_variables(fn: Any) -> Iterable[Variable]:
    if isinstance(fn, Function) and fn.python_function is None:
        return [v for concrete in fn.concrete_functions for v in concrete.variables]
    if isinstance(fn, Function):
        assert fn.python_function is not None
        return reachable_variables(fn.python_function)
    if isinstance(fn, ConcreteFunction) or hasattr(fn, "variables"):
        found: Iterable[Variable] = fn.variables
        return found
    return reachable_variables(fn)


def _unique(variables: Iterable[Variable]) -> dict[str, Variable]:
    """Returns Variables by their names, the second ``w`` being ``w_1``."""
    named: dict[str, Variable] = {}
    for variable in {id(v): v for v in variables}.values():
        name, count = variable.name, 0
        while name in named:
            count += 1
            name = f"{variable.name}_{count}"
        named[name] = variable
    return named


def _is_numeric(variable: Variable) -> bool:
    return variable.dtype.name not in ("string", "resource", "variant")


def _is_parameter(variable: Variable) -> bool:
    return variable.trainable and (variable.dtype.is_floating or variable.dtype.is_complex)


def _as_array(value: Any) -> Any:
    if isinstance(value, Variable):
        value = value.value
    return value if isinstance(value, jax.Array) else device_array(host_array(value))


def _value_problem(name: str, value: Any, variable: Variable) -> list[str]:
    dtype = as_dtype(value.dtype)
    if dtype is not variable.dtype and value.dtype != jax_dtype(variable.dtype):
        return [f"{name!r} is {dtype.name}, not {variable.dtype.name}"]
    shape = tuple(value.shape)
    if not shapes_compatible(shape, variable.shape):
        return [f"{name!r} has the shape {shape}, not {variable.shape}"]
    return []


def _updated(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {name: new.get(name, value) for name, value in old.items()}
