"""RandomIndexShuffle: where an index goes in a random order of all indices, without making it.

A block cipher permutes the numbers of its block size. What it makes of an index is encrypted anew
until it is an index of the order. The cipher is Simon (R. Beaulieu et al., "The Simon and Speck
families of lightweight block ciphers", 2013), with words of as many bits as the largest index
wants.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import InvalidArgumentError, ShapeMismatchError
from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from collections.abc import Sequence

_MIN_BLOCK_BITS = 16
_KEY_CONSTANT = 0xFFFFFFFC
_KEY_SEQUENCE = 0x7369F885192C0EF5


@evaluates("RandomIndexShuffle", static=("index", "seed", "max_index"))
def _random_index_shuffle(index: Any, seed: Any, max_index: Any, *, rounds: int) -> Any:
    if rounds < 4 or rounds % 2:
        raise InvalidArgumentError(f"RandomIndexShuffle: {rounds} rounds; expected 4, 6, ...")
    shape = _shape(index, seed, max_index)
    count = math.prod(shape)
    indices = np.broadcast_to(index, count).tolist()
    limits = np.broadcast_to(max_index, count).tolist()
    seeds = np.broadcast_to(seed, (count, 3)).tolist()
    found = [_shuffled(*each, rounds) for each in zip(indices, seeds, limits, strict=True)]
    return np.array(found, index.dtype).reshape(shape)


def _shape(index: Any, seed: Any, max_index: Any) -> tuple[int, ...]:
    if index.ndim > 1 or max_index.ndim > 1 or seed.ndim not in (1, 2) or seed.shape[-1] != 3:
        raise ShapeMismatchError(
            "RandomIndexShuffle takes scalars or vectors of indices and limits, and seeds of three "
            f"numbers, found the shapes {index.shape}, {max_index.shape} and {seed.shape}."
        )
    return np.broadcast_shapes(index.shape, max_index.shape, seed.shape[:-1])


def _shuffled(index: int, seed: Sequence[int], limit: int, rounds: int) -> int:
    if not 0 <= index <= limit:
        raise InvalidArgumentError(f"RandomIndexShuffle: the index {index} isn't in 0 to {limit}.")
    if limit == 0:
        return 0
    bits = math.ceil(math.log2(limit))
    bits = max(bits + bits % 2, _MIN_BLOCK_BITS) // 2
    keys = _round_keys([word & 0xFFFFFFFF for word in seed], rounds, bits)
    while True:
        index = _encrypted(index, keys, bits)
        if index <= limit:
            return index


def _round_keys(words: Sequence[int], rounds: int, bits: int) -> list[int]:
    mask = (1 << bits) - 1
    keys = [word & mask for word in words]
    sequence = _KEY_SEQUENCE & mask
    for i in range(3, rounds):
        turned = _rotated(keys[i - 1], -3, bits) ^ _rotated(keys[i - 1], -4, bits)
        keys.append((_KEY_CONSTANT & mask) ^ (sequence & 1) ^ keys[i - 3] ^ turned)
        sequence >>= 1
    return keys


def _encrypted(value: int, keys: Sequence[int], bits: int) -> int:
    mask = (1 << bits) - 1
    left, right = value >> bits & mask, value & mask
    for key in keys:
        left, right = right, left ^ _mixed(right, bits) ^ key
    return left << bits | right


def _mixed(word: int, bits: int) -> int:
    return _rotated(word, 1, bits) & _rotated(word, 8, bits) ^ _rotated(word, 2, bits)


def _rotated(word: int, places: int, bits: int) -> int:
    places %= bits
    return (word << places | word >> (bits - places)) & ((1 << bits) - 1)
