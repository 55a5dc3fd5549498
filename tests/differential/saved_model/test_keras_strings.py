"""Keras models that begin with strings: results, gradients of what is behind them, saved again."""

from __future__ import annotations

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

WORDS = np.array([b"a", b"b", b"zz", "\u00fc".encode(), b""], object)
TEXTS = np.array([b"a, B c!", b"", "\u00fc b".encode(), b"d b c d e"], object)


def words() -> Any:
    inputs = keras.Input((3,), dtype="string")
    x = layers.StringLookup(vocabulary=["a", "b", "c"])(inputs)
    x = layers.Flatten()(layers.Embedding(5, 4)(x))
    return keras.Model(inputs, layers.Dense(2)(x))


def texts() -> Any:
    """The n-grams need values that TensorFlow computes with operations on numbers."""
    tokens = layers.TextVectorization(max_tokens=20, ngrams=2)
    tokens.adapt(["a b c", "b c d e"])
    inputs = keras.Input((), dtype="string")
    x = layers.Embedding(20, 4)(tokens(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


def hashes() -> Any:
    first = keras.Input((1,), dtype="string", name="first")
    second = keras.Input((1,), dtype="int64", name="second")
    x = layers.Embedding(7, 3)(layers.Hashing(7)(first))
    y = layers.Embedding(11, 3)(layers.HashedCrossing(11)((first, second)))
    x = layers.Concatenate()([layers.Flatten()(x), layers.Flatten()(y)])
    return keras.Model({"first": first, "second": second}, layers.Dense(2)(x))


def feature_space() -> Any:
    kinds = keras.utils.FeatureSpace
    space = kinds(
        features={
            "normalized": kinds.float_normalized(),
            "discretized": kinds.float_discretized(num_bins=3),
            "category": kinds.string_categorical(),
            "hashed": kinds.string_hashed(num_bins=5),
            "number": kinds.integer_categorical(),
        },
        crosses=[kinds.cross(("category", "number"), crossing_dim=8)],
        output_mode="concat",
    )
    space.adapt(tf.data.Dataset.from_tensor_slices(features(30)))
    return keras.Model(space.get_inputs(), layers.Dense(2)(space.get_encoded_features()))


def features(batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    return {
        "normalized": rng.normal(size=(batch, 1)).astype(np.float32),
        "discretized": rng.normal(size=(batch, 1)).astype(np.float32),
        "category": rng.choice(WORDS[:3], (batch, 1)),
        "hashed": rng.choice(WORDS, (batch, 1)),
        "number": rng.integers(0, 5, (batch, 1)).astype(np.int32),
    }


MODELS: dict[str, tuple[Callable[[], Any], Callable[[int], Any]]] = {
    "words": (words, lambda n: np.random.default_rng(n).choice(WORDS, (n, 3))),
    "texts": (texts, lambda n: TEXTS[:n]),
    "hashes": (
        hashes,
        lambda n: {"first": WORDS[:n, None], "second": np.arange(n)[:, None]},
    ),
    "feature_space": (feature_space, features),
}


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    """Where a model was exported to, and its inputs of a batch size."""
    keras.utils.set_random_seed(1)
    make, inputs = MODELS[request.param]
    directory = str(tmp_path_factory.mktemp(request.param) / "model")
    make().export(directory, verbose=False)
    return directory, inputs


def tensors(inputs: Any) -> Any:
    return tf.nest.map_structure(
        lambda x: tf.constant(x, tf.string if x.dtype == object else x.dtype, x.shape), inputs
    )


def test_results_and_gradients(exported):
    directory, inputs = exported
    reference, loaded = tf.saved_model.load(directory), load(directory)
    for batch in (4, 0) if "words" in directory else (4,):
        wanted = reference.serve(tensors(inputs(batch))).numpy()
        found = loaded.serve(inputs(batch))
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(reference.serve(tensors(inputs(4))) ** 2)
    wanted = tape.gradient(loss, [*reference.trainable_variables])
    variables = [*loaded.trainable_variables]
    assert len(variables) == len(wanted) > 1

    def of_loaded() -> jax.Array:
        return jnp.sum(loaded.serve(inputs(4)) ** 2)

    _, found = value_and_grad(of_loaded, variables=variables)()
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, tf.convert_to_tensor(theirs), rtol=1e-4, atol=1e-5)


def test_saved_again(exported, tmp_path):
    directory, inputs = exported
    loaded = load(directory)
    save(loaded, tmp_path / "again", signatures=loaded.signatures)
    first, again = (tf.saved_model.load(d) for d in (directory, str(tmp_path / "again")))
    wanted = first.serve(tensors(inputs(4)))
    np.testing.assert_array_equal(again.serve(tensors(inputs(4))), wanted)
