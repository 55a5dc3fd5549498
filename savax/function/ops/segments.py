"""Sums, products and extremes of rows that share a segment number."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from savax.errors import InvalidArgumentError
from savax.function.ops._operands import static_int
from savax.function.ops._registry import evaluates


def _dropping_negative(ids: Any, count: int) -> Any:
    """Returns segment numbers as int32, negative ones out of range: TensorFlow skips those."""
    ids = jnp.asarray(ids)
    return jnp.where((ids < 0) | (ids >= count), count, ids).astype(jnp.int32)


def _unsorted(reduce: str, data: Any, segment_ids: Any, num_segments: Any) -> Any:
    count = static_int(num_segments)
    data = jnp.asarray(data)
    rank = len(segment_ids.shape)
    ids = _dropping_negative(segment_ids, count).reshape(-1)
    rows = data.reshape(ids.shape[0], *data.shape[rank:])
    start = jnp.full((count, *rows.shape[1:]), _START[reduce](data.dtype), data.dtype)
    return getattr(start.at[ids], reduce)(rows, mode="drop")


def lowest(dtype: Any) -> Any:
    """Returns the lowest finite number of a dtype."""
    info = jnp.finfo if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo
    return info(dtype).min


def _highest(dtype: Any) -> Any:
    info = jnp.finfo if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo
    return info(dtype).max


# What TensorFlow gives a segment without rows: the lowest finite number, not -inf.
_START = {"add": lambda _: 0, "multiply": lambda _: 1, "max": lowest, "min": _highest}


@evaluates("UnsortedSegmentSum", static=("num_segments",))
def _unsorted_segment_sum(data: Any, segment_ids: Any, num_segments: Any) -> Any:
    return _unsorted("add", data, segment_ids, num_segments)


@evaluates("UnsortedSegmentProd", static=("num_segments",))
def _unsorted_segment_prod(data: Any, segment_ids: Any, num_segments: Any) -> Any:
    return _unsorted("multiply", data, segment_ids, num_segments)


@evaluates("UnsortedSegmentMax", static=("num_segments",))
def _unsorted_segment_max(data: Any, segment_ids: Any, num_segments: Any) -> Any:
    return _unsorted("max", data, segment_ids, num_segments)


@evaluates("UnsortedSegmentMin", static=("num_segments",))
def _unsorted_segment_min(data: Any, segment_ids: Any, num_segments: Any) -> Any:
    return _unsorted("min", data, segment_ids, num_segments)


def _sorted(reduce: str, data: Any, segment_ids: Any) -> Any:
    """Reduces sorted segments; segments that are skipped get zeros."""
    ids = np.asarray(segment_ids)
    count = int(ids[-1]) + 1 if ids.size else 0
    result = _unsorted(reduce, data, ids, count)
    present = np.isin(np.arange(count), ids).reshape(-1, *(1,) * (result.ndim - 1))
    return jnp.where(present, result, jnp.zeros((), result.dtype))


@evaluates("SegmentSum", static=("segment_ids",))
def _segment_sum(data: Any, segment_ids: Any) -> Any:
    return _sorted("add", data, segment_ids)


@evaluates("SegmentProd", static=("segment_ids",))
def _segment_prod(data: Any, segment_ids: Any) -> Any:
    ids = np.asarray(segment_ids)
    return _unsorted("multiply", data, ids, int(ids[-1]) + 1 if ids.size else 0)


@evaluates("SegmentMax", static=("segment_ids",))
def _segment_max(data: Any, segment_ids: Any) -> Any:
    return _sorted("max", data, segment_ids)


@evaluates("SegmentMin", static=("segment_ids",))
def _segment_min(data: Any, segment_ids: Any) -> Any:
    return _sorted("min", data, segment_ids)


@evaluates("SegmentMean", static=("segment_ids",))
def _segment_mean(data: Any, segment_ids: Any) -> Any:
    total = _sorted("add", data, segment_ids)
    counts = np.bincount(np.asarray(segment_ids), minlength=total.shape[0])
    counts = np.maximum(counts, 1).reshape(-1, *(1,) * (total.ndim - 1))
    return total / jnp.asarray(counts, total.dtype)


@evaluates("SparseSegmentSum", static=("segment_ids",))
def _sparse_segment_sum(data: Any, indices: Any, segment_ids: Any, *, sparse_gradient: bool) -> Any:
    return _sorted("add", jnp.take(jnp.asarray(data), indices, 0, mode="clip"), segment_ids)


@evaluates("SparseSegmentMean", static=("segment_ids",))
def _sparse_segment_mean(
    data: Any, indices: Any, segment_ids: Any, *, sparse_gradient: bool
) -> Any:
    return _segment_mean(jnp.take(jnp.asarray(data), indices, 0, mode="clip"), segment_ids)


# Segments of chosen rows. The sums may be divided by the number of rows, or by its square root.


def _weighted_sums(
    data: Any, indices: Any, segment_ids: Any, count: int | None, power: float
) -> Any:
    rows = jnp.take(jnp.asarray(data), indices, 0, mode="clip")
    ids = np.asarray(segment_ids)
    number = (int(ids[-1]) + 1 if ids.size else 0) if count is None else count
    total = _unsorted("add", rows, ids, number)
    if not power:
        return total
    sizes = np.maximum(np.bincount(ids, minlength=number)[:number], 1) ** power
    return total / jnp.asarray(sizes.reshape(-1, *(1,) * (total.ndim - 1)), total.dtype)


@evaluates("SparseSegmentSqrtN", static=("segment_ids",))
def _sparse_segment_sqrt_n(
    data: Any, indices: Any, segment_ids: Any, *, sparse_gradient: bool
) -> Any:
    return _weighted_sums(data, indices, segment_ids, None, 0.5)


def _with_num_segments(power: float) -> Any:
    def rule(
        data: Any, indices: Any, segment_ids: Any, num_segments: Any, *, sparse_gradient: bool
    ) -> Any:
        return _weighted_sums(data, indices, segment_ids, static_int(num_segments), power)

    return rule


def _gradient_rule(power: float) -> Any:
    def rule(grad: Any, indices: Any, segment_ids: Any, output_dim0: Any) -> Any:
        ids = np.asarray(segment_ids)
        sizes = np.bincount(ids, minlength=1) ** power
        grad = jnp.asarray(grad)
        weight = jnp.asarray(1 / sizes[ids], grad.dtype).reshape(-1, *(1,) * (grad.ndim - 1))
        rows = jnp.take(grad, ids, 0, mode="clip") * weight
        return _unsorted("add", rows, jnp.asarray(indices), output_dim0)

    return rule


def _compact_gradient_rule(power: float) -> Any:
    """Returns the rule of a gradient that has the rows of distinct indices only."""
    gradient = _gradient_rule(power)

    def rule(
        grad: Any, indices: Any, segment_ids: Any, dense_output_dim0: Any
    ) -> tuple[Any, np.ndarray[Any, Any]]:
        rows, place = np.unique(indices, return_inverse=True)
        limit = static_int(dense_output_dim0)
        if rows.size and not 0 <= rows[0] <= rows[-1] < limit:
            raise InvalidArgumentError(
                f"Indices of chosen rows: expected 0 to {limit - 1}, found {rows[0]} to {rows[-1]}."
            )
        return gradient(grad, place, segment_ids, rows.size), rows

    return rule


for _name, _power in (("Sum", 0.0), ("Mean", 1.0), ("SqrtN", 0.5)):
    evaluates(f"SparseSegment{_name}WithNumSegments", static=("segment_ids", "num_segments"))(
        _with_num_segments(_power)
    )
    evaluates(f"SparseSegment{_name}Grad", static=("segment_ids", "output_dim0"))(
        _gradient_rule(_power)
    )
    evaluates(
        f"SparseSegment{_name}GradV2", static=("indices", "segment_ids", "dense_output_dim0")
    )(_compact_gradient_rule(_power))


# With a number of segments, sorted segments are reduced as others are.
for _op, _rule in (
    ("SegmentSumV2", _unsorted_segment_sum),
    ("SegmentProdV2", _unsorted_segment_prod),
    ("SegmentMaxV2", _unsorted_segment_max),
    ("SegmentMinV2", _unsorted_segment_min),
):
    evaluates(_op, static=("num_segments",))(_rule)
