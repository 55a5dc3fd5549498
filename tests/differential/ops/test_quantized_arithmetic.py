"""Ops on quantized levels agree with TensorFlow's kernels, level for level."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_function  # noqa: E402

from savax.errors import UnsupportedParamError  # noqa: E402
from savax.function.ops._registry import EVALUATIONS  # noqa: E402

pytestmark = pytest.mark.tf

raw = tf.raw_ops
BASES = {tf.quint8: tf.uint8, tf.qint8: tf.int8, tf.qint32: tf.int32}
KINDS = {np.uint8: tf.quint8, np.int8: tf.qint8, np.int32: tf.qint32}
RANGES = [(-1.0, 1.5), (0.0, 6.0), (-3.3, 0.7), (-1e-3, 1e-3)]


def levels(x: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(x, KINDS[x.dtype.as_numpy_dtype])


def plain(results: Any) -> list[Any]:
    return [tf.bitcast(x, BASES[x.dtype]) if x.dtype in BASES else x for x in results]


class Calls:
    """Ops to be compared, all in one function.

    Attributes:
      tensors: their levels.
    """

    def __init__(self) -> None:
        self.tensors: list[np.ndarray] = []
        self._calls: list[Any] = []

    def add(self, op: str, *tensors: np.ndarray, **others: Any) -> None:
        """Adds an op whose first inputs are levels; the others are ranges and attributes."""
        names = list(inspect.signature(getattr(raw, op)).parameters)[: len(tensors)]
        first = len(self.tensors)
        self.tensors += tensors

        def call(given: Any) -> Any:
            mine = map(levels, given[first : first + len(names)])
            return plain(getattr(raw, op)(**dict(zip(names, mine, strict=True)), **others))

        self._calls.append(call)

    def check(self) -> None:
        def run(*given: tf.Tensor) -> Any:
            return [result for call in self._calls for result in call(given)]

        check_function(tf.function(run), *self.tensors, rtol=0, atol=0)


def two_ranges(index: int, *names: str) -> dict[str, float]:
    return dict(zip(names, (*RANGES[index], *RANGES[index - 1]), strict=True))


def some_bytes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape).astype(np.uint8)


def sums(rng: np.random.Generator, *shape: int) -> np.ndarray:
    spread = rng.normal(size=shape) * 10.0 ** rng.integers(3, 9, shape)
    return spread.astype(np.int32)


WINDOWS = [(3, 1, "SAME"), (3, 2, "SAME"), (2, 2, "VALID"), (1, 3, "VALID")]


@pytest.mark.parametrize("index", range(4))
def test_products_agree(index: int, rng: np.random.Generator) -> None:
    calls = Calls()
    size, stride, padding = WINDOWS[index]
    ends = two_ranges(index, "min_input", "max_input", "min_filter", "max_filter")
    images, filters = some_bytes(rng, 2, 6, 6, 3), some_bytes(rng, size, size, 3, 4)
    steps = [1, stride, stride, 1]
    calls.add("QuantizedConv2D", images, filters, **ends, strides=steps, padding=padding)
    calls.add("QuantizedConv2D", images, filters, **ends, strides=[1, 4, 4, 1], padding="SAME")
    ends = two_ranges(index, "min_a", "max_a", "min_b", "max_b")
    a, b = some_bytes(rng, 5, 7), some_bytes(rng, 7, 3)
    flags = {"transpose_a": index % 2 == 1, "transpose_b": index > 1}
    turned = [x.T.copy() if flag else x for x, flag in zip((a, b), flags.values(), strict=True)]
    calls.add("QuantizedMatMul", *turned, **ends, **flags)
    ends = two_ranges(index, "min_x", "max_x", "min_y", "max_y")
    calls.add("QuantizedMul", some_bytes(rng, 4, 7), b[:, 0].copy(), **ends)
    calls.check()


@pytest.mark.parametrize("index", [0, 3])
def test_sums_agree(index: int, rng: np.random.Generator) -> None:
    calls = Calls()
    ends = two_ranges(index, "min_input", "max_input", "min_bias", "max_bias")
    x, bias = some_bytes(rng, 40, 7), some_bytes(rng, 7)
    for kind in (np.uint8, np.int8):
        calls.add("QuantizedBiasAdd", x.view(kind), bias.view(kind), **ends, out_type=tf.qint32)
    ends = two_ranges(index, "min_x", "max_x", "min_y", "max_y")
    calls.add("QuantizedAdd", x, bias, **ends)
    calls.add("QuantizedAdd", x, bias[:1].reshape(()), **ends)
    calls.check()


@pytest.mark.parametrize("index", [0, 3])
def test_ranges_are_changed_alike(index: int, rng: np.random.Generator) -> None:
    calls = Calls()
    low, high = (end * 100 for end in RANGES[index])
    old = {"input_min": low, "input_max": high}
    total = sums(rng, 30, 8)
    calls.add("RequantizationRange", total, **old)
    calls.add("QuantizeDownAndShrinkRange", total, **old, out_type=tf.quint8)
    new = {"requested_output_min": min(low / 90, 0), "requested_output_max": high / 110}
    for kind in (tf.quint8, tf.qint8):
        calls.add("Requantize", total, **old, **new, out_type=kind)
    calls.add("RequantizationRange", abs(total) + 5, **old)
    calls.check()


@pytest.mark.parametrize("index", [0, 3])
def test_activations_and_parts_agree(index: int, rng: np.random.Generator) -> None:
    calls = Calls()
    low, high = RANGES[index]
    x, total = some_bytes(rng, 3, 40), sums(rng, 3, 40)
    ends = {"min_features": low * 4, "max_features": high * 6}
    for op in ("QuantizedRelu", "QuantizedRelu6"):
        calls.add(op, x, **ends)
        calls.add(op, total, **ends, out_type=tf.qint32)
    ends = {"input_min": low, "input_max": high}
    calls.add("QuantizedReshape", x, **ends, shape=[-1, 10])
    images = some_bytes(rng, 2, 5, 6, 3)
    size, stride, padding = WINDOWS[index]
    window = {"ksize": [1, size, size, 1], "strides": [1, stride, stride, 1], "padding": padding}
    calls.add("QuantizedMaxPool", images, min_input=low, max_input=high, **window)
    calls.check()


def test_levels_of_several_ranges_are_joined_alike(rng: np.random.Generator) -> None:
    for kind, axis in ((np.uint8, 0), (np.int32, 1)):
        parts = [some_bytes(rng, 4, 5), some_bytes(rng, 4, 5), some_bytes(rng, 4, 5)]
        parts = [part.astype(kind) * (1 if kind is np.uint8 else 10**6) for part in parts]

        def joined(*given: tf.Tensor, axis: int = axis) -> Any:
            return plain(
                raw.QuantizedConcat(
                    concat_dim=axis,
                    values=[levels(x) for x in given],
                    input_mins=[-1.0, 0.0, -2.0],
                    input_maxes=[2.0, 3.0, 3.0],
                )
            )

        check_function(tf.function(joined), *parts, rtol=0, atol=0)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
def test_batch_normalization_agrees(scaled: bool, rng: np.random.Generator) -> None:
    def normalized(x: tf.Tensor, *channels: tf.Tensor) -> Any:
        names = ("t", "m", "v", "beta", "gamma")
        ranges = (*RANGES[:1], *RANGES[:1], (0.0, 6.0), *RANGES[2:])
        given = dict(zip(names, map(levels, (x, *channels)), strict=True))
        for name, (low, high) in zip(names, ranges, strict=True):
            given |= {f"{name}_min": low, f"{name}_max": high}
        return plain(
            raw.QuantizedBatchNormWithGlobalNormalization(
                **given,
                out_type=tf.qint32,
                variance_epsilon=1e-3,
                scale_after_normalization=scaled,
            )
        )

    channels = (some_bytes(rng, 6) for _ in range(4))
    check_function(tf.function(normalized), some_bytes(rng, 2, 4, 5, 6), *channels, rtol=0, atol=0)


def layer(x: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor) -> Any:
    """The middle of a layer as TensorFlow's graph transforms wrote it."""

    def shrunk(found: Any) -> Any:
        old = {"input": found[0], "input_min": found[1], "input_max": found[2]}
        low, high = raw.RequantizationRange(**old)
        new = {"requested_output_min": low, "requested_output_max": high}
        return raw.Requantize(**old, **new, out_type=tf.quint8)

    def ends(suffix: str, low: Any, high: Any) -> Any:
        return {f"min_{suffix}": low, f"max_{suffix}": high}

    ranges = {**ends("input", -2.3, 1.9), **ends("filter", -2.1, 2.6)}
    options = {"strides": [1, 1, 1, 1], "padding": "SAME"}
    found = raw.QuantizedConv2D(input=levels(x), filter=levels(weights), **ranges, **options)
    found = shrunk(found)
    ranges = {**ends("input", *found[1:]), **ends("bias", -1.5, 1.0)}
    found = raw.QuantizedBiasAdd(input=found[0], bias=levels(bias), **ranges, out_type=tf.qint32)
    found = shrunk(found)
    return plain(raw.QuantizedRelu(features=found[0], **ends("features", *found[1:])))


