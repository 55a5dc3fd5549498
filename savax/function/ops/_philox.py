"""TensorFlow's counter-based random generator: states, random words, and floats made of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import UnsupportedParamError
from savax.function.ops._detours import float_limits
from savax.function.ops._operands import as_size

if TYPE_CHECKING:
    from jax import Array

# Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011): Philox-4x32, 10 rounds.
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

# TensorFlow mixes a seed with this key, so that seeds that differ little give unrelated keys.
_SEED_KEY = (0x3EC8F720, 0x02461E29)

# Numbers of tf.random.Algorithm; the third lets the device choose, and CPUs choose Philox.
PHILOX, AUTO_SELECT = 1, 3


def _product(factor: int, x: Array) -> tuple[Array, Array]:
    """Returns the high and low words of the product of 32-bit words, without 64-bit types."""
    low, high = np.uint32(factor & 0xFFFF), np.uint32(factor >> 16)
    x_low, x_high = x & np.uint32(0xFFFF), x >> np.uint32(16)
    shift, mask = np.uint32(16), np.uint32(0xFFFF)
    middle = high * x_low + ((low * x_low) >> shift)
    crossed = (middle & mask) + low * x_high
    top = high * x_high + (middle >> shift) + (crossed >> shift)
    return top, np.uint32(factor) * x


def _round(_: Any, carry: Any) -> Any:
    words, (key0, key1) = carry
    high0, low0 = _product(_MULTIPLIERS[0], words[0])
    high1, low1 = _product(_MULTIPLIERS[1], words[2])
    words = (high1 ^ words[1] ^ key0, low1, high0 ^ words[3] ^ key1, low0)
    return words, (key0 + np.uint32(_KEY_STEPS[0]), key1 + np.uint32(_KEY_STEPS[1]))


def _philox(key: tuple[Any, Any], counter: tuple[Array, ...]) -> tuple[Array, ...]:
    """Returns the four words that a key gives for each counter of four words."""
    carry: Any = counter, key
    for step in range(_ROUNDS):
        carry = _round(step, carry)
    words: tuple[Array, ...] = carry[0]
    return words


def halves(x: Array) -> tuple[Array, Array]:
    """Returns the low and high words of a 64-bit integer."""
    x = jnp.asarray(x)
    if x.dtype.itemsize == 4:  # sign extension, as in TensorFlow's conversion to 64 bits
        return x.astype(jnp.uint32), (x >> np.array(31, x.dtype)).astype(jnp.uint32)
    wide = x.astype(jnp.uint64)
    low = (wide & np.uint64(0xFFFFFFFF)).astype(jnp.uint32)
    return low, (wide >> np.uint64(32)).astype(jnp.uint32)


def joined_words(low: Array, high: Array) -> Array:
    return low.astype(jnp.uint64) | (high.astype(jnp.uint64) << np.uint64(32))


def state_from_seed(seed: Array) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    """Returns key and counter words of a seed of two integers."""
    words = (*halves(seed[0]), *halves(seed[1]))
    mixed = _philox((jnp.uint32(_SEED_KEY[0]), jnp.uint32(_SEED_KEY[1])), words)
    zero = jnp.zeros((), jnp.uint32)
    return (mixed[0], mixed[1]), (zero, zero, mixed[2], mixed[3])


def check_algorithm(alg: Any) -> None:
    """Refuses algorithms that the kernels for CPUs refuse; the device's choice is Philox."""
    if int(alg) not in (PHILOX, AUTO_SELECT):
        raise UnsupportedParamError(
            f"Random algorithm {int(alg)}: expected {PHILOX} (Philox) or {AUTO_SELECT} (auto)."
        )


def state_from_key(
    key: Array, counter: Array, alg: Any
) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    """Returns key and counter words of the operands of the V2 ops."""
    check_algorithm(alg)
    return halves(key[0]), (*halves(counter[0]), *halves(counter[1]))


State = tuple[tuple[Any, Any], tuple[Any, ...]]


def words_of(state: State, number: int) -> Array:
    """Returns at least so many words: four for each of the counters that follow."""
    steps = jnp.arange(-(-number // 4), dtype=jnp.uint32)
    key, counter = state
    return jnp.stack(_philox(key, advanced(counter, steps)), axis=-1).reshape(-1)


def philox_at(state: State, steps: Array) -> tuple[Array, ...]:
    """Returns the four words of the counters that lie so many steps ahead.

    It is the same as ``words_of`` in a loop: slower to run, and many times faster to compile.
    """
    (key0, key1), counter = state
    key = jnp.asarray(key0, jnp.uint32), jnp.asarray(key1, jnp.uint32)
    start = advanced(counter, steps), key
    words: tuple[Array, ...] = lax.fori_loop(0, _ROUNDS, _round, start)[0]
    return words


def advanced(counter: tuple[Any, ...], steps: Array) -> tuple[Array, ...]:
    """Returns counters of four words moved ahead by numbers of 32 bits."""
    moved, carry = [], steps
    for word in counter:
        total = word + carry
        carry = (total < carry).astype(jnp.uint32)
        moved.append(total)
    return tuple(moved)


def result_size(shape: Any) -> tuple[tuple[int, ...], int]:
    dims = tuple(as_size(size) for size in np.asarray(shape).reshape(-1).tolist())
    return dims, math.prod(dims)


# Samples from bits.


def unit_floats(words: Array, dtype: Any) -> Array:
    """Returns floats of [0, 1): random mantissas below the exponent of 1."""
    if dtype == np.float64:
        pairs = words.reshape(-1, 2)
        mantissa = joined_words(pairs[:, 1], pairs[:, 0] & np.uint32(0xFFFFF))
        bits = mantissa | np.uint64(1023 << 52)
        return lax.bitcast_convert_type(bits, jnp.float64) - 1
    mantissa_bits = int(float_limits(dtype).nmant)
    one = int(np.ones((), dtype).view(f"uint{np.dtype(dtype).itemsize * 8}"))
    bits = (words & np.uint32((1 << mantissa_bits) - 1)) | np.uint32(one)
    if np.dtype(dtype).itemsize == 2:
        bits = bits.astype(jnp.uint16)
    return lax.bitcast_convert_type(bits, dtype) - np.ones((), dtype)


def box_muller(pairs: Array, kind: Any) -> Array:
    """Returns pairs of normal samples [..., 2] of pairs of uniform ones."""
    radius = jnp.sqrt(-2 * jnp.log(jnp.maximum(pairs[..., 0], kind(1e-7))))
    angle = kind(2 * np.pi) * pairs[..., 1]
    return jnp.stack([jnp.sin(angle) * radius, jnp.cos(angle) * radius], -1)
