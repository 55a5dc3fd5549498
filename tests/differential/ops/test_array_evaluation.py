"""Creation, reductions, scans, sorting, normalization and losses as TensorFlow computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function  # noqa: E402
from special_values import as_numpy, special_values, tolerance  # noqa: E402

from savax.function._op_schemas import op_schema  # noqa: E402

pytestmark = pytest.mark.tf


def axis(*axes: int) -> np.ndarray:
    return np.array(axes, np.int32)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "bfloat16"])
def test_tensors_of_one_value_agree(dtype: str) -> None:
    value = np.array(1, as_numpy(dtype))
    for dims in ([], [2, 3], [0, 4]):
        check_evaluation("Fill", np.array(dims, np.int32), value)
    check_evaluation("Fill", np.array([2], np.int64), value)


def test_fill_takes_strings() -> None:
    check_evaluation("Fill", np.array([2], np.int32), b"abc")


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_ranges_agree(dtype: str) -> None:
    for bounds in ((0, 5, 1), (10, 0, -3), (0, 0, 1), (1, 8, 2)):
        check_evaluation("Range", *(np.array(b, dtype) for b in bounds))
    if dtype.startswith("float"):
        check_evaluation("Range", *(np.array(b, dtype) for b in (0.1, 2.0, 0.3)))
        stop = np.array(2.5, dtype)
        for number in (1, 2, 7):
            check_evaluation("LinSpace", np.array(-1, dtype), stop, np.int32(number))


@pytest.mark.parametrize("op", ["Sum", "Prod", "Max", "Min", "Mean", "EuclideanNorm"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "uint8"])
def test_reductions_agree(op: str, dtype: str, rng: np.random.Generator) -> None:
    x = rng.integers(1, 5, (2, 3, 4)).astype(as_numpy(dtype))
    for axes in (axis(), axis(0), axis(-1, 0), axis(0, 1, 2)):
        check_evaluation(op, x, axes, rtol=tolerance(dtype))
    check_evaluation(op, x, np.array(1, np.int64), keep_dims=True, rtol=tolerance(dtype))


@pytest.mark.parametrize("op", ["Sum", "Prod", "Max", "Min"])
def test_reductions_of_nan_infinity_and_nothing_agree(op: str) -> None:
    x = np.array([[np.nan, 1, 2], [np.inf, 3, 0], [1, -np.inf, 2]], np.float32)
    check_evaluation(op, x, axis(1))
    check_evaluation(op, np.zeros((0, 3), np.float32), axis(0))
    check_evaluation(op, np.zeros((0, 3), np.int32), axis(0))
    check_evaluation(op, np.float32(3), axis())


@pytest.mark.parametrize("op", ["Sum", "Prod", "Max", "Min", "Mean", "EuclideanNorm"])
def test_gradients_of_reductions_agree(op: str) -> None:
    x = np.array([[1.0, 4.0, 2.0], [4.0, 3.0, 4.0]], np.float32)
    check_evaluation(op, x, axis(1), grad=True)
    check_evaluation(op, x, axis(0, 1), grad=True, keep_dims=True)


def test_logical_reductions_agree(rng: np.random.Generator) -> None:
    x = rng.integers(0, 2, (3, 4)).astype(bool)
    for op in ("All", "Any"):
        check_evaluation(op, x, axis(1))
        check_evaluation(op, x, axis(0, 1), keep_dims=True)
        check_evaluation(op, x[:0], axis(0))


def test_loss_of_squares_agrees() -> None:
    check_evaluation("L2Loss", np.array([[1.0, -2.0], [3.0, 0.5]], np.float32), grad=True)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_positions_of_extremes_agree(op: str) -> None:
    x = np.array([[1, 3, 3, 0], [2, 2, 0, 0], [0, 5, 1, 5]])
    for dtype in ("float32", "int8", "uint32", "bool"):
        check_evaluation(op, x.astype(dtype), np.int32(1))
    check_evaluation(op, x.astype(np.float32), np.int32(-2), output_type=tf.int32)
    with_nan = np.array([[np.nan, 1, 3], [1, np.nan, 0], [np.nan] * 3], np.float32)
    check_evaluation(op, with_nan, np.int32(1))
    if op == "ArgMax":
        check_evaluation(op, x.astype(np.float32), np.int32(0), output_type=tf.uint16)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_scans_agree(exclusive: bool, reverse: bool) -> None:
    x = np.array([[3, 1, 2, 5], [1, 1, 7, 2]])
    flags: dict[str, Any] = {"exclusive": exclusive, "reverse": reverse}
    for op in ("Cumsum", "Cumprod"):
        for dtype in ("float32", "int8"):
            check_evaluation(op, x.astype(dtype), np.int32(-1), **flags)
        check_evaluation(op, x.astype(np.float32), np.int64(0), grad=True, **flags)
        check_evaluation(op, np.zeros((0, 2), np.float32), np.int32(0), **flags)
    check_evaluation("CumulativeLogsumexp", x.astype(np.float32), np.int32(1), **flags)


def test_largest_elements_agree() -> None:
    x = np.array([[3, 1, 2, 3, 0], [5, 5, 4, 9, 9]], np.float32)
    check_evaluation("TopKV2", x, np.int32(3), grad=True)
    check_evaluation("TopKV2", x.astype(np.int8), np.int32(5), index_type=tf.int64)
    check_evaluation("TopKV2", x.astype(np.uint32), np.int16(0), index_type=tf.int16)
    check_evaluation("TopKV2", np.array([-1, -0.0, 0.0, -0.0, 2], np.float32), np.int32(5))
    check_evaluation("NthElement", x, np.int32(1))
    check_evaluation("NthElement", x, np.int32(1), reverse=True)


@pytest.mark.parametrize("k", [0, 1, 2, 5])
def test_membership_of_the_largest_agrees(k: int) -> None:
    scores = np.array(
        [[0.1, 0.5, 0.4], [0.3, 0.3, 0.3], [1, np.nan, 0], [np.inf, 1, 2], [1, 2, 3]], np.float32
    )
    targets = np.array([2, 0, 0, 1, 7], np.int32)
    check_evaluation("InTopKV2", scores, targets, np.int32(k))
    check_evaluation("InTopK", scores[:3], targets[:3], k=k)


def test_bounds_in_sorted_rows_agree() -> None:
    rows = np.array([[0, 3, 9, 9, 10], [1, 2, 3, 4, 5]], np.float32)
    values = np.array([[2, 4, 9], [0, 2, 6]], np.float32)
    for op in ("LowerBound", "UpperBound"):
        check_evaluation(op, rows, values)
        check_evaluation(op, rows, values, out_type=tf.int64)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_softmax_agrees(dtype: str, rng: np.random.Generator) -> None:
    x = (rng.normal(size=(3, 5)) * 4).astype(as_numpy(dtype))
    for op in ("Softmax", "LogSoftmax"):
        check_evaluation(op, x, rtol=tolerance(dtype), atol=tolerance(dtype))
        if dtype == "float32":
            check_evaluation(op, x, grad=True, rtol=1e-4)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_bias_and_its_gradient_agree(data_format: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 4, 3)).astype(np.float32)
    bias = np.array([1.0, -2.0, 0.5], np.float32)
    check_evaluation("BiasAdd", x, bias, data_format=data_format, grad=True, rtol=1e-4)
    check_evaluation("BiasAddGrad", x, data_format=data_format)
    check_evaluation("BiasAdd", x[:, :, :, 0], bias, data_format="NCHW")
    check_evaluation("BiasAdd", x[:, :, 0, 0], bias)
    check_evaluation("BiasAddV1", x, bias)


def batch_norm_operands(rng: np.random.Generator, shape: tuple[int, ...]) -> list[np.ndarray]:
    x = rng.normal(2.0, 3.0, shape).astype(np.float32)
    return [x, *(rng.uniform(0.5, 2.0, shape[-1]).astype(np.float32) for _ in range(4))]


def check_batch_norm(
    op: str,
    *operands: np.ndarray,
    outputs: int,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    **attrs: Any,
) -> None:
    """Compares the first outputs; what the others hold, and their shapes, vary with the kernel."""
    names = [arg.name for arg in op_schema(op).inputs]

    def apply(*tensors: Any) -> Any:
        inputs = dict(zip(names, tensors, strict=True))
        return getattr(tf.raw_ops, op)(**inputs, **attrs)[:outputs]

    check_function(tf.function(apply), *operands, rtol=rtol, atol=atol)


@pytest.mark.parametrize("op", ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"])
@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_batch_normalization_agrees(op: str, factor: float, rng: np.random.Generator) -> None:
    operands = batch_norm_operands(rng, (2, 3, 4, 5))
    check_batch_norm(op, *operands, outputs=3, is_training=False, epsilon=1e-2)
    if factor == 1.0:
        operands = [*operands[:3], *(np.zeros(0, np.float32) for _ in range(2))]
    check_batch_norm(
        op,
        *operands,
        outputs=5,
        is_training=True,
        exponential_avg_factor=factor,
        rtol=1e-4,
    )


def test_batch_normalization_of_other_layouts_and_dtypes(rng: np.random.Generator) -> None:
    operands = batch_norm_operands(rng, (3, 4, 5, 3))
    halves = [operands[0].astype(np.float16), *operands[1:]]
    check_batch_norm(
        "FusedBatchNormV3", *halves, outputs=3, is_training=False, rtol=4e-3, atol=4e-3
    )
    first = [np.moveaxis(operands[0], -1, 1), *operands[1:]]
    check_batch_norm("FusedBatchNormV3", *first, outputs=3, is_training=False, data_format="NCHW")
    volume = batch_norm_operands(rng, (2, 2, 3, 4, 3))
    check_batch_norm("FusedBatchNormV3", *volume, outputs=3, is_training=False, data_format="NDHWC")


@pytest.mark.parametrize("is_training", [False, True])
def test_gradient_of_batch_normalization_agrees(
    is_training: bool, rng: np.random.Generator
) -> None:
    x, scale, _, mean, variance = batch_norm_operands(rng, (2, 3, 4, 5))
    dy = rng.normal(size=x.shape).astype(np.float32)
    if is_training:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    inputs = (dy, x, scale, mean, variance)
    flags: dict[str, Any] = {"is_training": is_training, "rtol": 1e-3, "atol": 1e-4, "outputs": 3}
    check_batch_norm("FusedBatchNormGradV3", *inputs, np.zeros(0, np.float32), **flags)
    check_batch_norm("FusedBatchNormGradV2", *inputs, **flags)
    check_batch_norm("FusedBatchNormGrad", *inputs, **flags)


def test_local_response_normalization_agrees(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 3, 8)).astype(np.float32)
    check_evaluation("LRN", x, depth_radius=2, bias=1.5, alpha=0.5, beta=0.7, grad=True, rtol=1e-4)
    check_evaluation("LRN", x)


def test_cross_entropies_agree(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(4, 5)).astype(np.float32) * 3
    labels = rng.dirichlet(np.ones(5), 4).astype(np.float32)
    check_evaluation("SoftmaxCrossEntropyWithLogits", logits, labels, rtol=1e-4)
    check_evaluation("SoftmaxCrossEntropyWithLogits", logits, labels[:1], rtol=1e-4)
    half = logits.astype(np.float16), labels.astype(np.float16)
    check_evaluation("SoftmaxCrossEntropyWithLogits", *half, rtol=4e-3, atol=4e-3)
    for dtype in (np.int32, np.int64):
        classes = np.array([0, 4, 2, 2], dtype)
        op = "SparseSoftmaxCrossEntropyWithLogits"
        check_evaluation(op, logits, classes, rtol=1e-4, atol=1e-6)


def test_integer_reductions_wrap_around() -> None:
    check_evaluation("Sum", special_values("int32"), axis(0))
    check_evaluation("Prod", special_values("int16")[6:], axis(0))
