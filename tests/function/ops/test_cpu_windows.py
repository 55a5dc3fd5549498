"""The forms of pools and convolutions that are chosen on CPUs."""

from __future__ import annotations

import jax
import jax.export
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from jax import lax

from savax.function.ops._cpu_windows import (
    columns_at_once,
    is_product_of_windows,
    reduce_windows,
)
from savax.function.ops._registry import EVALUATIONS

POOL = {
    "ksize": (1, 3, 3, 1),
    "strides": (1, 2, 2, 1),
    "padding": "SAME",
    "explicit_paddings": (),
    "data_format": "NHWC",
}
CONVOLUTION = {
    "strides": (1, 1, 1, 1),
    "padding": "SAME",
    "explicit_paddings": (),
    "data_format": "NHWC",
    "dilations": (1, 1, 1, 1),
}


def lowered(op, *shapes, platform, **attrs):
    """Returns the StableHLO of an op's evaluation for a platform."""
    operands = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    traced = jax.jit(lambda *xs: EVALUATIONS[op].rule(*xs, **attrs)).trace(*operands)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_pool_goes_along_the_axes_on_cpus_only(platform):
    text = lowered("MaxPool", (2, 8, 8, 4), platform=platform, **POOL)
    assert ("reduce_window" in text) == (platform != "cpu")


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_convolution_of_few_channels_computes_columns_at_once_on_cpus_only(platform):
    text = lowered("Conv2D", (2, 8, 8, 3), (3, 3, 3, 16), platform=platform, **CONVOLUTION)
    assert ("tensor<3x6x3x64xf32>" in text) == (platform == "cpu")


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_transposed_convolution_of_blocks_is_a_product_on_cpus_only(platform):
    attrs = CONVOLUTION | {"strides": (1, 2, 2, 1)}
    sizes = np.array([2, 8, 8, 3])
    operands = [jax.ShapeDtypeStruct(s, np.float32) for s in ((2, 2, 3, 5), (2, 4, 4, 5))]
    rule = EVALUATIONS["Conv2DBackpropInput"].rule
    traced = jax.jit(lambda kernel, y: rule(sizes, kernel, y, **attrs)).trace(*operands)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("dot_general" in text) == (platform == "cpu")
    assert ("stablehlo.convolution" in text) == (platform != "cpu")


@pytest.mark.parametrize(
    ("channels", "results", "stride", "width", "count"),
    [
        (3, 16, 1, 96, 4),
        (3, 32, 2, 48, 2),
        (3, 64, 1, 96, 1),  # wide enough
        (3, 12, 1, 96, 1),  # no multiple is fast
        (16, 16, 1, 96, 2),
        (16, 8, 1, 96, 4),
        (1, 4, 1, 96, 8),
        (1, 4, 2, 96, 4),  # 8 would read 17 columns for 3
        (16, 16, 1, 7, 1),  # no even split
        (17, 16, 1, 96, 1),  # XLA's own kernel is fast
        (0, 16, 1, 96, 1),
        (16, 16, 1, 0, 1),
    ],
)
def test_columns_at_once(channels, results, stride, width, count):
    shape, kernel = (2, 8, width * stride, channels), (3, 3, channels, results)
    assert columns_at_once(shape, kernel, stride, width) == count


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_convolution_of_few_positions_is_a_product_on_cpus_only(platform):
    text = lowered("Conv2D", (2, 7, 7, 128), (3, 3, 128, 8), platform=platform, **CONVOLUTION)
    assert ("dot_general" in text) == (platform == "cpu")
    assert ("stablehlo.convolution" in text) == (platform != "cpu")


