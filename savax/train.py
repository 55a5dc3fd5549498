"""Training checkpoints, under TensorFlow's names; nothing here needs JAX."""

from __future__ import annotations

from savax.trackable.checkpoint import (
    Checkpoint,
    CheckpointManager,
    CheckpointOptions,
    RestoreReport,
    get_checkpoint_state,
    latest_checkpoint,
    list_variables,
    load_checkpoint,
    load_variable,
)

__all__ = [
    "Checkpoint",
    "CheckpointManager",
    "CheckpointOptions",
    "RestoreReport",
    "get_checkpoint_state",
    "latest_checkpoint",
    "list_variables",
    "load_checkpoint",
    "load_variable",
]
