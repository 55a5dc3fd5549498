"""What TensorFlow has under ``train.experimental``, and what is for checkpoint savers."""

from __future__ import annotations

from savax.trackable import register_checkpoint_saver
from savax.trackable.bundle import write_bundle
from savax.trackable.checkpoint import (
    MaxShardSizePolicy,
    PythonState,
    ShardableTensor,
    ShardByTaskPolicy,
    ShardingCallback,
    UnknownSaverWarning,
)

__all__ = [
    "MaxShardSizePolicy",
    "PythonState",
    "ShardByTaskPolicy",
    "ShardableTensor",
    "ShardingCallback",
    "UnknownSaverWarning",
    "register_checkpoint_saver",
    "write_bundle",
]
