"""Blocks of an index file: sorted entries whose keys share prefixes, and restart points.

    entry    varint shared | varint unshared | varint value size | rest of the key | value
    block    entries | u32 offset of each restart point | u32 number of restart points

The key of an entry is the first ``shared`` bytes of the key before it, then its own rest. At a
restart point nothing is shared. All fixed-size integers are little-endian.
"""

from __future__ import annotations

import struct

from savax.errors import CorruptBundleError, ResourceLimitError
from savax.trackable.bundle._limits import MAX_KEY_BYTES
from savax.trackable.bundle._varint import decode_varint, encode_varint


class BlockBuilder:
    """Collects entries, in ascending order of their keys, into the bytes of a block.

    Args:
      restart_interval: number of entries from one restart point to the next.
    """

    def __init__(self, restart_interval: int) -> None:
        self._restart_interval = restart_interval
        self.clear()

    def clear(self) -> None:
        """Starts the next block."""
        self._parts: list[bytes] = []
        self._restarts = [0]
        self._since_restart = 0
        self._last_key = b""
        self._entry_bytes = 0

    def __bool__(self) -> bool:
        return self._entry_bytes > 0

    @property
    def size_bytes(self) -> int:
        """Size that the block would have now."""
        return self._entry_bytes + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        """Appends an entry."""
        if self._since_restart == self._restart_interval:
            self._restarts.append(self._entry_bytes)
            self._since_restart = 0
            shared = 0
        else:
            shared = _shared_prefix(self._last_key, key)
        unshared = len(key) - shared
        value_bytes = len(value)
        if shared < 0x80 and unshared < 0x80 and value_bytes < 0x80:
            head = bytes((shared, unshared, value_bytes))
        else:
            head = encode_varint(shared) + encode_varint(unshared) + encode_varint(value_bytes)
        self._parts += (head, key[shared:], value)
        self._entry_bytes += len(head) + unshared + value_bytes
        self._since_restart += 1
        self._last_key = key

    def finish(self) -> bytes:
        """Returns the block."""
        restarts = self._restarts
        self._parts.append(struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)))
        return b"".join(self._parts)


def _shared_prefix(a: bytes, b: bytes) -> int:
    # One big XOR is several times faster than a loop over bytes.
    size = min(len(a), len(b))
    difference = int.from_bytes(a[:size], "big") ^ int.from_bytes(b[:size], "big")
    return size - (difference.bit_length() + 7) // 8


def read_block(block: bytes, last_key: bytes | None, key_budget: int) -> list[tuple[bytes, bytes]]:
    """Returns the entries of a block.

    Args:
      block: the uncompressed block, without its trailer.
      last_key: key that all keys must be greater than; None for the first block.
      key_budget: bytes that the keys may take together.

    Raises:
      CorruptBundleError: the block breaks the layout, or its keys don't ascend.
      ResourceLimitError: the keys are longer than they may be.
    """
    restarts, end = _read_restarts(block)
    restarts.append(-1)  # never reached
    next_restart = iter(restarts)
    restart = next(next_restart)
    entries: list[tuple[bytes, bytes]] = []
    key = b""
    position = 0
    while position < end:
        at_restart = position == restart
        # Sizes below 128, nearly all of them, are single bytes.
        head = block[position : position + 3]
        if position + 3 <= end and head[0] < 0x80 and head[1] < 0x80 and head[2] < 0x80:
            shared, unshared, value_bytes = head
            position += 3
        else:
            shared, position = decode_varint(block, position, end)
            unshared, position = decode_varint(block, position, end)
            value_bytes, position = decode_varint(block, position, end)
        if shared > len(key) or unshared + value_bytes > end - position:
            raise CorruptBundleError("An index entry passes the end of its block or of its key.")
        if at_restart:
            if shared:
                raise CorruptBundleError("An index entry at a restart point shares a prefix.")
            restart = next(next_restart)
        key_end = position + unshared
        key = key[:shared] + block[position:key_end]
        position = key_end + value_bytes
        if last_key is not None and key <= last_key:
            raise CorruptBundleError(f"The index key {key!r} follows {last_key!r}: out of order.")
        last_key = key
        key_budget -= shared + unshared
        if key_budget < 0 or shared + unshared > MAX_KEY_BYTES:
            raise ResourceLimitError("The keys of the index are longer than its size justifies.")
        entries.append((key, block[key_end:position]))
    if restart != -1 and entries:
        raise CorruptBundleError("A restart point of an index block isn't at an entry.")
    return entries


def _read_restarts(block: bytes) -> tuple[list[int], int]:
    if len(block) < 8:
        raise CorruptBundleError(f"An index block has only {len(block)} bytes.")
    (count,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 * (count + 1)
    if count < 1 or end < 0:
        raise CorruptBundleError(f"An index block declares {count} restart points.")
    return list(struct.unpack_from(f"<{count}I", block, end)), end
