"""The version 1 builder and loader, in both directions: savax's models in TensorFlow, and back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import savax
from savax.compat import v1
from savax.errors import UnsafePathError, UnsupportedError
from savax.protos import FingerprintDef, SavedModel, parse, serialize
from tests.tensorflow_images import joined_by_tensorflow

tf = pytest.importorskip("tensorflow")
_pywrap = pytest.importorskip("tensorflow.python.saved_model.pywrap_saved_model")
tf1 = tf.compat.v1
pytestmark = pytest.mark.tf

ROOT = Path(__file__).parents[4]
X = np.array([[1, 2], [-3, 0.5]], np.float32)
KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)
TAG_SETS = (("serve",), ("train", "gpu"))


def predict(x, w):
    return jnp.tanh(x @ w) * 2


def words(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def write_savax_model(directory: Path, folder: Path, *, as_image: bool = False) -> None:
    """Writes two graphs that share variables and assets."""
    builder = v1.saved_model.Builder(directory)
    first, second = (
        words(folder, f"{n}/vocab.txt", text) for n, text in (("a", "x\ny"), ("b", "z"))
    )
    with v1.Session(graph=v1.Graph()) as session:
        x = v1.placeholder("float32", [None, 2], name="x")
        w = v1.Variable(KERNEL, name="w")
        steps = v1.Variable(np.int64(7), name="steps", trainable=False)
        v1.Variable(np.array([b"a", b"bc"], object), name="names", trainable=False)
        y = session.graph.add(predict, x, w, name="y")
        table = session.graph.op(
            "HashTableV2", key_dtype="string", value_dtype="int64", name="table"
        )
        asset = v1.constant(first, name="asset")
        other = v1.constant(second, name="other")
        fill = session.graph.op(
            "InitializeTableFromTextFileV2", table, asset, key_index=-2, value_index=-1
        )
        keys = v1.placeholder("string", [None], name="keys")
        found = session.graph.op("LookupTableFindV2", table, keys, np.int64(-1), name="found")
        with v1.device("/cpu:0"):
            bump = steps.assign_add(1)
        session.run(v1.global_variables_initializer())
        signatures = {
            "serving_default": v1.saved_model.predict_signature_def({"x": x}, {"y": y}),
            "lookup": v1.saved_model.predict_signature_def({"keys": keys}, {"ids": found}),
        }
        builder.add_meta_graph_and_variables(
            session,
            TAG_SETS[0],
            signatures,
            assets_collection=[asset, other, v1.constant(first)],
            main_op=v1.group(bump, fill),
            clear_devices=True,
        )
    with v1.Session(graph=v1.Graph()):
        x = v1.placeholder("float32", [None, 2], name="x2")
        w = v1.Variable(np.zeros((2, 3), np.float32), name="w")
        builder.add_meta_graph(
            TAG_SETS[1],
            {"serving_default": v1.saved_model.predict_signature_def({"x": x}, {"y": x @ w})},
            strip_default_attrs=True,
        )
    name = "saved_model.cpb" if as_image else "saved_model.pb"
    assert builder.save(experimental_image_format=as_image) == str(directory / name).encode()


@pytest.fixture(scope="module")
def savax_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("savax")
    write_savax_model(folder / "model", folder)
    return folder / "model"


EXPECTED = {TAG_SETS[0]: np.tanh(X @ KERNEL) * 2, TAG_SETS[1]: X @ KERNEL}


@pytest.mark.parametrize("tags", TAG_SETS, ids="-".join)
def test_session_of_tensorflow_loads_a_model_of_savax(savax_model, tags, tmp_path) -> None:
    with tf1.Session(graph=tf.Graph()) as session:
        loaded = tf1.saved_model.load(session, list(tags), str(savax_model))
        definition = loaded.signature_def["serving_default"]
        feeds = {definition.inputs["x"].name: X}
        got = session.run(definition.outputs["y"].name, feeds)
        np.testing.assert_allclose(got, EXPECTED[tags], rtol=1e-6)
        empty = session.run(definition.outputs["y"].name, {definition.inputs["x"].name: X[:0]})
        assert empty.shape == (0, 3)
        if tags == TAG_SETS[0]:
            assert session.run("steps/Read/ReadVariableOp:0") == 8
            ids = session.run("found:0", {"keys:0": [b"y", b"z"]})
            assert ids.tolist() == [1, -1]
            variables = [v.name for v in tf1.global_variables()]
            assert variables == ["w:0", "steps:0", "names:0"]
            assert [v.name for v in tf1.trainable_variables()] == ["w:0"]
        # TensorFlow saves by the nodes that savax wrote.
        prefix = str(tmp_path / "again")
        session.run(
            loaded.saver_def.save_tensor_name, {loaded.saver_def.filename_tensor_name: prefix}
        )
    np.testing.assert_array_equal(savax.train.load_variable(prefix, "w"), KERNEL)


@pytest.mark.parametrize("tags", TAG_SETS, ids="-".join)
def test_loader_of_tensorflow_2_loads_a_model_of_savax(savax_model, tags) -> None:
    loaded = tf.saved_model.load(str(savax_model), tags=list(tags))
    got = loaded.signatures["serving_default"](x=tf.constant(X))["y"]
    np.testing.assert_allclose(got, EXPECTED[tags], rtol=1e-6)
    if tags == TAG_SETS[0]:
        ids = loaded.signatures["lookup"](keys=tf.constant([b"x", b"?"]))["ids"]
        assert ids.numpy().tolist() == [0, -1]


def write_image(directory: Path) -> None:
    """Writes one graph in the image form."""
    builder = v1.saved_model.Builder(directory)
    with v1.Session(graph=v1.Graph()) as session:
        x = v1.placeholder("float32", [None, 2], name="x")
        w = v1.Variable(KERNEL, name="w")
        session.run(w.initializer)
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": x @ w})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
    with pytest.raises(ValueError, match="both"):
        builder.save(as_text=True, experimental_image_format=True)
    with pytest.raises(NotImplementedError):
        builder.save(experimental_image_format=True, experimental_image_writer_options=5)
    assert builder.save(experimental_image_format=True).endswith(b"saved_model.cpb")


def test_the_image_form_holds_several_graphs(savax_model, tmp_path) -> None:
    write_savax_model(tmp_path / "image", tmp_path, as_image=True)
    image = (tmp_path / "image" / "saved_model.cpb").read_bytes()
    want = parse(SavedModel, (savax_model / "saved_model.pb").read_bytes(), "")
    joined = parse(SavedModel, joined_by_tensorflow(image), "")
    assert len(joined.meta_graphs) == 2
    for model in (want, joined):  # paths of assets differ
        for graph in model.meta_graphs:
            for node in graph.graph_def.node:
                if node.op == "Const" and node.attr["dtype"].type == 7:
                    node.ClearField("attr")
    assert joined == want
    for tags in TAG_SETS:
        with v1.Session(graph=v1.Graph()) as session:
            loaded = v1.saved_model.load(session, tags, tmp_path / "image")
            definition = loaded.signature_def["serving_default"]
            feeds = {definition.inputs["x"].name: X}
            got = session.run(definition.outputs["y"].name, feeds)
            np.testing.assert_allclose(got, EXPECTED[tags], rtol=1e-6)
        whole = savax.saved_model.load(tmp_path / "image", tags=tags)
        got = whole.signatures["serving_default"](x=X)["y"]
        np.testing.assert_allclose(got, EXPECTED[tags], rtol=1e-6)
    # TensorFlow's loaders read the same bytes when they are a file that these look for.
    plain = tmp_path / "image" / "saved_model.pb"
    plain.write_bytes(joined_by_tensorflow(image))
    with tf1.Session(graph=tf.Graph()) as session:
        loaded = tf1.saved_model.load(session, list(TAG_SETS[1]), str(tmp_path / "image"))
        y = loaded.signature_def["serving_default"].outputs["y"].name
        np.testing.assert_allclose(session.run(y, {"x2:0": X}), EXPECTED[TAG_SETS[1]], rtol=1e-6)


def test_the_image_form_holds_one_graph(tmp_path) -> None:
    write_image(tmp_path / "image")
    # TensorFlow's loaders don't take the form, but its C++ reader does.
    fingerprint = FingerprintDef.FromString(
        _pywrap.fingerprinting.CreateFingerprintDef(str(tmp_path / "image"))
    )
    assert fingerprint.graph_def_program_hash
    assert fingerprint.signature_def_hash
    with v1.Session(graph=v1.Graph()) as session:
        loaded = v1.saved_model.load(session, ["serve"], tmp_path / "image")
        y = loaded.signature_def["serving_default"].outputs["y"].name
        np.testing.assert_allclose(session.run(y, {"x:0": X}), X @ KERNEL, rtol=1e-6)


def test_c_api_loads_a_model_of_savax(savax_model, tmp_path) -> None:
    np.save(tmp_path / "x.npy", X)
    code = f"""
