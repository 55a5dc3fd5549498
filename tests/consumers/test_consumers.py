"""Other readers compute what JAX computes, from the files that savax writes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from savax.errors import UnsupportedTargetError
from savax.saved_model import SaveOptions, save
from tests.consumers.readers import OTHERS, Job, Outcome, run
from tests.model_zoo import CASES, Case

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY = os.environ.get("SAVAX_CONSUMERS")

pytestmark = [
    pytest.mark.consumer,
    pytest.mark.skipif(DIRECTORY is None, reason="SAVAX_CONSUMERS isn't set; see README.md"),
]

# What a reader can't do at all: an export for it as the target is refused with these words.
LIMITS = {
    ("openvino", "misc"): "doesn't run Mul of bfloat16",
    ("onnx", "misc"): "doesn't run Mul of bfloat16",
    ("litert", "lstm"): "doesn't run TensorListReserve",
    ("litert", "misc"): "doesn't run Mul of bfloat16",
    ("tfjs", "misc"): "doesn't run Mul of bfloat16",
}

# What a reader does only if the model is exported for it.
TARGETED = {
    ("tfjs", "mlp"),  # it fuses MatMul and Tanh, and then can't run it on CPUs
    ("tfjs", "cnn"),  # it has no grouped convolution
}


def inputs_of(case: Case) -> list[dict[str, np.ndarray]]:
    return [case.inputs(batch, np.random.default_rng(batch)) for batch in (1, 3)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Outcome]:
    folder: Path = tmp_path_factory.mktemp("models")
    for case in CASES:
        save(case.make(), folder / case.name)
    for reader, name in TARGETED:
        (case,) = [case for case in CASES if case.name == name]
        save(case.make(), folder / f"{name}_{reader}", options=SaveOptions(target=reader))
    found = {}
    for reader in OTHERS:
        cases = [case for case in CASES if (reader, case.name) not in LIMITS]
        paths = [
            folder / (f"{case.name}_{reader}" if (reader, case.name) in TARGETED else case.name)
            for case in cases
        ]
        jobs = [Job(path, inputs_of(case)) for path, case in zip(paths, cases, strict=True)]
        for case, outcome in zip(cases, run(reader, jobs, DIRECTORY), strict=True):
            found[reader, case.name] = outcome
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("reader", OTHERS)
def test_equal_results(
    case: Case, reader: str, outcomes: dict[tuple[str, str], Outcome], tmp_path: Path
) -> None:
    if (reader, case.name) in LIMITS:
        with pytest.raises(UnsupportedTargetError, match=LIMITS[reader, case.name]):
            save(case.make(), tmp_path / "model", options=SaveOptions(target=reader))
        return
    outcome = outcomes[reader, case.name]
    assert outcome.error is None
    model = case.make()
    for inputs, got in zip(inputs_of(case), outcome.outputs, strict=True):
        want = {k: np.asarray(v) for k, v in model(*inputs.values()).items()}
        assert set(got) == set(want)
        for key, value in want.items():
            assert got[key].shape == value.shape
            np.testing.assert_allclose(got[key], value, atol=1e-4, rtol=1e-4, err_msg=key)
