"""Models that TensorFlow trained are restored, and TensorFlow reads optimizer state of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import savax.trackable.checkpoint
from savax.errors import DataLossError, KeyNotFoundError, NotFoundError
from savax.trackable import AutoTrackable, Module, SlotOwner, TrackedState, Variable
from savax.trackable.checkpoint import (
    Checkpoint,
    get_checkpoint_state,
    latest_checkpoint,
    list_variables,
    load_checkpoint,
)

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf


class Dense(Module):
    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.kernel = Variable(np.zeros((inputs, units), np.float32))
        self.bias = Variable(np.zeros(units, np.float32))

    def __call__(self, x: Any) -> Any:
        return x @ self.kernel.value + self.bias.value


def test_a_module_that_tensorflow_trained(tmp_path: Path, rng: np.random.Generator) -> None:
    class TfDense(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.normal(size=(3, 2)).astype(np.float32))
            self.bias = tf.Variable(np.zeros(2, np.float32))

        def __call__(self, x: Any) -> Any:
            return x @ self.kernel + self.bias

    source, x = TfDense(), rng.normal(size=(8, 3)).astype(np.float32)
    for _ in range(5):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((source(x) - 1.0) ** 2)
        for variable, gradient in zip(
            source.trainable_variables, tape.gradient(loss, source.trainable_variables), strict=True
        ):
            variable.assign_sub(0.1 * gradient)
    prefix = tf.train.Checkpoint(model=source).save(str(tmp_path / "c"))
    target = Dense(3, 2)
    Checkpoint(model=target).restore(prefix).assert_consumed()
    np.testing.assert_array_equal(target.kernel.numpy(), source.kernel.numpy())
    np.testing.assert_allclose(target(x), source(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_keras_model_that_tensorflow_trained(tmp_path: Path, rng: np.random.Generator) -> None:
    keras = tf.keras
    source = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)]
    )
    source.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    x = rng.normal(size=(16, 3)).astype(np.float32)
    source.fit(x, x.sum(axis=1, keepdims=True), epochs=1, verbose=0)
    prefix = tf.train.Checkpoint(source).write(str(tmp_path / "c"))

    # The names under which Keras 3 tracks layers, their Variables and the optimizer's.
    root, layers = AutoTrackable(), [Dense(3, 4), Dense(4, 1)]
    root._functional, root.optimizer = AutoTrackable(), AutoTrackable()
    root._functional._operations = [AutoTrackable()]
    for layer in layers:
        holder = AutoTrackable()
        holder._kernel, holder.bias = layer.kernel, layer.bias
        root._functional._operations.append(holder)
    root.optimizer.momentums = [
        Variable(np.zeros_like(v)) for x in layers for v in x.variables[::-1]
    ]
    status = Checkpoint(root).read(prefix)
    status.assert_existing_objects_matched()
    hidden = np.maximum(layers[0](x), 0)
    np.testing.assert_allclose(layers[1](hidden), source(x).numpy(), rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(root.optimizer.momentums, source.optimizer.momentums, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(AssertionError, match=r"root\.optimizer\._learning_rate"):
        status.assert_consumed()


def test_a_saved_model_of_tensorflow_is_a_checkpoint(tmp_path: Path) -> None:
    source = tf.Module()
    source.w, source.l = tf.Variable([1.0, 2.0]), [tf.Variable(3.0)]
    source.fn = tf.function(lambda: source.w * source.l[0], input_signature=[])
    tf.saved_model.save(source, str(tmp_path / "model"))
    target = Module()
    target.w, target.l = Variable([0.0, 0.0]), [Variable(0.0)]
    Checkpoint(target).restore(tmp_path / "model").assert_consumed()
    assert (target.w.numpy().tolist(), float(target.l[0])) == ([1, 2], 3)


def test_slot_variables_of_a_legacy_optimizer(tmp_path: Path) -> None:
    source, optimizer = tf.Module(), tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    source.w = tf.Variable([1.0, 2.0])
    optimizer.apply_gradients([(tf.constant([1.0, 1.0]), source.w)])
    prefix = tf.train.Checkpoint(net=source, opt=optimizer).save(str(tmp_path / "c"))
    target, owner = Module(), SlotOwner()
    target.w = Variable([0.0, 0.0])
    slot = owner.add_slot(target.w, "momentum", Variable([0.0, 0.0], name="w/Momentum"))
    Checkpoint(net=target, opt=owner).restore(prefix).assert_consumed()
    np.testing.assert_array_equal(slot, [1, 1])
    back = Checkpoint(net=target, opt=owner).save(tmp_path / "back")
    assert list_variables(back) == list_variables(prefix)
    optimizer.get_slot(source.w, "momentum").assign([0.0, 0.0])
    tf.train.Checkpoint(net=source, opt=optimizer).restore(back).assert_consumed()
    assert optimizer.get_slot(source.w, "momentum").numpy().tolist() == [1, 1]


def test_tensorflow_reads_optax_state(tmp_path: Path) -> None:
    params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    state = optax.adam(0.1).init(params)
    _, state = optax.adam(0.1).update(params, state, params)
    Checkpoint(optimizer=TrackedState(state)).save(tmp_path / "c")

    root = tf.Module()
    setattr(root, "0", tf.Module())
    moments = getattr(root, "0")
    moments.count = tf.Variable(0)
    moments.mu = {"w": tf.Variable(tf.zeros((2, 3))), "b": tf.Variable(tf.zeros(3))}
    moments.nu = {"w": tf.Variable(tf.zeros((2, 3))), "b": tf.Variable(tf.zeros(3))}
    status = tf.train.Checkpoint(optimizer=root).restore(tf.train.latest_checkpoint(str(tmp_path)))
    status.assert_consumed()
    assert moments.count.numpy() == 1
    np.testing.assert_array_equal(moments.mu["w"].numpy(), state[0].mu["w"])


@pytest.mark.parametrize(
    ("reading", "builtin"),
    [
        (lambda lib, prefix: lib.load_checkpoint(prefix + "x"), NotFoundError),
        (lambda lib, prefix: lib.list_variables(prefix + "x"), NotFoundError),
        (lambda lib, prefix: lib.load_variable(prefix, "missing"), KeyNotFoundError),
    ],
)
def test_readers_refuse_the_same(tmp_path: Path, reading: Any, builtin: type[Exception]) -> None:
    prefix = Checkpoint(v=Variable(1.0)).save(tmp_path / "c")
    with pytest.raises((tf.errors.NotFoundError, ValueError)):
        reading(tf.train, prefix)
    with pytest.raises(builtin):
        reading(savax.trackable.checkpoint, prefix)


def test_readers_agree(tmp_path: Path) -> None:
    root = {"v": tf.Variable([[1.0]]), "s": tf.Variable("text"), "n": tf.Variable(3)}
    prefix = tf.train.Checkpoint(**root).save(str(tmp_path / "c"))
    assert list_variables(tmp_path) == tf.train.list_variables(str(tmp_path))
    ours, theirs = load_checkpoint(prefix), tf.train.load_checkpoint(prefix)
    assert ours.get_variable_to_shape_map() == theirs.get_variable_to_shape_map()
    dtypes = {k: v.name for k, v in theirs.get_variable_to_dtype_map().items()}
    assert {k: v.name for k, v in ours.get_variable_to_dtype_map().items()} == dtypes
    for key in dtypes:
        found, expected = ours.get_tensor(key), theirs.get_tensor(key)
        assert type(found) is type(expected)
        assert found == expected
    assert latest_checkpoint(tmp_path) == tf.train.latest_checkpoint(str(tmp_path))
    state = get_checkpoint_state(tmp_path)
    assert state is not None
    expected_state = tf.train.get_checkpoint_state(str(tmp_path))
    assert state.SerializeToString() == expected_state.SerializeToString()


def test_damage_is_an_error_for_both(tmp_path: Path) -> None:
    prefix = Checkpoint(v=Variable(np.ones(100))).save(tmp_path / "c")
    data = Path(prefix + ".data-00000-of-00001")
    damaged = bytearray(data.read_bytes())
    damaged[30] ^= 1
    data.write_bytes(damaged)
    with pytest.raises(tf.errors.DataLossError):
        tf.train.Checkpoint(v=tf.Variable(np.zeros(100))).restore(prefix)
    with pytest.raises(DataLossError):
        Checkpoint(v=Variable(np.zeros(100))).restore(prefix)


def test_slots_that_are_made_after_restoring(tmp_path: Path) -> None:
    """As in TensorFlow, the slots' first value is the checkpoint's."""
    source, optimizer = tf.Module(), tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    source.w = tf.Variable([1.0, 2.0])
    optimizer.apply_gradients([(tf.constant([1.0, 3.0]), source.w)])
    prefix = tf.train.Checkpoint(net=source, opt=optimizer).save(str(tmp_path / "c"))

    target, owner = Module(), SlotOwner()
    target.w = Variable([0.0, 0.0])
    status = Checkpoint(net=target, opt=owner).restore(prefix)
    slot = owner.add_slot(target.w, "momentum", Variable([0.0, 0.0]))
    np.testing.assert_array_equal(slot, [1, 3])
    status.assert_consumed()
