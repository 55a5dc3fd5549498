"""What an import loads: file-only work never pays for JAX, nothing ever pays for TensorFlow."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("jax", "jaxlib", "tensorflow", "google.protobuf")


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return set(result.stdout.split()) & set(HEAVY)


def test_import_savax_loads_nothing_heavy() -> None:
    assert loaded_after("import savax") == set()


@pytest.mark.parametrize(
    "statement",
    [
        "import savax.trackable.bundle",
        "import savax.trackable.checkpoint",
        "import savax.saved_model.cli",
        "import savax; savax.TensorSpec, savax.float32, savax.errors",
        "import savax; savax.train.list_variables, savax.train.load_checkpoint",
    ],
)
def test_file_only_work_does_not_load_jax(statement: str) -> None:
    assert not loaded_after(statement) & {"jax", "jaxlib", "tensorflow"}


@pytest.mark.parametrize("statement", ["import savax; savax.function, savax.saved_model.save"])
def test_nothing_loads_tensorflow(statement: str) -> None:
    assert "tensorflow" not in loaded_after(statement)
