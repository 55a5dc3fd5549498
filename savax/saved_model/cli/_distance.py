"""How far two tensors are from each other, computed in small parts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.saved_model.cli._summary import as_plain, parts

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What counts as equal: ``|a - b| <= absolute + relative * max(|a|, |b|)``.

    NaN equals NaN, and an infinity equals itself only.
    """

    absolute: float = 0.0
    relative: float = 0.0


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far two tensors of one shape are from each other.

    Attributes:
      num_elements: elements of each.
      num_unequal: elements that aren't the same number or string.
      num_outside: elements among them that the tolerance doesn't cover.
      max_absolute: largest ``|a - b|``; infinite where only one of the two is finite; None for
        strings.
      max_relative: largest ``|a - b| / max(|a|, |b|)``; likewise.
    """

    num_elements: int
    num_unequal: int
    num_outside: int
    max_absolute: float | None
    max_relative: float | None


def measure(a: Array, b: Array, tolerance: Tolerance) -> Distance | None:
    """Returns the distance of two arrays of one shape; None between strings and numbers."""
    if (a.dtype == object) != (b.dtype == object):
        return None
    if a.dtype == object:
        num_unequal = sum(
            int(np.count_nonzero(x != y)) for x, y in zip(parts(a), parts(b), strict=True)
        )
        return Distance(a.size, num_unequal, num_unequal, None, None)
    num_unequal = num_outside = 0
    max_absolute = max_relative = 0.0
    for x, y in _pairs(a, b):
        unequal = (x != y) & ~((x != x) & (y != y))
        if not unequal.any():
            continue
        gap, scale = _gap_and_scale(x[unequal], y[unequal])
        with np.errstate(invalid="ignore", over="ignore"):
            relative = np.where(np.isfinite(gap), gap / scale, np.inf)
            allowed = tolerance.absolute + tolerance.relative * scale
        num_unequal += gap.size
        num_outside += int(np.count_nonzero(~((gap <= allowed) & np.isfinite(gap))))
        max_absolute = max(max_absolute, float(gap.max()))
        max_relative = max(max_relative, float(relative.max()))
    return Distance(a.size, num_unequal, num_outside, max_absolute, max_relative)


def _pairs(a: Array, b: Array) -> Iterator[tuple[Array, Array]]:
    """Yields parts of two arrays in one type that numpy compares exactly, if there is one."""
    for x, y in zip(parts(a), parts(b), strict=True):
        x, y = as_plain(x), as_plain(y)
        if x.dtype != y.dtype and {x.dtype.kind, y.dtype.kind} != {"i", "u"}:
            common = np.result_type(x, y)
            x, y = x.astype(common), y.astype(common)
        yield x, y


def _gap_and_scale(x: Array, y: Array) -> tuple[Array, Array]:
    """Returns ``|x - y|`` and ``max(|x|, |y|)`` as float64, infinite where that isn't a number."""
    wide_x, wide_y = (v if v.dtype.kind == "c" else v.astype(np.float64) for v in (x, y))
    scale = np.maximum(np.abs(wide_x), np.abs(wide_y))
    if x.dtype.kind in "iu" and x.dtype == y.dtype:
        # Wraps around to the right number modulo 2**64, which an unsigned integer holds.
        gap = (np.maximum(x, y) - np.minimum(x, y)).view(np.uint64).astype(np.float64)
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.abs(wide_x - wide_y)
    return np.where(np.isnan(gap), np.inf, gap), scale
