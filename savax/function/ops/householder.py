"""Decompositions by Householder reflectors, which TensorFlow has no ops for.

A reflector ``1 - tau v v^H`` turns a column into a multiple of an axis. As in LAPACK, ``v`` is 1 on
that axis, and the rest of it is stored in the place of the column's zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import core, lax

from savax.function.ops._registry import lowers
from savax.function.ops._sizes import is_known
from savax.function.ops._traced import traced

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

    Array = jax.Array


def pivoted_qr(g: GraphBuilder, x: Symbol, *, full_matrices: bool) -> tuple[Symbol, ...]:
    """Writes a QR decomposition that takes the longest rest of a column first.

    Returns:
      The symbols of q, r and the order of the columns.
    """
    rows, columns = x.shape[-2:]
    least = core.min_dim(rows, columns)
    width = rows if full_matrices else least

    def decomposed(a: Array) -> tuple[Array, ...]:
        packed, taus, order = _triangular(a, pivoting=True)
        factor = lax.slice_in_dim(packed, 0, least, axis=1)
        zero = jnp.zeros((), a.dtype)
        factor = lax.pad(factor, zero, [(0, 0, 0), (0, width - least, 0)])
        upper = jnp.triu(lax.slice_in_dim(packed, 0, width))
        return product_of_reflectors(factor, taus), upper, order

    return tuple(traced(g, _for_each_matrix(decomposed, x.ndim - 2), x))


@lowers("geqrf")
def _lower_geqrf(g: GraphBuilder, x: Symbol) -> tuple[Symbol, ...]:
    triangular = _for_each_matrix(lambda a: _triangular(a, pivoting=False)[:2], x.ndim - 2)
    return tuple(traced(g, triangular, x))


@lowers("hessenberg")
def _lower_hessenberg(g: GraphBuilder, x: Symbol) -> tuple[Symbol, ...]:
    return tuple(traced(g, _for_each_matrix(_hessenberg, x.ndim - 2), x))


@lowers("householder_product")
def _lower_householder_product(g: GraphBuilder, a: Symbol, taus: Symbol) -> Symbol:
    return traced(g, _for_each_matrix(product_of_reflectors, a.ndim - 2), a, taus)[0]


@lowers("ormqr")
def _lower_ormqr(
    g: GraphBuilder, a: Symbol, taus: Symbol, c: Symbol, *, left: bool, transpose: bool
) -> Symbol:
    def multiplied(a: Array, taus: Array, c: Array) -> Array:
        if left:
            return _reflected(a, taus, c, transpose=transpose)
        return jnp.conj(_reflected(a, taus, jnp.conj(c.T), transpose=not transpose).T)

    return traced(g, _for_each_matrix(multiplied, a.ndim - 2), a, taus, c)[0]


def _for_each_matrix(fn: Callable[..., Any], axes: int) -> Callable[..., Any]:
    for _ in range(axes):
        fn = jax.vmap(fn)
    return fn


def _reflector(column: Array, at: Array) -> tuple[Array, Array, Array]:
    """Returns what clears a column below a place: v, tau, and what is left at the place."""
    row = lax.iota(jnp.int32, column.shape[0])
    zero = jnp.zeros((), column.dtype)
    head = jnp.sum(jnp.where(row == at, column, zero))
    rest = jnp.where(row > at, column, zero)
    # Scaled, so that squares neither overflow nor vanish.
    largest = jnp.max(jnp.abs(rest), initial=0)
    unit = jnp.where(largest == 0, 1, largest)
    length = unit * jnp.sqrt(jnp.sum(jnp.square(jnp.abs(rest / unit.astype(rest.dtype)))))
    size = jnp.hypot(jnp.hypot(jnp.real(head), jnp.imag(head)), length)
    beta = jnp.where(jnp.real(head) < 0, size, -size).astype(column.dtype)
    nothing = (length == 0) & (jnp.imag(head) == 0)
    tau = jnp.where(nothing, zero, (beta - head) / jnp.where(nothing, 1, beta))
    tail = rest / jnp.where(nothing, 1, head - beta)
    return jnp.where(row == at, jnp.ones_like(tail), tail), tau, jnp.where(nothing, head, beta)


def _triangular(a: Array, *, pivoting: bool) -> tuple[Array, ...]:
    """Clears column by column; returns the packed matrix, the taus, the order of the columns."""
    rows, columns = a.shape
    row, column = lax.iota(jnp.int32, rows), lax.iota(jnp.int32, columns)
    steps = core.min_dim(rows, columns)

    def step(k: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
        a, taus, order = state
        k = k.astype(jnp.int32)
        if pivoting:
            a, order = _longest_first(a, order, k)
        v, tau, beta = _reflector(jnp.take(a, k, axis=1, mode="clip"), k)
        along = jnp.sum(jnp.conj(v)[:, None] * a, axis=0)
        turned = a - jnp.conj(tau) * v[:, None] * along[None, :]
        a = jnp.where(column > k, turned, a)
        packed = jnp.where(row > k, v, jnp.where(row == k, beta, jnp.take(a, k, 1, mode="clip")))
        a = jnp.where(column == k, packed[:, None], a)
        return a, jnp.where(lax.iota(jnp.int32, steps) == k, tau, taus), order

    parts: tuple[Array, ...] = lax.fori_loop(0, steps, step, (a, jnp.zeros(steps, a.dtype), column))
    return parts


def _longest_first(a: Array, order: Array, k: Array) -> tuple[Array, Array]:
    """Exchanges column k with that of the columns behind it that has the longest rest."""
    rows, columns = a.shape
    column = lax.iota(jnp.int32, columns)
    rest = jnp.where(lax.iota(jnp.int32, rows)[:, None] >= k, jnp.abs(a), 0)
    length = jnp.where(column >= k, jnp.sum(jnp.square(rest), axis=0), -1)
    longest = jnp.argmax(length).astype(jnp.int32)
    source = jnp.where(column == k, longest, jnp.where(column == longest, k, column))
    return jnp.take(a, source, axis=1, mode="clip"), jnp.take(order, source, mode="clip")


def _hessenberg(a: Array) -> tuple[Array, Array]:
    """Clears what is below the first subdiagonal, from both sides."""
    size = a.shape[0]
    place = lax.iota(jnp.int32, size)
    steps = max(size - 1, 0) if is_known(size) else size - 1

    def step(i: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        a, taus = state
        i = i.astype(jnp.int32)
        v, tau, beta = _reflector(jnp.take(a, i, axis=1, mode="clip"), i + 1)
        across = jnp.sum(a * v[None, :], axis=1)
        turned = a - tau * across[:, None] * jnp.conj(v)[None, :]
        along = jnp.sum(jnp.conj(v)[:, None] * turned, axis=0)
        turned = turned - jnp.conj(tau) * v[:, None] * along[None, :]
        old = jnp.take(a, i, axis=1, mode="clip")
        packed = jnp.where(place > i + 1, v, jnp.where(place == i + 1, beta, old))
        a = jnp.where(place > i, turned, jnp.where(place == i, packed[:, None], a))
        return a, jnp.where(lax.iota(jnp.int32, steps) == i, tau, taus)

    parts: tuple[Array, Array] = lax.fori_loop(0, steps, step, (a, jnp.zeros(steps, a.dtype)))
    return parts


def product_of_reflectors(a: Array, taus: Array) -> Array:
    """Multiplies reflectors from the last to the first with the columns of an identity."""
    return _reflected(a, taus, jnp.eye(a.shape[0], a.shape[1], dtype=a.dtype), transpose=False)


def _reflected(a: Array, taus: Array, c: Array, *, transpose: bool) -> Array:
    """Multiplies the product of reflectors, or its adjoint, with a matrix."""
    steps = taus.shape[0]
    row = lax.iota(jnp.int32, a.shape[0])

    def step(i: Any, c: Array) -> Array:
        k = (i if transpose else steps - 1 - i).astype(jnp.int32)
        below = jnp.take(a, k, axis=1, mode="clip")
        v = jnp.where(row > k, below, jnp.where(row == k, jnp.ones_like(below), 0))
        tau = jnp.take(taus, k, mode="clip")
        along = jnp.sum(jnp.conj(v)[:, None] * c, axis=0)
        return c - (jnp.conj(tau) if transpose else tau) * v[:, None] * along[None, :]

    product: Array = lax.fori_loop(0, steps, step, c)
    return product
