"""Models in the format of Keras 2: functions of every layer, losses, an optimizer's slots.

They need ``tf_keras``, which requires the package ``tensorflow``; beside ``tensorflow-cpu`` it is
installed by ``pip install --no-deps tf_keras``, as ``.ci/run`` does.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from savax.function import value_and_grad
from savax.saved_model import load, save

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("tf_keras")
pytestmark = pytest.mark.tf

layers = keras.layers


def images() -> tuple[Any, np.ndarray]:
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.5, seed=3)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(2)(x)), floats(4, 6, 6, 3)


def sequences() -> tuple[Any, np.ndarray]:
    parts = [keras.Input((5, 3)), layers.GRU(3), layers.Dense(2)]
    return keras.Sequential(parts), floats(4, 5, 3)


class Parts(keras.Model):
    """Layers in a list and a dict, a metric, and a call that depends on ``training``."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = [layers.Dense(3, activation="gelu"), layers.Dense(2)]
        self.norms = {"first": layers.LayerNormalization()}
        self.mean = keras.metrics.Mean(name="mean")

    def call(self, x: Any, training: bool = False) -> Any:
        x = self.norms["first"](self.steps[0](x * 2 if training else x))
        self.add_loss(tf.reduce_sum(x**2))
        return self.steps[1](x)


def parts() -> tuple[Any, np.ndarray]:
    return Parts(), floats(4, 3)


def texts() -> tuple[Any, np.ndarray]:
    tokens = layers.TextVectorization(max_tokens=10, output_sequence_length=4)
    tokens.adapt(["a b c", "b c d"])
    steps = [keras.Input((1,), dtype="string"), tokens, layers.Embedding(10, 3)]
    model = keras.Sequential([*steps, layers.GlobalAveragePooling1D(), layers.Dense(2)])
    return model, np.array([[b"a B!"], [b""], [b"c d e b a"], ["\u00fc".encode()]], object)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@dataclasses.dataclass
class Saved:
    """A model that was fitted, and where it was saved.

    Attributes:
      model: of Keras.
      directory: of the SavedModel.
      inputs: a batch.
      bias: name of the last Variable that is added to the result.
      loaded: the model as savax loads it.
      reference: the same as TensorFlow loads it.
    """

    model: Any
    directory: str
    inputs: np.ndarray
    bias: str
    loaded: Any
    reference: Any


@pytest.fixture(scope="module", params=[images, sequences, parts, texts], ids=lambda f: f.__name__)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    keras.utils.set_random_seed(1)
    model, inputs = request.param()
    model.compile(optimizer=keras.optimizers.legacy.Adam(), loss="mse")
    model.fit(tf.constant(inputs), floats(4, 2), verbose=0)
    directory = str(tmp_path_factory.mktemp(request.param.__name__) / "model")
    model.save(directory, save_format="tf")
    last = model.steps[-1] if isinstance(model, Parts) else model.layers[-1]
    bias = last.bias.name.removesuffix(":0")
    return Saved(model, directory, inputs, bias, load(directory), tf.saved_model.load(directory))


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, tf.convert_to_tensor(wanted), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_results(saved: Saved, training: bool) -> None:
    """The call of the model, and what it returns with all losses; twice, as states move ahead."""
    x = tf.constant(saved.inputs)
    for _ in range(2):
        close(
            saved.loaded(saved.inputs, training=training),
            saved.reference(x, training=training),
        )
        found, losses = saved.loaded.call_and_return_all_conditional_losses(
            saved.inputs, training=training
        )
        wanted, wanted_losses = saved.reference.call_and_return_all_conditional_losses(
            x, training=training
        )
        close(found, wanted)
        assert len(losses) == len(wanted_losses)
        for ours, theirs in zip(losses, wanted_losses, strict=True):
            close(ours, theirs)


def test_attributes(saved: Saved) -> None:
    loaded, reference = saved.loaded, saved.reference
    for name in ("variables", "trainable_variables"):
        ours, theirs = getattr(loaded, name), getattr(reference, name)
        assert names_of(ours) == names_of(theirs)
        assert len(ours) == len(theirs) > 1
    assert len(loaded.regularization_losses) == len(reference.regularization_losses)
    for ours, theirs in zip(
        loaded.regularization_losses, reference.regularization_losses, strict=True
    ):
        close(ours(), theirs())
    assert len(loaded.keras_api.layers) == len(reference.keras_api.layers)
    ours, theirs = loaded.keras_api.layers[-1], reference.keras_api.layers[-1]
    assert names_of(ours.trainable_variables) == names_of(theirs.trainable_variables)


def names_of(variables: Any) -> list[str | None]:
    """Returns names; Keras 2 lists a table among the variables, which loads as None."""
    return [None if v is None else v.name.removesuffix(":0") for v in variables]


def test_slots_of_the_optimizer(saved: Saved) -> None:
    optimizer, original = saved.loaded.optimizer, saved.model.optimizer
    assert int(optimizer.iter.numpy()) == 1
    by_name = {f"{v.name}:0": v for v in saved.loaded.trainable_variables}
    for variable in saved.model.trainable_variables:
        for slot in ("m", "v"):
            close(
                optimizer.get_slot(by_name[variable.name], slot).numpy(),
                original.get_slot(variable, slot),
            )


def test_gradients(saved: Saved) -> None:
    x = tf.constant(saved.inputs)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(saved.reference(x, training=False) ** 2)
    wanted = tape.gradient(loss, [*saved.reference.trainable_variables])

    def of_loaded() -> jax.Array:
        return jnp.sum(saved.loaded(saved.inputs, training=False) ** 2)

    _, found = value_and_grad(of_loaded, variables=[*saved.loaded.trainable_variables])()
    for ours, theirs in zip(found, wanted, strict=True):
        close(ours, theirs)


def test_saved_again(saved: Saved, tmp_path: Any) -> None:
    loaded = load(saved.directory)
    variable = next(v for v in loaded.trainable_variables if v.name == saved.bias)
    variable.assign(variable.value + 1)
    save(loaded, tmp_path / "again", signatures=loaded.signatures)
    again = tf.saved_model.load(str(tmp_path / "again"))
    x = tf.constant(saved.inputs)
    before = tf.saved_model.load(saved.directory)
    wanted = before(x, training=False) + 1
    close(again(x, training=False), wanted)
    (found,) = again.signatures["serving_default"](x).values()
    close(found, wanted)


def test_export(tmp_path: Any) -> None:
    model, inputs = images()
    model.export(str(tmp_path / "model"))
    close(load(tmp_path / "model").serve(inputs), model(inputs, training=False))
