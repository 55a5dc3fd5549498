"""Registered classes and checkpoint savers, between savax and TensorFlow."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf import wrappers_pb2

import savax as sx
from savax.protos import SavedModel
from savax.saved_model.experimental import register_serializable
from savax.train.experimental import register_checkpoint_saver, write_bundle

tf = pytest.importorskip("tensorflow")
registration = pytest.importorskip("tensorflow.python.saved_model.registration.registration")
pytestmark = pytest.mark.tf

if TYPE_CHECKING:
    from pathlib import Path

X = np.float32([[1, 2], [3, 4]])


class Settings:
    """What both sides' classes have: a setting, kept in a message."""

    def _serialize_to_proto(self, **_: Any) -> Any:
        return wrappers_pb2.BytesValue(value=self.setting)

    @classmethod
    def _deserialize_from_proto(cls, proto: Any, dependencies: Any, **_: Any) -> Any:
        message = wrappers_pb2.BytesValue()
        proto.Unpack(message)
        made = cls(message.value, is_new=False)
        made.given = tuple(sorted(dependencies))
        return made

    def _deserialization_dependencies(self, children: Any) -> Any:
        return {"weight": self.w}


@register_serializable("diff", "Layer")
class Ours(Settings, sx.Module):
    def __init__(self, setting: bytes, is_new: bool = True) -> None:
        super().__init__()
        self.setting = setting
        if is_new:
            self.w = sx.Variable([2.0, 3.0])

    @sx.function(input_signature=[sx.TensorSpec([None, 2], sx.float32)])
    def __call__(self, x):
        return x * self.w.value


