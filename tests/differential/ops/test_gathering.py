"""Reads at computed positions against TensorFlow, both directions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tensorflow")

from tests.evaluation_check import check_evaluation
from tests.lowering_check import check_lowering

pytestmark = pytest.mark.tf

X = np.random.default_rng(4).normal(size=(2, 4, 5)).astype(np.float32)
FREE = (None, 4, 5)


def ints(*values):
    return np.array(values, np.int32)


IDS = ints(0, 3, -1, 7, -9)
ROWS, COLUMNS = ints(0, 1, 1), ints(3, 2, -1)
POINTS = (FREE, ("n",), ("n",))

# name: function, arguments, specs, op that does it
LOWERED = {
    "embedding": (lambda w, i: w[i], (X[0], ints(0, 3, -1, 9)), (None, (None,)), "GatherV2"),
    "embedding_matrix": (
        lambda w, i: w[i],
        (X[0], IDS[:4].reshape(2, 2)),
        (None, (None, None)),
        "GatherV2",
    ),
    "clip": (lambda x, i: jnp.take(x, i, 1, mode="clip"), (X, IDS), (FREE, (None,)), "GatherV2"),
    "fill": (lambda x, i: jnp.take(x, i, 1, mode="fill"), (X, IDS), (FREE, (None,)), "GatherV2"),
    "wrap": (lambda x, i: jnp.take(x, i, 1, mode="wrap"), (X, IDS), (FREE, (None,)), "GatherV2"),
    "fill_integers": (
        lambda x, i: jnp.take(x, i, 1, mode="fill"),
        (X.astype(np.int8), IDS),
        (FREE, (None,)),
        "GatherV2",
    ),
    "along_axis": (
        lambda x, i: jnp.take_along_axis(x, i[:, :, None], 2),
        (X, ints(0, 1, 2, 3, 4, 0, -1, 9).reshape(2, 4)),
        (("b", 4, 5), ("b", 4)),
        "GatherV2",
    ),
    "along_first_axis": (
        lambda x, i: jnp.take_along_axis(x, i, 0),
        (X[0, :, :3], ints(0, 1, 2, 3, 0, -1).reshape(2, 3)),
        None,
        "GatherV2",
    ),
    "points": (lambda x, i, j: x[i, j], (X, ROWS, COLUMNS), POINTS, "GatherNd"),
    "points_apart": (lambda x, i, j: x[i, :, j], (X, ROWS, COLUMNS), POINTS, "GatherNd"),
    "window": (lambda x, i: x[:, i, 1:3], (X, ROWS), (FREE, (None,)), "GatherV2"),
    "batched": (
        jax.vmap(lambda x, i: x[i]),
        (X, ints(0, 3)),
        (("b", 4, 5), ("b",)),
        "GatherV2",
    ),
    "batched_inner": (
        jax.vmap(lambda x, i: x[:, i], in_axes=(1, 0)),
        (X, ints(0, 3, 1, 7)),
        (("b", 4, 5), None),
        "GatherV2",
    ),
    "unsigned": (
        lambda x, i: x[:, i],
        (X, np.array([0, 200], np.uint8)),
        (FREE, (None,)),
        "GatherV2",
    ),
    "no_indices": (lambda x, i: x[:, i], (X, ints()), (FREE, None), "Fill"),
}


@pytest.mark.parametrize("name", LOWERED)
def test_gather_is_lowered(name):
    fn, args, specs, op = LOWERED[name]
    lowered = check_lowering(fn, *args, specs=specs, run_jit=True)
    assert op in lowered.ops()


def test_constant_positions_become_a_strided_slice():
    lowered = check_lowering(lambda x: x[:, np.array([0, 2])], X, specs=(FREE,), run_jit=True)
    assert set(lowered.ops()) == {"Const", "StridedSlice"}


@pytest.mark.parametrize("mode", ["clip", "fill", "promise_in_bounds"])
def test_general_gather_is_lowered(mode):
    numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=(0, 2), collapsed_slice_dims=(1,), start_index_map=(2, 1)
    )
    indices = ints(0, 0, 2, 3, 9, 1, -3, 2).reshape(4, 2)
    if mode == "promise_in_bounds":
        indices = indices[:2]

    def fn(x, i):
        return jax.lax.gather(x, i, numbers, (2, 1, 3), mode=mode)

    check_lowering(fn, X, indices, run_jit=True)


def test_gradient_of_gather_is_lowered():
    check_lowering(
        jax.grad(lambda x, i: (x[:, i] ** 2).sum()), X, ROWS, specs=(FREE, None), run_jit=True
    )


# op, inputs, attributes
EVALUATED = [
    ("GatherV2", (X, ints(3, 0, 1), ints(1)[0]), {}),
    ("GatherV2", (X, ints(3, 0, 1).astype(np.int64), ints(-2)[0]), {}),
    ("GatherV2", (X, ints(1)[0], ints(2)[0]), {}),
    ("GatherV2", (X, ints(0, 3, 1, 2).reshape(2, 2), ints(1)[0]), {"batch_dims": 1}),
    ("GatherV2", (X, ints(0, 3, 1, 2).reshape(2, 2), ints(2)[0]), {"batch_dims": 1}),
    ("GatherV2", (X, np.zeros((2, 4, 3), np.int32), ints(2)[0]), {"batch_dims": 2}),
    ("GatherV2", (X, np.ones((2, 4), np.int32), ints(2)[0]), {"batch_dims": -1}),
    ("GatherV2", (X, np.zeros((0, 3), np.int32), ints(0)[0]), {}),
    ("Gather", (X, ints(1, 0, 1)), {}),
    ("GatherNd", (X, ints(1, 0, 0, 3).reshape(2, 2)), {}),
    ("GatherNd", (X, np.zeros((3, 0), np.int32)), {}),
    ("GatherNd", (X, ints(1, 2, 3)), {}),
    ("ReverseSequence", (X, ints(2, 4)), {"seq_dim": 1, "batch_dim": 0}),
    ("ReverseSequence", (X, ints(2, 0, 1, 2)), {"seq_dim": 0, "batch_dim": 1}),
]


@pytest.mark.parametrize("row", range(len(EVALUATED)))
def test_gather_is_evaluated(row):
    op, inputs, attrs = EVALUATED[row]
    # TensorFlow's own gradient fails for no index vectors, and for a single one.
    grad = op != "Gather" and not (op == "GatherNd" and inputs[1].shape != (2, 2))
    check_evaluation(op, *inputs, grad=grad, **attrs)
    if op != "ReverseSequence":
        check_evaluation(op, (inputs[0] * 9).astype(np.int64), *inputs[1:], **attrs)
