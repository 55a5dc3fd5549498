"""A small architecture of keras.applications; tools/check_keras_models.py does it for all."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("keras")
pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def tool() -> Any:
    return importlib.import_module("tools.check_keras_models")


def test_results_and_gradients(tool: Any) -> None:
    """A small net with depthwise convolutions, batch norm, gates, and hard activations."""
    row = tool.check("MobileNetV3Small", alpha=0.75)
    assert row.weights > 100_000
    assert row.result < 1e-4
    assert row.gradients < 1e-4
