"""Derivatives and training steps as signatures, and exported models that TensorFlow trains."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

import savax  # noqa: E402
from savax.saved_model import load, save  # noqa: E402

pytestmark = pytest.mark.tf

STEPS = 20
RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((STEPS, 8, 3)).astype(np.float32)
TARGETS = np.tanh(INPUTS.sum(-1, keepdims=True))
OPTIMIZERS = {
    "momentum": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optax.chain(
        optax.clip_by_global_norm(0.1), optax.adamw(optax.cosine_decay_schedule(0.05, STEPS))
    ),
}
BATCH = [savax.TensorSpec([None, 3], name="x"), savax.TensorSpec([None, 1], name="y")]


class Network(savax.Module):
    """A layer with normalisation, whose moving mean a step assigns too."""

    def __init__(self, optimizer):
        rng = np.random.default_rng(1)
        self.kernel = savax.Variable(rng.standard_normal((3, 5)).astype(np.float32) / 2)
        self.bias = savax.Variable(np.zeros(5, np.float32))
        self.head = savax.Variable(rng.standard_normal((5, 1)).astype(np.float32) / 2)
        self.mean = savax.Variable(np.zeros(5, np.float32), trainable=False)
        self.optimizer = optimizer
        self.state = savax.TrackedState(optimizer.init(self.trainable_variables))

    def hidden(self, x):
        return jax.nn.relu(x @ self.kernel + self.bias)

    @savax.function(input_signature=BATCH[:1])
    def predict(self, x):
        return (self.hidden(x) - self.mean) @ self.head

    def loss(self, x, y):
        hidden = self.hidden(x)
        self.mean.assign(0.9 * self.mean + 0.1 * jax.lax.stop_gradient(hidden.mean(0)))
        return jnp.mean(((hidden - self.mean) @ self.head - y) ** 2)

    @savax.function(input_signature=BATCH)
    def train(self, x, y):
        variables = self.trainable_variables
        loss, gradients = savax.value_and_grad(self.loss, variables=variables)(x, y)
        updates, state = self.optimizer.update(gradients, self.state.value, variables)
        for variable, update in zip(variables, updates, strict=True):
            variable.assign_add(update)
        self.state.assign(state)
        return {"loss": loss}


def _losses(step):
    return [float(step(x, y)["loss"]) for x, y in zip(INPUTS, TARGETS, strict=True)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_step_runs_in_tensorflow(tmp_path, name):
    model = Network(OPTIMIZERS[name]())
    save(model, tmp_path / "model", signatures={"train": model.train, "predict": model.predict})
    in_tensorflow = tf.saved_model.load(str(tmp_path / "model"))
    again = load(tmp_path / "model")
    expected = _losses(model.train)
    assert expected[-1] < expected[0]
    steps = [in_tensorflow.signatures["train"], again.train]
    for step in steps:
        found = _losses(lambda x, y, step=step: step(x=tf.constant(x).numpy(), y=y))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    for other in (in_tensorflow, again):
        for variable in ("kernel", "bias", "head", "mean"):
            found, wanted = getattr(other, variable).numpy(), getattr(model, variable).numpy()
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
        prediction = other.predict(INPUTS[0])
        np.testing.assert_allclose(prediction, model.predict(INPUTS[0]), rtol=1e-3, atol=1e-5)


def test_a_step_that_was_loaded_is_saved_again(tmp_path):
    model = Network(optax.adam(0.05))
    save(model, tmp_path / "first", signatures={"train": model.train})
    middle = load(tmp_path / "first")
    half = STEPS // 2
    expected = _losses(model.train)
    found = [
        float(middle.train(x, y)["loss"]) for x, y in zip(INPUTS[:half], TARGETS, strict=False)
    ]
    save(middle, tmp_path / "second", signatures={"train": middle.train})
    train = tf.saved_model.load(str(tmp_path / "second")).signatures["train"]
    for x, y in zip(INPUTS[half:], TARGETS[half:], strict=True):
        found.append(float(train(x=tf.constant(x), y=tf.constant(y))["loss"]))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def _objective(x, w):
    return jnp.sum(jnp.tanh(x @ w) ** 3)


def _forward_and_backward(x, w):
    value, pull = jax.vjp(lambda x: jnp.sort(jnp.tanh(x @ w), -1), x)
    return value, pull(value)


DERIVATIVES = {
    "grad": jax.grad(_objective, argnums=(0, 1)),
    "value_and_grad": jax.value_and_grad(_objective),
    "jvp": lambda x, w: jax.jvp(_objective, (x, w), (jnp.ones_like(x), 2 * w)),
    "vjp": _forward_and_backward,
    "jacobian": lambda x, w: jax.jacrev(lambda w: jnp.tanh(x @ w).sum(0))(w),
    "hessian_product": lambda x, w: jax.jvp(
        jax.grad(lambda x: _objective(x, w)), (x,), (jnp.ones_like(x),)
    ),
    "per_example": lambda x, w: jax.vmap(jax.grad(_objective), (0, None))(x, w),
    "hessian": lambda x, w: jax.hessian(lambda w: _objective(x, w))(w),
}


def _with_named_results(fn):
    def named(x, w):
        return {f"out_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(fn(x, w)))}

    return named


@pytest.fixture(scope="module")
def derivatives(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("derivatives") / "model")
    module = savax.Module()
    specs = [savax.TensorSpec(["b", 3], name="x"), savax.TensorSpec([3, 4], name="w")]
    signatures = {}
    for name, fn in DERIVATIVES.items():
        signatures[name] = savax.function(_with_named_results(fn), input_signature=specs)
    module.derivatives = signatures
    save(module, directory, signatures=signatures)
    return tf.saved_model.load(directory).signatures


@pytest.mark.parametrize("batch", [4])
@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_are_signatures(derivatives, name, batch):
    x, w = INPUTS[0, :batch], RNG.standard_normal((3, 4)).astype(np.float32)
    expected = jax.tree.leaves(DERIVATIVES[name](jnp.asarray(x), jnp.asarray(w)))
    found = derivatives[name](x=tf.constant(x), w=tf.constant(w))
    assert len(found) == len(expected)
    for i, want in enumerate(expected):
        np.testing.assert_allclose(found[f"out_{i}"], want, rtol=1e-4, atol=1e-5)


def _jax_training(model):
    """Returns the losses of training the head of a network and all below it, by plain SGD."""
    variables = model.trainable_variables
    loss = savax.value_and_grad(
        lambda x, y: jnp.mean((model.predict(x) - y) ** 2), variables=variables
    )
    losses = []
    for x, y in zip(INPUTS, TARGETS, strict=True):
        value, gradients = loss(x, y)
        losses.append(float(value))
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign_sub(0.1 * gradient)
    return losses


def test_tensorflow_fine_tunes_the_variables(tmp_path):
    model = Network(optax.sgd(0.1))
    save(model, tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    variables = loaded.predict.concrete_functions[0].trainable_variables
    assert len(variables) == 3
    optimizer = tf.keras.optimizers.SGD(0.1)
    losses = []
    for x, y in zip(INPUTS, TARGETS, strict=True):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((loaded.predict(tf.constant(x)) - y) ** 2)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        losses.append(float(loss))
    np.testing.assert_allclose(losses, _jax_training(model), rtol=1e-4)


class Wrapped(keras.layers.Layer):
    """The loaded module as a layer; Keras doesn't find its Variables by itself."""

    def __init__(self, directory):
        super().__init__()
        self.module = tf.saved_model.load(directory)
        for variable in self.module.predict.concrete_functions[0].trainable_variables:
            weight = self.add_weight(shape=variable.shape, name=variable.name.split(":")[0])
            weight._value = variable  # the layer's weight is the module's Variable

    def call(self, x):
        return self.module.predict(x)


def test_keras_fits_a_layer_that_holds_the_module(tmp_path):
    model = Network(optax.sgd(0.1))
    save(model, tmp_path / "model")
    network = keras.Sequential([keras.Input([3]), Wrapped(str(tmp_path / "model"))])
    network.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    losses = [float(network.train_on_batch(x, y)) for x, y in zip(INPUTS, TARGETS, strict=True)]
    expected = _jax_training(model)
    assert losses[-1] < losses[0] / 2
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
