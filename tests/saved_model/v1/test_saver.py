"""Savers: checkpoints of a session's variables by name."""

from __future__ import annotations

import os

import numpy as np
import pytest

import savax
from savax.compat import v1
from savax.errors import (
    CorruptBundleError,
    InvalidArgumentError,
    KeyNotFoundError,
    NotFoundError,
    UnsupportedOptionError,
)


@pytest.fixture
def graph():
    with v1.Graph().as_default() as graph:
        v1.Variable(np.arange(6, dtype=np.float32).reshape(2, 3), name="w")
        v1.Variable(np.array([b"a", b"bc"], object), name="words", trainable=False)
        v1.Variable(np.int64(1 << 40), name="layer/steps")
        yield graph


def test_values_come_back(graph, tmp_path) -> None:
    saver = v1.train.Saver()
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        before = session.run(v1.global_variables())
        path = saver.save(session, tmp_path / "model", global_step=np.int64(7))
    assert path == str(tmp_path / "model-7")
    assert v1.train.latest_checkpoint(tmp_path) == path
    assert [name for name, _ in v1.train.list_variables(path)] == ["layer/steps", "w", "words"]
    with v1.Session() as session:
        saver.restore(session, path)
        after = session.run(v1.global_variables())
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_old_checkpoints_are_deleted(graph, tmp_path) -> None:
    saver = v1.train.Saver(max_to_keep=2)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        paths = [saver.save(session, tmp_path / "m", global_step=i) for i in range(4)]
    assert saver.last_checkpoints == paths[2:]
    kept = {name.split(".")[0] for name in os.listdir(tmp_path)}
    assert kept == {"checkpoint", "m-2", "m-3"}


def test_steps_with_eight_digits(graph, tmp_path) -> None:
    saver = v1.train.Saver(pad_step_number=True, save_relative_paths=True)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        path = saver.save(session, tmp_path / "m", global_step=7, write_meta_graph=False)
        assert session.graph_def == graph.as_graph_def()
    assert path == str(tmp_path / "m-00000007")


def test_some_variables_under_other_names(graph, tmp_path) -> None:
    w = v1.global_variables()[0]
    saver = v1.train.Saver({"kernel": w})
    with v1.Session() as session:
        session.run(w.initializer)
        path = saver.save(session, tmp_path / "m", write_meta_graph=False, write_state=False)
    assert sorted(os.listdir(tmp_path)) == ["m.data-00000-of-00001", "m.index"]
    np.testing.assert_array_equal(savax.train.load_variable(path, "kernel")[1], [3, 4, 5])


def test_a_graph_comes_back_from_its_file(graph, tmp_path) -> None:
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        path = v1.train.Saver(sharded=True).save(session, tmp_path / "m")
    for scope, text in ((None, False), ("inner", True)):
        file = f"{path}.meta"
        if text:
            v1.train.export_meta_graph(f"{path}.txt", as_text=True, graph=graph)
        with v1.Graph().as_default() as imported, v1.Session() as session:
            saver = v1.train.import_meta_graph(file, import_scope=scope)
            saver.restore(session, path)
            prefix = f"{scope}/" if scope else ""
            assert session.run(f"{prefix}layer/steps/Read/ReadVariableOp:0") == 1 << 40
            assert [v.name for v in v1.trainable_variables()] == [
                f"{prefix}w:0",
                f"{prefix}layer/steps:0",
            ]
            assert imported.get_collection("variables")[0] is v1.trainable_variables()[0]


def test_what_savers_refuse(graph, tmp_path) -> None:
    saver = v1.train.Saver()
    with v1.Session() as session:
        with pytest.raises(InvalidArgumentError, match="before it has a value"):
            saver.save(session, tmp_path / "m")
        session.run(v1.global_variables_initializer())
        path = saver.save(session, tmp_path / "m")
        with pytest.raises(NotFoundError):
            saver.restore(session, tmp_path / "other")
        with pytest.raises(InvalidArgumentError):
            saver.restore(session, None)
        v1.Variable(1.0, name="new")
        with pytest.raises(KeyNotFoundError, match="new"):
            v1.train.Saver().restore(session, path)
        with open(f"{path}.data-00000-of-00001", "r+b") as file:
            file.write(b"\xff")
        with pytest.raises(CorruptBundleError):
            saver.restore(session, path)
    with v1.Graph().as_default():
        with pytest.raises(InvalidArgumentError, match="no variables"):
            v1.train.Saver()
        assert v1.train.Saver(allow_empty=True).saver_def.restore_op_name == ""
    with pytest.raises(UnsupportedOptionError):
        v1.train.Saver(reshape=True)


def test_collections_that_no_message_holds_are_named(graph) -> None:
    graph.add_to_collection("objects", object())
    graph.add_to_collection("numbers", 1.5)
    with pytest.warns(UserWarning, match="'objects'"):
        message = v1.train.export_meta_graph()
    assert message.collection_def["numbers"].float_list.value == [1.5]
