"""Small files that ask for much: memory, time, files."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from savax.errors import CorruptBundleError, ResourceLimitError, SavaxError
from savax.trackable.bundle import BundleReader
from savax.trackable.bundle._crc32c import crc32c, mask_crc32c
from savax.trackable.bundle._entries import Entry
from savax.trackable.bundle._index import build_index
from savax.trackable.bundle._slices import encode_slice_key
from savax.trackable.bundle._table import build_table
from savax.trackable.bundle._varint import encode_varint

if TYPE_CHECKING:
    from pathlib import Path

ABSURD = (CorruptBundleError, ResourceLimitError)
HEADER = b"\x08\x01\x1a\x02\x08\x01"


def trailer(content: bytes, kind: int = 0) -> bytes:
    typed = content + bytes((kind,))
    return typed + struct.pack("<I", mask_crc32c(crc32c(typed)))


def table_of(content: bytes, kind: int = 0) -> bytes:
    """A table of one block, given as it is stored."""
    handle = b"\0" + encode_varint(len(content))
    index = bytes((0, 1, len(handle))) + b"\xff" + handle + struct.pack("<II", 0, 1)
    metaindex = struct.pack("<II", 0, 1)
    body = trailer(content, kind)
    position = len(body)
    body += trailer(metaindex) + trailer(index)
    handles = (position, len(metaindex), position + len(metaindex) + 5, len(index))
    magic = bytes.fromhex("57fb808b247547db")
    return body + b"".join(map(encode_varint, handles)).ljust(40, b"\0") + magic


def refused(prefix: Path, error: type[SavaxError] = SavaxError) -> int:
    """Checks that opening fails at once, and returns the memory that it took."""
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(error):
        BundleReader(prefix)
    seconds = time.process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 10
    return peak


def test_prefix_compression_bomb(tmp_path: Path) -> None:
    # Each entry repeats the 60,000 bytes before it and adds one: some 9 bytes make 60 kB.
    entries = [b"\0\0\6" + HEADER, b"\0" + encode_varint(60000) + b"\0" + b"k" * 60000]
    for i in range(30000):
        entries.append(encode_varint(60000) + b"\2\0" + struct.pack(">H", i + 25000))
    content = b"".join(entries) + struct.pack("<II", 0, 1)
    assert len(content) < 300_000
    (tmp_path / "x.index").write_bytes(table_of(content))
    assert refused(tmp_path / "x", ResourceLimitError) < 300 << 20


@pytest.mark.parametrize("size", [1 << 25, 1 << 34, 1 << 62])
def test_snappy_declares_more_than_it_can_hold(size: int, tmp_path: Path) -> None:
    (tmp_path / "x.index").write_bytes(table_of(encode_varint(size) + b"\0a", 1))
    assert refused(tmp_path / "x", ResourceLimitError) < 1 << 20


def test_snappy_of_a_large_repetition_stays_within_its_cap(tmp_path: Path) -> None:
    copies = (1 << 20) // 3
    content = encode_varint(1 + 64 * copies) + b"\0a" + (bytes((63 << 2 | 2,)) + b"\1\0") * copies
    (tmp_path / "x.index").write_bytes(table_of(content, 1))
    start = time.process_time()
    with pytest.raises(CorruptBundleError):
        BundleReader(tmp_path / "x")
    assert time.process_time() - start < 10


@pytest.mark.parametrize("count", [1 << 20, 1 << 31, (1 << 32) - 1])
def test_absurd_number_of_restart_points(count: int, tmp_path: Path) -> None:
    content = b"\0\0\6" + HEADER + struct.pack("<II", 0, count)
    (tmp_path / "x.index").write_bytes(table_of(content))
    assert refused(tmp_path / "x", CorruptBundleError) < 1 << 20


@pytest.mark.parametrize("num_shards", [100_001, 1 << 31, (1 << 63) - 1])
def test_absurd_number_of_data_files(num_shards: int, tmp_path: Path) -> None:
    header = b"\x08" + encode_varint(num_shards)
    (tmp_path / "x.index").write_bytes(build_table([(b"", header)]))
    assert refused(tmp_path / "x", CorruptBundleError) < 1 << 20


def test_many_declared_data_files_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "x.index").write_bytes(build_index(100_000, []))
    with BundleReader(tmp_path / "x") as reader:
        assert reader.header.num_shards == 100_000


Forger = Callable[[Entry], None]


@pytest.fixture
def forge(tmp_path: Path) -> Forger:
    (tmp_path / "x.data-00000-of-00001").write_bytes(bytes(100))

    def write(entry: Entry) -> None:
        (tmp_path / "x.index").write_bytes(build_index(1, [(b"k", entry)]))

    return write


@pytest.mark.parametrize(
    "entry",
    [
        Entry("k", 4, (1 << 40,), size_bytes=1 << 40),
        Entry("k", 4, (101,), size_bytes=101),
        Entry("k", 4, (50,), offset_bytes=51, size_bytes=50),
        Entry("k", 4, (50,), offset_bytes=(1 << 64) - 25, size_bytes=50),
        Entry("k", 4, (1 << 57,), offset_bytes=(1 << 64) - 1, size_bytes=1 << 57),
        Entry("k", 1, (1 << 32, 1 << 32), size_bytes=0),
        Entry("k", 1, (1 << 31, 1 << 31, 4), size_bytes=0),
        Entry("k", 1, (0, 1 << 62), size_bytes=0),
        Entry("k", 7, (1 << 40,), size_bytes=100),
        Entry("k", 21, (1 << 40,), size_bytes=100),
        Entry("k", 4, (25,), shard=1, size_bytes=25),
        Entry("k", 4, (25,), shard=99_999, size_bytes=25),
    ],
)
def test_entries_beyond_the_file(entry: Entry, forge: Forger, tmp_path: Path) -> None:
    forge(entry)
    assert refused(tmp_path / "x", CorruptBundleError) < 1 << 20


def test_shape_in_thousands_of_messages_takes_little_time(tmp_path: Path) -> None:
    rows = [(b"", HEADER), (b"k", b"\x08\x01" + b"\x12\x02\x12\x00" * 100_000)]
    (tmp_path / "x.index").write_bytes(build_table(rows))
    assert refused(tmp_path / "x", CorruptBundleError) < 4 << 20


def test_unknown_type_of_absurd_shape_is_only_listed(forge: Forger, tmp_path: Path) -> None:
    forge(Entry("k", 99, (1 << 50,), size_bytes=5))
    with BundleReader(tmp_path / "x") as reader:
        assert reader.entry("k").shape == (1 << 50,)
        with pytest.raises(SavaxError):
            reader.read("k")
        reader.verify()


def test_strings_that_declare_more_than_there_is(tmp_path: Path) -> None:
    for size in (1 << 20, 1 << 40, (1 << 64) - 1):
        data = encode_varint(size) + bytes(20)
        (tmp_path / "x.data-00000-of-00001").write_bytes(data)
        entry = Entry("k", 7, (1,), size_bytes=len(data))
        (tmp_path / "x.index").write_bytes(build_index(1, [(b"k", entry)]))
        with BundleReader(tmp_path / "x") as reader:
            for call in (lambda r: r.read("k"), BundleReader.verify):
                with pytest.raises(CorruptBundleError, match="add up"):
                    call(reader)


def test_sparse_data_file_of_a_terabyte(tmp_path: Path) -> None:
    with open(tmp_path / "x.data-00000-of-00001", "wb") as file:
        file.truncate(1 << 40)
    entry = Entry("k", 4, (1 << 40,), size_bytes=1 << 40)
    (tmp_path / "x.index").write_bytes(build_index(1, [(b"k", entry)]))
    with BundleReader(tmp_path / "x") as reader:
        assert reader.read_slice("k", (1 << 39,), (4,)).tolist() == [0] * 4


def slices_of(
    tmp_path: Path, specs: list[tuple[tuple[int, int], ...]], shape: tuple[int, ...]
) -> None:
    rows = [(b"k", Entry("k", 4, shape, slices=tuple(specs)))]
    seen = {}
    for spec in specs:
        lengths = tuple(d if n < 0 else n for (_, n), d in zip(spec, shape, strict=True))
        size = int(np.prod(lengths))
        seen[encode_slice_key(b"k", spec)] = Entry("", 4, lengths, 0, 0, size, 1)
    (tmp_path / "x.index").write_bytes(build_index(1, [*rows, *seen.items()]))
    (tmp_path / "x.data-00000-of-00001").write_bytes(bytes(100_000))


@pytest.mark.parametrize("dims", [1, 2])
def test_thousands_of_overlapping_slices_take_little_time(dims: int, tmp_path: Path) -> None:
    shape = (20_000, 20_000)[:dims]
    specs = [tuple((i, 5_000) for _ in range(dims)) for i in range(10_000)]
    if dims == 2:
        specs = [((i, 10), (0, 5)) for i in range(10_000)]
    slices_of(tmp_path, specs, shape)
    start = time.process_time()
    with (
        BundleReader(tmp_path / "x") as reader,
        pytest.raises(ABSURD),
    ):
        reader.read_slice("k", (0,) * dims, shape if dims == 1 else (20_000, 5))
    assert time.process_time() - start < 10


def test_one_slice_named_thousands_of_times(tmp_path: Path) -> None:
    slices_of(tmp_path, [((0, 10),)] * 30_000, (100_000,))
    start = time.process_time()
    with (
        BundleReader(tmp_path / "x") as reader,
        pytest.raises(ABSURD),
    ):
        reader.read("k")
    assert time.process_time() - start < 10


def test_huge_key(tmp_path: Path) -> None:
    rows = [(b"", HEADER), (b"k" * 100_000, b"\x08\x01\x12\x00")]
    (tmp_path / "x.index").write_bytes(build_table(rows))
    assert refused(tmp_path / "x", ResourceLimitError) < 4 << 20
