"""Slices against TensorFlow, both directions."""

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

X = np.random.default_rng(3).normal(size=(2, 4, 5)).astype(np.float32)
FREE = (None, 4, 5)

# name: function, whether one StridedSlice is all there should be
FIXED = {
    "[:, 1:3, ::2]": (lambda x: x[:, 1:3, ::2], True),
    "[:1]": (lambda x: x[:1], False),
    "[:5]": (lambda x: x[:5], True),
    "[1:]": (lambda x: x[1:], True),
    "[:-1]": (lambda x: x[:-1], True),
    "[-1]": (lambda x: x[-1], True),
    "[0]": (lambda x: x[0], True),
    "[:, -1]": (lambda x: x[:, -1], True),
    "[:, -1, 2:]": (lambda x: x[:, -1, 2:], True),
    "[..., 0]": (lambda x: x[..., 0], True),
    "[::2]": (lambda x: x[::2], False),
    "[::-1]": (lambda x: x[::-1], False),
    "[:, ::-1]": (lambda x: x[:, ::-1], False),
    "[:, :0]": (lambda x: x[:, :0], False),
    "[:n//2]": (lambda x: x[: x.shape[0] // 2], False),
}


@pytest.mark.parametrize("name", FIXED)
def test_slice_is_lowered(name):
    fn, single = FIXED[name]
    lowered = check_lowering(fn, X, specs=(FREE,), run_jit=True)
    if single:
        assert set(lowered.ops()) == {"Const", "StridedSlice"}
    check_lowering(fn, X, run_jit=True)


COMPUTED = {
    "slice": lambda x, i: lax.dynamic_slice(x, (0, i, 0), (x.shape[0], 2, 5)),
    "index": lambda x, i: x[:, i],
    "index_batch": lambda x, i: x[i],
    "update": lambda x, i: lax.dynamic_update_slice(x, x[:, :2, 1:4] * 2, (0, i, i)),
    "update_row": lambda x, i: lax.dynamic_update_slice(x, x[:, :1] * 2, (0, i, 0)),
    "update_batch": lambda x, i: lax.dynamic_update_slice(x, x[:1] * 2, (i, 0, 0)),
}


@pytest.mark.parametrize("start", [-7, -2, 0, 1, 3, 9])
@pytest.mark.parametrize("name", COMPUTED)
def test_window_at_computed_start_is_lowered(name, start):
    check_lowering(COMPUTED[name], X, np.int32(start), specs=(FREE, None), run_jit=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, np.int16])
def test_starts_of_dtype_are_lowered(dtype):
    start = dtype(min(200, np.iinfo(dtype).max))
    check_lowering(
        lambda x, i: lax.dynamic_slice_in_dim(x, i, 2, 1),
        X,
        start,
        specs=(FREE, None),
        run_jit=True,
    )


def test_update_at_fixed_start_is_lowered():
    def fn(x):
        return lax.dynamic_update_slice(x, x[:, :2, :3] * 2, (0, 1, 1))

    lowered = check_lowering(fn, X, specs=(FREE,), run_jit=True)
    assert "ConcatV2" in lowered.ops()
    check_lowering(
        lambda x: lax.dynamic_update_slice(x, x[:1] * 2, (0, 0, 0)), X, specs=(FREE,), run_jit=True
    )


def test_gradient_of_slice_is_lowered():
    check_lowering(jax.grad(lambda x: (x[:, 1:3, ::2] ** 2).sum()), X, specs=(FREE,), run_jit=True)
    check_lowering(
        jax.grad(lambda x, i: (lax.dynamic_slice(x, (0, i, 0), (2, 2, 5)) ** 2).sum()),
        X,
        np.int32(1),
        run_jit=True,
    )


def test_windows_of_a_batch_are_lowered():
    starts = np.array([0, 3], np.int32)
    specs = (("b", 4, 5), ("b",))
    read = jax.vmap(lambda x, i: lax.dynamic_slice(x, (i, 1), (2, 3)))
    check_lowering(read, X, starts, specs=specs, run_jit=True)
    write = jax.vmap(lambda x, i: lax.dynamic_update_slice(x, jnp.ones((2, 3)), (i, 1)))
    check_lowering(write, X, starts, specs=specs, run_jit=True)


def ints(*values):
    return np.array(values, np.int32)


# begin, end, strides, masks
STRIDED = [
    (ints(0, 1), ints(2, 3), ints(1, 1), {}),
    (
        ints(0, -1, 1),
        ints(0, 0, 5),
        ints(1, 1, 2),
        {"begin_mask": 1, "end_mask": 1} | {"shrink_axis_mask": 2},
    ),
    (ints(0, 0), ints(0, 3), ints(1, 1), {"ellipsis_mask": 1}),
    (ints(0, 0, 1), ints(0, 0, 3), ints(1, 1, 1), {"new_axis_mask": 1, "ellipsis_mask": 2}),
    (ints(0, 0, 1), ints(0, 0, 0), ints(1, 1, 1), {"ellipsis_mask": 2, "shrink_axis_mask": 5}),
    (ints(1, 3, -1), ints(-9, 0, -9), ints(-1, -1, -2), {}),
    (ints(0, 0, 0), ints(0, 9, -1), ints(1, 2, 1), {"end_mask": 1}),
    (ints(5), ints(9), ints(1), {}),
]


@pytest.mark.parametrize("row", range(len(STRIDED)))
def test_strided_slice_is_evaluated(row):
    begin, end, strides, masks = STRIDED[row]
    bounds = ("begin", "end", "strides")
    check_evaluation("StridedSlice", X, begin, end, strides, constant=bounds, grad=True, **masks)
    check_evaluation(
        "StridedSlice", X.astype(np.int64), begin, end, strides, constant=bounds, **masks
    )


def test_strided_slice_with_computed_index_is_evaluated():
    for index in (-1, 0, 2):
        check_evaluation(
            "StridedSlice",
            X[0],
            ints(index),
            ints(index + 1),
            ints(1),
            constant=("strides",),
            shrink_axis_mask=1,
        )


def test_strided_slice_grad_is_evaluated():
    begin, end, strides = ints(0, 1, 0), ints(2, 3, 0), ints(1, 1, 2)
    part = X[0:2, 1:3, ::2]
    check_evaluation("StridedSliceGrad", ints(2, 4, 5), begin, end, strides, part, end_mask=4)


def test_tensor_strided_slice_update_is_evaluated():
    bounds = ("begin", "end", "strides")
    check_evaluation(
        "TensorStridedSliceUpdate",
        X,
        ints(0, 1),
        ints(2, 3),
        ints(1, 1),
        X[:, 1:3] * 2,
        constant=bounds,
    )
    check_evaluation(
        "TensorStridedSliceUpdate",
        X,
        ints(1),
        ints(2),
        ints(1),
        X[0] * 2,
        constant=("strides",),
        shrink_axis_mask=1,
    )


def test_slice_is_evaluated():
    check_evaluation(
        "Slice", X, ints(0, 1, 2), ints(2, -1, 2), constant=("begin", "size"), grad=True
    )
    check_evaluation("Slice", X, ints(0, 1, 2), ints(2, 3, 2), constant=("size",), grad=True)
