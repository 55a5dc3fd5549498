"""What the models of ``keras_models.py`` take."""

from __future__ import annotations

from typing import Any

import numpy as np

SEQUENCE, WORDS = 64, 5000
STEPS, FEATURES = 200, 32
PIXELS = 784
NUMBERS, CATEGORIES, CATEGORY_SIZE = 13, 26, 10_000


def make_inputs(name: str, batch: int, image_size: int = 224) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the inputs of a model by their names in its signature."""
    generator = np.random.default_rng(0)
    if name in {"bert", "gru"}:
        return {"tokens": generator.integers(0, WORDS, (batch, SEQUENCE), np.int32)}
    if name == "lstm":
        return {"sequence": generator.standard_normal((batch, STEPS, FEATURES), np.float32)}
    if name == "mlp":
        return {"pixels": generator.standard_normal((batch, PIXELS), np.float32)}
    if name == "dlrm":
        return {
            "numbers": generator.standard_normal((batch, NUMBERS), np.float32),
            "ids": generator.integers(0, CATEGORY_SIZE, (batch, CATEGORIES), np.int64),
        }
    # The models of images scale the values themselves, or take any.
    image = generator.random((batch, image_size, image_size, 3), np.float32)
    return {"image": image * np.float32(255)}
