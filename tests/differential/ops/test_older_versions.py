"""Ops that newer ones have replaced, and gradients that graphs hold as ops of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function, load_function  # noqa: E402
from old_graphs import check_old_op  # noqa: E402

pytestmark = pytest.mark.tf


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def test_sums_and_reciprocals_agree() -> None:
    x = floats(2, 3)
    check_evaluation("AccumulateNV2", [x, x * 2, x + 1], shape=[2, 3])
    check_evaluation("Inv", x)
    check_evaluation("GuaranteeConst", x)
    check_evaluation("Snapshot", x)
    check_evaluation("CheckNumericsV2", x, message="m")
    check_evaluation("SparseMatMul", x, x, transpose_b=True, a_is_sparse=True)
    (empty,) = check_evaluation("Empty", np.array([2, 0], np.int32), dtype=tf.int64)
    assert empty.shape == (2, 0)


def test_segments_with_a_number_agree() -> None:
    ids = np.array([0, 0, 2, 2, 4], np.int32)

    def joined(x: tf.Tensor) -> Any:  # TensorFlow's compiler only has kernels
        operands = {"data": x, "segment_ids": ids, "num_segments": 6}
        ops = ("SegmentMaxV2", "SegmentMinV2", "SegmentProdV2", "SegmentSumV2")
        return tuple(getattr(tf.raw_ops, op)(**operands) for op in ops)

    check_function(tf.function(joined, jit_compile=True), floats(5, 2))


def test_blocks_of_images_agree() -> None:
    x, none = floats(4, 2, 3, 1), np.zeros((2, 2), np.int32)
    check_evaluation("BatchToSpace", x, none + np.array([0, 1], np.int32), block_size=2)
    check_evaluation(
        "SpaceToBatch", floats(1, 3, 5, 2), none + np.eye(2, dtype=np.int32), block_size=2
    )


def test_contrast_agrees() -> None:
    image = np.abs(floats(2, 3, 3, 3)) * 50
    limits = np.float32(2), np.float32(0), np.float32(100)
    check_old_op("AdjustContrast", image, *limits, producer=1, rtol=1e-4)


def test_functions_of_matrices_agree() -> None:
    x = floats(3, 3)
    symmetric = x + x.T
    check_old_op("SelfAdjointEig", symmetric, producer=10, signed=False, rtol=1e-3, atol=1e-4)
    exponential = tf.linalg.expm(x).numpy()  # TensorFlow's kernel is for graphs before version 27
    (found,) = check_old_op("MatrixExponential", x, producer=20, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found, exponential, rtol=1e-3, atol=1e-4)


def test_gradients_of_volumes_agree() -> None:
    x = floats(1, 3, 4, 3, 2)
    attrs: dict[str, Any] = {"ksize": [1, 2, 2, 1, 1], "strides": [1, 1, 2, 1, 1]}
    attrs["padding"] = "SAME"
    pooled = tf.raw_ops.MaxPool3D(input=x, **attrs).numpy()
    check_evaluation("MaxPool3DGrad", x, pooled, pooled * 2, **attrs)
    check_evaluation("MaxPool3DGradGrad", x, pooled, x + 1, **attrs)
    shape = np.array(x.shape, np.int32)
    check_evaluation("AvgPool3DGrad", shape, pooled, **attrs)


def test_gradients_of_dilations_agree() -> None:
    x = floats(1, 4, 4, 2)
    kernel, slope = floats(2, 2, 2), floats(1, 3, 3, 2)
    windows: dict[str, Any] = {"strides": [1, 1, 1, 1], "rates": [1, 1, 1, 1], "padding": "VALID"}
    check_evaluation("Dilation2DBackpropInput", x, kernel, slope, **windows)
    check_evaluation("Dilation2DBackpropFilter", x, kernel, slope, **windows)


def test_the_first_normalization_agrees() -> None:
    x, row = floats(2, 3, 3, 4), np.abs(floats(4)) + 0.1
    attrs = {"variance_epsilon": 1e-3, "scale_after_normalization": True}
    names = ("t", "m", "v", "beta", "gamma")
    operands = dict(zip(names, (x, row, row * 2, row * 3, row * 4), strict=True))
    ordered = [operands[name] for name in names]
    check_old_op("BatchNormWithGlobalNormalization", *ordered, producer=8, rtol=1e-4, **attrs)


def test_the_first_quantization_agrees() -> None:
    x = floats(3, 4)
    for signed in (False, True):
        attrs: dict[str, Any] = {"signed_input": signed, "num_bits": 8, "range_given": True}
        given = {"input_min": -1.0, "input_max": 1.5}
        check_old_op("QuantizeAndDequantize", x, producer=20, **attrs, **given)


def test_gradients_of_sparse_sums_agree() -> None:
    first, second = np.array([[0, 1], [2, 0]], np.int64), np.array([[0, 1], [1, 1]], np.int64)
    total = np.array([[0, 1], [1, 1], [2, 0]], np.int64)
    check_evaluation("SparseAddGrad", np.array([1, 2, 3], np.float32), first, second, total)


def test_branches_without_effects_agree() -> None:
    def choose(i: tf.Tensor, x: tf.Tensor) -> Any:
        return tf.switch_case(i, [lambda: x * 2, lambda: x - 1, lambda: x * x])

    for i in (0, 2, 7):
        check_function(tf.function(choose), np.array(i, np.int32), floats(3))


def test_generators_agree() -> None:
    generator = tf.random.Generator.from_seed(7)
    v = generator.state

    def draw() -> Any:
        shape, algorithm = np.array([3, 2], np.int64), np.int64(1)
        state = {"resource": v.handle, "algorithm": algorithm}
        drawn = (
            tf.raw_ops.StatefulStandardNormalV2(shape=shape, **state),
            tf.raw_ops.StatefulTruncatedNormal(shape=shape, **state),
            tf.raw_ops.StatefulUniform(shape=shape, **state),
            tf.raw_ops.StatefulUniformFullInt(shape=shape, **state),
            tf.raw_ops.StatefulUniformInt(shape=shape, minval=2, maxval=90, **state),
        )
        tf.raw_ops.RngSkip(delta=np.int64(3), **state)
        return *drawn, v.read_value()

    traced = tf.function(draw).get_concrete_function()
    loaded = load_function(traced)
    for found, wanted in zip(loaded.body.run([]), traced(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_joined_lists_agree() -> None:
    def joined(x: tf.Tensor) -> Any:
        shape, kind = [2], {"element_dtype": tf.float32, "element_shape": [2]}
        made = tf.raw_ops.TensorListScatter(tensor=x, indices=[1, 0], element_shape=shape)
        more = tf.raw_ops.TensorListScatterIntoExistingList(
            input_handle=made, tensor=x * 2, indices=[0, 2]
        )
        return tuple(tf.raw_ops.TensorListConcat(input_handle=more, **kind))

    check_function(tf.function(joined), floats(2, 2))


def test_variables_are_asked_alike() -> None:
    v = tf.Variable(floats(3, 2))

    def asked(i: tf.Tensor) -> Any:
        handle = v.handle
        tf.raw_ops.DisableCopyOnRead(resource=handle)
        picked = tf.raw_ops.ResourceGatherNd(resource=handle, indices=i, dtype=tf.float32)
        shape = tf.raw_ops.VariableShape(input=handle)
        kept = tf.raw_ops.PreventGradient(input=v.read_value(), message="m")
        return picked, shape, tf.raw_ops.VarIsInitializedOp(resource=handle), kept

    check_function(tf.function(asked), np.array([[2, 1], [0, 0]], np.int32))


def test_branches_with_effects_agree() -> None:
    v = tf.Variable(2.0)

    def choose(i: tf.Tensor) -> Any:
        branches = [lambda: v.assign_add(1.0), lambda: v.assign(v * 3.0)]
        return tf.switch_case(i, branches), v.read_value()

    check_function(tf.function(choose), np.array(1, np.int32))


def test_numbers_of_older_graphs_agree() -> None:
    rate, shape = np.array([0.5, 20.0], np.float32), np.array([4], np.int32)
    check_old_op("RandomPoisson", shape, rate, producer=24, seed=3, seed2=4)
