"""Shape changes, joins and pads against TensorFlow, both directions."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

pytest.importorskip("tensorflow")

import tensorflow as tf

from tests.evaluation_check import check_evaluation, check_function
from tests.lowering_check import check_lowering

pytestmark = pytest.mark.tf


def numbers(*shape, dtype=np.float32):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


X = numbers(2, 4, 5)
FREE = ((None, 4, 5),)

# name: function, specs
LOWERED = {
    "reshape": (lambda x: x.reshape(-1, 20), FREE),
    "reshape_flat": (lambda x: x.reshape(-1), FREE),
    "reshape_two_unknown": (
        lambda x: x.reshape(x.shape[0], x.shape[1] * 5),
        ((None, None, 5),),
    ),
    "transpose": (lambda x: x.transpose(2, 0, 1), FREE),
    "broadcast_new_axis": (
        lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], 3, 4, 5)),
        FREE,
    ),
    "broadcast_inner_axis": (
        lambda x: lax.broadcast_in_dim(x, (x.shape[0], 4, 2, 5), (0, 1, 3)),
        FREE,
    ),
    "broadcast_scalar": (lambda x: x + jnp.broadcast_to(jnp.float32(2), x.shape), FREE),
    "squeeze": (lambda x: x[:, :, :1].squeeze(2), FREE),
    "expand_dims": (lambda x: jnp.expand_dims(x, (0, -1)), FREE),
    "reverse": (lambda x: lax.rev(x, (0, 2)), FREE),
    "pad": (lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 3)), constant_values=1.5), FREE),
    "pad_negative_and_interior": (
        lambda x: lax.pad(x, jnp.float32(0.5), ((0, 0, 0), (1, -2, 2), (-1, 3, 1))),
        FREE,
    ),
    "pad_interior_unknown": (
        lambda x: lax.pad(x, jnp.float32(0.5), ((1, 0, 1), (0, 0, 0), (0, 0, 0))),
        FREE,
    ),
    "pad_interior_empty": (lambda x: lax.pad(x[:0], jnp.float32(1), ((1, 0, 2),) * 3), None),
    "concatenate": (lambda x: jnp.concatenate([x, x * 2], 1), FREE),
    "concatenate_unknown": (lambda x: jnp.concatenate([x, x], 0), FREE),
    "stack": (lambda x: jnp.stack([x, x + 1], 1), FREE),
    "unstack": (lambda x: jnp.unstack(x, axis=1), FREE),
    "split": (lambda x: jnp.split(x, 2, 1), FREE),
    "split_unequal": (lambda x: jnp.split(x, [1, 2], 1), FREE),
    "tile": (lambda x: jnp.tile(x, (2, 1, 3)), FREE),
    "tile_new_axis": (lambda x: jnp.tile(x, (2, 1, 1, 3)), FREE),
    "roll": (lambda x: jnp.roll(x, 1, 1), FREE),
}


@pytest.mark.parametrize("name", LOWERED)
def test_shape_change_is_lowered(name):
    fn, specs = LOWERED[name]
    check_lowering(fn, X, specs=specs, run_jit=True)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "int64", "complex64", "bfloat16"])
def test_dtypes_are_lowered(dtype):
    x = numbers(2, 3).astype(jnp.dtype(dtype))

    def fn(x):
        padded = lax.pad(x, x[0, 0], ((1, 0, 1), (0, 2, 0)))
        return lax.rev(jnp.concatenate([padded, padded], 1), (0,)).T, jnp.broadcast_to(
            x, (4, *x.shape)
        )

    if dtype == "int64":
        import jax

        with jax.enable_x64(True):
            check_lowering(fn, x, specs=((None, 3),), run_jit=True)
    else:
        check_lowering(fn, x, specs=((None, 3),), run_jit=True)


def test_scalar_broadcast_vanishes_before_an_elementwise_op():
    lowered = check_lowering(
        lambda x: x * jnp.broadcast_to(jnp.float32(3), x.shape), X, specs=FREE, run_jit=True
    )
    assert lowered.ops() == ["Const", "Mul"]


def ints(*values):
    return np.array(values, np.int32)


# op, inputs, attributes, whether to compare gradients
EVALUATED = [
    ("Reshape", (X, ints(-1, 10)), {}, True),
    ("Reshape", (numbers(0, 3), ints(3, -1)), {}, False),
    ("Squeeze", (numbers(1, 3, 1),), {}, True),
    ("Squeeze", (numbers(1, 3, 1),), {"axis": [-1]}, True),
    ("Transpose", (X, ints(2, 0, 1)), {}, True),
    ("ConjugateTranspose", (X.astype(np.complex64) * 1j, ints(2, 0, 1)), {}, False),
    ("BroadcastTo", (numbers(3, 1), ints(2, 3, 4)), {}, True),
    ("BroadcastArgs", (ints(3, 1), ints(2, 1, 4)), {}, False),
    ("Tile", (X, ints(1, 2, 3)), {}, True),
    ("Shape", (X,), {"out_type": np.int64}, False),
    ("ShapeN", ([X, numbers(0, 3)],), {}, False),
    ("Size", (X,), {}, False),
    ("Rank", (X,), {}, False),
    ("ReverseV2", (X, ints(0, -1)), {}, True),
    ("ReverseV2", (X, ints()), {}, True),
    ("Reverse", (X, np.array([True, False, True])), {}, True),
    ("Roll", (X, ints(2, -1), ints(1, 1)), {}, True),
    ("Roll", (X, ints(7)[0], ints(0)[0]), {}, True),
    ("InvertPermutation", (ints(2, 0, 1),), {}, False),
    ("Pack", ([X, X + 1],), {"axis": -1}, True),
    ("Unpack", (X,), {"num": 4, "axis": -2}, True),
    ("ConcatV2", ([X, X + 1], ints(-1)[0]), {}, True),
    ("Concat", (ints(1)[0], [X, X + 1]), {}, True),
    ("ConcatOffset", (ints(1)[0], [ints(2, 3), ints(2, 5)]), {}, False),
    ("Pad", (X, ints(0, 0, 1, 2, 0, 1).reshape(3, 2)), {}, True),
    ("PadV2", (X, ints(0, 0, 1, 2, 0, 1).reshape(3, 2), np.float32(2.5)), {}, False),
    ("MirrorPad", (X, ints(0, 0, 1, 2, 0, 1).reshape(3, 2)), {"mode": "REFLECT"}, True),
    ("MirrorPad", (X, ints(0, 0, 1, 2, 0, 1).reshape(3, 2)), {"mode": "SYMMETRIC"}, True),
    (
        "MirrorPadGrad",
        (numbers(2, 7), ints(0, 0, 1, 2).reshape(2, 2)),
        {"mode": "SYMMETRIC"},
        False,
    ),
    (
        "SpaceToBatchND",
        (numbers(2, 4, 5, 3), ints(2, 3), ints(0, 0, 1, 0).reshape(2, 2)),
        {},
        True,
    ),
    (
        "BatchToSpaceND",
        (numbers(12, 4, 5, 3), ints(2, 3), ints(0, 1, 1, 2).reshape(2, 2)),
        {},
        True,
    ),
    ("SpaceToDepth", (numbers(2, 4, 6, 3),), {"block_size": 2}, True),
    ("DepthToSpace", (numbers(2, 4, 6, 8),), {"block_size": 2}, True),
]


@pytest.mark.parametrize("row", range(len(EVALUATED)), ids=lambda row: EVALUATED[row][0])
def test_shape_op_is_evaluated(row):
    op, inputs, attrs, grad = EVALUATED[row]
    check_evaluation(op, *inputs, grad=grad, **attrs)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: tf.expand_dims(x, -2),
        lambda x: tf.split(x, 2, 1),
        lambda x: tf.split(x, [1, -1, 2], -1),
        lambda x: tf.reshape(x, [tf.shape(x)[1], -1]),
        lambda x: tf.tile(x, tf.concat([[1], tf.shape(x)[1:2], [2]], 0)),
    ],
)
def test_function_of_shapes_is_evaluated(fn):
    check_function(tf.function(fn), X)


@pytest.mark.parametrize(
    "pair",
    [((), ()), ((1,), (1,)), ((3,), (1,)), ((2, 1, 4), (3, 1)), ((1, 4), (1, 1)), ((), (2,))],
)
def test_broadcast_gradient_args_are_evaluated(pair):
    check_evaluation("BroadcastGradientArgs", *(np.array(shape, np.int32) for shape in pair))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.complex128, np.int64])
def test_dtypes_are_evaluated(dtype):
    x = numbers(2, 3).astype(dtype)
    check_evaluation("ConcatV2", [x, x], ints(0)[0])
    check_evaluation("PadV2", x, ints(0, 1, 2, 0).reshape(2, 2), x[1, 1])
    check_evaluation("Transpose", x, ints(1, 0))
    check_evaluation("Tile", x, ints(2, 1))
