"""Arrays that hold the hard cases of a dtype."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

FLOATS = ("float32", "float64", "float16", "bfloat16")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = SIGNED + UNSIGNED
COMPLEX = ("complex64", "complex128")

_FLOAT_VALUES = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3.0, -3.0, 7.0, 0.1, -0.1, 0.9),
    *(-0.9, 20.0, -20.0, 100.0, -100.0, 1e-3, 3e4, np.inf, -np.inf, np.nan),
)
_COMPLEX_VALUES = (1, -1, 1j, -1j, 1 + 2j, -3 - 4j, 0.5 - 0.5j, 2 + 0.1j)


def as_numpy(dtype: str) -> np.dtype[Any]:
    """Returns the numpy dtype of a name; bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)


def special_values(dtype: str) -> np.ndarray[Any, Any]:
    """Returns a vector of zeros, limits, NaN and infinities, as far as the dtype has them."""
    kind = as_numpy(dtype)
    if dtype == "bool":
        return np.array([True, False])
    if dtype in FLOATS:
        return np.array(_FLOAT_VALUES).astype(kind)
    if dtype in COMPLEX:
        return np.array(_COMPLEX_VALUES, kind)
    bounds = np.iinfo(kind)
    negative = (bounds.min + 1, -1, -2, -3, -7) if bounds.min else ()
    values = (bounds.min, *negative, 0, 1, 2, 3, 5, 7, 31, 64, 100, bounds.max - 1, bounds.max)
    return np.array(values, kind)


def special_pairs(dtype: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns two vectors with every pair of special values."""
    values = special_values(dtype)
    first, second = np.meshgrid(values, values)
    return first.ravel(), second.ravel()


def tolerance(dtype: str) -> float:
    """Returns the relative error that counts as rounding in a dtype."""
    return {"bfloat16": 2e-2, "float16": 4e-3, "float64": 1e-12, "complex128": 1e-12}.get(
        dtype, 2e-5
    )
