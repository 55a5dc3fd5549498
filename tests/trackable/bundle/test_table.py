"""Index files as tables: known bytes, block boundaries, broken footers and handles."""

from __future__ import annotations

import struct

import pytest

from savax.errors import CorruptBundleError, ResourceLimitError
from savax.trackable.bundle._crc32c import crc32c, mask_crc32c
from savax.trackable.bundle._table import (
    _separator,
    _successor,
    build_table,
    read_table,
)
from savax.trackable.bundle._varint import encode_varint

MAGIC = bytes.fromhex("57fb808b247547db")


def trailer(content: bytes, kind: int = 0) -> bytes:
    typed = content + bytes((kind,))
    return typed + struct.pack("<I", mask_crc32c(crc32c(typed)))


def test_smallest_table_byte_by_byte() -> None:
    data_block = b"\x00\x00\x01h" + b"\x00\x01\x01kv" + bytes.fromhex("0000000001000000")
    metaindex = bytes.fromhex("0000000001000000")
    index = b"\x00\x01\x02l" + bytes((0, len(data_block))) + bytes.fromhex("0000000001000000")
    position = len(data_block) + 5
    footer = bytes((position, 8, position + 13, len(index))).ljust(40, b"\0") + MAGIC
    expected = trailer(data_block) + trailer(metaindex) + trailer(index) + footer
    assert build_table([(b"", b"h"), (b"k", b"v")]) == expected


@pytest.mark.parametrize(
    ("key", "next_key", "expected"),
    [
        (b"abc", b"abz", b"abd"),
        (b"abc1", b"abe", b"abd"),
        (b"abc1", b"abd", b"abc1"),  # nothing between c and d
        (b"ab", b"abc", b"ab"),  # a prefix stays
        (b"a\xff1", b"b", b"a\xff1"),
        (b"", b"a", b""),
    ],
)
def test_separator(key: bytes, next_key: bytes, expected: bytes) -> None:
    assert _separator(key, next_key) == expected
    assert key <= expected < next_key


@pytest.mark.parametrize(
    ("key", "expected"),
    [(b"w/x", b"x"), (b"\xff\xffa", b"\xff\xffb"), (b"\xff", b"\xff"), (b"", b"")],
)
def test_successor(key: bytes, expected: bytes) -> None:
    assert _successor(key) == expected


def rows(count: int, value_bytes: int) -> list[tuple[bytes, bytes]]:
    return [(b"", b"h"), *((b"key/%07d" % i, bytes(value_bytes)) for i in range(count))]


@pytest.mark.parametrize(("count", "value_bytes"), [(0, 0), (1, 1), (9000, 30), (3, 600000)])
def test_round_trip(count: int, value_bytes: int) -> None:
    entries = rows(count, value_bytes)
    assert read_table(build_table(entries)) == entries


def test_huge_entry_has_a_block_of_its_own() -> None:
    table = build_table([(b"a", b"1"), (b"b", bytes(524288)), (b"c", b"3")])
    end = table.index(b"\x00\x01\x01a1") + 5
    assert table[end : end + 8] == bytes.fromhex("0000000001000000")


def table_of(*blocks: bytes, handles: list[tuple[bytes, int, int]] | None = None) -> bytes:
    """A table of given data blocks, each with one key and perhaps false handles."""
    body = b"".join(map(trailer, blocks))
    if handles is None:
        offset = 0
        handles = []
        for i, block in enumerate(blocks):
            handles.append((b"k%d" % i, offset, len(block)))
            offset += len(block) + 5
    index = b""
    restarts = []
    for key, offset, size in handles:
        restarts.append(len(index))
        handle = encode_varint(offset) + encode_varint(size)
        index += bytes((0, len(key), len(handle))) + key + handle
    index += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    return finish(body, index)


def finish(body: bytes, index: bytes) -> bytes:
    metaindex = struct.pack("<II", 0, 1)
    position = len(body)
    body += trailer(metaindex) + trailer(index)
    handles = (position, len(metaindex), position + len(metaindex) + 5, len(index))
    return body + b"".join(map(encode_varint, handles)).ljust(40, b"\0") + MAGIC


def one(key: bytes) -> bytes:
    return bytes((0, len(key), 1)) + key + b"v" + struct.pack("<II", 0, 1)


def test_forged_table_is_read() -> None:
    assert read_table(table_of(one(b"a"), one(b"k1"))) == [(b"a", b"v"), (b"k1", b"v")]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", "too short"),
        (b"x" * 47, "too short"),
        (bytes(48), "magic"),
        (table_of(one(b"a"), one(b"a")), "out of order"),
        (table_of(one(b"a"), one(b"k0")), "out of order"),  # equal to the separator before
        (table_of(one(b"z")), "separator"),
        (table_of(one(b"a"), one(b"k1"), handles=[(b"a", 0, 13), (b"l", 0, 13)]), "overlap"),
        (table_of(one(b"a"), handles=[(b"k", 0, 10**6)]), "past"),
        (table_of(one(b"a"), handles=[(b"k", 2**63, 13)]), "past"),
        (table_of(one(b"a"), handles=[(b"k", 1, 12)]), "checksum"),
    ],
)
def test_broken_tables_are_refused(table: bytes, message: str) -> None:
    with pytest.raises(CorruptBundleError, match=message):
        read_table(table)


def test_unknown_compression_is_refused() -> None:
    block = one(b"a")
    table = table_of(block)
    assert table.startswith(trailer(block))
    broken = trailer(block, 7) + table[len(block) + 5 :]
    with pytest.raises(CorruptBundleError, match="compression 7"):
        read_table(broken)


def snappy_literal(data: bytes) -> bytes:
    return encode_varint(len(data)) + bytes((len(data) - 1 << 2,)) + data


def snappy_table(compressed: bytes) -> bytes:
    handle = encode_varint(0) + encode_varint(len(compressed))
    index = bytes((0, 1, len(handle))) + b"k" + handle + struct.pack("<II", 0, 1)
    return finish(trailer(compressed, 1), index)


def test_snappy_blocks_of_other_writers_are_read() -> None:
    assert read_table(snappy_table(snappy_literal(one(b"a")))) == [(b"a", b"v")]


def test_snappy_bomb_is_refused() -> None:
    with pytest.raises(ResourceLimitError):
        read_table(snappy_table(encode_varint(1 << 30) + b"\0a"))


def test_index_block_before_metaindex_is_refused() -> None:
    table = bytearray(table_of(one(b"a")))
    handles = bytes(table[-48:-44])
    table[-48:-44] = handles[2:] + handles[:2]
    with pytest.raises(CorruptBundleError, match="overlap"):
        read_table(bytes(table))


def test_every_flipped_bit_of_a_block_is_found() -> None:
    table = table_of(one(b"a"), one(b"k1"))
    for i in range(len(table) - 48):
        broken = bytearray(table)
        broken[i] ^= 1
        with pytest.raises((CorruptBundleError, ResourceLimitError)):
            read_table(bytes(broken))
