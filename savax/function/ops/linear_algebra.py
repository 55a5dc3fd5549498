"""Decompositions, inverses, determinants, solutions of linear equations, functions of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jax import lax

from savax.function.ops._operands import static_float
from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from savax.types import DType

# TensorFlow's kernels fail on matrices that aren't positive definite or invertible. A compiled
# program can't fail; the results hold NaN or infinity then.


def _adjoint(x: Any) -> Any:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


@jax.custom_jvp
def _hermitian(x: Any) -> Any:
    """Returns the Hermitian matrix of a lower triangle; the upper one may hold anything.

    Tangents are made Hermitian by their mean, as TensorFlow's gradients are.
    """
    lower = jnp.tril(x)
    return lower + _adjoint(jnp.tril(x, -1))


@_hermitian.defjvp
def _hermitian_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, tangents
    return _hermitian(x), (dx + _adjoint(dx)) / 2


# Decompositions.


@evaluates("Cholesky", "BatchCholesky")
def _cholesky(input: Any) -> Any:
    return lax.linalg.cholesky(_hermitian(jnp.asarray(input)), symmetrize_input=False)


@evaluates("CholeskyGrad", "BatchCholeskyGrad")
def _cholesky_grad(l: Any, grad: Any) -> Any:  # noqa: E741 - the op's name for it
    factor = jnp.asarray(l)
    matrix = jnp.matmul(factor, _adjoint(factor))
    return jax.vjp(_cholesky, matrix)[1](jnp.asarray(grad))[0]


@evaluates("Qr")
def _qr(input: Any, *, full_matrices: bool) -> tuple[Any, Any]:
    q, r = lax.linalg.qr(jnp.asarray(input), full_matrices=full_matrices)
    return q, r


@evaluates("Svd", "BatchSvd")
def _svd(input: Any, *, compute_uv: bool, full_matrices: bool) -> tuple[Any, Any, Any]:
    x = jnp.asarray(input)
    if not compute_uv:
        none = jnp.zeros((), x.dtype)
        return jnp.linalg.svd(x, compute_uv=False).astype(x.dtype), none, none
    u, s, v_adjoint = jnp.linalg.svd(x, full_matrices=full_matrices)
    return s.astype(x.dtype), u, _adjoint(v_adjoint)


@evaluates("SelfAdjointEigV2", "BatchSelfAdjointEigV2")
def _self_adjoint_eig_v2(input: Any, *, compute_v: bool) -> tuple[Any, Any]:
    x = _hermitian(jnp.asarray(input))
    if not compute_v:
        values = jnp.linalg.eigvalsh(x, symmetrize_input=False)
        return values.astype(x.dtype), jnp.zeros((), x.dtype)
    values, vectors = jnp.linalg.eigh(x, symmetrize_input=False)
    return values.astype(x.dtype), vectors


@evaluates("SelfAdjointEig", "BatchSelfAdjointEig")
def _self_adjoint_eig(input: Any) -> Any:
    """Returns the values as the first row, the vectors below."""
    values, vectors = _self_adjoint_eig_v2(input, compute_v=True)
    return jnp.concatenate([values[..., None, :], vectors], -2)


@evaluates("BandedTriangularSolve")
def _banded_triangular_solve(matrix: Any, rhs: Any, *, lower: bool, adjoint: bool) -> Any:
    bands = jnp.asarray(matrix)
    count, size = bands.shape[-2:]
    dense = jnp.zeros((*bands.shape[:-2], size, size), bands.dtype)
    for band in range(count):
        # The main diagonal is the first row of a lower matrix, the last of an upper one.
        offset = band if lower else count - 1 - band
        rows = np.arange(offset, size) if lower else np.arange(size - offset)
        columns = rows - offset if lower else rows + offset
        dense = dense.at[..., rows, columns].set(bands[..., band, rows])
    return _matrix_triangular_solve(dense, rhs, lower=lower, adjoint=adjoint)


@evaluates("Eig")
def _eig(input: Any, *, compute_v: bool, Tout: DType) -> tuple[Any, Any]:  # noqa: N803
    x, kind = jnp.asarray(input), Tout.numpy_dtype
    if not compute_v:
        return jnp.linalg.eigvals(x).astype(kind), jnp.zeros((), kind)
    values, vectors = jnp.linalg.eig(x)
    return values.astype(kind), vectors.astype(kind)


@evaluates("Lu")
def _lu(input: Any, *, output_idx_type: DType) -> tuple[Any, Any]:
    factors, _, permutation = lax.linalg.lu(jnp.asarray(input))
    return factors, permutation.astype(output_idx_type.numpy_dtype)


# Inverses and determinants.


@evaluates("MatrixInverse", "BatchMatrixInverse")
def _matrix_inverse(input: Any, *, adjoint: bool) -> Any:
    x = jnp.asarray(input)
    return jnp.linalg.inv(_adjoint(x) if adjoint else x)


@evaluates("MatrixDeterminant", "BatchMatrixDeterminant")
def _matrix_determinant(input: Any) -> Any:
    return jnp.linalg.det(jnp.asarray(input))


@evaluates("LogMatrixDeterminant")
def _log_matrix_determinant(input: Any) -> tuple[Any, Any]:
    x = jnp.asarray(input)
    sign, log_size = jnp.linalg.slogdet(x)
    return sign.astype(x.dtype), log_size.astype(x.dtype)


# Linear equations.


@evaluates("MatrixSolve", "BatchMatrixSolve")
def _matrix_solve(matrix: Any, rhs: Any, *, adjoint: bool) -> Any:
    matrix = jnp.asarray(matrix)
    return jnp.linalg.solve(_adjoint(matrix) if adjoint else matrix, jnp.asarray(rhs))


@evaluates("MatrixTriangularSolve", "BatchMatrixTriangularSolve")
def _matrix_triangular_solve(matrix: Any, rhs: Any, *, lower: bool, adjoint: bool) -> Any:
    matrix, rhs = jnp.asarray(matrix), jnp.asarray(rhs)
    lead = jnp.broadcast_shapes(matrix.shape[:-2], rhs.shape[:-2])
    matrix = jnp.broadcast_to(matrix, (*lead, *matrix.shape[-2:]))
    rhs = jnp.broadcast_to(rhs, (*lead, *rhs.shape[-2:]))
    return lax.linalg.triangular_solve(
        matrix, rhs, left_side=True, lower=lower, transpose_a=adjoint, conjugate_a=adjoint
    )


@evaluates("MatrixSolveLs", "BatchMatrixSolveLs", static=("l2_regularizer",))
def _matrix_solve_ls(matrix: Any, rhs: Any, l2_regularizer: Any, *, fast: bool) -> Any:
    matrix, rhs = jnp.asarray(matrix), jnp.asarray(rhs)
    if not fast:  # the solution of least norm; TensorFlow ignores the regularizer here
        return jnp.matmul(jnp.linalg.pinv(matrix), rhs)
    rows, columns = matrix.shape[-2:]
    adjoint = _adjoint(matrix)
    weight = jnp.asarray(static_float(l2_regularizer), matrix.dtype)
    if rows >= columns:
        normal = jnp.matmul(adjoint, matrix) + weight * jnp.eye(columns, dtype=matrix.dtype)
        return jnp.linalg.solve(normal, jnp.matmul(adjoint, rhs))
    normal = jnp.matmul(matrix, adjoint) + weight * jnp.eye(rows, dtype=matrix.dtype)
    return jnp.matmul(adjoint, jnp.linalg.solve(normal, rhs))


@evaluates("TridiagonalSolve", ignores=("partial_pivoting", "perturb_singular"))
def _tridiagonal_solve(diagonals: Any, rhs: Any) -> Any:
    upper, middle, lower = (jnp.asarray(diagonals)[..., i, :] for i in range(3))
    # The first element of the lower and the last of the upper diagonal lie outside the matrix.
    lower = lower.at[..., 0].set(0)
    upper = upper.at[..., -1].set(0)
    return lax.linalg.tridiagonal_solve(lower, middle, upper, jnp.asarray(rhs))


@evaluates("TridiagonalMatMul")
def _tridiagonal_mat_mul(superdiag: Any, maindiag: Any, subdiag: Any, rhs: Any) -> Any:
    upper, middle, lower = (
        jnp.squeeze(jnp.asarray(d), -2)[..., None] for d in (superdiag, maindiag, subdiag)
    )
    rhs = jnp.asarray(rhs)
    none = jnp.zeros_like(rhs[..., :1, :])
    above = jnp.concatenate([none, rhs[..., :-1, :]], -2)
    below = jnp.concatenate([rhs[..., 1:, :], none], -2)
    # TensorFlow stores the element of row i of each diagonal at position i.
    return middle * rhs + upper * below + lower * above


@evaluates("Cross")
def _cross(a: Any, b: Any) -> Any:
    return jnp.cross(jnp.asarray(a), jnp.asarray(b))


# Functions of matrices.


def _square_root(x: Any) -> Any:
    return jnp.vectorize(jsl.sqrtm, signature="(n,n)->(n,n)")(x)


@evaluates("MatrixSquareRoot")
def _matrix_square_root(input: Any) -> Any:
    x = jnp.asarray(input)
    root = _square_root(x)
    return root.astype(x.dtype) if jnp.iscomplexobj(x) else jnp.real(root).astype(x.dtype)


@evaluates("MatrixExponential")
def _matrix_exponential(input: Any) -> Any:
    return jsl.expm(jnp.asarray(input))


@evaluates("MatrixLogarithm")
def _matrix_logarithm(input: Any) -> Any:
    """Takes square roots until the matrix is near the identity, where a quadrature is exact."""
    x = jnp.asarray(input)
    if x.shape[-1] == 0:
        return x
    return jnp.vectorize(_logarithm, signature="(n,n)->(n,n)")(x)


_MAX_ROOTS = 40
_QUADRATURE = np.polynomial.legendre.leggauss(8)


def _logarithm(x: Any) -> Any:
    identity = jnp.eye(x.shape[-1], dtype=x.dtype)

    def is_far(state: Any) -> Any:
        root, count = state
        distance = jnp.max(jnp.sum(jnp.abs(root - identity), axis=0))
        return (distance > 0.25) & (count < _MAX_ROOTS)

    def halve(state: Any) -> Any:
        root, count = state
        return jsl.sqrtm(root).astype(x.dtype), count + 1

    root, count = lax.while_loop(is_far, halve, (x, jnp.int32(0)))
    rest = root - identity
    # log(I + R) is the integral of R (I + tR)^-1 over t from 0 to 1.
    total = jnp.zeros_like(rest)
    for node, weight in zip(*_QUADRATURE, strict=True):
        factor = jnp.asarray((node + 1) / 2, x.dtype)
        part = jnp.linalg.solve(identity + factor * rest, rest)
        total = total + jnp.asarray(weight / 2, x.dtype) * part
    return total * jnp.exp2(count.astype(jnp.real(x).dtype)).astype(x.dtype)
