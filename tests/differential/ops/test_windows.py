"""Window reductions and pools against TensorFlow, both directions."""

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


def normal(*shape, dtype=np.float32):
    values = np.random.default_rng(2).normal(size=shape) * 20
    return values.astype(dtype)


REDUCERS = {
    "max": (lax.max, lambda dtype: -np.inf if dtype.kind == "f" else np.iinfo(dtype).min),
    "min": (lax.min, lambda dtype: np.inf if dtype.kind == "f" else np.iinfo(dtype).max),
    "add": (lax.add, lambda dtype: 0),
}


def reduced(kind, window, strides=None, padding="VALID", **params):
    reducer, initial = REDUCERS[kind]

    def apply(x):
        start = np.asarray(initial(np.dtype(x.dtype)), x.dtype)
        steps = strides or (1,) * len(window)
        return lax.reduce_window(x, start, reducer, window, steps, padding, **params)

    return apply


IMAGE = normal(2, 8, 9, 3)
FREE = (None, None, None, 3)
PADS = ((0, 0), (1, 2), (0, 1), (0, 0))

WINDOWS = {
    "valid": (((1, 2, 2, 1), (1, 2, 2, 1)), IMAGE, FREE),
    "same": (((1, 3, 3, 1), (1, 2, 2, 1), "SAME"), IMAGE, FREE),
    "same_unit_strides": (((1, 3, 2, 1), (1, 1, 1, 1), "SAME"), IMAGE, FREE),
    "explicit": (((1, 3, 3, 1), (1, 2, 1, 1), PADS), IMAGE, FREE),
    "channels_first": (((1, 1, 2, 3), (1, 1, 2, 2)), IMAGE, (None, 8, 9, 3)),
    "one_axis": (((1, 3, 1), (1, 2, 1), "SAME"), normal(2, 9, 4), (None, None, 4)),
    "one_axis_of_four": (((1, 1, 3, 1),), IMAGE, FREE),
    "vector": (((3,), (2,)), normal(9), (None,)),
    "matrix": (((3, 2), (2, 1)), normal(9, 7), (None, None)),
    "first_axis": (((2, 1, 1),), normal(5, 4, 3), (None, 4, 3)),
    "five_axes": (((1, 1, 2, 2, 1), (1, 1, 2, 2, 1)), normal(2, 3, 4, 5, 2), (None, 3, 4, 5, 2)),
    "cube": (((1, 2, 2, 2, 1), (1, 2, 2, 2, 1)), normal(2, 3, 4, 5, 2), (None, 3, 4, 5, 2)),
    "all_axes": (((2, 2, 2, 2),), normal(3, 4, 5, 3), None),
    "nothing": (((1, 1, 1, 1),), IMAGE, FREE),
    "empty": (((1, 2, 2, 1),), normal(0, 4, 4, 2), None),
}


