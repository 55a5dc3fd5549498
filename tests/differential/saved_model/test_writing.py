"""What save writes, byte by byte and as TensorFlow's own tools read it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import savax as sv
from savax.protos import FingerprintDef, SavedModel, parse
from savax.saved_model import load, save
from savax.saved_model.experimental import read_fingerprint

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

ROOT = Path(__file__).parents[3]


class Model(sv.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = sv.Variable([[1.0, 2.0], [3.0, 4.0]], name="w")
        self.steps = sv.Variable(np.int64(3), name="w")
        self.words = sv.Variable(np.array([b"a", b"bc"], dtype=object), name="words")
        self.layers = [sv.Variable(np.float32(i), name="layer") for i in range(3)]

    @sv.function(input_signature=[sv.TensorSpec([None, 2], name="x")])
    def __call__(self, x):
        self.steps.assign_add(1)
        y = jnp.tanh(x @ self.w.value)
        for layer in self.layers:
            y = y + layer.value
        return {"y": y, "sum": y.sum()}

    @sv.function
    def scale(self, x, by=2):
        return x * by


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "model"
    model = Model()
    model.scale(np.ones(3, np.float32))
    save(model, path, {"serving_default": model.__call__, "again": model.__call__})
    return path


def meta_graph(directory: Any) -> Any:
    return parse(SavedModel, (directory / "saved_model.pb").read_bytes(), "").meta_graphs[0]


def test_files(directory) -> None:
    assert sorted(os.listdir(directory)) == [
        "assets",
        "fingerprint.pb",
        "saved_model.pb",
        "variables",
    ]
    assert sorted(os.listdir(directory / "variables")) == [
        "variables.data-00000-of-00001",
        "variables.index",
    ]
    assert tf.saved_model.contains_saved_model(str(directory))


def test_fingerprint_is_what_tensorflow_computes(directory) -> None:
    from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

    computed = FingerprintDef.FromString(fingerprinting.CreateFingerprintDef(str(directory)))
    written = parse(FingerprintDef, (directory / "fingerprint.pb").read_bytes(), "")
    assert written.uuid.isdecimal()
    assert 0 < int(written.uuid) < 2**128
    computed.uuid = written.uuid
    assert computed == written
    theirs = tf.saved_model.experimental.read_fingerprint(str(directory))
    assert theirs.singleprint() == read_fingerprint(directory).singleprint()


def test_fingerprint_without_functions_and_signatures(tmp_path) -> None:
    from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

    module = sv.Module()
    module.v = sv.Variable(1.0)
    save(module, tmp_path / "m")
    computed = FingerprintDef.FromString(fingerprinting.CreateFingerprintDef(str(tmp_path / "m")))
    found = read_fingerprint(tmp_path / "m")
    assert found.saved_object_graph_hash == computed.saved_object_graph_hash == 0
    assert found.signature_def_hash == computed.signature_def_hash
    assert found.graph_def_program_hash == computed.graph_def_program_hash


def test_ops_are_listed_as_tensorflow_lists_them(directory) -> None:
    from tensorflow.python.framework import meta_graph as theirs

    found = meta_graph(directory)
    graph_def = tf.compat.v1.GraphDef.FromString(found.graph_def.SerializeToString())
    # TensorFlow leaves out functions that only the object graph leads to; they need ops too.
    for function in found.graph_def.library.function:
        graph_def.node.add(name=function.signature.name, op=function.signature.name)
    want = theirs.stripped_op_list_for_graph(graph_def)
    assert [op.name for op in found.meta_info_def.stripped_op_list.op] == [o.name for o in want.op]
    for ours, op in zip(found.meta_info_def.stripped_op_list.op, want.op, strict=True):
        assert ours.SerializeToString() == op.SerializeToString(), op.name


def test_default_attributes_are_stripped(directory) -> None:
    from tensorflow.python.framework import meta_graph as theirs

    found = meta_graph(directory)
    wrapped = tf.compat.v1.MetaGraphDef()
    wrapped.graph_def.ParseFromString(found.graph_def.SerializeToString())
    before = wrapped.graph_def.SerializeToString(deterministic=True)
    theirs.strip_graph_default_valued_attrs(wrapped)
    assert wrapped.graph_def.SerializeToString(deterministic=True) == before
    assert found.meta_info_def.stripped_default_attrs


def test_names_in_the_graph_are_unique(directory) -> None:
    found = meta_graph(directory)
    names = [node.name for node in found.graph_def.node]
    assert len(set(names)) == len(names)
    shared = [n.attr["shared_name"].s for n in found.graph_def.node if n.op == "VarHandleOp"]
    assert len(set(shared)) == len(shared) == 6
    assert {b"w", b"w_1"} <= set(shared)


PROGRAM = """
import sys
import numpy as np
import savax as sv

