"""OpenVINO and onnxruntime compute what JAX computes, from the files that savax writes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from savax.saved_model import save
from tests.model_zoo import CASES, Case

DIRECTORY = os.environ.get("SAVAX_CONSUMERS")
HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.consumer,
    pytest.mark.skipif(DIRECTORY is None, reason="SAVAX_CONSUMERS isn't set; see README.md"),
]

# What a reader can't do, with its own words for it.
LIMITS = {
    ("openvino", "misc"): "has no bfloat16 constants",
    ("onnx", "misc"): "tf2onnx has no rule for Log1p",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("reader", ["openvino", "onnx"])
def test_equal_results(case: Case, reader: str, tmp_path: Path) -> None:
    if (reader, case.name) in LIMITS:
        pytest.skip(LIMITS[reader, case.name])
    model = case.make()
    save(model, tmp_path / "model")
    for batch in (1, 3):
        inputs = case.inputs(batch, np.random.default_rng(batch))
        np.savez(tmp_path / "in.npz", **inputs)
        python = Path(DIRECTORY) / reader / "bin" / "python"
        paths = [tmp_path / "model", tmp_path / "in.npz", tmp_path / "out.npz"]
        done = subprocess.run(
            [python, HERE / f"run_{reader}.py", *paths],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        got = np.load(tmp_path / "out.npz")
        want = {k: np.asarray(v) for k, v in model(*inputs.values()).items()}
        assert set(got) == set(want)
        for key, value in want.items():
            assert got[key].shape == value.shape
            np.testing.assert_allclose(got[key], value, atol=1e-4, rtol=1e-4, err_msg=key)
