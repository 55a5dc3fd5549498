"""``savax draw``: what it writes and refuses, and that it reads files only."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import savax as sx
from savax.saved_model.cli import main
from savax.saved_model.cli._tables import size_text

if TYPE_CHECKING:
    from pathlib import Path


class Net(sx.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = sx.Variable(np.ones((4, 3), np.float32), name="kernel")

    @sx.function(input_signature=[sx.TensorSpec([None, 4], name="x")])
    def __call__(self, x: sx.Variable) -> object:
        return {"y": x @ self.kernel}

    @sx.function
    def scale(self, x: sx.Variable, factor: int = 2) -> object:
        return x * factor


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    net = Net()
    net.scale(np.zeros(2, np.float32))
    net.scale(np.zeros(2, np.float32), 3)
    path = str(tmp_path_factory.mktemp("models") / "net")
    options = sx.saved_model.SaveOptions(save_debug_info=True)
    sx.saved_model.save(net, path, options=options)
    return path


def draw(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["draw", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["draw", *map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_signature_is_drawn(
    model_dir: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("net.svg", "net.html"):
        file = tmp_path / name
        said = draw(capsys, model_dir, "-o", file)
        assert said == f"Wrote {file}, {size_text(file.stat().st_size)}\n"
        text = file.read_text("utf-8")
        assert "net: signature serving_default" in text
        for part in ("MatMul", "kernel float32[4", "float32[?, 4]", "test_draw.py:"):
            assert part in text, part
    assert sorted(os.listdir(tmp_path)) == ["net.html", "net.svg"]


def test_functions_are_drawn_by_path_and_by_name(
    model_dir: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.svg"
    for name in ("__call__", "root.__call__", "__inference___call___0"):
        draw(capsys, model_dir, "--function", name, "-o", file, "--overwrite")
        assert "MatMul" in file.read_text("utf-8")
    error = error_of(capsys, model_dir, "--function", "scale", "-o", tmp_path / "a.svg")
    assert "'scale' has 2 traces; choose one: __inference_scale" in error
    error = error_of(capsys, model_dir, "--function", "nothing", "-o", tmp_path / "a.svg")
    assert "no function 'nothing' with a trace; there are: root.__call__" in error


def test_objects_are_drawn(
    model_dir: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.svg"
    draw(capsys, model_dir, "--objects", "--output", file)
    text = file.read_text("utf-8")
    assert "net: objects" in text
    assert "float32[4, 3] 'kernel'" in text
    assert "48 B" in text
    error = error_of(capsys, model_dir, "--objects", "--open", "q", "-o", tmp_path / "a.svg")
    assert "no object 'q'; root has: " in error


def test_files_are_replaced_only_on_request(
    model_dir: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.svg"
    file.write_text("mine")
    assert "exists; --overwrite replaces it" in error_of(capsys, model_dir, "-o", file)
    assert file.read_text() == "mine"
    draw(capsys, model_dir, "-o", file, "--overwrite")
    assert file.read_text("utf-8").startswith("<svg")
    assert os.listdir(tmp_path) == ["net.svg"]


def test_what_cannot_be_drawn_is_one_line(
    model_dir: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.svg"
    assert "neither .svg nor .html" in error_of(capsys, model_dir, "-o", tmp_path / "a.png")
    assert "no signature 'q'; there are: serving_default" in error_of(
        capsys, model_dir, "--signature", "q", "-o", file
    )
    assert "no group 'q' to open" in error_of(capsys, model_dir, "--open", "q", "-o", file)
    assert "no graph with the tags q" in error_of(capsys, model_dir, "--tags", "q", "-o", file)
    assert "no SavedModel directory" in error_of(capsys, tmp_path / "none", "-o", file)
    assert "No such file" in error_of(capsys, model_dir, "-o", tmp_path / "none" / "a.svg")
    with pytest.raises(SystemExit, match="2"):
        main(["draw", model_dir, "-o", str(file), "--objects", "--function", "f"])
    with pytest.raises(SystemExit, match="2"):
        main(["draw", model_dir])
    assert os.listdir(tmp_path) == []


def test_draw_loads_neither_jax_nor_tensorflow(model_dir: str, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from savax.saved_model.cli import main\n"
        f"code = main(['draw', {model_dir!r}, '-o', {str(tmp_path / 'a.html')!r}])\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "sys.exit(code or bool(loaded & {'jax', 'jaxlib', 'tensorflow'}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
