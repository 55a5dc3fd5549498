"""Candidate samplers: classes drawn beside the true ones, for losses of many classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import InvalidArgumentError, ResourceLimitError, UnsupportedError
from savax.function.ops._host_strings import check_result_elements
from savax.function.ops._registry import evaluates
from savax.function.ops._word_stream import Words
from savax.function.ops.stateful_random import taken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.function.evaluation._walk import NodeContext
# Counters that TensorFlow sets aside for each class that it draws.
_RESERVED = 512

# Draws after which distinct classes aren't looked for any longer.
_MAX_TRIES = 1 << 26

_LOWEST = np.finfo(np.float32).min


def _expected(probabilities: Any, number: int, tries: int) -> Any:
    """Returns how often classes are to be expected among those that were drawn."""
    p = np.asarray(probabilities, np.float32)
    if tries == number:
        return p * np.float32(number)
    return -np.expm1(np.float32(tries) * np.log1p(-p))


def _check_classes(classes: Any, size: int) -> None:
    if classes.size and not 0 <= classes.min() <= classes.max() < size:
        raise InvalidArgumentError(
            f"The true classes are {classes.min()} to {classes.max()}, in a sampler of {size}."
        )


def _sampled(
    ctx: NodeContext,
    true_classes: Any,
    number: int,
    unique: bool,
    size: int,
    draw: Callable[[Words], int],
    probabilities: Callable[[Any], Any],
) -> tuple[Any, Any, Any]:
    """Returns classes, and the expected counts of the true and of the drawn ones.

    Args:
      ctx: of the node.
      true_classes: [batch, true classes of each].
      number: how many are drawn.
      unique: whether no class is drawn twice.
      size: the number of classes.
      draw: draws one.
      probabilities: of classes.
    """
    check_result_elements(number, "A candidate sampler")
    _check_classes(true_classes, size)
    if unique and number > size:
        raise InvalidArgumentError(f"{number} distinct classes can't be drawn out of {size}.")
    words = Words(taken(ctx, number * _RESERVED))
    found: dict[int, None] | list[int] = {} if unique else [draw(words) for _ in range(number)]
    tries = len(found)
    while isinstance(found, dict) and len(found) < number:
        if tries == _MAX_TRIES:
            raise ResourceLimitError(
                f"{number} distinct classes out of {size} weren't found in {tries:,} draws."
            )
        found.setdefault(draw(words))
        tries += 1
    classes = np.array(list(found), np.int64)
    expected = (_expected(probabilities(c), number, tries) for c in (true_classes, classes))
    return (classes, *expected)


def _check_range(range_max: int) -> None:
    if range_max <= 0:
        raise InvalidArgumentError(f"A candidate sampler has {range_max} classes.")


_ATTRS: dict[str, Any] = {
    "with_context": True,
    "on_host": True,
    "draws": True,
    "ignores": ("seed", "seed2", "num_true"),
}


@evaluates("UniformCandidateSampler", **_ATTRS)
def _uniform(
    ctx: NodeContext, true_classes: Any, *, num_sampled: int, unique: bool, range_max: int
) -> Any:
    _check_range(range_max)
    return _sampled(
        ctx,
        true_classes,
        num_sampled,
        unique,
        range_max,
        lambda words: words.below(range_max, 64),
        lambda classes: np.full(classes.shape, 1 / range_max),
    )


@evaluates("LogUniformCandidateSampler", **_ATTRS)
def _log_uniform(
    ctx: NodeContext, true_classes: Any, *, num_sampled: int, unique: bool, range_max: int
) -> Any:
    _check_range(range_max)
    scale = math.log1p(range_max)
    return _sampled(
        ctx,
        true_classes,
        num_sampled,
        unique,
        range_max,
        lambda words: (int(math.exp(words.double() * scale)) - 1) % range_max,
        lambda classes: np.log((classes + 2.0) / (classes + 1.0)) / scale,
    )


def _aliases(weights: Any) -> tuple[list[np.float32], list[int]]:
    """Returns what Walker's method draws from: a share of each class, and who has the rest."""
    size = len(weights)
    shares = (weights.astype(np.float64) * size / weights.sum(dtype=np.float64)).tolist()
    other = list(range(size))
    small = [i for i, share in enumerate(shares) if share < 1]
    large = [i for i, share in enumerate(shares) if share >= 1]
    while small and large:
        low, high = small.pop(), large.pop()
        other[low] = high
        shares[high] -= 1 - shares[low]
        (small if shares[high] < 1 else large).append(high)
    for left in (*small, *large):  # but for rounding they have all of their share
        shares[left] = 1.0
    return [np.float32(share) for share in shares], other


@evaluates("FixedUnigramCandidateSampler", **_ATTRS)
def _fixed_unigram(
    ctx: NodeContext,
    true_classes: Any,
    *,
    num_sampled: int,
    unique: bool,
    range_max: int,
    vocab_file: str,
    distortion: float,
    num_reserved_ids: int,
    num_shards: int,
    shard: int,
    unigrams: Sequence[float],
) -> Any:
    if vocab_file:
        raise UnsupportedError(
            f"FixedUnigramCandidateSampler reads the file {vocab_file!r}, which is no asset of the "
            "model. Give it the counts as unigrams."
        )
    check_result_elements(num_reserved_ids, "FixedUnigramCandidateSampler")
    counts = np.array([0.0] * num_reserved_ids + list(unigrams), np.float32)
    weights = counts ** np.float32(distortion)
    weights[:num_reserved_ids] = 0
    if not 0 <= shard < num_shards:
        raise InvalidArgumentError(f"Shard {shard} isn't one of {num_shards}.")
    weights = weights[shard::num_shards]
    if len(weights) != range_max or not weights.sum() > 0:
        raise InvalidArgumentError(
            f"FixedUnigramCandidateSampler has {len(weights)} classes, {(weights > 0).sum()} of "
            f"them with a weight; range_max is {range_max}."
        )
    shares, other = _aliases(weights)
    total = np.cumsum(weights, dtype=np.float32)[-1]

    def draw(words: Words) -> int:
        share = words.single()
        found = words.below(range_max, 32)
        return found if share < shares[found] else other[found]

    return _sampled(
        ctx, true_classes, num_sampled, unique, range_max, draw, lambda c: weights[c] / total
    )


@evaluates(
    "AllCandidateSampler", static=("true_classes",), ignores=("seed", "seed2", "num_true", "unique")
)
def _all(true_classes: Any, *, num_sampled: int) -> tuple[Any, Any, Any]:
    check_result_elements(num_sampled, "AllCandidateSampler")
    _check_classes(true_classes, num_sampled)
    classes = np.arange(num_sampled, dtype=np.int64)
    return classes, np.ones(true_classes.shape, np.float32), np.ones(num_sampled, np.float32)


@evaluates(
    "ComputeAccidentalHits",
    static=("true_classes", "sampled_candidates"),
    ignores=("seed", "seed2", "num_true"),
)
def _accidental_hits(true_classes: Any, sampled_candidates: Any) -> tuple[Any, Any, Any]:
    """Returns rows and places of drawn classes that are true, and a weight that drops them."""
    places = {value: place for place, value in enumerate(sampled_candidates.tolist())}
    hits = [
        (row, places[value])
        for row, values in enumerate(true_classes.tolist())
        for value in values
        if value in places
    ]
    found = np.array(hits, np.int64).reshape(-1, 2)
    return found[:, 0].astype(np.int32), found[:, 1], np.full(len(hits), _LOWEST, np.float32)