import os, sys, numpy as np
from tests.tensorflow_c_api import CApiModel
x = np.load({str(tmp_path / "x.npy")!r})
for i, tags in enumerate({TAG_SETS!r}):
    model = CApiModel({str(savax_model)!r}, tags)
    np.save({str(tmp_path)!r} + f"/y{{i}}.npy", model.run({{"x": x}})["y"])
sys.stdout.flush()
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    for i, tags in enumerate(TAG_SETS):
        np.testing.assert_allclose(np.load(tmp_path / f"y{i}.npy"), EXPECTED[tags], rtol=1e-6)


@pytest.mark.parametrize("tags", TAG_SETS, ids="-".join)
def test_savax_loads_its_own_model(savax_model, tags) -> None:
    with v1.Session(graph=v1.Graph()) as session:
        loaded = v1.saved_model.loader.load(session, tags, savax_model, import_scope="scope")
        definition = loaded.signature_def["serving_default"]
        x = v1.saved_model.get_tensor_from_tensor_info(definition.inputs["x"], import_scope="scope")
        y = v1.saved_model.get_tensor_from_tensor_info(
            definition.outputs["y"], import_scope="scope"
        )
        np.testing.assert_allclose(session.run(y, {x: X}), EXPECTED[tags], rtol=1e-6)
        if tags == TAG_SETS[0]:
            assert session.run("scope/steps/Read/ReadVariableOp:0") == 8
            assert session.run("scope/found:0", {"scope/keys:0": ["y"]}).tolist() == [1]


