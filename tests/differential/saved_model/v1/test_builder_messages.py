"""What a builder writes with all its arguments, and what TensorFlow's writes with the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from savax.compat import v1
from savax.protos import SavedModel

if TYPE_CHECKING:
    from pathlib import Path

tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1
pytestmark = pytest.mark.tf


def write(names: Any, graph: Any, folder: Path, words: str) -> Any:
    """Writes two graphs by the names of one side; returns the message."""
    builder = names.saved_model.Builder(str(folder))
    with names.Session(graph=graph()) as session:
        x = names.placeholder("float32", [None, 2], name="x")
        with names.device("/cpu:0"):
            w = names.get_variable("w", initializer=np.ones((2, 3), np.float32))
            u = names.get_variable("scope/u", initializer=np.ones(3, np.float32), trainable=False)
        session.run(names.global_variables_initializer())
        asset = names.constant(words, name="asset")
        saver = names.train.Saver({"kernel": w, "bias": u}, max_to_keep=3, sharded=True)
        init = names.group(u.initializer, name="my_init")
        names.add_to_collection("things", x)
        names.add_to_collection("names", "text")
        names.add_to_collection("numbers", 3)
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"key": names.saved_model.predict_signature_def({"x": x}, {"u": u + 1.0})},
            assets_collection=[asset],
            legacy_init_op=init,
            clear_devices=True,
            strip_default_attrs=True,
            saver=saver,
        )
    with names.Session(graph=graph()):
        names.get_variable("kernel", initializer=np.ones((2, 3), np.float32))
        builder.add_meta_graph(["one", "two"], main_op=names.no_op(name="nothing"))
    assert builder.save(as_text=True).endswith(b"saved_model.pbtxt")
    builder.save()
    return SavedModel.FromString((folder / "saved_model.pb").read_bytes())


def test_files_and_messages_are_those_of_tensorflow(tmp_path) -> None:
    (tmp_path / "words.txt").write_text("a\n")
    theirs = write(tf1, tf.Graph, tmp_path / "theirs", str(tmp_path / "words.txt"))
    ours = write(v1, v1.Graph, tmp_path / "ours", str(tmp_path / "words.txt"))
    files = [
        {str(path.relative_to(tmp_path / side)) for path in (tmp_path / side).rglob("*")}
        for side in ("theirs", "ours")
    ]
    assert files[0] == files[1]
    for file in ("variables.index", "variables.data-00000-of-00001"):
        data = [(tmp_path / side / "variables" / file).read_bytes() for side in ("theirs", "ours")]
        assert data[0] == data[1]
    for graph, expected in zip(ours.meta_graphs, theirs.meta_graphs, strict=True):
        assert graph.saver_def == expected.saver_def
        assert graph.collection_def.keys() == expected.collection_def.keys()
        for key, collection in expected.collection_def.items():
            assert graph.collection_def[key] == collection, key
        assert graph.meta_info_def.tags == expected.meta_info_def.tags
        assert [field.name for field, _ in graph.ListFields()] == [
            field.name for field, _ in expected.ListFields()
        ]
    with tf1.Session(graph=tf.Graph()) as session:
        tf1.saved_model.load(session, ["one", "two"], str(tmp_path / "ours"))
        (kernel,) = session.run(tf1.global_variables())
    np.testing.assert_array_equal(kernel, np.ones((2, 3)))
