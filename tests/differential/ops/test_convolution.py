"""Convolutions against TensorFlow, both directions."""

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

NHWC = ("NHWC", "HWIO", "NHWC")
NWC = ("NWC", "WIO", "NWC")
NDHWC = ("NDHWC", "DHWIO", "NDHWC")
FREE = ((None, None, None, 4), None)


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def conv(numbers=NHWC, strides=(1, 1), padding="SAME", **params):
    def apply(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=numbers, **params
        )

    return apply


def transposed(strides, padding, numbers=NHWC, **params):
    def apply(x, kernel):
        return lax.conv_transpose(x, kernel, strides, padding, dimension_numbers=numbers, **params)

    return apply


IMAGE = normal(2, 8, 9, 4)
KERNEL = normal(3, 3, 4, 6)

# name: function, arguments, specs, ops that must be there
LOWERED = {
    "same": (conv(), (IMAGE, KERNEL), FREE, {"Conv2D"}),
    "same_strided": (conv(strides=(2, 2)), (IMAGE, KERNEL), FREE, {"Conv2D"}),
    "valid": (conv(padding="VALID", strides=(2, 1)), (IMAGE, KERNEL), FREE, {"Conv2D"}),
    "explicit": (conv(padding=((1, 2), (0, 3))), (IMAGE, KERNEL), FREE, {"Conv2D"}),
    "negative_padding": (
        conv(padding=((-1, 2), (0, -1))),
        (IMAGE, KERNEL),
        FREE,
        {"Conv2D", "StridedSlice"},
    ),
    "dilated": (conv(rhs_dilation=(2, 2)), (IMAGE, KERNEL), FREE, {"Conv2D"}),
    "dilated_explicit": (
        conv(rhs_dilation=(2, 3), padding=((3, 4), (1, 2))),
        (IMAGE, KERNEL),
        FREE,
        {"Conv2D"},
    ),
    "grouped": (conv(feature_group_count=2), (IMAGE, normal(3, 3, 2, 6)), FREE, {"Conv2D"}),
    "depthwise": (
        conv(feature_group_count=4),
        (IMAGE, normal(3, 3, 1, 4)),
        FREE,
        {"DepthwiseConv2dNative"},
    ),
    "depthwise_strided": (
        conv(feature_group_count=4, strides=(2, 2)),
        (IMAGE, normal(3, 3, 1, 8)),
        FREE,
        {"DepthwiseConv2dNative"},
    ),
    "depthwise_unequal_strides": (
        conv(feature_group_count=4, strides=(2, 1)),
        (IMAGE, normal(3, 3, 1, 8)),
        FREE,
        {"Conv2D"},
    ),
    "depthwise_dilated": (
        conv(feature_group_count=4, rhs_dilation=(2, 2)),
        (IMAGE, normal(3, 3, 1, 8)),
        FREE,
        {"Conv2D"},
    ),
    "depthwise_explicit": (
        conv(feature_group_count=4, padding=((1, 2), (0, 1))),
        (IMAGE, normal(3, 3, 1, 8)),
        FREE,
        {"PadV2", "DepthwiseConv2dNative"},
    ),
    "batch_groups": (
        conv(batch_group_count=2),
        (normal(4, 8, 9, 3), normal(3, 3, 3, 6)),
        None,
        {"Conv2D"},
    ),
    "nchw": (
        conv(("NCHW", "OIHW", "NCHW"), (2, 2)),
        (normal(2, 4, 8, 9), normal(6, 4, 3, 3)),
        ((None, 4, 8, 9), None),
        {"Transpose", "Conv2D"},
    ),
    "odd_layout": (
        conv(("CHWN", "IHWO", "NHCW"), (1, 2)),
        (normal(4, 8, 9, 2), normal(4, 3, 3, 6)),
        None,
        {"Conv2D"},
    ),
    "one_axis": (
        conv(NWC, (2,)),
        (normal(2, 9, 4), normal(3, 4, 6)),
        ((None, None, 4), None),
        {"Conv2D"},
    ),
    "one_axis_depthwise": (
        conv(NWC, (2,), feature_group_count=4),
        (normal(2, 9, 4), normal(3, 1, 8)),
        ((None, None, 4), None),
        {"DepthwiseConv2dNative"},
    ),
    "one_axis_causal": (
        conv(NWC, (1,), [(4, 0)], rhs_dilation=(2,)),
        (normal(2, 9, 4), normal(3, 4, 6)),
        ((None, None, 4), None),
        {"Conv2D"},
    ),
    "three_axes": (
        conv(NDHWC, (1, 2, 1)),
        (normal(2, 5, 6, 7, 2), normal(2, 3, 3, 2, 3)),
        ((None, 5, 6, 7, 2), None),
        {"Conv3D"},
    ),
    "three_axes_explicit": (
        conv(NDHWC, (1, 2, 1), ((1, 0), (0, 0), (2, 1))),
        (normal(2, 5, 6, 7, 2), normal(2, 3, 3, 2, 3)),
        ((None, 5, 6, 7, 2), None),
        {"Conv3D"},
    ),
    "transposed_one_axis": (
        transposed((2,), "SAME", NWC),
        (normal(2, 5, 4), normal(3, 4, 3)),
        ((None, None, 4), None),
        {"Conv2DBackpropInput"},
    ),
    "transposed_three_axes": (
        transposed((2, 2, 2), "SAME", NDHWC),
        (normal(2, 3, 4, 5, 2), normal(3, 3, 3, 2, 3)),
        ((None, 3, 4, 5, 2), None),
        {"Conv3DBackpropInputV2"},
    ),
    "transposed_kernel": (
        transposed((2, 2), "SAME", transpose_kernel=True),
        (normal(2, 5, 6, 3), normal(3, 3, 4, 3)),
        ((None, 5, 6, 3), None),
        {"Conv2DBackpropInput"},
    ),
    "spread_grouped": (
        conv(lhs_dilation=(2, 2), feature_group_count=2, padding=((1, 1), (1, 1))),
        (IMAGE, normal(3, 3, 2, 6)),
        ((None, 8, 9, 4), None),
        {"Conv2D"},
    ),
    "no_space": (conv(("NC", "IO", "NC"), (), ()), (normal(2, 3), normal(3, 4)), None, {"MatMul"}),
    "int8": (
        conv(preferred_element_type=jnp.int32),
        ((IMAGE * 10).astype(np.int8), (KERNEL * 10).astype(np.int8)),
        None,
        {"Conv2D"},
    ),
}


