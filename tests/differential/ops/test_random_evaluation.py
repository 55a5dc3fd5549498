"""TensorFlow's stateless random ops give the same bits."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function  # noqa: E402

pytestmark = pytest.mark.tf

# The second key and counter overflow the words that the first positions are added to.
STATES = [
    (np.array([123456789012345], np.uint64), np.array([7, 2**63 + 5], np.uint64)),
    (np.array([2**64 - 1], np.uint64), np.array([2**64 - 2, 2**64 - 1], np.uint64)),
]
SHAPE = np.array([3, 7], np.int32)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("seed", [(0, 0), (1, 2), (-3, 2**31 - 1)])
def test_keys_from_seeds_agree(seed: tuple[int, int], dtype: type) -> None:
    check_evaluation("StatelessRandomGetKeyCounter", np.array(seed, dtype))
    check_evaluation("StatelessRandomGetKeyCounterAlg", np.array(seed, dtype))


def test_the_algorithm_is_philox() -> None:
    check_evaluation("StatelessRandomGetAlg")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.float16, tf.bfloat16])
def test_floats_agree(state: tuple[np.ndarray, np.ndarray], dtype: tf.DType) -> None:
    alg = np.int32(1)
    flags = {"dtype": dtype, "rtol": 1e-5, "atol": 1e-5}
    if dtype.size == 2:
        flags |= {"rtol": 1e-2, "atol": 1e-2}
    check_evaluation("StatelessRandomUniformV2", SHAPE, *state, alg, dtype=dtype, rtol=0, atol=0)
    check_evaluation("StatelessRandomNormalV2", SHAPE, *state, alg, **flags)
    seed = np.array([5, -6], np.int32)
    check_evaluation("StatelessRandomUniform", SHAPE, seed, dtype=dtype, rtol=0, atol=0)
    check_evaluation("StatelessRandomNormal", SHAPE, seed, **flags)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
def test_integers_agree(dtype: str) -> None:
    kind, alg = tf.as_dtype(dtype), np.int32(3)
    check_evaluation("StatelessRandomUniformFullIntV2", SHAPE, *STATES[0], alg, dtype=kind)
    seed = np.array([5, -6], np.int64)
    check_evaluation("StatelessRandomUniformFullInt", SHAPE, seed, dtype=kind)
    if dtype.startswith("int"):  # TensorFlow's CPU kernels
        bounds = np.array(-5, dtype), np.array(1000, dtype)
        check_evaluation("StatelessRandomUniformIntV2", SHAPE, *STATES[0], alg, *bounds)
        check_evaluation("StatelessRandomUniformInt", SHAPE, seed, *bounds)


def test_empty_shapes_and_scalars_agree() -> None:
    for shape in ((), (0,), (1,)):
        dims = np.array(shape, np.int64)
        check_evaluation(
            "StatelessRandomUniformV2", dims, *STATES[0], np.int32(1), dtype=tf.float32
        )


def test_dropout_of_a_seed_agrees() -> None:
    def dropout(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.nn.experimental.stateless_dropout(x, rate=0.4, seed=seed)

    check_function(tf.function(dropout), np.ones((4, 5), np.float32), np.array([1, 2], np.int32))
