"""Keras models that TensorFlow exported: savax runs, differentiates and saves them again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from savax.function import value_and_grad
from savax.saved_model import load, save

if TYPE_CHECKING:
    from collections.abc import Callable

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
pytestmark = pytest.mark.tf

layers = keras.layers


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tokens(batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 20, (batch, length)).astype(np.int32)


def dense() -> Any:
    return keras.Sequential([
        keras.Input((8,)),
        layers.Dense(16, activation="gelu"),
        layers.Dropout(0.5),
        layers.Dense(4, activation="softmax"),
    ])  # fmt: skip


def convolutional() -> Any:
    x = inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.SeparableConv2D(8, 3, dilation_rate=1)(x)
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same", activation="swish")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x)
    x = layers.AveragePooling2D(2, padding="same")(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def attention() -> Any:
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(20, 8)(ids)
    x = x + layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization()(x)
    x = x + layers.Dense(8, activation="relu")(x)
    x = layers.GroupNormalization(2)(x)
    return keras.Model(ids, layers.Dense(5)(x))


def normalization() -> Any:
    x = inputs = keras.Input((6, 8))
    x = layers.LayerNormalization(axis=(1, 2))(x)
    x = layers.UnitNormalization()(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Permute((2, 1))(x)
    x = layers.RMSNormalization()(x) if hasattr(layers, "RMSNormalization") else x
    return keras.Model(inputs, layers.Flatten()(x))


def embedding() -> Any:
    ids = keras.Input((5,), dtype="int64")
    x = layers.Embedding(20, 6, mask_zero=True)(ids)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(ids, layers.Dense(2)(layers.Reshape((3, 2))(x)))


def lstm() -> Any:
    x = inputs = keras.Input((7, 4))
    x = layers.LSTM(6, return_sequences=True)(x)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    return keras.Model(inputs, layers.TimeDistributed(layers.Dense(2))(x))


def gru_of_any_length() -> Any:
    x = inputs = keras.Input((None, 4))
    x = layers.GRU(5)(layers.Masking()(x))
    return keras.Model(inputs, layers.Dense(2)(x))


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], Any]
    inputs: Callable[[int], np.ndarray]


CASES = (
    Case("dense", dense, lambda b: normal(b, 8)),
    Case("convolutional", convolutional, lambda b: normal(b, 16, 16, 3)),
    Case("attention", attention, lambda b: tokens(b, 3 + b)),
    Case("normalization", normalization, lambda b: normal(b, 6, 8)),
    Case("embedding", embedding, lambda b: tokens(b, 5).astype(np.int64)),
    Case("lstm", lstm, lambda b: normal(b, 7, 4)),
    Case("gru_of_any_length", gru_of_any_length, lambda b: normal(b, 4 + b, 4)),
)


@pytest.fixture(scope="module", params=["export", "saved_model"])
def how(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def exported(request, how, tmp_path_factory):
    """A Keras model, where it was exported to, and its case."""
    keras.utils.set_random_seed(1)
    case: Case = request.param
    model = case.make()
    for weight in model.weights:  # so that biases and statistics count
        weight.assign(weight + 0.1 * normal(*weight.shape, seed=weight.shape.rank or 0))
    directory = str(tmp_path_factory.mktemp(f"{case.name}_{how}") / "model")
    if how == "export":
        model.export(directory, verbose=False)
    else:
        tf.saved_model.save(model, directory)
    return case, model, directory


def run(signature: Any, x: Any) -> np.ndarray:
    """The only result of a signature with one input."""
    (result,) = signature(x).values()
    return np.asarray(result)


@pytest.mark.parametrize("batch", [1, 3])
def test_equal_results(exported, batch) -> None:
    case, model, directory = exported
    x = case.inputs(batch)
    want = model(x, training=False).numpy()
    loaded = load(directory)
    got = run(loaded.signatures["serving_default"], x)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, atol=2e-5, rtol=2e-5)


def test_the_functions_of_an_export_can_be_called(exported, how) -> None:
    case, model, directory = exported
    if how != "export":  # a Keras model saved as a plain object has no functions but its signature
        return
    x = case.inputs(2)
    got = load(directory).serve(x)
    np.testing.assert_allclose(got, model(x, training=False), atol=2e-5, rtol=2e-5)


def test_gradients(exported) -> None:
    case, model, directory = exported
    x = case.inputs(2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x, training=False) ** 2)
    want = {v.path: g for v, g in zip(model.trainable_weights, tape.gradient(
        loss, [v.value for v in model.trainable_weights]), strict=True)}  # fmt: skip
    signature = load(directory).signatures["serving_default"]
    variables = [v for v in signature.variables if v.trainable]

    def of_loaded():
        (result,) = signature(x).values()
        return jnp.sum(result**2)

    _, got = value_and_grad(of_loaded, variables=variables)()
    assert len(got) == len(want)
    left = [np.asarray(tf.convert_to_tensor(g)) for g in want.values()]
    for variable, gradient in zip(variables, got, strict=True):
        scale = 1e-3 * max(1.0, float(np.abs(gradient).max()))
        match = next(
            (i for i, g in enumerate(left)
             if g.shape == gradient.shape and np.allclose(g, gradient, atol=scale)), None
        )  # fmt: skip
        assert match is not None, variable.name
        left.pop(match)


def test_jax_transformations(exported) -> None:
    case, model, directory = exported
    x = case.inputs(2)
    want = model(x, training=False).numpy()
    signature = load(directory).signatures["serving_default"]

    def call(x):
        (result,) = signature(x).values()
        return result

    np.testing.assert_allclose(jax.jit(call)(x), want, atol=2e-5, rtol=2e-5)
    if x.dtype == np.float32:
        mapped = jax.vmap(lambda row: call(row[None])[0])(x)
        np.testing.assert_allclose(mapped, want, atol=2e-5, rtol=2e-5)
        assert jax.grad(lambda x: call(x).sum())(x).shape == x.shape


def test_saved_again(exported, tmp_path) -> None:
    case, model, directory = exported
    loaded = load(directory)
    variable = next(v for v in loaded.signatures["serving_default"].variables if v.trainable)
    variable.assign(variable.value * 1.5)
    save(loaded, tmp_path / "again")
    x = case.inputs(3)
    want = run(loaded.signatures["serving_default"], x)
    again = tf.saved_model.load(str(tmp_path / "again"))
    got = run(again.signatures["serving_default"], tf.constant(x))
    np.testing.assert_allclose(got, want, atol=2e-5, rtol=2e-5)
    assert not np.allclose(want, model(x, training=False), atol=1e-6)
