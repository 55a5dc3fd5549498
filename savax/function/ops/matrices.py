"""Matrices by the position of their elements: one-hot rows, bands, diagonals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from savax.function.ops._operands import static_int
from savax.function.ops._registry import evaluates
from savax.function.ops.shaping import sizes

if TYPE_CHECKING:
    from collections.abc import Sequence


@evaluates("OneHot", static=("depth",))
def _one_hot(indices: Any, depth: Any, on_value: Any, off_value: Any, *, axis: int) -> Any:
    indices = jnp.asarray(indices)
    rank = indices.ndim + 1
    at = axis % rank
    count = static_int(depth)
    # Compared in the indices' own type: an index out of range matches no position.
    small = count - 1 <= jnp.iinfo(indices.dtype).max  # type: ignore[no-untyped-call]
    dtype = indices.dtype if small else jnp.dtype(jnp.int32)
    positions = jnp.arange(count, dtype=dtype).reshape(
        [count if i == at else 1 for i in range(rank)]
    )
    hit = jnp.expand_dims(indices.astype(dtype), at) == positions
    return jnp.where(hit, on_value, off_value)


@evaluates("MatrixBandPart", "BatchMatrixBandPart")
def _matrix_band_part(input: Any, num_lower: Any, num_upper: Any) -> Any:
    rows, columns = input.shape[-2:]
    row = jnp.arange(rows, dtype=jnp.int32)[:, None]
    column = jnp.arange(columns, dtype=jnp.int32)[None, :]
    lower = jnp.asarray(num_lower).astype(jnp.int32)
    upper = jnp.asarray(num_upper).astype(jnp.int32)
    keep = ((lower < 0) | (row - column <= lower)) & ((upper < 0) | (column - row <= upper))
    return jnp.where(keep, input, jnp.zeros((), input.dtype))


# Several diagonals are packed as rows of the matrix [*, diagonal, position], the highest first; a
# shorter one is padded on the side that `align` says: "<superdiagonals>_<subdiagonals>".


def _band(k: Any) -> tuple[int, int]:
    bounds = sizes(k)
    return bounds[0], bounds[-1]


def _places(shape: Sequence[int], low: int, high: int, align: str) -> tuple[Any, Any, Any]:
    """Returns row, column and validity [diagonal, position] of the elements of a band."""
    rows, columns = shape[-2:]
    longest = max(
        min(rows + min(diagonal, 0), columns - max(diagonal, 0))
        for diagonal in range(low, high + 1)
    )
    upper_side, lower_side = align.split("_")
    offsets = np.arange(high, low - 1, -1)[:, None]
    lengths = np.minimum(rows + np.minimum(offsets, 0), columns - np.maximum(offsets, 0))
    right = np.where(offsets >= 0, upper_side == "RIGHT", lower_side == "RIGHT")
    position = np.arange(longest)[None, :] - np.where(right, longest - lengths, 0)
    valid = (position >= 0) & (position < lengths)
    row = np.where(valid, position - np.minimum(offsets, 0), 0)
    column = np.where(valid, position + np.maximum(offsets, 0), 0)
    return row, column, valid


@evaluates("MatrixDiagPartV3", static=("k",))
def _matrix_diag_part_v3(input: Any, k: Any, padding_value: Any, *, align: str) -> Any:
    low, high = _band(k)
    row, column, valid = _places(input.shape, low, high, align)
    picked = jnp.asarray(input)[..., row, column]
    result = jnp.where(valid, picked, jnp.asarray(padding_value, input.dtype))
    return result[..., 0, :] if low == high else result


@evaluates("MatrixDiagPart", "BatchMatrixDiagPart")
def _matrix_diag_part(input: Any) -> Any:
    return jnp.diagonal(input, axis1=-2, axis2=-1)


@evaluates("MatrixDiagV3", static=("k", "num_rows", "num_cols"))
def _matrix_diag_v3(
    diagonal: Any, k: Any, num_rows: Any, num_cols: Any, padding_value: Any, *, align: str
) -> Any:
    low, high = _band(k)
    rows, columns = _matrix_size(
        diagonal.shape[-1], low, high, static_int(num_rows), static_int(num_cols)
    )
    lead = diagonal.shape[: -1 if low == high else -2]
    base = jnp.broadcast_to(jnp.asarray(padding_value, diagonal.dtype), (*lead, rows, columns))
    return _with_band(base, diagonal, low, high, align)


def _matrix_size(longest: int, low: int, high: int, rows: int, columns: int) -> tuple[int, int]:
    """Returns the size of the smallest matrix that has the diagonals; -1 stands for unknown."""
    min_rows = longest - min(high, 0)
    min_columns = longest + max(low, 0)
    if rows < 0 and columns < 0:
        rows = columns = max(min_rows, min_columns)
    return (min_rows if rows < 0 else rows), (min_columns if columns < 0 else columns)


def _with_band(matrix: Any, diagonal: Any, low: int, high: int, align: str) -> Any:
    if low == high:
        diagonal = jnp.expand_dims(diagonal, -2)
    row, column, valid = _places(matrix.shape, low, high, align)
    values = jnp.asarray(diagonal)[..., valid]
    return matrix.at[..., row[valid], column[valid]].set(values, unique_indices=True)


@evaluates("MatrixDiag", "BatchMatrixDiag")
def _matrix_diag(diagonal: Any) -> Any:
    size = diagonal.shape[-1]
    base = jnp.zeros((*diagonal.shape, size), diagonal.dtype)
    return _with_band(base, diagonal, 0, 0, "RIGHT_LEFT")


@evaluates("MatrixSetDiagV3", static=("k",))
def _matrix_set_diag_v3(input: Any, diagonal: Any, k: Any, *, align: str) -> Any:
    return _with_band(jnp.asarray(input), diagonal, *_band(k), align)


@evaluates("Diag")
def _diag(diagonal: Any) -> Any:
    flat = jnp.reshape(diagonal, -1)
    return jnp.diag(flat).reshape(*diagonal.shape, *diagonal.shape)


@evaluates("DiagPart")
def _diag_part(input: Any) -> Any:
    half: Sequence[int] = input.shape[: len(input.shape) // 2]
    count = int(np.prod(half, dtype=np.int64))
    return jnp.diagonal(jnp.reshape(input, (count, count))).reshape(half)


# The second versions keep shorter diagonals on the left, the first ones know only one diagonal.


@evaluates("MatrixDiagPartV2", static=("k",))
def _matrix_diag_part_v2(input: Any, k: Any, padding_value: Any) -> Any:
    return _matrix_diag_part_v3(input, k, padding_value, align="LEFT_LEFT")


@evaluates("MatrixDiagV2", static=("k", "num_rows", "num_cols"))
def _matrix_diag_v2(diagonal: Any, k: Any, num_rows: Any, num_cols: Any, padding_value: Any) -> Any:
    return _matrix_diag_v3(diagonal, k, num_rows, num_cols, padding_value, align="LEFT_LEFT")


@evaluates("MatrixSetDiagV2", static=("k",))
def _matrix_set_diag_v2(input: Any, diagonal: Any, k: Any) -> Any:
    return _with_band(jnp.asarray(input), diagonal, *_band(k), "LEFT_LEFT")


@evaluates("MatrixSetDiag", "BatchMatrixSetDiag")
def _matrix_set_diag(input: Any, diagonal: Any) -> Any:
    return _with_band(jnp.asarray(input), diagonal, 0, 0, "LEFT_LEFT")