@pytest.mark.parametrize("name", LOWERED)
def test_convolution_is_lowered(name):
    fn, args, specs, ops = LOWERED[name]
    lowered = check_lowering(fn, *args, specs=specs, run_jit=True, atol=1e-4)
    assert ops <= set(lowered.ops())


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_transposed_convolution_is_lowered(size, stride, padding):
    args = (normal(2, 5, 6, 4), normal(size, size, 4, 3))
    fn = transposed((stride, stride), padding)
    lowered = check_lowering(fn, *args, specs=((None, None, 6, 4), None), run_jit=True, atol=1e-4)
    assert "Conv2DBackpropInput" in lowered.ops() or stride == 1


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradient_of_convolution_is_lowered(stride, padding):
    def loss(x, kernel):
        return (conv(strides=(stride, stride), padding=padding)(x, kernel) ** 2).sum()

    specs = ((None, 8, 9, 4), None)
    gradient = jax.grad(loss, (0, 1))
    check_lowering(gradient, IMAGE, KERNEL, specs=specs, run_jit=True, rtol=1e-3, atol=1e-3)


def test_padding_that_is_same_for_every_size_is_written_as_same():
    lowered = check_lowering(conv(strides=(2, 2)), IMAGE, KERNEL, specs=FREE, run_jit=True)
    node = next(node for node in lowered.function.node_def if node.op == "Conv2D")
    assert node.attr["padding"].s == b"SAME"


def attributes(strides=(1, 1, 1, 1), padding="SAME", **attrs):
    return {"strides": list(strides), "padding": padding, **attrs}


