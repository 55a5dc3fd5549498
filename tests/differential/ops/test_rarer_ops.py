"""Ops that few models hold agree with TensorFlow."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function, load_function  # noqa: E402

import savax  # noqa: E402

pytestmark = pytest.mark.tf


@pytest.mark.parametrize("operation", ["a-b", "b-a", "intersection", "union"])
def test_operations_on_sets_agree(operation: str) -> None:
    a = np.array([[3, 1, 1], [2, 5, 2]], np.int64)
    b = np.array([[1, 7], [5, 2]], np.int64)
    attrs = {"set_operation": operation}
    check_evaluation("DenseToDenseSetOperation", a, b, **attrs)
    strings = np.array([[b"x", b"y"], [b"z", b"z"]], object)
    check_evaluation("DenseToDenseSetOperation", strings, strings[:, :1], **attrs)
    indices = np.array([[0, 0], [0, 1], [1, 0]], np.int64)
    sparse = indices, np.array([1, 9, 5], np.int64), np.array([2, 2], np.int64)
    check_evaluation("DenseToSparseSetOperation", a, *sparse, **attrs)
    other = indices[:2], np.array([9, 4], np.int64), np.array([2, 2], np.int64)
    check_evaluation("SparseToSparseSetOperation", *sparse, *other, **attrs)
    check_evaluation("SetSize", *sparse)


def test_gradients_of_pools_as_ops_agree(rng: np.random.Generator) -> None:
    x = rng.normal(size=(1, 5, 6, 2)).astype(np.float32)
    sizes = np.array([1, 2, 2, 1], np.int32)
    attrs: dict[str, Any] = {"padding": "SAME"}
    pooled = tf.raw_ops.MaxPoolV2(input=x, ksize=sizes, strides=sizes, **attrs).numpy()
    grad = rng.normal(size=pooled.shape).astype(np.float32)
    check_evaluation("MaxPoolGradV2", x, pooled, grad, sizes, sizes, **attrs)
    check_evaluation("MaxPoolGradGradV2", x, pooled, x * 2, sizes, sizes, **attrs)
    whole: dict[str, Any] = {"depth_radius": 2, "bias": 1.5, "alpha": 0.5, "beta": 0.7}
    (output,) = check_evaluation("LRN", x, **whole)
    check_evaluation("LRNGrad", x * 3, x, output, rtol=1e-4, atol=1e-5, **whole)


def test_layouts_as_numbers_agree() -> None:
    formats = {"src_format": "NHWC", "dst_format": "NCHW"}
    for dtype in (np.int32, np.int64):
        check_evaluation("DataFormatDimMap", np.array([[0, 1], [-1, -2]], dtype), **formats)
        check_evaluation("DataFormatVecPermute", np.array([7, 4, 9, 3], dtype), **formats)
        check_evaluation("DataFormatVecPermute", np.array([4, 9], dtype), **formats)
        pairs = np.arange(8, dtype=dtype).reshape(4, 2)
        check_evaluation("DataFormatVecPermute", pairs, **formats)


@pytest.mark.parametrize("lower", [False, True])
def test_banded_systems_agree(lower: bool, rng: np.random.Generator) -> None:
    bands = rng.normal(size=(2, 3, 5)).astype(np.float32)
    bands[:, 0 if lower else -1] += 4
    rhs = rng.normal(size=(2, 5, 2)).astype(np.float32)
    for adjoint in (False, True):
        attrs = {"lower": lower, "adjoint": adjoint}
        check_evaluation("BandedTriangularSolve", bands, rhs, rtol=1e-3, atol=1e-4, **attrs)


def test_sums_and_ragged_rows_agree() -> None:
    rows = np.array([0, 2, 2], np.int64)
    values = np.array([1.0, 2.0, 3.0], np.float32)
    check_evaluation("RaggedFillEmptyRows", rows, values, np.int64(4), np.float32(-1))
    places = np.array([0, 2, 3], np.int64)
    check_evaluation("RaggedFillEmptyRowsGrad", places, np.arange(5, dtype=np.float32))


def test_random_states_are_refused_under_transformations() -> None:
    @tf.function
    def noisy(x: tf.Tensor) -> tf.Tensor:
        return x * tf.random.uniform([3], seed=1)

    x = np.ones(3, np.float32)
    body = load_function(noisy.get_concrete_function(tf.constant(x))).body
    with pytest.raises(savax.errors.VariableWriteError, match=r"random state of .*RandomUniform"):
        jax.jit(lambda x: body.run([x]))(x)
    scale = savax.Variable(2.0)

    @savax.function
    def loss() -> Any:
        return (body.run([x])[0] * scale.value).sum()

    first, gradient = savax.value_and_grad(loss, [scale])()
    second, _ = savax.value_and_grad(loss, [scale])()
    np.testing.assert_allclose(gradient[0] * 2.0, first, rtol=1e-6)
    assert float(first) != float(second)


def test_ragged_elements_pass_through_lists() -> None:
    def doubled(values: tf.Tensor) -> Any:
        ragged = tf.RaggedTensor.from_row_splits(values, [0, 2, 2, 3])
        return tf.map_fn(lambda row: tf.reduce_sum(row) * 2.0, ragged, fn_output_signature="float")

    check_function(tf.function(doubled), np.array([1.0, 2.0, 4.0], np.float32))


@pytest.mark.parametrize("dtype", ["float32", "int64", "bfloat16"])
def test_updates_in_place_agree(dtype: str) -> None:
    x = np.arange(12).reshape(4, 3).astype(tf.as_dtype(dtype).as_numpy_dtype)
    rows = np.array([1, 1, -1, 6], np.int32)  # those out of range go around

    for name in ("InplaceAdd", "InplaceSub", "InplaceUpdate"):
        # TensorFlow writes into the operand itself: a sum is an array of its own.
        def updated(x: tf.Tensor, y: tf.Tensor, i: tf.Tensor, v: tf.Tensor) -> Any:
            return getattr(tf.raw_ops, name)(x=x + y, i=i, v=v)  # noqa: B023 - traced at once

        unique = slice(1, None) if name == "InplaceUpdate" else slice(None)
        check_function(tf.function(updated), x, x * 2, rows[unique], x[::-1][unique].copy())
        check_function(tf.function(updated), x, x, rows[:0], x[:0])


def test_rows_are_joined_in_parallel() -> None:
    rows = [np.array([[i, i + 1]], np.int32) for i in range(3)]
    check_evaluation("ParallelConcat", rows, shape=[3, 2])


def test_copies_are_equal() -> None:
    for x in (np.array([1.5, -2], np.float32), np.array([b"a", b""], object)):
        check_evaluation("Copy", x, tensor_name="x")
        check_evaluation("CopyHost", x)
    check_evaluation("DeepCopy", np.arange(4, dtype=np.int64).reshape(2, 2))


def test_truths_agree() -> None:
    values = [0.0, -0.0, np.nan, np.int64(2**40), True, False, b"", b"0", [0], np.zeros((0, 2))]
    for value in values:
        check_evaluation("ToBool", value)


def test_what_stands_for_nothing_agrees() -> None:
    def fixed() -> Any:
        # The values of a FakeParam are undefined.
        return tf.raw_ops.Fact(), tf.shape(tf.raw_ops.FakeParam(dtype=tf.float32, shape=[2, None]))

    check_function(tf.function(fixed))


def test_the_time_passes() -> None:
    body = load_function(tf.function(lambda: tf.raw_ops.Timestamp()).get_concrete_function()).body
    before = time.time()
    first, second = (np.asarray(body.run([])[0]) for _ in range(2))
    assert first.dtype == np.float64
    assert before <= first < second <= time.time()
