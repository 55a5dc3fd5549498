"""Random ops with a state: that of the node, which each run moves ahead, or a Generator's.

A node's state starts from its seeds, so that a model draws what it draws in TensorFlow after it was
loaded; without seeds it starts anywhere. A Generator's state is a Variable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from savax.function.ops._philox import (
    PHILOX,
    State,
    advanced,
    check_algorithm,
    halves,
    joined_words,
)
from savax.function.ops._registry import evaluates
from savax.function.ops.random_sampling import (
    binomial,
    gamma,
    multinomial,
    poisson,
    shuffled,
    truncated_normal,
)
from savax.function.ops.shaping import sizes
from savax.function.ops.stateless_random import (
    bounded_integers,
    full_integers,
    normal_samples,
    uniform_samples,
)
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.function.evaluation._plan_values import ResourceHandle
    from savax.function.evaluation._walk import NodeContext
    from savax.types import DType

# Counters that TensorFlow sets aside for each number, however many it really takes.
_RESERVED = 256


def _moved(counter: Any, blocks: int) -> tuple[Any, ...]:
    """Returns a counter of four words moved ahead by a number of 64 bits."""
    low, high = np.uint32(blocks & 0xFFFFFFFF), np.uint32((blocks >> 32) & 0xFFFFFFFF)
    first, *rest = advanced(counter, jnp.asarray(low))
    return (first, *advanced(tuple(rest), jnp.asarray(high)))


def taken(ctx: NodeContext, blocks: int) -> State:
    """Returns the state of a node, and moves it ahead."""
    words = jnp.asarray(ctx.random_words())
    key, counter = (words[0], words[1]), tuple(words[2 + i] for i in range(4))
    ctx.set_random_words(jnp.stack([*key, *_moved(counter, blocks)]))
    return key, counter


def _size(shape: Any) -> int:
    return int(np.prod(sizes(shape), dtype=np.int64))


_SEEDS = ("seed", "seed2")


@evaluates("RandomUniform", static=("shape",), with_context=True, ignores=_SEEDS, draws=True)
def _random_uniform(ctx: NodeContext, shape: Any, *, dtype: DType) -> Any:
    return uniform_samples(taken(ctx, _size(shape) * _RESERVED), shape, dtype)


@evaluates("RandomUniformInt", static=("shape",), with_context=True, ignores=_SEEDS, draws=True)
def _random_uniform_int(ctx: NodeContext, shape: Any, minval: Any, maxval: Any) -> Any:
    state = taken(ctx, _size(shape) * _RESERVED)
    return bounded_integers(state, shape, minval, maxval)


@evaluates("RandomStandardNormal", static=("shape",), with_context=True, ignores=_SEEDS, draws=True)
def _random_standard_normal(ctx: NodeContext, shape: Any, *, dtype: DType) -> Any:
    return normal_samples(taken(ctx, _size(shape) * _RESERVED), shape, dtype)


@evaluates("TruncatedNormal", static=("shape",), with_context=True, ignores=_SEEDS, draws=True)
def _truncated_normal(ctx: NodeContext, shape: Any, *, dtype: DType) -> Any:
    return truncated_normal(taken(ctx, _size(shape) * _RESERVED), shape, dtype)


@evaluates("RandomShuffle", with_context=True, ignores=_SEEDS, draws=True)
def _random_shuffle(ctx: NodeContext, value: Any) -> Any:
    rows = value.shape[0] if value.shape else 0
    if rows <= 1 or not np.prod(value.shape):
        return value
    return shuffled(taken(ctx, (rows - 1 + 3) // 4), value)


@evaluates(
    "Multinomial",
    static=("num_samples",),
    with_context=True,
    ignores=_SEEDS,
    draws=True,
    needs_64_bit=True,
)
def _multinomial(ctx: NodeContext, logits: Any, num_samples: Any, *, output_dtype: DType) -> Any:
    reserved = logits.shape[0] * -(-int(num_samples) // 4) * 4 * 2
    state = taken(ctx, reserved * _RESERVED)
    return multinomial(state, logits, num_samples, output_dtype)


@evaluates(
    "RandomGamma",
    static=("shape",),
    with_context=True,
    ignores=_SEEDS,
    draws=True,
    needs_64_bit=True,
)
def _random_gamma(ctx: NodeContext, shape: Any, alpha: Any) -> Any:
    whole = np.array([*sizes(shape), *alpha.shape], np.int64)
    return gamma(taken(ctx, _size(whole) * _RESERVED), whole, alpha)


@evaluates(
    "RandomPoissonV2",
    static=("shape",),
    with_context=True,
    ignores=_SEEDS,
    draws=True,
    needs_64_bit=True,
)
def _random_poisson_v2(ctx: NodeContext, shape: Any, rate: Any, *, dtype: DType) -> Any:
    whole = np.array([*sizes(shape), *rate.shape], np.int64)
    return poisson(taken(ctx, _size(whole) * _RESERVED), whole, rate, dtype)


@evaluates(
    "RandomPoisson",
    static=("shape",),
    with_context=True,
    ignores=_SEEDS,
    draws=True,
    needs_64_bit=True,
)
def _random_poisson(ctx: NodeContext, shape: Any, rate: Any) -> Any:
    whole = np.array([*sizes(shape), *rate.shape], np.int64)
    state = taken(ctx, _size(whole) * _RESERVED)
    return poisson(state, whole, rate, as_dtype(rate.dtype))


@evaluates("NonDeterministicInts", static=("shape",), with_context=True, draws=True)
def _non_deterministic_ints(ctx: NodeContext, shape: Any, *, dtype: DType) -> Any:
    return full_integers(taken(ctx, _size(shape) * _RESERVED), shape, dtype)


# Generators. The state of one is [counter, counter, key], with the algorithm in front for the
# oldest op.


def _of_generator(
    ctx: NodeContext, resource: ResourceHandle, algorithm: Any, blocks: int, skip: int = 0
) -> State:
    """Returns the state of a generator, and moves it ahead."""
    check_algorithm(algorithm)
    value = jnp.asarray(ctx.read(resource))
    counter = (*halves(value[skip]), *halves(value[skip + 1]))
    moved = _moved(counter, blocks)
    ends = jnp.stack([joined_words(moved[0], moved[1]), joined_words(moved[2], moved[3])])
    ctx.write(resource, value.at[skip : skip + 2].set(ends.astype(value.dtype)))
    return halves(value[skip + 2]), counter


def _generator_rule(draw: Callable[..., Any]) -> Any:
    def rule(
        ctx: NodeContext,
        resource: ResourceHandle,
        algorithm: Any,
        shape: Any,
        *,
        dtype: DType,
    ) -> Any:
        state = _of_generator(ctx, resource, algorithm, _size(shape) * _RESERVED)
        return draw(state, shape, dtype)

    return rule


_GENERATOR_OPS: dict[str, Callable[..., Any]] = {
    "StatefulStandardNormalV2": normal_samples,
    "StatefulTruncatedNormal": truncated_normal,
    "StatefulUniform": uniform_samples,
    "StatefulUniformFullInt": full_integers,
}

for _op, _draw in _GENERATOR_OPS.items():
    evaluates(_op, static=("algorithm", "shape"), with_context=True)(_generator_rule(_draw))


@evaluates("StatefulStandardNormal", static=("shape",), with_context=True)
def _stateful_standard_normal(
    ctx: NodeContext, resource: ResourceHandle, shape: Any, *, dtype: DType
) -> Any:
    state = _of_generator(ctx, resource, PHILOX, _size(shape) * _RESERVED, skip=1)
    return normal_samples(state, shape, dtype)


@evaluates("StatefulUniformInt", static=("algorithm", "shape"), with_context=True)
def _stateful_uniform_int(
    ctx: NodeContext,
    resource: ResourceHandle,
    algorithm: Any,
    shape: Any,
    minval: Any,
    maxval: Any,
) -> Any:
    state = _of_generator(ctx, resource, algorithm, _size(shape) * _RESERVED)
    return bounded_integers(state, shape, minval, maxval)


@evaluates("StatefulRandomBinomial", static=("algorithm", "shape"), with_context=True)
def _stateful_random_binomial(
    ctx: NodeContext,
    resource: ResourceHandle,
    algorithm: Any,
    shape: Any,
    counts: Any,
    probs: Any,
    *,
    dtype: DType,
) -> Any:
    batch = int(np.prod(np.broadcast_shapes(counts.shape, probs.shape)))
    samples = _size(shape) // max(batch, 1)
    reserved = batch * 200 * (samples + 3) // 4  # what TensorFlow takes it to use
    state = _of_generator(ctx, resource, algorithm, reserved * _RESERVED)
    return binomial(state, shape, counts, probs, dtype)


@evaluates("RngSkip", static=("algorithm", "delta"), with_context=True)
def _rng_skip(ctx: NodeContext, resource: ResourceHandle, algorithm: Any, delta: Any) -> None:
    _of_generator(ctx, resource, algorithm, int(delta) * _RESERVED)


@evaluates("RngReadAndSkip", static=("alg", "delta"), with_context=True)
def _rng_read_and_skip(ctx: NodeContext, resource: ResourceHandle, alg: Any, delta: Any) -> Any:
    before = ctx.read(resource)
    _of_generator(ctx, resource, alg, int(delta) * _RESERVED)
    return before
