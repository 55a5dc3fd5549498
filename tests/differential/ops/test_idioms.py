"""Chains of equations that become one op, and those that only look alike."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.lowering_check import check_gradients, check_lowering, import_graph

pytestmark = pytest.mark.tf
tf = pytest.importorskip("tensorflow")

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
SPECIAL = np.array(
    [[np.nan, 1, 2], [np.inf, 1, 2], [-np.inf, 1, 2], [-np.inf] * 3, [1e30, 0, -1e30]], np.float32
)
HALVES, COUNTS = X.astype(np.float16), np.array([4, 4, 4], np.float32)
IMAGES = np.random.default_rng(1).standard_normal((2, 6, 6, 3)).astype(np.float32)


def average_pool(x):
    return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def another_sum(x):
    return jnp.exp(x - x.max(-1, keepdims=True)) / jnp.exp(x).sum()


def written_softmax(x):
    shifted = jnp.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


# Function, argument, the ops that must be there, and those that mustn't.
IDIOMS = {
    "softmax": (jax.nn.softmax, X, {"Softmax"}, {"Exp", "Max", "RealDiv"}),
    "softmax of doubles": (jax.nn.softmax, X.astype(np.float64), {"Softmax"}, {"Exp"}),
    "softmax by hand": (written_softmax, X, {"Softmax"}, {"Exp"}),
    "log softmax": (jax.nn.log_softmax, X, {"LogSoftmax"}, {"Exp", "Log", "Sub"}),
    "mean": (lambda x: x.mean(1), X, {"Mean"}, {"Sum", "RealDiv"}),
    "mean of all": (jnp.mean, X, {"Mean"}, {"Sum", "RealDiv"}),
    "mean that keeps axes": (lambda x: x.mean(0, keepdims=True), X, {"Mean"}, {"Reshape"}),
    "variance": (lambda x: x.var(1), X, {"Mean"}, {"Sum", "RealDiv", "SelectV2", "Greater"}),
    "average pool": (average_pool, IMAGES, {"AvgPool"}, {"Mul", "RealDiv"}),
    "softmax of another axis": (lambda x: jax.nn.softmax(x, 0), X, {"Exp"}, {"Softmax"}),
    "masked softmax": (lambda x: jax.nn.softmax(x, where=x > 0), X, {"Exp"}, {"Softmax"}),
    "another sum": (another_sum, X, {"Exp"}, {"Softmax"}),
    "another count": (lambda x: x.sum(1) / 3, X, {"Sum", "RealDiv"}, {"Mean"}),
    "counts of its own": (lambda x: x.sum(1) / COUNTS, X, {"Sum"}, {"Mean"}),
    "corrected variance": (lambda x: x.var(1, ddof=1), X, {"Sum"}, set()),
    "sum of halves": (lambda x: x.sum(1, dtype=jnp.float16) / 4, HALVES, set(), {"Softmax"}),
    "factor of windows": (lambda x: 2 * average_pool(x) / 3, IMAGES, {"RealDiv"}, set()),
}  # fmt: skip


@pytest.mark.parametrize("name", IDIOMS)
@pytest.mark.parametrize("unknown", [False, True], ids=["static", "unknown"])
def test_idioms(name, unknown):
    fn, x, wanted, unwanted = IDIOMS[name]
    specs = [(None, *x.shape[1:])] if unknown and name != "counts of its own" else None
    tolerance = 1e-2 if x.dtype == np.float16 else 1e-5
    with jax.enable_x64(True):
        lowered = check_lowering(fn, x, specs=specs, rtol=tolerance)
    assert wanted <= lowered.all_ops()
    if not unknown:  # counts of unknown sizes aren't folded
        assert not unwanted & lowered.all_ops()


@pytest.mark.parametrize("fn", [jax.nn.log_softmax, jnp.mean, jnp.var])
def test_special_values_pass_as_in_jax(fn):
    with np.errstate(all="ignore"):
        check_lowering(fn, SPECIAL)


@pytest.mark.parametrize("fn", [jax.nn.softmax, jnp.mean])
def test_empty_arrays_pass_as_in_jax(fn):
    with np.errstate(all="ignore"):
        check_lowering(fn, X[:0])
        check_lowering(lambda x: fn(x, axis=-1), X[:0])


def test_a_softmax_keeps_what_is_no_number():
    """TensorFlow's kernel doesn't spread it over the row, as JAX does; the row still shows it."""
    graph = import_graph(check_lowering(jax.nn.softmax, X))
    rows = np.array([[np.nan, 1, 2, 3], [1, np.inf, 2, 3], [-np.inf] * 4], np.float32)
    with tf.compat.v1.Session(graph=graph) as session:
        found = session.run(graph.outputs[0].name, {graph.inputs[0].name: rows})
    np.testing.assert_array_equal(np.isnan(found).any(1), np.isnan(jax.nn.softmax(rows)).all(1))


@pytest.mark.parametrize("name", ["softmax", "log softmax", "mean", "variance", "average pool"])
def test_gradients_of_idioms(name):
    fn, x, *_ = IDIOMS[name]
    check_gradients(lambda x: jnp.sin(fn(x)), x)


def test_parts_of_an_idiom_that_are_read_stay():
    def fn(x):
        total = x.sum(1)
        return total, total / 4, jax.nn.softmax(x), x.max(-1, keepdims=True)

    lowered = check_lowering(fn, X)
    assert {"Sum", "Mean", "Softmax", "Max"} <= lowered.all_ops()


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x * 1 - 0.0,
        lambda x: jnp.maximum(-jnp.inf, x) / 1,
        lambda x: jnp.minimum(x, jnp.full(x.shape, jnp.inf)),
    ],
)
def test_what_changes_nothing_is_left_out(fn):
    x = np.array([-0.0, np.nan, np.inf, 1e-40, 3], np.float32)
    assert check_lowering(fn, x).ops() == []


def test_adding_zero_makes_a_positive_zero():
    lowered = check_lowering(
        lambda x: lax.bitcast_convert_type(x + 0.0, jnp.int32), np.array([-0.0, 1], np.float32)
    )
    assert "AddV2" in lowered.ops()


def test_equal_nodes_are_one():
    def fn(x):
        return jnp.sin(x) + jnp.sin(x) * jnp.cos(x), x.sum(0), x.sum(0) * 2, jnp.cos(x)

    ops = check_lowering(fn, X).ops()
    assert [ops.count(op) for op in ("Sin", "Cos", "Sum")] == [1, 1, 1]


def test_nodes_that_differ_in_an_attribute_are_two():
    def fn(x):
        rolled = jnp.cumsum(x, 0), lax.cumsum(x, 0, reverse=True)
        return *rolled, x.sum(1), x.sum(1, keepdims=True), x.astype(bool), x.astype(jnp.int32)

    ops = check_lowering(fn, X).ops()
    assert [ops.count(op) for op in ("Cumsum", "Sum")] == [2, 2]


def test_random_draws_are_not_shared_by_chance():
    def fn(seed):
        first, second = jax.random.split(jax.random.wrap_key_data(seed))
        return jax.random.normal(first, (3,)), jax.random.normal(second, (3,))

    check_lowering(fn, np.array([1, 2], np.uint32))


def test_stacks_of_equal_type_are_not_mixed_up():
    def fn(x):
        return lax.scan(lambda c, row: (c + row, (c * 2, c * 3)), x[0], x)

    check_lowering(fn, X, specs=[(None, 4)])


def test_a_transpose_is_part_of_an_einsum():
    def fn(a, b):
        return jnp.einsum("bhqk,bkhd->bqhd", a, b)

    a, b = np.ones((2, 3, 4, 5), np.float32), np.ones((2, 5, 3, 6), np.float32)
    lowered = check_lowering(fn, a, b, specs=[("b", 3, None, 5), ("b", 5, 3, 6)])
    assert "Transpose" not in lowered.ops()


def _channels_first(x, kernel):
    return lax.conv(x, kernel, (1, 1), "SAME")


def network_with_channels_first(x, first, second, scale, offset):
    """Two convolutions with a normalisation, an activation and a shortcut, as of PyTorch."""
    y = _channels_first(x, first)
    y = (y - 0.5) * scale[:, None, None] + offset[None, :, None, None]
    y = y + jax.nn.softplus(_channels_first(jax.nn.relu(y), second))
    return jnp.where(y > 0, y, 0.1 * y).mean((2, 3))


def test_transposes_of_layouts_meet_and_vanish():
    rng = np.random.default_rng(2)
    shapes = [(2, 3, 5, 6), (4, 3, 3, 3), (4, 4, 3, 3), (4,), (4,)]
    args = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    specs = [(None, 3, None, 6), *[None] * 4]
    lowered = check_lowering(network_with_channels_first, *args, specs=specs)
    # Of the images, and of each kernel.
    assert lowered.ops().count("Transpose") == 3
    check_gradients(network_with_channels_first, *args)


@pytest.mark.parametrize(
    "fn",
    [
        lambda y, x: y + x,
        lambda y, x: y * x[:1, :1],
        lambda y, x: y + x[0, 0],
        lambda y, x: y + x[:, :1, :1, :1],
        lambda y, x: y.sum((1, 2)),
        lambda y, x: y.max((2, 3), keepdims=True),
        lambda y, x: y.reshape(y.shape[0], -1),
        lambda y, x: jnp.stack([y, y * 2]),
        lambda y, x: jnp.sin(y).transpose(3, 1, 0, 2) + jnp.cos(y).transpose(3, 1, 0, 2),
        lambda y, x: jax.nn.softmax(y),
    ],
)
def test_other_operands_and_axes_are_taken_as_they_are(fn):
    x = np.random.default_rng(3).standard_normal((2, 3, 5, 5)).astype(np.float32)
    kernel = np.random.default_rng(4).standard_normal((3, 3, 1, 1)).astype(np.float32)
    check_lowering(
        lambda x, k: fn(_channels_first(x, k), x), x, kernel, specs=[("b", 3, 5, 5), None]
    )


def test_dense_systems_are_one_op():
    a = X[:, :3] + 3 * np.eye(3, dtype=np.float32)
    for fn, op in (
        (jnp.linalg.inv, "MatrixInverse"),
        (lambda a: jnp.linalg.solve(a, a[0]), "MatrixSolve"),
    ):
        lowered = check_lowering(fn, a, rtol=1e-4)
        assert op in lowered.ops()
        assert not {"Lu", "MatrixTriangularSolve", "Transpose"} & lowered.all_ops()


@pytest.mark.parametrize("fn", [jax.nn.softplus, jax.nn.log_sigmoid])
def test_softplus_is_an_op(fn):
    x = np.array([-np.inf, -90, -20, -1e-3, -0.0, 1e-8, 20, 90, np.inf, np.nan], np.float32)
    lowered = check_lowering(fn, x)
    assert "Softplus" in lowered.ops()
    assert "IdentityN" not in lowered.ops()
    check_gradients(fn, x[1:-2])
