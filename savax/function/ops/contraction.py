"""Products of matrices: dot_general, MatMul and BatchMatMul."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from savax.function.ops._registry import evaluates, lowers
from savax.function.ops.einsum import lower_einsum
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol
    from savax.types import DType


# Lowering.

# Types that TensorFlow's CPU kernels multiply in; Einsum takes no int16.
_KERNEL_TYPES = frozenset(
    {"bfloat16", "complex128", "complex64", "float16", "float32", "float64", "int32", "int64"}
)


@lowers("dot_general")
def _lower_dot_general(
    g: GraphBuilder,
    lhs: Symbol,
    rhs: Symbol,
    *,
    dimension_numbers: Any,
    precision: Any,
    preferred_element_type: Any,
) -> Symbol:
    out = g.out[0]
    compute = _compute_dtype(lhs.dtype, rhs.dtype, out.dtype)
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
    product = _product(
        g,
        g.cast(lhs, compute),
        g.cast(rhs, compute),
        (tuple(lhs_contract), tuple(rhs_contract)),
        (tuple(lhs_batch), tuple(rhs_batch)),
        out.shape,
    )
    if out.dtype.is_bool:  # a sum of products of bits is true where it isn't zero
        return g.op("NotEqual", product, g.scalar(0, product), shape=out.shape)
    return g.cast(product, out.dtype)


def _compute_dtype(lhs: DType, rhs: DType, out: DType) -> DType:
    """Returns the type to multiply in: the widest involved, or one that has kernels.

    Integers wrap the same in a wider type that is cut off afterwards.
    """
    if out.is_bool:
        return as_dtype("int32")
    if out.is_integer:
        return as_dtype("int64" if out.size == 8 or out.name == "uint32" else "int32")
    wide = jnp.promote_types(jnp.promote_types(lhs.numpy_dtype, rhs.numpy_dtype), out.numpy_dtype)
    name = as_dtype(wide).name
    return as_dtype(name if name in _KERNEL_TYPES else "float32")


def _product(
    g: GraphBuilder,
    lhs: Symbol,
    rhs: Symbol,
    contract: tuple[tuple[int, ...], tuple[int, ...]],
    batch: tuple[tuple[int, ...], tuple[int, ...]],
    shape: Sequence[Any],
) -> Symbol:
    lead = len(batch[0])
    leading = batch == (tuple(range(lead)),) * 2
    if len(contract[0]) == 1 and leading:
        over = (contract[0][0], contract[1][0])
        if not lead and lhs.ndim <= 2 and rhs.ndim <= 2:
            return _mat_mul(g, lhs, rhs, over, shape)
        real = not lhs.dtype.is_complex  # the flags also conjugate
        last = over[0] == lhs.ndim - 1 and over[1] == rhs.ndim - 2
        square = lhs.ndim == rhs.ndim == lead + 2
        dense = not lead and rhs.ndim == 2 and over[0] == lhs.ndim - 1
        if (square or dense) and (real or last):
            adj_x, adj_y = over[0] != lhs.ndim - 1, over[1] != rhs.ndim - 2
            return g.op("BatchMatMulV2", lhs, rhs, shape=shape, adj_x=adj_x, adj_y=adj_y)
    return lower_einsum(g, lhs, rhs, contract, batch, shape)


def _mat_mul(
    g: GraphBuilder, lhs: Symbol, rhs: Symbol, over: tuple[int, int], shape: Sequence[Any]
) -> Symbol:
    """Multiplies matrices or vectors: MatMul with vectors as single rows and columns."""
    lhs, over_lhs = _untransposed(lhs, over[0])
    rhs, over_rhs = _untransposed(rhs, over[1])
    over = (over_lhs, over_rhs)
    transpose_a = lhs.ndim == 2 and over[0] == 0
    transpose_b = rhs.ndim == 2 and over[1] == 1
    rows = lhs.shape[1 - over[0]] if lhs.ndim == 2 else 1
    columns = rhs.shape[1 - over[1]] if rhs.ndim == 2 else 1
    if lhs.ndim == 1:
        lhs = g.expand_dims(lhs, 0)
    if rhs.ndim == 1:
        rhs = g.expand_dims(rhs, 1)
    product = g.op(
        "MatMul",
        lhs,
        rhs,
        transpose_a=transpose_a,
        transpose_b=transpose_b,
        shape=(rows, columns),
    )
    return g.reshape(product, tuple(shape))


def _untransposed(matrix: Symbol, axis: int) -> tuple[Symbol, int]:
    """Returns a matrix and one of its axes before a transpose, which MatMul does by itself."""
    node = matrix.node
    if matrix.ndim == 2 and node is not None and node.op == "Transpose":
        return node.inputs[0], 1 - axis
    return matrix, axis


# Evaluations. Sums are taken in the wider types that JAX and TensorFlow both use for 16-bit floats.


@evaluates("MatMul", ignores=("grad_a", "grad_b"))
def _mat_mul_rule(a: Any, b: Any, *, transpose_a: bool, transpose_b: bool) -> Any:
    a = jnp.swapaxes(a, 0, 1) if transpose_a else a
    b = jnp.swapaxes(b, 0, 1) if transpose_b else b
    return jnp.matmul(a, b)


def _adjoint(x: Any) -> Any:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


@evaluates("BatchMatMul", "BatchMatMulV2", ignores=("grad_x", "grad_y"))
def _batch_mat_mul(x: Any, y: Any, *, adj_x: bool, adj_y: bool) -> Any:
    return jnp.matmul(_adjoint(x) if adj_x else x, _adjoint(y) if adj_y else y)


@evaluates("BatchMatMulV3", ignores=("grad_x", "grad_y"))
def _batch_mat_mul_v3(x: Any, y: Any, *, adj_x: bool, adj_y: bool, Tout: DType) -> Any:  # noqa: N803
    x, y = (_adjoint(x) if adj_x else x), (_adjoint(y) if adj_y else y)
    return jnp.matmul(x, y, preferred_element_type=Tout.numpy_dtype)
