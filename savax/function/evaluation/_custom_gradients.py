"""Nodes whose gradient is a function of the model, as ``jax.custom_jvp``.

A node computes what it computes. Behind it, its results pass through a function of its inputs, its
results and what the gradient needs, which returns the results and has the model's gradient: the
derivative of the node itself is cut off. See ``_linear_maps`` for how one gradient function serves
reverse and forward mode.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import (
    CorruptSavedModelError,
    ShapeMismatchError,
    TracingError,
    UnsupportedError,
)
from savax.function.evaluation._linear_maps import push_tangents
from savax.function.evaluation._plan_values import (
    NeedsValue,
    PartialVector,
    ResourceHandle,
    Value,
    array_value,
)
from savax.function.evaluation._registered_gradients import (
    CapturedTensor,
    GradientFunction,
    NodeGradient,
    capture_name,
)
from savax.protos import TypeSpecValue
from savax.trackable import Asset, Constant, Variable, host_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from savax.function.evaluation._linear_maps import Pull
    from savax.function.evaluation._plan import Plan, PlanLibrary
    from savax.function.evaluation._plan_nodes import PlanNode

_SLICES = "IndexedSlicesSpec"

# Runs a plan on arguments; reads Variables from values by handle, and shared names from handles.
RunPlan: TypeAlias = (
    "Callable[[Plan, Sequence[Value], Mapping[ResourceHandle, Value]], list[Value]]"
)


class MissingGradientWarning(UserWarning):
    """A node is differentiated that names a custom gradient which the model doesn't hold."""


def with_custom_gradient(
    plan: Plan,
    node: PlanNode,
    inputs: Sequence[Value],
    results: Sequence[Value],
    captured: Sequence[Value],
    states: Mapping[str, tuple[ResourceHandle, Value]],
    library: PlanLibrary,
    run: RunPlan,
) -> list[Value]:
    """Returns a node's results with the gradient that the model registers for it.

    Args:
      plan: the function that the node is in.
      node: the node; it has a gradient.
      inputs: values of its inputs, flat.
      results: what it computed.
      captured: for each capture of the gradient function its value, None for those that are no
        tensors of the plan.
      states: handles and values of the Variables that the gradient reads, by name.
      library: the model's functions.
      run: runs a plan.
    """
    gradient = node.gradient
    assert gradient is not None
    moving = [i for i, value in enumerate(inputs) if _is_smooth(value)]
    wrapped = [i for i, value in enumerate(results) if _is_smooth(value)]
    if not moving or not wrapped:
        return list(results)
    where = f"the {node.op} node {node.name!r} of function {plan.name!r}"
    if gradient.registered is None:
        values = _without_gradient(where, gradient, [results[i] for i in wrapped])
        return _replaced(results, wrapped, values)
    # Nothing flows back through what has no gradient: not through loops that have none either.
    moving = [i for i in moving if _has_gradient(gradient.registered, i)]
    backward = _Backward(where, gradient.registered, library, run)
    forward = _Forward([lax.stop_gradient(results[i]) for i in wrapped], captured, states)

    shapes = [_spec(value) if _is_array(value) else value for value in results]
    targets = [(i, _spec(inputs[i])) for i in moving]

    def pull(residuals: list[Value], cotangents: list[Value]) -> list[Value]:
        full: list[Value] = list(shapes)
        for i, cotangent in zip(wrapped, cotangents, strict=True):
            full[i] = cotangent
        return backward(full, *forward.unpacked(residuals), targets)

    specs = [_spec(results[i]) for i in wrapped]
    given = [inputs[i] for i in moving]
    values = _with_derivative(pull, where, specs, given, forward.values, forward.traced)
    return _replaced(results, wrapped, values)


def _with_derivative(
    pull: Pull,
    where: str,
    specs: Sequence[jax.ShapeDtypeStruct],
    given: list[Value],
    values: list[Value],
    residuals: list[Value],
) -> list[Value]:
    """Returns values as they are, with the derivative by what is given that ``pull`` transposes."""

    def values_of(given: list[Value], values: list[Value], residuals: list[Value]) -> list[Value]:
        return values

    attached = jax.custom_jvp(values_of)

    @attached.defjvp
    def push(primals: Any, tangents: Any) -> Any:
        # The values keep their own derivative, which is part of the second one.
        pushed = push_tangents(pull, where, primals[2], tangents[0], specs)
        return attached(*primals), pushed

    return list(attached(given, values, residuals))


