"""Values of Variables: users' values as arrays, and the door to JAX, opened from above."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import DTypeMismatchError, InvalidArgumentError
from savax.types import DType, as_dtype, same_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from savax.trackable._placement import Placement, ShardedArray


def _same(value: Any) -> Any:
    return value


def _no_tracer(_: Any) -> bool:
    return False


def _no_placement(_: Any) -> None:
    return None


def _on_host(value: Any, dtype: DType) -> Any:
    return np.asarray(value).astype(dtype.numpy_dtype)


def _alone() -> tuple[int, int]:
    return 0, 1


@dataclasses.dataclass
class ArrayBackend:
    """What the function layer knows about arrays and this layer doesn't.

    Attributes:
      convert: takes a host array; returns it as an array of the accelerator library, or the same
        object where that library can't hold its dtype.
      is_tracer: whether a value exists only while a trace runs.
      placement: takes an array or a sharding; returns where values that replace it belong, or None
        if they may stay on the host until they are used.
      cast: takes an array and a dtype of numbers; returns it as an array of that dtype.
      shards: takes any value; returns what of it is where if it is spread over devices, else None.
      process: returns the index of this process, and how many run together.
    """

    convert: Callable[[Any], Any] = _same
    is_tracer: Callable[[Any], bool] = _no_tracer
    placement: Callable[[Any], Placement | None] = _no_placement
    cast: Callable[[Any, DType], Any] = _on_host
    shards: Callable[[Any], ShardedArray | None] = _no_placement
    process: Callable[[], tuple[int, int]] = _alone


BACKEND = ArrayBackend()


def set_array_converter(convert: Callable[[Any], Any]) -> None:
    """Installs how a host array becomes what ``Variable.value`` returns."""
    BACKEND.convert = convert


def set_tracer_check(is_tracer: Callable[[Any], bool]) -> None:
    """Installs the test for values that must never be stored."""
    BACKEND.is_tracer = is_tracer


def set_sharding_support(
    placement: Callable[[Any], Placement | None],
    cast: Callable[[Any, DType], Any],
    shards: Callable[[Any], ShardedArray | None],
    process: Callable[[], tuple[int, int]],
) -> None:
    """Installs what is known of the devices that hold arrays, see ``ArrayBackend``."""
    BACKEND.placement = placement
    BACKEND.cast = cast
    BACKEND.shards = shards
    BACKEND.process = process


def is_array(value: Any) -> bool:
    """Whether a value has a dtype and a shape of its own, as numpy and JAX arrays have."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def is_whole_here(value: Any) -> bool:
    """Whether numpy can take an array: not one of JAX of which other processes have parts."""
    return getattr(value, "is_fully_addressable", True) or bool(value.is_fully_replicated)


def host_array(value: Any, dtype: DType | None = None) -> np.ndarray[Any, Any]:
    """Returns an own, read-only numpy array of a user's value.

    Python's floats become float32 and its integers int32, as in TensorFlow, unless a dtype is
    asked for; arrays keep their dtype, strings become an object array of bytes.

    Args:
      value: an array, a number, a string, or nested sequences of those.
      dtype: element type of the result. Numbers are cast to it; Python floats to integers aren't.

    Raises:
      InvalidArgumentError: sequences of uneven lengths, values that don't fit, or an element that
        has no place in an array.
      DTypeMismatchError: a string where a number is asked for, or the reverse.
    """
    if is_array(value):
        array = np.asarray(value)
        natural = as_dtype(array.dtype)
    else:
        array, natural = _from_python(value, dtype)
    if natural.name == "string":
        array = _encode_strings(array)
    wanted = natural if dtype is None else dtype
    if (natural.name == "string") != (wanted.name == "string"):
        raise DTypeMismatchError(f"A value of dtype {natural.name} can't become {wanted.name}.")
    result = _cast(array, wanted)
    if result is value or result.base is not None or not result.flags.owndata:
        result = result.copy()
    result.flags.writeable = False
    return result


def fitted_array(value: Any, dtype: DType) -> np.ndarray[Any, Any]:
    """Returns a host value in the dtype of the Variable that it is assigned to.

    Args:
      value: a numpy array or scalar, a Python value, or any concrete array.
      dtype: the Variable's.

    Raises:
      DTypeMismatchError: the value is of another kind (a fraction for an integer, a complex
        number for a real one), or an integer that the dtype can't hold exactly.
    """
    if is_array(value):
        found = as_dtype(np.asarray(value).dtype)
        if found is not dtype and not _fits(np.asarray(value), found, dtype):
            raise DTypeMismatchError(
                f"expected dtype {dtype.name}, found {found.name}; cast it first"
            )
    return host_array(value, dtype)


def content_key(array: Any) -> Hashable:
    """Returns what two numpy or JAX arrays have in common if they are equal in every bit."""
    value = np.asarray(array)
    if value.dtype == object:
        return ("strings", value.shape, tuple(value.ravel()))
    digest = hashlib.blake2b(np.ascontiguousarray(value).view(np.uint8).data).digest()
    return (value.dtype.name, value.shape, digest)


