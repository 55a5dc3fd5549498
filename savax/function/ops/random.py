"""JAX's Threefry keys and random bits in integer arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from savax.function.ops._registry import lowers
from savax.function.ops._sizes import product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

# Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011): Threefry-2x32, 20 rounds.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry_2x32(
    g: GraphBuilder, key: tuple[Symbol, Symbol], count: tuple[Symbol, Symbol]
) -> tuple[Symbol, Symbol]:
    """Returns the two words that a key gives for a counter; all are uint32 and broadcast."""
    schedule = (*key, g.op("BitwiseXor", g.op("BitwiseXor", *key), g.scalar(_PARITY, key[0])))
    x, y = g.op("AddV2", count[0], schedule[0]), g.op("AddV2", count[1], schedule[1])
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = g.op("AddV2", x, y)
            y = g.op("BitwiseXor", x, _rotated(g, y, rotation))
        x = g.op("AddV2", x, schedule[(group + 1) % 3])
        injected = g.op("AddV2", schedule[(group + 2) % 3], g.scalar(group + 1, key[0]))
        y = g.op("AddV2", y, injected)
    return x, y


def _rotated(g: GraphBuilder, x: Symbol, distance: int) -> Symbol:
    left = g.op("LeftShift", x, g.scalar(distance, x))
    right = g.op("RightShift", x, g.scalar(32 - distance, x))
    return g.op("BitwiseOr", left, right)


@lowers("threefry2x32")
def _lower_threefry2x32(
    g: GraphBuilder, key0: Symbol, key1: Symbol, count0: Symbol, count1: Symbol
) -> tuple[Symbol, ...]:
    return threefry_2x32(g, (key0, key1), (count0, count1))


# Key arrays are uint32 arrays with the words of the key on the last axis.


@lowers("random_wrap")
def _lower_random_wrap(g: GraphBuilder, words: Symbol, *, impl: Any) -> Symbol:
    return words


@lowers("random_unwrap")
def _lower_random_unwrap(g: GraphBuilder, keys: Symbol) -> Symbol:
    return keys


@lowers("random_clone")
def _lower_random_clone(g: GraphBuilder, keys: Symbol) -> Symbol:
    return keys


@lowers("random_seed")
def _lower_random_seed(g: GraphBuilder, seeds: Symbol, *, impl: Any) -> Symbol:
    _require_threefry(g, g.out[0].shape[-1])
    high: Symbol
    if seeds.dtype.size == 8:
        unsigned = g.cast(seeds, "uint64")
        high = g.cast(g.op("RightShift", unsigned, g.scalar(32, unsigned)), "uint32")
    else:
        high = g.full(0, seeds.shape, "uint32")
    return _joined(g, high, g.cast(seeds, "uint32"))


@lowers("random_split")
def _lower_random_split(g: GraphBuilder, keys: Symbol, *, shape: Sequence[Any]) -> Symbol:
    return _joined(g, *_words_for(g, keys, tuple(shape)))


@lowers("random_fold_in")
def _lower_random_fold_in(g: GraphBuilder, keys: Symbol, data: Symbol) -> Symbol:
    _require_threefry(g, keys.shape[-1])
    count = g.scalar(0, data), data
    return _joined(g, *threefry_2x32(g, _key_words(g, keys), count))


@lowers("random_bits")
def _lower_random_bits(
    g: GraphBuilder, keys: Symbol, *, bit_width: int, shape: Sequence[Any]
) -> Symbol:
    high, low = _words_for(g, keys, tuple(shape))
    if bit_width == 64:
        high, low = g.cast(high, "uint64"), g.cast(low, "uint64")
        return g.op("BitwiseOr", g.op("LeftShift", high, g.scalar(32, high)), low)
    return g.cast(g.op("BitwiseXor", high, low), f"uint{bit_width}")


def _words_for(g: GraphBuilder, keys: Symbol, shape: tuple[Any, ...]) -> tuple[Symbol, Symbol]:
    """Returns two words per key and element of a shape: the counter is the element's position."""
    _require_threefry(g, keys.shape[-1])
    batch = keys.shape[:-1]
    size = product(shape)
    zero, one = np.array(0, np.int32), np.array(1, np.int32)
    # The counter has 64 bits in two words; positions of TensorFlow's tensors here need one.
    positions = g.cast(g.op("Range", zero, g.dim(size), one, shape=(size,)), "uint32")
    positions = g.reshape(positions, ((1,) * len(batch)) + shape)
    words = tuple(g.reshape(w, batch + (1,) * len(shape)) for w in _key_words(g, keys))
    high, low = threefry_2x32(g, (words[0], words[1]), (g.scalar(0, positions), positions))
    full = batch + shape
    return g.broadcast(high, full), g.broadcast(low, full)


def _key_words(g: GraphBuilder, keys: Symbol) -> tuple[Symbol, Symbol]:
    last = len(keys.shape) - 1
    halves = []
    for index in range(2):
        starts = (0,) * last + (index,)
        word = g.slice(keys, starts, (*keys.shape[:-1], index + 1))
        halves.append(g.squeeze(word, (last,)))
    return halves[0], halves[1]


def _joined(g: GraphBuilder, high: Symbol, low: Symbol) -> Symbol:
    return g.op("Pack", [high, low], axis=len(high.shape), shape=(*high.shape, 2))


def _require_threefry(g: GraphBuilder, words: int) -> None:
    if words != 2:  # the other generators are XLA's own
        g.unsupported("random bits of a generator other than threefry2x32")
