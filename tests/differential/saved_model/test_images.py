"""The image form, ``saved_model.cpb``: TensorFlow's reader joins ours, ours joins what it joins."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import savax as sv
from savax.protos import (
    ChunkMetadata,
    FingerprintDef,
    SavedModel,
    canonical_bytes,
    decode_tensor,
    encode_shape,
    parse,
)
from savax.saved_model import SaveOptions, _graph_size, load, save
from savax.saved_model._reader import open_model, read_parts, read_saved_model
from savax.saved_model.experimental import Fingerprint, read_fingerprint
from savax.saved_model.image._splitting import ImageWriter
from savax.types import as_dtype
from tests.image_files import ChunkFile
from tests.tensorflow_images import joined_by_tensorflow

if TYPE_CHECKING:
    from pathlib import Path

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

IMAGE = SaveOptions(experimental_image_format=True)
X = np.float32([[1, 2, 3, 4]])
MOST_BYTES = 1 << 20  # from which on arrays that functions close over are Variables
DTYPES = (
    *("float32", "float64", "complex64", "complex128", "int32", "int64", "uint16", "bool"),
    *("float16", "bfloat16", "int8"),
)


def constant(dtype: str) -> Any:
    rng = np.random.default_rng(len(dtype))
    numpy_dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    size = MOST_BYTES // numpy_dtype.itemsize - 40
    values = rng.standard_normal(size) * 50
    if numpy_dtype.kind in "biu":
        return (np.abs(values) % 2 if dtype == "bool" else np.abs(values)).astype(numpy_dtype)
    values[:3] = np.nan, -0.0, np.inf
    return (values + (1j if "complex" in dtype else 0)).astype(numpy_dtype)


class Model(sv.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = sv.Variable(np.eye(4, dtype=np.float32), name="w")
        self.table = constant("float32").reshape(-1, 4)
        self.indices = constant("int32")
        self.small = np.float32([1, 2, 3, 4])

    @sv.function(input_signature=[sv.TensorSpec([None, 4], name="x")])
    def __call__(self, x):
        total = jnp.sum(jnp.asarray(self.indices)[:1000]).astype(jnp.float32)
        rows = jnp.asarray(self.table)[3:7]
        return {"y": x @ self.w.value + self.small + total, "rows": rows.sum(0)}


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("images") / "model"
    save(Model(), path, options=IMAGE)
    return path


def rewritten(joined: bytes, directory: Path, target: Path) -> Path:
    """Returns a copy of a model whose proto is in ``saved_model.pb``."""
    target.mkdir()
    shutil.copytree(directory / "variables", target / "variables")
    (target / "saved_model.pb").write_bytes(joined)
    return target


def test_what_tensorflow_joins_of_ours_is_the_model(directory, tmp_path) -> None:
    assert sorted(os.listdir(directory)) == [
        "assets",
        "fingerprint.pb",
        "saved_model.cpb",
        "variables",
    ]
    assert tf.saved_model.contains_saved_model(str(directory))
    joined = joined_by_tensorflow((directory / "saved_model.cpb").read_bytes())
    want = {k: np.asarray(v) for k, v in Model()(X).items()}
    theirs = tf.saved_model.load(str(rewritten(joined, directory, tmp_path / "theirs")))
    for name, value in theirs.signatures["serving_default"](x=X).items():
        np.testing.assert_allclose(value, want[name], rtol=1e-6)
    for form in (directory, tmp_path / "theirs"):
        ours = load(form)
        for name, value in ours(X).items():
            np.testing.assert_array_equal(value, want[name])


def test_the_content_is_that_of_the_plain_form(directory, tmp_path) -> None:
    save(Model(), tmp_path / "plain")
    plain = parse(SavedModel, (tmp_path / "plain" / "saved_model.pb").read_bytes(), "")
    with open_model(directory) as opened:
        assert canonical_bytes(read_saved_model(opened)) == canonical_bytes(plain)


@pytest.mark.parametrize("dtype", DTYPES)
def test_constants_of_every_dtype(dtype, tmp_path) -> None:
    value = constant(dtype).reshape(2, -1)
    model = SavedModel()
    node = model.meta_graphs.add().graph_def.node.add(name="Const", op="Const")
    node.attr["value"].tensor.dtype = as_dtype(value.dtype).number
    node.attr["value"].tensor.tensor_shape.CopyFrom(encode_shape(value.shape))
    path = tmp_path / "saved_model.cpb"
    with path.open("wb") as file:
        ImageWriter(model, {"Const": value}).write(file)
    (theirs,) = _constants(joined_by_tensorflow(path.read_bytes()))
    assert tf.make_ndarray(theirs.attr["value"].tensor).tobytes() == value.tobytes()
    with open_model(tmp_path) as opened:
        _, constants = read_parts(opened)
        graph = read_saved_model(opened).meta_graphs[0].graph_def
    assert list(constants) == [0]
    assert constants[0].dtype == value.dtype
    assert constants[0].shape == value.shape
    assert constants[0].tobytes() == value.tobytes()
    assert decode_tensor(graph.node[0].attr["value"].tensor).tobytes() == value.tobytes()


def _constants(joined: bytes) -> list[Any]:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as TfSavedModel

    graph = TfSavedModel.FromString(joined).meta_graphs[0].graph_def
    return [node for node in graph.node if node.name == "Const"]


def test_fingerprint_is_what_tensorflow_computes(directory, tmp_path) -> None:
    from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

    computed = FingerprintDef.FromString(fingerprinting.CreateFingerprintDef(str(directory)))
    written = parse(FingerprintDef, (directory / "fingerprint.pb").read_bytes(), "")
    computed.uuid = written.uuid
    assert written == computed
    theirs = tf.saved_model.experimental.read_fingerprint(str(directory))
    ours = read_fingerprint(directory)
    assert isinstance(ours, Fingerprint)
    assert ours.singleprint() == theirs.singleprint()
    save(Model(), tmp_path / "plain")
    assert read_fingerprint(tmp_path / "plain") != ours


def test_an_image_holds_what_other_forms_do_not(tmp_path, monkeypatch) -> None:
    want = np.asarray(Model()(X)["y"])
    monkeypatch.setattr(_graph_size, "MOST_GRAPH_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="experimental_image_format=True"):
        save(Model(), tmp_path / "m")
    assert not (tmp_path / "m").exists()
    save(Model(), tmp_path / "m", options=IMAGE)
    joined_by_tensorflow((tmp_path / "m" / "saved_model.cpb").read_bytes())
    np.testing.assert_array_equal(load(tmp_path / "m")(X)["y"], want)
    # And once more, from what was loaded.
    with pytest.raises(ValueError, match="experimental_image_format=True"):
        save(load(tmp_path / "m"), tmp_path / "again")
    save(load(tmp_path / "m"), tmp_path / "again", options=IMAGE)
    np.testing.assert_array_equal(load(tmp_path / "again")(X)["y"], want)
    monkeypatch.undo()
    save(load(tmp_path / "m"), tmp_path / "again")
    assert sorted(p.name for p in (tmp_path / "again").glob("saved_model.*")) == ["saved_model.pb"]
    np.testing.assert_array_equal(tf.saved_model.load(str(tmp_path / "again"))(X)["y"], want)


@pytest.mark.parametrize("method", ["", "b", "z"])
def test_fields_of_every_kind(method, directory, tmp_path) -> None:
    """Splits a model of TensorFlow's in all the ways that its splitter knows."""

    class Small(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable([1.0, 2.0])
            self.c = tf.constant(np.arange(5, dtype=np.int64))

        @tf.function(input_signature=[tf.TensorSpec([2], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": x * self.w + tf.cast(tf.reduce_sum(self.c), tf.float32)}

    tf.saved_model.save(Small(), str(tmp_path / "pb"))
    whole = parse(SavedModel, (tmp_path / "pb" / "saved_model.pb").read_bytes(), "")
    base = SavedModel.FromString(whole.SerializeToString())
    (meta_graph,) = base.meta_graphs
    file, metadata, records = ChunkFile(), ChunkMetadata(), []

    def field(*path: int | str, parent: Any = metadata.message) -> Any:
        added = parent.chunked_fields.add()
        for position, step in enumerate(path):
            tag = added.field_tag.add()
            if isinstance(step, str):
                tag.map_key.s = step
            elif position in (1, 4) and len(path) > position:
                tag.index = step
            else:
                tag.field = step
        return added.message

    def record(data: bytes, kind: str = "MESSAGE") -> int:
        metadata.chunks.add(type=kind, size=len(data))
        records.append(data)
        return len(records) - 1

    def moved(message: Any, *path: int | str, parent: Any = metadata.message) -> Any:
        chunked = field(*path, parent=parent)
        chunked.chunk_index = record(message.SerializeToString())
        message.Clear()
        return chunked

    for name in list(meta_graph.signature_def):
        moved(meta_graph.signature_def[name], 2, 0, 5, name)
    index = next(i for i, n in enumerate(meta_graph.graph_def.node) if n.op == "Const")
    tensor = meta_graph.graph_def.node[index].attr["value"].tensor
    content = tensor.tensor_content
    tensor.ClearField("tensor_content")
    chunked = field(2, 0, 2, 1, index, 5, "value", 8, 4)
    chunked.chunk_index = record(content, "BYTES")
    library = moved(meta_graph.graph_def.library, 2, 0, 2, 2)
    field(parent=library).chunk_index = record(b"")
    moved(meta_graph.object_graph_def, 2, 0, 7)
    version = meta_graph.meta_info_def.tensorflow_version
    meta_graph.meta_info_def.tensorflow_version = ""
    field(2, 0, 1, 5).chunk_index = record(version.encode(), "BYTES")
    metadata.message.chunk_index = record(base.SerializeToString())
    positions = file.add_records(records[:3], method)
    positions += [p for part in records[3:] for p in file.add_records([part], method)]
    for info, position in zip(metadata.chunks, positions, strict=True):
        info.offset = position
    file.add_records([metadata.SerializeToString()], method)
    joined = joined_by_tensorflow(bytes(file.data))
    assert parse(SavedModel, joined, "") == whole
    target = rewritten(b"", tmp_path / "pb", tmp_path / "cpb")
    (target / "saved_model.pb").unlink()
    (target / "saved_model.cpb").write_bytes(bytes(file.data))
    with open_model(target) as opened:
        assert read_saved_model(opened) == whole
    assert load(target).tensorflow_version == version
    np.testing.assert_array_equal(load(target)(np.float32([1, 1]))["y"], [11, 12])


def test_one_form_replaces_another(tmp_path) -> None:
    model = sv.Module()
    model.w = sv.Variable(1.0)
    for options in (None, IMAGE, SaveOptions(as_text=True), IMAGE, None):
        save(model, tmp_path / "m", options=options)
        assert len(list((tmp_path / "m").glob("saved_model.*"))) == 1
        assert float(load(tmp_path / "m").w) == 1
    with pytest.raises(ValueError, match="not as both"):
        SaveOptions(experimental_image_format=True, as_text=True)
