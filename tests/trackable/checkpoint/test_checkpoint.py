"""Checkpoint: what is written, what is restored, and what is said about the rest."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from savax.errors import (
    CorruptBundleError,
    DTypeMismatchError,
    IncompleteRestoreError,
    InvalidArgumentError,
    NotFoundError,
    ShapeMismatchError,
    TrackingError,
    UnsupportedError,
    UnsupportedOptionError,
)
from savax.trackable import (
    AutoTrackable,
    Module,
    SlotOwner,
    Trackable,
    TrackedState,
    Variable,
    frame_scope,
)
from savax.trackable.bundle import BundleReader, write_bundle
from savax.trackable.checkpoint import (
    Checkpoint,
    CheckpointOptions,
    latest_checkpoint,
    list_variables,
    load_checkpoint,
    load_variable,
)

if TYPE_CHECKING:
    from pathlib import Path

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
VALUES: dict[str, Any] = {
    "float32": np.float32([[1, 2], [3, 4]]),
    "float64": np.float64(1 / 3),
    "int64": np.array([2**53 + 1, -1]),
    "bool": np.array([True, False]),
    "bfloat16": np.array([1.5, -2], ml_dtypes.bfloat16),
    "complex64": np.complex64([1 + 2j]),
    "int4": np.array([1, -2, 7], ml_dtypes.int4),
    "float8": np.array([0.5], ml_dtypes.float8_e4m3fn),
    "string": np.array([b"a", "ä".encode(), b"\x00"], object),
    "empty": np.zeros((0, 3), np.float32),
}


def model(fill: float = 0.0) -> Module:
    root = Module()
    root.w = Variable(np.full((2, 3), fill, np.float32), name="w")
    root.layers = [Module(), {"b": Variable(fill)}]
    root.layers[0].up = root
    root.pair = (root.w, Variable([int(fill)]))
    return root


def variables(root: Module) -> list[Any]:
    return [root.w, root.layers[1]["b"], root.pair[1]]


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back_bit_by_bit(tmp_path: Path, name: str) -> None:
    value = VALUES[name]
    Checkpoint(v=Variable(value)).write(tmp_path / "c")
    blank = np.full_like(value, b"") if name == "string" else np.zeros_like(value)
    restored = Variable(blank)
    Checkpoint(v=restored).read(tmp_path / "c").assert_consumed()
    assert restored.numpy().dtype == value.dtype
    assert restored.numpy().tolist() == value.tolist()


def test_keys_are_the_first_paths_and_the_object_graph_is_there(tmp_path: Path) -> None:
    prefix = Checkpoint(model()).write(tmp_path / "new" / "dir" / "c")
    assert [key for key, _ in list_variables(prefix)] == [
        "_CHECKPOINTABLE_OBJECT_GRAPH",
        "layers/1/b" + VALUE,
        "pair/1" + VALUE,
        "w" + VALUE,
    ]


def test_save_counts_and_names_the_latest(tmp_path: Path) -> None:
    root = model(1.0)
    checkpoint = Checkpoint(root)
    assert checkpoint.save(tmp_path / "ckpt") == str(tmp_path / "ckpt-1")
    root.w.assign(root.w + 1)
    assert checkpoint.save(tmp_path / "ckpt") == str(tmp_path / "ckpt-2")
    assert (tmp_path / "checkpoint").read_text() == (
        'model_checkpoint_path: "ckpt-2"\nall_model_checkpoint_paths: "ckpt-2"\n'
    )
    assert latest_checkpoint(tmp_path) == str(tmp_path / "ckpt-2")
    other = Checkpoint(model())
    other.restore(latest_checkpoint(tmp_path)).assert_consumed()
    assert other.save_counter == 2
    assert other.save_counter.dtype == "int64"
    assert float(other.root.w[0, 0]) == 2
    assert other.save(tmp_path / "ckpt") == str(tmp_path / "ckpt-3")


def test_relative_prefixes_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Checkpoint(v=Variable(1)).save("ckpt") == "ckpt-1"
    assert latest_checkpoint(".") == os.path.join(".", "ckpt-1")
    assert Checkpoint(v=Variable(1)).save("sub/ckpt") == "sub/ckpt-1"
    assert latest_checkpoint("sub") == "sub/ckpt-1"
    Checkpoint(v=Variable(0)).restore("sub").assert_consumed()


def test_write_neither_counts_nor_names(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=Variable(1))
    checkpoint.write(tmp_path / "c")
    assert not (tmp_path / "checkpoint").exists()
    assert not load_checkpoint(tmp_path / "c").has_tensor("save_counter" + VALUE)


@pytest.mark.parametrize("path", ["c-1", "c-1.index", "."])
def test_a_checkpoint_has_several_names(tmp_path: Path, path: str) -> None:
    Checkpoint(v=Variable(7)).save(tmp_path / "c")
    restored = Variable(0)
    Checkpoint(v=restored).restore(tmp_path / path).assert_consumed()
    assert restored == 7


def test_a_saved_models_directory_is_a_checkpoint(tmp_path: Path) -> None:
    Checkpoint(model(3.0)).write(tmp_path / "variables" / "variables")
    (tmp_path / "saved_model.pb").touch()
    root = model()
    Checkpoint(root).restore(tmp_path).assert_existing_objects_matched().assert_consumed()
    assert float(root.w[0, 0]) == 3


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ckpt-2", "ckpt-1"),
        ("missing/c", "doesn't exist"),
        ("empty", "state file"),
        ("model", "Variables"),
    ],
)
def test_missing_checkpoints_say_what_is_there(tmp_path: Path, path: str, text: str) -> None:
    Checkpoint(v=Variable(1)).save(tmp_path / "ckpt")
    (tmp_path / "empty").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").touch()
    with pytest.raises(NotFoundError, match=text):
        Checkpoint(v=Variable(1)).restore(tmp_path / path)


def test_restoring_none_restores_nothing() -> None:
    status = Checkpoint(v=Variable(1)).restore(None)
    assert status.expect_partial() is status
    for check in (
        status.assert_consumed,
        status.assert_existing_objects_matched,
        status.assert_nontrivial_match,
    ):
        with pytest.raises(AssertionError, match="None"):
            check()


def test_all_mismatches_are_listed_and_nothing_is_assigned(tmp_path: Path) -> None:
    Checkpoint(model(1.0)).write(tmp_path / "c")
    root = model()
    root.w = Variable(np.zeros((3, 3), np.float32))
    root.layers[1]["b"] = Variable(0)
    with pytest.raises(ShapeMismatchError) as caught:
        Checkpoint(root).restore(tmp_path / "c")
    text = str(caught.value)
    assert "root.w: expected shape (3, 3), found (2, 3) under 'w" in text
    assert "root.layers.1.b: expected dtype int32, found float32 under 'layers/1/b" in text
    assert root.pair[1].numpy().tolist() == [0]


def test_dtypes_alone_are_a_dtype_error(tmp_path: Path) -> None:
    Checkpoint(v=Variable(1.0)).write(tmp_path / "c")
    with pytest.raises(DTypeMismatchError):
        Checkpoint(v=Variable(1)).restore(tmp_path / "c")


def test_damage_is_noticed_before_anything_is_assigned(tmp_path: Path) -> None:
    source = Checkpoint(a=Variable([1.0, 2.0]), b=Variable([3.0, 4.0]))
    source.write(tmp_path / "c")
    data = tmp_path / "c.data-00000-of-00001"
    damaged = bytearray(data.read_bytes())
    damaged[12] ^= 1
    data.write_bytes(damaged)
    a, b = Variable([0.0, 0.0]), Variable([0.0, 0.0])
    with pytest.raises(CorruptBundleError):
        Checkpoint(a=a, b=b).restore(tmp_path / "c")
    assert a.numpy().tolist() == b.numpy().tolist() == [0, 0]


def test_variables_with_open_shapes_take_any_size(tmp_path: Path) -> None:
    Checkpoint(v=Variable(np.ones((4, 2)))).write(tmp_path / "c")
    restored = Variable(np.zeros((1, 2)), shape=[None, 2])
    Checkpoint(v=restored).restore(tmp_path / "c").assert_consumed()
    assert restored.numpy().shape == (4, 2)


def test_leftovers_on_both_sides_are_listed_with_paths(tmp_path: Path) -> None:
    Checkpoint(a=Variable(1), m=model()).write(tmp_path / "c")
    status = Checkpoint(a=Variable(1), other=[Variable(2)]).restore(tmp_path / "c")
    assert status.assert_nontrivial_match() is status
    with pytest.raises(IncompleteRestoreError) as caught:
        status.assert_consumed()
    text = str(caught.value)
    assert "root.m.w in the checkpoint, under 'm/w/.ATTRIBUTES" in text
    assert "root.m.layers.1.b in the checkpoint" in text
    assert "root.other.0 (Variable) isn't in the checkpoint" in text
    with pytest.raises(AssertionError) as caught_existing:
        status.assert_existing_objects_matched()
    assert "root.m.w" not in str(caught_existing.value)


def test_nothing_in_common_is_not_a_match(tmp_path: Path) -> None:
    Checkpoint(a=Variable(1)).write(tmp_path / "c")
    status = Checkpoint(b=Variable(1)).restore(tmp_path / "c")
    with pytest.raises(IncompleteRestoreError, match=r"\['a'\].*\['b'"):
        status.assert_nontrivial_match()


def test_modules_without_values_need_no_match(tmp_path: Path) -> None:
    Checkpoint(v=Variable(1)).write(tmp_path / "c")
    Checkpoint(v=Variable(0), extra=Module(), list=[1, 2]).read(tmp_path / "c").assert_consumed()


def test_values_wait_for_attributes_that_are_assigned_later(tmp_path: Path) -> None:
    source = model(5.0)
    Checkpoint(m=source, opt=TrackedState({"mu": np.ones(2)})).save(tmp_path / "c")
    checkpoint = Checkpoint()
    status = checkpoint.restore(tmp_path)
    with pytest.raises(AssertionError):
        status.assert_consumed()
    checkpoint.m = Module()
    checkpoint.m.layers = [Module()]
    late = {"b": Variable(0.0)}
    checkpoint.m.layers.append({})
    checkpoint.m.layers[1].update(late)
    checkpoint.m.w = Variable(np.zeros((2, 3), np.float32))
    checkpoint.m.pair = (checkpoint.m.w, Variable([0]))
    checkpoint.opt = TrackedState({"mu": np.zeros(2)})
    assert [float(np.max(v)) for v in variables(checkpoint.m)] == [5, 5, 5]
    assert checkpoint.opt.value["mu"].tolist() == [1, 1]
    status.assert_consumed()


def test_a_later_restore_wins_over_values_that_wait(tmp_path: Path) -> None:
    for number in (1, 2):
        Checkpoint(v=Variable(number)).write(tmp_path / f"c{number}")
    checkpoint = Checkpoint()
    checkpoint.restore(tmp_path / "c1")
    checkpoint.restore(tmp_path / "c2")
    checkpoint.v = Variable(0)
    assert checkpoint.v == 2
    checkpoint.v = Variable(0)
    assert checkpoint.v == 0


def test_waiting_values_survive_the_checkpoint_being_overwritten(tmp_path: Path) -> None:
    Checkpoint(v=Variable(1)).write(tmp_path / "c")
    checkpoint = Checkpoint()
    checkpoint.restore(tmp_path / "c")
    Checkpoint(w=Variable("different")).write(tmp_path / "c")
    checkpoint.v = Variable(0)
    assert checkpoint.v == 1


def test_a_waiting_value_must_fit(tmp_path: Path) -> None:
    Checkpoint(m=model(1.0)).write(tmp_path / "c")
    checkpoint = Checkpoint(m=Module())
    checkpoint.restore(tmp_path / "c")
    with pytest.raises(ShapeMismatchError, match=r"root\.m\.w: expected shape \(\)"):
        checkpoint.m.w = Variable(1.0)


def test_objects_that_share_what_the_checkpoint_does_not(tmp_path: Path) -> None:
    Checkpoint(a=Variable(1), b=Variable(2)).write(tmp_path / "c")
    shared = Variable(0)
    status = Checkpoint(a=shared, b=shared).read(tmp_path / "c")
    assert shared == 1
    with pytest.raises(IncompleteRestoreError, match=r"root\.b"):
        status.assert_consumed()


def test_objects_that_do_not_share_what_the_checkpoint_does(tmp_path: Path) -> None:
    shared = Variable(3)
    Checkpoint(a=shared, b=shared).write(tmp_path / "c")
    a, b = Variable(0), Variable(0)
    Checkpoint(a=a, b=b).read(tmp_path / "c").assert_consumed()
    assert (int(a), int(b)) == (3, 3)


def test_slot_variables_are_restored_through_optimizer_and_variable(tmp_path: Path) -> None:
    def build(value: float) -> tuple[Checkpoint, Any]:
        optimizer, weight = SlotOwner(), Variable(value)
        slot = optimizer.add_slot(weight, "m", Variable(value + 1))
        return Checkpoint(net=weight, opt=optimizer), slot

    source, _ = build(1.0)
    source.write(tmp_path / "c")
    assert load_variable(tmp_path / "c", "net/.OPTIMIZER_SLOT/opt/m" + VALUE) == 2
    target, slot = build(0.0)
    target.read(tmp_path / "c").assert_consumed()
    assert slot == 2
    options = CheckpointOptions(experimental_skip_slot_variables=True)
    target, slot = build(0.0)
    status = target.read(tmp_path / "c", options)
    status.assert_consumed()
    assert (float(target.net), float(slot)) == (1, 1)
    source.write(tmp_path / "written", options)
    assert len(list_variables(tmp_path / "written")) == 3


class Counter(Trackable):
    """State of its own, under two names."""

    def __init__(self, low: int = 0, high: int = 0) -> None:
        self.low, self.high = low, high

    def _serialize_to_tensors(self) -> dict[str, Any]:
        return {"low/er": np.int64(self.low), "high": np.int64(self.high)}

    def _restore_from_tensors(self, restored_tensors: Any) -> None:
        self.low, self.high = int(restored_tensors["low/er"]), int(restored_tensors["high"])


class Fewer(Counter):
    """Knows only one of the two names."""

    def _serialize_to_tensors(self) -> dict[str, Any]:
        return {"high": np.int64(self.high)}

    def _restore_from_tensors(self, restored_tensors: Any) -> None:
        self.high = int(restored_tensors["high"])


def test_trackables_may_have_tensors_of_their_own(tmp_path: Path) -> None:
    Checkpoint(c=Counter(3, 4)).write(tmp_path / "c")
    assert load_variable(tmp_path / "c", "c/.ATTRIBUTES/low.Ser") == 3
    counter, fewer = Counter(), Fewer()
    Checkpoint(c=counter).read(tmp_path / "c").assert_consumed()
    assert (counter.low, counter.high) == (3, 4)
    status = Checkpoint(c=fewer).read(tmp_path / "c").assert_existing_objects_matched()
    assert fewer.high == 4
    with pytest.raises(IncompleteRestoreError, match="low"):
        status.assert_consumed()


@pytest.mark.parametrize("kwargs", [{"a": 1}, {"a": {1, 2}}, {"a": (1, 2)}, {"root": 5}])
def test_only_trackables_are_checkpointed(kwargs: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Checkpoint(**kwargs)


def test_an_argument_may_not_hide_a_child_of_the_root() -> None:
    root = model()
    Checkpoint(root, w=root.w)
    with pytest.raises(InvalidArgumentError, match="'w'"):
        Checkpoint(root, w=Variable(1))


def test_a_failed_save_does_not_count(tmp_path: Path) -> None:
    root = AutoTrackable()
    root.l = [Variable(1)]
    checkpoint = Checkpoint(root)
    checkpoint.save(tmp_path / "c")
    root.l.pop()
    with pytest.raises(TrackingError, match=r"root\.l"):
        checkpoint.save(tmp_path / "c")
    assert checkpoint.save_counter == 1
    assert latest_checkpoint(tmp_path) == str(tmp_path / "c-1")


def test_checkpoints_of_names_alone_are_refused_with_advice(tmp_path: Path) -> None:
    write_bundle(tmp_path / "c", [("dense/kernel", np.ones(2))])
    with pytest.raises(UnsupportedError, match="load_checkpoint"):
        Checkpoint(v=Variable(1)).restore(tmp_path / "c")


def test_options_that_would_be_ignored_are_refused() -> None:
    with pytest.raises(UnsupportedOptionError, match="experimental_io_device"):
        CheckpointOptions(experimental_io_device="/job:worker")


def test_checkpoints_are_not_touched_while_tracing(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=Variable(1))
    prefix = checkpoint.save(tmp_path / "c")
    with frame_scope(object()):  # type: ignore[arg-type]
        for call in (
            lambda: checkpoint.save(tmp_path / "c"),
            lambda: checkpoint.write(tmp_path / "c"),
            lambda: checkpoint.restore(prefix),
            lambda: checkpoint.read(prefix),
        ):
            with pytest.raises(UnsupportedError, match="traced"):
                call()


def test_object_graph_is_the_last_tensor_of_the_data(tmp_path: Path) -> None:
    Checkpoint(b=Variable([1.0]), a=Variable([2.0])).write(tmp_path / "c")
    data = (tmp_path / "c.data-00000-of-00001").read_bytes()
    assert data[:8] == np.float32([2, 1]).tobytes()
    with BundleReader(tmp_path / "c") as reader:
        assert data.endswith(reader.read("_CHECKPOINTABLE_OBJECT_GRAPH").item())


@st.composite
def object_graphs(draw: st.DrawFn) -> list[tuple[int, str, int]]:
    """Edges between up to 8 objects, of which the last four are Variables."""
    names = st.text(alphabet="ab./ä", min_size=1, max_size=3)
    edge = st.tuples(st.integers(0, 3), names, st.integers(0, 7))
    return draw(st.lists(edge, max_size=12))


def build(edges: list[tuple[int, str, int]], value: float) -> list[Trackable]:
    objects: list[Trackable] = [AutoTrackable() for _ in range(4)]
    objects += [Variable(value + index) for index in range(4)]
    for parent, name, child in edges:
        objects[parent]._track(objects[child], name, overwrite=True)
    return objects


@given(edges=object_graphs())
def test_any_graph_is_restored_completely(tmp_path: Path, edges: Any) -> None:
    source, target = build(edges, 10.0), build(edges, 0.0)
    Checkpoint(source[0]).write(tmp_path / "c")
    Checkpoint(target[0]).read(tmp_path / "c").assert_consumed()
    keys = [key for key, _ in list_variables(tmp_path / "c")]
    changed = [i for i in range(4) if float(target[4 + i]) == 10.0 + i]  # type: ignore[arg-type]
    assert len(changed) == len(keys) - 1
