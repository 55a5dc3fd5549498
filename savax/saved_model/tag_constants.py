"""Tags of MetaGraphDefs, under TensorFlow's names."""

from __future__ import annotations

from savax.saved_model._constants import GPU, SERVING, TPU, TRAINING

__all__ = ["GPU", "SERVING", "TPU", "TRAINING"]
