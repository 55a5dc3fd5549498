"""Arrays as TensorProto, in each of the forms that TensorFlow reads and writes.

A TensorProto holds either ``tensor_content``, the elements' little-endian bytes, or values in the
field of its dtype, where the last value given stands for all elements that follow.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from savax.errors import (
    CorruptSavedModelError,
    DTypeMismatchError,
    InvalidArgumentError,
    NotEncodableError,
    ResourceLimitError,
)
from savax.protos._messages import ResourceHandleProto, TensorProto, VariantTensorDataProto
from savax.protos._shape_codec import decode_shape, encode_shape
from savax.types import ALL_DTYPES, DType, DTypeLike, as_dtype

# A few bytes can ask for any size by the repetition of the last value. No message can spell out
# more than 2 GiB, so neither may they ask for more.
DEFAULT_LIMIT_BYTES = 1 << 31

_SAMPLE = 1024

# Elements from which on the repetition of one value takes no memory.
_MANY = 1 << 16

# numpy's limit on the number of axes.
_MAX_NUMPY_RANK = 64

# The field that holds single values; of the names not listed it is int_val.
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "string": "string_val",
    "resource": "resource_handle_val",
    "variant": "variant_val",
} | {d.name: "float8_val" for d in ALL_DTYPES if d.name.startswith(("float8", "float4"))}

# TensorFlow's Python writes these as single values, however many there are.
_NEVER_CONTENT = frozenset(
    {"string", "resource", "variant", "bool", "complex64", "complex128", "uint16"}
    | {"int4", "uint4", "int2", "uint2"}
)

# TensorFlow's Python knows no field for these, and its C++ reads their bytes.
_ALWAYS_CONTENT = frozenset({"float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz"})


def encode_tensor(array: Any, dtype: DTypeLike = None, *, compact: bool = True) -> TensorProto:
    """Returns the message of an array, in the form that TensorFlow would write.

    Args:
      array: anything that numpy makes an array of. Python's floats become float32 and ints int32,
        if they fit. Strings are bytes, or text that is written as UTF-8.
      dtype: dtype of the message; the array is cast if that loses no kind of number.
      compact: write one value if all elements are equal, as in the nodes of a SavedModel. Without
        it, the form is that of TensorFlow's ``make_tensor_proto``.

    Raises:
      DTypeMismatchError: the array can't be cast to the dtype.
      NotEncodableError: an element has no form in a tensor.
    """
    values, tensor_dtype = _as_array(array, None if dtype is None else as_dtype(dtype))
    proto = TensorProto(
        dtype=tensor_dtype.number, tensor_shape=encode_shape(tuple(map(int, values.shape)))
    )
    flat = values.ravel()
    if flat.size == 0:
        return proto
    single = flat.size == 1 or (compact and all_equal(flat, tensor_dtype))
    if tensor_dtype.name in _ALWAYS_CONTENT:
        proto.tensor_content = flat.tobytes()
    elif single or tensor_dtype.name in _NEVER_CONTENT:
        _set_values(proto, flat[:1] if single else flat, tensor_dtype)
    else:
        proto.tensor_content = flat.tobytes()
    return proto


def decode_tensor(
    proto: TensorProto, *, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> np.ndarray[Any, Any]:
    """Returns the array that a message holds.

    It may be read-only. Strings are an object array of bytes; resources and variants are one of
    their messages. A large array of one repeated value takes no memory: its strides are zero.

    Args:
      proto: the message.
      limit_bytes: the most memory that the repetition of a value may take.

    Raises:
      CorruptSavedModelError: dtype, shape and content contradict each other.
      ResourceLimitError: the array would be larger than the limit.
    """
    dtype = _proto_dtype(proto)
    shape = decode_shape(proto.tensor_shape)
    if shape is None or any(size is None for size in shape):
        raise CorruptSavedModelError(f"A {dtype.name} tensor has the partial shape {shape}.")
    sizes = tuple(size for size in shape if size is not None)
    what = f"A {dtype.name} tensor of shape {list(sizes)}"
    if len(sizes) > _MAX_NUMPY_RANK:
        raise ResourceLimitError(f"{what} has more than {_MAX_NUMPY_RANK} axes.")
    item_size = dtype.numpy_dtype.itemsize
    # numpy refuses even empty arrays whose other axes multiply to more than it can count.
    if math.prod(size for size in sizes if size) * item_size >= 1 << 62:
        raise ResourceLimitError(f"{what} has more elements than memory can have.")
    count = math.prod(sizes)
    if proto.tensor_content:
        return _from_content(proto.tensor_content, dtype, count, what).reshape(sizes)
    if count * item_size > limit_bytes:
        raise ResourceLimitError(
            f"{what} takes {count * item_size} bytes; the limit is {limit_bytes}."
        )
    return _from_values(proto, dtype, count, what).reshape(sizes)


def _proto_dtype(proto: TensorProto) -> DType:
    try:
        return as_dtype(int(proto.dtype))
    except InvalidArgumentError as error:
        raise CorruptSavedModelError(f"A tensor's dtype {proto.dtype} is none.") from error


def _as_array(array: Any, dtype: DType | None) -> tuple[np.ndarray[Any, Any], DType]:
    """Returns a native-endian array, with bytes for strings, and the dtype of its message."""
    typed = hasattr(array, "dtype")
    values = np.asarray(array) if typed else _from_python(array, dtype)
    if dtype is None:
        dtype = as_dtype(values.dtype)
        if not typed:
            dtype = _python_default(values, dtype)
    if dtype.name == "string":
        return _bytes_array(values.astype(object)), dtype
    if dtype.size == 0:
        return _message_array(values, dtype), dtype
    return _cast(values, dtype, typed), dtype


def _from_python(value: Any, dtype: DType | None) -> np.ndarray[Any, Any]:
    """Returns an array of Python values; strings are objects, which keep their trailing zeros."""
    try:
        values = np.asarray(value, None if dtype is None or dtype.size else object)
        return np.asarray(value, object) if values.dtype.kind in "SU" else values
    except ValueError as error:
        raise NotEncodableError(f"{value!r} is no tensor: {error}") from error


def _cast(values: np.ndarray[Any, Any], dtype: DType, typed: bool) -> np.ndarray[Any, Any]:
    target = dtype.numpy_dtype
    if values.dtype.kind == "O" or (typed and not np.can_cast(values.dtype, target, "same_kind")):
        raise DTypeMismatchError(f"An array of {values.dtype} can't become a {dtype.name} tensor.")
    with np.errstate(all="ignore"):
        cast = values.astype(target, order="C", copy=False)
    rounds = dtype.is_floating or dtype.is_complex
    if not rounds and cast.dtype != values.dtype and not np.array_equal(cast, values):
        raise DTypeMismatchError(f"A {dtype.name} tensor can't hold all values of the array.")
    return cast


def _python_default(values: np.ndarray[Any, Any], dtype: DType) -> DType:
    """Returns the dtype that TensorFlow gives to plain Python numbers."""
    if dtype.name == "float64":
        return as_dtype("float32")
    limits = np.iinfo(np.int32)
    if dtype.name == "int64" and np.all((values >= limits.min) & (values <= limits.max)):
        return as_dtype("int32")
    return dtype


def _bytes_array(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    result = np.empty(values.size, object)
    for index, value in enumerate(values.ravel()):
        if isinstance(value, str):
            result[index] = value.encode("utf-8")
        elif isinstance(value, bytes | bytearray):
            result[index] = bytes(value)
        else:
            raise NotEncodableError(
                f"Element {index} of a string tensor is {value!r}: neither bytes nor text."
            )
    return result.reshape(values.shape)


def _message_array(values: np.ndarray[Any, Any], dtype: DType) -> np.ndarray[Any, Any]:
    wanted = ResourceHandleProto if dtype.name == "resource" else VariantTensorDataProto
    for value in values.ravel():
        if not isinstance(value, wanted):
            raise NotEncodableError(f"An element of a {dtype.name} tensor is {value!r}.")
    return values


def all_equal(flat: np.ndarray[Any, Any], dtype: DType) -> bool:
    """Whether all elements are the same bits, so that -0.0 isn't 0.0 and a NaN is itself."""
    if dtype.size == 0:
        return all(value == flat[0] for value in flat)
    bits = np.ascontiguousarray(flat).reshape(-1).view(np.uint8).reshape(flat.size, -1)
    # Most arrays differ at once; looking at all elements takes as much memory as they have.
    few = bits[:_SAMPLE]
    return bool((few == few[0]).all()) and bool((bits == bits[0]).all())


