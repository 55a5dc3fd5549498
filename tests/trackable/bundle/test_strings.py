"""Payload of string tensors."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from savax.errors import CorruptBundleError, InvalidArgumentError
from savax.trackable.bundle._crc32c import crc32c, extend_crc32c, mask_crc32c
from savax.trackable.bundle._strings import (
    StringSizes,
    _size_bytes,
    decode_string_sizes,
    decode_strings,
    encode_strings,
    max_head_bytes,
)


def objects(*values: object) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def decode(data: bytes, count: int) -> list[bytes]:
    sizes = decode_string_sizes(data, count, len(data), "little", "x")
    return decode_strings(data, sizes).tolist()


@pytest.mark.parametrize(
    ("values", "encoded"),
    [  # from data files that TensorFlow 2.21 wrote
        (("ab", b"", "longer\0é"), "020009ddaf494b61626c6f6e67657200c3a9"),
        (("hello",), "05d9c69c4368656c6c6f"),
        ((), "d8ea82a2"),
    ],
)
def test_known_bytes(values: tuple[str | bytes, ...], encoded: str) -> None:
    payload = encode_strings(objects(*values), "x")
    assert payload.data.hex() == encoded
    plain = [v.encode() if isinstance(v, str) else v for v in values]
    assert decode(payload.data, len(values)) == plain


def test_checksum_continues_over_sizes_checksum_and_bytes() -> None:
    payload = encode_strings(objects(b"ab", b"c" * 200), "x")
    sizes = crc32c(struct.pack("<II", 2, 200))
    stored = struct.pack("<I", mask_crc32c(sizes))
    expected = extend_crc32c(extend_crc32c(sizes, stored), b"ab" + b"c" * 200)
    assert payload.crc32c_masked == mask_crc32c(expected)


def test_sizes_over_32_bits_are_summed_as_64() -> None:
    assert _size_bytes([1, 1 << 32], "little") == struct.pack("<IQ", 1, 1 << 32)
    assert _size_bytes([1, 1 << 32], "big") == struct.pack(">IQ", 1, 1 << 32)
    assert _size_bytes([1, 2], "big") == struct.pack(">II", 1, 2)


@pytest.mark.parametrize(
    "values",
    [np.array(["é", "ab"]), np.array([b"x", b"yz"]), np.array(["a"], np.dtypes.StringDType())],
)
def test_numpy_string_types(values: np.ndarray) -> None:
    data = encode_strings(values, "x").data
    expected = [v.encode() if isinstance(v, str) else v for v in values.tolist()]
    assert decode(data, len(values)) == expected


@pytest.mark.parametrize("value", [None, 3, ["a"], bytearray(b"x")])
def test_other_objects_are_refused(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=f"'k'.*{type(value).__name__}"):
        encode_strings(objects(b"x", value), "'k'")


def test_broken_sizes_are_refused() -> None:
    data = encode_strings(objects(b"ab", b"cde"), "x").data
    assert decode(data, 2) == [b"ab", b"cde"]
    for broken, count in [
        (data[:1], 2),
        (data[:-1], 2),
        (data + b"x", 2),
        (data, 1),
        (data, 3),
        (b"\x03\x02" + data[2:], 2),  # same sum, other sizes
        (b"", 1),
        (b"\xff" * 9 + b"\x01" + data, 2),
    ]:
        with pytest.raises(CorruptBundleError):
            decode_string_sizes(broken, count, len(broken), "little", "x")


def test_head_alone_is_enough_for_the_sizes() -> None:
    data = encode_strings(objects(b"ab", b"c" * 1000), "x").data
    head = data[: max_head_bytes(2)]
    sizes = decode_string_sizes(head, 2, len(data), "little", "x")
    assert isinstance(sizes, StringSizes)
    assert sizes.sizes == [2, 1000]
    assert sizes.head_bytes == 7
