"""Sparse matrices (variants with CSR data) agree with TensorFlow."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_function, load_function  # noqa: E402

from savax.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError  # noqa: E402
from savax.function.ops import sparse_matrices  # noqa: E402
from savax.types import as_dtype  # noqa: E402

pytestmark = pytest.mark.tf

raw = tf.raw_ops
WIDE = np.array([[0, 1, -2, 0], [0, 0, 0, 0], [3, 0, 4, 0.5]])
BATCH = np.stack([WIDE, WIDE * 0, WIDE[::-1] * 2])
TYPES = [np.float32, np.complex128]


def places_of(array: np.ndarray) -> np.ndarray:
    return np.argwhere(array).astype(np.int64)


def typed(array: np.ndarray, dtype: Any) -> np.ndarray:
    found = array.astype(dtype)
    return found * dtype(1 + 0.5j) if np.iscomplexobj(found) else found


def from_dense(x: Any, places: np.ndarray) -> Any:
    return raw.DenseToCSRSparseMatrix(dense_input=x, indices=places)


def parts(matrix: Any, dtype: Any, batch: int = 1) -> list[Any]:
    """Returns all that ops say of a sparse matrix, as a flat list."""
    kind = {"type": tf.as_dtype(dtype)}
    components = [
        part
        for index in range(batch)
        for part in raw.CSRSparseMatrixComponents(csr_sparse_matrix=matrix, index=index, **kind)
    ]
    tensor = raw.CSRSparseMatrixToSparseTensor(sparse_matrix=matrix, **kind)
    dense = raw.CSRSparseMatrixToDense(sparse_input=matrix, **kind)
    return [*components, *tensor, dense, raw.SparseMatrixNNZ(sparse_matrix=matrix)]


@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
def test_forms_agree(dtype: Any) -> None:
    def forms(x: tf.Tensor, values: tf.Tensor) -> Any:
        single, batch = from_dense(x[0], places_of(WIDE)), from_dense(x, places_of(BATCH))
        sparse = raw.SparseTensorToCSRSparseMatrix(
            indices=places_of(BATCH), values=values, dense_shape=[3, 3, 4]
        )
        options = {"type": x.dtype, "conjugate": True}
        turned = raw.SparseMatrixTranspose(input=batch, **options)
        return [
            *parts(single, dtype),
            *parts(batch, dtype, 3),
            *parts(sparse, dtype, 3),
            *parts(turned, dtype, 3),
        ]

    x = typed(BATCH, dtype)
    check_function(tf.function(forms), x, x[tuple(places_of(BATCH).T)] * 2)


def test_zeros_that_are_stored_and_unordered_columns_agree() -> None:
    def forms(x: tf.Tensor) -> Any:
        places = np.array([[0, 2], [0, 0], [2, 3], [2, 1]], np.int64)
        return [
            *parts(from_dense(x, places), np.float32),
            *parts(from_dense(x, places[:0]), np.float32),
            *parts(from_dense(x[:0], places[:0]), np.float32),
        ]

    check_function(tf.function(forms), WIDE.astype(np.float32))


NAMES = ("transpose_a", "adjoint_a", "transpose_b", "adjoint_b")
FLAGS = [
    {name: name in chosen for name in NAMES}
    for chosen in ((), NAMES[:1], NAMES[3:], NAMES[::2], NAMES[1::2])
]


@pytest.mark.parametrize("flags", FLAGS, ids=lambda f: "-".join(n for n in f if f[n]) or "plain")
def test_products_agree(flags: dict[str, bool]) -> None:
    turned = [
        flags["transpose_a"] or flags["adjoint_a"],
        flags["transpose_b"] or flags["adjoint_b"],
    ]
    right = BATCH[:, ::-1] if turned[0] != turned[1] else np.swapaxes(BATCH, 1, 2)
    right = right.copy()
    ends = {"transpose_output": turned[0], "conjugate_output": turned[1]}

    def products(x: tf.Tensor, y: tf.Tensor) -> Any:
        a, b = from_dense(x, places_of(BATCH)), from_dense(y, places_of(right))
        sparse = raw.SparseMatrixSparseMatMul(a=a, b=b, type=x.dtype, **flags)
        single = raw.SparseMatrixMatMul(a=from_dense(x[2], places_of(BATCH[2])), b=y[2], **flags)
        dense = raw.SparseMatrixMatMul(a=a, b=y, **flags, **ends)
        return dense, single, *parts(sparse, np.complex64, 3)

    check_function(
        tf.function(products), typed(BATCH, np.complex64), typed(right, np.complex64) * (1 - 2j)
    )


def test_gradients_agree_under_jit_too() -> None:
    places, other = places_of(WIDE), places_of(WIDE.T)

    @tf.function
    def loss(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        a, b = from_dense(x, places), from_dense(y, other)
        product = raw.SparseMatrixSparseMatMul(a=a, b=b, type=tf.float32)
        turned = raw.SparseMatrixTranspose(input=product, type=tf.float32)
        dense = raw.SparseMatrixMatMul(a=turned, b=tf.sin(y[:3]))
        return tf.reduce_sum(dense**2)

    x, y = WIDE.astype(np.float32), WIDE.T.astype(np.float32)
    # TensorFlow itself differentiates the dense form only.
    loaded = load_function(loss.get_concrete_function(tf.constant(x), tf.constant(y)))
    dense = jax.value_and_grad(lambda x, y: (((x @ y).T @ jnp.sin(y[:3])) ** 2).sum(), (0, 1))(x, y)
    found = jax.jit(jax.value_and_grad(lambda x, y: loaded.body.run([x, y])[0], (0, 1)))(x, y)
    np.testing.assert_allclose(found[0], dense[0], rtol=1e-5)
    np.testing.assert_allclose(found[0], loss(tf.constant(x), tf.constant(y)).numpy(), rtol=1e-5)
    at = tuple(places.T)
    np.testing.assert_allclose(found[1][0][at], dense[1][0][at], rtol=1e-4)
    # The sine is of the whole dense matrix.
    y_part = jax.grad(lambda b: (((x @ b).T @ jnp.sin(y[:3])) ** 2).sum())(y)
    y_part = np.where(y != 0, y_part, 0)
    y_part += jax.grad(lambda d: (((x @ y).T @ jnp.sin(d[:3])) ** 2).sum())(y)
    np.testing.assert_allclose(found[1][1], y_part, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.complex128], ids=lambda t: t.__name__)
def test_cholesky_factors_agree(dtype: Any, rng: np.random.Generator) -> None:
    pattern = np.array(
        [[1, 1, 0, 1, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [1, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    )
    half = rng.normal(size=(2, 5, 5)) * np.tril(pattern, -1)
    half = half * (1 + 0.5j) if dtype is np.complex128 else half
    matrices = (half + np.conj(np.swapaxes(half, 1, 2)) + 6 * np.eye(5)).astype(dtype)
    order = np.array([[2, 0, 3, 4, 1], [4, 3, 2, 1, 0]], np.int32)

    def factors(x: tf.Tensor) -> Any:
        places = places_of(np.stack([pattern, pattern]))
        both = raw.SparseMatrixSparseCholesky(
            input=from_dense(x, places), permutation=order, type=x.dtype
        )
        one = raw.SparseMatrixSparseCholesky(
            input=from_dense(x[0], places_of(pattern)), permutation=order[0], type=x.dtype
        )
        return [*parts(both, dtype, 2), *parts(one, dtype)]

    check_function(tf.function(factors), matrices)


# Ops without kernels for CPUs in TensorFlow, against dense matrices.


def savax_matrix(array: np.ndarray) -> sparse_matrices.SparseMatrix:
    return sparse_matrices._from_dense(array, places_of(array))


def test_sums_and_multiples_are_those_of_dense_matrices() -> None:
    for one in (WIDE.astype(np.float32), BATCH.astype(np.float32)):
        other = np.roll(one, 1, -1)
        a, b = savax_matrix(one), savax_matrix(other)
        total = sparse_matrices._add(a, b, np.float32(2), np.float32(-0.5))
        dense = np.asarray(total.dense()).reshape(one.shape)
        np.testing.assert_array_equal(dense, 2 * one - 0.5 * other)
        np.testing.assert_array_equal(
            total.places[:, -1], np.argwhere((one != 0) | (other != 0))[:, -1]
        )
        double = sparse_matrices._multiply(a, np.float32(2)).dense().reshape(one.shape)
        np.testing.assert_array_equal(double, one * 2)
    factors = np.arange(1, 4, dtype=np.float32).reshape(3, 1, 1)
    scaled = sparse_matrices._multiply(savax_matrix(BATCH.astype(np.float32)), factors)
    np.testing.assert_array_equal(scaled.dense(), BATCH * factors)
    zeros = sparse_matrices._zeros(np.array([2, 3, 4]), type=as_dtype("float32"))
    assert zeros.dense().shape == (2, 3, 4)
    assert sparse_matrices._nnz(zeros).tolist() == [0, 0]
    np.testing.assert_array_equal(sparse_matrices._add(zeros, zeros, 1.0, 1.0).dense(), 0)


def test_softmax_is_that_of_the_stored_elements() -> None:
    kind = as_dtype("float32")
    matrix = savax_matrix(BATCH.astype(np.float32))
    found = sparse_matrices._softmax(matrix, type=kind)
    weights = np.where(BATCH == 0, 0, np.exp(BATCH))
    total = weights.sum(-1, keepdims=True)
    soft = weights / np.where(total == 0, 1, total)
    np.testing.assert_allclose(found.dense(), soft, rtol=1e-6)
    # Of a gradient only what lies in the softmax's places is used.
    given = np.array([[5.0, 2, 0, 0], [1, 0, 0, 0], [0.5, 0, 0, 3]], np.float32)
    given = np.stack([given] * 3)
    back = sparse_matrices._softmax_grad(found, savax_matrix(given), type=kind)
    inner = (given * soft).sum(-1, keepdims=True)
    np.testing.assert_allclose(back.dense(), (given - inner) * soft, rtol=1e-5, atol=1e-6)
    assert len(back.values) == len(found.values)


def test_errors_name_what_is_wrong() -> None:
    matrix = savax_matrix(WIDE.astype(np.float32))
    with pytest.raises(InvalidArgumentError, match=r"shape \(2, 2\): indices\[1\] = \[0, 2\]"):
        sparse_matrices._from_dense(np.eye(2), np.array([[0, 0], [0, 2]]))
    with pytest.raises(ShapeMismatchError, match=r"rank 2 or 3, found shape"):
        sparse_matrices._from_dense(np.ones(4), np.array([[0]]))
    with pytest.raises(DTypeMismatchError, match="expected dtype float64, found float32"):
        sparse_matrices._to_dense(matrix, type=as_dtype("float64"))
    with pytest.raises(InvalidArgumentError, match="expected 0 to 0, found 1"):
        sparse_matrices._components(matrix, 1, type=as_dtype("float32"))
    with pytest.raises(ShapeMismatchError, match="Inner sizes of multiplied matrices: 4 and 3"):
        sparse_matrices._sparse_mat_mul(
            matrix,
            matrix,
            type=as_dtype("float32"),
            transpose_a=False,
            transpose_b=False,
            adjoint_a=False,
            adjoint_b=False,
        )
    with pytest.raises(InvalidArgumentError, match="Only one of transpose_a and adjoint_a"):
        sparse_matrices._check_flags("a", True, True)
    with pytest.raises(ShapeMismatchError, match="Factors of sparse matrices"):
        sparse_matrices._multiply(matrix, np.ones((3, 1, 1), np.float32))
