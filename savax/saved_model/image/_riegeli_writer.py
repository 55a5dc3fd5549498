"""Writing Riegeli files: each record is a chunk of its own, without compression."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from savax.saved_model.image._highway_hash import LANES, highway_hashes
from savax.saved_model.image._riegeli_layout import (
    BLOCK_BYTES,
    BLOCK_HEADER,
    BLOCK_HEADER_BYTES,
    CHUNK_HEADER,
    FILE_SIGNATURE,
    HASH_BYTES,
    SIMPLE,
    chunk_end,
    first_block,
)
from savax.trackable.bundle._varint import encode_varint

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_WAITING = 64 << 20  # bytes of records


class RecordWriter:
    """Appends records to a file, after ``flush`` all that were added.

    Attributes:
      positions: of the records that were written, in the order in which they were added.

    Args:
      file: an empty binary file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.positions: list[int] = []
        self._file = file
        self._position = len(FILE_SIGNATURE)
        self._waiting: list[tuple[int, bytes]] = []  # sizes of records, and chunks' data
        self._waiting_bytes = 0
        file.write(FILE_SIGNATURE)

    def add(self, record: bytes | memoryview, prefix: bytes = b"") -> None:
        """Adds a record, which waits for others to be hashed with.

        Args:
          record: its content.
          prefix: what comes before that.
        """
        size = len(prefix) + len(record)
        if self._waiting and (
            len(self._waiting) == LANES or self._waiting_bytes + size > _MOST_WAITING
        ):
            self.flush()
        # No compression, sizes, values.
        sizes = encode_varint(size)
        data = b"".join((b"\0", encode_varint(len(sizes)), sizes, prefix, record))
        self._waiting.append((size, data))
        self._waiting_bytes += size

    def flush(self) -> None:
        """Writes the records that wait."""
        kind = SIMPLE | 1 << 8
        hashes = highway_hashes([data for _, data in self._waiting])
        headers = [
            CHUNK_HEADER.pack(0, len(data), data_hash, kind, size)[HASH_BYTES:]
            for (size, data), data_hash in zip(self._waiting, hashes, strict=True)
        ]
        begins, ends = [], []
        position = self._position
        for _, data in self._waiting:
            begins.append(position)
            position = chunk_end(position, len(data), 1)
            ends.append(position)
        blocks = _block_headers(begins, ends)
        for begin, end, header, value, (_, data) in zip(
            begins, ends, headers, highway_hashes(headers), self._waiting, strict=True
        ):
            chunk = memoryview(value.to_bytes(HASH_BYTES, "little") + header + data)
            self._write_chunk(begin, end, chunk, blocks)
        self._position = position
        self.positions += begins
        self._waiting, self._waiting_bytes = [], 0

    def _write_chunk(
        self, position: int, end: int, chunk: memoryview, blocks: dict[int, bytes]
    ) -> None:
        written = 0
        while position < end:
            if position % BLOCK_BYTES == 0:
                self._file.write(blocks[position])
                position += BLOCK_HEADER_BYTES
            size = min(BLOCK_BYTES - position % BLOCK_BYTES, end - position)
            part = chunk[written : written + size]
            self._file.write(part)
            self._file.write(bytes(size - len(part)))
            written += len(part)
            position += size


def _block_headers(begins: Sequence[int], ends: Sequence[int]) -> dict[int, bytes]:
    """Returns the block headers that interrupt chunks, by position."""
    found = {}
    for begin, end in zip(begins, ends, strict=True):
        for block in range(first_block(begin), end, BLOCK_BYTES):
            found[block] = BLOCK_HEADER.pack(0, block - begin, end - block)[HASH_BYTES:]
    hashes = highway_hashes(list(found.values()))
    return {
        block: value.to_bytes(HASH_BYTES, "little") + rest
        for (block, rest), value in zip(found.items(), hashes, strict=True)
    }
