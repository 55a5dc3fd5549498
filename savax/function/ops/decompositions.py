"""Matrix decompositions of JAX: Cholesky, QR, SVD, eigenvalues, LU.

TensorFlow's evaluations are in ``linear_algebra``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import core, lax

from savax.function.ops._detours import HALVES
from savax.function.ops._registry import lowers
from savax.function.ops._sizes import is_known
from savax.function.ops._slices import iota
from savax.function.ops._traced import traced
from savax.function.ops.householder import pivoted_qr

if TYPE_CHECKING:
    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


def widened(g: GraphBuilder, x: Symbol) -> Symbol:
    """Returns a matrix in a dtype that TensorFlow's kernels of linear algebra have."""
    return g.cast(x, "float32") if x.dtype.name in HALVES else x


def adjoint(g: GraphBuilder, x: Symbol, *, conjugate: bool = True) -> Symbol:
    """Returns matrices with rows and columns exchanged, conjugate if they are complex."""
    rank = x.ndim
    x = g.transpose(x, (*range(rank - 2), rank - 1, rank - 2))
    return g.op("Conj", x) if conjugate and x.dtype.is_complex else x


def has_no_elements(x: Symbol) -> bool:
    """Whether a size of a shape is known to be zero."""
    return any(is_known(size) and size == 0 for size in x.shape)


def _empty_result(g: GraphBuilder, index: int) -> Symbol:
    """Returns a result of an empty matrix: zeros, or an identity where there are elements."""
    shape, dtype = g.out[index]
    return g.full(0, shape, dtype)


def _identity(g: GraphBuilder, index: int) -> Symbol:
    shape, dtype = g.out[index]
    if not shape[-1] or not shape[-2]:
        return _empty_result(g, index)
    eye = g.const(np.eye(shape[-2], shape[-1]).astype(dtype.numpy_dtype), dtype)
    return g.broadcast(eye, shape)


def lower_triangle(g: GraphBuilder, x: Symbol) -> Symbol:
    """Returns matrices with zeros above the diagonal."""
    rows, columns = x.shape[-2:]
    row = g.expand_dims(iota(g, rows), 1)
    keep = g.op("GreaterEqual", row, g.expand_dims(iota(g, columns), 0), shape=(rows, columns))
    return g.op("SelectV2", keep, x, g.scalar(0, x), shape=x.shape)


@lowers("cholesky")
def _lower_cholesky(g: GraphBuilder, x: Symbol) -> Symbol:
    if has_no_elements(x):
        return _empty_result(g, 0)
    return g.cast(g.op("Cholesky", widened(g, x), shape=x.shape), x.dtype)


@lowers("qr")
def _lower_qr(
    g: GraphBuilder, x: Symbol, *, pivoting: bool, full_matrices: bool, use_magma: Any = None
) -> tuple[Symbol, ...]:
    if has_no_elements(x):
        rest = [_empty_result(g, index) for index in range(1, len(g.out))]
        return _identity(g, 0), *rest
    if pivoting:
        return pivoted_qr(g, x, full_matrices=full_matrices)
    shapes = [type_.shape for type_ in g.out]
    return g.op("Qr", x, full_matrices=full_matrices, shapes=shapes)


@lowers("svd")
def _lower_svd(
    g: GraphBuilder,
    x: Symbol,
    *,
    full_matrices: bool,
    compute_uv: bool,
    subset_by_index: Any,
    algorithm: Any = None,
) -> tuple[Symbol, ...]:
    *batch, rows, columns = x.shape
    if has_no_elements(x):
        return (_empty_result(g, 0), *(_identity(g, i) for i in range(1, len(g.out))))
    least = columns if rows == columns else g.out[0].shape[-1]
    if subset_by_index is not None:
        least = min(rows, columns)
    sizes = (rows, columns) if full_matrices else (least, least)
    s, u, v = g.op(
        "Svd",
        x,
        compute_uv=compute_uv,
        full_matrices=full_matrices,
        shapes=[
            (*batch, least),
            (*batch, rows, sizes[0]) if compute_uv else (0,),
            (*batch, columns, sizes[1]) if compute_uv else (0,),
        ],
    )
    if s.dtype.is_complex:
        s = g.op("Real", s, Tout=g.out[0].dtype)
    values: list[Symbol] = [s, u, adjoint(g, v)] if compute_uv else [s]
    if subset_by_index is not None and subset_by_index != (0, least):
        values = [
            _subset(g, value, axis, subset_by_index)
            for value, axis in zip(values, (-1, -1, -2), strict=False)
        ]
    return tuple(values)


