"""Solving linear systems with triangular and tridiagonal matrices.

TensorFlow's evaluations are in ``linear_algebra``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from savax.function.lowering._primitive_scan import live_equations
from savax.function.ops._registry import lowers
from savax.function.ops._sizes import is_known
from savax.function.ops._slices import iota
from savax.function.ops.decompositions import adjoint, has_no_elements, widened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


@lowers("triangular_solve")
def _lower_triangular_solve(
    g: GraphBuilder,
    a: Symbol,
    b: Symbol,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Symbol:
    dtype = b.dtype
    if has_no_elements(b):
        return g.full(0, b.shape, dtype)
    a, b = widened(g, a), widened(g, b)
    if unit_diagonal:
        a = _with_unit_diagonal(g, a)
    # x a = b is a^T x^T = b^T.
    transposed = transpose_a if left_side else not transpose_a
    if not left_side:
        b = adjoint(g, b, conjugate=False)
    # TensorFlow transposes and conjugates both or neither.
    if conjugate_a != transposed and a.dtype.is_complex:
        a = g.op("Conj", a)
    solution = g.op("MatrixTriangularSolve", a, b, lower=lower, adjoint=transposed, shape=b.shape)
    if not left_side:
        solution = adjoint(g, solution, conjugate=False)
    return g.cast(solution, dtype)


def _with_unit_diagonal(g: GraphBuilder, a: Symbol) -> Symbol:
    size = a.shape[-1]
    if is_known(size):
        on_diagonal = g.const(np.eye(size, dtype=np.bool_))
    else:
        places = iota(g, size)
        row, column = g.expand_dims(places, 1), g.expand_dims(places, 0)
        on_diagonal = g.op("Equal", row, column, shape=(size, size))
    return g.op("SelectV2", on_diagonal, g.scalar(1, a), a, shape=a.shape)


def lower_dense_solve(
    g: GraphBuilder, consts: Sequence[Any], sides: Sequence[Any], jaxprs: Any
) -> Symbol | None:
    """Returns the solution of a system that ``jnp.linalg.solve`` made, else None.

    One op says it all, and TensorFlow differentiates it.

    Args:
      g: the graph builder.
      consts: what the product with the matrix is given: the matrix.
      sides: the right side.
      jaxprs: the functions of JAX's equation.
    """
    if len(consts) != 1 or len(sides) != 1 or not _solves_by_lu(jaxprs.solve):
        return None
    (a,), (b,) = consts, sides
    if not _multiplies(jaxprs.matvec, a.ndim, b.ndim):
        return None
    if has_no_elements(b) or has_no_elements(a):
        return None
    # A vector, or the right sides as rows.
    columns = g.expand_dims(b, -1) if b.ndim < a.ndim else adjoint(g, b, conjugate=False)
    solution = _solution(g, a, columns)
    if b.ndim < a.ndim:
        return g.squeeze(solution, [-1])
    return adjoint(g, solution, conjugate=False)


def _solution(g: GraphBuilder, a: Symbol, columns: Symbol) -> Symbol:
    if _is_identity(columns) and a.ndim == 2:
        return g.op("MatrixInverse", a, shape=a.shape)
    return g.op("MatrixSolve", a, columns, shape=columns.shape)


def _is_identity(x: Symbol) -> bool:
    while x.constant is None and x.node is not None and x.node.op in ("Cast", "Transpose"):
        x = x.node.inputs[0]
    value = x.constant
    return value is not None and value.ndim == 2 and np.array_equal(value, np.eye(len(value)))


def _solves_by_lu(jaxpr: Any) -> bool:
    equations = [equation for equation, _ in live_equations(jaxpr.jaxpr)]
    return len(equations) == 1 and equations[0].params.get("name") == "_lu_solve"


def _multiplies(jaxpr: Any, rank: int, vector_rank: int) -> bool:
    """Whether a function multiplies a stack of matrices with as many vectors, or rows of them."""
    equations = [equation for equation, _ in live_equations(jaxpr.jaxpr)]
    if not equations or equations[0].primitive.name != "dot_general":
        return False
    lead = tuple(range(rank - 2))
    numbers = equations[0].params["dimension_numbers"]
    found = tuple(tuple(map(int, axes)) for pair in numbers for axes in pair)
    if equations[0].invars != jaxpr.jaxpr.invars:
        return False
    if vector_rank == rank - 1:
        return len(equations) == 1 and found == ((rank - 1,), (rank - 2,), lead, lead)
    swapped = (*lead, rank - 1, rank - 2)
    return (
        vector_rank == rank
        and found == ((rank - 1,), (rank - 1,), lead, lead)
        and [equation.primitive.name for equation in equations[1:]] == ["transpose"]
        and tuple(equations[1].params["permutation"]) == swapped
    )


@lowers("tridiagonal_solve")
def _lower_tridiagonal_solve(
    g: GraphBuilder,
    lower: Symbol,
    diagonal: Symbol,
    upper: Symbol,
    b: Symbol,
    *,
    perturb_singular: bool = False,
) -> Symbol:
    if has_no_elements(b):
        return g.full(0, b.shape, b.dtype)
    *batch, size = diagonal.shape
    shape = (*batch, 3, size)
    bands = g.op("Pack", [upper, diagonal, lower], axis=len(batch), shape=shape)
    return g.op(
        "TridiagonalSolve",
        bands,
        b,
        partial_pivoting=True,
        perturb_singular=perturb_singular,
        shape=b.shape,
    )
