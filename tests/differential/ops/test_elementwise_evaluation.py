"""TensorFlow's elementwise ops give the same numbers when savax evaluates them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation  # noqa: E402
from special_values import (  # noqa: E402
    COMPLEX,
    FLOATS,
    INTEGERS,
    SIGNED,
    as_numpy,
    special_pairs,
    special_values,
    tolerance,
)

pytestmark = pytest.mark.tf

SINGLE = ("float32", "float64")
HALF_UP = ("float32", "float64", "float16")
FEW = ("float32", "bfloat16")
FEW_INTEGERS = ("int8", "int64", "uint32")

UNARY = [
    *((op, FEW) for op in ("Exp", "Expm1", "Log", "Log1p", "Sqrt", "Rsqrt", "Tanh", "Sigmoid")),
    *((op, FEW) for op in ("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh")),
    *((op, FEW) for op in ("Acosh", "Atanh", "Erf", "Erfc", "Floor", "Ceil", "Reciprocal")),
    *((op, FEW) for op in ("IsNan", "IsInf", "IsFinite")),
    ("Round", FLOATS),
    ("Rint", SINGLE),
    ("Neg", (*FEW, *SIGNED, "complex64")),
    ("Abs", (*FEW, *SIGNED)),
    ("Sign", (*FEW, *SIGNED, "complex64")),
    ("Square", (*FEW, *FEW_INTEGERS, "complex64")),
    ("Invert", FEW_INTEGERS),
    ("PopulationCount", INTEGERS),
    ("LogicalNot", ("bool",)),
    *((op, FLOATS) for op in ("Elu", "Selu", "Softsign")),
    ("Softplus", HALF_UP),
    *((op, (*FEW, *FEW_INTEGERS)) for op in ("Relu", "Relu6")),
    *((op, ("complex64", "complex128")) for op in ("Exp", "Log", "Tanh", "Sqrt", "Conj")),
    ("ZerosLike", (*FEW, *FEW_INTEGERS, "bool")),
    ("OnesLike", (*FEW, *SIGNED, "bool")),  # TensorFlow's optimizer makes zeros for uint32
]
BINARY = [
    *((op, (*FEW, *FEW_INTEGERS)) for op in ("AddV2", "Sub", "Mul", "Maximum", "Minimum")),
    ("Add", ("float32", "int16")),
    *((op, FEW) for op in ("RealDiv", "Div", "FloorDiv", "FloorMod", "DivNoNan", "MulNoNan")),
    *((op, SINGLE) for op in ("TruncateMod", "Mod", "NextAfter")),
    ("TruncateDiv", ("float32",)),
    *((op, ("float32", "float64")) for op in ("Xdivy", "Xlogy", "Xlog1py", "Atan2", "Pow")),
    ("SquaredDifference", (*FEW, "int32", "complex64")),
    *((op, (*FEW, *FEW_INTEGERS)) for op in ("Less", "LessEqual", "Greater", "GreaterEqual")),
    *((op, (*FEW, *FEW_INTEGERS, "bool", "complex64")) for op in ("Equal", "NotEqual")),
    *((op, FEW_INTEGERS) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    *((op, INTEGERS) for op in ("LeftShift", "RightShift")),
    *((op, ("bool",)) for op in ("LogicalAnd", "LogicalOr")),
]


def rows(table: list[tuple[str, Any]]) -> list[Any]:
    return [pytest.param(op, dtype, id=f"{op}-{dtype}") for op, dtypes in table for dtype in dtypes]


@pytest.mark.parametrize(("op", "dtype"), rows(UNARY))
def test_unary_op_agrees_on_special_values(op: str, dtype: str) -> None:
    check_evaluation(op, special_values(dtype), rtol=tolerance(dtype), atol=1e-30)


@pytest.mark.parametrize(("op", "dtype"), rows(BINARY))
def test_binary_op_agrees_on_pairs_of_special_values(op: str, dtype: str) -> None:
    x, y = special_pairs(dtype)
    check_evaluation(op, x, y, rtol=tolerance(dtype), atol=1e-30)


@pytest.mark.parametrize("op", ["FloorDiv", "FloorMod", "TruncateDiv", "Div"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_division_agrees(op: str, dtype: str) -> None:
    x, y = special_pairs(dtype)
    check_evaluation(op, x[y != 0], y[y != 0])


@pytest.mark.parametrize("op", ["TruncateMod", "Mod"])
def test_integer_remainder_agrees(op: str) -> None:
    x, y = special_pairs("int32")
    check_evaluation(op, x[y != 0], y[y != 0])


def test_integer_power_wraps_around() -> None:
    x, y = special_pairs("int32")
    small = (y >= 0) & (y < 100)
    check_evaluation("Pow", x[small], y[small])


SMOOTH = [
    *("Exp", "Expm1", "Log", "Log1p", "Sqrt", "Rsqrt", "Tanh", "Sigmoid", "Sin", "Cos", "Tan"),
    *("Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Atanh", "Erf", "Erfc", "Reciprocal"),
    *("Neg", "Abs", "Sign", "Square", "Floor", "Elu", "Selu", "Softplus", "Softsign", "Relu"),
    *("Relu6", "Lgamma", "Digamma", "Erfinv", "BesselI0e", "BesselI1e"),
]


@pytest.mark.parametrize("op", SMOOTH)
def test_gradient_of_unary_op_agrees(op: str) -> None:
    x = np.array([[0.2, 0.5], [0.7, 0.9]], np.float32)
    check_evaluation(op, x, rtol=2e-4, grad=True)


@pytest.mark.parametrize(
    "op",
    [
        *("AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "Pow", "DivNoNan"),
        *("MulNoNan", "SquaredDifference", "FloorMod", "Xdivy", "Xlogy", "Xlog1py", "Atan2"),
    ],
)
def test_gradient_of_binary_op_with_broadcasting_agrees(op: str) -> None:
    x = np.array([[0.5, 2.0, 3.5], [1.5, 0.7, 2.2]], np.float32)
    y = np.array([1.2, 0.4, 0.9], np.float32)
    check_evaluation(op, x, y, rtol=1e-4, grad=True)
    check_evaluation(op, y[0], x, rtol=1e-4)
    check_evaluation(op, np.zeros((0, 3), np.float32), y)


@pytest.mark.parametrize("op", ["Xdivy", "Xlogy", "Xlog1py", "DivNoNan", "MulNoNan"])
def test_zeros_leave_gradients_free_of_nan(op: str) -> None:
    x, y = np.array([0.0, 1.0, 0.0], np.float32), np.array([0.0, 2.0, 3.0], np.float32)
    check_evaluation(op, x, y, grad=op.startswith("X"))


@pytest.mark.parametrize("dtype", HALF_UP)
def test_gamma_functions_agree(dtype: str) -> None:
    x = np.array([0.3, 1.5, 2.2, 5.0, 30.0, -0.7]).astype(dtype)
    check_evaluation("Lgamma", x, rtol=tolerance(dtype) * 10, atol=1e-6)
    check_evaluation("Digamma", x, rtol=tolerance(dtype) * 10, atol=1e-6)


def test_rarer_functions_agree() -> None:
    x, y = np.array([1.5, 2.0, 3.5], np.float32), np.array([0.5, 1.0, 4.0], np.float32)
    for op in ("Igamma", "Igammac", "Zeta"):
        check_evaluation(op, x, y, rtol=1e-4)
    check_evaluation("Polygamma", np.array([1.0, 2.0, 3.0], np.float32), x, rtol=1e-4)
    check_evaluation("Betainc", x, y, np.array([0.1, 0.5, 0.9], np.float32), rtol=1e-4)
    for op in ("BesselI0", "BesselI1", "BesselI0e", "BesselI1e", "Expint", "Spence"):
        check_evaluation(op, x, rtol=1e-4)
    inside = np.array([-0.9, -0.1, 0.3, 0.99], np.float32)
    check_evaluation("Erfinv", inside, rtol=1e-4)
    check_evaluation("Ndtri", np.abs(inside), rtol=1e-4)


def test_attributes_of_activations_are_used() -> None:
    x = special_values("float32")
    check_evaluation("LeakyRelu", x, alpha=0.3)
    check_evaluation("LeakyRelu", special_values("bfloat16"), alpha=0.1, rtol=2e-2)
    check_evaluation("ApproximateEqual", x[:-1], x[:-1] + 0.05, tolerance=0.1)


GRADIENT_OPS = [
    *("ReluGrad", "Relu6Grad", "EluGrad", "SeluGrad", "SoftplusGrad", "SoftsignGrad"),
    *("SigmoidGrad", "TanhGrad", "SqrtGrad", "RsqrtGrad", "ReciprocalGrad", "InvGrad"),
]


@pytest.mark.parametrize("op", GRADIENT_OPS)
def test_gradient_op_agrees(op: str) -> None:
    x = np.array([-2.0, -0.3, 0.0, 0.4, 3.0, 7.0], np.float32)
    y = np.array([0.5, 1.5, -1.0, 2.0, -0.7, 0.1], np.float32)
    check_evaluation(op, x, y, atol=1e-5)
    check_evaluation(op, x.astype(np.float16), y.astype(np.float16), rtol=4e-3, atol=1e-2)


def test_leaky_relu_grad_agrees() -> None:
    x = np.array([-2.0, -0.3, 0.4], np.float32)
    check_evaluation("LeakyReluGrad", x, x[::-1].copy(), alpha=0.2)


def test_sum_of_many_and_clipping_agree() -> None:
    x = special_values("float32")
    check_evaluation("AddN", [x, x * 2, x], grad=False)
    check_evaluation("AddN", [special_values("int8")] * 3)
    check_evaluation("ClipByValue", x, np.float32(-1), np.float32(2))
    check_evaluation("ClipByValue", special_values("int32"), np.int32(-5), np.int32(5))


@pytest.mark.parametrize("dtype", COMPLEX)
def test_complex_numbers_agree(dtype: str) -> None:
    z = special_values(dtype)
    part = tf.float32 if dtype == "complex64" else tf.float64
    for op in ("Real", "Imag", "ComplexAbs", "Angle"):
        check_evaluation(op, z, Tout=part)
    whole = tf.complex64 if dtype == "complex64" else tf.complex128
    check_evaluation("Complex", z.real.copy(), z.imag.copy(), Tout=whole)


@pytest.mark.parametrize("dtype", [*FEW, "int32", "bool"])
def test_selection_agrees(dtype: str) -> None:
    x, y = special_pairs(dtype)
    mask = np.arange(x.size) % 3 == 0
    check_evaluation("SelectV2", mask, x, y)
    check_evaluation("SelectV2", np.array(True), x, y[:1])
    rows = x[:4].reshape(2, 2), y[:4].reshape(2, 2)
    check_evaluation("Select", mask, x, y)
    check_evaluation("Select", np.array([True, False]), *rows)
    check_evaluation("Select", np.array(False), *rows)


def test_strings_are_compared_and_selected() -> None:
    x = np.array([b"a", b"b", b""], object)
    y = np.array([b"a", b"c", b""], object)
    check_evaluation("Equal", x, y)
    check_evaluation("NotEqual", x, y)
    check_evaluation("SelectV2", np.array([True, False, True]), x, y)
    check_evaluation("ZerosLike", x)


def test_comparison_of_incompatible_shapes_can_be_allowed() -> None:
    x, y = np.ones(3, np.float32), np.ones(2, np.float32)
    check_evaluation("Equal", x, y, incompatible_shape_error=False)
    check_evaluation("NotEqual", x, y, incompatible_shape_error=False)


SOURCES = [*FLOATS, *INTEGERS, "bool", "complex64"]


@pytest.mark.parametrize("source", SOURCES)
def test_casts_agree_within_range(source: str) -> None:
    x = special_values(source)
    for target in SOURCES:
        value = x
        if source in (*FLOATS, *COMPLEX) and target in INTEGERS:
            # What TensorFlow gives beyond the range varies with the position in the array.
            bounds = np.iinfo(target)
            real = x.real.astype(np.float64)
            value = x[(real > bounds.min - 1) & (real < bounds.max / 2)]
        check_evaluation("Cast", value, DstT=tf.as_dtype(as_numpy(target)))


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("target", ["int32", "int64"])
def test_casts_agree_out_of_range(source: str, target: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e9, -3e9, 6e4])
    with np.errstate(all="ignore"):
        check_evaluation("Cast", x.astype(as_numpy(source)), DstT=tf.as_dtype(target))


@pytest.mark.parametrize("target", ["uint32", "uint64"])
def test_casts_of_negative_floats_wrap_around(target: str) -> None:
    x = np.array([-1.0, -1.5, -3e9, 3e9, -7.0], np.float32)
    check_evaluation("Cast", x, DstT=tf.as_dtype(target))


def test_truncating_cast_drops_bits() -> None:
    x = np.array([1.0039, 3.14159, -2.71828, 1e-3], np.float32)
    check_evaluation("Cast", x, DstT=tf.bfloat16, Truncate=True)
    check_evaluation("Cast", x.astype(np.float64), DstT=tf.float32, Truncate=True)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("float32", tf.int32),
        ("float32", tf.uint8),
        ("int32", tf.float32),
        ("float64", tf.complex64),
        ("complex64", tf.float64),
        ("complex64", tf.int64),
        ("complex64", tf.float32),
        ("bfloat16", tf.int16),
    ],
)
def test_bits_are_reinterpreted(source: str, target: Any) -> None:
    check_evaluation("Bitcast", special_values(source)[1:7], type=target)


def test_bitcast_joins_the_last_axis() -> None:
    check_evaluation("Bitcast", special_values("uint8")[:8].reshape(2, 4), type=tf.float32)
    check_evaluation("Bitcast", special_values("float32")[:4].reshape(2, 2), type=tf.complex64)
