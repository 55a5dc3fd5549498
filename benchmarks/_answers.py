"""Whether what is compared in speed computes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

TOLERANCE = 1e-3


def agreement(answers: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Returns, as a note of a row, how far answers are from each other at most.

    Args:
      answers: arrays by the names of what computed them.

    Raises:
      ValueError: the shapes differ, or the values by more than rounding explains.
    """
    values = list(answers.values())
    shapes = {value.shape for value in values}
    if len(shapes) > 1:
        raise ValueError(f"the answers of {', '.join(answers)} have the shapes {shapes}")
    # NumPy's max of all, as Python's passes over NaN.
    largest = np.abs(values).max()
    difference = np.abs(np.subtract(values, values[0])).max()
    if not difference <= TOLERANCE * largest:
        raise ValueError(f"the answers of {', '.join(answers)} differ by {difference:.1e}")
    return f"the results differ by {difference:.0e} at most"
