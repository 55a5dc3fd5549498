"""``savax show`` says of a model of TensorFlow's what ``saved_model_cli show --all`` says."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax
from savax.saved_model.cli._render import render_text
from savax.saved_model.cli._show import GraphReport, ModelReport, collect_model

if TYPE_CHECKING:
    from pathlib import Path

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf


class Model(tf.Module):
    def __init__(self, vocabulary: str) -> None:
        super().__init__()
        self.w = tf.Variable(tf.ones((4, 3)), name="w")
        self.parts = [tf.Variable(1.0, trainable=False)]
        self.asset = tf.saved_model.Asset(vocabulary)
        keys = tf.constant(["a"])
        initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.constant([1], tf.int64))
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    @tf.function(
        input_signature=[tf.TensorSpec([None, 4], name="x"), tf.TensorSpec(None, tf.string, "t")]
    )
    def __call__(self, x, t):
        return {"y": x @ self.w, "ids": self.table.lookup(t)}

    @tf.function
    def other(self, x, flag=True):
        return x + self.parts[0] if flag else x


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ModelReport:
    directory = tmp_path_factory.mktemp("models")
    vocabulary = directory / "words.txt"
    vocabulary.write_text("a\n")
    model = Model(str(vocabulary))
    model.other(tf.zeros([2]), flag=False)
    other = model.other.get_concrete_function(tf.TensorSpec([None]))
    path = str(directory / "model")
    tf.saved_model.save(model, path, signatures={"serving_default": model.__call__, "o": other})
    return collect_model(path)


@pytest.fixture(scope="module")
def theirs(report: ModelReport) -> str:
    tool = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    command = [*tool, "show", "--dir", report.path, "--all"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_tags_signatures_and_tensors_are_the_same(report: ModelReport, theirs: str) -> None:
    (graph,) = report.graphs
    check_graph(graph, theirs)


def check_graph(graph: GraphReport, theirs: str) -> None:
    """Compares a graph's tags, signatures and tensors with what their tool printed."""
    assert re.search(r"tag-set: '([\w, ]+)'", theirs).group(1) == ", ".join(graph.tags)
    keys = re.findall(r"signature_def\['(\w+)'\]", theirs)
    assert [k for k in keys if k != "__saved_model_init_op"] == [s.key for s in graph.signatures]
    tensors = re.findall(
        r"(?:inputs|outputs)\['(\w+)'\] tensor_info:\s+dtype: DT_(\w+)\s+shape: (.*)\s+name: (\S+)",
        theirs,
    )
    ours = [
        (t.name, t.dtype, t.shape, t.tensor)
        for signature in graph.signatures
        for t in (*signature.inputs, *signature.outputs)
    ]
    assert ours
    names = {"FLOAT": "float32", "INT64": "int64", "STRING": "string"}
    expected = [
        (name, names[dtype], as_shape(shape), tensor)
        for name, dtype, shape, tensor in tensors
        if name != "__saved_model_init_op"
    ]
    assert ours == expected


def as_shape(text: str) -> tuple[int | None, ...] | None:
    if text == "unknown_rank":
        return None
    sizes = [int(size) for size in text.strip("()").split(",") if size.strip()]
    return tuple(None if size == -1 else size for size in sizes)


def test_operations_are_the_same(report: ModelReport, theirs: str) -> None:
    listed = re.search(r"following ops: \{(.*)\}", theirs).group(1)
    assert set(re.findall(r"'(\w+)'", listed)) == set(report.graphs[0].operations)


def test_functions_of_the_root_have_the_same_traces(report: ModelReport, theirs: str) -> None:
    counts = {
        name: len(re.findall(r"Option #\d+", text))
        for name, text in re.findall(
            r"Function Name: '(\w+)'(.*?)(?=Function Name|\Z)", theirs, re.S
        )
    }
    ours = {f.path.removeprefix("root."): len(f.traces) for f in report.graphs[0].functions}
    assert counts == {name: ours[name] for name in counts}
    assert {"__call__", "other"} <= counts.keys()


def test_objects_are_named_by_their_kind(report: ModelReport) -> None:
    text = render_text(report, everything=True)
    for line in (
        "w: variable float32[4, 3] 'w', 48 B",
        "0: variable float32[] 'Variable' not trainable, 4 B",
        "asset: asset 'words.txt'",
        "table: resource",
        "capture_1: constant string[1]",
        "(x: float32[None], flag: True) -> float32[None]",
    ):
        assert line in text


def write_graphs(names: Any, graph: Any, directory: str) -> None:
    """Writes a model of version 1 with two graphs, by the names of one side."""
    builder = names.saved_model.Builder(directory)
    for tags in (["serve"], ["gpu", "train"]):
        with names.Session(graph=graph()) as session:
            x = names.placeholder("float32", [None, len(tags)], name="x")
            w = names.get_variable("w", initializer=np.ones((2, 3), np.float32))
            doubled = x + x
            session.run(names.global_variables_initializer())
            sm = names.saved_model
            signatures = {
                "serving_default": sm.predict_signature_def({"x": x}, {"y": doubled, "w": w + 1.0}),
                "again": sm.build_signature_def({"x": sm.build_tensor_info(x)}, {}, "other"),
            }
            if tags == ["serve"]:
                builder.add_meta_graph_and_variables(session, tags, signatures)
            else:
                builder.add_meta_graph(tags, signatures)
    builder.save()


@pytest.mark.parametrize("side", ["tensorflow", "savax"])
def test_graphs_of_version_1_are_shown_as_by_their_tool(side: str, tmp_path: Path) -> None:
    from tensorflow.python.tools import saved_model_cli

    path = str(tmp_path / "model")
    if side == "tensorflow":
        write_graphs(tf.compat.v1, tf.Graph, path)
    else:
        write_graphs(savax.compat.v1, savax.Graph, path)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        saved_model_cli._show_all(path)
    parts = output.getvalue().split("MetaGraphDef with ")[1:]
    report = collect_model(path)
    assert len(parts) == len(report.graphs) == 2
    for graph, text in zip(sorted(report.graphs, key=lambda g: g.tags), parts, strict=True):
        check_graph(graph, text)
        methods = re.findall(r"Method name is: (.*)", text)
        assert methods == [signature.method_name for signature in graph.signatures]


def test_model_of_tensorflow_1(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], "x")
        w = v1.get_variable("w", [2, 3], use_resource=False)
        y = tf.matmul(x, w)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "v1"), {"x": x}, {"y": y})
    report = collect_model(tmp_path / "v1")
    (signature,) = report.graphs[0].signatures
    assert [t.name for t in signature.inputs] == ["x"]
    assert (report.num_tensors, report.tensor_bytes) == (1, 24)
    assert report.fingerprint is None