def test_a_whole_layer_agrees_under_jit_too(rng: np.random.Generator) -> None:
    args = some_bytes(rng, 1, 6, 6, 2), some_bytes(rng, 3, 3, 2, 4), some_bytes(rng, 4)
    loaded = check_function(tf.function(layer), *args, rtol=0, atol=0)
    with jax.enable_x64(False):
        found = jax.jit(lambda *args: loaded.body.run(list(args)))(*args)
    for a, b in zip(found, layer(*map(tf.constant, args)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [np.uint8, np.int8], ids=lambda t: t.__name__)
def test_means_are_cut_to_levels(kind: Any, rng: np.random.Generator) -> None:
    """TensorFlow's portable kernel cuts the rest off; oneDNN's rounds to the nearest level."""
    x = some_bytes(rng, 1, 5, 6, 2).view(kind)
    window: dict[str, Any] = {"ksize": [1, 2, 3, 1], "strides": [1, 2, 3, 1], "padding": "VALID"}
    ends = np.float32(-1), np.float32(1)
    found, *own_ends = EVALUATIONS["QuantizedAvgPool"].rule(x, *ends, **window)
    assert own_ends == [-1, 1]
    mean = x[:, :4].astype(float).reshape(1, 2, 2, 2, 3, 2).mean((2, 4))
    np.testing.assert_array_equal(found, np.trunc(mean).astype(kind))
    ranges = dict(zip(("min_input", "max_input"), ends, strict=True))
    (other, *_) = plain(raw.QuantizedAvgPool(input=levels(tf.constant(x)), **ranges, **window))
    assert abs(other.numpy().astype(int) - np.asarray(found)).max() <= 1


def test_other_kernels_are_refused() -> None:
    x, ends = np.zeros((2, 2), np.int8), [np.float32(0), np.float32(1)] * 2
    flags = {"transpose_a": False, "transpose_b": False}
    with pytest.raises(UnsupportedParamError, match="QuantizedMatMul of int8 levels"):
        EVALUATIONS["QuantizedMatMul"].rule(x, x, *ends, **flags)
    image, kernel = np.zeros((1, 3, 3, 1), np.uint8), np.zeros((1, 1, 1, 1), np.uint8)
    with pytest.raises(UnsupportedParamError, match=r"strides \[1, 1, 2, 1\] and dilations"):
        EVALUATIONS["QuantizedConv2D"].rule(
            image, kernel, *ends, strides=[1, 1, 2, 1], padding="SAME", dilations=[1, 1, 1, 1]
        )


def test_a_clamp_at_six_is_relu_6() -> None:
    clamped = [np.float32(end) for end in (-1, 8)]
    levels = np.arange(256, dtype=np.uint8)
    with jax.enable_x64(True):
        found = EVALUATIONS["QuantizedReluX"].rule(levels, np.float32(6), *clamped)
        wanted = EVALUATIONS["QuantizedRelu6"].rule(levels, *clamped)
    np.testing.assert_array_equal(found[0], wanted[0])
