"""Keys of JAX's generators "rbg" and "unsafe_rbg": four words, which are XLA's state.

The first splits and folds its two halves as Threefry keys; the second takes random bits for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
from jax import lax

from savax.function.ops._traced import traced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

# The unsafe generator takes every tenth of the words that it draws.
_STEP = 10


def rbg_bits(g: GraphBuilder, keys: Symbol, bit_width: int, shape: Sequence[Any]) -> Symbol:
    """Writes random bits [*keys, *shape] of either generator."""

    def bits(key: jax.Array) -> Any:
        return _draw(key, tuple(shape), f"uint{bit_width}")

    return traced(g, _for_each_key(bits, keys.ndim - 1), keys)[0]


def unsafe_split(g: GraphBuilder, keys: Symbol, shape: Sequence[int]) -> Symbol:
    """Writes new keys [*keys, *shape] of the unsafe generator."""
    count = math.prod(shape)

    def split(key: jax.Array) -> Any:
        words = _draw(key, (_STEP * count, 4))
        return words[::_STEP].reshape((*shape, 4))

    return traced(g, _for_each_key(split, keys.ndim - 1), keys)[0]


def unsafe_fold_in(g: GraphBuilder, keys: Symbol, seeds: Symbol) -> Symbol:
    """Writes keys of the unsafe generator mixed with others, which are made of the data."""

    def mixed(key: jax.Array, seed: jax.Array) -> Any:
        return key ^ _draw(seed, (_STEP, 4))[-1]

    fn: Callable[..., Any] = mixed
    both = min(keys.ndim, seeds.ndim) - 1
    for _ in range(both):
        fn = jax.vmap(fn)
    for _ in range(keys.ndim - 1 - both):  # the same data for all keys
        fn = jax.vmap(fn, in_axes=(0, None))
    for _ in range(seeds.ndim - 1 - both):
        fn = jax.vmap(fn, in_axes=(None, 0))
    return traced(g, fn, keys, seeds)[0]


def _draw(key: jax.Array, shape: Sequence[int], dtype: str = "uint32") -> Any:
    generator: Any = lax.rng_bit_generator
    return generator(key, shape, dtype=dtype)[1]


def _for_each_key(fn: Callable[..., Any], axes: int) -> Callable[..., Any]:
    for _ in range(axes):
        fn = jax.vmap(fn)
    return fn


def halves(g: GraphBuilder, keys: Symbol) -> Symbol:
    """Returns the two Threefry keys that a key is made of: [*keys, 2, 2]."""
    return g.reshape(keys, (*keys.shape[:-1], 2, 2))