def test_files_and_messages_of_a_model(savax_model) -> None:
    assets = sorted(path.name for path in (savax_model / "assets").iterdir())
    assert assets == ["vocab.txt", "vocab.txt_1"]
    assert (savax_model / "assets" / "vocab.txt_1").read_text() == "z"
    assert sorted(path.name for path in savax_model.iterdir()) == [
        *("assets", "saved_model.pb", "variables"),
    ]
    data = (savax_model / "saved_model.pb").read_bytes()
    first, second = parse(SavedModel, data, "saved_model.pb").meta_graphs
    assert list(first.meta_info_def.tags) == list(TAG_SETS[0])
    assert not any(node.device for node in first.graph_def.node)
    flags = [graph.meta_info_def.stripped_default_attrs for graph in (first, second)]
    assert flags == [False, True]
    for graph, has_defaults in ((first, True), (second, False)):
        multiplication = next(n for n in graph.graph_def.node if n.op == "MatMul")
        assert ("transpose_a" in multiplication.attr) is has_defaults
    (result,) = (node for node in first.graph_def.node if node.name == "y")
    assert [dim.size for dim in result.attr["_output_shapes"].list.shape[0].dim] == [-1, 3]


def write_tensorflow_model(directory: Path, folder: Path, *, resources: bool, text: bool) -> dict:
    """Writes two graphs with assets, tables, partitions and a main op; returns expected values."""
    builder = tf1.saved_model.Builder(str(directory))
    vocabulary = words(folder, "vocab.txt", "x\ny\nz")
    with tf1.Session(graph=tf.Graph()) as session:
        x = tf1.placeholder(tf.float32, [None, 2], name="x")
        w = tf1.get_variable("w", initializer=KERNEL, use_resource=resources)
        steps = tf1.get_variable("steps", initializer=np.int64(7), use_resource=resources)
        parts = tf1.get_variable(
            "parts",
            [10, 3],
            initializer=tf1.random_normal_initializer(seed=1),
            partitioner=tf1.fixed_size_partitioner(3),
            use_resource=resources,
        )
        asset = tf.constant(vocabulary, name="asset")
        initializer = tf.lookup.TextFileInitializer(
            asset,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        table = tf.lookup.StaticHashTable(initializer, -1)
        keys = tf1.placeholder(tf.string, [None], name="keys")
        outputs = {
            "y": tf.tanh(x @ w, name="y"),
            "parts": tf.identity(tf.concat(list(parts), 0), name="all_parts"),
            "ids": tf.identity(table.lookup(keys), name="ids"),
            "steps": tf.identity(steps, name="steps_now"),
        }
        signature = tf1.saved_model.predict_signature_def({"x": x, "keys": keys}, outputs)
        bump = tf1.assign_add(steps, 1)
        session.run([tf1.global_variables_initializer(), tf1.tables_initializer()])
        expected = session.run(outputs, {x: X, keys: [b"z", b"?"]})
        expected["steps"] += 1
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            assets_collection=[asset],
            main_op=tf.group(bump, tf1.tables_initializer()),
        )
    with tf1.Session(graph=tf.Graph()):
        x = tf1.placeholder(tf.float32, [None, 2])
        w = tf1.get_variable("w", initializer=KERNEL, use_resource=resources)
        signature = tf1.saved_model.predict_signature_def({"x": x}, {"y": x @ w})
        builder.add_meta_graph(["a", "b"], {"serving_default": signature}, strip_default_attrs=True)
    builder.save(as_text=text)
    return expected


