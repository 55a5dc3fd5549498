"""Batches of images in pieces: where examples meet, and that the results are those of the whole."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from savax.function.evaluation import _batch_pieces
from savax.function.evaluation._batch_pieces import compute_batch

BATCH = 6
RNG = np.random.default_rng(0)
IMAGES = np.asarray(RNG.normal(size=(BATCH, 5, 7, 4)), np.float32)
KERNEL = np.asarray(RNG.normal(size=(3, 3, 4, 4)), np.float32)
ROWS = np.asarray(RNG.normal(size=(5, 5)), np.float32)
WEIGHTS = np.asarray(RNG.normal(size=(4, 4)), np.float32)


def make_small(patch):
    """Makes pieces of two images."""
    patch.setattr(_batch_pieces, "_MAX_BYTES", 0)
    patch.setattr(_batch_pieces, "_PIECE_BYTES", 1)
    patch.setattr(_batch_pieces, "_num_processors", lambda: 2)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    make_small(monkeypatch)


def convolved(x, kernel=KERNEL):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def in_pieces(fn, *arguments):
    """Returns a function's results as they are computed, and how many loops there are."""

    def compute(given, fixed):
        return fn(*given, *fixed)

    def run(*given):
        return compute_batch(compute, given, ())

    text = jax.jit(run).trace(*arguments).lower(lowering_platforms=("cpu",)).as_text()
    return jax.jit(run)(*arguments), text.count("stablehlo.while")


def check(fn, *arguments, loops=None):
    found, count = in_pieces(fn, *arguments)
    expected = jax.jit(fn)(*arguments)
    for got, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, 1e-5, 1e-5)
    if loops is not None:
        assert count == loops


STEPS = {
    "elementwise": lambda y: jnp.tanh(y) * 2 + y,
    "row": lambda y: y * np.arange(4, dtype=np.float32) + y[:, :1],
    "whole_constant": lambda y: y + noise(y),
    "spread": lambda y: jnp.maximum(y, jnp.broadcast_to(WEIGHTS[0, 0], y.shape)),
    "mask": lambda y: jnp.where(y > 0, y, -0.1 * y),
    "clip": lambda y: jnp.clip(y, -1, 1),
    "pad": lambda y: jnp.pad(y, ((0, 0), (1, 2), (0, 0), (0, 0)))[:, : y.shape[1]],
    "steps": lambda y: jnp.repeat(y[:, ::2], 2, axis=1)[:, : y.shape[1]],
    "reverse": lambda y: y[:, ::-1],
    "running": lambda y: jnp.cumsum(y, axis=2),
    "largest": lambda y: y - y.max(axis=(1, 2), keepdims=True),
    "place": lambda y: y + y.argmax(axis=3, keepdims=True),
    "pool": lambda y: lax.reduce_window(y, -np.inf, lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME"),
    "product": lambda y: y @ WEIGHTS,
    "attention": lambda y: jnp.einsum("nabc,nadc->nabd", y, y)[..., :1] + y,
    "flat": lambda y: (y.reshape(-1, 4) @ WEIGHTS).reshape(y.shape),
    "wide": lambda y: y.reshape(BATCH, -1).reshape(y.shape),
    "channels_first": lambda y: y.transpose(0, 3, 1, 2).transpose(0, 2, 3, 1),
    "images_last": lambda y: y.transpose(1, 2, 3, 0).transpose(3, 0, 1, 2),
    "scaled_product": lambda y: (y @ WEIGHTS) * y.mean((1, 2), keepdims=True) + y[:, :1, :1],
    "row_of_product": lambda y: jnp.tanh((y @ WEIGHTS) * WEIGHTS[0].reshape(1, 1, 1, 4) + 1),
    "rows": lambda y: jnp.tensordot(y, ROWS, (1, 0)).transpose(0, 3, 1, 2),
    "own_weights": lambda y: jnp.einsum("nabc,ncd->nabd", y, noise(jnp.empty((BATCH, 4, 4)))),
    "joined": lambda y: jnp.concatenate([y, y * 2], axis=3)[..., 2:6],
    "parts": lambda y: sum(jnp.split(y, 2, axis=3))[..., [0, 1, 0, 1]],
    "convolution": convolved,
    "strided": lambda y: jax.image.resize(y[:, ::2], y.shape, "nearest"),
    "bytes": lambda y: (y * 9).astype(jnp.int8).astype(jnp.float32),
    "relu": jax.nn.relu,
    "gelu": jax.jit(jax.nn.gelu),
    # Examples meet in these.
    "mean": lambda y: y - y.mean(axis=0),
    "norm": lambda y: y / jnp.sqrt((y * y).mean(axis=(0, 1, 2))),
    "running_batch": lambda y: jnp.cumsum(y, axis=0),
    "reversed_batch": lambda y: y[::-1] + y,
    "neighbours": lambda y: y + jnp.roll(y, 1, axis=0),
    "gram": lambda y: jnp.einsum("nabc,mabc->nm", y, y).sum() + y,
    "mixed": lambda y: y.reshape(5, BATCH, 7, 4).transpose(1, 0, 2, 3) + y,
    "images_first_but_not_whole": lambda y: y.reshape(BATCH // 2, 2, *y.shape[1:]).sum() + y,
    "sorted": lambda y: jnp.sort(y, axis=0),
    "chosen": lambda y: y[jnp.array([1, 0, 2, 2, 5, 4])],
    # The number of examples and their places are those of the whole batch.
    "count": lambda y: y / y.shape[0],
    "places": lambda y: y + jnp.arange(y.shape[0], dtype=y.dtype)[:, None, None, None],
    "spread_places": lambda y: (
        y * jnp.broadcast_to(jnp.arange(BATCH)[:, None, None, None], y.shape)
    ),
}


def noise(y):
    return np.asarray(np.random.default_rng(1).normal(size=y.shape), np.float32)


@pytest.mark.parametrize("name", STEPS)
def test_results_are_those_of_the_whole_batch(name):
    check(lambda x: convolved(STEPS[name](convolved(x))), IMAGES)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=5))
