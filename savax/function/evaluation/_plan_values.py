"""Values that flow through a plan besides arrays: handles, partly known vectors, tensor lists.

A value of a plan is a numpy array (known while walking the graph: *static*), a JAX array or tracer,
a ``PartialVector``, a ``TensorListValue``, a ``ResourceHandle``, or a host string array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.types import DType, Shape

Value: TypeAlias = Any


class NeedsValue(Exception):  # noqa: N818 - a signal, not an error
    """The value of an operand is needed, and known only when the plan runs on concrete values.

    It never reaches the user: whoever runs a plan catches it, and runs the plan on concrete values
    or raises a ``TracingError``.
    """

    def __init__(self, function: str, op: str, node: str, operand: str, why: str) -> None:
        super().__init__(
            f"{op} node {node!r} of function {function!r}: the operand {operand!r} must be known "
            f"while the function is traced, got a traced value{why and ': '}{why}"
        )


class ResourceHandle:
    """What a resource tensor holds: the identity of a Variable, a table or another object.

    Attributes:
      name: shown in errors.
      dtype: of the Variable's value, if it is one.
      shape: that the Variable's values have, None if unknown.
      obj: the object behind it, if it isn't a Variable.
    """

    __slots__ = ("dtype", "name", "obj", "shape")

    def __init__(
        self, name: str, dtype: DType | None = None, shape: Shape = None, obj: Any = None
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.obj = obj

    def __repr__(self) -> str:
        return f"<handle of {self.name!r}>"


class Traced:
    """A traced scalar in a PartialVector; numpy takes it for an opaque object."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class PartialVector:
    """An integer array some of whose elements are no numbers: traced scalars, symbolic dims.

    Shapes are such vectors when one size is computed from data (``Pack([n, 4])``), or unknown while
    a function with unknown dims is traced. They keep what is known through packing, slicing and
    indexing, symbolic dims also through arithmetic; other ops get a stacked array.

    Attributes:
      elements: object array of integers, JAX's symbolic dims and ``Traced`` boxes.
      dtype: numpy dtype of the elements.
    """

    __slots__ = ("dtype", "elements")

    def __init__(self, elements: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> None:
        self.elements = elements
        self.dtype = dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.elements.shape)

    @property
    def is_shape(self) -> bool:
        """Whether all elements can be sizes of an array: integers and symbolic dims."""
        return not any(isinstance(item, Traced) for item in self.elements.reshape(-1).tolist())

    def stacked(self) -> Any:
        """Returns the whole as one traced array."""
        flat = [
            item.value if isinstance(item, Traced) else item
            for item in self.elements.reshape(-1).tolist()
        ]
        return jnp.stack([jnp.asarray(x, self.dtype) for x in flat]).reshape(self.shape)


def partial_value(elements: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> Value:
    """Returns an object array as the simplest value: static, one traced scalar, or partial."""
    items = elements.reshape(-1).tolist()
    if all(isinstance(item, int | np.integer) for item in items):
        return np.asarray(items, dtype).reshape(elements.shape)
    if elements.shape == () and isinstance(items[0], Traced):
        return items[0].value
    return PartialVector(elements, dtype)


def partial_elements(value: Value) -> np.ndarray[Any, Any] | None:
    """Returns a value as an object array for ``partial_value``, None if it isn't partly known."""
    if isinstance(value, PartialVector):
        return value.elements
    if isinstance(value, np.ndarray):
        return value.astype(object)
    if value.shape == ():
        boxed = np.empty((), object)
        boxed[()] = Traced(value)
        return boxed
    return None


class TensorListValue:
    """A list of tensors: what a VARIANT tensor made by the TensorList ops holds.

    Attributes:
      buffer: array of shape [length, *element], or None while no element's shape is known.
      length: number of elements.
      dtype: of the elements.
      element_shape: what is known of their shape.
    """

    __slots__ = ("buffer", "dtype", "element_shape", "length")

    def __init__(self, buffer: Any, length: int, dtype: DType, element_shape: Shape) -> None:
        self.buffer = buffer
        self.length = length
        self.dtype = dtype
        self.element_shape = element_shape

    def with_buffer(self, buffer: Any) -> TensorListValue:
        """Returns the list with other elements."""
        return type(self)(buffer, buffer.shape[0], self.dtype, self.element_shape)

    def with_element_shape(self, element_shape: Shape) -> TensorListValue:
        """Returns the list with another declared shape of its elements."""
        return type(self)(self.buffer, self.length, self.dtype, element_shape)

    def allocated(self, element_shape: Sequence[int]) -> TensorListValue:
        """Returns an unallocated list with zeros or empty strings as elements."""
        shape = (self.length, *element_shape)
        if self.dtype.size == 0:  # objects of the host: strings, variants
            empty = b"" if self.dtype.name == "string" else None
            return self.with_buffer(np.full(shape, empty, object))
        return self.with_buffer(jnp.zeros(shape, self.dtype.numpy_dtype))


class GradientArray(TensorListValue):
    """The gradient of a TensorArray of version 1: what is written to an element is added to it."""

    __slots__ = ()


def _flatten_list(value: TensorListValue) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    leaves = () if value.buffer is None else (value.buffer,)
    return leaves, (value.length, value.dtype, value.element_shape)


def _register_list(cls: type[TensorListValue]) -> None:
    """Makes a class of lists a pytree of its elements."""

    def unflatten(aux: tuple[Any, ...], leaves: Sequence[Any]) -> TensorListValue:
        return cls(leaves[0] if leaves else None, *aux)

    jax.tree_util.register_pytree_node(cls, _flatten_list, unflatten)


_register_list(TensorListValue)
_register_list(GradientArray)


def is_traced(value: Value) -> bool:
    """Whether a value or one of its elements exists only while tracing."""
    return isinstance(value, Tracer | PartialVector)


def static_value(value: Value) -> np.ndarray[Any, Any] | None:
    """Returns a value as a numpy array if it is known now, else None."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, jax.Array) and not isinstance(value, Tracer):
        return np.asarray(value)
    return None


def array_value(value: Value) -> Value:
    """Returns a value with a partly known vector as one array."""
    return value.stacked() if isinstance(value, PartialVector) else value
