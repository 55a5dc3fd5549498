"""Checkpoint savers that users register: what they are called with, and what may go wrong."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax as sx
from savax.errors import InvalidArgumentError
from savax.trackable import SAVER_REGISTRY
from savax.train.experimental import (
    UnknownSaverWarning,
    register_checkpoint_saver,
    write_bundle,
)

if TYPE_CHECKING:
    from pathlib import Path

MAX = 2**63 - 1


class Counter(sx.AutoTrackable):
    """Keeps a number that no Variable holds."""

    def __init__(self, number: int = 0) -> None:
        self.number = number


class Strange(Counter):
    """One whose saver answers as the test wants."""

    answer: Any = None


class Lenient(Counter):
    is_refused = False


class Late(sx.AutoTrackable):
    """A class that gets a saver after a checkpoint was written."""

    has_saver = False
    value = np.float32(0)

    def _serialize_to_tensors(self) -> dict[str, Any]:
        return {"value": self.value}

    def _restore_from_tensors(self, restored_tensors: Any) -> None:
        self.value = restored_tensors["value"]


calls: list[Any] = []


def save(trackables: Any, file_prefix: str) -> Any:
    calls.append((sorted(trackables), os.path.basename(file_prefix)))
    prefixes = []
    for number, (name, obj) in enumerate(trackables.items()):
        prefixes.append(f"{file_prefix}-{number}")
        write_bundle(prefixes[-1], [(f"{name}/number", np.int64(obj.number))])
    return prefixes


def restore(trackables: Any, merged_prefix: str) -> None:
    reader = sx.train.load_checkpoint(merged_prefix)
    for name, obj in trackables.items():
        obj.number = int(reader.get_tensor(f"{name}/number"))


def save_strangely(trackables: Any, file_prefix: str) -> Any:
    write_bundle(file_prefix, [("w/.ATTRIBUTES/VARIABLE_VALUE", 1.0)])
    answer = next(iter(trackables.values())).answer
    return answer(file_prefix) if callable(answer) else answer


def restore_late(trackables: Any, merged_prefix: str) -> None:
    for key, obj in trackables.items():
        obj.value = sx.train.load_variable(merged_prefix, key) * 2


register_checkpoint_saver("savers", "Counter", lambda o: type(o) is Counter, save, restore)
register_checkpoint_saver(
    "savers", "Strange", lambda o: isinstance(o, Strange), save_strangely, restore
)
register_checkpoint_saver(
    *("savers", "Lenient", lambda o: isinstance(o, Lenient) and not o.is_refused),
    *(save, restore, False),
)
register_checkpoint_saver(
    "savers", "Late", lambda o: isinstance(o, Late) and o.has_saver, save, restore_late
)


@pytest.mark.parametrize("place", ["local", "remote"])
def test_savers_write_into_the_checkpoint_and_restore_from_it(place: str, tmp_path: Path) -> None:
    if place == "remote":
        pytest.importorskip("fsspec")
    directory = str(tmp_path) if place == "local" else "memory://test-registered-savers"
    calls.clear()
    child = sx.Variable(2.0)
    counter = Counter(MAX)
    counter.child = child
    saved = sx.train.Checkpoint(a=counter, list=[Counter(-1)], w=sx.Variable(1.0))
    prefix = saved.write(f"{directory}/ckpt")
    assert calls == [(["a", "list/0"], "ckpt-savers.Counter" if place == "local" else calls[0][1])]
    if place == "local":
        assert sorted(os.listdir(tmp_path)) == ["ckpt.data-00000-of-00001", "ckpt.index"]
    other = Counter()
    other.child = sx.Variable(0.0)
    into = sx.train.Checkpoint(a=other, list=[Counter()], w=sx.Variable(0.0))
    status = into.restore(prefix)
    status.assert_existing_objects_matched()
    assert (other.number, into.list[0].number, float(other.child)) == (MAX, -1, 2.0)


def test_objects_made_later_get_their_values(tmp_path: Path) -> None:
    prefix = sx.train.Checkpoint(a=Counter(7)).write(tmp_path / "ckpt")
    into = sx.train.Checkpoint()
    status = into.read(prefix)
    into.a = Counter()
    assert into.a.number == 7
    status.assert_consumed()


def test_an_object_without_values_is_missed(tmp_path: Path) -> None:
    prefix = sx.train.Checkpoint(w=sx.Variable(1.0)).write(tmp_path / "ckpt")
    status = sx.train.Checkpoint(w=sx.Variable(0.0), a=Counter()).read(prefix)
    with pytest.raises(AssertionError, match=r"root\.a"):
        status.assert_existing_objects_matched()


def test_values_of_an_asynchronous_save_are_those_of_the_call(tmp_path: Path) -> None:
    counter = Counter(1)
    gate = threading.Event()
    checkpoint = sx.train.Checkpoint(a=counter)
    options = sx.train.CheckpointOptions(experimental_write_callbacks=[gate.wait])
    future = checkpoint.write_async(tmp_path / "ckpt", options)
    counter.number = 2
    gate.set()
    prefix = future.result(60)
    checkpoint.read(prefix)
    assert counter.number == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda prefix: "elsewhere", "begin with it"),
        (lambda prefix: [prefix, 3], "begin with it"),
        (lambda prefix: 3, "begin with it"),
        (lambda prefix: f"{prefix}-other", "no checkpoint|no index|index"),
        (lambda prefix: prefix, "twice|VARIABLE_VALUE"),
        (lambda prefix: 1 / 0, "division"),
    ],
    ids=["elsewhere", "mixed", "number", "unwritten", "taken key", "raises"],
)
def test_a_saver_that_fails_leaves_the_old_checkpoint(
    answer: Any, message: str, tmp_path: Path
) -> None:
    strange = Strange()
    checkpoint = sx.train.Checkpoint(s=strange, w=sx.Variable(1.0))
    strange.answer = lambda prefix: None
    prefix = checkpoint.write(tmp_path / "ckpt")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    strange.answer = answer
    with pytest.raises((ValueError, OSError, ZeroDivisionError), match=message):
        checkpoint.write(prefix)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_strict_savers_refuse_other_objects_and_lenient_ones_skip_them(tmp_path: Path) -> None:
    prefix = sx.train.Checkpoint(a=Counter(3)).write(tmp_path / "strict")
    with pytest.raises(InvalidArgumentError, match=r"savers\.Counter"):
        sx.train.Checkpoint(a=sx.Module()).read(prefix)
    lenient = Lenient(3)
    checkpoint = sx.train.Checkpoint(a=lenient)
    prefix = checkpoint.write(tmp_path / "lenient")
    lenient.number = 0
    lenient.is_refused = True
    checkpoint.read(prefix)
    assert lenient.number == 0


def test_a_checkpoint_of_an_unknown_saver_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = sx.train.Checkpoint(a=Counter(3), w=sx.Variable(1.0))
    prefix = checkpoint.write(tmp_path / "ckpt")
    checkpoint.w.assign(0.0)
    checkpoint.a.number = 0
    monkeypatch.setattr(SAVER_REGISTRY, "_items", {})
    with pytest.warns(UnknownSaverWarning, match=r"savers\.Counter"):
        checkpoint.read(prefix)
    assert (float(checkpoint.w), checkpoint.a.number) == (1.0, 0)


def test_a_class_that_got_a_saver_later_restores_old_checkpoints(tmp_path: Path) -> None:
    late = Late()
    late.value = np.float32(4)
    checkpoint = sx.train.Checkpoint(late=late)
    prefix = checkpoint.write(tmp_path / "ckpt")
    late.has_saver = True
    checkpoint.read(prefix).assert_consumed()
    assert late.value == 8
