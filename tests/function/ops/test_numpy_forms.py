"""The numpy forms of elementwise ops, reductions and scans agree with their JAX forms."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from special_values import special_pairs, special_values

import savax.function.ops  # noqa: F401 - registers the rules
from savax.function.ops._registry import EVALUATIONS, FOLDS
from savax.types import as_dtype

NUMBERS = ("int8", "int64", "uint32", "float32")

UNARY = {
    **dict.fromkeys(("Neg", "Abs", "Sign", "Square", "Round", "OnesLike", "ZerosLike"), NUMBERS),
    **dict.fromkeys(("Floor", "Ceil", "Rint", "IsNan", "IsInf", "IsFinite"), ("float32",)),
    "Invert": ("int8", "uint32"),
    "LogicalNot": ("bool",),
}
BINARY = {
    **dict.fromkeys(("AddV2", "Add", "Sub", "Mul", "Maximum", "Minimum"), NUMBERS),
    **dict.fromkeys(("FloorDiv", "FloorMod", "TruncateDiv", "Div", "TruncateMod", "Mod"), NUMBERS),
    **dict.fromkeys(("Less", "LessEqual", "Greater", "GreaterEqual"), NUMBERS),
    **dict.fromkeys(("BitwiseAnd", "BitwiseOr", "BitwiseXor"), ("int8", "uint32")),
    **dict.fromkeys(("LeftShift", "RightShift"), ("int8", "int64", "uint32")),
    **dict.fromkeys(("LogicalAnd", "LogicalOr"), ("bool",)),
    "RealDiv": ("float32",),
}


def assert_forms_agree(op: str, *inputs: Any, static: int = 0, **attrs: Any) -> None:
    """Compares the numpy form with the JAX form; the last ``static`` inputs stay numpy."""
    rule, fold = EVALUATIONS[op].rule, FOLDS[op]
    with jax.enable_x64(True), np.errstate(all="ignore"):
        folded = np.asarray(fold(*inputs, **attrs))
        known = inputs[len(inputs) - static :]
        traced = inputs[: len(inputs) - static]
        computed = np.asarray(jax.jit(lambda *xs: rule(*xs, *known, **attrs))(*traced))
    assert folded.dtype == computed.dtype
    assert folded.shape == computed.shape
    np.testing.assert_array_equal(folded, computed)


def rows(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(op, dtype) for op, dtypes in table.items() for dtype in dtypes]


@pytest.mark.parametrize(("op", "dtype"), rows(UNARY))
def test_unary_forms_agree(op: str, dtype: str) -> None:
    if op in ("Neg", "Abs", "Sign") and dtype == "uint32":
        pytest.skip("TensorFlow has no such op for unsigned integers")
    assert_forms_agree(op, special_values(dtype))


@pytest.mark.parametrize(("op", "dtype"), rows(BINARY))
def test_binary_forms_agree_division_by_zero_included(op: str, dtype: str) -> None:
    assert_forms_agree(op, *special_pairs(dtype))


@pytest.mark.parametrize("op", ["Equal", "NotEqual"])
@pytest.mark.parametrize("dtype", [*NUMBERS, "bool"])
def test_equality_forms_agree(op: str, dtype: str) -> None:
    assert_forms_agree(op, *special_pairs(dtype), incompatible_shape_error=True)


@pytest.mark.parametrize("source", [*NUMBERS, "bool", "float64"])
def test_cast_forms_agree_out_of_range_too(source: str) -> None:
    x = special_values(source)
    for target in (*NUMBERS, "bool", "uint64", "float64"):
        assert_forms_agree("Cast", x, DstT=as_dtype(target), Truncate=False)


@pytest.mark.parametrize("op", ["Sum", "Prod", "Max", "Min"])
@pytest.mark.parametrize("dtype", ["int8", "uint32", "float32"])
def test_reduction_forms_agree(op: str, dtype: str, rng: np.random.Generator) -> None:
    x = rng.integers(0, 100, (2, 3, 2)).astype(dtype)
    for axes in ([], [0], [-1, 0], [0, 1, 2]):
        indices = np.array(axes, np.int32)
        for keep_dims in (False, True):
            assert_forms_agree(op, x, indices, static=1, keep_dims=keep_dims)
    assert_forms_agree(op, x[:0], np.array(0, np.int32), static=1, keep_dims=False)


@pytest.mark.parametrize("op", ["All", "Any"])
def test_logical_reduction_forms_agree(op: str, rng: np.random.Generator) -> None:
    x = rng.integers(0, 2, (2, 3)).astype(bool)
    for part in (x, x[:0]):
        assert_forms_agree(op, part, np.array([0], np.int32), static=1, keep_dims=True)


@pytest.mark.parametrize("op", ["Cumsum", "Cumprod"])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan_forms_agree(op: str, exclusive: bool, reverse: bool) -> None:
    x = np.arange(1, 9, dtype=np.int8).reshape(2, 4)
    for axis in (0, -1):
        indices = np.array(axis, np.int32)
        assert_forms_agree(op, x, indices, static=1, exclusive=exclusive, reverse=reverse)


def test_forms_of_selection_and_power_agree() -> None:
    x, y = special_pairs("int32")
    assert_forms_agree("SelectV2", x > y, x, y)
    assert_forms_agree("Select", np.array([True, False]), x[:4].reshape(2, 2), y[:4].reshape(2, 2))
    small = (y >= 0) & (y < 40)
    assert_forms_agree("Pow", x[small], y[small])
