"""Damaged files: an error of savax, or a warning, or the very same model."""

from __future__ import annotations

import random
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import savax as sv
from savax.errors import SavaxError
from savax.saved_model import ModelChangedWarning, load, save

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = (
    "saved_model.pb",
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)
X = np.ones((1, 3), np.float32)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    root = tmp_path_factory.mktemp("corruption")
    (root / "words.txt").write_text("a b c")
    m = sv.Module()
    m.w = sv.Variable(np.arange(6, dtype=np.float32).reshape(3, 2), name="w")
    m.inner = [sv.Variable(np.int64(5), name="n"), sv.Module()]
    m.words = sv.saved_model.Asset(root / "words.txt")

    def f(x, scale=2):
        return {"y": x @ m.w * scale + np.float32([0.5, 1.5])}

    m.f = sv.function(f, input_signature=[sv.TensorSpec([None, 3], sv.float32)])
    save(m, root / "model")
    return root / "model"


def answer(path: Path) -> Any:
    """Returns all that a model says, or None where it says that something is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ModelChangedWarning)
            model = load(path)
            values = (
                model.w.numpy().tolist(),
                model.inner[0].numpy().tolist(),
                Path(model.words.asset_path).read_text(),
                np.asarray(model.f(X)["y"]).tolist(),
                np.asarray(model.signatures["serving_default"](x=X)["y"]).tolist(),
            )
    except (SavaxError, ModelChangedWarning):
        return None
    return values


def damaged(data: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    for _ in range(count):
        position = rng.randrange(len(data))
        yield (
            data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]
        )
        position, length = rng.randrange(len(data)), rng.randrange(1, 9)
        yield data[:position] + rng.randbytes(length) + data[position + length :]
        yield data[:position] + data[position + length :]
        yield data[:position] + rng.randbytes(length) + data[position:]


@pytest.mark.parametrize("name", FILES)
def test_damage_is_never_silent(name, directory, tmp_path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    want = answer(copy)
    assert want is not None
    data = (copy / name).read_bytes()
    rng = random.Random(name)
    unnoticed = 0
    for bad in damaged(data, rng, 60):
        if bad == data:
            continue
        (copy / name).write_bytes(bad)
        found = answer(copy)
        assert found in (None, want)
        unnoticed += found == want
    # Bytes that mean nothing, such as the fingerprint's uuid.
    assert unnoticed < (200 if name == "fingerprint.pb" else 20)


@pytest.mark.parametrize("name", FILES)
def test_truncation(name, directory, tmp_path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    want = answer(copy)
    data = (copy / name).read_bytes()
    sizes = {0, 1, len(data) - 1, *random.Random(name).sample(range(len(data)), 30)}
    for size in sorted(sizes):
        (copy / name).write_bytes(data[:size])
        assert answer(copy) in ((None, want) if name == "fingerprint.pb" else (None,)), size


def test_without_a_fingerprint_damage_is_an_error_or_another_program(directory, tmp_path) -> None:
    # Nothing else protects the program, so a changed one may load; it must not crash or hang.
    copy = shutil.copytree(directory, tmp_path / "copy")
    (copy / "fingerprint.pb").unlink()
    data = (copy / "saved_model.pb").read_bytes()
    values = answer(copy)[:2]
    for bad in damaged(data, random.Random(0), 60):
        (copy / "saved_model.pb").write_bytes(bad)
        try:
            model = load(copy)
        except SavaxError:
            continue
        for name, value in (("w", values[0]), ("inner", values[1])):
            # A renamed attribute is another program; values under their own names are right.
            if (found := getattr(model, name, None)) is not None and name == "w":
                assert found.numpy().tolist() == value


def test_files_of_two_models_mixed(directory, tmp_path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    model = load(copy)
    model.w.assign(np.zeros((3, 2)))
    save(model, tmp_path / "other")
    shutil.rmtree(copy / "variables")
    shutil.copytree(tmp_path / "other" / "variables", copy / "variables")
    with pytest.warns(ModelChangedWarning, match=r"variables\.index changed after"):
        load(copy)
