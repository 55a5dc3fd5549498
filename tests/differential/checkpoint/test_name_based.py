"""Checkpoints of TensorFlow 1's Saver are restored into Variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from savax.errors import UnsupportedError
from savax.trackable import Module, Variable
from savax.train import Checkpoint, latest_checkpoint, list_variables, restore_by_name

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def trained(tmp_path: Path) -> dict[str, Any]:
    """Trains a graph of TensorFlow 1, saves it, and returns its values by name."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        with v1.variable_scope("dense"):
            partitioner = v1.fixed_size_partitioner(2)
            kernel = v1.get_variable("kernel", [4, 2], partitioner=partitioner)
            bias = v1.get_variable("bias", [2], initializer=v1.zeros_initializer())
        names = v1.get_variable("names", initializer=tf.constant(["a", "ä"]), trainable=False)
        step = v1.train.get_or_create_global_step()
        loss = tf.reduce_sum((tf.ones([1, 4]) @ tf.convert_to_tensor(kernel) + bias - 3.0) ** 2)
        train = v1.train.MomentumOptimizer(0.01, 0.9).minimize(loss, step, var_list=[bias])
        session.run(v1.global_variables_initializer())
        session.run(train)
        v1.train.Saver(write_version=v1.train.SaverDef.V2).save(
            session, str(tmp_path / "model.ckpt"), global_step=1
        )
        values = {"dense/kernel": session.run(tf.convert_to_tensor(kernel))}
        for variable in (bias, names, step):
            values[variable.op.name] = session.run(variable)
        return values


def build() -> Module:
    root = Module()
    root.kernel = Variable(np.zeros((4, 2), np.float32), name="dense/kernel")
    root.bias = Variable(np.zeros(2, np.float32), name="dense/bias")
    root.names = Variable(["", ""], name="names")
    root.step = Variable(np.int64(0))
    return root


def test_a_saver_of_tensorflow_1(tmp_path: Path, trained: dict[str, Any]) -> None:
    prefix = latest_checkpoint(tmp_path)
    assert prefix is not None
    assert list_variables(prefix) == tf.train.list_variables(prefix)
    root = build()
    status = restore_by_name(root, prefix)
    assert [missing.path for missing in status.report().missing] == ["root.step"]
    assert {unused.key for unused in status.report().unused} == {
        "dense/bias/Momentum",
        "global_step",
    }
    root.slot = Variable(np.zeros(2, np.float32))
    names = {
        "dense/kernel": root.kernel,
        "dense/bias:0": root.bias,
        "dense/bias/Momentum": root.slot,
        "names": root.names,
        "global_step": root.step,
    }
    restore_by_name(root, tmp_path, names).assert_consumed()
    for variable, name in (
        (root.kernel, "dense/kernel"),
        (root.bias, "dense/bias"),
        (root.names, "names"),
        (root.step, "global_step"),
    ):
        np.testing.assert_array_equal(variable.numpy(), trained[name])
    assert root.bias.numpy().any()
    # 0.01 is the learning rate: one step of momentum from zero.
    np.testing.assert_allclose(root.bias.numpy(), -0.01 * root.slot.numpy(), rtol=1e-6)


@pytest.mark.usefixtures("trained")
def test_restoring_by_places_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="restore_by_name"):
        Checkpoint(build()).restore(tmp_path)
