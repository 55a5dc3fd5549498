"""Classes that users register: their objects come back from SavedModels as what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf import struct_pb2, wrappers_pb2

import savax as sx
from savax.errors import (
    CorruptSavedModelError,
    CyclicDependencyError,
    InvalidArgumentError,
    NotEncodableError,
    TrackingError,
    UnsupportedError,
)
from savax.protos import SavedModel
from savax.saved_model import load, save
from savax.saved_model.experimental import register_serializable
from savax.trackable import CLASS_REGISTRY, SlotOwner
from savax.train.experimental import register_checkpoint_saver, write_bundle

if TYPE_CHECKING:
    from pathlib import Path


@register_serializable("classes")
class Scaled(sx.Module):
    """A layer with a setting that isn't a tensor."""

    def __init__(self, label: str = "", is_new: bool = True) -> None:
        super().__init__()
        self.label = label
        if is_new:
            self.w = sx.Variable(np.float32([2, 3]))

    def _serialize_to_proto(self, **_: Any) -> Any:
        return wrappers_pb2.StringValue(value=self.label)

    @classmethod
    def _deserialize_from_proto(cls, proto: Any, **_: Any) -> Any:
        message = wrappers_pb2.StringValue()
        assert proto.Unpack(message)
        return cls(message.value, is_new=False)

    @sx.function(input_signature=[sx.TensorSpec([None, 2], sx.float32)])
    def __call__(self, x):
        return x * self.w.value


class Derived(Scaled):
    """Has no registration of its own."""


@register_serializable("classes", name="Any-Thing")
class Thing(sx.AutoTrackable):
    """What tests make it."""

    made_of: Any = None
    needs: Any = ()
    message: Any = None

    def _serialize_to_proto(self, **_: Any) -> Any:
        return self.message

    def _deserialization_dependencies(self, children: Any) -> Any:
        return self.needs(self, children) if callable(self.needs) else dict(self.needs)

    @classmethod
    def _deserialize_from_proto(cls, **kwargs: Any) -> Any:
        made = cls()
        object.__setattr__(made, "made_of", kwargs)
        return made


@register_serializable("classes")
class Holder(sx.Trackable):
    """Keeps numbers that checkpoints hold, and children in a dict."""

    def __init__(self, values: Any = 0) -> None:
        self.values = np.asarray(values, np.int64)

    def _serialize_to_tensors(self) -> Any:
        return {"values": self.values}

    def _restore_from_tensors(self, restored_tensors: Any) -> None:
        self.values = restored_tensors["values"]


class Counted(Holder):
    pass


register_serializable("classes")(Counted)


def save_holder(trackables: Any, file_prefix: str) -> str:
    write_bundle(file_prefix, [(f"{name}/own", obj.values) for name, obj in trackables.items()])
    return file_prefix


def restore_holder(trackables: Any, merged_prefix: str) -> None:
    for name, obj in trackables.items():
        obj.values = sx.train.load_variable(merged_prefix, f"{name}/own")


register_checkpoint_saver(
    "classes", "Counted", lambda o: isinstance(o, Counted), save_holder, restore_holder
)


class Special(sx.Variable):
    """A Variable that a saver is registered for."""


register_checkpoint_saver(
    "classes", "Special", lambda o: isinstance(o, Special), save_holder, restore_holder
)


@register_serializable("classes")
class Counter(sx.Variable):
    """A Variable of a registered class, which functions capture."""

    @classmethod
    def _deserialize_from_proto(cls, object_proto: Any, **_: Any) -> Any:
        saved = object_proto.variable
        return cls(np.zeros([dim.size for dim in saved.shape.dim], np.float32), name=saved.name)


@register_serializable("classes")
class Optimizer(SlotOwner, sx.AutoTrackable):
    """Has slot variables."""


