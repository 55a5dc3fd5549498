"""Reports of restores: lists by path, and the text made of them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from savax.errors import IncompleteRestoreError, ShapeMismatchError
from savax.trackable import Module, SlotOwner, Trackable, Variable
from savax.trackable.checkpoint import (
    Checkpoint,
    Mismatch,
    Missing,
    Restored,
    RestoreReport,
    Unused,
)
from savax.types import as_dtype

if TYPE_CHECKING:
    from pathlib import Path

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def model(**values: Any) -> Module:
    root = Module()
    for name, value in values.items():
        setattr(root, name, Variable(value))
    return root


def test_all_kinds_of_findings(tmp_path: Path) -> None:
    source = Checkpoint(m=model(kernel=[1.0, 2.0], bias=1.0, steps=3, only_there=[[1.0]]))
    prefix = source.save(tmp_path / "c")
    target = model(kernel=[0.0, 0.0], biases=0.0, steps=[0, 0, 0])
    checkpoint = Checkpoint(m=target)
    report = checkpoint.compare(prefix)
    assert report == RestoreReport(
        prefix=prefix,
        restored=(
            Restored("root.save_counter", "save_counter" + VALUE),
            Restored("root.m.kernel", "m/kernel" + VALUE),
        ),
        mismatched=(Mismatch("root.m.steps", "m/steps" + VALUE, "expected shape (3,), found ()"),),
        missing=(Missing("root.m.biases", "Variable", ("root.m.bias",)),),
        unused=(
            Unused("root.m.bias", "m/bias" + VALUE, as_dtype("float32"), (), ("root.m.biases",)),
            Unused("root.m.only_there", "m/only_there" + VALUE, as_dtype("float32"), (1, 1)),
        ),
    )
    assert not report.is_complete
    assert str(report) == (
        f"Checkpoint {prefix!r}: 2 restored, 1 of another shape or dtype, 1 missing in the "
        "checkpoint, 2 only in the checkpoint.\n"
        "Of another shape or dtype:\n"
        f"  root.m.steps: expected shape (3,), found () under 'm/steps{VALUE}'\n"
        "Missing in the checkpoint:\n"
        "  root.m.biases (Variable) isn't in the checkpoint; near: root.m.bias\n"
        "Only in the checkpoint:\n"
        f"  root.m.bias in the checkpoint, under 'm/bias{VALUE}', has no object here (float32[]); "
        "near: root.m.biases\n"
        f"  root.m.only_there in the checkpoint, under 'm/only_there{VALUE}', has no object here "
        "(float32[1, 1])\n"
        "Restored:\n"
        f"  root.save_counter from 'save_counter{VALUE}'\n"
        f"  root.m.kernel from 'm/kernel{VALUE}'"
    )
    # Comparing has changed nothing, and made no counter.
    assert target.kernel.numpy().tolist() == [0, 0]
    assert not checkpoint._trackable_children().keys() - {"m"}


def test_a_complete_restore(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=Variable(1))
    prefix = checkpoint.save(tmp_path / "c")
    report = checkpoint.restore(prefix).report()
    assert report.is_complete
    assert report.summary == f"Checkpoint {prefix!r}: 2 restored."
    assert report == checkpoint.compare(prefix)


def test_the_counter_that_restore_makes_may_be_missing(tmp_path: Path) -> None:
    Checkpoint(v=Variable(1)).write(tmp_path / "c")
    checkpoint = Checkpoint(v=Variable(0))
    assert checkpoint.compare(tmp_path / "c").is_complete
    assert checkpoint.restore(tmp_path / "c").report().is_complete


def test_reports_look_at_the_objects_as_they_are_now(tmp_path: Path) -> None:
    Checkpoint(a=Variable(1), b=Variable([1.0])).write(tmp_path / "c")
    checkpoint = Checkpoint()
    status = checkpoint.read(tmp_path / "c")
    assert [unused.path for unused in status.report().unused] == ["root.a", "root.b"]
    checkpoint.a = Variable(0)
    with pytest.raises(ShapeMismatchError):
        checkpoint.b = Variable([0.0, 0.0])
    report = status.report()
    assert report.restored == (Restored("root.a", "a" + VALUE),)
    assert [mismatch.path for mismatch in report.mismatched] == ["root.b"]
    assert (report.missing, report.unused) == ((), ())
    for check in (status.assert_consumed, status.assert_existing_objects_matched):
        with pytest.raises(IncompleteRestoreError, match=r"root\.b: expected shape \(2,\)"):
            check()
    checkpoint.a = Variable(0)  # another one, that got nothing
    assert [missing.path for missing in status.report().missing] == ["root.a"]


def test_nothing_was_restored() -> None:
    report = Checkpoint(v=Variable(1)).restore(None).report()
    assert str(report) == "No checkpoint was restored."


def test_long_reports_are_cut_and_the_lists_are_not(tmp_path: Path) -> None:
    Checkpoint(v=[Variable(i) for i in range(500)]).write(tmp_path / "c")
    report = Checkpoint(w=[Variable(i) for i in range(500)]).read(tmp_path / "c").report()
    assert len(report.missing) == len(report.unused) == 500
    lines = str(report).splitlines()
    assert len(lines) == 1 + 2 * (1 + 20 + 1)
    assert lines[-1] == "  and 480 more"
    assert report.missing[7].nearest[0] == "root.v.7"


def build_slots(value: float, net: bool = True) -> tuple[Checkpoint, SlotOwner, list[Variable]]:
    weights = [Variable(value), Variable(value + 1)]
    owner = SlotOwner()
    checkpoint = Checkpoint(opt=owner, **({"net": weights} if net else {}))
    return checkpoint, owner, weights


def add_slots(owner: SlotOwner, weights: list[Variable], value: float) -> list[Trackable]:
    return [
        owner.add_slot(weight, name, Variable(value + i + 10 * j))
        for i, weight in enumerate(weights)
        for j, name in enumerate(("m", "v"))
    ]


@pytest.fixture
def slots_prefix(tmp_path: Path) -> Path:
    source, owner, weights = build_slots(1.0)
    add_slots(owner, weights, 5.0)
    source.write(tmp_path / "c")
    return tmp_path / "c"


def test_slots_that_are_made_later_get_their_values(slots_prefix: Path) -> None:
    checkpoint, owner, weights = build_slots(0.0)
    status = checkpoint.read(slots_prefix)
    assert [unused.path for unused in status.report().unused] == [
        "root.opt.slot('m', root.net.0)",
        "root.opt.slot('m', root.net.1)",
        "root.opt.slot('v', root.net.0)",
        "root.opt.slot('v', root.net.1)",
    ]
    slots = add_slots(owner, weights, 0.0)
    assert [np.asarray(slot).item() for slot in slots] == [5, 15, 6, 16]
    status.assert_consumed()
    again = owner.add_slot(weights[0], "m", Variable(0.0))
    assert np.asarray(again) == 0  # only the first waits
    other = owner.add_slot(Variable(0.0), "m", Variable(0.5))
    assert np.asarray(other) == 0.5


def test_slots_that_are_made_before_their_variable_is_tracked(slots_prefix: Path) -> None:
    checkpoint, owner, weights = build_slots(0.0, net=False)
    status = checkpoint.read(slots_prefix)
    early = add_slots(owner, weights[:1], 0.0)
    checkpoint.net = weights
    late = add_slots(owner, weights[1:], 0.0)
    assert [np.asarray(slot).item() for slot in early + late] == [5, 15, 6, 16]
    status.assert_consumed()


def test_an_optimizer_that_is_tracked_later(slots_prefix: Path) -> None:
    weights, owner = [Variable(0.0), Variable(0.0)], SlotOwner()
    early = add_slots(owner, weights[:1], 0.0)
    checkpoint = Checkpoint(net=weights)
    status = checkpoint.read(slots_prefix)
    checkpoint.opt = owner
    late = add_slots(owner, weights[1:], 0.0)
    assert [np.asarray(slot).item() for slot in early + late] == [5, 15, 6, 16]
    status.assert_consumed()


def test_a_slot_that_is_made_later_must_fit(slots_prefix: Path) -> None:
    checkpoint, owner, weights = build_slots(0.0)
    checkpoint.read(slots_prefix)
    with pytest.raises(ShapeMismatchError, match=r"root\.opt\.slot\('m', root\.net\.0\): expected"):
        owner.add_slot(weights[0], "m", Variable([0.0]))


def test_a_slot_that_was_made_before_its_variable_must_fit(slots_prefix: Path) -> None:
    checkpoint, owner, weights = build_slots(0.0, net=False)
    status = checkpoint.read(slots_prefix)
    owner.add_slot(weights[0], "m", Variable([0.0]))
    with pytest.raises(ShapeMismatchError, match=r"a slot variable: expected .*'net/0/\.OPTIM"):
        checkpoint.net = weights
    assert weights[0] == 0
    assert [found.path for found in status.report().mismatched] == [
        "root.opt.slot('m', root.net.0)"
    ]


def test_copies_of_optimizers_wait_for_nothing(slots_prefix: Path) -> None:
    checkpoint, owner, weights = build_slots(0.0)
    checkpoint.read(slots_prefix)
    copied = copy.copy(owner)
    assert np.asarray(copied.add_slot(weights[0], "m", Variable(0.0))) == 0