class M(sv.Module):
    def __init__(self):
        super().__init__()
        self.v = {name: sv.Variable(np.arange(3.0), name=name) for name in ("b", "a")}

    @sv.function(input_signature=[sv.TensorSpec([None, 3])])
    def f(self, x):
        return {"z": x * self.v["a"].value.astype(x.dtype), "a": x}

    @sv.function
    def g(self, x, n=1):
        return x + n + np.ones(20000, np.float32)[:2]

m = M()
m.g(np.ones(2, np.float32))
m.g(np.ones(2, np.float32), 2)
sv.saved_model.save(m, sys.argv[1])
"""


def test_two_processes_write_the_same_bytes(tmp_path) -> None:
    for name, seed in (("a", "1"), ("b", "2")):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / name)]
        subprocess.run(command, check=True, env=environment)
    first, second = tmp_path / "a", tmp_path / "b"
    files = [p.relative_to(first) for p in sorted(first.rglob("*")) if p.is_file()]
    assert len(files) == 4
    for file in files:
        if file.name != "fingerprint.pb":
            assert (first / file).read_bytes() == (second / file).read_bytes(), file
    assert read_fingerprint(first) == read_fingerprint(second)


def test_a_session_saves_what_everybody_restores(directory, tmp_path) -> None:
    prefix = str(tmp_path / "session" / "ck")
    os.mkdir(tmp_path / "session")
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        found = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))
        signature = found.signature_def["serving_default"]
        feeds = {signature.inputs["x"].name: np.ones((1, 2), np.float32)}
        for _ in range(2):
            session.run(signature.outputs["y"].name, feeds)
        feeds = {found.saver_def.filename_tensor_name: prefix}
        session.run(found.saver_def.save_tensor_name, feeds)
    theirs = tf.train.load_checkpoint(prefix)
    assert theirs.get_tensor("steps/.ATTRIBUTES/VARIABLE_VALUE") == 5
    ours = Model()
    sv.train.Checkpoint(root=ours).restore(prefix).expect_partial()
    assert ours.steps.numpy() == 5
    assert ours.words.numpy().tolist() == [b"a", b"bc"]

    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        found = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))
        feeds = {found.saver_def.filename_tensor_name: prefix}
        session.run(found.saver_def.restore_op_name, feeds)
        steps = session.graph.get_tensor_by_name("w/Read/ReadVariableOp:0")
        assert session.run(steps) == 5


def test_a_saver_of_tensorflow_1_takes_the_saver_def(directory, tmp_path) -> None:
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        found = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))
        saver = tf.compat.v1.train.Saver(saver_def=found.saver_def)
        saver.restore(session, str(directory / "variables" / "variables"))
        path = saver.save(session, str(tmp_path / "ck"), write_meta_graph=False)
    assert tf.train.load_checkpoint(path).get_tensor("w/.ATTRIBUTES/VARIABLE_VALUE").shape == (2, 2)


def test_tensorflow_saves_again_what_savax_wrote(directory, tmp_path) -> None:
    theirs = tf.saved_model.load(str(directory))
    tf.saved_model.save(theirs, str(tmp_path / "again"), signatures=theirs.signatures)
    ours = load(tmp_path / "again")
    x = np.ones((1, 2), np.float32)
    np.testing.assert_allclose(ours(x)["y"], theirs(tf.constant(x))["y"], rtol=1e-6)
    assert ours.words.numpy().tolist() == [b"a", b"bc"]


def test_a_model_without_anything(tmp_path) -> None:
    save(sv.Module(), tmp_path / "m")
    tf.saved_model.load(str(tmp_path / "m"))
    load(tmp_path / "m")
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "m"))


def test_the_program_hash_does_not_depend_on_values(tmp_path) -> None:
    first, second = Model(), Model()
    second.w.assign(2 * first.w.numpy())
    save(first, tmp_path / "a")
    save(second, tmp_path / "b")
    prints = [read_fingerprint(tmp_path / name) for name in "ab"]
    assert prints[0].graph_def_program_hash == prints[1].graph_def_program_hash
    assert prints[0].signature_def_hash == prints[1].signature_def_hash
    assert prints[0].saved_model_checksum == prints[1].saved_model_checksum
    assert prints[0].checkpoint_hash != prints[1].checkpoint_hash
    assert prints[0] != prints[1]
