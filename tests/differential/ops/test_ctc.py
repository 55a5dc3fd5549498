"""Connectionist temporal classification agrees with TensorFlow."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function, load_function  # noqa: E402

import savax  # noqa: E402

pytestmark = pytest.mark.tf


def labels_of(*rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    places = [[row, i] for row, labels in enumerate(rows) for i in range(len(labels))]
    return np.array(places, np.int64).reshape(-1, 2), np.array(
        [x for labels in rows for x in labels], np.int32
    )


# Repeated labels, rows of full and of no length, a label for each step, blanks at the end.
ROWS = labels_of([0, 1, 1], [2, 2, 2, 2], [3], [1, 0, 4, 4, 4])
LENGTHS = np.array([7, 5, 0, 6], np.int32)


@pytest.fixture
def logits(rng: np.random.Generator) -> np.ndarray:
    return (2 * rng.normal(size=(7, 4, 5))).astype(np.float32)


def ctc_loss(*args: Any, **attrs: Any) -> Any:
    names = ("inputs", "labels_indices", "labels_values", "sequence_length")
    return tf.raw_ops.CTCLoss(**dict(zip(names, args, strict=True)), **attrs)


def loaded(fn: Any, *args: Any) -> Any:
    """Returns what evaluates a function of such arguments."""
    return load_function(tf.function(fn).get_concrete_function(*map(tf.constant, args))).body


def test_losses_and_gradients_agree(logits: np.ndarray) -> None:
    attrs: dict[str, Any] = {"ignore_longer_outputs_than_inputs": True}
    (loss, _) = check_evaluation("CTCLoss", logits, *ROWS, LENGTHS, rtol=1e-4, **attrs)
    assert loss[2] == 0
    assert np.isinf(loss[1])


@pytest.mark.parametrize("merge", [True, False])
def test_losses_of_collapsed_labels_agree(merge: bool, logits: np.ndarray) -> None:
    attrs = {"preprocess_collapse_repeated": merge, "ctc_merge_repeated": merge}
    attrs["ignore_longer_outputs_than_inputs"] = True
    function = tf.function(lambda *args: ctc_loss(*args, **attrs))
    check_function(function, logits, *ROWS, LENGTHS, rtol=1e-4)


def test_losses_of_doubles_and_one_step_agree(logits: np.ndarray) -> None:
    args = logits[:1].astype(np.float64), *labels_of([1], [0], [3], [2]), np.ones(4, np.int32)
    check_function(tf.function(ctc_loss), *args, rtol=1e-6)


def test_derivatives_of_losses_agree(logits: np.ndarray) -> None:
    labels = *labels_of([1, 1], [0, 2, 1], [3], [2]), np.array([7, 6, 1, 2], np.int32)
    body = loaded(ctc_loss, logits, *labels)
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        expected = tf.reduce_sum(tf.sin(ctc_loss(variable, *labels).loss))
    slope = jax.grad(lambda x: jnp.sin(body.run([x, *labels])[0]).sum())(logits)
    np.testing.assert_allclose(slope, tape.gradient(expected, variable), rtol=1e-4, atol=1e-6)


def test_impossible_rows_have_no_finite_loss(logits: np.ndarray) -> None:
    labels = labels_of([1, 0, 1], [0], [7, 0], [-1])
    lengths = np.array([2, 3, 2, 3], np.int32)
    body = loaded(ctc_loss, logits, *labels, lengths)
    loss, gradient = (np.asarray(x) for x in body.run([logits, *labels, lengths]))
    assert np.isinf(loss[0])
    assert np.isfinite(loss[1])
    assert np.isnan(loss[2:]).all()
    assert np.isnan(gradient[:, 2:]).all()
    lengths[1] = 8
    loss, _ = body.run([logits, *labels, lengths])
    assert np.isnan(loss[1])


def test_the_other_blank_gives_the_same(logits: np.ndarray) -> None:
    rows = labels_of([1, 1], [0, 2, 1], [3], [2])
    lengths = np.array([7, 6, 1, 2], np.int32)
    loss, gradient = ctc_loss(logits, *rows, lengths)

    def first_blank(logits: tf.Tensor) -> Any:
        return tf.raw_ops.CTCLossV2(
            inputs=logits,
            labels_indices=rows[0],
            labels_values=rows[1] + 1,
            sequence_length=lengths,
        )

    rolled = np.roll(logits, 1, axis=2)
    found = loaded(first_blank, rolled).run([rolled])
    np.testing.assert_allclose(found[0], loss, rtol=1e-4)
    np.testing.assert_allclose(found[1], np.roll(gradient, 1, axis=2), rtol=1e-4, atol=1e-6)


def test_the_loss_of_the_library_agrees(logits: np.ndarray) -> None:
    def loss(labels: tf.Tensor, logits: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        sparse = tf.sparse.from_dense(labels)
        return tf.nn.ctc_loss(sparse, logits, None, lengths, blank_index=0)

    labels = np.array([[1, 2, 0], [3, 3, 4], [1, 0, 0], [2, 0, 0]], np.int32)
    check_function(tf.function(loss), labels, logits, np.array([7, 5, 3, 1], np.int32), rtol=1e-4)


def test_an_empty_batch_has_no_losses() -> None:
    for shape in ((7, 0, 5), (0, 2, 5)):
        args = [np.zeros(shape, np.float32), *labels_of([]), np.zeros(shape[1], np.int32)]
        found = loaded(ctc_loss, *args).run(args)
        assert [x.shape for x in found] == [(shape[1],), shape]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", [np.int64, np.float32, object], ids=["i64", "f32", "string"])
def test_edit_distances_agree(dtype: Any, normalize: bool) -> None:
    def values(*items: int) -> np.ndarray:
        if dtype is object:
            return np.array([str(item).encode() for item in items], object)
        return np.array(items, dtype)

    guess = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [2, 0, 0]], np.int64)
    truth = np.array([[0, 0, 0], [0, 0, 2], [0, 0, 3], [1, 1, 0], [2, 0, 0]], np.int64)
    first = guess, values(1, 2, 3, 4, 5), np.array([3, 2, 3], np.int64)
    second = truth, values(2, 3, 4, 9, 5), np.array([3, 3, 4], np.int64)
    check_evaluation("EditDistance", *first, *second, normalize=normalize)
    nothing = guess[:0], values(), np.array([3, 2, 3], np.int64)
    check_evaluation("EditDistance", *nothing, *second, normalize=normalize)


def test_distances_of_impossible_sequences_are_refused() -> None:
    @tf.function
    def distance(indices: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        sparse = tf.SparseTensor(indices, tf.constant([1], tf.int64), shape)
        return tf.edit_distance(sparse, sparse)

    shapes = [tf.TensorSpec([1, None], tf.int64), tf.TensorSpec([None], tf.int64)]
    body = load_function(distance.get_concrete_function(*shapes)).body
    with pytest.raises(savax.errors.InvalidArgumentError, match="outside of its shape"):
        body.run([np.array([[0, 7]], np.int64), np.array([2, 3], np.int64)])
    with pytest.raises(savax.errors.InvalidArgumentError, match="at least 2"):
        body.run([np.array([[0]], np.int64), np.array([2], np.int64)])
    with pytest.raises(savax.errors.ResourceLimitError, match="EditDistance"):
        body.run([np.array([[0, 0]], np.int64), np.array([2**40, 3], np.int64)])


@pytest.mark.parametrize(("width", "count"), [(1, 1), (3, 2), (40, 5)])
@pytest.mark.parametrize("merge", [True, False])
def test_beam_searches_agree(merge: bool, width: int, count: int) -> None:
    rng = np.random.default_rng(width)
    lengths = np.array([9, 3, 6], np.int32)
    attrs = {"beam_width": width, "top_paths": count, "merge_repeated": merge}
    for dtype in (np.float32, np.float64):
        logits = (3 * rng.normal(size=(9, 3, 6))).astype(dtype)
        check_evaluation("CTCBeamSearchDecoder", logits, lengths, rtol=1e-4, **attrs)
    if count == 1:
        check_evaluation("CTCBeamSearchDecoder", logits, 0 * lengths, **attrs)


def test_beam_searches_of_many_random_rows_agree() -> None:
    logits = np.random.default_rng(5).normal(size=(12, 60, 4)).astype(np.float32)
    lengths = np.full(60, 12, np.int32)
    attrs = {"beam_width": 6, "top_paths": 3, "merge_repeated": False}
    check_evaluation("CTCBeamSearchDecoder", logits, lengths, rtol=1e-4, **attrs)


def test_more_paths_than_there_are_are_refused(logits: np.ndarray) -> None:
    @tf.function
    def decode(logits: tf.Tensor, lengths: tf.Tensor) -> Any:
        return tf.nn.ctc_beam_search_decoder(logits, lengths, beam_width=9, top_paths=8)

    specs = tf.TensorSpec([None, None, None]), tf.TensorSpec([None], tf.int32)
    body = load_function(decode.get_concrete_function(*specs)).body
    with pytest.raises(savax.errors.InvalidArgumentError, match="found 5 sequences, 8 were"):
        body.run([logits, np.ones(4, np.int32)])
    with pytest.raises(savax.errors.InvalidArgumentError, match="can't have the lengths"):
        body.run([logits, np.full(4, 8, np.int32)])
