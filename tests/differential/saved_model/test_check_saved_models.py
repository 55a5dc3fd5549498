"""tools/check_saved_models.py on small models, good and broken ones."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

import savax

if TYPE_CHECKING:
    from pathlib import Path

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def tool() -> Any:
    return importlib.import_module("tools.check_saved_models")


class _Model(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.v = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def scaled(self, x):
        return {"y": x * self.v}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def parsed(self, serialized):
        features = {
            "a": tf.io.FixedLenFeature([2], tf.float32),
            "b": tf.io.VarLenFeature(tf.int64),
        }
        found = tf.io.parse_example(serialized, features)
        return {"a": found["a"], "b": tf.sparse.to_dense(found["b"])}

    @tf.function(input_signature=[])
    def count(self):
        self.v.assign_add(1.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checked")
    model = _Model()
    signatures = {"serving_default": model.scaled, "examples": model.parsed}
    tf.saved_model.save(model, str(path / "good"), signatures=signatures)
    bad = path / "some" / "folders" / "further" / "down" / "bad"
    tf.saved_model.save(model, str(bad), signatures=signatures)
    (bad / "saved_model.pb").write_bytes((bad / "saved_model.pb").read_bytes()[:-100])
    return path


def test_a_model_agrees_and_a_broken_one_is_named(tool: Any, root: Path) -> None:
    rows = [row for model in tool.find_models([str(root)]) for row in tool.check(*model)]
    good, bad = rows
    assert (good.model, good.signatures, good.remarks) == ("good", 5, ())
    assert good.difference == 0.0
    assert good.is_good
    assert good.version == tf.__version__
    assert bad.model == "some/.../further/down/bad"
    assert bad.signatures == 0
    assert bad.difference is None
    (remark,) = bad.remarks
    assert remark.startswith("TensorFlow: ")


def test_differences_are_found(
    tool: Any, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(directory: str, tags: list[str]) -> Any:
        model = savax.saved_model.load(directory, tags=tags)
        model.v.assign(2.5)
        return model

    monkeypatch.setattr(tool, "load", load)
    assert tool.main([str(root / "good")]) == 1
    output = capsys.readouterr()
    assert "| 5 | 2e-01 |  |" in output.out
    assert "0 of 1 MetaGraphs agree" in output.err
    monkeypatch.setattr(tool, "load", lambda *_, **__: savax.Module())
    (row,) = tool.check(str(root / "good"), "good")
    assert not row.is_good


def test_the_page_gets_the_rows(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "models.md"
    page.write_text(f"# Models\n\n{tool._MARK}\n\nold\n")
    monkeypatch.setattr(tool, "PAGE", page)
    row = tool.Row("a/b", "2.21.0", 3, 2e-7, ("TensorFlow: x | y", "savax: z"))
    tool._write([row])
    text = page.read_text()
    assert text.endswith("| a/b | 2.21.0 | 3 | 2e-07 | TensorFlow: x \\| y; and 1 more |\n")
    assert "old" not in text
    assert not row.is_good
