"""The values of an index file: the header and one entry per tensor, as protobuf bytes.

The messages (TensorFlow's ``tensor_bundle.proto``) are few and fixed, and a checkpoint may hold a
hundred thousand of them, so they are encoded and decoded here by hand.

    header    1 num_shards | 2 endianness: 0 little, 1 big | 3 version {1 producer 2 min_consumer
              3 bad_consumers}
    entry     1 dtype | 2 shape {2 dim {1 size} 3 unknown_rank} | 3 shard_id | 4 offset | 5 size
              | 6 fixed32 masked CRC | 7 slices {1 extent {1 start 2 length}}

Fields that are zero are left out, but ``shape`` is always there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from savax.errors import CorruptBundleError, InvalidArgumentError, UnsupportedError
from savax.trackable.bundle._limits import MAX_DIM, MAX_ELEMENTS, MAX_NUM_SHARDS, MAX_RANK
from savax.trackable.bundle._varint import decode_varint, encode_varint
from savax.types import DType, as_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PRODUCER = 1  # version of the format that is written, and the newest that is read

# (start, length) of one dim; length -1 is the whole dim.
Extent: TypeAlias = "tuple[int, int]"
SliceSpec: TypeAlias = "tuple[Extent, ...]"


class Header(NamedTuple):
    """What the entry with the empty key says about a bundle."""

    num_shards: int
    big_endian: bool = False
    producer: int = PRODUCER
    min_consumer: int = 0
    bad_consumers: tuple[int, ...] = ()


class Entry(NamedTuple):
    """Where a tensor is and what it holds.

    Attributes:
      key: checkpoint key.
      dtype_number: value of TensorFlow's ``DataType`` enum, known to savax or not.
      shape: sizes of the tensor.
      shard: number of the data file.
      offset_bytes: place of the first byte in the data file.
      size_bytes: bytes there.
      crc32c_masked: checksum of the bytes, masked.
      slices: where a tensor is stored in parts, which ones; such an entry has no bytes itself.
    """

    key: str
    dtype_number: int
    shape: tuple[int, ...]
    shard: int = 0
    offset_bytes: int = 0
    size_bytes: int = 0
    crc32c_masked: int = 0
    slices: tuple[SliceSpec, ...] = ()

    @property
    def dtype(self) -> DType:
        """The element type.

        Raises:
          UnsupportedError: TensorFlow's number is none that savax knows.
        """
        try:
            return as_dtype(self.dtype_number)
        except InvalidArgumentError as error:
            raise UnsupportedError(
                f"{self.key!r} has the element type {self.dtype_number}, which isn't known."
            ) from error

    @property
    def num_elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def encode_header(num_shards: int) -> bytes:
    """Returns the header of a little-endian bundle."""
    return b"\x08" + encode_varint(num_shards) + b"\x1a\x02\x08" + bytes((PRODUCER,))


def decode_header(data: bytes) -> Header:
    """Returns a bundle's header.

    Raises:
      CorruptBundleError: the bytes aren't a header, or hold impossible values.
      UnsupportedError: the bundle demands a newer reader.
    """
    num_shards = endianness = producer = min_consumer = 0
    bad_consumers: list[int] = []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            num_shards = value
        elif number == 2 and isinstance(value, int):
            endianness = value
        elif number == 3 and isinstance(value, bytes):
            for version_number, version in _fields(value):
                if version_number == 1 and isinstance(version, int):
                    producer = version
                elif version_number == 2 and isinstance(version, int):
                    min_consumer = version
                elif version_number == 3:
                    bad_consumers += _packed(version)
    if num_shards > MAX_NUM_SHARDS:
        raise CorruptBundleError(f"The index declares {num_shards} data files.")
    if endianness > 1:
        raise CorruptBundleError(f"The index declares the unknown byte order {endianness}.")
    if min_consumer > PRODUCER or PRODUCER in bad_consumers:
        raise UnsupportedError(
            f"The checkpoint's format has version {producer} and demands a reader of version "
            f"{min_consumer} other than {bad_consumers}; savax reads version {PRODUCER}."
        )
    return Header(num_shards, endianness == 1, producer, min_consumer, tuple(bad_consumers))


def _packed(value: int | bytes) -> Iterator[int]:
    if isinstance(value, int):
        yield value
        return
    position = 0
    while position < len(value):
        number, position = decode_varint(value, position, len(value))
        yield number


class EntryEncoder:
    """Encodes entries; what equal dtypes and shapes have in common is encoded once."""

    def __init__(self) -> None:
        self._prefixes: dict[tuple[int, tuple[int, ...]], bytes] = {}

    def encode(self, entry: Entry) -> bytes:
        """Returns the bytes of an entry."""
        shape_key = (entry.dtype_number, entry.shape)
        prefix = self._prefixes.get(shape_key)
        if prefix is None:
            prefix = self._prefixes[shape_key] = _encode_prefix(*shape_key)
        parts = [prefix]
        if entry.shard:
            parts += (b"\x18", encode_varint(entry.shard))
        if entry.offset_bytes:
            parts += (b"\x20", encode_varint(entry.offset_bytes))
        if entry.size_bytes:
            parts += (b"\x28", encode_varint(entry.size_bytes))
        if entry.crc32c_masked:
            parts += (b"\x35", entry.crc32c_masked.to_bytes(4, "little"))
        parts += [_sized(b"\x3a", _encode_slice(spec)) for spec in entry.slices]
        return b"".join(parts)


def _encode_prefix(dtype_number: int, shape: Sequence[int]) -> bytes:
    dims = b"".join(_sized(b"\x12", b"\x08" + encode_varint(d) if d else b"") for d in shape)
    return b"\x08" + encode_varint(dtype_number) + _sized(b"\x12", dims)


def _encode_slice(spec: SliceSpec) -> bytes:
    extents = []
    for start, length in spec:
        extent = b"\x08" + encode_varint(start) if start else b""
        if length >= 0:  # in a oneof: written even if 0
            extent += b"\x10" + encode_varint(length)
        extents.append(_sized(b"\x0a", extent))
    return b"".join(extents)


def _sized(tag: bytes, content: bytes) -> bytes:
    return tag + encode_varint(len(content)) + content


class EntryDecoder:
    """Decodes entries; equal bytes of dtype and shape are decoded once."""

    def __init__(self) -> None:
        self._prefixes: dict[bytes, tuple[int, tuple[int, ...]]] = {}

    def decode(self, key: str, data: bytes) -> Entry:
        """Returns the entry that some bytes describe.

        Raises:
          CorruptBundleError: the bytes aren't an entry, or its shape is impossible.
        """
        # Nearly every entry begins: tag, dtype below 128, tag, size of shape below 128, shape.
        split = 0
        if len(data) > 3 and data[0] == 0x08 and data[1] < 0x80 and data[2] == 0x12:
            split = 4 + data[3] if data[3] < 0x80 else 0
        prefix = data[:split]
        known = self._prefixes.get(prefix)
        if known is None:
            known = self._prefixes[prefix] = _decode_prefix(prefix)
        dtype_number, shape = known
        shard = offset = size = crc = 0
        position, end = split, len(data)
        while position < end:
            tag = data[position]
            if tag == 0x20:
                offset, position = decode_varint(data, position + 1, end)
            elif tag == 0x28:
                size, position = decode_varint(data, position + 1, end)
            elif tag == 0x35 and end - position >= 5:
                crc = int.from_bytes(data[position + 1 : position + 5], "little")
                position += 5
            elif tag == 0x18:
                shard, position = decode_varint(data, position + 1, end)
            else:
                break
        slices: list[SliceSpec] = []
        for number, value in _fields(data, position) if position < end else ():
            if isinstance(value, int):
                if number == 5:
                    size = value
                elif number == 4:
                    offset = value
                elif number == 6:
                    crc = value
                elif number == 3:
                    shard = value
                elif number == 1:
                    dtype_number = value
            elif number == 7:
                slices.append(_decode_slice(value))
            elif number == 2:
                shape = _joined_shape(shape, value)
        if math.prod(dim or 1 for dim in shape) > MAX_ELEMENTS:
            raise CorruptBundleError(f"{key!r} has the impossible shape {shape}.")
        return Entry(key, dtype_number, shape, shard, offset, size, crc, tuple(slices))


def _decode_prefix(data: bytes) -> tuple[int, tuple[int, ...]]:
    dtype_number = 0
    shape: tuple[int, ...] = ()
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            dtype_number = value
        elif number == 2 and isinstance(value, bytes):
            shape = _joined_shape(shape, value)
    return dtype_number, shape


def _joined_shape(shape: tuple[int, ...], data: bytes) -> tuple[int, ...]:
    """Returns a shape with the dims of a further message, as protobuf merges a repeated one."""
    joined = shape + _decode_shape(data)
    # Checked at once, as thousands of messages would take quadratic time.
    if len(joined) > MAX_RANK:
        raise CorruptBundleError(
            f"A stored tensor has {len(joined)} dims; at most {MAX_RANK} may be."
        )
    return joined


def _decode_shape(data: bytes) -> tuple[int, ...]:
    shape = []
    for number, value in _fields(data):
        if number == 2 and isinstance(value, bytes):
            size = 0
            for dim_number, dim in _fields(value):
                if dim_number == 1 and isinstance(dim, int):
                    size = dim
            if size > MAX_DIM:
                raise CorruptBundleError("A stored tensor has a negative or unknown dim.")
            shape.append(size)
        elif number == 3 and value:
            raise CorruptBundleError("A stored tensor has an unknown rank.")
    return tuple(shape)


def _decode_slice(data: bytes) -> SliceSpec:
    extents = []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            start, length = 0, -1
            for extent_number, extent in _fields(value):
                if extent_number == 1 and isinstance(extent, int):
                    start = extent
                elif extent_number == 2 and isinstance(extent, int):
                    length = extent
            if start > MAX_DIM or length > MAX_DIM:
                raise CorruptBundleError("A slice has a negative start or length.")
            extents.append((start, length))
    return tuple(extents)


def _fields(data: bytes, position: int = 0) -> Iterator[tuple[int, int | bytes]]:
    """Yields the field numbers and raw values of a protobuf message."""
    end = len(data)
    while position < end:
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = decode_varint(data, position - 1, end)
        kind = tag & 7
        if kind == 0:
            if position < end and data[position] < 0x80:
                value = data[position]
                position += 1
            else:
                value, position = decode_varint(data, position, end)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, position = decode_varint(data, position, end)
        elif kind == 5 or kind == 1:
            size = 4 if kind == 5 else 8
        else:
            raise CorruptBundleError(f"A message of the index has the unknown wire type {kind}.")
        if size > end - position:
            raise CorruptBundleError("A message of the index is cut off.")
        raw = data[position : position + size]
        position += size
        yield tag >> 3, raw if kind == 2 else int.from_bytes(raw, "little")
