"""A directory of checkpoints changes hands between TensorFlow's manager and savax's."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax.trackable.checkpoint as savax_train
from savax.trackable import Module, SlotOwner, Variable

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = np.float32([[1, 2], [3, 4], [-1, 0.5]])


class TensorFlowRun:
    """Momentum training with the optimizer that keeps slot variables."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.model, self.step = tf.Module(), tf.Variable(np.int64(0))
        self.model.w = tf.Variable([0.1, -0.1])
        self.optimizer = tf.compat.v1.train.MomentumOptimizer(0.05, 0.9)
        checkpoint = tf.train.Checkpoint(model=self.model, opt=self.optimizer, step=self.step)
        self.manager = tf.train.CheckpointManager(checkpoint, str(directory), **options)
        self.manager.restore_or_initialize()

    def train(self) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((tf.linalg.matvec(X, self.model.w) - 1.0) ** 2)
        gradient = tape.gradient(loss, self.model.w)
        self.optimizer.apply_gradients([(gradient, self.model.w)])
        self.step.assign_add(1)

    def state(self) -> list[Any]:
        slot = self.optimizer.get_slot(self.model.w, "momentum")
        return [self.model.w.numpy(), slot.numpy(), self.step.numpy()]


class SavaxRun:
    """The same in savax."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.model, self.step = Module(), Variable(np.int64(0))
        self.model.w = Variable(np.float32([0.1, -0.1]))
        self.optimizer = SlotOwner()
        self.slot = Variable(np.zeros(2, np.float32), name="w/Momentum")
        self.optimizer.add_slot(self.model.w, "momentum", self.slot)
        checkpoint = savax_train.Checkpoint(model=self.model, opt=self.optimizer, step=self.step)
        self.manager = savax_train.CheckpointManager(checkpoint, directory, **options)
        self.manager.restore_or_initialize()

    def train(self) -> None:
        residual = X @ self.model.w.numpy() - np.float32(1)
        self.slot.assign(self.slot.numpy() * np.float32(0.9) + 2 * residual @ X)
        self.model.w.assign_sub(np.float32(0.05) * self.slot.numpy())
        self.step.assign_add(1)

    def state(self) -> list[Any]:
        return [self.model.w.numpy(), self.slot.numpy(), self.step.numpy()]


def names(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name.endswith(".index"))


@pytest.mark.parametrize("order", [(TensorFlowRun, SavaxRun), (SavaxRun, TensorFlowRun)])
def test_training_changes_hands_twice(tmp_path: Path, order: Any) -> None:
    reference = order[0](tmp_path / "reference", max_to_keep=None)
    before: list[Any] | None = None
    for kind in (*order, order[0]):
        run = kind(tmp_path / "run", max_to_keep=3)
        if before is not None:
            for found, expected in zip(run.state(), before, strict=True):
                np.testing.assert_array_equal(found, expected)  # exact, slots too
        for _ in range(2):
            run.train()
            run.manager.save()
            reference.train()
        before = run.state()
    for found, expected in zip(before or [], reference.state(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert names(tmp_path / "run") == [f"ckpt-{n}.index" for n in (4, 5, 6)]
    last = [kind(tmp_path / "run", max_to_keep=3).manager for kind in order]
    assert [[*map(str, m.checkpoints)] for m in last] == [
        [str(tmp_path / "run" / f"ckpt-{n}") for n in (4, 5, 6)]
    ] * 2
    assert last[0].latest_checkpoint == last[1].latest_checkpoint


def play(lib: Any, variable: Any, directory: Path, clock: Callable[[float], None]) -> list[Any]:
    """A story of saves, numbers and resumed managers; returns all that can be seen of it."""
    clock(0)
    step = variable(np.int64(0))
    checkpoint = lib.Checkpoint(step=step)
    common = {"step_counter": step, "checkpoint_interval": 2, "keep_checkpoint_every_n_hours": 3}
    seen: list[Any] = []
    manager = lib.CheckpointManager(checkpoint, str(directory), 2, **common)
    for hour in range(14):
        clock(hour)
        step.assign(hour)
        if hour == 9:
            manager = lib.CheckpointManager(
                checkpoint, str(directory), 1, last_checkpoint_step=8, **common
            )
        number = {4: 40, 12: 40}.get(hour)
        path = manager.save(checkpoint_number=number, check_interval=hour != 5)
        state = lib.get_checkpoint_state(str(directory))
        seen.append(
            (
                *(path, list(manager.checkpoints), manager.latest_checkpoint, names(directory)),
                state.SerializeToString(deterministic=True),
            )
        )
    seen.append(manager.restore_or_initialize())
    return seen


def test_managers_keep_and_delete_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def clock(hours: float) -> None:
        monkeypatch.setattr(time, "time", lambda: 1.8e9 + hours * 3600)

    directory = tmp_path / "run"
    theirs = play(tf.train, tf.Variable, directory, clock)
    state = (directory / "checkpoint").read_text()
    os.rename(directory, tmp_path / "theirs")
    ours = play(savax_train, Variable, directory, clock)
    assert ours == theirs
    assert (directory / "checkpoint").read_text() == state


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"max_to_keep": 0}, ValueError),
        ({"max_to_keep": -1}, ValueError),
        ({"max_to_keep": 1, "checkpoint_interval": 2}, ValueError),
        ({}, TypeError),
    ],
)
def test_managers_refuse_the_same(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception]
) -> None:
    for lib in (tf.train, savax_train):
        with pytest.raises(error):
            lib.CheckpointManager(lib.Checkpoint(), str(tmp_path), **arguments)


def test_histories_of_plain_saves_are_taken_alike(tmp_path: Path) -> None:
    tf.train.Checkpoint(v=tf.Variable(1)).save(str(tmp_path / "c"))
    theirs = tf.train.CheckpointManager(tf.train.Checkpoint(), str(tmp_path), 1)
    ours = savax_train.CheckpointManager(savax_train.Checkpoint(), tmp_path, 1)
    assert ours.checkpoints == theirs.checkpoints
    assert ours.latest_checkpoint == theirs.latest_checkpoint
