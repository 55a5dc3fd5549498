"""Pictures of damaged models: an error of savax in one line, or a picture."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

import savax as sx
from savax.saved_model.cli import main
from tests.model_zoo import ControlFlow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "model"
    network = ControlFlow()
    network.shared = network.twin = sx.Variable(np.zeros(3, np.float32))
    sx.saved_model.save(network, directory)
    return directory


@pytest.mark.parametrize("options", [(), ("--objects",)], ids=["function", "objects"])
def test_damage_is_an_error_or_a_picture(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    file = model / "saved_model.pb"
    whole = file.read_bytes()
    rng = random.Random(0)
    codes = []
    for _ in range(120):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        output = str(tmp_path / "picture.html")
        codes.append(main(["draw", str(model), "-o", output, "--overwrite", *options]))
        captured = capsys.readouterr()
        assert (captured.out + captured.err).count("\n") == 1
    file.write_bytes(whole)
    assert set(codes) == {0, 1}
