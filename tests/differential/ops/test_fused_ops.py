"""Convolutions with a layer in front, uniform quantization and other rare ops agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function  # noqa: E402

pytestmark = pytest.mark.tf

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "strides": {"strides": [1, 2, 1, 1], "padding": "SAME"},
    "dilations": {"strides": [1, 1, 1, 1], "padding": "VALID", "dilations": [1, 2, 1, 1]},
    "explicit": {
        "strides": [1, 1, 1, 1],
        "padding": "EXPLICIT",
        "explicit_paddings": [0, 0, 1, 2, 0, 1, 0, 0],
    },
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_general_convolutions_agree(name: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 5, 6, 2)).astype(np.float32)
    kernel = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
    check_evaluation("Conv", x, kernel, rtol=1e-4, atol=1e-5, **CONVOLUTIONS[name])


def test_convolutions_of_volumes_and_batches_agree(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 4, 5, 2)).astype(np.float32)
    kernel = rng.normal(size=(2, 2, 2, 2, 4)).astype(np.float32)
    attrs: dict[str, Any] = {"padding": "SAME", "rtol": 1e-4, "atol": 1e-5}
    check_evaluation("Conv", x, kernel, strides=[1, 1, 2, 1, 1], **attrs)
    check_evaluation("Conv", x, kernel[0], strides=[1] * 4, batch_dims=2, **attrs)
    check_evaluation("Conv", x[:0], kernel, strides=[1] * 5, **attrs)


@pytest.mark.parametrize("mode", ["REFLECT", "SYMMETRIC"])
def test_convolutions_with_a_layer_in_front_agree(mode: str, rng: np.random.Generator) -> None:
    # TensorFlow's kernel confuses the images of a larger batch.
    x = rng.normal(size=(1, 5, 6, 2)).astype(np.float32)
    kernel = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
    pads = np.array([[0, 0], [1, 2], [2, 1], [0, 0]], np.int32)
    attrs: dict[str, Any] = {"mode": mode, "strides": [1, 2, 1, 1], "padding": "VALID"}
    attrs |= {"rtol": 1e-4, "atol": 1e-5}
    check_evaluation("FusedPadConv2D", x, pads, kernel, **attrs)
    for aligned in (True, False):
        inputs = x, np.array([7, 9], np.int32), pads, kernel
        check_evaluation("FusedResizeAndPadConv2D", *inputs, resize_align_corners=aligned, **attrs)


def test_approximate_best_elements_agree(rng: np.random.Generator) -> None:
    x = rng.permutation(54).reshape(2, 3, 9).astype(np.float32)
    for kind in (np.float32, np.float16):
        check_evaluation("ApproxTopK", x.astype(kind), k=4)

    @tf.function(jit_compile=True)
    def smallest(x: tf.Tensor) -> Any:  # TensorFlow has only XLA's
        return tf.math.approx_min_k(x, 2, reduction_dimension=1)

    check_function(smallest, x)


QUANTIZED = [
    (tf.qint8, -128, 127, -1),
    (tf.quint8, 3, 250, 1),
    (tf.qint32, -(2**31), 2**31 - 1, 0),
]


@pytest.mark.parametrize(("kind", "low", "high", "axis"), QUANTIZED, ids=["i8", "u8", "i32"])
def test_uniform_quantization_agrees(
    kind: tf.DType, low: int, high: int, axis: int, rng: np.random.Generator
) -> None:
    x = rng.normal(size=(3, 4)).astype(np.float32)
    x[0, 0], x[1, 1] = 0.25, -0.25  # halves of a step
    size = () if axis < 0 else x.shape[axis]
    scales = np.full(size, 0.1, np.float32) * np.arange(1, 2 + (axis >= 0) * 9)[: max(size or 1, 1)]
    scales = scales.astype(np.float32).reshape(size)
    zeros = np.full(size, 7, np.int32)

    def there_and_back(x: tf.Tensor, scales: tf.Tensor, zeros: tf.Tensor) -> Any:
        attrs = {
            "quantization_axis": axis,
            "quantization_min_val": low,
            "quantization_max_val": high,
        }
        levels = tf.raw_ops.UniformQuantize(
            input=x, scales=scales, zero_points=zeros, Tout=kind, **attrs
        )
        back = tf.raw_ops.UniformDequantize(
            input=levels, scales=scales * 2, zero_points=zeros, Tout=tf.float32, **attrs
        )
        return tf.bitcast(levels, {1: tf.int8, 4: tf.int32}[kind.size]), back

    check_function(tf.function(there_and_back), x, scales, zeros, rtol=1e-6)


@pytest.mark.parametrize("axes", [(-1, -1), (0, -1), (-1, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("kind", [tf.qint8, tf.qint32], ids=["i8", "i32"])
def test_uniform_requantization_agrees(
    kind: tf.DType, axes: tuple[int, int], rng: np.random.Generator
) -> None:
    large = 127 if kind.size == 1 else 2**31 - 1
    levels = rng.integers(-large - 1, large, (5, 40), endpoint=True)
    levels = levels.astype(np.int8 if kind.size == 1 else np.int32)
    factor = 1.0 if kind.size == 1 else 1e-7
    sizes = [() if axis < 0 else (5,) for axis in axes]
    scales = [rng.uniform(0.1, 3, size).astype(np.float32) for size in sizes]
    zeros = [rng.integers(-9, 9, size).astype(np.int32) for size in sizes]

    def requantized(levels: tf.Tensor, *parts: tf.Tensor) -> Any:
        found = tf.raw_ops.UniformRequantize(
            input=tf.bitcast(levels, kind),
            input_scales=parts[0] * factor,
            input_zero_points=parts[1],
            output_scales=parts[2],
            output_zero_points=parts[3],
            Tout=tf.qint8,
            input_quantization_axis=axes[0],
            output_quantization_axis=axes[1],
            input_quantization_min_val=-128,
            input_quantization_max_val=127,
            output_quantization_min_val=-120,
            output_quantization_max_val=127,
        )
        return tf.bitcast(found, tf.int8)

    parts = scales[0], zeros[0], scales[1], zeros[1]
    check_function(tf.function(requantized), levels, *parts)
