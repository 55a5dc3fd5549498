"""XLA's generators of random bits, in integer arithmetic.

XLA's state is a key of 64 bits and a counter of 64 bits; JAX's keys hold them as four words of 32
bits, low ones first. Counters are positions of elements behind the state's own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import threefry2x32_p

from savax.function.ops._philox import halves, joined_words, words_of
from savax.function.ops._registry import lowers
from savax.function.ops._sizes import all_known, product
from savax.function.ops._slices import iota
from savax.function.ops._traced import traced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

    Words = tuple[jax.Array, ...]


@lowers("rng_bit_generator")
def _lower_rng_bit_generator(
    g: GraphBuilder, state: Symbol, *, shape: Sequence[Any], dtype: Any, algorithm: Any
) -> tuple[Symbol, ...]:
    sizes = tuple(shape)
    # XLA's CPU compiler takes Philox if nothing is asked for.
    generate = _threefry if algorithm.name == "RNG_THREE_FRY" else _philox
    if generate is _threefry and not all_known(shape):
        g.unsupported("bits by XLA's Threefry, whose order depends on which size is even")

    def bits(state: jax.Array) -> tuple[jax.Array, jax.Array]:
        words = _as_words(state)
        key, counter = joined_words(*words[:2]), joined_words(*words[2:])
        counter, bits = generate(key, counter, sizes, np.dtype(dtype))
        words = (*words[:2], *halves(counter))
        return _like(state, words), bits

    return tuple(traced(g, bits, state))


def _as_words(state: jax.Array) -> Words:
    """Returns a state, u32[4] or u64[2], as four words."""
    if state.dtype == jnp.uint32:
        return tuple(state[i] for i in range(4))
    return (*halves(state[0]), *halves(state[1]))


def _like(state: jax.Array, words: Words) -> jax.Array:
    if state.dtype == jnp.uint32:
        return jnp.stack(words)
    return jnp.stack([joined_words(*words[:2]), joined_words(*words[2:])])


def _positions(count: int) -> jax.Array:
    return lax.iota(jnp.uint32, count).astype(jnp.uint64)


def _threefry(
    key: jax.Array, counter: jax.Array, shape: tuple[int, ...], dtype: Any
) -> tuple[jax.Array, jax.Array]:
    """Returns the next counter and bits: a call gives two words, of which 64 bits take both."""
    if dtype == jnp.uint64:
        count = math.prod(shape)
        words = _threefry_words(key, counter + _positions(count))
        return counter + np.uint64(count), joined_words(*words).reshape(shape)
    # The two words of a call are neighbours along the first even axis, or else the longest.
    sizes = shape or (1,)
    at = next((i for i, size in enumerate(sizes) if size % 2 == 0), int(np.argmax(sizes)))
    before, after = sizes[:at], sizes[at + 1 :]
    half = (sizes[at] + 1) // 2
    count = math.prod((*before, half, *after))
    words = _threefry_words(key, counter + _positions(count))
    pairs = jnp.stack([word.reshape((*before, half, *after)) for word in words], axis=at + 1)
    doubled = pairs.reshape((*before, 2 * half, *after))
    bits = lax.slice_in_dim(doubled, 0, sizes[at], axis=at).reshape(shape)
    return counter + np.uint64(count), bits.astype(dtype)


def _threefry_words(key: jax.Array, counters: jax.Array) -> Words:
    low, high = halves(key)
    first, second = halves(counters)
    low, high = jnp.broadcast_to(low, first.shape), jnp.broadcast_to(high, first.shape)
    bind: Any = threefry2x32_p.bind
    words: list[jax.Array] = bind(low, high, first, second)
    return tuple(words)


def _philox(
    key: jax.Array, counter: jax.Array, shape: tuple[int, ...], dtype: Any
) -> tuple[jax.Array, jax.Array]:
    """Returns the next counter and bits: a call gives four words, which follow each other."""
    count = math.prod(shape)
    number = count * (2 if dtype == jnp.uint64 else 1)
    # The counter has 128 bits, the upper of which are the key once more.
    words = words_of((halves(key), (*halves(counter), *halves(key))), number)
    if dtype == jnp.uint64:
        words = joined_words(words[0::2], words[1::2])
    steps = jnp.asarray(-(-number // 4)).astype(jnp.uint64)
    return counter + steps, words[:count].reshape(shape).astype(dtype)


@lowers("iota_2x32_shape")
def _lower_iota_2x32_shape(g: GraphBuilder, *, shape: Sequence[Any]) -> tuple[Symbol, ...]:
    # Arrays of 2^32 elements and more don't get here: the high words are zero.
    low = g.reshape(iota(g, product(shape), np.uint32), tuple(shape))
    return g.full(0, tuple(shape), "uint32"), low