class _Forward:
    """What a gradient function needs, apart into what is traced and what is known."""

    def __init__(
        self,
        values: list[Value],
        captured: Sequence[Value],
        states: Mapping[str, tuple[ResourceHandle, Value]],
    ) -> None:
        self.values = values
        self._handles = {name: handle for name, (handle, _) in states.items()}
        known = [
            array_value(v) if isinstance(v, PartialVector) and not v.is_shape else v
            for v in captured
        ]
        stored = {name: value for name, (_, value) in states.items()}
        self._leaves, self._tree = jax.tree.flatten((known, stored), is_leaf=lambda v: v is None)
        self._is_traced = [isinstance(leaf, jax.Array) for leaf in self._leaves]
        self.traced = [v for v, traced in zip(self._leaves, self._is_traced, strict=True) if traced]
        self._leaves = [
            None if traced else v for v, traced in zip(self._leaves, self._is_traced, strict=True)
        ]

    def unpacked(
        self, traced: Sequence[Value]
    ) -> tuple[list[Value], dict[str, ResourceHandle], dict[ResourceHandle, Value]]:
        """Returns values of the captures, handles by name, and the values behind the handles."""
        rest = iter(traced)
        leaves = [
            next(rest) if is_traced else leaf
            for leaf, is_traced in zip(self._leaves, self._is_traced, strict=True)
        ]
        captured, stored = jax.tree.unflatten(self._tree, leaves)
        values = {self._handles[name]: v for name, v in stored.items() if v is not None}
        return captured, self._handles, values


class _Backward:
    """A gradient function: from gradients of a node's results to those of its inputs."""

    def __init__(
        self, where: str, gradient: GradientFunction, library: PlanLibrary, run: RunPlan
    ) -> None:
        self._where = where
        self._gradient = gradient
        self._library = library
        self._run = run

    def __call__(
        self,
        cotangents: Sequence[Value],
        captured: Sequence[Value],
        handles: Mapping[str, ResourceHandle],
        values: Mapping[ResourceHandle, Value],
        targets: Sequence[tuple[int, jax.ShapeDtypeStruct]],
    ) -> list[Value]:
        """Returns the gradients of some inputs.

        Args:
          cotangents: for each result its gradient in JAX's sense, or its shape if that is zero.
          captured: values of the captured tensors.
          handles: handles of the Variables, by name.
          values: their values.
          targets: positions, shapes and dtypes of the inputs.
        """
        name = self._gradient.function
        plan = self._library.runnable_plan(name)
        if any(isinstance(access, int) for access in plan.effects.writes):
            raise UnsupportedError(
                f"The gradient function {name!r} of {self._where} assigns Variables, which a "
                "derivative can't."
            )
        captures = [
            self._capture(position, value, handles) for position, value in enumerate(captured)
        ]
        given = [_tensorflow_gradient(cotangent) for cotangent in cotangents]
        if len(given) + len(captures) != len(plan.arg_names):
            raise CorruptSavedModelError(
                f"The gradient function {name!r} takes {len(plan.arg_names)} arguments, where "
                f"{self._where} has {len(given)} results and {len(captures)} captures."
            )
        try:
            found = self._run(plan, [*given, *captures], values)
        except NeedsValue as signal:
            raise TracingError(
                f"{signal}. It belongs to the gradient function of {self._where}."
            ) from None
        except Exception as error:
            error.add_note(f"In the gradient function {name!r} of {self._where}.")
            raise
        by_input = self._by_input([array_value(value) for value in found])
        return [self._checked(by_input, i, target) for i, target in targets]

    def _capture(self, position: int, value: Value, handles: Mapping[str, ResourceHandle]) -> Value:
        capture = self._gradient.captures[position]
        if isinstance(capture, CapturedTensor):
            if value is None:
                raise UnsupportedError(
                    f"The gradient function {self._gradient.function!r} of {self._where} needs the "
                    f"tensor {capture.name!r} of function {capture.function!r}, which isn't within "
                    "reach of the node."
                )
            return value
        if isinstance(capture, Variable):
            return handles[capture_name(self._gradient, position)]
        if isinstance(capture, Constant):
            return np.asarray(host_array(capture.array))
        if isinstance(capture, Asset):
            return np.asarray(capture)
        return ResourceHandle(type(capture).__name__, obj=capture)

    def _by_input(self, found: Sequence[Value]) -> list[Any]:
        """Returns, for each input of the node, its gradient: an array, slices, or None."""
        structured = self._gradient.structured_outputs
        specs = structured if isinstance(structured, list | tuple) else [structured]
        rest = iter(found)
        gradients: list[Any] = []
        try:
            for spec in specs:
                if spec is None:
                    gradients.append(None)
                elif isinstance(spec, TypeSpecValue):
                    parts = [next(rest) for _ in range(spec.num_flat_components)]
                    gradients.append(self._slices(spec, parts))
                else:
                    gradients.append(next(rest))
        except StopIteration:
            raise CorruptSavedModelError(
                f"The gradient function {self._gradient.function!r} returns {len(found)} tensors, "
                "fewer than its signature says."
            ) from None
        return gradients

    def _slices(self, spec: TypeSpecValue, parts: list[Value]) -> Any:
        if spec.class_name != _SLICES:
            raise UnsupportedError(
                f"The gradient function {self._gradient.function!r} of {self._where} returns a "
                f"{spec.class_name.removesuffix('Spec')}, which is no gradient of a tensor."
            )
        return tuple(parts[:2])

    def _checked(
        self, gradients: Sequence[Any], position: int, target: jax.ShapeDtypeStruct
    ) -> Value:
        """Returns the gradient of one input in JAX's sense."""
        found = gradients[position] if position < len(gradients) else None
        if found is None:
            return jnp.zeros(target.shape, target.dtype)
        if isinstance(found, tuple):
            values, indices = map(jnp.asarray, found)
            zeros = jnp.zeros(target.shape, values.dtype)
            found = zeros.at[indices].add(values)
        if np.shape(found) != target.shape or found.dtype != target.dtype:
            raise ShapeMismatchError(
                f"The gradient function {self._gradient.function!r} of {self._where} returns "
                f"{found.dtype}{list(np.shape(found))} for input {position}, which is "
                f"{target.dtype}{list(target.shape)}."
            )
        return _jax_gradient(jnp.asarray(found))