# op, inputs, attributes. No empty batch: TensorFlow's oneDNN kernel gives it the input's channels.
EVALUATED = [
    ("Conv2D", (IMAGE, KERNEL), attributes()),
    ("Conv2D", (IMAGE, KERNEL), attributes((1, 2, 3, 1), "VALID")),
    ("Conv2D", (IMAGE, KERNEL), attributes(dilations=[1, 2, 2, 1])),
    (
        "Conv2D",
        (IMAGE, KERNEL),
        attributes(padding="EXPLICIT", explicit_paddings=[0, 0, 1, 2, 0, 1, 0, 0]),
    ),
    ("Conv2D", (IMAGE, normal(1, 1, 4, 5)), attributes((1, 2, 2, 1))),
    ("Conv2D", (IMAGE, normal(3, 3, 2, 6)), attributes()),
    ("DepthwiseConv2dNative", (IMAGE, normal(3, 3, 4, 1)), attributes()),
    ("DepthwiseConv2dNative", (IMAGE, normal(3, 3, 4, 1)), attributes((1, 2, 2, 1), "VALID")),
    ("DepthwiseConv2dNative", (IMAGE, normal(5, 3, 4, 1)), attributes((1, 2, 2, 1))),
    ("DepthwiseConv2dNative", (IMAGE, normal(3, 3, 4, 2)), attributes()),
    ("Conv3D", (normal(2, 5, 6, 7, 2), normal(2, 3, 3, 2, 3)), attributes((1, 1, 2, 2, 1))),
    # Several columns of the result at once: 8, 4 and 2.
    ("Conv2D", (normal(2, 5, 8, 1), normal(3, 3, 1, 4)), attributes()),
    ("Conv2D", (normal(2, 9, 9, 3), normal(2, 3, 3, 16)), attributes((1, 2, 2, 1), "VALID")),
    (
        "Conv2D",
        (normal(2, 6, 7, 5), normal(3, 2, 5, 16)),
        attributes((1, 1, 2, 1), "EXPLICIT", explicit_paddings=[0, 0, 1, 2, 0, 2, 0, 0]),
    ),
]


@pytest.mark.parametrize("row", range(len(EVALUATED)))
def test_convolution_is_evaluated(row):
    op, inputs, attrs = EVALUATED[row]
    # TensorFlow's CPU kernels have no gradients of dilated and grouped convolutions.
    grouped = op == "Conv2D" and inputs[0].shape[-1] != inputs[1].shape[2]
    grad = not grouped and "dilations" not in attrs
    check_evaluation(op, *inputs, grad=grad, rtol=1e-4, atol=1e-4, **attrs)


GRADIENTS = [
    ("Conv2DBackpropInput", ([2, 4, 6, 5], normal(2, 2, 5, 3), normal(2, 2, 3, 3)), (1, 2, 2, 1)),
    ("Conv2DBackpropInput", ([2, 4, 5, 5], normal(2, 2, 5, 3), normal(2, 2, 3, 3)), (1, 2, 2, 1)),
    ("Conv2DBackpropInput", ([2, 8, 9, 4], KERNEL, normal(2, 4, 5, 6)), (1, 2, 2, 1)),
    ("Conv2DBackpropFilter", (IMAGE, [3, 3, 4, 6], normal(2, 4, 5, 6)), (1, 2, 2, 1)),
    (
        "DepthwiseConv2dNativeBackpropInput",
        ([2, 8, 9, 4], normal(3, 3, 4, 2), normal(2, 4, 5, 8)),
        (1, 2, 2, 1),
    ),
    (
        "DepthwiseConv2dNativeBackpropFilter",
        (IMAGE, [3, 3, 4, 2], normal(2, 4, 5, 8)),
        (1, 2, 2, 1),
    ),
    (
        "Conv3DBackpropInputV2",
        ([2, 4, 4, 4, 2], normal(2, 3, 3, 2, 3), normal(2, 4, 2, 2, 3)),
        (1, 1, 2, 2, 1),
    ),
    (
        "Conv3DBackpropFilterV2",
        (normal(2, 4, 4, 4, 2), [2, 3, 3, 2, 3], normal(2, 4, 2, 2, 3)),
        (1, 1, 2, 2, 1),
    ),
]


@pytest.mark.parametrize("row", range(len(GRADIENTS)))
def test_gradient_of_convolution_is_evaluated(row):
    op, inputs, strides = GRADIENTS[row]
    inputs = [np.array(x, np.int32) if isinstance(x, list) else x for x in inputs]
    check_evaluation(op, *inputs, rtol=1e-4, atol=1e-4, **attributes(strides))
