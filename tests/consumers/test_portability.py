"""What is exported for a target runs in it, and gives what JAX gives; the rest is refused.

All programs are outputs of one model, as starting a converter is what takes time. Models of known
architectures are in tests/zoo.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest

import savax as sx
from savax.errors import UnsupportedTargetError
from savax.portability import CONSUMERS
from savax.saved_model import SaveOptions, save
from tests.consumers.portable_programs import PROGRAMS
from tests.consumers.readers import Job, Outcome, run
from tests.model_zoo import CASES, Case

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY = os.environ.get("SAVAX_CONSUMERS")

X = np.random.default_rng(3).uniform(-3, 3, (3, 5)).astype(np.float32)

# Programs that no form is known for, by target.
_NOWHERE = {"products_cholesky", "products_bessel_i0e", "products_nextafter"}
_NOWHERE |= {"elementary_bfloat16"}
_BITS = {
    *("integers_and", "integers_or", "integers_xor", "integers_shift_right"),
    *("integers_population_count", "integers_random_uniform", "integers_random_normal"),
}
_FOURIER = {"products_fft", "products_rfft"}
REFUSED = {
    "litert": {*_NOWHERE, *_FOURIER},
    "tfjs": {*_NOWHERE, *_BITS},
    "onnx": {*_NOWHERE, *_FOURIER},
    "openvino": _NOWHERE,
    "portable": {*_NOWHERE, *_BITS, *_FOURIER},
}

# Models that all consumers run as they are written for TensorFlow.
UNTARGETED = [case for case in CASES if case.name in ("transformer", "control_flow")]


def accepted(target: str) -> dict[str, Any]:
    return {name: program for name, program in PROGRAMS.items() if name not in REFUSED[target]}


def model_of(programs: dict[str, Any]) -> sx.Module:
    module = sx.Module()
    module.f = sx.function(
        lambda x: {name: program(x) for name, program in programs.items()},
        input_signature=[sx.TensorSpec([None, 5], "float32", "x")],
    )
    return module


@pytest.mark.parametrize("target", REFUSED)
def test_refused_programs(target: str, tmp_path: Path) -> None:
    for name in REFUSED[target]:
        module = model_of({name: PROGRAMS[name]})
        with pytest.raises(UnsupportedTargetError, match=r"\.py:\d+ "):
            save(module, tmp_path / name, module.f, SaveOptions(target=target))


@pytest.mark.consumer
@pytest.mark.skipif(DIRECTORY is None, reason="SAVAX_CONSUMERS isn't set; see README.md")
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_accepted_programs(consumer: str, tmp_path: Path) -> None:
    """Runs them, and models that were exported for no target and need none."""
    jobs = {case.name: untargeted(case, tmp_path) for case in UNTARGETED}
    # tf2onnx takes as long as all others together, so one model must do there.
    for target in ("onnx",) if consumer == "onnx" else (consumer, "portable"):
        module = model_of(accepted(target))
        save(module, tmp_path / target, module.f, SaveOptions(target=target))
        jobs[target] = Job(tmp_path / target, [{"x": X}])
    outcomes = dict(zip(jobs, run(consumer, list(jobs.values()), DIRECTORY), strict=True))
    for case in UNTARGETED:
        check_untargeted(case, outcomes.pop(case.name))
    problems = [
        f"{target}: {problem}"
        for target, outcome in outcomes.items()
        for problem in differences(accepted(target), outcome)
    ]
    assert problems == []


def inputs_of(case: Case) -> list[dict[str, np.ndarray]]:
    return [case.inputs(batch, np.random.default_rng(batch)) for batch in (1, 3)]


def untargeted(case: Case, folder: Path) -> Job:
    save(case.make(), folder / case.name)
    return Job(folder / case.name, inputs_of(case))


def check_untargeted(case: Case, outcome: Outcome) -> None:
    assert outcome.error is None
    model = case.make()
    for inputs, got in zip(inputs_of(case), outcome.outputs, strict=True):
        want = model(*inputs.values())
        assert set(got) == set(want)
        for key, value in want.items():
            assert got[key].shape == value.shape
            np.testing.assert_allclose(got[key], value, atol=1e-4, rtol=1e-4, err_msg=key)


def differences(programs: dict[str, Any], outcome: Any) -> list[str]:
    if outcome.error is not None:
        return [outcome.error[-2000:]]
    found = []
    (outputs,) = outcome.outputs
    for name, program in programs.items():
        want = np.asarray(jax.jit(program)(X))
        got = outputs[name]
        if got.shape != want.shape:
            found.append(f"{name} has the shape {got.shape}, not {want.shape}")
        elif not np.allclose(got, want, rtol=1e-4, atol=1e-5, equal_nan=True):
            found.append(f"{name} is {got.ravel()[:4]}, not {want.ravel()[:4]}")
    return found