def _has_gradient(gradient: GradientFunction, position: int) -> bool:
    """Whether a gradient function may return something for an input of its node."""
    specs = gradient.structured_outputs
    known = isinstance(specs, list | tuple) and position < len(specs)
    return not known or specs[position] is not None


def _tensorflow_gradient(cotangent: Value) -> Value:
    """Returns a cotangent as TensorFlow's gradient, which is conjugated where it is complex."""
    if isinstance(cotangent, jax.ShapeDtypeStruct):
        return jnp.zeros(cotangent.shape, cotangent.dtype)
    return _jax_gradient(cotangent)


def _jax_gradient(gradient: Value) -> Value:
    if isinstance(gradient, jax.Array) and jnp.iscomplexobj(gradient):
        return jnp.conj(gradient)
    return gradient


def _spec(value: Value) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(value), value.dtype)  # type: ignore[no-untyped-call]


def _is_array(value: Value) -> bool:
    return isinstance(value, jax.Array) or (
        isinstance(value, np.ndarray) and value.dtype != np.dtype(object)
    )


def _is_smooth(value: Value) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.inexact)


def _replaced(
    results: Sequence[Value], positions: Sequence[int], values: Sequence[Value]
) -> list[Value]:
    found = list(results)
    for i, value in zip(positions, values, strict=True):
        found[i] = value
    return found


def _without_gradient(where: str, gradient: NodeGradient, values: list[Value]) -> list[Value]:
    """Returns values whose derivative warns that the model doesn't hold the right one."""
    message = (
        f"{where} has a custom gradient {gradient.gradient_type!r} which the model doesn't "
        "hold; the derivative is that of what the node computes"
    )
    return _warning(values, message)


def _warning(values: list[Value], message: str) -> list[Value]:
    """Returns values as they are; differentiating them warns."""

    def same(*given: Value) -> list[Value]:
        return list(given)

    def tangents(given: Sequence[Value], moving: Sequence[Value]) -> Any:
        warnings.warn(message, MissingGradientWarning, stacklevel=2)
        return list(given), list(moving)

    marked = jax.custom_jvp(same)
    marked.defjvp(tangents)
    return list(marked(*values))
