"""Clusters of points, their nearest centres, and the nearest monotone sequence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import InvalidArgumentError, ResourceLimitError
from savax.function.ops._operands import static_int
from savax.function.ops._registry import evaluates
from savax.function.ops._word_stream import Words

if TYPE_CHECKING:
    from savax.types import DType

# Draws after which no other point is looked for.
_MAX_TRIES = 1 << 22


@evaluates("NearestNeighbors", static=("k",))
def _nearest_neighbors(points: Any, centers: Any, k: Any) -> tuple[Any, Any]:
    """Returns the nearest centres [point, k], and the squares of the distances."""
    x, y = jnp.asarray(points), jnp.asarray(centers)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or static_int(k) < 0:
        raise InvalidArgumentError(
            f"NearestNeighbors takes points and centres of as many coordinates, and k >= 0; found "
            f"{x.shape}, {y.shape} and {static_int(k)}."
        )
    count = min(static_int(k), y.shape[0])
    partial = jnp.sum(y * y, axis=1) / 2 - x @ y.T
    best, index = lax.top_k(-partial, count)
    distances = 2 * (jnp.sum(x * x, axis=1, keepdims=True) / 2 - best)
    return index.astype(jnp.int64), distances


def _words(seed: Any) -> Words:
    words = np.array([static_int(seed)], np.int64).view(np.uint32)
    zero = np.uint32(0)
    return Words(((words[0], words[1]), (zero, zero, zero, zero)))


@evaluates("KMC2ChainInitialization", static=("distances", "seed"))
def _kmc2_chain_initialization(distances: Any, seed: Any) -> Any:
    """Returns the last state of a Markov chain that goes to a candidate by its distance."""
    if distances.ndim != 1 or not distances.size:
        raise InvalidArgumentError(
            f"KMC2ChainInitialization takes a vector of distances, found {distances.shape}."
        )
    words, chosen = _words(seed), 0
    for candidate in range(1, len(distances)):
        if distances[candidate] > words.single() * distances[chosen]:
            chosen = candidate
    return np.array(chosen, np.int64)


class _Sampler:
    """Draws points far from those that were drawn, by the squares of their distances.

    Args:
      points: [number, coordinates].
      words: random ones.
    """

    def __init__(self, points: Any, words: Words) -> None:
        self.chosen: list[int] = []
        self._points = points
        self._sums: Any = None
        self._halves: Any = np.float32(0.5) * np.sum(points * points, axis=1, dtype=np.float32)
        self._words = words
        self._nearest = np.full(len(points), np.inf, np.float32)

    def draw(self, retries: int) -> None:
        """Adds the best of some points."""
        if self.chosen:
            self._sums = np.cumsum(self._nearest, dtype=np.float32)
        best, lowest = 0, math.inf
        nearest = self._nearest
        for _ in range(1 + retries):
            index = self._candidate()
            found = np.minimum(self._nearest, self._distances(index))
            total = float(found.sum(dtype=np.float32))
            if total < lowest or not retries:
                best, lowest, nearest = index, total, found
        self.chosen.append(best)
        self._nearest = nearest

    def _distances(self, index: int) -> Any:
        """Returns halves of the squared distances to a point."""
        products = self._points @ self._points[index]
        return (self._halves - products) + self._halves[index]

    def _candidate(self) -> int:
        number = len(self._points)
        if not self.chosen:
            return self._words.below(number, 64)
        for _ in range(_MAX_TRIES):
            total = self._sums[-1]
            if total > 0:
                place = np.searchsorted(self._sums, self._words.single() * total, side="right")
                index = min(int(place), number - 1)
            else:  # all points are the same
                index = self._words.below(number, 64)
            if index not in self.chosen:
                return index
        raise ResourceLimitError(f"No other of {number} points was drawn in {_MAX_TRIES:,} tries.")


@evaluates(
    "KmeansPlusPlusInitialization",
    static=("points", "num_to_sample", "seed", "num_retries_per_sample"),
)
def _kmeans_plus_plus_initialization(
    points: Any, num_to_sample: Any, seed: Any, num_retries_per_sample: Any
) -> Any:
    count, retries = static_int(num_to_sample), static_int(num_retries_per_sample)
    if points.ndim != 2 or not 0 < count <= len(points):
        raise InvalidArgumentError(
            f"KmeansPlusPlusInitialization draws {count} points out of {points.shape}."
        )
    sampler = _Sampler(points, _words(seed))
    for _ in range(count):
        sampler.draw(retries if retries >= 0 else 2 + int(math.log(count)))
    return points[sampler.chosen]


@evaluates("IsotonicRegression", static=("input",))
def _isotonic_regression(input: Any, *, output_dtype: DType) -> tuple[Any, Any]:
    """Returns the nearest sequences that don't rise, and the numbers of their equal segments.

    Kruskal, "Nonmetric multidimensional scaling: a numerical method" (1964).
    """
    values = input.astype(output_dtype.numpy_dtype)
    if not values.ndim:
        raise InvalidArgumentError("IsotonicRegression takes at least one axis, found a scalar.")
    rows = values.reshape(-1, values.shape[-1]) if values.size else values[:0].reshape(0, 0)
    found, segments = np.zeros_like(rows), np.zeros(rows.shape, np.int32)
    for row, sequence in enumerate(rows):
        sums: list[Any] = []
        sizes: list[int] = []
        for value in sequence:
            sums.append(value)
            sizes.append(1)
            while len(sums) > 1 and sums[-1] / sizes[-1] > sums[-2] / sizes[-2]:
                total, size = sums.pop(), sizes.pop()
                sums[-1] += total
                sizes[-1] += size
        means = np.array([a / b for a, b in zip(sums, sizes, strict=True)], rows.dtype)
        found[row] = np.repeat(means, sizes)
        segments[row] = np.repeat(np.arange(len(sizes)), sizes)
    return found.reshape(values.shape), segments.reshape(values.shape)
