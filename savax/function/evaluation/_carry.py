"""Functions of a plan as jaxprs, whose results are arrays or stay what they are.

Branches and loop bodies are traced on their own. What is static in their results (numpy arrays,
handles, strings) stays static; the rest are leaves of ``lax.cond`` or of a loop's carry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function.evaluation._plan_values import (
    PartialVector,
    ResourceHandle,
    TensorListValue,
    Value,
    array_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, eq=False)
class TracedCall:
    """Values computed by a jaxpr, beside values that are known without it.

    Attributes:
      known: for each result its value, or None where the jaxpr computes it.
      shapes: for each result the value with ``ShapeDtypeStruct`` leaves, or None where it is known.
    """

    known: tuple[Value, ...]
    shapes: tuple[Any, ...]
    _jaxpr: Any

    def results(self, *operands: Any) -> list[Value]:
        """Returns the results for operands of the traced structure; None for known ones."""
        leaves = jax.core.eval_jaxpr(
            self._jaxpr.jaxpr, self._jaxpr.consts, *jax.tree.leaves(operands)
        )
        result: list[Value] = jax.tree.unflatten(jax.tree.structure(list(self.shapes)), leaves)
        return result


def trace_call(fn: Callable[..., Sequence[Value]], *operands: Any) -> TracedCall:
    """Traces a function of pytrees; values of outer traces may be closed over."""
    known: list[Value] = []

    def run(*inputs: Any) -> list[Any]:
        results = [_simplified(value) for value in fn(*inputs)]
        known[:] = [value if is_known(value) else None for value in results]
        return [None if is_known(value) else value for value in results]

    jaxpr, shapes = jax.make_jaxpr(run, return_shape=True)(*operands)
    return TracedCall(tuple(known), tuple(shapes), jaxpr)


def is_known(value: Value) -> bool:
    """Whether a value is no array of a trace: static, a handle, or an object of the host."""
    if isinstance(value, TensorListValue):
        return value.dtype.size == 0
    return not isinstance(value, jax.Array)


def _simplified(value: Value) -> Value:
    if isinstance(value, TensorListValue) and isinstance(value.buffer, np.ndarray):
        return value.with_buffer(jnp.asarray(value.buffer))
    return array_value(value)


def same_known(a: Value, b: Value) -> bool:
    """Whether two known values are the same."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return a is b


def can_be_array(value: Value) -> bool:
    """Whether a known value could be an array of a trace as well."""
    return isinstance(value, np.ndarray) and value.dtype != np.dtype(object)


def as_leaf(value: Value) -> Value:
    """Returns a value as ``lax`` carries it: strongly typed arrays."""
    if isinstance(value, TensorListValue):
        return value
    if isinstance(value, PartialVector):
        value = value.stacked()
    return lax.convert_element_type(value, value.dtype)


def is_carried(value: Value) -> bool:
    """Whether a value can be part of a carry."""
    return isinstance(value, TensorListValue | PartialVector | jax.Array) or can_be_array(value)


def handles_of(args: Sequence[Value], accesses: Sequence[int | str], resources: Any) -> list[Any]:
    """Returns the handles behind a function's accesses, in a stable order without repetition."""
    found = [
        args[a] if isinstance(a, int) else resources.get(a)
        for a in sorted(accesses, key=lambda a: (isinstance(a, str), a))
    ]
    return list(dict.fromkeys(h for h in found if isinstance(h, ResourceHandle) and h.obj is None))


def common_list(a: TensorListValue, b: TensorListValue) -> TensorListValue | None:
    """Returns a list whose structure both can take, None if lengths or elements differ.

    Buffers may be ``ShapeDtypeStruct``s.
    """
    if a.length != b.length or a.dtype is not b.dtype:
        return None
    buffer = b.buffer if a.buffer is None else a.buffer
    if b.buffer is not None and b.buffer.shape != buffer.shape:
        return None
    shape = a.element_shape if a.element_shape == b.element_shape else None
    return TensorListValue(buffer, a.length, a.dtype, shape)


def as_list_like(value: TensorListValue, target: TensorListValue) -> TensorListValue:
    """Returns a list in the structure that ``common_list`` found."""
    if value.buffer is None and target.buffer is not None:
        value = value.allocated(target.buffer.shape[1:])
    return value.with_element_shape(target.element_shape)
