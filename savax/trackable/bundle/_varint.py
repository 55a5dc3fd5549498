"""Variable-length integers: 7 bits a byte, lowest first, the top bit set on all but the last."""

from __future__ import annotations

from savax.errors import CorruptBundleError

_MAX_BYTES = 10  # 64 bits in groups of 7


def encode_varint(value: int) -> bytes:
    """Returns the varint bytes of an integer in [0, 2**64)."""
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Reads the varint at a position.

    Args:
      data: bytes that hold the varint.
      position: index of its first byte.
      end: index that it must not reach.

    Returns:
      The value and the index behind the varint.

    Raises:
      CorruptBundleError: the varint passes ``end``, or doesn't fit 64 bits.
    """
    value = 0
    for shift in range(0, 7 * _MAX_BYTES, 7):
        if position >= end:
            raise CorruptBundleError("A varint is cut off.")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise CorruptBundleError("A varint is over 64 bits.")
            return value, position
    raise CorruptBundleError(f"A varint is longer than {_MAX_BYTES} bytes.")
