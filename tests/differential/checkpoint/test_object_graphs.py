"""The same objects give the same files, and each library restores the other's completely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from savax.trackable import Module, Variable
from savax.trackable.checkpoint import Checkpoint, list_variables, load_checkpoint
from tests.differential.checkpoint import object_graphs

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

GRAPHS = object_graphs.GRAPHS

OURS = object_graphs.Library(
    Module, Variable, Checkpoint, lambda values: np.array(values, ml_dtypes.bfloat16)
)
THEIRS = object_graphs.Library(
    tf.Module, tf.Variable, tf.train.Checkpoint, lambda values: tf.constant(values, tf.bfloat16)
)
MODES = ("root", "arguments", "both")


class Built:
    """A checkpoint object with the objects that it holds."""

    def __init__(self, lib: Any, graph: str, mode: str, fill: int) -> None:
        self.root = GRAPHS[graph](lib, fill)
        self.step = lib.variable(np.int64(fill))
        if mode == "root":
            self.checkpoint = lib.checkpoint(self.root)
        elif mode == "arguments":
            self.checkpoint = lib.checkpoint(z=self.root, step=self.step, l=[self.step])
        else:
            self.checkpoint = lib.checkpoint(self.root, step=self.step)


def files(prefix: str) -> list[bytes]:
    return [Path(prefix + end).read_bytes() for end in (".index", ".data-00000-of-00001")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("method", ["write", "save"])
def test_files_are_byte_identical(tmp_path: Path, graph: str, mode: str, method: str) -> None:
    ours = getattr(Built(OURS, graph, mode, 1).checkpoint, method)(str(tmp_path / "ours" / "c"))
    theirs = getattr(Built(THEIRS, graph, mode, 1).checkpoint, method)(str(tmp_path / "tf" / "c"))
    assert list_variables(ours) == list_variables(theirs)
    assert files(ours) == files(theirs)
    if method == "save":
        states = [(tmp_path / name / "checkpoint").read_bytes() for name in ("ours", "tf")]
        assert states[0] == states[1]


def values(prefix: str) -> dict[str, bytes]:
    reader = load_checkpoint(prefix)
    found = {}
    for key in reader.get_variable_to_shape_map():
        value = np.asarray(reader.get_tensor(key))
        found[key] = repr(value.tolist()).encode() if value.dtype == object else value.tobytes()
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_tensorflow_restores_ours(tmp_path: Path, graph: str, mode: str) -> None:
    prefix = Built(OURS, graph, mode, 1).checkpoint.save(tmp_path / "c")
    target = Built(THEIRS, graph, mode, 0)
    target.checkpoint.restore(prefix).assert_consumed()
    assert values(target.checkpoint.write(str(tmp_path / "again"))) == values(prefix)
    assert tf.train.latest_checkpoint(str(tmp_path)) == prefix


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_ours_restores_tensorflows(tmp_path: Path, graph: str, mode: str) -> None:
    prefix = Built(THEIRS, graph, mode, 1).checkpoint.save(str(tmp_path / "c"))
    target = Built(OURS, graph, mode, 0)
    target.checkpoint.restore(prefix).assert_consumed()
    assert values(target.checkpoint.write(tmp_path / "again")) == values(prefix)
    assert target.checkpoint.save(tmp_path / "c") == str(tmp_path / "c-2")


@pytest.mark.parametrize("graph", GRAPHS)
def test_module_properties_agree(graph: str) -> None:
    ours, theirs = GRAPHS[graph](OURS, 1), GRAPHS[graph](THEIRS, 1)
    if graph == "containers":  # TensorFlow's walk fails where keys can't be sorted
        del ours.dict[7], theirs.dict[7]
    for attribute in ("variables", "trainable_variables", "non_trainable_variables"):
        found = [(v.name, v.dtype.name, tuple(v.shape)) for v in getattr(ours, attribute)]
        expected = [
            (v.name.removesuffix(":0"), v.dtype.name, tuple(v.shape))
            for v in getattr(theirs, attribute)
        ]
        assert found == expected
    assert [m.name for m in ours.submodules] == [m.name for m in theirs.submodules]
    assert ours.name_scope.name == theirs.name_scope.name