def _subset(g: GraphBuilder, x: Symbol, axis: int, bounds: tuple[int, int]) -> Symbol:
    starts, limits = [0] * x.ndim, list(x.shape)
    starts[axis], limits[axis] = bounds
    return g.slice(x, starts, limits)


@lowers("eigh")
def _lower_eigh(
    g: GraphBuilder,
    x: Symbol,
    *,
    lower: bool,
    sort_eigenvalues: bool,
    subset_by_index: Any,
    algorithm: Any = None,
    implementation: Any = None,
) -> tuple[Symbol, ...]:
    if has_no_elements(x):
        return _empty_result(g, 0), _empty_result(g, 1)
    size = x.shape[-1]
    if not lower:  # TensorFlow reads the lower triangle
        x = adjoint(g, x)
    values, vectors = g.op("SelfAdjointEigV2", x, compute_v=True, shapes=[x.shape[:-1], x.shape])
    real = g.out[1].dtype
    if values.dtype.is_complex:
        values = g.op("Real", values, Tout=real)
    if subset_by_index is not None and subset_by_index != (0, size):
        values = _subset(g, values, -1, subset_by_index)
        vectors = _subset(g, vectors, -1, subset_by_index)
    return vectors, values


@lowers("eig")
def _lower_eig(
    g: GraphBuilder,
    x: Symbol,
    *,
    compute_left_eigenvectors: bool,
    compute_right_eigenvectors: bool,
    enable_eigvec_derivs: bool = False,
    implementation: Any = None,
) -> tuple[Symbol, ...]:
    if has_no_elements(x):
        return tuple(_empty_result(g, index) for index in range(len(g.out)))
    dtype = g.out[0].dtype
    wanted = compute_left_eigenvectors or compute_right_eigenvectors
    shapes = [x.shape[:-1], x.shape if wanted else (0,)]
    values, vectors = g.op("Eig", x, compute_v=wanted, Tout=dtype, shapes=shapes)
    results = [values]
    if compute_left_eigenvectors:
        # The left eigenvectors are the rows of the inverse of the right ones.
        inverse = g.op("MatrixInverse", vectors, adjoint=True, shape=x.shape)
        results += traced(g, _normalized, inverse)
    if compute_right_eigenvectors:
        results += traced(g, _normalized, vectors)
    return tuple(results)


def _normalized(vectors: Any) -> Any:
    """Gives columns the norm 1 and a largest element that is real, as LAPACK does."""
    size = jnp.abs(vectors)
    largest = jnp.argmax(size, axis=-2, keepdims=True)
    pivot = jnp.take_along_axis(vectors, largest, axis=-2, mode="clip")
    norm = jnp.sqrt(jnp.sum(size * size, axis=-2, keepdims=True))
    return vectors * (jnp.conj(pivot) / (jnp.abs(pivot) * norm))


# LU: TensorFlow's own op takes square matrices only and fails on singular ones, where JAX goes on.


@lowers("lu")
def _lower_lu(g: GraphBuilder, x: Symbol) -> tuple[Symbol, ...]:
    *batch, rows, columns = x.shape
    if any(is_known(size) and size == 0 for size in (rows, columns)):
        order = g.broadcast(iota(g, rows), g.out[2].shape)
        return (*(g.full(0, out.shape, out.dtype) for out in g.out[:2]), order)
    least = core.min_dim(rows, columns)

    def factors(matrix: Any) -> Any:
        flat = matrix.reshape((math.prod(batch), rows, columns))
        lu, pivots, order = _lu(flat)
        return (
            lu.reshape((*batch, rows, columns)),
            pivots.reshape((*batch, least)),
            order.reshape((*batch, rows)),
        )

    return tuple(traced(g, factors, x))


