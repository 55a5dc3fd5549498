"""HighwayHash of 64 bits, under the key of Riegeli files.

The algorithm reads one packet after the other, so a long message can't be spread over anything.
Many messages can: NumPy hashes them side by side, each in a lane of its arrays, a hundred times as
fast as one alone.
"""

from __future__ import annotations

import bisect
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_Words: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]

# "Riegeli/" and "records\n", twice.
_KEY = (0x2F696C6567656952, 0x0A7364726F636572) * 2
_MUL0 = (0xDBE6D5D5FE4CCE2F, 0xA4093822299F31D0, 0x13198A2E03707344, 0x243F6A8885A308D3)
_MUL1 = (0x3BD39E10CB0EF593, 0xC0ACF169B5F18A8C, 0xBE5466CF34E90C6C, 0x452821E638D01377)
_PACKET = 32
_MASK = (1 << 64) - 1
_LOW = 0xFFFFFFFF
_FEW = 3  # messages up to which plain integers are faster than NumPy

# Messages that are hashed side by side. An operation of NumPy takes half a microsecond to start,
# however few they are; with more, the state of all (128 bytes each) leaves the processor's cache.
LANES = 2048
_BLOCK_BYTES = 1024  # of each message, brought into order at a time

# How bytes of two neighbouring words are mixed. First they exchange bytes 4, 6 and 7; then each
# term is some bytes of a word, shifted. In each pair the even word is first, the odd one second.
_EXCHANGED = np.uint64(0xFFFF00FF00000000)


def _pairwise(even: int, odd: int) -> _Words:
    return np.array([[even], [odd], [even], [odd]], np.uint64)


_KEPT = _pairwise(0xFF0000, 0xFF00000000FF0000)
_SHIFTED_RIGHT = (
    (_pairwise(0xFFFF000000, 0xFFFF000000), np.uint64(24)),
    (_pairwise(0xFFFF0000000000, 0xFF0000000000), np.uint64(16)),
    (_pairwise(0xFF00000000000000, 0xFF000000000000), np.uint64(8)),
)
_SHIFTED_LEFT = (
    (_pairwise(0xFF00, 0xFF00), _pairwise(32, 24)),
    (_pairwise(0xFF, 0xFF), _pairwise(56, 48)),
)


def highway_hash(data: bytes | memoryview) -> int:
    """Returns the hash of one message."""
    return highway_hashes([data])[0]


def highway_hashes(messages: Sequence[bytes | memoryview]) -> list[int]:
    """Returns the hashes of messages; many at once are the fastest, of whatever lengths.

    Args:
      messages: bytes, or flat memoryviews of bytes.
    """
    result = [0] * len(messages)
    # Sorted by length, those which have packets left are neighbours.
    order = sorted(range(len(messages)), key=lambda index: len(messages[index]))
    for start in range(0, len(order), LANES):
        indices = order[start : start + LANES]
        hashes = _hash_together([memoryview(messages[index]) for index in indices])
        for index, value in zip(indices, hashes, strict=True):
            result[index] = value
    return result


def _last_packet(rest: memoryview) -> bytes:
    """Returns the packet that stands for the last bytes of a message, fewer than a packet."""
    size = len(rest)
    packet = bytearray(_PACKET)
    whole = size & ~3
    packet[:whole] = rest[:whole]
    if size & 16:
        packet[28:32] = rest[size - 4 :]
    elif size & 3:
        tail = rest[whole:]
        packet[16] = tail[0]
        packet[17] = tail[len(tail) >> 1]
        packet[18] = tail[-1]
    return bytes(packet)


# One message: plain integers.


def _initial_state() -> tuple[list[int], ...]:
    v0 = [m ^ k for m, k in zip(_MUL0, _KEY, strict=True)]
    v1 = [m ^ _swapped(k) for m, k in zip(_MUL1, _KEY, strict=True)]
    return v0, v1, list(_MUL0), list(_MUL1)


def _hash_alone(data: memoryview, state: Sequence[list[int]]) -> int:
    """Returns the hash of a message whose first packets, not part of ``data``, led to a state."""
    v0, v1, mul0, mul1 = state
    whole = len(data) // _PACKET * _PACKET
    for packet in struct.iter_unpack("<4Q", data[:whole]):
        _update(v0, v1, mul0, mul1, packet)
    size = len(data) - whole
    if size:
        for i in range(4):
            v0[i] = (v0[i] + (size << 32) + size) & _MASK
            low, high = v1[i] & _LOW, v1[i] >> 32
            v1[i] = _rotated(low, size) | _rotated(high, size) << 32
        packet = struct.unpack("<4Q", _last_packet(data[whole:]))
        _update(v0, v1, mul0, mul1, packet)
    for _ in range(4):
        permuted = (_swapped(v0[2]), _swapped(v0[3]), _swapped(v0[0]), _swapped(v0[1]))
        _update(v0, v1, mul0, mul1, permuted)
    return (v0[0] + v1[0] + mul0[0] + mul1[0]) & _MASK


def _swapped(word: int) -> int:
    return word >> 32 | (word & _LOW) << 32


def _rotated(half: int, by: int) -> int:
    return (half << by | half >> (32 - by)) & _LOW


def _update(
    v0: list[int], v1: list[int], mul0: list[int], mul1: list[int], packet: Sequence[int]
) -> None:
    for i in range(4):
        b = (v1[i] + mul0[i] + packet[i]) & _MASK
        a = v0[i]
        mul0[i] ^= (b & _LOW) * (a >> 32)
        a = (a + mul1[i]) & _MASK
        mul1[i] ^= (a & _LOW) * (b >> 32)
        v0[i], v1[i] = a, b
    _mix(v0, v1)
    _mix(v1, v0)


