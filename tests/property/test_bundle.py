"""Bundles of any keys, shapes, dtypes, slices and numbers of data files come back as they went."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from savax.trackable.bundle import BundleReader, Partitioned, write_bundle
from savax.trackable.bundle._block import BlockBuilder, read_block
from savax.trackable.bundle._entries import Entry, EntryDecoder, EntryEncoder
from savax.trackable.bundle._slices import encode_slice_key
from savax.trackable.bundle._snappy import decompress_snappy
from savax.trackable.bundle._strings import decode_string_sizes, decode_strings, encode_strings
from savax.trackable.bundle._table import _separator, _successor, build_table, read_table
from savax.trackable.bundle._varint import decode_varint, encode_varint
from savax.types import ALL_DTYPES

DTYPES = [d for d in ALL_DTYPES if d.size and not d.name.startswith("q")]
KEYS = st.text(min_size=1, max_size=12).filter(lambda key: key[0] != "\0")
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
EXTENTS = st.tuples(st.integers(0, 10**6), st.integers(-1, 10**6))


@st.composite
def arrays(draw: Any) -> np.ndarray:
    shape = draw(SHAPES)
    dtype = draw(st.sampled_from([*DTYPES, None]))
    if dtype is None:
        array = np.empty(shape, object)
        flat = array.reshape(-1)
        for i in range(flat.size):
            flat[i] = draw(st.binary(max_size=5))
        return array
    bits = {"bool": 1, "int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4_e2m1fn": 4}
    size = int(np.prod(shape)) * dtype.size
    seed = draw(st.integers(0, 1000))
    raw = np.random.default_rng(seed).integers(0, 1 << bits.get(dtype.name, 8), size, np.uint8)
    array = raw.view(dtype.numpy_dtype).reshape(shape)
    if array.ndim and draw(st.booleans()):
        array = array[::-1].T
    return array


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    if expected.dtype == object:
        return found.dtype == object and np.array_equal(found, expected)
    return (found.dtype, found.shape, found.tobytes()) == (
        expected.dtype,
        expected.shape,
        expected.tobytes(),
    )


@settings(max_examples=150)
@given(st.dictionaries(KEYS, arrays(), max_size=6), st.integers(1, 4), st.data())
def test_bundles(values: dict[str, np.ndarray], shards: int, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        prefix = Path(directory) / "x"
        write_bundle(prefix, values.items(), shards=shards, fsync=False)
        with BundleReader(prefix) as reader:
            assert set(reader.keys()) == set(values)
            raw_keys = [key.encode() for key in reader]
            assert raw_keys == sorted(raw_keys)
            for key, value in values.items():
                assert same(reader.read(key), value)
                starts = [data.draw(st.integers(0, d)) for d in value.shape]
                sizes = [
                    data.draw(st.integers(0, d - s))
                    for s, d in zip(starts, value.shape, strict=True)
                ]
                index = tuple(slice(s, s + n) for s, n in zip(starts, sizes, strict=True))
                assert same(reader.read_slice(key, starts, sizes), value[(*index, ...)])
            reader.verify()


@st.composite
def cuts(draw: Any, size: int) -> list[tuple[int, int]]:
    places = sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=3))})
    return [(a, b - a) for a, b in itertools.pairwise(places)]


@settings(max_examples=100)
@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_partitioned_tensors(rows: int, columns: int, data: st.DataObject) -> None:
    array = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    parts = [
        ((r, c), array[r[0] : sum(r), c[0] : sum(c)])
        for r in data.draw(cuts(rows))
        for c in data.draw(cuts(columns))
    ]
    # Cuts of the columns differ from one band of rows to the next: not always a grid.
    parts = data.draw(st.permutations(parts))
    with tempfile.TemporaryDirectory() as directory:
        prefix = Path(directory) / "x"
        value = Partitioned(array.shape, np.int32, parts)
        write_bundle(prefix, [("k", value)], shards=data.draw(st.integers(1, 3)), fsync=False)
        with BundleReader(prefix) as reader:
            assert same(reader.read("k"), array)
            r = data.draw(st.integers(0, rows - 1))
            c = data.draw(st.integers(0, columns - 1))
            assert same(reader.read_slice("k", (r, c), (rows - r, 1)), array[r:, c : c + 1])
            reader.verify()


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=3))
def test_varints(value: int, after: bytes) -> None:
    data = encode_varint(value)
    assert decode_varint(data + after, 0, len(data)) == (value, len(data))


@given(st.dictionaries(st.binary(max_size=6), st.binary(max_size=200)), st.integers(1, 20))
def test_blocks(entries: dict[bytes, bytes], interval: int) -> None:
    rows = sorted(entries.items())
    builder = BlockBuilder(interval)
    for key, value in rows:
        builder.add(key, value)
    assert read_block(builder.finish(), None, 10**6) == rows


@given(st.dictionaries(st.binary(max_size=6), st.binary(max_size=20)))
def test_tables(entries: dict[bytes, bytes]) -> None:
    # Values of some 100 kB make several blocks.
    rows = [(key, value * 20000) for key, value in sorted(entries.items())]
    assert read_table(build_table(rows)) == rows


@given(st.binary(max_size=4), st.binary(max_size=4))
def test_separators(a: bytes, b: bytes) -> None:
    assert _successor(a) >= a
    if a != b:
        low, high = sorted((a, b))
        assert low <= _separator(low, high) < high


@given(
    st.integers(1, 33),
    st.lists(st.integers(0, 50), max_size=6),
    st.tuples(*[st.integers(0, (1 << 63) - 1)] * 3),
    st.integers(0, (1 << 32) - 1),
    st.lists(st.lists(EXTENTS, max_size=3).map(tuple), max_size=3),
)
def test_entries(
    dtype: int, shape: list[int], numbers: tuple[int, int, int], crc: int, slices: list[Any]
) -> None:
    entry = Entry("k", dtype, tuple(shape), *numbers, crc, tuple(slices))
    assert EntryDecoder().decode("k", EntryEncoder().encode(entry)) == entry


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_strings(values: list[bytes]) -> None:
    array = np.empty(len(values), object)
    array[:] = values
    data = encode_strings(array, "x").data
    sizes = decode_string_sizes(data, len(values), len(data), "little", "x")
    assert decode_strings(data, sizes).tolist() == values


KEY_PARTS = st.tuples(st.binary(max_size=4), st.lists(EXTENTS, min_size=2, max_size=2).map(tuple))


@given(KEY_PARTS, KEY_PARTS)
def test_keys_of_slices_are_ordered_as_what_they_code(a: Any, b: Any) -> None:
    left, right = encode_slice_key(*a), encode_slice_key(*b)
    assert (left < right) == (a < b)
    assert (left == right) == (a == b)


@given(
    st.lists(st.one_of(st.binary(min_size=1, max_size=90), st.tuples(*[st.integers(1, 64)] * 2)))
)
def test_snappy(elements: list[Any]) -> None:
    content = bytearray()
    encoded = bytearray()
    for element in elements:
        if isinstance(element, bytes):
            content += element
            size = len(element) - 1
            encoded += bytes((size << 2,)) if size < 60 else bytes((60 << 2, size))
            encoded += element
        elif content:
            distance, length = 1 + element[0] % len(content), element[1]
            for _ in range(length):
                content.append(content[-distance])
            encoded += bytes((length - 1 << 2 | 2,)) + distance.to_bytes(2, "little")
    assert decompress_snappy(encode_varint(len(content)) + bytes(encoded)) == content


@given(st.binary(max_size=60))
def test_snappy_of_anything_ends(data: bytes) -> None:
    with contextlib.suppress(ValueError, OSError):
        assert len(decompress_snappy(data)) <= 24 * len(data) + 64
