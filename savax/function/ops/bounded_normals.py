"""Samples of normal distributions between bounds, each with its own mean, deviation and bounds.

TensorFlow divides large results among threads, and what a thread draws depends on where its part
starts; here there is one part, as for results too small to be divided (some dozens of numbers).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import log_ndtr

from savax.errors import ShapeMismatchError
from savax.function.ops._philox import State, box_muller, philox_at, state_from_seed, unit_floats
from savax.function.ops._registry import evaluates
from savax.function.ops.shaping import sizes
from savax.function.ops.stateful_random import taken

if TYPE_CHECKING:
    from jax import Array

    from savax.function.evaluation._walk import NodeContext

# A sample that was refused so often is given up: TensorFlow fails then, here it is NaN.
_MAX_REFUSALS = 1000

# Distances of a bound from the mean, in deviations, from which normal numbers are tried.
_WIDE = 1.3

# Samples of one set of parameters that TensorFlow draws in one go.
_GROUP = 100


@evaluates("StatelessParameterizedTruncatedNormal", static=("shape",))
def _stateless(
    shape: Any, seed: Any, means: Any, stddevs: Any, minvals: Any, maxvals: Any
) -> Array:
    dims = sizes(shape)
    parameters = jnp.broadcast_arrays(means, stddevs, minvals, maxvals)
    own = parameters[0].shape
    if len(own) > len(dims) or dims[len(dims) - len(own) :] != own:
        raise ShapeMismatchError(f"Samples of the shape {dims} don't end with {own}, as wanted.")
    flat = jnp.stack([each.reshape(-1) for each in parameters])
    samples = math.prod(dims[: len(dims) - len(own)])
    drawn = _samples(state_from_seed(seed), flat, samples, math.prod(dims))
    return drawn.T.reshape(dims)


@evaluates(
    "ParameterizedTruncatedNormal",
    static=("shape",),
    with_context=True,
    ignores=("seed", "seed2"),
    draws=True,
)
def _stateful(
    ctx: NodeContext, shape: Any, means: Any, stdevs: Any, minvals: Any, maxvals: Any
) -> Array:
    dims = sizes(shape)
    total = math.prod(dims)
    rows, samples = dims[0], math.prod(dims[1:])
    parameters = [jnp.asarray(each) for each in (means, stdevs, minvals, maxvals)]
    if all(each.size == 1 for each in parameters) and not any(p.ndim for p in parameters[2:]):
        rows, samples = -(-total // _GROUP), _GROUP
    flat = jnp.stack([jnp.broadcast_to(each.reshape(-1), rows) for each in parameters])
    state = taken(ctx, rows * 2 * _MAX_REFUSALS * (samples + 3) // 4)
    return _samples(state, flat, samples, total).reshape(-1)[:total].reshape(dims)


def _samples(state: State, parameters: Any, samples: int, total: int) -> Array:
    """Returns samples [rows, samples] for means, deviations and bounds [4, rows].

    Of the last row no more are drawn than make up the total.
    """
    if not total:
        return jnp.zeros((parameters.shape[1], samples), parameters.dtype)
    values = _drawn(state, lax.stop_gradient(parameters), samples, total)
    result: Array = _with_slopes(values, parameters)
    return result


@functools.partial(jax.jit, static_argnames=("samples", "total"))
def _drawn(state: State, parameters: Any, samples: int, total: int) -> Array:
    dtype = parameters.dtype
    rows = parameters.shape[1]

    def unfinished(carry: Any) -> Any:
        return carry[1] < rows

    def draw(carry: Any) -> Any:
        found, row, filled, refused, block = carry
        values, good, blocks, valid = _candidates(state, parameters[:, row], block)
        limit = jnp.minimum(samples, total - row * samples)
        place = filled + jnp.cumsum(good, dtype=jnp.int32) - 1
        place = jnp.where(good & valid & (place < limit), row * samples + place, rows * samples)
        found = found.at[place].set(values, mode="drop")
        filled = jnp.minimum(filled + jnp.sum(good, dtype=jnp.int32), limit)
        refused = jnp.where(jnp.any(good), 0, refused + np.int32(good.shape[0]))
        done = (filled >= limit) | ~valid | (refused > _MAX_REFUSALS)
        none = jnp.int32(0)
        return (
            found,
            row + done,
            jnp.where(done, none, filled),
            jnp.where(done, none, refused),
            block + blocks,
        )

    empty = jnp.full(rows * samples, np.nan, dtype)
    start = empty, jnp.int32(0), jnp.int32(0), jnp.int32(0), jnp.uint32(0)
    found: Array = lax.while_loop(unfinished, draw, start)[0]
    return found.reshape(rows, samples)


def _candidates(state: State, parameters: Any, block: Any) -> tuple[Any, Any, Any, Any]:
    """Returns what one step draws, which of it to take, the blocks used, and if there is a result.

    C. Robert, "Simulation of truncated normal variables" (1995), and plain normal numbers.
    """
    mean, stddev, low, high = parameters
    valid = (stddev > 0) & (low < high) & (jnp.isfinite(low) | jnp.isfinite(high))
    turned = jnp.isneginf(low) | (high < mean)
    low, high = jnp.where(turned, high, low), jnp.where(turned, low, high)
    stddev = jnp.where(turned, -stddev, stddev)
    low, high = (low - mean) / stddev, (high - mean) / stddev
    root = jnp.sqrt(low * low + 4)
    cutoff = 2 * jnp.exp(0.5 + low * (low - root) / 4) / (low + root)
    wide = ((low < -_WIDE) & (high >= 0)) | ((high > _WIDE) & (low <= 0))
    flat = ~wide & (high - low < cutoff)

    dtype = parameters.dtype
    first, normal = _block(state, block, dtype)
    second, _ = _block(state, block + np.uint32(1), dtype)
    even = first * (high - low) + low
    even_good = second <= jnp.exp((jnp.where(low < 0, 0, low * low) - even * even) / 2)
    alpha = (low + root) / 2
    steep = -jnp.log(first[::2]) / alpha + low
    offset = jnp.where(low < alpha, alpha - steep, low - alpha)
    steep_good = (first[1::2] <= jnp.exp(-offset * offset / 2)) & (steep < high)
    steep, steep_good = (jnp.pad(x, (0, first.shape[0] // 2)) for x in (steep, steep_good))

    values = jnp.where(wide, normal, jnp.where(flat, even, steep))
    normal_good = (normal >= low) & (normal <= high)
    good = jnp.where(wide, normal_good, jnp.where(flat, even_good, steep_good))
    return values * stddev + mean, good, jnp.where(flat, 2, 1).astype(jnp.uint32), valid


def _block(state: State, block: Any, dtype: Any) -> tuple[Any, Any]:
    """Returns the uniform and the normal numbers of one block."""
    words = jnp.stack(philox_at(state, block[None]), -1).reshape(-1)
    kind: Any = np.float64 if dtype == np.float64 else np.float32
    pairs = unit_floats(words, kind).reshape(-1, 2)
    return unit_floats(words, dtype), box_muller(pairs, kind).reshape(-1).astype(dtype)


# A sample is a function of its parameters and of the share of the distribution below it, which
# stays when they change: M. Figurnov et al., "Implicit reparameterization gradients" (2018). As in
# TensorFlow, what changes by mean and deviation is only the scale of the sample, not the place of
# the bounds in it.


@jax.custom_jvp
def _with_slopes(values: Any, parameters: Any) -> Any:
    return values


@_with_slopes.defjvp
def _slopes(primals: Any, tangents: Any) -> Any:
    values, parameters = primals
    mean, stddev, low, high = parameters[..., None]
    d_mean, d_stddev, d_low, d_high = tangents[1][..., None]
    at = (values - mean) / stddev
    moved = d_mean + at * d_stddev
    for bound, d_bound, share in (
        (low, d_low, _share(at, low, high, stddev, mean, above=True)),
        (high, d_high, _share(at, low, high, stddev, mean, above=False)),
    ):
        finite = jnp.isfinite(bound)
        place = jnp.where(finite, (bound - mean) / stddev, 0)
        weight = jnp.where(finite, jnp.exp((at * at - place * place) / 2) * share, 0)
        moved = moved + weight * d_bound
    return values, moved


def _share(at: Any, low: Any, high: Any, stddev: Any, mean: Any, above: bool) -> Any:
    """Returns how much of a distribution lies above or below a sample."""
    low, high = (low - mean) / stddev, (high - mean) / stddev
    # On the side of the tail, where differences of small numbers stay exact.
    turned = low > 0
    low, high, at = (
        jnp.where(turned, -high, low),
        jnp.where(turned, -low, high),
        jnp.where(turned, -at, at),
    )
    log_whole = _log_between(low, high)
    log_below = _log_between(low, at)
    below = jnp.exp(log_below - log_whole)
    return jnp.where(turned, below, 1 - below) if above else jnp.where(turned, 1 - below, below)


def _log_between(low: Any, high: Any) -> Any:
    top = log_ndtr(high)
    return top + jnp.log1p(-jnp.exp(jnp.minimum(log_ndtr(low) - top, 0)))
