"""Candidate samplers draw what TensorFlow draws from the same seeds."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, load_function  # noqa: E402

import savax  # noqa: E402

pytestmark = pytest.mark.tf

TRUE = np.array([[0, 4], [2, 5], [1, 0]], np.int64)
UNIGRAMS = {"unigrams": [5.0, 1.0, 0.5, 3.0, 7.0], "num_reserved_ids": 1, "distortion": 0.7}
SAMPLERS: list[tuple[str, dict[str, Any]]] = [
    ("UniformCandidateSampler", {"range_max": 13}),
    ("UniformCandidateSampler", {"range_max": 16}),
    ("LogUniformCandidateSampler", {"range_max": 3000}),
    ("LogUniformCandidateSampler", {"range_max": 10}),
    ("FixedUnigramCandidateSampler", {"range_max": 6, **UNIGRAMS}),
]
IDS = [f"{op}-{attrs['range_max']}" for op, attrs in SAMPLERS]


def sampler(op: str, **attrs: Any) -> Any:
    """Returns a concrete function, and what evaluates it."""
    attrs = {"true_classes": TRUE, "num_true": 2, "num_sampled": 5, "seed": 7, "seed2": 9, **attrs}

    @tf.function
    def draw() -> Any:
        return getattr(tf.raw_ops, op)(**attrs)

    concrete = draw.get_concrete_function()
    return concrete, load_function(concrete).body


@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize(("op", "attrs"), SAMPLERS, ids=IDS)
def test_draws_agree(op: str, attrs: dict[str, Any], unique: bool) -> None:
    concrete, _ = sampler(op, unique=unique, **attrs)
    expected = tuple(concrete())
    for _ in range(2):  # a body without states starts again
        found = load_function(concrete).body.run([])
        np.testing.assert_array_equal(found[0], expected[0])
        for a, b in zip(found[1:], expected[1:], strict=True):
            assert a.dtype == np.float32
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_later_draws_agree(tmp_path: Any) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.int64)])
        def draw(self, true_classes: tf.Tensor) -> Any:
            return tf.random.log_uniform_candidate_sampler(true_classes, 1, 300, True, 1000, seed=3)

    tf.saved_model.save(Module(), str(tmp_path))
    theirs, ours = tf.saved_model.load(str(tmp_path)), savax.saved_model.load(tmp_path)
    for _ in range(3):
        for a, b in zip(ours.draw(TRUE[:, :1]), theirs.draw(TRUE[:, :1]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_all_candidates_and_hits_agree() -> None:
    check_evaluation("AllCandidateSampler", TRUE, num_true=2, num_sampled=6, unique=True)
    drawn = np.array([4, 0, 9, 4], np.int64)
    check_evaluation("ComputeAccidentalHits", TRUE, drawn, num_true=2)
    check_evaluation("ComputeAccidentalHits", TRUE, drawn[:0], num_true=2)
    check_evaluation("ComputeAccidentalHits", TRUE[:0], drawn, num_true=2)


def test_a_sampled_loss_agrees(rng: np.random.Generator, tmp_path: Any) -> None:
    weights, biases = rng.normal(size=(50, 4)).astype(np.float32), np.zeros(50, np.float32)

    class Module(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec([3, 1], tf.int64), tf.TensorSpec([3, 4], tf.float32)]
        )
        def loss(self, labels: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
            drawn = tf.random.uniform_candidate_sampler(labels, 1, 8, True, 50, seed=4)
            return tf.nn.nce_loss(weights, biases, labels, inputs, 8, 50, sampled_values=drawn)

    tf.saved_model.save(Module(), str(tmp_path))
    x = rng.normal(size=(3, 4)).astype(np.float32)
    expected = tf.saved_model.load(str(tmp_path)).loss(TRUE[:, :1], x)
    np.testing.assert_allclose(
        savax.saved_model.load(tmp_path).loss(TRUE[:, :1], x), expected, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("op", "attrs", "error", "text"),
    [
        ("Uniform", {"range_max": 7, "unique": True, "num_sampled": 8}, "Invalid", "8 distinct"),
        ("Uniform", {"range_max": 5, "unique": True}, "Invalid", "true classes are 0 to 5"),
        ("LogUniform", {"range_max": 2**40, "num_sampled": 2**30}, "Limit", "1,073,741,824"),
        ("FixedUnigram", {"range_max": 9, **UNIGRAMS}, "Invalid", "6 classes, 5 of them"),
        ("FixedUnigram", {"range_max": 9, "vocab_file": "/etc/x"}, "Unsupported", "no asset"),
    ],
    ids=["too_many", "outside", "huge", "sizes", "file"],
)
def test_impossible_samplers_are_refused(
    op: str, attrs: dict[str, Any], error: str, text: str
) -> None:
    kinds = {
        "Invalid": savax.errors.InvalidArgumentError,
        "Limit": savax.errors.ResourceLimitError,
        "Unsupported": savax.errors.UnsupportedError,
    }
    _, body = sampler(f"{op}CandidateSampler", **{"unique": False, **attrs})
    with pytest.raises(kinds[error], match=text):
        body.run([])


def test_draws_under_transformations_are_refused(tmp_path: Any) -> None:
    _, body = sampler("UniformCandidateSampler", range_max=13, unique=True)
    with pytest.raises(savax.errors.SavaxError):
        jax.jit(lambda: body.run([]))()
