"""The examples run as users run them, in processes of their own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from savax.trackable.checkpoint import latest_checkpoint, load_checkpoint

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
STEPS = 200


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "PYTHONWARNINGS": "error"}


def digits(directory: Path, *options: str) -> list[str]:
    script = str(EXAMPLES / "digits.py")
    return [sys.executable, script, "--directory", str(directory), *options]


def run(command: list[str], directory: Path) -> str:
    done = subprocess.run(
        command, cwd=directory, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_small_example(script: Path, tmp_path: Path) -> None:
    assert run([sys.executable, str(script), "made"], tmp_path)
    assert (tmp_path / "made").is_dir()


def test_the_pictures_of_the_documentation_are_those_of_the_example(tmp_path: Path) -> None:
    run([sys.executable, str(EXAMPLES / "09_draw_a_model.py"), "made"], tmp_path)
    for name in ("network.svg", "objects.svg"):
        # To make them anew: python examples/09_draw_a_model.py, and copy build/drawn/*.svg.
        made = (tmp_path / "made" / name).read_text("utf-8")
        assert made == (ROOT / "docs" / "pictures" / name).read_text("utf-8")


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
def test_shell_example(tmp_path: Path) -> None:
    output = run(["sh", str(EXAMPLES / "06_inspect_with_cli.sh")], tmp_path)
    assert "Signature 'similarity'" in output


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("[0-9]*")), ids=lambda path: path.name)
def test_small_examples_stay_small(script: Path) -> None:
    assert len(script.read_text().splitlines()) < 60


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory and output of a run of the digits example that nobody stops."""
    directory = tmp_path_factory.mktemp("digits")
    return directory, run(digits(directory, "--steps", str(STEPS)), directory)


def test_digits_are_learned_exported_and_served(uninterrupted: tuple[Path, str]) -> None:
    directory, output = uninterrupted
    assert f"{STEPS}/{STEPS}" in output
    percent = float(output.partition("training images, ")[2].partition("%")[0])
    assert percent > 90
    readers = ["savax", *(["tensorflow", "session", "c_api"] if HAS_TENSORFLOW else [])]
    for reader in readers:
        assert f"{reader:12} same digits" in output
    if not HAS_TENSORFLOW:
        assert "TensorFlow isn't installed" in output
    assert (directory / "model" / "saved_model.pb").is_file()


def test_a_killed_training_resumes_to_the_same_weights(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    command = digits(tmp_path, "--steps", str(STEPS))
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()  # the first checkpoint is there
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    killed_at = load_step(tmp_path)
    assert 0 < killed_at < STEPS

    output = run(command, tmp_path)
    assert f"at step {killed_at}." in output
    assert load_step(tmp_path) == STEPS
    want, got = weights(uninterrupted[0]), weights(tmp_path)
    assert want.keys() == got.keys()
    for key, value in want.items():
        np.testing.assert_array_equal(got[key], value, err_msg=key)


def weights(directory: Path) -> dict[str, np.ndarray]:
    prefix = latest_checkpoint(directory / "checkpoints")
    assert prefix is not None
    reader = load_checkpoint(prefix)
    keys = [key for key in reader.get_variable_to_shape_map() if key.endswith("VARIABLE_VALUE")]
    return {key: reader.get_tensor(key) for key in keys}


def load_step(directory: Path) -> int:
    return int(weights(directory)["step/.ATTRIBUTES/VARIABLE_VALUE"])