def _set_values(proto: TensorProto, flat: np.ndarray[Any, Any], dtype: DType) -> None:
    field = _FIELDS.get(dtype.name, "int_val")
    if field == "float8_val":
        proto.float8_val = flat.tobytes()
        return
    if field == "half_val":
        flat = flat.view(np.uint16)
    elif field in ("scomplex_val", "dcomplex_val"):
        flat = np.ascontiguousarray(flat).view(flat.real.dtype)
    elif field == "int_val":
        flat = flat.astype(np.int32)
    getattr(proto, field).extend(flat.tolist())


def _from_content(content: bytes, dtype: DType, count: int, what: str) -> np.ndarray[Any, Any]:
    if dtype.name == "string":
        return _strings_from_content(content, count, what)
    expected = count * dtype.size
    if dtype.size == 0 or len(content) != expected:
        raise CorruptSavedModelError(f"{what} has {len(content)} bytes, expected {expected}.")
    if dtype.name == "bool":  # any other byte than 0 and 1 would be no bool of numpy's
        return np.frombuffer(content, np.uint8).astype(np.bool_)
    return np.frombuffer(content, dtype.numpy_dtype)


def _strings_from_content(content: bytes, count: int, what: str) -> np.ndarray[Any, Any]:
    """Decodes varint lengths and then the strings, as TensorFlow's C++ encodes them."""
    if count > len(content):  # a length takes a byte or more
        raise CorruptSavedModelError(f"{what} has only {len(content)} bytes.")
    position = 0
    lengths = []
    for _ in range(count):
        length = shift = 0
        while True:
            if position >= len(content) or shift > 63:
                raise CorruptSavedModelError(f"{what} has a length that doesn't end.")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise CorruptSavedModelError(f"{what} has lengths that don't add up to its bytes.")
    result = np.empty(count, object)
    for index, length in enumerate(lengths):
        result[index] = content[position : position + length]
        position += length
    return result