@pytest.fixture(
    scope="module",
    params=[(False, False), (True, True)],
    ids=["references", "resources-as-text"],
)
def tensorflow_model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorflow")
    resources, text = request.param
    expected = write_tensorflow_model(folder / "model", folder, resources=resources, text=text)
    return folder / "model", expected


def test_session_of_savax_loads_a_model_of_tensorflow(tensorflow_model, tmp_path) -> None:
    directory, expected = tensorflow_model
    with v1.Session(graph=v1.Graph()) as session:
        loaded = v1.saved_model.load(session, ["serve"], directory)
        outputs = loaded.signature_def["serving_default"].outputs
        fetches = {name: info.name for name, info in outputs.items()}
        got = session.run(fetches, {"x:0": X, "keys:0": ["z", "?"]})
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-6)
        assert len(v1.global_variables()) == 5
        # savax saves by the nodes that TensorFlow wrote, partitions and all.
        saver = v1.train.Saver(saver_def=loaded.saver_def)
        saver.save(session, tmp_path / "again", write_meta_graph=False)
    theirs = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    ours = tf.train.load_checkpoint(str(tmp_path / "again"))
    assert ours.get_variable_to_shape_map() == theirs.get_variable_to_shape_map()
    np.testing.assert_array_equal(ours.get_tensor("parts"), theirs.get_tensor("parts"))
    with v1.Session(graph=v1.Graph()) as session:
        v1.saved_model.load(session, {"b", "a"}, directory)
        assert len(v1.global_variables()) == 1


