"""Riegeli files: hashes, layout, compression."""

from __future__ import annotations

import io
import os
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from savax.errors import CorruptSavedModelError, MissingDependencyError, ResourceLimitError
from savax.saved_model.image import (
    _compression,
    _highway_hash,
    _riegeli_reader,
    _riegeli_writer,
)
from savax.saved_model.image._highway_hash import LANES, highway_hash, highway_hashes
from savax.saved_model.image._riegeli_layout import (
    BLOCK_BYTES,
    BLOCK_HEADER_BYTES,
    CHUNK_HEADER,
    FILE_SIGNATURE,
    HASH_BYTES,
    METADATA,
    TRANSPOSED,
)
from savax.saved_model.image._riegeli_reader import RecordFile
from savax.saved_model.image._riegeli_writer import RecordWriter
from savax.trackable.bundle._varint import encode_varint
from tests.image_files import ChunkFile, buffer, simple_data

if TYPE_CHECKING:
    from pathlib import Path


def read(data: bytes, tmp_path: Path, positions: list[int]) -> list[bytes]:
    path = tmp_path / "file"
    path.write_bytes(data)
    with path.open("rb") as file:
        records = RecordFile(file.fileno(), "the file")
        records.expect(positions)
        return [records.read(position) for position in positions]


def written(records: list[bytes]) -> tuple[bytes, list[int]]:
    """Returns a file of records, and their positions."""
    file = io.BytesIO()
    writer = RecordWriter(file)
    for record in records:
        writer.add(record)
    writer.flush()
    return file.getvalue(), writer.positions


def test_hashes_of_the_formats_own_example() -> None:
    # The first 64 bytes of every file hold three hashes.
    for start, end in ((0, 24), (24, 64), (40, 40)):
        message = FILE_SIGNATURE[start + 8 : end]
        place = 40 if not message else start
        for value in (highway_hash(message), alone(message), *highway_hashes([message] * 5)):
            assert FILE_SIGNATURE[place : place + 8] == value.to_bytes(8, "little")


def alone(message: bytes) -> int:
    return _highway_hash._hash_alone(memoryview(message), _highway_hash._initial_state())


@pytest.mark.parametrize("count", [1, 3, 4, 40])
def test_hashes_together_are_those_alone(count) -> None:
    rng = random.Random(count)
    for size in (*range(70), 1023, 1024, 1025, 4131):
        messages = [rng.randbytes(size) for _ in range(count)]
        assert highway_hashes(messages) == [alone(message) for message in messages]


# Up to three packets, around what is brought into order at a time, and far beyond.
LENGTHS = st.integers(0, 100) | st.integers(1000, 1100) | st.integers(0, 20_000)


@pytest.mark.parametrize("lanes", [5, _highway_hash.LANES])
@settings(max_examples=60, deadline=None)
@given(st.lists(LENGTHS, max_size=24), st.integers(0, 1 << 30))
def test_hashes_of_messages_of_all_lengths(lanes, lengths, seed) -> None:
    rng = random.Random(seed)
    messages = [rng.randbytes(length) for length in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_highway_hash, "LANES", lanes)
        together = highway_hashes([memoryview(message) for message in messages])
    assert together == [alone(message) for message in messages]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 200_000), max_size=6),
    st.integers(0, 300_000),
    st.integers(0, 300_000),
    st.integers(0, 1 << 30),
)
def test_what_is_written_is_read(tmp_path_factory, sizes, waiting, ahead, seed) -> None:
    rng = random.Random(seed)
    records = [rng.randbytes(size) for size in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_riegeli_writer, "_MOST_WAITING", waiting)
        patch.setattr(_riegeli_reader, "_MOST_AHEAD", ahead)
        data, positions = written(records)
        order = rng.choices(range(len(records)), k=8) if records else []
        found = read(data, tmp_path_factory.mktemp("r"), [positions[i] for i in order])
    assert found == [records[i] for i in order]


