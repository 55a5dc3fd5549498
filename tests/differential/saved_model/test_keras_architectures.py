"""A small architecture of keras.applications; tools/check_keras_models.py does it for all."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import savax

pytest.importorskip("tensorflow")
pytest.importorskip("keras")
pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def tool() -> Any:
    path = Path(savax.__file__).parents[1] / "tools" / "check_keras_models.py"
    if not path.exists():
        pytest.skip("only in a checkout")
    spec = importlib.util.spec_from_file_location("check_keras_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_results_and_gradients(tool: Any) -> None:
    """A small net with depthwise convolutions, batch norm, gates, and hard activations."""
    row = tool.check("MobileNetV3Small", alpha=0.75)
    assert row.weights > 100_000
    assert row.result < 1e-4
    assert row.gradients < 1e-4