def test_objects_of_a_model_of_tensorflow(tensorflow_model, tmp_path) -> None:
    directory, expected = tensorflow_model
    with pytest.raises(ValueError, match="2 graphs"):
        savax.saved_model.load(directory)
    loaded = savax.saved_model.load(directory, tags="serve")
    got = loaded.signatures["serving_default"](x=X, keys=np.array([b"z", b"?"], object))
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-6)
    assert loaded.variables[0].name == "w"
    assert [Path(path).name for path in loaded.asset_paths] == ["vocab.txt"]
    np.testing.assert_allclose(loaded.prune("x:0", ["y:0"])(X)[0], expected["y"], rtol=1e-6)
    loaded.initializer()
    assert int(loaded.prune([], "steps_now:0")()) == expected["steps"] + 1
    loaded.restore(directory / "variables" / "variables")
    savax.saved_model.save(loaded, tmp_path / "again")
    moved = tmp_path / "moved"
    (tmp_path / "again").rename(moved)
    for load, array in ((savax.saved_model.load, np.asarray), (tf.saved_model.load, tf.constant)):
        again = load(str(moved)).signatures["serving_default"]
        got = again(x=array(X), keys=array(np.array([b"z", b"?"], object)))
        for name in ("y", "parts", "ids"):
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-6)
    with tf1.Session(graph=tf.Graph()) as session:
        definition = tf1.saved_model.load(session, ["serve"], str(moved))
        signature = definition.signature_def["serving_default"]
        feeds = {signature.inputs["x"].name: X, signature.inputs["keys"].name: [b"z", b"?"]}
        ids = session.run(signature.outputs["ids"].name, feeds)
    assert ids.tolist() == expected["ids"].tolist()


def write_tables(directory: Path, mutable: bool) -> None:
    """Writes a graph with a table of constants that has no name to share it by."""
    with v1.Session(graph=v1.Graph()) as session:
        op = session.graph.op
        types = {"key_dtype": "string", "value_dtype": "int64"}
        table = op("MutableHashTableV2" if mutable else "HashTableV2", **types)
        keys = v1.placeholder("string", [None], name="keys")
        content = np.array([b"a", b"b"], object), np.array([1 << 40, -5])
        fill = op("LookupTableImportV2" if mutable else "InitializeTableV2", table, *content)
        found = op("LookupTableFindV2", table, keys, np.int64(-1))
        v1.saved_model.simple_save(session, directory, {"keys": keys}, {"ids": found}, fill)


def test_tables_of_constants_are_saved_again(tmp_path) -> None:
    write_tables(tmp_path / "first", mutable=False)
    savax.saved_model.save(savax.saved_model.load(tmp_path / "first"), tmp_path / "again")
    loaded = [tf.saved_model.load(str(tmp_path / "again")) for _ in range(2)]
    savax.saved_model.save(savax.saved_model.load(tmp_path / "again"), tmp_path / "third")
    loaded.append(tf.saved_model.load(str(tmp_path / "third")))
    for model in loaded:
        ids = model.signatures["serving_default"](keys=tf.constant([b"b", b"?", b"a"]))["ids"]
        assert ids.numpy().tolist() == [-5, -1, 1 << 40]
    write_tables(tmp_path / "mutable", mutable=True)
    with pytest.raises(UnsupportedError, match="MutableHashTableV2"):
        savax.saved_model.save(savax.saved_model.load(tmp_path / "mutable"), tmp_path / "no")