def _from_values(proto: TensorProto, dtype: DType, count: int, what: str) -> np.ndarray[Any, Any]:
    """Returns the elements of a typed field, the last one repeated; zeros if there is none."""
    values = _field_values(proto, dtype, what)
    if values.size > count:
        raise CorruptSavedModelError(f"{what} has {values.size} values, expected {count} at most.")
    if values.size == count:
        return values
    if values.size <= 1 and count >= _MANY:
        one = values if values.size else _one(_zero(dtype), dtype)
        return np.broadcast_to(one, (count,))
    result = np.empty(count, dtype.numpy_dtype)
    result[: values.size] = values
    result[values.size :] = values[-1] if values.size else _zero(dtype)
    return result


def _one(value: Any, dtype: DType) -> np.ndarray[Any, Any]:
    one = np.empty(1, dtype.numpy_dtype)
    one[0] = value
    return one


def _zero(dtype: DType) -> Any:
    """Returns the element that TensorFlow's C++ fills in where a message has no value at all."""
    if dtype.size:
        return np.zeros((), dtype.numpy_dtype)
    empty = {"string": b"", "resource": ResourceHandleProto(), "variant": VariantTensorDataProto()}
    return empty[dtype.name]


def _field_values(proto: TensorProto, dtype: DType, what: str) -> np.ndarray[Any, Any]:
    field = _FIELDS.get(dtype.name, "int_val")
    raw = getattr(proto, field)
    if field == "float8_val":
        return np.frombuffer(raw, dtype.numpy_dtype)
    if dtype.size == 0:
        result = np.empty(len(raw), object)
        result[:] = list(raw)
        return result
    if field == "half_val":
        bits = np.fromiter(raw, np.int64, len(raw))
        return bits.astype(np.uint16).view(dtype.numpy_dtype)
    if field in ("scomplex_val", "dcomplex_val"):
        if len(raw) % 2:
            raise CorruptSavedModelError(f"{what} has {len(raw)} parts of complex numbers.")
        part = np.float32 if field == "scomplex_val" else np.float64
        return np.fromiter(raw, part, len(raw)).view(dtype.numpy_dtype)
    if field == "int_val":  # narrow types wrap, as in TensorFlow's C++
        return np.fromiter(raw, np.int64, len(raw)).astype(dtype.numpy_dtype)
    return np.fromiter(raw, dtype.numpy_dtype, len(raw))
