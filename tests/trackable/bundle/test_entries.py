"""Header and entries: known bytes, and messages that break the schema."""

from __future__ import annotations

import pytest

from savax.errors import CorruptBundleError, UnsupportedError
from savax.trackable.bundle._entries import (
    Entry,
    EntryDecoder,
    EntryEncoder,
    Header,
    decode_header,
    encode_header,
)
from savax.trackable.bundle._varint import encode_varint

# From index files that TensorFlow 2.21 wrote.
ROWS = [
    (Entry("o", 7, (), 0, 24, 254, 0x8EA2256B), "08071200201828fe01356b25a28e"),
    (Entry("b", 1, (2,), 0, 16, 8, 0x07980329), "0801120412020802201028083529039807"),
    (Entry("w", 1, (2, 2), 0, 0, 16, 0x7498284C), "0801120812020802120208022810354c289874"),
    (Entry("e", 1, (0, 3), 0, 0, 0, 0xA282EAD8), "0801120612001202080335d8ea82a2"),
    (
        Entry("p", 1, (4,), slices=(((0, 2),), ((2, 2),))),
        "08011204120208043a040a0210023a060a0408021002",
    ),
    (
        Entry("f", 1, (4, 3), slices=(((0, 2), (0, -1)),)),
        "080112081202080412020803" + "3a060a0210020a00",
    ),
]


@pytest.mark.parametrize(("entry", "encoded"), ROWS)
def test_known_bytes(entry: Entry, encoded: str) -> None:
    assert EntryEncoder().encode(entry).hex() == encoded
    assert EntryDecoder().decode(entry.key, bytes.fromhex(encoded)) == entry


def test_equal_prefixes_do_not_mix_up_entries() -> None:
    encoder, decoder = EntryEncoder(), EntryDecoder()
    entries = [
        Entry("k", dtype, shape, shard, offset, 4, 5)
        for dtype in (1, 3)
        for shape in ((), (2,), (2, 3), (300, *[1] * 49))
        for shard in (0, 1)
        for offset in (0, 1 << 40)
    ]
    assert [decoder.decode("k", encoder.encode(entry)) for entry in entries] == entries


def test_unknown_fields_and_foreign_order_are_read() -> None:
    canonical = bytes.fromhex(ROWS[1][1])
    unknown = bytes.fromhex("7205616263646578017d01020304" + "8101" + "01" * 8)
    foreign = unknown + canonical[8:] + canonical[2:8] + canonical[:2]
    assert EntryDecoder().decode("b", foreign) == ROWS[1][0]


def with_dims(*dims: int) -> bytes:
    messages = [b"\x08" + encode_varint(dim) for dim in dims]
    shape = b"".join(b"\x12" + encode_varint(len(dim)) + dim for dim in messages)
    return b"\x08\x01\x12" + encode_varint(len(shape)) + shape


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # cut off
        b"\x08\x01\x12",
        b"\x08\x01\x12\xff\x01",
        b"\x08\x01\x12\x04\x12\x02\x08",
        b"\x08\x01\x12\x00\x35\x00\x00\x00",
        b"\x08\x01\x12\x00\x20\x80",
        b"\x08\x01\x12\x02\x18\x01",  # unknown rank
        b"\x08\x01\x12\x00\x0b",  # a group
        with_dims((1 << 64) - 1),  # -1
        with_dims(1 << 63),
        with_dims(1 << 60),
        with_dims(*[1] * 65),
    ],
)
def test_broken_entries_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptBundleError):
        EntryDecoder().decode("k", data)


def test_extreme_shapes_are_read() -> None:
    assert EntryDecoder().decode("k", with_dims(1 << 40)).shape == (1 << 40,)
    assert EntryDecoder().decode("k", with_dims(*[1] * 64)).shape == (1,) * 64


def test_product_of_dims_is_capped_even_beside_an_empty_dim() -> None:
    for shape in ((1 << 30, 1 << 30), (0, 1 << 62), (1 << 20, 0, 1 << 40)):
        data = EntryEncoder().encode(Entry("k", 1, shape))
        with pytest.raises(CorruptBundleError, match="impossible shape"):
            EntryDecoder().decode("k", data)


def test_unknown_dtype_is_listed_but_not_read() -> None:
    entry = EntryDecoder().decode("k", EntryEncoder().encode(Entry("k", 77, (2,), size_bytes=9)))
    assert entry.dtype_number == 77
    with pytest.raises(UnsupportedError, match="77"):
        _ = entry.dtype


def test_header_bytes() -> None:
    assert encode_header(1).hex() == "08011a020801"
    assert decode_header(bytes.fromhex("08011a020801")) == Header(1)
    assert decode_header(bytes.fromhex("080310011a020801")) == Header(3, big_endian=True)


@pytest.mark.parametrize("encoded", ["08011a0408011002", "08011a0408011801", "08011a0508011a0101"])
def test_header_that_demands_a_newer_reader(encoded: str) -> None:
    with pytest.raises(UnsupportedError, match="version"):
        decode_header(bytes.fromhex(encoded))


@pytest.mark.parametrize(
    "encoded", ["08a18d06", "08011002", "08", "08011aff", "08ffffffffffffffffff01"]
)
def test_broken_header(encoded: str) -> None:
    with pytest.raises(CorruptBundleError):
        decode_header(bytes.fromhex(encoded))
