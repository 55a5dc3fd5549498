"""TensorFlow's stateless random ops, bit for bit: Philox on keys and counters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import UnsupportedParamError
from savax.function.ops._detours import float_limits
from savax.function.ops._operands import as_size
from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from jax import Array

    from savax.types import DType

# Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011): Philox-4x32, 10 rounds.
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

# TensorFlow mixes a seed with this key, so that seeds that differ little give unrelated keys.
_SEED_KEY = (0x3EC8F720, 0x02461E29)

# Numbers of tf.random.Algorithm; the third lets the device choose, and CPUs choose Philox.
_PHILOX, _AUTO_SELECT = 1, 3


def _product(factor: int, x: Array) -> tuple[Array, Array]:
    """Returns the high and low words of the product of 32-bit words, without 64-bit types."""
    low, high = np.uint32(factor & 0xFFFF), np.uint32(factor >> 16)
    x_low, x_high = x & np.uint32(0xFFFF), x >> np.uint32(16)
    shift, mask = np.uint32(16), np.uint32(0xFFFF)
    middle = high * x_low + ((low * x_low) >> shift)
    crossed = (middle & mask) + low * x_high
    top = high * x_high + (middle >> shift) + (crossed >> shift)
    return top, np.uint32(factor) * x


def _philox(key: tuple[Any, Any], counter: tuple[Array, ...]) -> tuple[Array, ...]:
    """Returns the four words that a key gives for each counter of four words."""
    words, (key0, key1) = counter, key
    for _ in range(_ROUNDS):
        high0, low0 = _product(_MULTIPLIERS[0], words[0])
        high1, low1 = _product(_MULTIPLIERS[1], words[2])
        words = (high1 ^ words[1] ^ key0, low1, high0 ^ words[3] ^ key1, low0)
        key0, key1 = key0 + np.uint32(_KEY_STEPS[0]), key1 + np.uint32(_KEY_STEPS[1])
    return words


def _halves(x: Array) -> tuple[Array, Array]:
    """Returns the low and high words of a 64-bit integer."""
    x = jnp.asarray(x)
    if x.dtype.itemsize == 4:  # sign extension, as in TensorFlow's conversion to 64 bits
        return x.astype(jnp.uint32), (x >> np.array(31, x.dtype)).astype(jnp.uint32)
    wide = x.astype(jnp.uint64)
    low = (wide & np.uint64(0xFFFFFFFF)).astype(jnp.uint32)
    return low, (wide >> np.uint64(32)).astype(jnp.uint32)


def _joined(low: Array, high: Array) -> Array:
    return low.astype(jnp.uint64) | (high.astype(jnp.uint64) << np.uint64(32))


def _from_seed(seed: Array) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    """Returns key and counter words of a seed of two integers."""
    words = (*_halves(seed[0]), *_halves(seed[1]))
    mixed = _philox((jnp.uint32(_SEED_KEY[0]), jnp.uint32(_SEED_KEY[1])), words)
    zero = jnp.zeros((), jnp.uint32)
    return (mixed[0], mixed[1]), (zero, zero, mixed[2], mixed[3])


def _from_state(
    key: Array, counter: Array, alg: Any
) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    """Returns key and counter words of the operands of the V2 ops."""
    if int(alg) not in (_PHILOX, _AUTO_SELECT):
        raise UnsupportedParamError(
            f"Random algorithm {int(alg)}: expected {_PHILOX} (Philox) or {_AUTO_SELECT} (auto)."
        )
    return _halves(key[0]), (*_halves(counter[0]), *_halves(counter[1]))


State = tuple[tuple[Any, Any], tuple[Any, ...]]


def _words(state: State, number: int) -> Array:
    """Returns at least so many words: four for each of the counters that follow."""
    key, counter = state
    step = jnp.arange(-(-number // 4), dtype=jnp.uint32)
    moved, carry = [], step
    for word in counter:
        total = word + carry
        carry = (total < carry).astype(jnp.uint32)
        moved.append(total)
    return jnp.stack(_philox(key, tuple(moved)), axis=-1).reshape(-1)


def _size(shape: Any) -> tuple[tuple[int, ...], int]:
    dims = tuple(as_size(size) for size in np.asarray(shape).reshape(-1).tolist())
    return dims, math.prod(dims)


# Samples from bits.


def _unit(words: Array, dtype: Any) -> Array:
    """Returns floats of [0, 1): random mantissas below the exponent of 1."""
    if dtype == np.float64:
        pairs = words.reshape(-1, 2)
        mantissa = _joined(pairs[:, 1], pairs[:, 0] & np.uint32(0xFFFFF))
        bits = mantissa | np.uint64(1023 << 52)
        return lax.bitcast_convert_type(bits, jnp.float64) - 1
    mantissa_bits = int(float_limits(dtype).nmant)
    one = int(np.ones((), dtype).view(f"uint{np.dtype(dtype).itemsize * 8}"))
    bits = (words & np.uint32((1 << mantissa_bits) - 1)) | np.uint32(one)
    if np.dtype(dtype).itemsize == 2:
        bits = bits.astype(jnp.uint16)
    return lax.bitcast_convert_type(bits, dtype) - np.ones((), dtype)


def _uniform(state: State, shape: Any, dtype: DType) -> Array:
    dims, number = _size(shape)
    per_sample = 2 if dtype.size == 8 else 1
    samples = _unit(_words(state, number * per_sample), dtype.numpy_dtype)
    return samples[:number].reshape(dims)


def _normal(state: State, shape: Any, dtype: DType) -> Array:
    """Returns normal samples by the transformation of Box and Muller."""
    dims, number = _size(shape)
    kind = np.float64 if dtype.size == 8 else np.float32
    per_sample = 2 if dtype.size == 8 else 1
    pairs = _unit(_words(state, number * per_sample), kind).reshape(-1, 2)
    radius = jnp.sqrt(-2 * jnp.log(jnp.maximum(pairs[:, 0], kind(1e-7))))
    angle = kind(2 * np.pi) * pairs[:, 1]
    samples = jnp.stack([jnp.sin(angle) * radius, jnp.cos(angle) * radius], -1).reshape(-1)
    return samples[:number].reshape(dims).astype(dtype.numpy_dtype)


def _integers(state: State, shape: Any, dtype: Any) -> tuple[Array, tuple[int, ...]]:
    """Returns uniformly random unsigned integers of the width of a dtype, flat."""
    dims, number = _size(shape)
    if np.dtype(dtype).itemsize == 4:
        return _words(state, number)[:number], dims
    pairs = _words(state, number * 2).reshape(-1, 2)
    return _joined(pairs[:, 0], pairs[:, 1])[:number], dims


def _full_integers(state: State, shape: Any, dtype: DType) -> Array:
    bits, dims = _integers(state, shape, dtype.numpy_dtype)
    return bits.astype(dtype.numpy_dtype).reshape(dims)


def _bounded_integers(state: State, shape: Any, low: Array, high: Array) -> Array:
    low, high = jnp.asarray(low), jnp.asarray(high)
    bits, dims = _integers(state, shape, low.dtype)
    span = high.astype(bits.dtype) - low.astype(bits.dtype)
    offset = lax.rem(bits, jnp.broadcast_to(span, bits.shape))
    return (low.astype(bits.dtype) + offset).astype(low.dtype).reshape(dims)


# Keys.


@evaluates("StatelessRandomGetAlg")
def _get_alg() -> Any:
    return np.array(_PHILOX, np.int32)


@evaluates("StatelessRandomGetKeyCounter")
def _get_key_counter(seed: Array) -> tuple[Array, Array]:
    (key0, key1), counter = _from_seed(seed)
    whole = jnp.stack([_joined(counter[0], counter[1]), _joined(counter[2], counter[3])])
    return _joined(key0, key1)[None], whole


@evaluates("StatelessRandomGetKeyCounterAlg")
def _get_key_counter_alg(seed: Array) -> tuple[Any, ...]:
    return (*_get_key_counter(seed), _get_alg())


# Samples by key and counter.


@evaluates("StatelessRandomUniformV2", static=("shape", "alg"))
def _uniform_v2(shape: Any, key: Array, counter: Array, alg: Any, *, dtype: DType) -> Array:
    return _uniform(_from_state(key, counter, alg), shape, dtype)


@evaluates("StatelessRandomNormalV2", static=("shape", "alg"))
def _normal_v2(shape: Any, key: Array, counter: Array, alg: Any, *, dtype: DType) -> Array:
    return _normal(_from_state(key, counter, alg), shape, dtype)


@evaluates("StatelessRandomUniformFullIntV2", static=("shape", "alg"))
def _full_int_v2(shape: Any, key: Array, counter: Array, alg: Any, *, dtype: DType) -> Array:
    return _full_integers(_from_state(key, counter, alg), shape, dtype)


@evaluates("StatelessRandomUniformIntV2", static=("shape", "alg"))
def _uniform_int_v2(
    shape: Any, key: Array, counter: Array, alg: Any, minval: Array, maxval: Array
) -> Array:
    return _bounded_integers(_from_state(key, counter, alg), shape, minval, maxval)


# Samples by seed.


@evaluates("StatelessRandomUniform", static=("shape",))
def _uniform_v1(shape: Any, seed: Array, *, dtype: DType) -> Array:
    return _uniform(_from_seed(seed), shape, dtype)


@evaluates("StatelessRandomNormal", static=("shape",))
def _normal_v1(shape: Any, seed: Array, *, dtype: DType) -> Array:
    return _normal(_from_seed(seed), shape, dtype)


@evaluates("StatelessRandomUniformFullInt", static=("shape",))
def _full_int_v1(shape: Any, seed: Array, *, dtype: DType) -> Array:
    return _full_integers(_from_seed(seed), shape, dtype)


@evaluates("StatelessRandomUniformInt", static=("shape",))
def _uniform_int_v1(shape: Any, seed: Array, minval: Array, maxval: Array) -> Array:
    return _bounded_integers(_from_seed(seed), shape, minval, maxval)
