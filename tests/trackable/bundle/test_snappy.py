"""Snappy blocks element by element."""

from __future__ import annotations

import pytest

from savax.errors import CorruptBundleError, ResourceLimitError
from savax.trackable.bundle._snappy import decompress_snappy
from savax.trackable.bundle._varint import encode_varint


def literal(data: bytes) -> bytes:
    size = len(data) - 1
    if size < 60:
        return bytes((size << 2,)) + data
    extra = (size.bit_length() + 7) // 8
    return bytes((59 + extra << 2,)) + size.to_bytes(extra, "little") + data


def copy(distance: int, length: int, kind: int) -> bytes:
    if kind == 1:
        return bytes((distance >> 8 << 5 | length - 4 << 2 | 1, distance & 0xFF))
    return bytes((length - 1 << 2 | kind,)) + distance.to_bytes(2 * kind - 2, "little")


def block(size: int, *elements: bytes) -> bytes:
    return encode_varint(size) + b"".join(elements)


@pytest.mark.parametrize("size", [1, 59, 60, 61, 255, 256, 257, 65536, 70000])
def test_literals_of_every_length_form(size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    assert decompress_snappy(block(size, literal(data))) == data


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize(("distance", "length"), [(1, 11), (3, 4), (8, 4), (8, 8), (5, 11)])
def test_copies_repeat_what_is_before(kind: int, distance: int, length: int) -> None:
    expected = bytearray(b"abcdefgh")
    for _ in range(length):
        expected.append(expected[-distance])
    data = block(8 + length, literal(b"abcdefgh"), copy(distance, length, kind))
    assert decompress_snappy(data) == expected


def test_empty_content() -> None:
    assert decompress_snappy(b"\0") == b""


@pytest.mark.parametrize(
    "data",
    [
        block(5, literal(b"abcdef")),  # more than declared
        block(7, literal(b"abcdef")),  # less
        block(10, copy(1, 4, 1)),  # copies from nothing
        block(10, literal(b"ab"), copy(3, 4, 1)),  # from before the start
        block(10, literal(b"ab"), copy(0, 4, 1)),  # from no distance
        block(5, literal(b"ab"), copy(1, 4, 1)),  # past the declared end
        block(6, literal(b"abcdef")[:-1]),  # literal cut off
        block(6, bytes((60 << 2,))),  # its length cut off
        block(6, literal(b"ab"), copy(1, 4, 2)[:-1]),  # copy cut off
        b"",
    ],
)
def test_broken_blocks_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptBundleError):
        decompress_snappy(data)


@pytest.mark.parametrize("size", [1 << 20, (1 << 26) + 1, 1 << 40, (1 << 64) - 1])
def test_declared_size_is_capped_before_anything_is_made(size: int) -> None:
    with pytest.raises(ResourceLimitError):
        decompress_snappy(block(size, literal(b"abcdef")))


def test_densest_block_is_within_the_cap() -> None:
    size = 1 + 64 * 10000
    content = decompress_snappy(block(size, literal(b"a"), copy(1, 64, 2) * 10000))
    assert content == b"a" * size