@pytest.fixture(scope="module")
def many() -> tuple[bytes, list[int]]:
    """Returns a file of more records than are hashed at a time, and their positions."""
    return written([b"%d" % number for number in range(LANES + 500)])


@pytest.mark.parametrize("number", [0, 1, 700, LANES - 2, LANES - 1, LANES, LANES + 499])
def test_damage_among_many_chunks_is_named(number, many, tmp_path) -> None:
    data, positions = many
    for offset, what in ((9, "header"), (CHUNK_HEADER.size, "checksum")):
        bad = bytearray(data)
        place = positions[number] + offset
        bad[place + (BLOCK_HEADER_BYTES if place % BLOCK_BYTES < BLOCK_HEADER_BYTES else 0)] ^= 1
        with pytest.raises(
            CorruptSavedModelError, match=rf"{what} .*chunk at {positions[number]}\."
        ):
            read(bytes(bad), tmp_path, positions)
    for cut in (1, 39, 41):
        with pytest.raises(CorruptSavedModelError, match=rf"ends within .* {positions[number]}\."):
            read(data[: positions[number] + cut], tmp_path, positions)


def test_nothing_is_hashed_twice(many, tmp_path, monkeypatch) -> None:
    data, positions = many
    hashed: list[int] = []

    def counted(messages: list[bytes]) -> list[int]:
        hashed.extend(map(len, messages))
        return highway_hashes(messages)

    monkeypatch.setattr(_riegeli_reader, "highway_hashes", counted)
    read(data, tmp_path, positions)
    contents = [len(simple_data([b"%d" % number])) for number in range(len(positions))]
    header = CHUNK_HEADER.size - HASH_BYTES
    assert sum(hashed) == sum(contents) + header * (len(contents) + 1)


def test_only_what_is_expected_is_read_ahead(tmp_path, monkeypatch) -> None:
    data, positions = written([bytes([number]) * 10_000 for number in range(50)])
    (tmp_path / "file").write_bytes(data)
    seen, pread = 0, os.pread

    def counted(fd: int, size: int, position: int) -> bytes:
        nonlocal seen
        seen += size
        return pread(fd, size, position)

    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setattr(_riegeli_reader, "_MOST_AHEAD", 100_000)
    with (tmp_path / "file").open("rb") as file:
        records = RecordFile(file.fileno(), "")
        for expected, number, chunks in (
            ([], 20, 1),  # nothing
            ([3, 4, 6], 3, 2),  # up to one that isn't expected
            ([3, 4, 6], 4, 0),
            ([3, 4, 6], 5, 2),
            (range(50), 10, 9),  # as many as may be held
            ([], 18, 0),
            ([], 10, 1),  # read ahead once only
        ):
            seen = 0
            records.expect(positions[i] for i in expected)
            assert records.read(positions[number]) == bytes([number]) * 10_000
            assert round(seen / 10_000) == chunks


@pytest.mark.parametrize("near", [-80, -66, -65, -41, -40, -24, -23, -1, 0, 1, 24, 25, 26])
def test_chunks_near_the_end_of_a_block(near, tmp_path) -> None:
    first = (1 << 16) - len(FILE_SIGNATURE) - 40 - 6 + near
    records = [b"a" * first, b"b" * 5, b"", b"c" * 70_000]
    data, positions = written(records)
    assert read(data, tmp_path, positions) == records
    other = ChunkFile()
    assert [other.add_records([record])[0] for record in records] == positions
    assert bytes(other.data) == data


@pytest.mark.parametrize("method", ["", "b", "z"])
def test_several_records_in_a_chunk(method, tmp_path) -> None:
    file = ChunkFile()
    records = [b"first", b"", b"x" * 100_000, bytes(range(256)) * 300]
    positions = file.add_records(records, method)
    file.add(b"anything", 0, 0, METADATA)
    last = file.add_records([b"last"], method)
    assert read(bytes(file.data), tmp_path, positions + last) == [*records, b"last"]
    with (tmp_path / "file").open("rb") as opened:
        assert RecordFile(opened.fileno(), "").last() == b"last"


