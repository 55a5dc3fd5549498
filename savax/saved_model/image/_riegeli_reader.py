"""Reading Riegeli files; every size is checked before it is believed, and every hash too."""

from __future__ import annotations

import bisect
import os
from typing import TYPE_CHECKING, NamedTuple

from savax.errors import CorruptSavedModelError, ResourceLimitError, UnsupportedError
from savax.saved_model.image._compression import decompressed
from savax.saved_model.image._highway_hash import LANES, highway_hashes
from savax.saved_model.image._riegeli_layout import (
    BLOCK_BYTES,
    BLOCK_HEADER_BYTES,
    CHUNK_HEADER,
    FILE_SIGNATURE,
    HASH_BYTES,
    METADATA,
    PADDING,
    SIGNATURE,
    SIMPLE,
    TRANSPOSED,
    chunk_end,
)
from savax.trackable.bundle._varint import decode_varint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What a file may grow to when it is decompressed. Arrays that are so much smaller when compressed
# are all zeros, nearly, and those are written as one value.
_MOST_RATIO = 256
_RATIO_FLOOR = 64 << 20
# One chunk alone is hashed at 4 MB a second. Only constants that aren't of floats are larger.
_MOST_HASHED = 64 << 20
_MOST_AHEAD = 64 << 20  # bytes of chunks that are read and hashed before they are asked for
# A chunk is read again if records of others come between its own.
_MOST_READ = 4
_READ_FLOOR = 16 << 20


class _Chunk(NamedTuple):
    begin: int
    data_size: int
    data_hash: int
    kind: int
    num_records: int
    decoded_size: int