X = np.float32([[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_objects_are_of_their_class_again(batch: int, tmp_path: Path) -> None:
    root = sx.Module()
    root.layers = [Scaled("größer \x00"), Derived("b")]
    root.layers[1].w.assign([5.0, 7.0])
    save(root, tmp_path / "m")
    loaded = load(tmp_path / "m")
    first, second = loaded.layers
    assert [type(first), type(second)] == [Scaled, Scaled]
    assert [first.label, second.label] == ["größer \x00", "b"]
    np.testing.assert_array_equal(first(X[:batch]), X[:batch] * [2, 3])
    np.testing.assert_array_equal(second(X[:batch]), X[:batch] * [5, 7])
    first.w.assign([1.0, 1.0])
    np.testing.assert_array_equal(first(X[:batch]), X[:batch])


def test_a_root_can_be_of_a_registered_class_and_be_saved_again(tmp_path: Path) -> None:
    save(Scaled("root"), tmp_path / "a")
    loaded = load(tmp_path / "a")
    assert isinstance(loaded, Scaled)
    assert list(loaded.signatures) == ["serving_default"]
    loaded.label = "again"
    save(loaded, tmp_path / "b")
    again = load(tmp_path / "b")
    assert again.label == "again"
    assert again.tensorflow_version == ""
    out = again.signatures["serving_default"](X)
    np.testing.assert_array_equal(out["output_0"], X * [2, 3])


def test_without_the_registration_objects_are_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(Scaled("root"), tmp_path / "m")
    monkeypatch.setattr(CLASS_REGISTRY, "_items", {})
    loaded = load(tmp_path / "m")
    assert not isinstance(loaded, Scaled)
    np.testing.assert_array_equal(loaded(X), X * [2, 3])


def test_dependencies_are_loaded_first_and_given_by_name(tmp_path: Path) -> None:
    root = sx.Module()
    a, b = Thing(), Thing()
    root.first = a  # its node comes before those that it needs
    root.other = b
    root.w = sx.Variable(1.0)
    a.needs = {"b": b, "v": root.w}

    @sx.function(input_signature=[sx.TensorSpec([], sx.float32)])
    def double(x):
        return 2 * x * root.w.value

    root.double = double
    b.needs = {"call": double}
    save(root, tmp_path / "m")
    loaded = load(tmp_path / "m")
    given = loaded.first.made_of["dependencies"]
    assert given.keys() == {"b", "v"}
    assert given["b"] is loaded.other
    assert given["v"] is loaded.w
    assert loaded.other.made_of["dependencies"]["call"] is loaded.double
    assert float(loaded.double(np.float32(3))) == 6


def test_a_class_is_told_about_the_model(tmp_path: Path) -> None:
    root = sx.Module()
    (tmp_path / "words.txt").write_text("a")
    root.file = sx.saved_model.Asset(tmp_path / "words.txt")
    root.thing = Thing()
    root.thing.message = struct_pb2.ListValue()
    root.thing.message.extend([1.5, "ä"])
    save(root, tmp_path / "m")
    told = load(tmp_path / "m").thing.made_of
    assert told["export_dir"] == str(tmp_path / "m")
    assert [file.filename for file in told["asset_file_def"]] == ["words.txt"]
    assert told["object_proto"].registered_name == "classes.Any-Thing"
    assert told["operation_attributes"]["saver_filename"]["dtype"].type == 7
    assert told["proto"].Is(struct_pb2.ListValue.DESCRIPTOR)
    message = struct_pb2.ListValue()
    told["proto"].Unpack(message)
    assert list(message) == [1.5, "ä"]


def test_tensors_of_a_class_come_back(tmp_path: Path) -> None:
    root = sx.Module()
    root.holder, root.counted = Holder([1, 2**62]), Counted([3])
    root.empty = Holder([])
    save(root, tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert loaded.holder.values.tolist() == [1, 2**62]
    assert loaded.empty.values.tolist() == []
    assert loaded.counted.values.tolist() == [3]
    files = sorted(path.name for path in (tmp_path / "m" / "variables").iterdir())
    assert files == ["variables.data-00000-of-00001", "variables.index"]
    assert not [path for path in (tmp_path / "m").iterdir() if path.name.startswith("tmp")]


def test_variables_and_optimizers_can_be_of_registered_classes(tmp_path: Path) -> None:
    root = sx.Module()
    root.v, root.optimizer = Counter(np.float32([1, 2]), name="own"), Optimizer()
    root.optimizer.add_slot(root.v, "m", sx.Variable(np.float32([5, 6])))

    @sx.function(input_signature=[sx.TensorSpec([2], sx.float32)])
    def add(x):
        return x + root.v.value

    root.add = add
    save(root, tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert (type(loaded.v), type(loaded.optimizer)) == (Counter, Optimizer)
    assert loaded.v.name == "own"
    assert loaded.optimizer.get_slot(loaded.v, "m").numpy().tolist() == [5, 6]
    loaded.v.assign([3, 4])
    assert np.asarray(loaded.add(X[0])).tolist() == [4, 6]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"message": "text"}, NotEncodableError, r"root\.a: .*message or None, not a str"),
        ({"needs": {"x": 3}}, InvalidArgumentError, "'x' is a int"),
        ({"needs": {"x": sx.Variable(1.0)}}, TrackingError, "isn't part of the model"),
        ({"needs": lambda self, _: {"self": self}}, CyclicDependencyError, r"root\.a \(node 1\)"),
    ],
    ids=["no message", "no trackable", "not saved", "circle"],
)
def test_classes_that_cannot_be_saved_are_refused(
    change: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    root = sx.Module()
    root.a = Thing()
    for name, value in change.items():
        object.__setattr__(root.a, name, value)
    with pytest.raises(error, match=message):
        save(root, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_variable_with_a_saver_is_refused(tmp_path: Path) -> None:
    root = sx.Module()
    root.w = Special(1.0)
    with pytest.raises(UnsupportedError, match=r"root\.w"):
        save(root, tmp_path / "m")


def edited(directory: Path, edit: Any) -> None:
    path = directory / "saved_model.pb"
    model = SavedModel.FromString(path.read_bytes())
    edit(model.meta_graphs[0].object_graph_def)
    path.write_bytes(model.SerializeToString())
    (directory / "fingerprint.pb").unlink()


def depend_in_a_circle(proto: Any) -> None:
    proto.nodes[1].dependencies.add(node_id=2, local_name="x")
    proto.nodes[2].dependencies.add(node_id=1, local_name="x")


def depend_on_signatures(proto: Any) -> None:
    kinds = [node.user_object.identifier for node in proto.nodes]
    proto.nodes[1].dependencies.add(node_id=kinds.index("signature_map"), local_name="x")


@pytest.mark.parametrize(
    "edit",
    [
        depend_in_a_circle,
        lambda proto: proto.nodes[1].dependencies.add(node_id=10**9, local_name="x"),
        lambda proto: proto.nodes[1].dependencies.add(node_id=-1, local_name="x"),
        depend_on_signatures,
    ],
    ids=["circle", "beyond", "negative", "signatures"],
)
def test_dependencies_that_cannot_be_are_refused(edit: Any, tmp_path: Path) -> None:
    root = sx.Module()
    root.a, root.b = Thing(), Thing()
    save(root, tmp_path / "m")
    edited(tmp_path / "m", edit)
    with pytest.raises(CorruptSavedModelError):
        load(tmp_path / "m")


@register_serializable("classes")
class Wrong(sx.Module):
    answer: Any = 3

    @classmethod
    def _deserialize_from_proto(cls, **_: Any) -> Any:
        return cls.answer

    def _add_trackable_child(self, name: str, value: Any) -> None:
        raise KeyError(name)


def test_classes_that_fail_at_loading_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = sx.Module()
    root.wrong = Wrong()
    root.wrong.child = sx.Module()
    save(root, tmp_path / "m")
    with pytest.raises(InvalidArgumentError, match=r"'classes\.Wrong', must return a Trackable"):
        load(tmp_path / "m")
    monkeypatch.setattr(Wrong, "answer", Wrong())
    with pytest.raises(KeyError) as caught:
        load(tmp_path / "m")
    assert "classes.Wrong" in caught.value.__notes__[0]
