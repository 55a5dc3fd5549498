"""Blocks of an index file: layout, and every way to break it."""

from __future__ import annotations

import struct

import pytest

from savax.errors import CorruptBundleError, ResourceLimitError
from savax.trackable.bundle._block import BlockBuilder, read_block

BUDGET = 1 << 30


def build(entries: list[tuple[bytes, bytes]], restart_interval: int = 16) -> bytes:
    builder = BlockBuilder(restart_interval)
    for key, value in entries:
        builder.add(key, value)
    size = builder.size_bytes
    block = builder.finish()
    assert len(block) == size
    return block


def raw(entries: bytes, *restarts: int) -> bytes:
    return entries + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def test_known_bytes() -> None:
    assert build([(b"apple", b"1"), (b"apply", b"22")]) == raw(
        b"\x00\x05\x01apple1" + b"\x04\x01\x02y22", 0
    )


def test_restart_points_share_nothing() -> None:
    entries = [(b"key%02d" % i, b"") for i in range(5)]
    expected = b"\0\5\0key00" + b"\4\1\x001" + b"\0\5\0key02" + b"\4\1\x003" + b"\0\5\0key04"
    assert build(entries, 2) == raw(expected, 0, 12, 24)


@pytest.mark.parametrize("interval", [1, 2, 16])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
def test_round_trip(interval: int, count: int) -> None:
    entries = [(b"%05d" % i + b"k" * (i * 7 % 300), b"v" * (i * 13 % 400)) for i in range(count)]
    assert read_block(build(entries, interval), None, BUDGET) == entries


def test_prefix_of_one_key_in_the_next() -> None:
    entries = [(b"", b"h"), (b"a", b""), (b"ab", b""), (b"ab\0", b""), (b"ab\xff", b"")]
    assert read_block(build(entries), None, BUDGET) == entries


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\0" * 4,
        raw(b""),  # no restart point
        raw(b"\0\1\1ab", 0)[:-1],
        raw(b"\0\1\1ab", 0)[:-4] + b"\xff\xff\xff\xff",
        raw(b"\1\1\1ab", 0),  # shares with nothing
        raw(b"\0\2\1ab", 0),  # passes the end
        raw(b"\0\x80", 0),
        raw(b"\0\1\1ab" + b"\1\1\1cd", 0, 5),  # restart point that shares
        raw(b"\0\1\1ab" + b"\0\1\1cd", 0, 4),  # restart point inside an entry
        raw(b"\0\1\1ab" + b"\0\1\1cd", 0, 99),
        raw(b"\0\1\1ab" + b"\0\1\1ab", 0),  # key twice
        raw(b"\0\1\1bb" + b"\0\1\1ab", 0),  # descending
    ],
)
def test_broken_blocks_are_refused(block: bytes) -> None:
    with pytest.raises(CorruptBundleError):
        read_block(block, None, BUDGET)


def test_order_holds_across_blocks() -> None:
    block = build([(b"b", b"")])
    assert read_block(block, b"a", BUDGET)
    for last_key in (b"b", b"c"):
        with pytest.raises(CorruptBundleError, match="out of order"):
            read_block(block, last_key, BUDGET)


def test_keys_have_a_budget() -> None:
    entries = [(b"k" * 100 + b"%03d" % i, b"") for i in range(10)]
    assert len(read_block(build(entries), None, 1030)) == 10
    with pytest.raises(ResourceLimitError):
        read_block(build(entries), None, 1029)


def test_single_key_is_capped() -> None:
    with pytest.raises(ResourceLimitError):
        read_block(build([(b"k" * 70000, b"")]), None, BUDGET)