@pytest.mark.parametrize("kind", REDUCERS)
@pytest.mark.parametrize("name", WINDOWS)
def test_window_reduction_is_lowered(name, kind):
    params, x, spec = WINDOWS[name]
    check_lowering(
        reduced(kind, *params), x, specs=spec and (spec,), run_jit=True, rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("kind", REDUCERS)
@pytest.mark.parametrize("dtype", ["int32", "int8", "uint8", "int64", "float64", "bfloat16"])
def test_window_reduction_of_dtype_is_lowered(kind, dtype):
    if dtype == "bfloat16" and kind == "add":
        pytest.skip("sums of bfloat16 round differently")
    with jax.enable_x64(True):
        x = np.abs(normal(2, 5, 5, 2)).astype(jnp.dtype(dtype))
        reducer, _ = REDUCERS[kind]
        lowest = {"max": "min", "min": "max"}.get(kind)
        if lowest is None:
            initial = 0
        elif jnp.issubdtype(x.dtype, jnp.floating):
            initial = -np.inf if kind == "max" else np.inf
        else:
            initial = getattr(jnp.iinfo(x.dtype), lowest)
        value = np.asarray(initial, x.dtype)
        check_lowering(
            lambda x: lax.reduce_window(x, value, reducer, (1, 2, 2, 1), (1, 2, 2, 1), "SAME"),
            x,
            run_jit=True,
        )


def test_dilated_windows_are_lowered():
    fn = reduced("max", (1, 2, 2, 1), (1, 1, 2, 1), window_dilation=(1, 2, 3, 1))
    check_lowering(fn, IMAGE, specs=(FREE,), run_jit=True)
    fn = reduced("add", (1, 2, 2, 1), (1, 1, 2, 1), base_dilation=(1, 2, 1, 1))
    check_lowering(fn, IMAGE, specs=((None, 8, 9, 3),), run_jit=True, rtol=1e-4, atol=1e-4)


def test_window_product_is_lowered():
    def fn(x):
        return lax.reduce_window(x, 1.0, lax.mul, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")

    check_lowering(fn, IMAGE / 20, specs=((None, 8, 9, 3),), run_jit=True)


@pytest.mark.parametrize("padding", ["VALID", "SAME", PADS])
def test_gradient_of_max_pool_is_lowered(padding):
    pool = reduced("max", (1, 3, 3, 1), (1, 2, 2, 1), padding)
    specs = ((None, 8, 9, 3),)
    check_lowering(jax.grad(lambda x: (pool(x) ** 2).sum()), IMAGE, specs=specs, run_jit=True)
    check_lowering(lambda x: jax.jvp(pool, (x,), (x * 2,)), IMAGE, specs=specs, run_jit=True)


def test_pool_is_written_as_pool():
    lowered = check_lowering(
        reduced("max", (1, 2, 2, 1), (1, 2, 2, 1), "SAME"), IMAGE, specs=(FREE,), run_jit=True
    )
    assert lowered.ops() == ["MaxPool"]
    assert lowered.function.node_def[0].attr["padding"].s == b"SAME"


def pool(ksize, strides, padding="SAME", **attrs):
    return {"ksize": list(ksize), "strides": list(strides), "padding": padding, **attrs}


VOLUME = normal(2, 5, 6, 7, 2)
EVALUATED = [
    ("MaxPool", (IMAGE,), pool((1, 2, 2, 1), (1, 2, 2, 1))),
    ("MaxPool", (IMAGE,), pool((1, 3, 3, 1), (1, 2, 1, 1), "VALID")),
    (
        "MaxPool",
        (IMAGE,),
        pool((1, 3, 3, 1), (1, 2, 1, 1), "EXPLICIT", explicit_paddings=[0, 0, 1, 1, 0, 1, 0, 0]),
    ),
    ("MaxPool", (normal(2, 5, 5, 2, dtype=np.int32),), pool((1, 2, 2, 1), (1, 2, 2, 1))),
    # Most windows have several largest elements; one of them gets the gradient.
    ("MaxPool", (np.maximum(IMAGE, 0),), pool((1, 3, 3, 1), (1, 2, 2, 1))),
    ("AvgPool", (IMAGE,), pool((1, 3, 3, 1), (1, 2, 2, 1))),
    ("AvgPool", (IMAGE,), pool((1, 3, 2, 1), (1, 1, 2, 1), "VALID")),
    ("MaxPool3D", (VOLUME,), pool((1, 2, 2, 2, 1), (1, 2, 2, 1, 1))),
    ("AvgPool3D", (VOLUME,), pool((1, 2, 3, 2, 1), (1, 2, 2, 1, 1))),
]


@pytest.mark.parametrize("row", range(len(EVALUATED)))
def test_pool_is_evaluated(row):
    op, inputs, attrs = EVALUATED[row]
    check_evaluation(op, *inputs, grad=inputs[0].dtype.kind == "f", rtol=1e-4, atol=1e-4, **attrs)


def test_max_pool_v2_is_evaluated():
    window, steps = np.array([1, 2, 2, 1], np.int32), np.array([1, 2, 2, 1], np.int32)
    check_evaluation("MaxPoolV2", IMAGE, window, steps, padding="SAME")


def test_gradients_of_pools_are_evaluated():
    attrs = pool((1, 2, 2, 1), (1, 2, 2, 1))
    largest = np.asarray(reduced("max", (1, 2, 2, 1), (1, 2, 2, 1), "SAME")(IMAGE))
    check_evaluation("MaxPoolGrad", IMAGE, largest, normal(*largest.shape), **attrs)
    check_evaluation("MaxPoolGradGrad", IMAGE, largest, normal(*IMAGE.shape), **attrs)
    shape = np.array(IMAGE.shape, np.int32)
    check_evaluation("AvgPoolGrad", shape, normal(*largest.shape), **attrs)