@pytest.mark.parametrize("method", ["b", "z"])
def test_a_missing_package_is_named(method, monkeypatch, tmp_path) -> None:
    def nothing(name: str) -> None:
        raise ImportError(name)

    file = ChunkFile()
    positions = file.add_records([b"a"], method)
    monkeypatch.setattr(_compression.importlib, "import_module", nothing)
    with pytest.raises(MissingDependencyError, match=r"install (brotli|zstandard).*savax\[cpb\]"):
        read(bytes(file.data), tmp_path, positions)


def test_any_damage_is_noticed(tmp_path) -> None:
    file = ChunkFile()
    records = [b"record", b"x" * 300]
    positions = [file.add_records([record])[0] for record in records]
    good = bytes(file.data)
    for position in range(len(good)):
        bad = good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]
        with pytest.raises(CorruptSavedModelError):
            read(bad, tmp_path, positions)
    for size in range(len(good)):
        with pytest.raises(CorruptSavedModelError):
            read(good[:size], tmp_path, positions)


@pytest.mark.parametrize(
    ("data", "num_records", "decoded"),
    {
        "nothing": (b"", 1, 0),
        "sizes that are cut off": (b"\0\x20\x01", 1, 1),
        "sizes without end": (b"\0\x02\xff\xff", 1, 1),
        "too few sizes": (simple_data([b"a"]), 2, 1),
        "too many sizes": (simple_data([b"a", b"b"]), 1, 2),
        "sizes that add up to something else": (simple_data([b"abc"]), 1, 5),
        "values that are cut off": (simple_data([b"abc"])[:-1], 1, 3),
        "an unknown method": (b"q" + simple_data([b"abc"])[1:], 1, 3),
        "no brotli": (b"b\x02\x01\x05\x05abcd", 1, 5),
        "no zstd": (b"z\x02\x01\x05\x05abcd", 1, 5),
        "a brotli stream that is cut off": (simple_data([b"abc" * 50], "b")[:-4], 1, 150),
        "a zstd stream that is cut off": (simple_data([b"abc" * 50], "z")[:-4], 1, 150),
    }.values(),
    ids=str,
)
def test_chunks_that_make_no_sense(data, num_records, decoded, tmp_path) -> None:
    file = ChunkFile()
    position = file.add(data, num_records, decoded)
    with pytest.raises(CorruptSavedModelError):
        read(bytes(file.data), tmp_path, [position])


@pytest.mark.parametrize("method", ["b", "z"])
def test_a_bomb_gives_no_more_than_it_announces(method, tmp_path) -> None:
    values = buffer(bytes(100 << 20), method)
    sizes = buffer(b"\x03", method)
    head = bytes([ord(method), len(sizes)]) + sizes
    # The stream holds 100 MiB; it, the sizes and the header announce 3 bytes.
    stream = values[len(encode_varint(100 << 20)) :]
    file = ChunkFile()
    position = file.add(head + b"\x03" + stream, 1, 3)
    with pytest.raises(CorruptSavedModelError, match="announces 3 bytes"):
        read(bytes(file.data), tmp_path, [position])
    # An honest one of a few kilobytes isn't decompressed at all.
    honest = ChunkFile()
    position = honest.add(head + values, 1, 100 << 20)
    with pytest.raises(ResourceLimitError):
        read(bytes(honest.data), tmp_path, [position])


def test_other_chunks_hold_no_records(tmp_path) -> None:
    for kind in (TRANSPOSED, ord("?"), METADATA):
        file = ChunkFile()
        position = file.add(b"abc", 1, 3, kind)
        error = NotImplementedError if kind == TRANSPOSED else CorruptSavedModelError
        with pytest.raises(error):
            read(bytes(file.data), tmp_path, [position])


def test_positions_without_a_record(tmp_path) -> None:
    file = ChunkFile()
    file.add_records([b"a", b"b"])
    for position in (0, 63, 66, 1 << 60):
        with pytest.raises(CorruptSavedModelError, match="no record"):
            read(bytes(file.data), tmp_path, [position])
