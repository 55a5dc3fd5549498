"""Models that savax wrote to URLs, copied from there for TensorFlow, and the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax as sx
from savax.saved_model import load, save

tf = pytest.importorskip("tensorflow")
fsspec = pytest.importorskip("fsspec")
pytestmark = pytest.mark.tf

if TYPE_CHECKING:
    from pathlib import Path

X = np.float32([1, 2])


class Ours(sx.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.w = sx.Variable(np.float32(factor))
        self.words = sx.Variable(["a", "ü"])

    @sx.function(input_signature=[sx.TensorSpec([None], sx.float32)])
    def __call__(self, x):
        return x * self.w.value


class Theirs(tf.Module):
    def __init__(self, file: str) -> None:
        super().__init__()
        self.w = tf.Variable(3.0)
        initializer = tf.lookup.TextFileInitializer(
            *(file, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE),
            *(tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER),
        )
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, words):
        return tf.cast(self.table.lookup(words), tf.float32) * self.w


@pytest.fixture
def memory() -> Any:
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def test_tensorflow_reads_what_was_written_again_and_again(memory: Any, tmp_path: Path) -> None:
    for factor in (1.0, 2.0, 3.0):
        save(Ours(factor), "memory://m")
        local = tmp_path / str(factor)
        memory.get("m", str(local), recursive=True)
        theirs = tf.saved_model.load(str(local))
        np.testing.assert_array_equal(theirs(X), X * factor)
        assert theirs.words.numpy().tolist() == [b"a", "ü".encode()]
        fingerprint = tf.saved_model.experimental.read_fingerprint(str(local))
        ours = sx.saved_model.experimental.read_fingerprint("memory://m")
        assert fingerprint.singleprint() == ours.singleprint()
        assert load("memory://m").w.numpy() == factor


def test_savax_reads_tensorflows_models(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\nb\n")
    tf.saved_model.save(Theirs(str(tmp_path / "words.txt")), str(tmp_path / "m"))
    memory.put(str(tmp_path / "m"), "m", recursive=True)
    loaded = load("memory://m")
    out = loaded(np.array(["b", "?", "a"], object))
    np.testing.assert_array_equal(out, [3, -3, 0])
