"""Options of saving and loading: what they do to the files, against TensorFlow."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import savax as sv
from savax.errors import InvalidArgumentError, UnsupportedOptionError
from savax.protos import SavedModel, parse, parse_text
from savax.saved_model import LoadOptions, SaveOptions, load, save
from savax.saved_model._graph_edits import check_namespaces, strip_debug_nodes
from savax.saved_model.experimental import VariablePolicy, read_fingerprint

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

C_API = Path(__file__).parents[2] / "tensorflow_c_api.py"
X = np.float32([[1, 2], [3, 4], [5, 6]])


class Model(sv.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = sv.Variable([[1.0, 2.0], [3.0, 4.0]], name="w")
        self.words = sv.Variable(["ä", "\x00\xff"], name="words")
        self.table = np.float32([0.1, np.inf])

    @sv.function(input_signature=[sv.TensorSpec([None, 2], name="x")])
    def __call__(self, x):
        return {"y": x @ self.w.value + self.table}


class Checked(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable([1.0, 2.0], name="w")

    @tf.function(input_signature=[tf.TensorSpec([2], tf.float32, name="x")])
    def __call__(self, x):
        tf.debugging.Assert(tf.reduce_all(x > 0), [x, self.w])
        tf.print("x is", x)
        y = tf.debugging.check_numerics(x * self.w, "bad")
        with tf.control_dependencies([tf.raw_ops.Print(input=y, data=[x, y])]):
            return tf.raw_ops.Print(input=y, data=[x, y]) + 1


def meta_graph(directory: Path) -> Any:
    return parse(SavedModel, (directory / "saved_model.pb").read_bytes(), "").meta_graphs[0]


def c_api(directory: Path, tmp_path: Path) -> Any:
    np.savez(tmp_path / "in.npz", x=X)
    command = [sys.executable, C_API, directory, tmp_path / "in.npz", tmp_path / "out.npz"]
    subprocess.run(command, check=True, capture_output=True)
    return np.load(tmp_path / "out.npz")["y"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SaveOptions, tf.saved_model.SaveOptions),
        (LoadOptions, tf.saved_model.LoadOptions),
        (sv.train.CheckpointOptions, tf.train.CheckpointOptions),
    ],
    ids=["save", "load", "checkpoint"],
)
def test_fields_are_tensorflows(ours: Any, theirs: Any) -> None:
    expected = list(inspect.signature(theirs.__init__).parameters.values())[1:]
    assert {p.name for p in expected} == set(theirs.__slots__)
    found = list(inspect.signature(ours).parameters.values())
    assert [(p.name, p.default) for p in found[: len(expected)]] == [
        (p.name, p.default) for p in expected
    ]


DEVICES = """/job:localhost|/job:local|localhost|/job:localhost/replica:0|/replica:0|/task:0
/replica:1|/task:1|/cpu:0|/CPU:0|CPU:0|cpu|/cpu|/device:CPU:0|device:CPU:0|/device:CPU|/device:CPU:*|/CPU:*
/device:CPU:1|/job:localhost/replica:0/task:0/device:CPU:0|/job:worker|/job:worker/task:1|/GPU:0
/device:GPU:0|nonsense|/|/job:|/job:*|/task:*|job:localhost|/cpu:0/job:localhost| /cpu:0|/cpu:0 """


def test_devices_of_this_host_are_those_that_tensorflow_takes(tmp_path: Path) -> None:
    checkpoint = tf.train.Checkpoint(w=tf.Variable(1.0))

    def theirs(device: str) -> bool:
        try:
            options = tf.train.CheckpointOptions(experimental_io_device=device)
            checkpoint.write(str(tmp_path / "ckpt"), options)
        except (ValueError, tf.errors.InvalidArgumentError):
            return False
        return True

    def ours(device: str) -> bool:
        try:
            sv.train.CheckpointOptions(experimental_io_device=device)
        except (InvalidArgumentError, UnsupportedOptionError):
            return False
        return True

    devices = ["", *DEVICES.replace("\n", "|").split("|")]
    taken = {device: theirs(device) for device in devices}
    assert {device: ours(device) for device in devices} == taken
    assert len(set(taken.values())) == 2


class TwoFunctions(sv.Module):
    @sv.function(input_signature=[sv.TensorSpec([], sv.float32)])
    def one(self, x):
        return x + 1

    @sv.function
    def many(self, x):
        return x * 2


def test_aliases_are_loaded_and_saved_again_as_by_tensorflow(tmp_path: Path) -> None:
    model = TwoFunctions()
    traces = [
        model.many.get_concrete_function(sv.TensorSpec(shape, sv.float32)) for shape in ([], [2])
    ]
    aliases = {"one": model.one, "many": model.many}
    save(model, tmp_path / "ours", options=SaveOptions(function_aliases=aliases))
    save(model, tmp_path / "part", options=SaveOptions(function_aliases={"part": traces[:1]}))
    for name in ("ours", "part"):
        theirs = tf.saved_model.load(
            str(tmp_path / name),
            options=tf.saved_model.LoadOptions(experimental_load_function_aliases=True),
        )
        options = LoadOptions(experimental_load_function_aliases=True)
        ours = load(tmp_path / name, options=options)
        kinds = {alias: isinstance(f, list) for alias, f in ours.function_aliases.items()}
        assert kinds == {a: isinstance(f, list) for a, f in theirs.function_aliases.items()}
        again = SaveOptions(function_aliases=ours.function_aliases)
        save(ours, tmp_path / "again", options=again)
        assert (
            meta_graph(tmp_path / "again").meta_info_def.function_aliases
            == meta_graph(tmp_path / name).meta_info_def.function_aliases
        )
    assert [len(load(tmp_path / "part", options=options).function_aliases["part"])] == [1]


def test_text_form(tmp_path) -> None:
    model = Model()
    want = np.asarray(model(X)["y"])
    save(model, tmp_path / "binary")
    save(model, tmp_path / "text", options=SaveOptions(as_text=True))
    names = sorted(path.name for path in (tmp_path / "text").iterdir())
    assert names == ["assets", "fingerprint.pb", "saved_model.pbtxt", "variables"]
    text = (tmp_path / "text" / "saved_model.pbtxt").read_bytes()
    binary = (tmp_path / "binary" / "saved_model.pb").read_bytes()
    assert parse_text(SavedModel, text, "") == parse(SavedModel, binary, "")
    assert read_fingerprint(tmp_path / "text") == read_fingerprint(tmp_path / "binary")
    theirs = tf.saved_model.load(str(tmp_path / "text"))
    np.testing.assert_allclose(theirs(X)["y"].numpy(), want, rtol=1e-6)
    np.testing.assert_allclose(c_api(tmp_path / "text", tmp_path), want, rtol=1e-6)
    ours = load(tmp_path / "text")
    np.testing.assert_array_equal(ours(X)["y"], want)
    assert ours.words.numpy().tolist() == model.words.numpy().tolist()


def test_each_form_replaces_the_other(tmp_path) -> None:
    for as_text in (False, True, False):
        save(Model(), tmp_path / "m", options=SaveOptions(as_text=as_text))
        found = {path.name for path in (tmp_path / "m").glob("saved_model.*")}
        assert found == {"saved_model.pbtxt" if as_text else "saved_model.pb"}


def test_text_of_tensorflows_models(tmp_path) -> None:
    from google.protobuf import text_format
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as TfSavedModel

    tf.saved_model.save(Checked(), str(tmp_path / "m"))
    path = tmp_path / "m" / "saved_model.pb"
    text = text_format.MessageToString(TfSavedModel.FromString(path.read_bytes()), as_utf8=True)
    path.unlink()
    path.with_suffix(".pbtxt").write_text(text)
    assert np.asarray(load(tmp_path / "m")(X[0])).tolist() == [2, 5]


def test_without_a_saver(tmp_path) -> None:
    options = {"experimental_skip_saver": True}
    save(Model(), tmp_path / "ours", options=SaveOptions(**options))
    tf.saved_model.save(
        Checked(), str(tmp_path / "theirs"), options=tf.saved_model.SaveOptions(**options)
    )
    for name in ("ours", "theirs"):
        graph = meta_graph(tmp_path / name)
        assert not graph.HasField("saver_def")
        assert not {"SaveV2", "RestoreV2"} & {
            op.name for op in graph.meta_info_def.stripped_op_list.op
        }
        assert not any(node.name == "saver_filename" for node in graph.graph_def.node)
    np.testing.assert_array_equal(tf.saved_model.load(str(tmp_path / "ours")).w, Model().w.numpy())
    np.testing.assert_array_equal(load(tmp_path / "ours").w, Model().w.numpy())
    np.testing.assert_array_equal(load(tmp_path / "theirs").w, [1, 2])


def test_devices_are_tensorflows(tmp_path) -> None:
    save(Model(), tmp_path / "plain")
    plain = meta_graph(tmp_path / "plain")
    assert {node.device for node in plain.graph_def.node} == {""}
    for policy in ("save_variable_devices", VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES):
        save(Model(), tmp_path / "ours", options=SaveOptions(experimental_variable_policy=policy))
        theirs = getattr(policy, "value", policy)
        options = tf.saved_model.SaveOptions(experimental_variable_policy=theirs)
        tf.saved_model.save(Checked(), str(tmp_path / "theirs"), options=options)
        devices = []
        for name in ("ours", "theirs"):
            graph = meta_graph(tmp_path / name)
            handles = {n.device for n in graph.graph_def.node if n.op == "VarHandleOp"}
            nodes = graph.object_graph_def.nodes
            saved = {n.variable.device for n in nodes if n.HasField("variable")}
            devices.append((handles, saved))
        assert devices[0] == devices[1]
        options = tf.saved_model.LoadOptions(experimental_variable_policy=theirs)
        loaded = tf.saved_model.load(str(tmp_path / "ours"), options=options)
        np.testing.assert_allclose(loaded(X)["y"], np.asarray(Model()(X)["y"]))
        loaded = load(tmp_path / "theirs", options=LoadOptions(experimental_variable_policy=policy))
        assert loaded.w.numpy().tolist() == [1, 2]


def test_stripped_of_checks_as_by_tensorflow(tmp_path) -> None:
    tf.saved_model.save(Checked(), str(tmp_path / "plain"))
    options = tf.saved_model.SaveOptions(experimental_debug_stripper=True)
    tf.saved_model.save(Checked(), str(tmp_path / "theirs"), options=options)
    ours = meta_graph(tmp_path / "plain").graph_def
    strip_debug_nodes(ours)
    theirs = meta_graph(tmp_path / "theirs").graph_def

    def checks(graph: Any) -> Any:
        bodies = {f.signature.name.rstrip("0123456789"): f.node_def for f in graph.library.function}
        return {
            (name, node.name): (node.op, list(dict.fromkeys(node.input)), sorted(node.attr))
            for name, body in bodies.items()
            for node in body
            if "Assert" in node.name or "Print" in node.name or "CheckNumerics" in node.name
        }

    assert len(checks(ours)) >= 4
    assert checks(ours) == checks(theirs)


@pytest.mark.parametrize("strip", [False, True])
def test_a_stripped_model_checks_nothing(strip, tmp_path) -> None:
    tf.saved_model.save(Checked(), str(tmp_path / "theirs"))
    options = SaveOptions(experimental_debug_stripper=strip)
    save(load(tmp_path / "theirs"), tmp_path / "ours", options=options)
    model = tf.saved_model.load(str(tmp_path / "ours"))
    ops = {op.name for op in meta_graph(tmp_path / "ours").meta_info_def.stripped_op_list.op}
    checking = {"Assert", "PrintV2", "CheckNumerics", "Print"}
    if strip:
        assert not checking & ops
        np.testing.assert_array_equal(model(np.float32([-1, np.inf])), [0, np.inf])
        np.testing.assert_array_equal(load(tmp_path / "ours")(np.float32([-1, 4])), [0, 9])
    else:
        assert checking <= ops
        with pytest.raises(tf.errors.InvalidArgumentError):
            model(np.float32([-1, 2]))


@pytest.mark.parametrize("value", ["f", ("f",), {"f"}, [3], [None]])
def test_namespaces_are_a_list_of_names(value) -> None:
    raised = []
    for options in (SaveOptions, tf.saved_model.SaveOptions):
        with pytest.raises((TypeError, ValueError)) as error:
            options(namespace_whitelist=value)
        raised.append(error.value)
    assert isinstance(raised[0], type(raised[1]))


def test_namespaces(tmp_path) -> None:
    save(Model(), tmp_path / "m", options=SaveOptions(namespace_whitelist=[]))
    ops = ["Add", "Mine>Op", "Other>Op", "Other>More"]
    check_namespaces(ops, None)
    check_namespaces(ops, ["Mine", "Other"])
    for allowed, refused in ([], ops[1:]), (["Mine"], ops[2:]), (["Other"], ["Mine>Op"]):
        with pytest.raises(ValueError, match=", ".join(sorted(refused))):
            check_namespaces(ops, allowed)
