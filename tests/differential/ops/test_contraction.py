"""Products of matrices and tensors against TensorFlow, both directions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

pytest.importorskip("tensorflow")

from tests.evaluation_check import check_evaluation
from tests.lowering_check import check_lowering

pytestmark = pytest.mark.tf


def normal(*shape):
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


X = normal(2, 4, 5)
FREE = (None, 4, 5)


def contract(lhs_axes, rhs_axes, **params):
    return lambda x, y: lax.dot_general(x, y, ((lhs_axes, rhs_axes), ((), ())), **params)


# name: function, arguments, specs, ops
LOWERED = {
    "dense": (jnp.matmul, (X[0], normal(5, 6)), ((None, 5), None), ["MatMul"]),
    "transposed": (lambda x, w: x @ w.T, (X[0], normal(6, 5)), ((None, 5), None), ["MatMul"]),
    "transposed_first": (lambda x, w: x.T @ w, (X[0], normal(4, 6)), None, ["MatMul"]),
    "unknown_contraction": (
        lambda x, y: x.T @ y,
        (X[0], normal(4, 6)),
        (("n", 5), ("n", 6)),
        ["MatMul"],
    ),
    "dense_3d": (jnp.matmul, (X, normal(5, 6)), (FREE, None), ["BatchMatMulV2"]),
    "dense_3d_transposed": (
        contract((2,), (1,)),
        (X, normal(6, 5)),
        (FREE, None),
        ["BatchMatMulV2"],
    ),
    "matrix_vector": (jnp.matmul, (X[0], normal(5)), ((None, 5), None), None),
    "vector_matrix": (jnp.matmul, (normal(5), normal(5, 6)), None, None),
    "vectors": (jnp.matmul, (normal(5), normal(5)), (("n",), ("n",)), None),
    "batch": (jnp.matmul, (X, normal(2, 5, 3)), (("b", 4, 5), ("b", 5, 3)), ["BatchMatMulV2"]),
    "batch_transposed": (
        lambda x, y: jnp.einsum("bij,bkj->bik", x, y),
        (X, normal(2, 3, 5)),
        (("b", 4, 5), ("b", 3, 5)),
        ["BatchMatMulV2"],
    ),
    "attention": (
        lambda q, k: jnp.einsum("btnh,bsnh->bnts", q, k),
        (normal(2, 3, 4, 5), normal(2, 6, 4, 5)),
        (("b", "t", 4, 5), ("b", "s", 4, 5)),
        ["Einsum"],
    ),
    "two_axes": (
        lambda x, w: jnp.tensordot(x, w, 2),
        (X, normal(4, 5, 3)),
        (FREE, None),
        ["Einsum"],
    ),
    "outer": (contract((), ()), (normal(5), normal(4)), (("n",), None), None),
    "nothing_to_sum": (jnp.matmul, (normal(3, 0), normal(0, 4)), None, ["MatMul"]),
    "empty_batch": (jnp.matmul, (normal(0, 4, 5), normal(0, 5, 3)), None, ["BatchMatMulV2"]),
    "widened": (
        contract((1,), (0,), preferred_element_type=jnp.float32),
        (X[0].astype(jnp.bfloat16), normal(5, 6).astype(jnp.bfloat16)),
        None,
        ["Cast", "Cast", "MatMul"],
    ),
    "int8_to_int32": (
        contract((1,), (0,), preferred_element_type=jnp.int32),
        ((X[0] * 90).astype(np.int8), (normal(5, 6) * 90).astype(np.int8)),
        None,
        ["Cast", "Cast", "MatMul"],
    ),
}


@pytest.mark.parametrize("name", LOWERED)
def test_product_is_lowered(name):
    fn, args, specs, ops = LOWERED[name]
    lowered = check_lowering(fn, *args, specs=specs, run_jit=True)
    if ops is not None:
        assert lowered.ops() == ops


DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]


@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "bfloat16", "float64", "complex64"])
def test_product_of_dtype_is_lowered(dtype):
    with jax.enable_x64(True):
        x = (np.arange(6).reshape(2, 3) * 37).astype(jnp.dtype(dtype))
        y = (np.arange(6).reshape(2, 3) * 21).astype(jnp.dtype(dtype))
        check_lowering(contract((1,), (1,)), x, y, run_jit=True, rtol=1e-2)
        batch = lambda x, y: jnp.einsum("ab,ab->a", x, y)  # noqa: E731
        check_lowering(batch, x, y, run_jit=True, rtol=1e-2)


def test_gradient_of_product_is_lowered():
    fn = jax.grad(lambda x, w: (jnp.tanh(x @ w) ** 2).sum(), (0, 1))
    check_lowering(fn, X[0], normal(5, 6), specs=((None, 5), None), run_jit=True)


MATRIX = normal(3, 5)
EVALUATED = [
    ("MatMul", (X[0], normal(5, 6)), {}),
    ("MatMul", (X[0], normal(4, 6)), {"transpose_a": True}),
    ("MatMul", (X[0], normal(6, 5)), {"transpose_b": True}),
    ("MatMul", (normal(3, 0), normal(0, 4)), {}),
    ("BatchMatMul", (X, normal(2, 5, 3)), {}),
    ("BatchMatMulV2", (X, normal(5, 3)), {}),
    ("BatchMatMulV2", (X, normal(3, 1, 4, 6)), {"adj_x": True}),
    ("BatchMatMulV3", (X, normal(2, 3, 5)), {"adj_y": True, "Tout": np.float32}),
    ("Einsum", ([X, normal(5, 3)],), {"equation": "bij,jk->bik"}),
    ("Einsum", ([X, normal(5, 3)],), {"equation": "...j,jk->...k"}),
    ("Einsum", ([X, normal(1, 4, 3)],), {"equation": "...ij,...ik->...jk"}),
    ("Einsum", ([normal(4, 4)],), {"equation": "ii->i"}),
    ("Einsum", ([normal(4, 4)],), {"equation": "ii->"}),
    ("Einsum", ([normal(4)],), {"equation": "i->ii"}),
    ("Einsum", ([normal(2, 4)],), {"equation": "...i->i...i"}),
    ("Einsum", ([X],), {"equation": "abc->ca"}),
]


@pytest.mark.parametrize("row", range(len(EVALUATED)))
def test_product_is_evaluated(row):
    op, inputs, attrs = EVALUATED[row]
    check_evaluation(op, *inputs, grad=attrs.get("equation") not in ("...i->i...i",), **attrs)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float64, np.complex64])
def test_product_of_dtype_is_evaluated(dtype):
    x, y = (X * 9).astype(dtype), (normal(2, 5, 3) * 9).astype(dtype)
    if np.issubdtype(dtype, np.complexfloating):
        x, y = x * (1 + 2j), y * (2 - 1j)
    x, y = x.astype(dtype), y.astype(dtype)
    check_evaluation("MatMul", x[0], y[0], rtol=1e-4)
    check_evaluation("BatchMatMulV2", x, y.swapaxes(1, 2), adj_y=True, rtol=1e-4)
    check_evaluation("Einsum", [x, y], equation="bij,bjk->ik", rtol=1e-4)