def _lu(matrices: Any) -> Any:
    """Eliminates column by column, the largest element of the rest of each first."""
    count, rows, columns = matrices.shape
    row = jnp.arange(rows, dtype=jnp.int32)
    column = jnp.arange(columns, dtype=jnp.int32)
    steps = core.min_dim(rows, columns)

    def step(k: Any, state: Any) -> Any:
        matrix, pivots, order = state
        k = k.astype(jnp.int32)
        size = jnp.where(row >= k, _pivot_size(matrix[:, :, k]), -1)
        pivot = jnp.argmax(size, axis=1).astype(jnp.int32)[:, None]
        source = jnp.where(row == k, pivot, jnp.where(row == pivot, k, row))
        order = jnp.take_along_axis(order, source, axis=1, mode="clip")
        matrix = jnp.take_along_axis(matrix, source[:, :, None], axis=1, mode="clip")
        head = matrix[:, k, :]
        below = (row > k)[None, :] & (head[:, k] != 0)[:, None]
        divisor = jnp.where(head[:, k] == 0, 1, head[:, k])[:, None]
        factor = jnp.where(below, matrix[:, :, k] / divisor, matrix[:, :, k])
        product = factor[:, :, None] * head[:, None, :]
        inside = below[:, :, None] & (column > k)
        matrix = jnp.where(inside, matrix - product, matrix)
        matrix = jnp.where(column == k, factor[:, :, None], matrix)
        pivots = jnp.where(jnp.arange(steps, dtype=jnp.int32) == k, pivot, pivots)
        return matrix, pivots, order

    start = (
        matrices,
        jnp.zeros((count, steps), jnp.int32),
        jnp.broadcast_to(row, (count, rows)),
    )
    return lax.fori_loop(0, steps, step, start)


def _pivot_size(x: Any) -> Any:
    """Returns what LAPACK compares: the sum of the sizes of the parts of complex numbers."""
    if not jnp.issubdtype(x.dtype, jnp.complexfloating):
        return jnp.abs(x)
    return jnp.abs(jnp.real(x)) + jnp.abs(jnp.imag(x))


@lowers("lu_pivots_to_permutation")
def _lower_lu_pivots_to_permutation(
    g: GraphBuilder, pivots: Symbol, *, permutation_size: int
) -> Symbol:
    *batch, steps = pivots.shape
    position = np.arange(permutation_size, dtype=np.int32)

    def permutation(swaps: Any) -> Any:
        def step(k: Any, order: Any) -> Any:
            k = k.astype(jnp.int32)
            other = jnp.take(swaps, k, axis=-1, mode="clip")[..., None]
            source = jnp.where(position == k, other, jnp.where(position == other, k, position))
            return jnp.take_along_axis(order, source, axis=-1, mode="clip")

        start = jnp.broadcast_to(position, (*batch, permutation_size))
        return lax.fori_loop(0, steps, step, start)

    return traced(g, permutation, pivots)[0]


@lowers("cholesky_update")
def _lower_cholesky_update(g: GraphBuilder, r: Symbol, w: Symbol) -> Symbol:
    return traced(g, _cholesky_update, r, w)[0]


def _cholesky_update(r: Any, w: Any) -> Any:
    """Turns row by row of R so that the vector below it becomes zero."""

    def step(k: Any, state: Any) -> Any:
        r, w = state
        row = r[k]
        x, y = row[k], w[k]
        size = jnp.hypot(x, y)
        c, s = jnp.where(y == 0, 1, x / size), jnp.where(y == 0, 0, -y / size)
        turned = c * row - s * w
        return r.at[k].set(turned), c * w + s * row

    return lax.fori_loop(0, r.shape[-1], step, (r, w))[0]


@lowers("symmetric_product")
def _lower_symmetric_product(
    g: GraphBuilder, a: Symbol, c: Symbol, *, alpha: float, beta: float
) -> Symbol:
    def product(a: Any, c: Any) -> Any:
        return alpha * jnp.matmul(a, jnp.swapaxes(a, -1, -2)) + beta * c

    return traced(g, product, a, c)[0]
