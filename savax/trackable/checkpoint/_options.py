"""Options of writing and restoring checkpoints."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from savax.errors import InvalidArgumentError
from savax.trackable.checkpoint._io_device import check_io_device
from savax.trackable.checkpoint._sharding_policies import ShardingCallback, checked_callback
from savax.trackable.checkpoint._write_callbacks import checked_callbacks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.trackable.checkpoint._write_callbacks import WriteCallback


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """How a checkpoint is written or restored; the names are TensorFlow's, but for the last four.

    Attributes:
      experimental_io_device: a device of this host, as files are read and written by this process.
      experimental_enable_async_checkpoint: the older name of ``enable_async``, and sets it.
      experimental_write_callbacks: functions that are called in this order when a checkpoint has
        been written, before a state file names it. Those that take an argument get the prefix. If
        one raises, the rest isn't called, and the call that writes fails.
      enable_async: whether ``write`` and ``save`` return as soon as all values are on the host,
        while a thread writes the files; see ``Checkpoint.save_async``. Restoring ignores it.
      experimental_skip_slot_variables: leaves optimizers' slot variables as they are when a
        checkpoint is restored, and doesn't miss them. Writing ignores it.
      experimental_sharding_callback: decides what each data file holds, such as a
        ``train.experimental.MaxShardSizePolicy``.
      across_processes: whether all processes of a JAX program (``jax.distributed``) write one
        checkpoint together. All of them must write then. Otherwise this process writes alone, what
        it has all of. Without other processes it means nothing.
      process_timeout_seconds: how long to wait for another process. It begins anew with each step:
        until all are there, and from the end of this process's own part to that of the others.
      copy_for_async: whether an asynchronous call copies arrays of JAX on CPUs as well, instead of
        keeping them. Where the next step donates them, that takes less time than the fresh memory
        that the step needs otherwise.
      verify: whether to check the data's checksums when it is restored. Where only a part of a
        stored tensor is needed, ``"all"`` reads the rest too, to check the whole of it.

    Raises:
      UnsupportedOptionError: the IO device is another host's.
      InvalidArgumentError: it is no device, a callback takes more than the prefix, or the sharding
        callback is no ``train.experimental.ShardingCallback``.
    """

    experimental_io_device: str | None = None
    experimental_enable_async_checkpoint: bool = False
    experimental_write_callbacks: Sequence[WriteCallback] | None = None
    enable_async: bool = False
    experimental_skip_slot_variables: bool = False
    experimental_sharding_callback: ShardingCallback | None = None
    across_processes: bool = True
    process_timeout_seconds: float = 600.0
    copy_for_async: bool = False
    verify: bool | Literal["all"] = True

    def __post_init__(self) -> None:
        check_io_device(self.experimental_io_device)
        if not self.process_timeout_seconds > 0:
            raise InvalidArgumentError(
                f"process_timeout_seconds must be positive, not {self.process_timeout_seconds!r}."
            )
        if self.verify not in (True, False, "all"):
            raise InvalidArgumentError(f'verify is True, False or "all", not {self.verify!r}.')
        if self.experimental_enable_async_checkpoint:
            object.__setattr__(self, "enable_async", True)
        if self.experimental_write_callbacks is not None:
            callbacks = checked_callbacks(self.experimental_write_callbacks)
            object.__setattr__(self, "experimental_write_callbacks", callbacks)
        checked_callback(self.experimental_sharding_callback)