@pytest.mark.parametrize(
    ("shape", "kernel", "space", "expected"),
    [
        ((1, 7, 7, 128), (3, 3, 128, 128), (7, 7), True),
        ((16, 7, 7, 512), (3, 3, 512, 512), (7, 7), True),
        ((1, 14, 14, 512), (3, 3, 512, 512), (7, 7), True),
        ((1, 7, 7, 64), (3, 3, 64, 64), (7, 7), False),  # few channels
        ((1, 9, 9, 128), (3, 3, 128, 128), (9, 9), False),  # many positions
        ((32, 7, 7, 512), (3, 3, 512, 512), (7, 7), False),  # the windows are too large
        ((32, 2, 2, 8), (3, 3, 8, 8), (2, 2), True),  # a kernel that is larger than the image
        ((32, 20, 2, 8), (3, 3, 8, 8), (20, 2), True),
        ((90_000, 2, 2, 64), (3, 3, 64, 8), (2, 2), False),
        ((0, 7, 7, 128), (3, 3, 128, 128), (7, 7), False),
        ((1, 7, 7, 128), (3, 3, 128, 128), (0, 7), False),
        ((jax.export.symbolic_shape("b")[0], 7, 7, 128), (3, 3, 128, 128), (7, 7), False),
    ],
)
def test_products_of_windows(shape, kernel, space, expected):
    assert is_product_of_windows(shape, kernel, space) == expected


@pytest.mark.parametrize("padding", ["SAME", "VALID", "EXPLICIT"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_product_of_windows_is_the_convolution(strides, padding):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 8, 128)), np.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 2, 128, 5)), np.float32)
    explicit = (0, 0, 2, 1, 0, 3, 0, 0) if padding == "EXPLICIT" else ()
    attrs = {"strides": (1, *strides, 1), "padding": padding, "explicit_paddings": explicit}
    rule = jax.jit(lambda *xs: EVALUATIONS["Conv2D"].rule(*xs, **CONVOLUTION | attrs))
    pads = [(2, 1), (0, 3)] if explicit else padding
    expected = lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert "dot_general" in rule.trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    np.testing.assert_allclose(rule(x, kernel), expected, 1e-4, 1e-4)


def test_sizes_that_are_unknown_leave_one_operation():
    (batch,) = jax.export.symbolic_shape("b")
    assert columns_at_once((batch, 8, 8, 16), (3, 3, 16, 16), 1, 8) == 1
    x = jax.ShapeDtypeStruct((batch, 8), np.float32)
    pads = [(0, 0), (0, 0)]
    jaxpr = jax.make_jaxpr(
        lambda x: reduce_windows(lax.max, x, np.float32(-np.inf), (1, 2), (1, 2), pads)
    )(x)
    assert [str(equation.primitive) for equation in jaxpr.eqns] == ["reduce_window_max"]


@pytest.mark.parametrize("padding", [[(0, 0), (0, 0)], [(0, 0), (2, 1)], [(0, 0), (-1, 0)]])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bfloat16"])
@pytest.mark.parametrize("window", [1, 3, 9])
def test_windows_are_reduced_as_by_lax(window, dtype, padding):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 7)) * 9, dtype)
    lowest = np.array(-np.inf if dtype != "int32" else np.iinfo(dtype).min, x.dtype)
    if dtype == "float32" and window == 3:
        x = x.at[1, 3].set(np.nan)
    window, strides = (1, window), (2, 2)
    expected = lax.reduce_window(x, lowest, lax.max, window, strides, padding)
    got = jax.jit(lambda x: reduce_windows(lax.max, x, lowest, window, strides, padding))(x)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def test_equal_elements_of_a_window_have_one_gradient():
    def largest(x):
        return EVALUATIONS["MaxPool"].rule(x, **POOL).sum()

    gradient = jax.grad(largest)(jnp.zeros((1, 2, 2, 1)))
    assert gradient.sum() == 1
    assert gradient.max() == 1


def test_pool_of_a_convolution_can_be_differentiated_twice():
    def loss(kernel):
        y = EVALUATIONS["Conv2D"].rule(jnp.ones((1, 4, 4, 1)), kernel, **CONVOLUTION)
        return (EVALUATIONS["MaxPool"].rule(y, **POOL) ** 2).sum()

    kernel = jnp.ones((3, 3, 1, 4))
    jax.test_util.check_grads(loss, (kernel,), order=2, modes=["rev"], rtol=0.05, atol=0.05)
