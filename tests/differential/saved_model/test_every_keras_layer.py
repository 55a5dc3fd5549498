"""Every Keras layer, exported by TensorFlow: savax gives its results and its gradients.

With the environment variable SAVAX_TEST_KERAS, the module's name, it tests another Keras (tf_keras
is Keras 2), and all rows, those that take long included.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from savax.function import value_and_grad
from savax.saved_model import load

if TYPE_CHECKING:
    from pathlib import Path

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip(os.environ.get("SAVAX_TEST_KERAS", "keras"))

from keras_layer_rows import Row, draw, rows  # noqa: E402

pytestmark = pytest.mark.tf

ROWS = {
    name: row
    for name, row in rows(keras).items()
    if "SAVAX_TEST_KERAS" in os.environ or not row.is_slow
}

# Classes that compute nothing themselves, or aren't TensorFlow's.
ABSTRACT = {"InputLayer", "Layer", "Masking", "Wrapper"}
OF_KERAS_2 = {"AbstractRNNCell", "DenseFeatures"}  # the second takes feature columns
OTHER_FRAMEWORKS = {"FlaxLayer", "JaxLayer", "TorchModuleWrapper"}
OF_OTHER_LAYERS = {"GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells", "Pipeline"}
# One takes a SavedModel, the other dicts of boxes.
TESTED_ELSEWHERE = {"TFSMLayer", "MaxNumBoundingBoxes"}


@dataclasses.dataclass
class Exported:
    """A layer in the module of all.

    Attributes:
      row: how it is tested.
      layer: the layer.
      function: the call of it that is saved.
      inputs: arguments.
      attribute: name of the function in the module; its weights are behind "weights_".
    """

    row: Row
    layer: Any
    function: Any
    inputs: list[np.ndarray]
    attribute: str


@pytest.fixture(scope="module")
def exported() -> dict[str, Exported]:
    keras.utils.set_random_seed(1)
    return {name: _export(f"f{i}", row) for i, (name, row) in enumerate(ROWS.items())}


@pytest.fixture(scope="module")
def directory(exported: dict[str, Exported], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One SavedModel of all layers."""
    module = tf.Module()
    for case in exported.values():
        name = case.attribute
        setattr(module, name, case.function)
        setattr(module, f"layer_{name}", case.layer)
        setattr(module, f"states_{name}", _variables(case.layer))
        setattr(module, f"weights_{name}", case.layer.trainable_weights)
    directory: Path = tmp_path_factory.mktemp("layers") / "model"
    tf.saved_model.save(module, str(directory))
    return directory


@pytest.fixture(scope="module")
def loaded(directory: Path) -> Any:
    return load(directory)


@pytest.fixture(scope="module")
def reference(directory: Path) -> Any:
    """The same in TensorFlow; not the layers, as some draw at random while they are traced."""
    return tf.saved_model.load(str(directory))


def _export(attribute: str, row: Row) -> Exported:
    layer = row.make()
    rng = np.random.default_rng(0)
    inputs = [draw(spec, rng, batch=2) for spec in row.specs]

    def call(*args: Any) -> Any:
        first = list(args) if len(args) > 1 and not row.names else args[0]
        return layer(first, **dict(zip(row.names, args[1:], strict=False)), **row.options)

    call(*map(tf.constant, inputs))
    for weight in layer.trainable_weights:  # so that biases count
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
    return Exported(row, layer, tf.function(call, input_signature=row.specs), inputs, attribute)


def _variables(layer: Any) -> list[Any]:
    """Returns variables of a layer, its generators' and those of the layers in it included."""
    inner = [part for part in vars(layer).values() if isinstance(part, keras.layers.Layer)]
    return [*layer.variables, *(v for part in inner for v in _variables(part))]


@pytest.mark.parametrize("name", ROWS)
def test_results(name: str, exported: dict[str, Exported], loaded: Any, reference: Any) -> None:
    case = exported[name]
    function = getattr(loaded, case.attribute)
    original = getattr(reference, case.attribute)
    for _ in range(case.row.calls):
        found = jax.tree.leaves(function(*case.inputs))
        wanted = tf.nest.flatten(original(*map(tf.constant, case.inputs)))
        assert len(found) == len(wanted)
        for ours, theirs in zip(found, wanted, strict=True):
            _compare(ours, theirs.numpy())


def _compare(found: Any, wanted: np.ndarray) -> None:
    found = np.asarray(found)
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)
    else:
        np.testing.assert_array_equal(found, wanted)


# Those with weights, and some others; recurrent layers' are in test_keras_layers.py.
DIFFERENTIATED = (
    *("Dense", "EinsumDense", "PReLU", "Conv", "Depthwise", "Separable", "BatchNormalization"),
    *("LayerNormalization", "GroupNormalization", "RMSNormalization", "SpectralNormalization"),
    *("UnitNormalization", "LSTM masked", "GRU masked", "STFTSpectrogram", "Attention"),
    *("AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention", "MaxPooling2D", "Dot"),
)
DIFFERENTIABLE = [
    name
    for name, row in ROWS.items()
    if name.startswith(DIFFERENTIATED) and row.calls == 1 and not name.startswith("ConvLSTM")
]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name: str, exported: dict[str, Exported], loaded: Any) -> None:
    """Gradients by the first argument and all weights."""
    case = exported[name]
    first, *others = map(tf.constant, case.inputs)
    weights = [v if isinstance(v, tf.Variable) else v.value for v in case.layer.trainable_weights]
    with tf.GradientTape() as tape:
        tape.watch(first)
        results = tf.nest.flatten(case.function(first, *others))
        loss = tf.add_n([tf.reduce_sum(tf.sin(tf.cast(r, tf.float32))) for r in results])
    zero = tf.UnconnectedGradients.ZERO
    wanted = tape.gradient(loss, [first, *weights], unconnected_gradients=zero)

    def loss_of_loaded(first: Any) -> jax.Array:
        results = jax.tree.leaves(getattr(loaded, case.attribute)(first, *case.inputs[1:]))
        return jnp.stack([jnp.sum(jnp.sin(r.astype(jnp.float32))) for r in results]).sum()

    variables = [*getattr(loaded, f"weights_{case.attribute}")]
    gradient = value_and_grad(loss_of_loaded, variables=variables, argnums=0)
    _, (of_first, of_weights) = gradient(case.inputs[0])
    for ours, theirs in zip([of_first, *of_weights], wanted, strict=True):
        np.testing.assert_allclose(ours, tf.convert_to_tensor(theirs), rtol=1e-3, atol=1e-4)


def test_no_layer_is_left_out(exported: dict[str, Exported]) -> None:
    classes = {
        kind
        for kind in vars(keras.layers).values()
        if isinstance(kind, type) and issubclass(kind, keras.layers.Layer)
    }
    tested = {type(case.layer).__name__ for case in exported.values()}
    known = tested | ABSTRACT | OF_KERAS_2 | OTHER_FRAMEWORKS | OF_OTHER_LAYERS | TESTED_ELSEWHERE
    assert sorted(kind.__name__ for kind in classes if kind.__name__ not in known) == []