@registration.register_serializable("diff", "Layer")
class Theirs(Settings, tf.Module):
    def __init__(self, setting: bytes, is_new: bool = True) -> None:
        super().__init__()
        self.setting = setting
        if is_new:
            self.w = tf.Variable([2.0, 3.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
    def __call__(self, x):
        return x * self.w


class OurNumber(sx.AutoTrackable):
    def __init__(self, number: int = 0) -> None:
        self.number = number


class TheirNumber(tf.__internal__.tracking.AutoTrackable):
    def __init__(self, number: int = 0) -> None:
        self.number = number


class OurHeld(OurNumber):
    """Stands for a ``TheirHeld``."""


class TheirHeld(tf.__internal__.tracking.AutoTrackable):
    """Keeps its number in a Variable, as savers in a SavedModel of TensorFlow are graphs."""

    def __init__(self, number: int = 0) -> None:
        self.number = tf.Variable(number, dtype=tf.int64)


def save_ours(trackables: Any, file_prefix: str) -> str:
    write_bundle(file_prefix, [(f"{n}/n", np.int64(o.number)) for n, o in trackables.items()])
    return file_prefix


def restore_ours(trackables: Any, merged_prefix: str) -> None:
    for name, obj in trackables.items():
        obj.number = int(sx.train.load_variable(merged_prefix, f"{name}/n"))


def save_theirs(trackables: Any, file_prefix: Any) -> Any:
    names = [f"{name}/n" for name in trackables]
    tf.raw_ops.SaveV2(
        prefix=file_prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.convert_to_tensor(obj.number, tf.int64) for obj in trackables.values()],
    )
    return file_prefix


def restore_theirs(trackables: Any, merged_prefix: Any) -> None:
    for name, obj in trackables.items():
        restored = tf.raw_ops.RestoreV2(
            prefix=merged_prefix,
            tensor_names=[f"{name}/n"],
            shape_and_slices=[""],
            dtypes=[tf.int64],
        )
        obj.number = int(restored[0])


def restore_held(trackables: Any, merged_prefix: Any) -> None:
    for name, obj in trackables.items():
        restored = tf.raw_ops.RestoreV2(
            prefix=merged_prefix,
            tensor_names=[f"{name}/n"],
            shape_and_slices=[""],
            dtypes=[tf.int64],
        )
        obj.number.assign(restored[0])


def is_ours(obj: Any) -> bool:
    return isinstance(obj, OurNumber)


def is_theirs(obj: Any) -> bool:
    return isinstance(obj, TheirNumber)


def is_our_held(obj: Any) -> bool:
    return isinstance(obj, OurHeld)


def is_their_held(obj: Any) -> bool:
    return isinstance(obj, TheirHeld)


register_checkpoint_saver("diff", "Number", is_ours, save_ours, restore_ours)
registration.register_checkpoint_saver("diff", "Number", is_theirs, save_theirs, restore_theirs)
register_checkpoint_saver("diff", "Held", is_our_held, save_ours, restore_ours)
registration.register_checkpoint_saver("diff", "Held", is_their_held, save_theirs, restore_held)
register_serializable("diff", "Number")(OurNumber)
register_serializable("diff", "Held")(OurHeld)
registration.register_serializable("diff", "Held")(TheirHeld)
registration.register_serializable("diff", "Number")(TheirNumber)


def test_the_functions_have_tensorflows_parameters() -> None:
    for ours, theirs in (
        (register_serializable, registration.register_serializable),
        (register_checkpoint_saver, registration.register_checkpoint_saver),
    ):
        expected = inspect.signature(theirs).parameters.values()
        found = inspect.signature(ours).parameters.values()
        assert [(p.name, p.default) for p in found] == [(p.name, p.default) for p in expected]


def filled(module: Any, layer: Any, number: Any) -> Any:
    module.layers = [layer(b"\x00\xff"), layer(b"")]
    module.layers[1].w.assign([5.0, 7.0])
    module.number = number(2**62)
    return module


def check(loaded: Any, layer: Any, number: Any) -> None:
    first, second = loaded.layers
    assert (type(first), type(second)) == (layer, layer)
    assert (first.setting, second.setting) == (b"\x00\xff", b"")
    assert first.given == second.given == ("weight",)
    np.testing.assert_array_equal(np.asarray(first(X)), X * [2, 3])
    np.testing.assert_array_equal(np.asarray(second(X)), X * [5, 7])
    assert type(loaded.number) is number
    assert loaded.number.number == 2**62


def test_tensorflow_loads_objects_of_registered_classes(tmp_path: Path) -> None:
    sx.saved_model.save(filled(sx.Module(), Ours, OurNumber), tmp_path / "m")
    check(tf.saved_model.load(str(tmp_path / "m")), Theirs, TheirNumber)


def test_savax_loads_objects_of_registered_classes(tmp_path: Path) -> None:
    tf.saved_model.save(filled(tf.Module(), Theirs, TheirHeld), str(tmp_path / "m"))
    loaded = sx.saved_model.load(tmp_path / "m")
    check(loaded, Ours, OurHeld)
    loaded.number = OurNumber(loaded.number.number)
    sx.saved_model.save(loaded, tmp_path / "again")
    check(tf.saved_model.load(str(tmp_path / "again")), Theirs, TheirNumber)


def test_the_object_graphs_say_the_same(tmp_path: Path) -> None:
    sx.saved_model.save(filled(sx.Module(), Ours, OurNumber), tmp_path / "ours")
    theirs = filled(tf.Module(), Theirs, TheirNumber)
    theirs.number = tf.Module()
    tf.saved_model.save(theirs, str(tmp_path / "theirs"))

    def described(directory: Path) -> list[Any]:
        model = SavedModel.FromString((directory / "saved_model.pb").read_bytes())
        nodes = model.meta_graphs[0].object_graph_def.nodes
        return [
            (
                node.registered_name,
                node.serialized_user_proto.SerializeToString(deterministic=True),
                [(d.local_name, nodes[d.node_id].WhichOneof("kind")) for d in node.dependencies],
            )
            for node in nodes
            if node.registered_name == "diff.Layer"
        ]

    assert described(tmp_path / "ours") == described(tmp_path / "theirs")


def test_objects_with_savers_are_plain_in_tensorflow_without_the_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sx.saved_model.save(filled(sx.Module(), Ours, OurNumber), tmp_path / "m")
    for registry in (registration._class_registry, registration._saver_registry):
        known = registry._registered_map.items()
        builtin = {name: item for name, item in known if not name.startswith("diff.")}
        monkeypatch.setattr(registry, "_registered_map", builtin)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_array_equal(loaded.layers[1](X), X * [5, 7])


@pytest.mark.parametrize("writer", ["savax", "tensorflow"])
def test_checkpoints_with_savers_change_hands(writer: str, tmp_path: Path) -> None:
    ours = sx.train.Checkpoint(a=OurNumber(-1), list=[OurNumber(2**62)], w=sx.Variable([1.0]))
    theirs = tf.train.Checkpoint(a=TheirNumber(-1), list=[TheirNumber(2**62)], w=tf.Variable([1.0]))
    source, target = (ours, theirs) if writer == "savax" else (theirs, ours)
    prefix = source.save(str(tmp_path / "ckpt"))
    target.a.number, target.list[0].number = 0, 0
    target.w.assign([0.0])
    target.restore(prefix).assert_consumed()
    assert (target.a.number, target.list[0].number) == (-1, 2**62)
    np.testing.assert_array_equal(np.asarray(target.w), [1.0])
    assert tf.train.list_variables(prefix) == [
        (name, list(shape)) for name, shape in sx.train.list_variables(prefix)
    ]


def test_both_refuse_an_object_that_the_predicate_refuses(tmp_path: Path) -> None:
    prefix = sx.train.Checkpoint(a=OurNumber(1)).write(tmp_path / "ckpt")
    for target in (tf.train.Checkpoint(a=tf.Module()), sx.train.Checkpoint(a=sx.Module())):
        with pytest.raises(ValueError, match=r"diff\.Number"):
            target.read(prefix)
