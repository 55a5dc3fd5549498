"""Varints at the edges of their sizes."""

from __future__ import annotations

import pytest

from savax.errors import CorruptBundleError
from savax.trackable.bundle._varint import decode_varint, encode_varint

ROWS = [
    (0, "00"),
    (1, "01"),
    (127, "7f"),
    (128, "8001"),
    (300, "ac02"),
    ((1 << 32) - 1, "ffffffff0f"),
    ((1 << 64) - 1, "ffffffffffffffffff01"),
]


@pytest.mark.parametrize(("value", "encoded"), ROWS)
def test_known_bytes(value: int, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert encode_varint(value) == data
    assert decode_varint(b"xx" + data + b"x", 2, len(data) + 3) == (value, len(data) + 2)


def test_longer_forms_of_a_value_are_read() -> None:
    assert decode_varint(b"\x81\x80\x00", 0, 3) == (1, 3)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9])
def test_cut_off_varint_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptBundleError, match="cut off"):
        decode_varint(data, 0, len(data))


def test_varint_does_not_read_past_its_end() -> None:
    with pytest.raises(CorruptBundleError, match="cut off"):
        decode_varint(b"\x80\x01", 0, 1)


@pytest.mark.parametrize("data", ["ffffffffffffffffff02", "80808080808080808080", "ff" * 11])
def test_varint_over_64_bits_is_refused(data: str) -> None:
    with pytest.raises(CorruptBundleError):
        decode_varint(bytes.fromhex(data), 0, len(data) // 2)