def test_a_loaded_graph_trains_and_is_saved_again(tensorflow_model, tmp_path) -> None:
    directory, _ = tensorflow_model
    loaded = savax.saved_model.load(directory, tags=["a", "b"])

    def loss(x):
        return loaded.signatures["serving_default"](x=x)["y"].sum()

    value, (gradient,) = savax.value_and_grad(loss, variables=loaded.variables)(X)
    np.testing.assert_allclose(value, (X @ KERNEL).sum(), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.repeat(X.sum(0)[:, None], 3, 1), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(loss)(X), value, rtol=1e-6)
    loaded.variables[0].assign(gradient)
    savax.saved_model.save(loaded, tmp_path / "again")
    again = tf.saved_model.load(str(tmp_path / "again"))
    got = again.signatures["serving_default"](x=tf.constant(X))["y"]
    np.testing.assert_allclose(got, X @ np.asarray(gradient), rtol=1e-6)


def test_variables_have_equal_bytes(tmp_path) -> None:
    values = {"b/w": KERNEL, "a": np.float64(3), "s": np.array([b"x", b""], object)}
    with v1.Session(graph=v1.Graph()) as session:
        for name, value in values.items():
            v1.Variable(value, name=name)
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(tmp_path / "ours")
        builder.add_meta_graph_and_variables(session, ["serve"])
    with tf1.Session(graph=tf.Graph()) as session:
        for name, value in values.items():
            tf1.Variable(value, name=name, dtype=tf.string if value.dtype == object else None)
        session.run(tf1.global_variables_initializer())
        tf1.saved_model.Builder(str(tmp_path / "theirs")).add_meta_graph_and_variables(
            session, ["serve"]
        )
    for file in ("variables.index", "variables.data-00000-of-00001"):
        ours, theirs = (tmp_path / who / "variables" / file for who in ("ours", "theirs"))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_model_of_tensorflow_2_runs_in_a_session(tmp_path) -> None:
    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable(KERNEL, name="w")
            path = words(tmp_path, "vocab.txt", "x\ny")
            self.table = tf.lookup.StaticVocabularyTable(
                tf.lookup.TextFileInitializer(
                    path,
                    tf.string,
                    tf.lookup.TextFileIndex.WHOLE_LINE,
                    tf.int64,
                    tf.lookup.TextFileIndex.LINE_NUMBER,
                ),
                1,
            )

        @tf.function(input_signature=[tf.TensorSpec([None, 2]), tf.TensorSpec([None], tf.string)])
        def serve(self, x, keys):
            return {"y": x @ self.w, "ids": self.table.lookup(keys)}

    model = Model()
    tf.saved_model.save(model, str(tmp_path / "model"), signatures=model.serve)
    with v1.Session(graph=v1.Graph()) as session:
        loaded = v1.saved_model.load(session, ["serve"], tmp_path / "model")
        definition = loaded.signature_def["serving_default"]
        got = session.run(
            {name: info.name for name, info in definition.outputs.items()},
            {definition.inputs["x"].name: X, definition.inputs["keys"].name: ["y", "?"]},
        )
    np.testing.assert_allclose(got["y"], X @ KERNEL, rtol=1e-6)
    assert got["ids"].tolist() == [1, 2]


def test_assets_stay_inside_the_model(savax_model, tmp_path) -> None:
    model = parse(SavedModel, (savax_model / "saved_model.pb").read_bytes(), "saved_model.pb")
    graph = model.meta_graphs[0]
    for name in ("../../secret", "/etc/passwd", ""):
        hostile = SavedModel()
        hostile.CopyFrom(model)
        del hostile.meta_graphs[1:]
        asset = hostile.meta_graphs[0].asset_file_def.add(filename=name)
        asset.tensor_info.name = "asset:0"
        directory = tmp_path / f"m{len(name)}"
        (directory / "variables").mkdir(parents=True)
        for file in (savax_model / "variables").iterdir():
            (directory / "variables" / file.name).write_bytes(file.read_bytes())
        (directory / "saved_model.pb").write_bytes(serialize(hostile))
        with v1.Session(graph=v1.Graph()) as session, pytest.raises(UnsafePathError):
            v1.saved_model.load(session, list(graph.meta_info_def.tags), directory)
        with pytest.raises(UnsafePathError):
            savax.saved_model.load(directory)
