"""``savax run`` and ``scan`` on TensorFlow's models, against ``saved_model_cli`` on both kinds."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest

import savax as sx
from savax.function._op_schemas import is_known_op
from savax.saved_model.cli import main
from savax.saved_model.cli._scan import scan_model

if TYPE_CHECKING:
    from pathlib import Path

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

KERNEL = np.arange(12, dtype=np.float32).reshape(4, 3)
SPECS = {"x": ([None, 4], "float32"), "n": ([None], "int64")}


class TheirModel(tf.Module):
    def __init__(self, vocabulary: str) -> None:
        super().__init__()
        self.w = tf.Variable(KERNEL)
        initializer = tf.lookup.TextFileInitializer(
            vocabulary,
            *(tf.string, tf.lookup.TextFileIndex.WHOLE_LINE),
            *(tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER),
        )
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    @tf.function(input_signature=[tf.TensorSpec(*spec, name) for name, spec in SPECS.items()])
    def numbers(self, x, n):
        return {"y": x @ self.w, "n plus": n + 2**40}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "words")])
    def ids(self, words):
        return {"ids": self.table.lookup(words), "words": words}


class OurModel(sx.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = sx.Variable(KERNEL)

    @sx.function(input_signature=[sx.TensorSpec(*spec, name) for name, spec in SPECS.items()])
    def numbers(self, x: Any, n: Any) -> Any:
        return {"y": x @ self.w, "n plus": n + 1}


def save_graph(path: str) -> None:
    """Saves a model of version 1 with a variable and a loop."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.disable_control_flow_v2()
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
        n = tf.compat.v1.placeholder(tf.int64, [None], name="n")
        w = tf.compat.v1.get_variable("w", initializer=KERNEL, use_resource=False)
        total = tf.while_loop(lambda i, s: i < 3, lambda i, s: [i + 1, s + x @ w], [0, x @ w])[1]
        tf.compat.v1.enable_control_flow_v2()
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(
            session, path, {"x": x, "n": n}, {"y": total, "n plus": n * 2}
        )


def save_our_graph(path: str) -> None:
    """Saves a model of version 1 of savax's, with a variable and a loop."""
    v1 = sx.compat.v1
    with v1.Session(graph=v1.Graph()) as session:
        x = v1.placeholder("float32", [None, 4], name="x")
        n = v1.placeholder("int64", [None], name="n")
        w = v1.get_variable("w", initializer=KERNEL)
        y = session.graph.add(
            lambda x, w: jax.lax.fori_loop(0, 3, lambda i, s: s + x @ w, x @ w), x, w
        )
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, path, {"x": x, "n": n}, {"y": y, "n plus": n * 2})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "words.txt").write_text("a\nü\n")
    paths = {name: str(folder / name) for name in ("theirs", "ours", "graph", "our_graph")}
    their_model = TheirModel(str(folder / "words.txt"))
    signatures = {"serving_default": their_model.numbers, "ids": their_model.ids}
    tf.saved_model.save(their_model, paths["theirs"], signatures=signatures)
    our_model = OurModel()
    sx.saved_model.save(our_model, paths["ours"], signatures=our_model.numbers)
    save_graph(paths["graph"])
    save_our_graph(paths["our_graph"])
    return paths


def their_outputs(out: Path, path: str, key: str, *inputs: str) -> dict[str, np.ndarray]:
    from tensorflow.python.tools import saved_model_cli as tool

    with contextlib.redirect_stdout(io.StringIO()):
        feeds = tool.load_inputs_from_input_arg_string(*inputs)
        tool.run_saved_model_with_feed_dict(path, "serve", key, feeds, str(out), True)
    return {file.stem: np.load(file, allow_pickle=True) for file in sorted(out.iterdir())}


def our_outputs(out: Path, path: str, key: str, *options: str) -> dict[str, np.ndarray]:
    assert main(["run", path, "--signature", key, *options, "--outdir", str(out)]) == 0
    return {file.stem: np.load(file) for file in sorted(out.iterdir())}


@pytest.mark.parametrize("kind", ["theirs", "ours", "graph", "our_graph"])
def test_the_same_inputs_give_the_same_files(
    models: dict[str, str], tmp_path: Path, kind: str
) -> None:
    np.savez(tmp_path / "a.npz", x=np.linspace(-1, 1, 8).reshape(2, 4).astype(np.float32))
    files, expressions = f"x={tmp_path}/a.npz[x]", "n=[5, -7]"
    theirs = their_outputs(
        *(tmp_path / "theirs", models[kind], "serving_default"), *(files, expressions, "")
    )
    ours = our_outputs(
        *(tmp_path / "ours", models[kind], "serving_default", "-i", files, "-e", expressions)
    )
    assert ours.keys() == theirs.keys() == {"y", "n plus"}
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_allclose(ours[name], array, rtol=1e-6)


