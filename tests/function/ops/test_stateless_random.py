"""What the evaluation of TensorFlow's random ops refuses."""

from __future__ import annotations

import numpy as np
import pytest

import savax.function.ops  # noqa: F401 - registers the rules
from savax.errors import UnsupportedParamError
from savax.function.ops._registry import EVALUATIONS
from savax.types import as_dtype


def test_random_algorithms_other_than_philox_are_refused() -> None:
    key, counter = np.zeros(1, np.uint64), np.zeros(2, np.uint64)
    rule = EVALUATIONS["StatelessRandomUniformV2"].rule
    with pytest.raises(UnsupportedParamError, match="Random algorithm 2: expected 1"):
        rule(np.array([2]), key, counter, np.int32(2), dtype=as_dtype("float32"))
