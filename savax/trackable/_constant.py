"""Constant: an array that a function has captured, as a node of the object graph."""

from __future__ import annotations

from typing import Any

from savax.trackable._base import Trackable


class Constant(Trackable):
    """An array that is saved inside the model's graph, never in a checkpoint.

    Args:
      array: a numpy or JAX array.
    """

    def __init__(self, array: Any) -> None:
        self.array = array

    def __repr__(self) -> str:
        return f"Constant(shape={tuple(self.array.shape)}, dtype={self.array.dtype})"
