"""Matrices of which only some elements are stored, row after row: what CSR variants hold.

Where elements are must be known; their values may be traced, and have gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from savax.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError
from savax.function.ops._operands import static_int
from savax.function.ops._registry import evaluates
from savax.function.ops.shaping import sizes
from savax.function.ops.sparse_math import merged

if TYPE_CHECKING:
    from savax.types import DType

    _Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """A matrix, or a batch of them.

    Attributes:
      shape: [rows, columns] or [batch, rows, columns].
      places: int64 [elements, 3]: matrix, row and column of each, by matrices and rows.
      values: [elements].
    """

    shape: tuple[int, ...]
    places: _Array
    values: Any

    @property
    def batch(self) -> int:
        """How many matrices there are."""
        return self.shape[0] if len(self.shape) == 3 else 1

    @property
    def lines(self) -> _Array:
        """For each element the number of its row, counted through all matrices."""
        numbers: _Array = self.places[:, 0] * self.shape[-2] + self.places[:, 1]
        return numbers

    def with_values(self, values: Any) -> SparseMatrix:
        """Returns a matrix with other elements in the same places."""
        return SparseMatrix(self.shape, self.places, values)

    def transposed(self, conjugate: bool = False) -> SparseMatrix:
        """Returns the transposed matrices, or their adjoints."""
        places = self.places[:, [0, 2, 1]]
        order = np.lexsort((places[:, 1], places[:, 0]))
        values = jnp.asarray(self.values)[order]
        shape = (*self.shape[:-2], self.shape[-1], self.shape[-2])
        return SparseMatrix(shape, places[order], jnp.conj(values) if conjugate else values)

    def dense(self) -> Any:
        """Returns [batch, rows, columns], for a single matrix too."""
        values = jnp.asarray(self.values)
        zeros = jnp.zeros((self.batch, *self.shape[-2:]), values.dtype)
        return zeros.at[tuple(self.places.T)].set(values)


def _matrix(indices: _Array, values: Any, shape: tuple[int, ...]) -> SparseMatrix:
    """Returns the matrix with values at indices [elements, rank], in the order of their rows."""
    if len(shape) not in (2, 3):
        raise ShapeMismatchError(f"A sparse matrix: expected rank 2 or 3, found shape {shape}.")
    outside = ((indices < 0) | (indices >= np.array(shape))).any(1)
    if outside.any():
        where = int(np.argmax(outside))
        raise InvalidArgumentError(
            f"A sparse matrix of shape {shape}: indices[{where}] = {indices[where].tolist()} is "
            "out of its bounds."
        )
    matrix = np.zeros(len(indices), np.int64) if len(shape) == 2 else indices[:, 0]
    # Columns stay in the order in which they are given, as TensorFlow has them.
    places = np.stack([np.sort(matrix), indices[:, -2], indices[:, -1]], 1).astype(np.int64)
    lines = np.sort(matrix * shape[-2] + indices[:, -2])
    places[:, 1] = lines % shape[-2] if len(lines) else 0
    return SparseMatrix(shape, places, values)


def _of_type(matrix: SparseMatrix, dtype: DType) -> SparseMatrix:
    if matrix.values.dtype != dtype.numpy_dtype:
        raise DTypeMismatchError(
            f"A sparse matrix: expected dtype {dtype.name}, found {matrix.values.dtype}."
        )
    return matrix


def _check_equal(what: str, a: Any, b: Any) -> None:
    if a != b:
        raise ShapeMismatchError(f"{what}: {a} and {b}; expected the same.")


# From and to other forms.


@evaluates("DenseToCSRSparseMatrix", static=("indices",))
def _from_dense(dense_input: Any, indices: Any) -> SparseMatrix:
    dense = jnp.asarray(dense_input)
    found = _matrix(indices, None, dense.shape)
    return found.with_values(dense[tuple(indices.T)])


@evaluates("SparseTensorToCSRSparseMatrix", static=("indices", "dense_shape"))
def _from_sparse_tensor(indices: Any, values: Any, dense_shape: Any) -> SparseMatrix:
    return _matrix(indices, jnp.asarray(values), sizes(dense_shape))


@evaluates("SparseMatrixZeros", static=("dense_shape",))
def _zeros(dense_shape: Any, *, type: DType) -> SparseMatrix:
    shape = sizes(dense_shape)
    return _matrix(np.zeros((0, len(shape)), np.int64), jnp.zeros(0, type.numpy_dtype), shape)


@evaluates("CSRSparseMatrixToDense")
def _to_dense(sparse_input: SparseMatrix, *, type: DType) -> Any:
    return _of_type(sparse_input, type).dense().reshape(sparse_input.shape)


@evaluates("CSRSparseMatrixToSparseTensor")
def _to_sparse_tensor(sparse_matrix: SparseMatrix, *, type: DType) -> tuple[Any, Any, Any]:
    matrix = _of_type(sparse_matrix, type)
    indices = matrix.places[:, 3 - len(matrix.shape) :]
    return indices, matrix.values, np.array(matrix.shape, np.int64)


@evaluates("CSRSparseMatrixComponents", static=("index",))
def _components(csr_sparse_matrix: SparseMatrix, index: Any, *, type: DType) -> tuple[Any, ...]:
    matrix, number = _of_type(csr_sparse_matrix, type), static_int(index)
    if not 0 <= number < matrix.batch:
        raise InvalidArgumentError(
            f"The index of a sparse matrix: expected 0 to {matrix.batch - 1}, found {number}."
        )
    own = np.flatnonzero(matrix.places[:, 0] == number)
    counts = np.bincount(matrix.places[own, 1], minlength=matrix.shape[-2])
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pointers, matrix.places[own, 2].astype(np.int32), jnp.asarray(matrix.values)[own]


@evaluates("SparseMatrixNNZ")
def _nnz(sparse_matrix: SparseMatrix) -> Any:
    counts = np.bincount(sparse_matrix.places[:, 0], minlength=sparse_matrix.batch)
    return counts.astype(np.int32).reshape(sparse_matrix.shape[:-2])


@evaluates("SparseMatrixTranspose")
def _transpose(input: SparseMatrix, *, conjugate: bool, type: DType) -> SparseMatrix:
    return _of_type(input, type).transposed(conjugate)


# Arithmetic.


@evaluates("SparseMatrixAdd")
def _add(a: SparseMatrix, b: SparseMatrix, alpha: Any, beta: Any) -> SparseMatrix:
    _check_equal("The shapes of added sparse matrices", a.shape, b.shape)
    union, at_a, at_b = merged(a.places, b.places)
    total = jnp.zeros(len(union), a.values.dtype).at[at_a].add(alpha * a.values)
    return SparseMatrix(a.shape, union, total.at[at_b].add(beta * b.values))


@evaluates("SparseMatrixMul")
def _multiply(a: SparseMatrix, b: Any) -> SparseMatrix:
    factor = jnp.asarray(b)
    if not factor.ndim:
        return a.with_values(a.values * factor)
    _check_equal("Factors of sparse matrices and their shape", factor.shape, (a.batch, 1, 1))
    _check_equal("Ranks of sparse matrices and their factors", len(a.shape), factor.ndim)
    return a.with_values(a.values * factor.reshape(-1)[a.places[:, 0]])


def _check_flags(side: str, transpose: bool, adjoint: bool) -> None:
    if transpose and adjoint:
        raise InvalidArgumentError(f"Only one of transpose_{side} and adjoint_{side} may be true.")


def _turned(matrix: SparseMatrix, transpose: bool, adjoint: bool) -> SparseMatrix:
    return matrix.transposed(adjoint) if transpose or adjoint else matrix


@evaluates("SparseMatrixMatMul")
def _mat_mul(
    a: SparseMatrix,
    b: Any,
    *,
    transpose_a: bool,
    transpose_b: bool,
    adjoint_a: bool,
    adjoint_b: bool,
    transpose_output: bool,
    conjugate_output: bool,
) -> Any:
    """Multiplies sparse matrices with dense ones; the result is dense."""
    _check_flags("a", transpose_a, adjoint_a)
    _check_flags("b", transpose_b, adjoint_b)
    a, dense = _turned(a, transpose_a, adjoint_a), jnp.asarray(b)
    if transpose_b or adjoint_b:
        dense = jnp.swapaxes(dense, -1, -2)
        dense = jnp.conj(dense) if adjoint_b else dense
    _check_equal("Ranks of multiplied matrices", len(a.shape), dense.ndim)
    _check_equal("Numbers of multiplied matrices", a.shape[:-2], dense.shape[:-2])
    _check_equal("Inner sizes of multiplied matrices", a.shape[-1], dense.shape[-2])
    dense = dense.reshape(a.batch, *dense.shape[-2:])
    matrix, row, column = a.places.T
    terms = jnp.asarray(a.values)[:, None] * dense[matrix, column]
    total = jnp.zeros((a.batch, a.shape[-2], dense.shape[-1]), terms.dtype)
    total = total.at[matrix, row].add(terms)
    result = total.reshape(*a.shape[:-1], dense.shape[-1])
    result = jnp.conj(result) if conjugate_output else result
    return jnp.swapaxes(result, -1, -2) if transpose_output else result


@evaluates("SparseMatrixSparseMatMul")
def _sparse_mat_mul(
    a: SparseMatrix,
    b: SparseMatrix,
    *,
    type: DType,
    transpose_a: bool,
    transpose_b: bool,
    adjoint_a: bool,
    adjoint_b: bool,
) -> SparseMatrix:
    """Multiplies sparse matrices; elements that come out as zero are stored too."""
    _check_flags("a", transpose_a, adjoint_a)
    _check_flags("b", transpose_b, adjoint_b)
    a = _turned(_of_type(a, type), transpose_a, adjoint_a)
    b = _turned(_of_type(b, type), transpose_b, adjoint_b)
    _check_equal("Numbers of multiplied matrices", a.shape[:-2], b.shape[:-2])
    _check_equal("Inner sizes of multiplied matrices", a.shape[-1], b.shape[-2])
    # Each element of a meets the row of b that its column names.
    starts = np.concatenate([[0], np.cumsum(np.bincount(b.lines, minlength=b.batch * b.shape[-2]))])
    wanted = a.places[:, 0] * b.shape[-2] + a.places[:, 2]
    lengths = starts[wanted + 1] - starts[wanted]
    left = np.repeat(np.arange(len(wanted)), lengths)
    before = np.cumsum(lengths) - lengths
    right = np.arange(len(left)) + np.repeat(starts[wanted] - before, lengths)
    places = np.concatenate([a.places[left, :2], b.places[right, 2:]], 1)
    union, where = np.unique(places, axis=0, return_inverse=True)
    terms = jnp.asarray(a.values)[left] * jnp.asarray(b.values)[right]
    total = jnp.zeros(len(union), terms.dtype).at[where.reshape(-1)].add(terms)
    return SparseMatrix((*a.shape[:-1], b.shape[-1]), union, total)


# Softmax of the stored elements of each row.


def _line_sums(matrix: SparseMatrix, values: Any) -> Any:
    """Returns for each element the sum over its row."""
    count = matrix.batch * matrix.shape[-2]
    return jnp.zeros(count, values.dtype).at[matrix.lines].add(values)[matrix.lines]


@evaluates("SparseMatrixSoftmax")
def _softmax(logits: SparseMatrix, *, type: DType) -> SparseMatrix:
    values = jnp.asarray(_of_type(logits, type).values)
    count = logits.batch * logits.shape[-2]
    top = jax.ops.segment_max(jax.lax.stop_gradient(values), logits.lines, count)
    weights = jnp.exp(values - top[logits.lines])
    return logits.with_values(weights / _line_sums(logits, weights))


@evaluates("SparseMatrixSoftmaxGrad")
def _softmax_grad(
    softmax: SparseMatrix, grad_softmax: SparseMatrix, *, type: DType
) -> SparseMatrix:
    _check_equal("Shapes of a softmax and its gradient", softmax.shape, grad_softmax.shape)
    places = {tuple(place): i for i, place in enumerate(grad_softmax.places.tolist())}
    absent = len(places)
    found = [places.get(tuple(place), absent) for place in softmax.places.tolist()]
    values, given = (jnp.asarray(_of_type(m, type).values) for m in (softmax, grad_softmax))
    gradient = jnp.append(given, jnp.zeros(1, given.dtype))[np.array(found, np.int64)]
    return softmax.with_values((gradient - _line_sums(softmax, gradient * values)) * values)


# Factors.


def _filled_in(pattern: _Array) -> _Array:
    """Returns where the Cholesky factor of a symmetric matrix has elements."""
    filled = np.tril(pattern)
    for column in range(len(filled)):
        below = np.flatnonzero(filled[:, column])
        below = below[below > column]
        filled[np.ix_(below, below)] |= np.tri(len(below), dtype=bool)
    np.fill_diagonal(filled, True)
    return filled


@evaluates("SparseMatrixSparseCholesky", static=("permutation",))
def _cholesky(input: SparseMatrix, permutation: Any, *, type: DType) -> SparseMatrix:
    """Factors matrices with permuted rows and columns; it computes with dense ones."""
    matrix = _of_type(input, type)
    _check_equal("The sizes of a factored matrix", matrix.shape[-2], matrix.shape[-1])
    _check_equal("The permutation of a factored matrix", permutation.shape, matrix.shape[:-1])
    orders = permutation.reshape(matrix.batch, -1)
    lower = jnp.tril(matrix.dense())
    whole = lower + jnp.conj(jnp.swapaxes(jnp.tril(lower, -1), -1, -2))
    stored = np.zeros(whole.shape, bool)
    stored[tuple(matrix.places.T)] = True
    stored |= np.swapaxes(stored, 1, 2)
    number = np.arange(matrix.batch)[:, None, None]
    at = number, orders[:, :, None], orders[:, None, :]
    factors = jnp.linalg.cholesky(whole[at])
    places = np.argwhere([_filled_in(pattern) for pattern in stored[at]])
    places = places.reshape(-1, 3).astype(np.int64)
    return SparseMatrix(matrix.shape, places, factors[tuple(places.T)])
