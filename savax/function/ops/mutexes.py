"""Mutexes, around what one thread at a time may do.

A call of a loaded model that writes Variables holds the model's lock from its first read to its
last write, so the graph's own mutexes have nothing to wait for.
"""

from __future__ import annotations

from typing import Any

from savax.function.evaluation._plan_values import ResourceHandle
from savax.function.ops._registry import evaluates

# One handle for all: programs are compiled for each handle.
_MUTEX = ResourceHandle("a mutex", obj=object())


@evaluates("MutexV2")
def _mutex() -> ResourceHandle:
    return _MUTEX


@evaluates("MutexLock")
def _mutex_lock(mutex: Any) -> ResourceHandle:
    return _MUTEX


@evaluates("ConsumeMutexLock")
def _consume_mutex_lock(mutex_lock: Any) -> None:
    return None
