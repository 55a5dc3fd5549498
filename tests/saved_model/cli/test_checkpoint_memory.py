"""How much memory ``savax checkpoint`` takes for a checkpoint that is much larger."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from savax.trackable.bundle import write_bundle

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
_LARGE_MIB, _SMALL_MIB, _NUM_SMALL = 128, 16, 8


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tensor of 128 MiB, and another checkpoint with eight tensors of 16 MiB."""
    directory = tmp_path_factory.mktemp("large")
    zeros = np.zeros(_LARGE_MIB * MIB // 4, np.float32)
    write_bundle(directory / "one", [("x", zeros)], fsync=False)
    small = zeros[: _SMALL_MIB * MIB // 4]
    write_bundle(directory / "many", [(f"x{i}", small) for i in range(_NUM_SMALL)], fsync=False)
    return directory


def growth_mib(*arguments: str) -> float:
    """Memory that a command takes beside that of an idle one."""
    code = (
        "import resource, sys\n"
        "from savax.saved_model.cli import main\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(peak() - before)"
    )
    command = [sys.executable, "-c", code, "checkpoint", *arguments]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(result.stdout.splitlines()[-1]) * 1024 / MIB  # ru_maxrss counts KiB


def test_verify_takes_a_small_buffer(large: Path) -> None:
    assert growth_mib("verify", str(large / "one")) < 16


def test_diff_takes_one_pair_at_a_time(large: Path) -> None:
    assert growth_mib("diff", str(large / "many"), str(large / "many")) < 2 * _SMALL_MIB + 40


def test_show_of_values_takes_one_tensor_at_a_time(large: Path) -> None:
    keys = [f"x{i}" for i in range(_NUM_SMALL)]
    assert growth_mib("show", str(large / "many"), *keys) < 2 * _SMALL_MIB + 24
