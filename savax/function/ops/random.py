"""JAX's keys and random bits in integer arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from savax.function.ops._registry import lowers
from savax.function.ops._sizes import product
from savax.function.ops.rbg_keys import halves, rbg_bits, unsafe_fold_in, unsafe_split

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
    high: Symbol
    if seeds.dtype.size == 8:
        unsigned = g.cast(seeds, "uint64")
        high = g.cast(g.op("RightShift", unsigned, g.scalar(32, unsigned)), "uint32")
    else:
        high = g.full(0, seeds.shape, "uint32")
    return _of_width(g, _joined(g, high, g.cast(seeds, "uint32")), g.out[0].shape[-1])


def _of_width(g: GraphBuilder, key: Symbol, words: int) -> Symbol:
    """Returns a seed's words, twice for generators whose keys have four."""
    return key if words == 2 else g.concat([key, key], -1)


@lowers("random_split")
def _lower_random_split(
    g: GraphBuilder, keys: Symbol, *, shape: Sequence[Any], operand_types: Any
) -> Symbol:
    shape = tuple(shape)
    kind = generator_name(operand_types)
    if kind == "unsafe_rbg":
        return unsafe_split(g, keys, shape)
    if kind == "threefry2x32":
        return _joined(g, *_words_for(g, keys, shape))
    split = _joined(g, *_words_for(g, halves(g, keys), shape))  # [*keys, 2, *shape, 2]
    lead, rank = keys.ndim - 1, split.ndim
    order = (*range(lead), *range(lead + 1, rank - 1), lead, rank - 1)
    return g.reshape(g.transpose(split, order), (*keys.shape[:-1], *shape, 4))


@lowers("random_fold_in")
def _lower_random_fold_in(
    g: GraphBuilder, keys: Symbol, data: Symbol, *, operand_types: Any
) -> Symbol:
    kind = generator_name(operand_types)
    if kind == "unsafe_rbg":
        seed = _joined(g, g.full(0, data.shape, "uint32"), data)
        return unsafe_fold_in(g, keys, _of_width(g, seed, 4))
    if kind == "threefry2x32":
        return _joined(g, *threefry_2x32(g, _key_words(g, keys), (g.scalar(0, data), data)))
    data = g.expand_dims(data, -1)
    words = threefry_2x32(g, _key_words(g, halves(g, keys)), (g.scalar(0, data), data))
    return g.reshape(_joined(g, *words), keys.shape)


@lowers("random_bits")
def _lower_random_bits(
    g: GraphBuilder, keys: Symbol, *, bit_width: int, shape: Sequence[Any], operand_types: Any
) -> Symbol:
    if generator_name(operand_types) != "threefry2x32":
        return rbg_bits(g, keys, bit_width, tuple(shape))
    high, low = _words_for(g, keys, tuple(shape))
    if bit_width == 64:
        high, low = g.cast(high, "uint64"), g.cast(low, "uint64")
        return g.op("BitwiseOr", g.op("LeftShift", high, g.scalar(32, high)), low)
    return g.cast(g.op("BitwiseXor", high, low), f"uint{bit_width}")


_GENERATORS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}


def generator_name(operand_types: Sequence[Any]) -> str:
    """Returns the name of the generator of the keys that a primitive takes first."""
    return _GENERATORS[str(operand_types[0].dtype)]


def _words_for(g: GraphBuilder, keys: Symbol, shape: tuple[Any, ...]) -> tuple[Symbol, Symbol]:
    """Returns two words per key and element of a shape: the counter is the element's position."""
    if not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        g.unsupported(
            "random numbers with JAX's flag jax_threefry_partitionable off, which gives other "
            "numbers; turn it on, as it is by default"
        )
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