def test_tables_and_strings_are_the_same(models: dict[str, str], tmp_path: Path) -> None:
    expression = "words=['ü', 'b', 'a']"
    theirs = their_outputs(tmp_path / "theirs", models["theirs"], "ids", "", expression, "")
    ours = our_outputs(tmp_path / "ours", models["theirs"], "ids", "-e", expression)
    assert ours["ids"].tolist() == theirs["ids"].tolist() == [1, -1, 0]
    assert ours["words"].tolist() == [word.encode() for word in ("ü", "b", "a")]


def test_examples_are_the_same_bytes(models: dict[str, str], tmp_path: Path) -> None:
    examples = '[{"a": [1, 2], "f": [0.5], "s": ["x", "y"]}]'
    theirs = their_outputs(
        tmp_path / "theirs", models["theirs"], "ids", "", "", f"words={examples}"
    )
    ours = our_outputs(
        tmp_path / "ours", models["theirs"], "ids", "--input-examples", f"words={examples}"
    )
    parse = tf.train.Example.FromString
    assert parse(ours["words"].tolist()[0]) == parse(theirs["words"].tolist()[0])


@pytest.mark.parametrize("kind", ["theirs", "ours", "graph", "our_graph"])
@pytest.mark.parametrize("ops", ["WriteFile,ReadFile,PrintV2", "MatMul,SaveV2,LookupTableFindV2"])
def test_asked_for_ops_are_those_that_their_scan_finds(
    models: dict[str, str], kind: str, ops: str
) -> None:
    from tensorflow.python.tools import saved_model_cli as tool
    from tensorflow.python.tools import saved_model_utils

    meta_graph = saved_model_utils.get_meta_graph_def(models[kind], "serve")
    with contextlib.redirect_stdout(io.StringIO()) as text:
        tool.scan_meta_graph_def(meta_graph, set(ops.split(",")))
    found = re.search(r"contains the following denylisted ops: \{(.*)\}", text.getvalue())
    theirs = set() if found is None else set(re.findall(r"'(\w+)'", found[1]))
    (graph,) = scan_model(models[kind], ops=ops.split(",")).graphs
    assert {finding.op for finding in graph.dangers} == theirs


@pytest.mark.parametrize("kind", ["theirs", "ours", "graph", "our_graph"])
def test_ordinary_models_are_clean_and_run(
    models: dict[str, str], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scan", models[kind], "--json"]) == 0
    (graph,) = json.loads(capsys.readouterr().out)["graphs"]
    assert graph["unsupported"] == []
    assert {"SaveV2", "RestoreV2"} <= {finding["op"] for finding in graph["saver"]}
    assert len(graph["assets"]) == (kind == "theirs")


def test_what_touches_files_and_python_is_found(tmp_path: Path) -> None:
    class Danger(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def f(self, name):
            tf.io.write_file("/tmp/never", name)
            tf.print("x", output_stream="file:///tmp/never")
            (y,) = tf.py_function(lambda: [1.0], [], [tf.float32])
            return tf.io.read_file(name), y, tf.io.matching_files("/*")

    tf.saved_model.save(Danger(), str(tmp_path))
    (graph,) = scan_model(tmp_path).graphs
    assert {finding.op for finding in graph.dangers} == {
        *("WriteFile", "PrintV2", "EagerPyFunc", "ReadFile", "MatchingFiles")
    }
    assert {"WriteFile", "EagerPyFunc"} <= {finding.op for finding in graph.unsupported}


def test_ops_of_tensorflow_are_not_taken_for_custom_ones() -> None:
    from tensorflow.python.framework import op_def_registry

    names = (
        "PyFunc",
        "StatefulPartitionedCall",
        "Stage",
        "XlaLaunch",
        "TPUPartitionedCall",
        "_Send",
    )
    assert all(op_def_registry.get(name) is None or is_known_op(name) for name in names)


def test_saving_twice_differs_in_nothing_but_names(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tf.saved_model.load(models["theirs"])
    tf.saved_model.save(model, str(tmp_path), signatures=model.signatures)
    assert main(["diff", models["theirs"], str(tmp_path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    (graph,) = report["graphs"]
    assert graph["signatures"] == []
    assert graph["is_other_graph"]
    assert report["assets"] == []
    assert report["variables"]["values"] == report["variables"]["kinds"] == []
    assert report["variables"]["num_equal"] == 1


def test_pasted_commands_run_with_names_that_are_no_identifiers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Odd(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="a/b")])
        def f(self, x):
            return {"y": x + 1.0}

    model = Odd()
    tf.saved_model.save(model, str(tmp_path / "objects"), signatures=model.f)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
        tf.compat.v1.saved_model.simple_save(
            session, str(tmp_path / "graph"), {"it's; b": x}, {"y": x + 1.0}
        )
    for kind in ("objects", "graph"):
        assert main(["show", str(tmp_path / kind)]) == 0
        text = capsys.readouterr().out
        _, *arguments = shlex.split(text.split("  or in a shell\n")[1].splitlines()[0])
        assert main(arguments) == 0
        assert capsys.readouterr().out == "y: float32[1]\n  [1.]\n"
