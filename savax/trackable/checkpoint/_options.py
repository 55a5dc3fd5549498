"""Options of writing and restoring checkpoints."""

from __future__ import annotations

import dataclasses
from typing import Any

from savax.errors import UnsupportedOptionError


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """How a checkpoint is written or restored; the names are TensorFlow's.

    Attributes:
      experimental_io_device: not supported.
      experimental_enable_async_checkpoint: not supported.
      experimental_write_callbacks: not supported.
      enable_async: not supported.
      experimental_skip_slot_variables: leaves optimizers' slot variables out of a checkpoint that
        is written.
      experimental_sharding_callback: not supported.

    Raises:
      UnsupportedOptionError: an option is set that would be ignored.
    """

    experimental_io_device: str | None = None
    experimental_enable_async_checkpoint: bool = False
    experimental_write_callbacks: Any = None
    enable_async: bool = False
    experimental_skip_slot_variables: bool = False
    experimental_sharding_callback: Any = None

    def __post_init__(self) -> None:
        refused = [
            field.name
            for field in dataclasses.fields(self)
            if field.name != "experimental_skip_slot_variables" and getattr(self, field.name)
        ]
        if refused:
            raise UnsupportedOptionError(
                f"savax doesn't implement these checkpoint options: {', '.join(refused)}. "
                "Leave them out."
            )
