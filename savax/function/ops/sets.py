"""Distinct elements and differences of sets: host ops, since their sizes depend on the values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from savax.function.ops._registry import evaluates, folds

if TYPE_CHECKING:
    from savax.types import DType


def _unique(x: Any, axis: int | None, dtype: DType) -> tuple[Any, Any, Any]:
    """Returns the distinct elements in order of appearance, where each went, and the counts."""
    values, first, inverse, counts = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=axis, equal_nan=False
    )
    order = np.argsort(first)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(order.size)
    index = ranks[inverse.reshape(-1)].astype(dtype.numpy_dtype)
    kept = np.take(values, order, 0 if axis is None else axis)
    return kept, index, counts[order].astype(dtype.numpy_dtype)


def _axis(axis: Any) -> int | None:
    return int(axis[0]) if np.size(axis) else None


@evaluates("Unique", static=("x",))
@folds("Unique")
def _unique_v1(x: Any, *, out_idx: DType) -> tuple[Any, Any]:
    return _unique(x, None, out_idx)[:2]


@evaluates("UniqueV2", static=("x", "axis"))
@folds("UniqueV2")
def _unique_v2(x: Any, axis: Any, *, out_idx: DType) -> tuple[Any, Any]:
    return _unique(x, _axis(axis), out_idx)[:2]


@evaluates("UniqueWithCounts", static=("x",))
@folds("UniqueWithCounts")
def _unique_with_counts(x: Any, *, out_idx: DType) -> tuple[Any, Any, Any]:
    return _unique(x, None, out_idx)


@evaluates("UniqueWithCountsV2", static=("x", "axis"))
@folds("UniqueWithCountsV2")
def _unique_with_counts_v2(x: Any, axis: Any, *, out_idx: DType) -> tuple[Any, Any, Any]:
    return _unique(x, _axis(axis), out_idx)


@evaluates("ListDiff", static=("x", "y"))
@folds("ListDiff")
def _list_diff(x: Any, y: Any, *, out_idx: DType) -> tuple[Any, Any]:
    kept = np.flatnonzero(~np.isin(x, y))
    return x[kept], kept.astype(out_idx.numpy_dtype)
