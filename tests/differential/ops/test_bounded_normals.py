"""Normal samples between bounds, gradients of gamma samples, and indices in a random order."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from savax.errors import InvalidArgumentError, ShapeMismatchError

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function, load_function  # noqa: E402

pytestmark = pytest.mark.tf

# Mean, deviation and bounds, for each way to draw: normal, uniform and exponential numbers.
BOUNDS = [
    (0.0, 1.0, -2.0, 2.0),
    (0.0, 1.0, 0.5, 0.7),
    (0.0, 1.0, 3.0, 4.0),
    (0.0, 1.0, 6.0, np.inf),
    (1.0, 2.0, -np.inf, -5.0),
    (1.0, 2.0, -np.inf, 2.0),
    (5.0, 0.5, -1.0, 4.0),
]
PARAMETERS = [np.array(column) for column in zip(*BOUNDS, strict=True)]
SHAPE, SEED = np.array([5, len(BOUNDS)], np.int32), np.array([3, -4], np.int64)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_samples_between_bounds_agree(dtype: str) -> None:
    parameters = [values.astype(dtype) for values in PARAMETERS]
    op = "StatelessParameterizedTruncatedNormal"
    check_evaluation(op, SHAPE, SEED, *parameters, rtol=2e-6, atol=1e-6)


def test_slopes_of_samples_agree() -> None:
    def draw(*parameters: tf.Tensor) -> Any:
        names = dict(zip(("means", "stddevs", "minvals", "maxvals"), parameters, strict=True))
        return tf.raw_ops.StatelessParameterizedTruncatedNormal(shape=SHAPE, seed=SEED, **names)

    loaded = check_function(tf.function(draw), *PARAMETERS)
    with tf.GradientTape() as tape:
        values = [tf.constant(value) for value in PARAMETERS]
        tape.watch(values)
        loss = tf.reduce_sum(tf.sin(draw(*values)))
    slopes = tape.gradient(loss, values)
    with jax.enable_x64(True):
        found = jax.grad(
            lambda *p: jax.numpy.sin(loaded.body.run(p)[0]).sum(), argnums=(0, 1, 2, 3)
        )(*PARAMETERS)
    for parameter, slope, wanted in zip(PARAMETERS, found, slopes, strict=True):
        finite = np.isfinite(parameter)  # TensorFlow's slopes by infinite bounds aren't numbers
        np.testing.assert_allclose(slope[finite], wanted[finite], rtol=1e-4, atol=1e-6)
        assert np.isfinite(slope).all()


def test_each_sample_has_its_parameters() -> None:
    def draw(means: tf.Tensor, low: tf.Tensor) -> Any:
        return [
            tf.random.stateless_parameterized_truncated_normal(
                [count, 2, 3], [3, 4], means, [1.0, 2.0, 0.1], low, 9.0
            )
            for count in (5, 0)
        ]

    low = np.array([[-1.0], [0.0]], np.float32)
    check_function(tf.function(draw), np.array([0.0, 1, 2], np.float32), low)


def test_wrong_parameters_give_no_samples() -> None:
    def draw(stddev: tf.Tensor, low: tf.Tensor) -> Any:
        return tf.random.stateless_parameterized_truncated_normal(
            [4], [1, 2], 0.0, stddev, low, 1.0
        )

    spec = tf.TensorSpec([], tf.float32)
    body = load_function(tf.function(draw).get_concrete_function(spec, spec)).body
    for stddev, low in ((-1.0, 0.0), (1.0, 2.0), (np.nan, 0.0)):
        assert np.isnan(body.run([np.float32(stddev), np.float32(low)])[0]).all()

    def short(low: tf.Tensor) -> Any:
        return tf.random.stateless_parameterized_truncated_normal([4], [1, 2], 0.0, 1.0, low, 1.0)

    vector = tf.function(short).get_concrete_function(tf.TensorSpec(None, tf.float32))
    with pytest.raises(ShapeMismatchError, match=r"don't end with \(3,\)"):
        load_function(vector).body.run([np.zeros(3, np.float32)])


@pytest.mark.parametrize("rows", [1, 3])
def test_states_of_nodes_give_samples_between_bounds(rows: int) -> None:
    @tf.function
    def draw(means: tf.Tensor) -> Any:
        return tf.raw_ops.ParameterizedTruncatedNormal(
            shape=[3, 4], means=means, stdevs=1.0, minvals=-1.5, maxvals=4.0, seed=5, seed2=7
        )

    means = np.arange(rows, dtype=np.float32)
    traced = draw.get_concrete_function(tf.constant(means))
    body = load_function(traced).body
    for _ in range(2):
        wanted = traced(tf.constant(means))
        np.testing.assert_allclose(body.run([means])[0], wanted, rtol=1e-5, atol=1e-6)


def test_slopes_of_gamma_samples_agree() -> None:
    alpha = np.array([[0.1, 0.5, 1], [2, 10, 100]], np.float32)
    sample = np.array([[0.05, 0.3, 1], [2.5, 8, 120]], np.float32)
    check_evaluation("RandomGammaGrad", alpha, sample, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", ["int32", "uint64"])
def test_indices_are_shuffled_alike(dtype: str) -> None:
    seed = np.array([1, 2**31 - 1, 77], np.int32)
    seeds = np.stack([seed, -seed, seed[::-1], seed // 2, seed])
    limits = np.array([0, 1, 5, 70_000, 2**31 - 1], dtype)
    index = np.array([0, 1, 4, 69_999, 7], dtype)
    check_evaluation("RandomIndexShuffle", index, seeds, limits)
    check_evaluation("RandomIndexShuffle", index[:3], seed.astype(np.uint64), limits[3])
    check_evaluation("RandomIndexShuffle", index[3], -seed.astype(np.int64), limits[4], rounds=8)


def test_wrong_indices_are_refused() -> None:
    def shuffled(index: tf.Tensor) -> Any:
        return tf.raw_ops.RandomIndexShuffle(index=index, seed=[1, 2, 3], max_index=5)

    traced = tf.function(shuffled).get_concrete_function(tf.TensorSpec([], tf.int32))
    with pytest.raises(InvalidArgumentError, match="index 6"):
        load_function(traced).body.run([np.array(6, np.int32)])