def widens(found: DType, wanted: DType) -> bool:
    """Whether every value of one dtype is a value of another, larger one of the same kind."""
    a, b = found.numpy_dtype, wanted.numpy_dtype
    alike = same_kind(found, wanted) and found.is_unsigned == wanted.is_unsigned
    return alike and a.itemsize < b.itemsize and bool(np.can_cast(a, b, "safe"))


def _fits(array: np.ndarray[Any, Any], found: DType, wanted: DType) -> bool:
    if found.name == "string" or wanted.name == "string":
        return False
    if found.is_floating and wanted.is_floating:
        return True  # rounding a fraction is what every float dtype does
    if found.is_complex and wanted.is_complex:
        return True
    if found.is_integer and (wanted.is_integer or wanted.is_floating or wanted.is_complex):
        return bool(np.array_equal(array.astype(wanted.numpy_dtype).astype(array.dtype), array))
    return found.is_floating and wanted.is_complex


def _from_python(value: Any, dtype: DType | None) -> tuple[np.ndarray[Any, Any], DType]:
    """Returns an array of a Python value and the dtype that TensorFlow would give it."""
    leaves = list(_leaves(value))
    if leaves and all(isinstance(leaf, str | bytes) for leaf in leaves):
        return _object_array(value), as_dtype("string")
    if any(is_array(leaf) for leaf in leaves):
        natural = _common_dtype(leaves)
        return _numpy(value, natural), natural
    natural = _python_dtype(leaves)
    wanted = natural if dtype is None else dtype
    if leaves and natural.is_floating and (wanted.is_integer or wanted.is_bool):
        raise DTypeMismatchError(f"a Python float can't become {wanted.name}; convert it first")
    if natural.is_complex and not wanted.is_complex:
        raise DTypeMismatchError(f"a Python complex number can't become {wanted.name}")
    return _numpy(value, None if wanted.name == "string" else wanted), natural


def _common_dtype(leaves: list[Any]) -> DType:
    """Returns the dtype of a list with arrays in it; Python numbers take that of the arrays."""
    operands = [np.empty(0, leaf.dtype) if is_array(leaf) else leaf for leaf in leaves]
    try:
        return as_dtype(np.result_type(*operands))
    except TypeError as error:
        raise InvalidArgumentError(f"The elements make no array: {error}") from error


def _python_dtype(leaves: list[Any]) -> DType:
    """Returns the dtype that TensorFlow gives to Python's numbers; no numbers are floats."""
    kinds = {type(leaf) for leaf in leaves}
    odd = next((kind for kind in kinds if not issubclass(kind, bool | int | float | complex)), None)
    if odd is not None:
        raise InvalidArgumentError(f"A {odd.__name__} has no place in an array.")
    if any(issubclass(kind, complex) for kind in kinds):
        return as_dtype("complex128")
    if not kinds or any(issubclass(kind, float) for kind in kinds):
        return as_dtype("float32")
    return as_dtype("bool" if kinds == {bool} else "int32")


def _leaves(value: Any) -> Iterable[Any]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list | tuple):
            pending.extend(reversed(item))
        else:
            yield item


def _numpy(value: Any, dtype: DType | None) -> np.ndarray[Any, Any]:
    try:
        return np.array(value, dtype=None if dtype is None else dtype.numpy_dtype)
    except (ValueError, OverflowError, TypeError) as error:
        name = "array" if dtype is None else f"{dtype.name} array"
        raise InvalidArgumentError(f"The value doesn't make one {name}: {error}") from error


def _object_array(value: Any) -> np.ndarray[Any, Any]:
    shape: list[int] = []
    first = value
    while isinstance(first, list | tuple):
        shape.append(len(first))
        first = first[0] if first else None
    leaves = list(_leaves(value))
    if math.prod(shape) != len(leaves):
        raise InvalidArgumentError("The nested sequences of strings have uneven lengths.")
    array = np.empty(len(leaves), dtype=object)
    array[:] = leaves
    return array.reshape(shape)


def _encode_strings(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns an object array of bytes; text is encoded in UTF-8."""
    encoded = np.empty(array.shape, dtype=object)
    flat = encoded.reshape(-1)
    for index, item in enumerate(array.reshape(-1).tolist()):
        if not isinstance(item, str | bytes):
            raise InvalidArgumentError(f"A {type(item).__name__} has no place in a string array.")
        flat[index] = item.encode() if isinstance(item, str) else item
    return encoded


def _cast(array: np.ndarray[Any, Any], dtype: DType) -> np.ndarray[Any, Any]:
    if array.dtype == dtype.numpy_dtype:
        return array
    if dtype.is_bool and array.dtype.kind != "b":
        return array.astype(bool)
    return array.astype(dtype.numpy_dtype)