def _mix(to: list[int], source: list[int]) -> None:
    for i in (0, 2):
        even, odd = source[i], source[i + 1]
        # The reordered bytes of the two words, taken from their 16 bytes in a row.
        row = (even | odd << 64).to_bytes(16, "little")
        first = bytes((row[3], row[12], row[2], row[5], row[14], row[1], row[15], row[0]))
        second = bytes((row[11], row[4], row[10], row[13], row[9], row[6], row[8], row[7]))
        to[i] = (to[i] + int.from_bytes(first, "little")) & _MASK
        to[i + 1] = (to[i + 1] + int.from_bytes(second, "little")) & _MASK


# Many messages: each row of an array has a word of all of them, the shortest messages first.


def _hash_together(messages: Sequence[memoryview]) -> list[int]:
    counts = [len(message) // _PACKET for message in messages]
    lanes = _Lanes(len(messages))
    step = 0
    while len(counts) - (begin := bisect.bisect_right(counts, step)) > _FEW:
        for packet in _packets(messages[begin:], step):
            first = bisect.bisect_right(counts, step)
            if len(counts) - first <= _FEW:
                break
            lanes.update(packet[:, first - begin :], first)
            step += 1
    # What is longer than all others goes on alone.
    alone = [
        _hash_alone(messages[lane][step * _PACKET :], lanes.state(lane))
        for lane in range(begin, len(messages))
    ]
    rests = [message[_PACKET * count :] for message, count in zip(messages, counts, strict=True)]
    return lanes.hashes(rests)[:begin] + alone


def _packets(messages: Sequence[memoryview], step: int) -> _Words:
    """Returns next packets of messages, [packet, word, message]; zeros after a message's end."""
    begin = step * _PACKET
    end = min(begin + _BLOCK_BYTES, len(messages[-1]) // _PACKET * _PACKET)
    parts: list[bytes | memoryview] = [message[begin:end] for message in messages]
    if len(parts[0]) < end - begin:
        parts = [bytes(part).ljust(end - begin, b"\0") for part in parts]
    words = np.frombuffer(b"".join(parts), "<u8").reshape(len(parts), -1)
    return np.ascontiguousarray(words.T).reshape(-1, 4, len(parts))


class _Lanes:
    """The states of messages.

    Args:
      count: of messages.
    """

    def __init__(self, count: int) -> None:
        columns = np.array(_initial_state(), np.uint64)
        self._states = np.repeat(columns[:, :, None], count, axis=2)
        self._scratch = np.empty((2, 4, count), np.uint64)

    def state(self, lane: int) -> list[list[int]]:
        """Returns v0, v1, mul0 and mul1 of one message."""
        state: list[list[int]] = self._states[:, :, lane].tolist()
        return state

    def update(self, packet: _Words, first: int) -> None:
        """Reads a packet [word, message] of the messages from the first one on."""
        _update_all(self._states[:, :, first:], self._scratch[:, :, first:], packet)

    def hashes(self, rests: Sequence[memoryview]) -> list[int]:
        """Returns the hashes, given what follows the last whole packet of each message."""
        self._read_rests([(lane, rest) for lane, rest in enumerate(rests) if rest])
        for _ in range(4):
            permuted = self._states[0][[2, 3, 0, 1]]
            packet = permuted >> np.uint64(32) | permuted << np.uint64(32)
            self.update(packet, 0)
        hashes: list[int] = self._states[:, 0].sum(axis=0).tolist()
        return hashes

    def _read_rests(self, rests: Sequence[tuple[int, memoryview]]) -> None:
        if not rests:
            return
        lanes = [lane for lane, _ in rests]
        states = self._states[:, :, lanes]
        sizes = np.array([len(rest) for _, rest in rests], np.uint64)
        states[0] += (sizes << np.uint64(32)) + sizes
        low, high = states[1] & np.uint64(_LOW), states[1] >> np.uint64(32)
        states[1] = _rotated_all(low, sizes) | _rotated_all(high, sizes) << np.uint64(32)
        last = b"".join(_last_packet(rest) for _, rest in rests)
        packet = np.frombuffer(last, "<u8").reshape(-1, 4).T
        _update_all(states, self._scratch[:, :, : len(lanes)], packet)
        self._states[:, :, lanes] = states


def _rotated_all(halves: _Words, by: _Words) -> _Words:
    return (halves << by | halves >> np.uint64(32) - by) & np.uint64(_LOW)


def _update_all(states: _Words, scratch: _Words, packet: _Words) -> None:
    v0, v1, mul0, mul1 = states
    a, b = scratch
    v1 += mul0
    v1 += packet
    mul0 ^= _product(v1, v0, a, b)
    v0 += mul1
    mul1 ^= _product(v0, v1, a, b)
    _mix_all(v0, v1, a, b)
    _mix_all(v1, v0, a, b)


def _product(low: _Words, high: _Words, a: _Words, b: _Words) -> _Words:
    np.bitwise_and(low, np.uint64(_LOW), out=a)
    np.right_shift(high, np.uint64(32), out=b)
    return np.multiply(a, b, out=a)


def _mix_all(to: _Words, source: _Words, a: _Words, b: _Words) -> None:
    exchanged = b[:2]
    np.bitwise_xor(source[0::2], source[1::2], out=exchanged)
    exchanged &= _EXCHANGED
    np.bitwise_xor(source[0::2], exchanged, out=a[0::2])
    np.bitwise_xor(source[1::2], exchanged, out=a[1::2])
    to += np.bitwise_and(a, _KEPT, out=b)
    for mask, right in _SHIFTED_RIGHT:
        np.bitwise_and(a, mask, out=b)
        b >>= right
        to += b
    for mask, left in _SHIFTED_LEFT:
        np.bitwise_and(a, mask, out=b)
        b <<= left
        to += b
