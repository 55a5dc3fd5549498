"""Index content: which entries an index may have."""

from __future__ import annotations

import pytest

from savax.errors import CorruptBundleError
from savax.trackable.bundle._entries import Entry, EntryEncoder, encode_header
from savax.trackable.bundle._index import build_index, decode_key, encode_key, read_index
from savax.trackable.bundle._slices import encode_slice_key
from savax.trackable.bundle._table import build_table

CRC = 0xA282EAD8


def index_of(*entries: tuple[bytes, Entry], num_shards: int = 1) -> bytes:
    return build_index(num_shards, entries)


def test_entries_come_back_sorted() -> None:
    entries = [(key.encode(), Entry(key, 1, (), size_bytes=4)) for key in ("b", "a/x", "a")]
    index = read_index(index_of(*entries))
    assert list(index.entries) == ["a", "a/x", "b"]
    assert index.entries["b"] == entries[0][1]
    assert index.shards == {0}
    assert index.header.num_shards == 1


def test_slices_are_kept_apart() -> None:
    specs = (((0, 1),), ((1, 1),))
    rows = [(b"k", Entry("k", 1, (2,), slices=specs))]
    rows += [
        (
            encode_slice_key(b"k", spec),
            Entry("", 1, (1,), shard=i, offset_bytes=4 * i, size_bytes=4),
        )
        for i, spec in enumerate(specs)
    ]
    index = read_index(index_of(*rows, num_shards=2))
    assert list(index.entries) == ["k"]
    assert list(index.slices) == sorted(key for key, _ in rows[1:])
    assert index.shards == {0, 1}
    assert [entry.size_bytes for entry in index.stored()] == [4, 4]


@pytest.mark.parametrize("key", ["é", "\udcff\udc80x", "a\0b", "日本"])
def test_keys_of_any_bytes(key: str) -> None:
    assert decode_key(encode_key(key)) == key
    index = read_index(index_of((encode_key(key), Entry(key, 1, (0,)))))
    assert list(index.entries) == [key]


@pytest.mark.parametrize(
    "entry",
    [
        Entry("k", 1, (2,), size_bytes=4),
        Entry("k", 1, (2,), size_bytes=9),
        Entry("k", 1, (0, 5), size_bytes=4),
        Entry("k", 1, (1 << 40,), size_bytes=4),
        Entry("k", 7, (5,), size_bytes=4),
        Entry("k", 1, (), shard=1, size_bytes=4),
        Entry("k", 1, (), shard=(1 << 64) - 1, size_bytes=4),
        Entry("k", 1, (4,), size_bytes=16, slices=(((0, 4),),)),
        Entry("k", 1, (4,), slices=(((0, 5),),)),
        Entry("k", 1, (4,), slices=(((5, 0),),)),
        Entry("k", 1, (4,), slices=(((1, -1),),)),
        Entry("k", 1, (4,), slices=(((0, 4), (0, 1)),)),
        Entry("k", 1, (4,), slices=((),)),
    ],
)
def test_impossible_entries_are_refused(entry: Entry) -> None:
    with pytest.raises(CorruptBundleError):
        read_index(index_of((b"k", entry)))


def test_slice_with_slices_is_refused() -> None:
    entry = Entry("", 1, (4,), slices=(((0, 4),),))
    with pytest.raises(CorruptBundleError):
        read_index(index_of((encode_slice_key(b"k", ((0, 4),)), entry)))


@pytest.mark.parametrize("size", [0, 4, 100])
def test_sizes_of_unknown_types_are_not_judged(size: int) -> None:
    entry = Entry("k", 99, (2,), size_bytes=size)
    assert read_index(index_of((b"k", entry))).entries["k"] == entry


def test_index_without_header_is_refused() -> None:
    value = EntryEncoder().encode(Entry("k", 1, (), size_bytes=4))
    for rows in ([], [(b"k", value)]):
        with pytest.raises(CorruptBundleError, match="header"):
            read_index(build_table(rows))


def test_index_of_nothing() -> None:
    index = read_index(build_table([(b"", encode_header(1))]))
    assert not index.entries
    assert not index.shards