class RecordFile:
    """The records of a file.

    Args:
      fd: an open file; whoever opened it closes it.
      what: names the file in errors.

    Raises:
      CorruptSavedModelError: it is no such file, or is damaged.
      ResourceLimitError: its records would be far larger than the file.
    """

    def __init__(self, fd: int, what: str) -> None:
        self._fd = fd
        self._what = what
        self._size = os.fstat(fd).st_size
        if os.pread(fd, len(FILE_SIGNATURE), 0) != FILE_SIGNATURE:
            raise self._corrupt("doesn't begin as Riegeli files do")
        self._chunks = [chunk for chunk in self._scan() if chunk.num_records]
        self._begins = [chunk.begin for chunk in self._chunks]
        self.decoded_size = sum(chunk.decoded_size for chunk in self._chunks)
        if self.decoded_size > max(_RATIO_FLOOR, _MOST_RATIO * self._size):
            raise ResourceLimitError(
                f"{what} of {self._size} bytes has records of {self.decoded_size}."
            )
        self._decoded: tuple[int, list[bytes]] | None = None
        self._expected = bytearray(len(self._chunks))  # chunks that may be read ahead
        self._checked: dict[int, bytes] = {}
        self._left = _MOST_READ * (self._size + self.decoded_size) + _READ_FLOOR

    def last(self) -> bytes:
        """Returns the last record."""
        if not self._chunks:
            raise self._corrupt("has no records")
        chunk = self._chunks[-1]
        return self.read(chunk.begin + chunk.num_records - 1)

    def expect(self, positions: Iterable[int]) -> None:
        """Tells which records will be read, so that chunks next to each other are hashed together.

        Args:
          positions: of records; what is wrong with one is told when it is read.
        """
        for position in positions:
            number = bisect.bisect_right(self._begins, position) - 1
            if number >= 0:
                self._expected[number] = True

    def read(self, position: int) -> bytes:
        """Returns the record at a position."""
        number, index = self._find(position)
        chunk = self._chunks[number]
        if self._decoded is None or self._decoded[0] != chunk.begin:
            if chunk.begin not in self._checked:
                self._check_from(number)
            self._decoded = chunk.begin, self._records(chunk, self._checked.pop(chunk.begin))
        return self._decoded[1][index]

    def _check_from(self, number: int) -> None:
        """Reads a chunk, and those that follow if they are expected, and compares their hashes."""
        end, size = number, 0
        while end < len(self._chunks) and end - number < LANES:
            size += self._chunks[end].data_size
            if end > number and (size > _MOST_AHEAD or not self._expected[end]):
                break
            self._expected[end] = False  # once only, in whatever order records are read
            end += 1
        chunks = self._chunks[number:end]
        self._checked.clear()
        self._checked.update((chunk.begin, self._read(chunk)) for chunk in chunks)
        hashed = [chunk for chunk in chunks if chunk.data_size <= _MOST_HASHED]
        hashes = highway_hashes([self._checked[chunk.begin] for chunk in hashed])
        for chunk, value in zip(hashed, hashes, strict=True):
            if chunk.data_hash != value:
                self._checked.clear()
                raise self._corrupt(f"is damaged: the checksum of the chunk at {chunk.begin}")

    def _find(self, position: int) -> tuple[int, int]:
        """Returns the number of a record's chunk, and its index there."""
        found = bisect.bisect_right(self._begins, position) - 1
        if found < 0 or position - self._begins[found] >= self._chunks[found].num_records:
            raise self._corrupt(f"has no record at {position}")
        return found, position - self._begins[found]

    def _scan(self) -> Iterator[_Chunk]:
        end = 0
        while end < self._size:
            # Where a chunk begins follows from the headers before it, which are hashed together.
            chunks: list[_Chunk] = []
            headers: list[bytes] = []
            while end < self._size and len(chunks) < LANES:
                begin, header = end, self._bytes(end, CHUNK_HEADER.size)
                if len(header) < CHUNK_HEADER.size:
                    end = self._size + 1
                    break
                _, data_size, data_hash, kind, decoded_size = CHUNK_HEADER.unpack(header)
                chunk = _Chunk(begin, data_size, data_hash, kind & 0xFF, kind >> 8, decoded_size)
                end = chunk_end(begin, data_size, chunk.num_records)
                chunks.append(chunk)
                headers.append(header)
            hashes = highway_hashes([header[HASH_BYTES:] for header in headers])
            for chunk, header, value in zip(chunks, headers, hashes, strict=True):
                if value != int.from_bytes(header[:HASH_BYTES], "little"):
                    raise self._corrupt(f"is damaged: the header of the chunk at {chunk.begin}")
            if end > self._size:
                raise self._corrupt(f"ends within the chunk at {begin}")
            yield from chunks

    def _bytes(self, position: int, size: int, skipped: int = 0) -> bytes:
        """Returns bytes of the chunk that begins at a position, without the block headers."""
        parts = []
        wanted = skipped + size
        while wanted > 0:
            if position % BLOCK_BYTES == 0:
                position += BLOCK_HEADER_BYTES
            here = min(BLOCK_BYTES - position % BLOCK_BYTES, wanted)
            if skipped >= here:
                skipped -= here
            else:
                part = os.pread(self._fd, here - skipped, position + skipped)
                parts.append(part)
                if len(part) < here - skipped:
                    break
                skipped = 0
            wanted -= here
            position += here
        return b"".join(parts)

    def _read(self, chunk: _Chunk) -> bytes:
        self._left -= chunk.data_size + chunk.decoded_size
        if self._left < 0:
            raise ResourceLimitError(f"{self._what} uses the same chunks again and again.")
        data = self._bytes(chunk.begin, chunk.data_size, CHUNK_HEADER.size)
        if len(data) != chunk.data_size:
            raise self._corrupt(f"ends within the chunk at {chunk.begin}")
        return data

    def _records(self, chunk: _Chunk, data: bytes) -> list[bytes]:
        if chunk.kind == TRANSPOSED:
            raise UnsupportedError(
                f"{self._what} has transposed chunks, which savax doesn't read; write it without "
                "Riegeli's option 'transpose'."
            )
        if chunk.kind != SIMPLE:
            known = chunk.kind in (SIGNATURE, METADATA, PADDING)
            what = "has no records" if known else f"is of the unknown type {chunk.kind}"
            raise self._corrupt(f"refers to the chunk at {chunk.begin}, which {what}")
        try:
            return self._simple_records(chunk, data)
        except CorruptSavedModelError:
            raise
        except (IndexError, ValueError) as error:
            raise self._corrupt(
                f"has a chunk at {chunk.begin} that makes no sense: {error}"
            ) from None

    def _simple_records(self, chunk: _Chunk, data: bytes) -> list[bytes]:
        method = data[0]
        sizes_size, start = decode_varint(data, 1, len(data))
        if sizes_size > len(data) - start:
            raise ValueError("its sizes are cut off")
        # No size takes more than ten bytes.
        most = min(10 * chunk.num_records, _MOST_RATIO * self._size)
        encoded = decompressed(data[start : start + sizes_size], method, most, self._what)
        sizes, position = [], 0
        for _ in range(chunk.num_records):
            size, position = decode_varint(encoded, position, len(encoded))
            sizes.append(size)
        if position != len(encoded) or sum(sizes) != chunk.decoded_size:
            raise ValueError("its sizes don't add up")
        values = data[start + sizes_size :]
        values = decompressed(values, method, chunk.decoded_size, self._what)
        if len(values) != chunk.decoded_size:
            raise ValueError(f"it has {len(values)} bytes, expected {chunk.decoded_size}")
        if len(sizes) == 1:
            return [values]
        records, position = [], 0
        for size in sizes:
            records.append(values[position : position + size])
            position += size
        return records

    def _corrupt(self, problem: str) -> CorruptSavedModelError:
        return CorruptSavedModelError(f"{self._what} {problem}.")
