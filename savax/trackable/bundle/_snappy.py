"""Decompressor of raw snappy blocks, which other LevelDB writers put into index files."""

from __future__ import annotations

from savax.errors import CorruptBundleError, ResourceLimitError
from savax.trackable.bundle._limits import MAX_SNAPPY_BYTES, MAX_SNAPPY_RATIO
from savax.trackable.bundle._varint import decode_varint


def decompress_snappy(data: bytes) -> bytes:
    """Returns the content of a raw snappy block.

    A block is a varint, the size of the content, then elements. The low two bits of an element's
    tag say what it is: 0 literal bytes; 1, 2, 3 a copy of earlier content whose distance takes 11
    bits, two or four bytes. The size is checked before anything of that size is allocated.

    Raises:
      CorruptBundleError: an element passes an end, or the content has another size than declared.
      ResourceLimitError: the declared size is more than such a block can or may hold.
    """
    end = len(data)
    size, position = decode_varint(data, 0, end)
    if size > min(MAX_SNAPPY_BYTES, MAX_SNAPPY_RATIO * end + 64):
        raise ResourceLimitError(f"A snappy block of {end} bytes declares {size} bytes of content.")
    content = bytearray()
    while position < end:
        if data[position] & 3:
            distance, length, position = _read_copy(data, position, end)
            if not 0 < distance <= len(content):
                raise CorruptBundleError("A snappy copy starts outside the content.")
            if len(content) + length > size:
                raise CorruptBundleError("A snappy block holds more than it declares.")
            _append_copy(content, distance, length)
            continue
        length, position = _read_literal_length(data, position, end)
        if length > end - position or len(content) + length > size:
            raise CorruptBundleError("A snappy literal is cut off.")
        content += data[position : position + length]
        position += length
    if len(content) != size:
        raise CorruptBundleError(f"A snappy block declares {size} bytes and has {len(content)}.")
    return bytes(content)


def _read_literal_length(data: bytes, position: int, end: int) -> tuple[int, int]:
    code = data[position] >> 2
    position += 1
    if code < 60:
        return code + 1, position
    extra = code - 59  # 60..63: the length minus one in one to four bytes
    if extra > end - position:
        raise CorruptBundleError("A snappy literal is cut off.")
    length = int.from_bytes(data[position : position + extra], "little") + 1
    return length, position + extra


def _read_copy(data: bytes, position: int, end: int) -> tuple[int, int, int]:
    tag = data[position]
    extra = (1, 2, 4)[(tag & 3) - 1]
    position += 1
    if extra > end - position:
        raise CorruptBundleError("A snappy copy is cut off.")
    distance = int.from_bytes(data[position : position + extra], "little")
    position += extra
    if extra == 1:
        return (tag >> 5) << 8 | distance, (tag >> 2 & 7) + 4, position
    return distance, (tag >> 2) + 1, position


def _append_copy(content: bytearray, distance: int, length: int) -> None:
    start = len(content) - distance
    if distance >= length:
        content += content[start : start + length]
        return
    pattern = bytes(content[start:])  # the copy overlaps what it makes: a repetition
    content += (pattern * (length // distance + 1))[:length]
