"""What TensorFlow has under ``train.experimental``; this much of it exists here."""

from __future__ import annotations

from savax.trackable.checkpoint import PythonState

__all__ = ["PythonState"]
