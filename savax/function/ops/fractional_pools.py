"""Pools whose windows differ in size by one, in random order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import InvalidArgumentError
from savax.function.evaluation._plan_values import static_value
from savax.function.ops._philox import advanced, unit_floats, words_of
from savax.function.ops._registry import evaluates
from savax.function.ops.random_sampling import shuffled
from savax.function.ops.segments import lowest
from savax.function.ops.shaping import sizes
from savax.function.ops.stateful_random import taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.evaluation._walk import NodeContext
    from savax.function.ops._philox import State

# Graham, "Fractional max-pooling" (2014).


def _blocks(windows: int, pseudo_random: bool) -> int:
    """Returns how many counters TensorFlow sets aside for the windows of an axis."""
    return 1 if pseudo_random else (windows + 3) // 4


def _sequence(state: State, size: int, windows: int, pseudo_random: bool) -> Any:
    """Returns where windows begin along an axis, and where the last one ends."""
    least, rest = divmod(size, windows)
    if not pseudo_random:
        widths = shuffled(state, least + (np.arange(windows) < rest).astype(np.int64))
        return jnp.concatenate([jnp.zeros(1, jnp.int64), jnp.cumsum(widths)])
    step = size / windows
    most = min((least + 2) / step - 1, (size + 1 - least) / step - (windows - 1))
    offset = unit_floats(words_of(state, 2)[:2], np.dtype(np.float64))[0] * most
    inner = jnp.ceil(step * (np.arange(1, windows) + offset)).astype(jnp.int64) - 1
    return jnp.concatenate([jnp.zeros(1, jnp.int64), inner, jnp.full(1, size, jnp.int64)])


def _sequences(
    ctx: NodeContext,
    value: Any,
    ratio: Sequence[float],
    pseudo_random: bool,
    deterministic: bool,
) -> tuple[Any, Any]:
    """Returns the windows of rows and columns; deterministic ones are the same in each run."""
    valid = value.ndim == 4 and len(ratio) == 4 and ratio[0] == ratio[3] == 1
    if not valid or not min(ratio) >= 1:
        raise InvalidArgumentError(
            "A fractional pool takes [batch, height, width, channels] and ratios of 1 or more, "
            f"which are 1 for batch and channels; found {value.shape} and {list(ratio)}."
        )
    rows, columns = (int(np.float32(value.shape[a]) / np.float32(ratio[a])) for a in (1, 2))
    if min(rows, columns) < 1:
        raise InvalidArgumentError(f"A fractional pool of {value.shape} has no windows.")
    start = ctx.random_words()
    ctx.set_random_words(start)  # without seeds, it is drawn anew until it is stored
    blocks = _blocks(rows, pseudo_random)
    key, counter = taken(ctx, blocks + _blocks(columns, pseudo_random))
    if deterministic:
        ctx.set_random_words(start)
    later = key, advanced(counter, jnp.uint32(blocks))
    return (
        _sequence((key, counter), value.shape[1], rows, pseudo_random),
        _sequence(later, value.shape[2], columns, pseudo_random),
    )


def _windows(starts: Any, size: int, overlapping: bool) -> tuple[Any, Any]:
    """Returns the indices [window, place] of an axis, and which of them are in the window."""
    known = static_value(starts)
    windows = starts.shape[0] - 1
    widest = size // windows + 1 if known is None else int(np.diff(known).max())
    starts = jnp.asarray(starts)
    places = starts[:-1, None] + jnp.arange(widest + overlapping, dtype=starts.dtype)
    return jnp.clip(places, 0, size - 1), places <= _ends(starts, size, overlapping)


def _ends(starts: Any, size: int, overlapping: bool) -> Any:
    """Returns the last place of each window of an axis, [window, 1]."""
    return jnp.minimum(starts[1:, None] - (0 if overlapping else 1), size - 1)


def _in_windows(x: Any, rows: Any, columns: Any, overlapping: bool) -> tuple[Any, Any, Any]:
    """Returns elements [batch, row, column, place, channels], which count, and their places."""
    height, width = x.shape[1:3]
    row, row_valid = _windows(rows, height, overlapping)
    column, column_valid = _windows(columns, width, overlapping)
    places = row[:, None, :, None] * width + column[None, :, None, :]
    valid = row_valid[:, None, :, None] & column_valid[None, :, None, :]
    places, valid = (v.reshape(*v.shape[:2], -1) for v in (places, valid))
    flat = x.reshape(x.shape[0], height * width, x.shape[3])
    return jnp.take(flat, places, axis=1), valid[None, ..., None], places[None, ..., None]


def _winners(x: Any, rows: Any, columns: Any, overlapping: bool) -> tuple[Any, Any]:
    """Returns the largest element of each window, and its place; of equal ones the first."""
    found, valid, places = _in_windows(x, rows, columns, overlapping)
    candidates = jnp.where(valid, found, jnp.asarray(lowest(x.dtype), x.dtype))
    best = jnp.argmax(lax.stop_gradient(candidates), axis=3, keepdims=True)
    values = jnp.take_along_axis(candidates, best, axis=3)[:, :, :, 0]
    places = jnp.broadcast_to(places, (*best.shape[:3], *places.shape[3:]))
    places = jnp.broadcast_to(places, (*places.shape[:4], best.shape[4]))
    return values, jnp.take_along_axis(places, best, axis=3)[:, :, :, 0]


@evaluates(
    "FractionalMaxPool",
    with_context=True,
    draws=True,
    needs_64_bit=True,
    ignores=("seed", "seed2"),
)
def _fractional_max_pool(
    ctx: NodeContext,
    value: Any,
    *,
    pooling_ratio: Sequence[float],
    pseudo_random: bool,
    overlapping: bool,
    deterministic: bool,
) -> tuple[Any, Any, Any]:
    x = jnp.asarray(value)
    rows, columns = _sequences(ctx, x, pooling_ratio, pseudo_random, deterministic)
    return _winners(x, rows, columns, overlapping)[0], rows, columns


@evaluates("FractionalMaxPoolGrad")
def _fractional_max_pool_grad(
    orig_input: Any,
    orig_output: Any,
    out_backprop: Any,
    row_pooling_sequence: Any,
    col_pooling_sequence: Any,
    *,
    overlapping: bool,
) -> Any:
    x, gradient = jnp.asarray(orig_input), jnp.asarray(out_backprop)
    _, places = _winners(x, row_pooling_sequence, col_pooling_sequence, overlapping)
    batch, channels = x.shape[0], x.shape[3]
    image = jnp.arange(batch, dtype=jnp.int32)[:, None, None, None]
    channel = jnp.arange(channels, dtype=jnp.int32)
    flat = jnp.zeros((batch, x.shape[1] * x.shape[2], channels), x.dtype)
    return flat.at[image, places, channel].add(gradient).reshape(x.shape)


@evaluates(
    "FractionalAvgPool",
    with_context=True,
    draws=True,
    needs_64_bit=True,
    ignores=("seed", "seed2"),
)
def _fractional_avg_pool(
    ctx: NodeContext,
    value: Any,
    *,
    pooling_ratio: Sequence[float],
    pseudo_random: bool,
    overlapping: bool,
    deterministic: bool,
) -> tuple[Any, Any, Any]:
    x = jnp.asarray(value)
    rows, columns = _sequences(ctx, x, pooling_ratio, pseudo_random, deterministic)
    found, valid, _ = _in_windows(x, rows, columns, overlapping)
    total = jnp.sum(jnp.where(valid, found, 0), axis=3, dtype=x.dtype)
    count = jnp.sum(valid, axis=3, dtype=x.dtype)
    return lax.div(total, jnp.broadcast_to(count, total.shape)), rows, columns


@evaluates("FractionalAvgPoolGrad", static=("orig_input_tensor_shape",), needs_64_bit=True)
def _fractional_avg_pool_grad(
    orig_input_tensor_shape: Any,
    out_backprop: Any,
    row_pooling_sequence: Any,
    col_pooling_sequence: Any,
    *,
    overlapping: bool,
) -> Any:
    shape, gradient = sizes(orig_input_tensor_shape), jnp.asarray(out_backprop)
    shares = []
    for starts, size in zip((row_pooling_sequence, col_pooling_sequence), shape[1:3], strict=True):
        starts = jnp.asarray(starts)
        place = jnp.arange(size, dtype=starts.dtype)
        inside = (place >= starts[:-1, None]) & (place <= _ends(starts, size, overlapping))
        shares.append(inside / jnp.sum(inside, axis=1, keepdims=True))
    wide = gradient.astype(jnp.float64)
    return jnp.einsum("bopc,oi,pj->bijc", wide, *shares).astype(gradient.dtype)
