"""What the models of ``export_by_tensorflow.py`` take."""

from __future__ import annotations

from typing import Any

import numpy as np

MODELS = ("resnet50", "efficientnetb0", "bert", "lstm")
SEQUENCE, WORDS = 64, 5000
STEPS, FEATURES = 200, 32


def make_input(name: str, batch: int) -> np.ndarray[Any, Any]:
    """Returns an input of a model."""
    generator = np.random.default_rng(0)
    if name == "bert":
        return generator.integers(0, WORDS, (batch, SEQUENCE), np.int32)
    if name == "lstm":
        return generator.standard_normal((batch, STEPS, FEATURES)).astype(np.float32)
    return (generator.random((batch, 224, 224, 3)) * 255).astype(np.float32)
