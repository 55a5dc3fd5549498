"""Numbers that sum up a tensor's values, computed in small parts."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.saved_model.cli._listing import describe_entry
from savax.saved_model.cli._tables import aligned, size_text
from savax.saved_model.cli._values import tensor_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from savax.trackable.bundle import Entry

Array = np.ndarray[Any, Any]

PART_ELEMENTS = 1 << 18  # that are converted at a time: 2 MiB of float64

_MAX_FIRST = 8
_MAX_STRING_CHARS = 60


@dataclasses.dataclass(frozen=True)
class ValueReport:
    """The values of a tensor.

    Attributes:
      key: its checkpoint key.
      dtype: TensorFlow's name of the element type.
      shape: its sizes.
      size_bytes: bytes that it takes.
      minimum: smallest finite element; for strings the smallest number of bytes; None if there is
        none, and for complex numbers.
      maximum: likewise the largest.
      mean: of the finite elements; None if there are none; text for complex numbers.
      num_nan: elements that are NaN.
      num_infinite: elements that are infinite.
      first: texts of the first elements in C order.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    minimum: int | float | None
    maximum: int | float | None
    mean: float | str | None
    num_nan: int
    num_infinite: int
    first: tuple[str, ...]


def parts(array: Array) -> Iterator[Array]:
    """Yields the elements of an array in C order as one-dimensional arrays of a small size."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, PART_ELEMENTS):
        yield flat[start : start + PART_ELEMENTS]


def as_plain(part: Array) -> Array:
    """Returns numbers in a type that numpy computes with and that holds each of them exactly.

    That is int64 or uint64, float64 or complex128; booleans and 2- to 32-bit integers are int64.
    """
    kind = part.dtype.kind
    if kind == "c":
        return part.astype(np.complex128)
    if part.dtype == np.uint64:
        return part
    if kind in "iub" or part.dtype.name.startswith(("int", "uint")):  # ml_dtypes has kind V or i
        return part.astype(np.int64)
    return part.astype(np.float64)


def summarize(entry: Entry, array: Array) -> ValueReport:
    """Returns a summary of the values of an entry."""
    stored = describe_entry(entry)
    totals = _Totals()
    for part in parts(array):
        totals.add(_lengths(part) if array.dtype == object else as_plain(part))
    return ValueReport(
        key=stored.key,
        dtype=stored.dtype,
        shape=stored.shape,
        size_bytes=stored.size_bytes,
        minimum=totals.minimum,
        maximum=totals.maximum,
        mean=totals.mean(),
        num_nan=totals.num_nan,
        num_infinite=totals.num_infinite,
        first=tuple(map(_element_text, array.reshape(-1)[:_MAX_FIRST])),
    )


def _lengths(part: Array) -> Array:
    return np.array([len(element) for element in part], np.int64)


class _Totals:
    def __init__(self) -> None:
        self.minimum: int | float | None = None
        self.maximum: int | float | None = None
        self.num_nan = 0
        self.num_infinite = 0
        self._count = 0
        self._sum: Any = 0.0

    def add(self, part: Array) -> None:
        """Takes in elements of a type of ``as_plain``."""
        if part.dtype.kind in "fc":
            finite = np.isfinite(part)
            num_nan = int(np.count_nonzero(np.isnan(part)))
            self.num_nan += num_nan
            self.num_infinite += part.size - int(np.count_nonzero(finite)) - num_nan
            part = part[finite]
        if not part.size:
            return
        self._count += part.size
        with np.errstate(over="ignore", invalid="ignore"):
            self._sum += part.sum(dtype=np.complex128 if part.dtype.kind == "c" else np.float64)
        if part.dtype.kind != "c":
            low, high = part.min().item(), part.max().item()
            self.minimum = low if self.minimum is None else min(self.minimum, low)
            self.maximum = high if self.maximum is None else max(self.maximum, high)

    def mean(self) -> float | str | None:
        if not self._count:
            return None
        mean = self._sum / self._count
        if isinstance(mean, complex):
            return f"{mean.real:.6g}{mean.imag:+.6g}j"
        return float(mean)


def _element_text(element: Any) -> str:
    if not isinstance(element, bytes):
        return str(element)
    text = repr(element[:_MAX_STRING_CHARS])
    return text if len(element) <= _MAX_STRING_CHARS else f"{text}..."


def summary_lines(report: ValueReport) -> Iterator[str]:
    """Yields the report for people."""
    yield f"{report.key}: {tensor_text(report.dtype, report.shape)}, {size_text(report.size_bytes)}"
    unit = " bytes" if report.dtype == "string" else ""
    rows = [
        (name, f"{number_text(value)}{unit}")
        for name, value in (("min", report.minimum), ("max", report.maximum), ("mean", report.mean))
        if value is not None
    ]
    rows += [
        (name, str(count))
        for name, count in (("NaN", report.num_nan), ("infinite", report.num_infinite))
        if count
    ]
    more = ", ..." if math.prod(report.shape) > len(report.first) else ""
    rows.append(("values", ", ".join(report.first) + more if report.first else "(none)"))
    yield from (f"  {line}" for line in aligned(rows))


def number_text(value: float | str) -> str:
    """Returns a number with at most six digits, integers with all."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
