"""Payload of string tensors.

    varint size of each element | u32 masked CRC of the sizes | the elements' bytes

The checksums don't cover the varints but each size as a u32 (a u64 where it needs one). The
entry's checksum continues that one over the four stored bytes and the elements' bytes. In a
big-endian bundle those integers are big-endian; the varints are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from savax.errors import CorruptBundleError, InvalidArgumentError
from savax.trackable.bundle._crc32c import extend_crc32c, mask_crc32c
from savax.trackable.bundle._varint import decode_varint, encode_varint

if TYPE_CHECKING:
    from collections.abc import Sequence

ByteOrder = Literal["little", "big"]

_CHECKSUM_BYTES = 4


class StringPayload(NamedTuple):
    """Bytes of a string tensor and their checksum as its entry stores it."""

    data: bytes
    crc32c_masked: int


def encode_strings(values: np.ndarray[Any, Any], what: str) -> StringPayload:
    """Returns the payload of a string tensor.

    Args:
      values: array of bytes or str (encoded as UTF-8), of any shape.
      what: how to call the tensor in the error.

    Raises:
      InvalidArgumentError: an element is neither bytes nor str.
    """
    elements = [_as_bytes(value, what) for value in values.reshape(-1).tolist()]
    sizes = [len(element) for element in elements]
    crc = extend_crc32c(0, _size_bytes(sizes, "little"))
    checksum = mask_crc32c(crc).to_bytes(_CHECKSUM_BYTES, "little")
    data = b"".join((*map(encode_varint, sizes), checksum))
    crc = extend_crc32c(crc, checksum)
    content = b"".join(elements)
    return StringPayload(data + content, mask_crc32c(extend_crc32c(crc, content)))


def _as_bytes(value: Any, what: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise InvalidArgumentError(
        f"{what} is an array of objects; its elements must be bytes or str, "
        f"found {type(value).__name__}."
    )


def _size_bytes(sizes: Sequence[int], byte_order: ByteOrder) -> bytes:
    if not sizes or max(sizes) < 1 << 32:
        return np.asarray(sizes, "<u4" if byte_order == "little" else ">u4").tobytes()
    return b"".join(size.to_bytes(4 if size < 1 << 32 else 8, byte_order) for size in sizes)


class StringSizes(NamedTuple):
    """Head of a payload.

    Attributes:
      sizes: bytes of each element.
      head_bytes: bytes before the elements.
      crc: running checksum over the head, unmasked.
    """

    sizes: list[int]
    head_bytes: int
    crc: int


def max_head_bytes(count: int) -> int:
    """Returns how many bytes the head of a payload with that many elements can have."""
    return 10 * count + _CHECKSUM_BYTES


def decode_string_sizes(
    head: bytes, count: int, payload_bytes: int, byte_order: ByteOrder, what: str
) -> StringSizes:
    """Reads and checks the sizes of a string tensor's elements.

    Args:
      head: the payload, or at least its head.
      count: number of elements.
      payload_bytes: size of the whole payload.
      byte_order: of the bundle.
      what: how to call the tensor in the error.

    Raises:
      CorruptBundleError: the sizes are cut off, don't match their checksum, or don't add up to the
        payload.
    """
    sizes = []
    position = 0
    for _ in range(count):
        size, position = decode_varint(head, position, len(head))
        sizes.append(size)
    head_bytes = position + _CHECKSUM_BYTES
    if head_bytes + sum(sizes) != payload_bytes or head_bytes > len(head):
        raise CorruptBundleError(
            f"{what}: the sizes of its {count} strings don't add up to the {payload_bytes} bytes "
            "stored."
        )
    crc = extend_crc32c(0, _size_bytes(sizes, byte_order))
    checksum = head[position:head_bytes]
    if mask_crc32c(crc) != int.from_bytes(checksum, byte_order):
        raise CorruptBundleError(f"{what}: the checksum of its strings' sizes is wrong.")
    return StringSizes(sizes, head_bytes, extend_crc32c(crc, checksum))


def decode_strings(payload: bytes, sizes: StringSizes) -> np.ndarray[Any, Any]:
    """Returns the elements of a payload as a one-dimensional object array of bytes."""
    values = np.empty(len(sizes.sizes), object)
    position = sizes.head_bytes
    for i, size in enumerate(sizes.sizes):
        values[i] = payload[position : position + size]
        position += size
    return values
