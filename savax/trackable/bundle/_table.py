"""Index files: a LevelDB table of sorted keys and values, uncompressed as TensorFlow writes it.

    file      data blocks | metaindex block | index block | footer
    block     content | type: 0 plain, 1 snappy | u32 masked CRC of content and type
    footer    handle of metaindex | handle of index | zeros to 40 bytes | magic
    handle    varint offset | varint size without the 5 bytes of the trailer

The index block has one entry per data block: a key between the block's last key and the next
block's first one, and the block's handle. The metaindex block is empty.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from savax.errors import CorruptBundleError
from savax.trackable.bundle._block import BlockBuilder, read_block
from savax.trackable.bundle._crc32c import crc32c, mask_crc32c
from savax.trackable.bundle._limits import KEY_BYTES_FLOOR, KEY_BYTES_PER_INDEX_BYTE
from savax.trackable.bundle._snappy import decompress_snappy
from savax.trackable.bundle._varint import decode_varint, encode_varint

if TYPE_CHECKING:
    from collections.abc import Iterable

# TensorFlow's settings; they decide every byte of the file.
_BLOCK_BYTES = 262144
_LONE_ENTRY_BYTES = 524288
_RESTART_INTERVAL = 16

_TRAILER_BYTES = 5
_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57
_PLAIN, _SNAPPY = 0, 1


def build_table(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Returns the bytes of a table, the same that TensorFlow writes for these entries.

    Args:
      entries: keys and values, strictly ascending by key.
    """
    writer = _TableWriter()
    for key, value in entries:
        writer.add(key, value)
    return writer.finish()


class _TableWriter:
    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._offset = 0
        self._data_block = BlockBuilder(_RESTART_INTERVAL)
        self._index_block = BlockBuilder(1)
        self._last_key = b""
        self._pending_handle: bytes | None = None  # of a block whose successor's key isn't known

    def add(self, key: bytes, value: bytes) -> None:
        if self._data_block and len(key) + len(value) >= _LONE_ENTRY_BYTES:
            self._flush()
        if self._pending_handle is not None:
            self._index_block.add(_separator(self._last_key, key), self._pending_handle)
            self._pending_handle = None
        self._data_block.add(key, value)
        self._last_key = key
        if self._data_block.size_bytes >= _BLOCK_BYTES:
            self._flush()

    def finish(self) -> bytes:
        if self._data_block:
            self._flush()
        metaindex_handle = self._write_block(BlockBuilder(_RESTART_INTERVAL))
        if self._pending_handle is not None:
            self._index_block.add(_successor(self._last_key), self._pending_handle)
        handles = metaindex_handle + self._write_block(self._index_block)
        magic = _MAGIC.to_bytes(8, "little")
        self._parts.append(handles.ljust(_FOOTER_BYTES - len(magic), b"\0") + magic)
        return b"".join(self._parts)

    def _flush(self) -> None:
        self._pending_handle = self._write_block(self._data_block)
        self._data_block.clear()

    def _write_block(self, block: BlockBuilder) -> bytes:
        content = block.finish()
        handle = encode_varint(self._offset) + encode_varint(len(content))
        typed = content + bytes((_PLAIN,))
        self._parts += (typed, struct.pack("<I", mask_crc32c(crc32c(typed))))
        self._offset += len(typed) + 4
        return handle


def _separator(key: bytes, next_key: bytes) -> bytes:
    """Returns a short key that is >= ``key`` and < ``next_key``, as LevelDB chooses it."""
    for i, (a, b) in enumerate(zip(key, next_key, strict=False)):
        if a != b:
            return key[:i] + bytes((a + 1,)) if a + 1 < b else key
    return key


def _successor(key: bytes) -> bytes:
    """Returns a short key that is >= ``key``, as LevelDB chooses it."""
    for i, byte in enumerate(key):
        if byte != 0xFF:
            return key[:i] + bytes((byte + 1,))
    return key


def read_table(data: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the keys and values of a table, ascending by key.

    Everything that the bytes claim is checked before it is used: the places of blocks, checksums,
    the order of keys, and what they add up to.

    Args:
      data: the whole file.

    Raises:
      CorruptBundleError: the bytes aren't a table, or are damaged.
      ResourceLimitError: they ask for more memory than their size justifies.
    """
    metaindex, index, end = _read_footer(data)
    _read_block_bytes(data, metaindex, end)
    _read_block_bytes(data, index, end)
    key_budget = KEY_BYTES_FLOOR + KEY_BYTES_PER_INDEX_BYTE * len(data)
    entries: list[tuple[bytes, bytes]] = []
    last_key: bytes | None = None
    data_end = 0
    for separator, value in read_block(_read_block_bytes(data, index, end), None, key_budget):
        handle, _ = _read_handle(value, 0, len(value))
        if handle[0] < data_end:
            raise CorruptBundleError("The blocks of the index overlap or aren't in order.")
        data_end = sum(handle) + _TRAILER_BYTES
        block = read_block(_read_block_bytes(data, handle, metaindex[0]), last_key, key_budget)
        if block and block[-1][0] > separator:
            raise CorruptBundleError("A block of the index ends behind its separator.")
        key_budget -= sum(len(key) for key, _ in block)
        last_key = separator
        entries += block
    return entries


def _read_footer(data: bytes) -> tuple[tuple[int, int], tuple[int, int], int]:
    end = len(data) - _FOOTER_BYTES
    if end < 0:
        raise CorruptBundleError(f"A file of {len(data)} bytes is too short for an index.")
    if int.from_bytes(data[-8:], "little") != _MAGIC:
        raise CorruptBundleError("The file doesn't end as an index does (bad magic number).")
    metaindex, position = _read_handle(data, end, len(data) - 8)
    index, _ = _read_handle(data, position, len(data) - 8)
    if sum(metaindex) + _TRAILER_BYTES > index[0]:
        raise CorruptBundleError("The blocks of the index overlap or aren't in order.")
    return metaindex, index, end


def _read_handle(data: bytes, position: int, end: int) -> tuple[tuple[int, int], int]:
    offset, position = decode_varint(data, position, end)
    size, position = decode_varint(data, position, end)
    return (offset, size), position


def _read_block_bytes(data: bytes, handle: tuple[int, int], end: int) -> bytes:
    offset, size = handle
    stop = offset + size + _TRAILER_BYTES
    if stop > end:
        raise CorruptBundleError(f"A block of the index ends at byte {stop}, past byte {end}.")
    kind = data[offset + size]
    (masked,) = struct.unpack_from("<I", data, stop - 4)
    if mask_crc32c(crc32c(data[offset : stop - 4])) != masked:
        raise CorruptBundleError(f"The block of the index at byte {offset} has a bad checksum.")
    content = data[offset : offset + size]
    if kind == _PLAIN:
        return content
    if kind == _SNAPPY:
        return decompress_snappy(content)
    raise CorruptBundleError(f"A block of the index has the unknown compression {kind}.")