def test_any_order_of_steps(names):
    def run(x):
        y = convolved(x)
        for name in names:
            y = STEPS[name](y)
        return convolved(y), y.mean()

    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        check(run, IMAGES)


FAST = [
    *("elementwise", "row", "whole_constant", "spread", "mask", "clip", "pad", "largest", "place"),
    *("pool", "product", "attention", "flat", "wide", "channels_first", "images_last", "joined"),
    *("scaled_product", "row_of_product", "rows", "own_weights"),
    *("convolution", "bytes", "relu", "gelu", "count", "places", "spread_places", "running"),
]


@pytest.mark.parametrize("name", FAST)
def test_one_loop_has_all_steps(name):
    check(lambda x: convolved(STEPS[name](convolved(x))).sum((1, 2)), IMAGES, loops=1)


def test_unsupported_steps_come_behind_the_loop():
    check(lambda x: jnp.sort(convolved(x), axis=0), IMAGES, loops=1)


@pytest.mark.parametrize("batch", [2, 3, 5, 7, 11])
def test_batches_that_are_no_multiple(batch, monkeypatch):
    monkeypatch.setattr(_batch_pieces, "_num_processors", lambda: 1)
    monkeypatch.setattr(_batch_pieces, "_PIECE_BYTES", 3 * IMAGES[0].nbytes)
    check(lambda x: convolved(jax.nn.relu(convolved(x))), np.resize(IMAGES, (batch, 5, 7, 4)))


@pytest.mark.parametrize("shape", [(0, 5, 7, 4), (1, 5, 7, 4), (4, 0, 7, 4)])
def test_empty_and_single_batches_stay_whole(shape):
    check(lambda x: convolved(x).sum((1, 2)), np.zeros(shape, np.float32), loops=0)


def test_several_arguments_and_results():
    labels = np.arange(BATCH, dtype=np.int32)
    classes = np.arange(BATCH, dtype=np.float32)  # has the batch's size, and isn't one of examples

    def run(x, labels, classes, factor):
        y = convolved(x) * factor
        scores = y.mean((1, 2)) @ jnp.ones((4, BATCH)) + classes
        return {"features": y, "scores": scores, "right": scores.argmax(1) == labels}

    check(run, IMAGES, labels, classes, np.float32(2), loops=1)


def test_results_without_examples():
    check(lambda x, w: (convolved(x, w), w * 2, w.sum()), IMAGES, KERNEL, loops=1)


def test_an_argument_is_a_result():
    check(lambda x: (x, convolved(x), x), IMAGES, loops=1)


def test_few_positions_have_larger_pieces(monkeypatch):
    monkeypatch.setattr(_batch_pieces, "_MANY_POSITIONS", 20)
    monkeypatch.setattr(_batch_pieces, "_num_processors", lambda: 1)
    monkeypatch.setattr(_batch_pieces, "_PIECE_BYTES", IMAGES[0].nbytes)

    def run(x):
        x = jax.nn.relu(convolved(convolved(x)))
        x = lax.slice(x, (0, 0, 0, 0), x.shape, (1, 3, 3, 1))
        return jax.nn.relu(convolved(x)).sum((1, 2)) @ WEIGHTS

    check(run, IMAGES, loops=2)


def test_results_of_weak_types():
    check(lambda x: (convolved(x), lax.full((BATCH,), 1.0) * 2, jnp.where(True, 1.0, 2.0)), IMAGES)


def test_derivatives_are_those_of_the_whole():
    def loss(kernel, whole):
        def run(given, fixed):
            return jnp.tanh(convolved(jax.nn.silu(convolved(given[0], fixed[0])))).sum()

        return run([IMAGES], [kernel]) if whole else compute_batch(run, [IMAGES], [kernel])

    for transform in (
        jax.grad,
        jax.jacfwd,
        lambda f, **k: jax.grad(lambda w, x: f(w, x) ** 2, **k),
    ):
        derive = jax.jit(transform(loss, argnums=0), static_argnums=1)
        np.testing.assert_allclose(derive(KERNEL, False), derive(KERNEL, True), 1e-4, 1e-4)


def test_vmap():
    def run(x):
        return compute_batch(lambda given, _: convolved(jax.nn.relu(given[0])), [x], ())

    many = np.stack([IMAGES, IMAGES * 2, -IMAGES])
    expected = jnp.stack([convolved(jax.nn.relu(x)) for x in many])
    np.testing.assert_allclose(jax.jit(jax.vmap(run))(many), expected, 1e-5, 1e-5)


def test_other_platforms_have_no_loop():
    def run(x):
        return compute_batch(lambda given, _: convolved(given[0]), [x], ())

    traced = jax.jit(run).trace(IMAGES)
    assert "stablehlo.while" in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.while" not in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_unknown_sizes():
    (batch,) = jax.export.symbolic_shape("b")

    def run(x):
        return compute_batch(lambda given, _: convolved(given[0]), [x], ())

    exported = jax.export.export(jax.jit(run))(jax.ShapeDtypeStruct((batch, 5, 7, 4), np.float32))
    np.testing.assert_allclose(exported.call(IMAGES), convolved(IMAGES), 1e-5, 1e-5)


def test_effects_happen_once():
    seen = []

    def run(x):
        jax.debug.callback(seen.append, x.sum())
        return convolved(x)

    _, loops = in_pieces(run, IMAGES)
    assert loops == 0
    assert len(seen) == 1
