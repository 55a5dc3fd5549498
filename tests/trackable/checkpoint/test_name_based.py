"""Checkpoints of names and values, without objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from savax.errors import (
    CorruptBundleError,
    DTypeMismatchError,
    IncompleteRestoreError,
    InvalidArgumentError,
    KeyNotFoundError,
    NotFoundError,
    ShapeMismatchError,
)
from savax.trackable import Module, Variable
from savax.trackable.bundle import Partitioned, write_bundle
from savax.trackable.checkpoint import (
    Checkpoint,
    Missing,
    Restored,
    Unused,
    restore_by_name,
)
from savax.types import as_dtype

if TYPE_CHECKING:
    from pathlib import Path

FLOAT = as_dtype("float32")


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    kernel = np.float32([[1, 2], [3, 4], [5, 6]])
    parts = [([(0, 2), None], kernel[:2]), ([(2, 1), None], kernel[2:])]
    tensors = [
        ("dense/bias", np.float32([7, 8])),
        ("dense/kernel", Partitioned((3, 2), FLOAT, parts)),
        ("dense/kernel/Momentum", np.zeros((3, 2), np.float32)),
        ("global_step", np.int64(9)),
    ]
    write_bundle(tmp_path / "model.ckpt-9", tensors)
    return tmp_path / "model.ckpt-9"


class Dense(Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Module()
        self.layer.kernel = Variable(np.zeros((3, 2), np.float32), name="dense/kernel")
        self.layer.bias = Variable(np.zeros(2, np.float32), name="dense/bias")
        self.step = Variable(np.int64(0), name="step")


def test_by_the_names_of_variables(prefix: Path) -> None:
    root = Dense()
    status = restore_by_name(root, prefix)
    assert root.layer.kernel.numpy().tolist() == [[1, 2], [3, 4], [5, 6]]
    assert root.layer.bias.numpy().tolist() == [7, 8]
    assert root.step == 0
    report = status.report()
    assert report.prefix == str(prefix)
    assert report.restored == (
        Restored("root.layer.kernel", "dense/kernel"),
        Restored("root.layer.bias", "dense/bias"),
    )
    assert report.missing == (Missing("root.step", "Variable"),)
    assert report.unused == (
        Unused("dense/kernel/Momentum", "dense/kernel/Momentum", FLOAT, (3, 2)),
        Unused("global_step", "global_step", as_dtype("int64"), ()),
    )
    assert status.assert_nontrivial_match() is status
    with pytest.raises(IncompleteRestoreError, match=r"root\.step \(Variable\)"):
        status.assert_existing_objects_matched()
    with pytest.raises(IncompleteRestoreError, match="dense/kernel/Momentum"):
        status.assert_consumed()


def test_by_a_map(prefix: Path) -> None:
    root = Dense()
    names = {"global_step:0": root.step, "dense/kernel": root.layer.kernel}
    report = restore_by_name(root, prefix, names).report()
    assert root.step == 9
    assert root.layer.bias.numpy().tolist() == [0, 0]  # not in the map
    assert report.missing == (Missing("root.layer.bias", "Variable", ("dense/bias",)),)
    assert [unused.key for unused in report.unused] == ["dense/bias", "dense/kernel/Momentum"]
    root.momentum = Variable(np.ones((3, 2), np.float32))
    names |= {"dense/bias": root.layer.bias, "dense/kernel/Momentum": root.momentum}
    restore_by_name(root, prefix, names).assert_consumed().assert_existing_objects_matched()
    assert not root.momentum.numpy().any()


def test_an_object_graphs_keys_are_names_too(tmp_path: Path) -> None:
    Checkpoint(m=Dense(), v=Variable([3])).write(tmp_path / "c")
    v = Variable([0])
    names = {"v/.ATTRIBUTES/VARIABLE_VALUE": v}
    report = restore_by_name(Checkpoint(renamed=v), tmp_path / "c", names).report()
    assert v.numpy().tolist() == [3]
    assert len(report.unused) == 3  # the object graph itself isn't among them


@pytest.mark.parametrize(
    ("names", "error", "text"),
    [
        (lambda m: {"dense/bia": m.layer.bias}, KeyNotFoundError, "'dense/bias'"),
        (
            lambda m: {"a": m.layer.bias, "b:0": m.step, "dense/kernel": m.layer.kernel},
            KeyNotFoundError,
            r"'a' \(for root\.layer\.bias\), 'b' \(for root\.step\)",
        ),
        (lambda m: {"dense/bias": Variable([0.0, 0.0])}, KeyNotFoundError, "reached"),
        (lambda m: {"dense/bias": m.layer}, InvalidArgumentError, "Module"),
        (
            lambda m: {"dense/bias": m.layer.bias, "dense/kernel": m.layer.bias},
            InvalidArgumentError,
            "both",
        ),
        (lambda m: {"dense/bias": m.step}, ShapeMismatchError, r"root\.step: expected"),
    ],
)
def test_maps_that_can_not_be_right(prefix: Path, names: Any, error: Any, text: str) -> None:
    root = Dense()
    with pytest.raises(error, match=text):
        restore_by_name(root, prefix, names(root))
    assert not any(np.asarray(variable).any() for variable in root.variables)


def test_two_variables_of_one_name(prefix: Path) -> None:
    root = Dense()
    root.other = Variable(np.zeros(2, np.float32), name="dense/bias")
    with pytest.raises(InvalidArgumentError, match=r"root\.other and .*names="):
        restore_by_name(root, prefix)
    root.other = Variable(0.0, name="step")  # a name that the checkpoint doesn't have
    restore_by_name(root, prefix)


def test_mismatches_and_damage_change_nothing(prefix: Path) -> None:
    root = Dense()
    root.extra = Variable(np.float32(0), name="global_step")
    with pytest.raises(DTypeMismatchError, match=r"root\.extra: expected dtype"):
        restore_by_name(root, prefix)
    del root.extra
    data = prefix.with_name(prefix.name + ".data-00000-of-00001")
    damaged = bytearray(data.read_bytes())
    damaged[1] ^= 1
    data.write_bytes(damaged)
    with pytest.raises(CorruptBundleError):
        restore_by_name(root, prefix)
    assert not any(np.asarray(variable).any() for variable in root.variables)


def test_nothing_in_common(prefix: Path) -> None:
    root = Module()
    root.v = Variable(1.0)
    with pytest.raises(IncompleteRestoreError, match="global_step"):
        restore_by_name(root, prefix).assert_nontrivial_match()
    with pytest.raises(NotFoundError):
        restore_by_name(root, prefix.with_name("x"))
