"""Array ops without TensorFlow: numpy forms agree with JAX forms, and rules compose with JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from savax.function.ops._registry import EVALUATIONS, FOLDS
from savax.types import as_dtype

X = np.arange(24, dtype=np.int32).reshape(2, 3, 4)


def ints(*values):
    return np.array(values, np.int32)


# op, inputs, attributes
FOLDED = [
    ("Reshape", (X, ints(4, -1)), {}),
    ("Squeeze", (X[:1],), {"squeeze_dims": [0]}),
    ("Squeeze", (X[:1, :1],), {"squeeze_dims": []}),
    ("ExpandDims", (X, ints(-1)), {}),
    ("Transpose", (X, ints(2, 0, 1)), {}),
    ("BroadcastTo", (X, ints(5, 2, 3, 4)), {}),
    ("Tile", (X, ints(1, 2, 3)), {}),
    ("ReverseV2", (X, ints(0, 2)), {}),
    ("InvertPermutation", (ints(2, 0, 1),), {}),
    ("Pack", ((X, X + 1),), {"axis": 1}),
    ("Unpack", (X,), {"num": 3, "axis": 1}),
    ("ConcatV2", ((X, X + 1), ints(2)), {}),
    ("Concat", (ints(0), (X, X + 1)), {}),
    ("Split", (ints(2), X), {"num_split": 2}),
    ("SplitV", (X, ints(1, -1), ints(2)), {"num_split": 2}),
    ("Pad", (X, ints(0, 1, 2, 0, 0, 0)), {}),
    ("PadV2", (X, ints(0, 1, 2, 0, 0, 0), np.int32(7)), {}),
    ("MirrorPad", (X, ints(0, 1, 2, 0, 0, 0)), {"mode": "REFLECT"}),
    ("GatherV2", (X, ints(2, 0), ints(1)), {"batch_dims": 0}),
    ("GatherV2", (X, ints(2, 0).reshape(2, 1), ints(1)), {"batch_dims": 1}),
    ("Gather", (X, ints(1, 0)), {}),
    ("ScatterNd", (ints(0, 2, 0).reshape(3, 1), ints(1, 2, 3), ints(4)), {}),
    ("TensorScatterUpdate", (ints(1, 2, 3), ints(0, 2).reshape(2, 1), ints(7, 8)), {}),
]


@pytest.mark.parametrize("row", range(len(FOLDED)), ids=lambda row: FOLDED[row][0])
def test_numpy_form_agrees(row):
    op, inputs, attrs = FOLDED[row]
    folded = FOLDS[op](*inputs, **attrs)
    static = EVALUATIONS[op].static
    traced = [
        x if isinstance(x, np.ndarray) and (not x.size or _is_static(op, i, static)) else _jax(x)
        for i, x in enumerate(inputs)
    ]
    result = EVALUATIONS[op].rule(*traced, **attrs)
    pairs = zip(folded, result, strict=True) if isinstance(folded, tuple) else [(folded, result)]
    for have, want in pairs:
        assert isinstance(have, np.ndarray)
        assert have.dtype == want.dtype
        np.testing.assert_array_equal(have, want)


def _is_static(op, index, static):
    from savax.function._op_schemas import op_schema

    return op_schema(op).inputs[index].name in static


def _jax(value):
    return jax.tree.map(jnp.asarray, value)


def test_shape_of_a_traced_array_is_known():
    def fn(x):
        shape = EVALUATIONS["Shape"].rule(x, out_type=as_dtype("int32"))
        assert isinstance(shape, np.ndarray)
        return x.reshape(shape[::-1])

    assert jax.jit(fn)(X).shape == (4, 3, 2)


CONV = {
    "strides": [1, 1, 1, 1],
    "padding": "SAME",
    "explicit_paddings": [],
    "data_format": "NHWC",
    "dilations": [1, 1, 1, 1],
}


@pytest.mark.parametrize(
    ("op", "kernel"), [("Conv2D", (1, 1, 3, 4)), ("DepthwiseConv2dNative", (3, 3, 3, 1))]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_platform_dependent_convolution_composes(op, kernel, stride):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 7, 3)).astype(np.float32)
    w = rng.normal(size=kernel).astype(np.float32)
    attrs = {**CONV, "strides": [1, stride, stride, 1]}

    def chosen(x, w):
        return EVALUATIONS[op].rule(x, w, **attrs)

    def plain(x, w):
        groups = 3 if op != "Conv2D" else 1
        if groups > 1:
            w = w.reshape(*w.shape[:2], 1, -1)
        return jax.lax.conv_general_dilated(
            x,
            w,
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def gradients(f):
        return jax.jit(jax.grad(lambda x, w: (f(x, w) ** 2).sum(), (0, 1)))

    def over_images(f):
        return jax.vmap(lambda x, w: f(x[None], w), in_axes=(0, None))

    def tangents(f):
        return lambda x, w: jax.jvp(f, (x, w), (x, w))[1]

    for transform in (jax.jit, gradients, over_images, tangents):
        have, want = transform(chosen)(x, w), transform(plain)(x, w)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), have, want
        )
    hlo = jax.jit(chosen).lower(x, w).as_text()
    assert ("convolution" in hlo) == (jax.default_backend() != "cpu")
