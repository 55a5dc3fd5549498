"""Settings of every test: strict JAX promotion, one CPU, fixed seeds."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "savax",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("savax")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)


# After how much growth a worker gives back what JAX keeps: it would take several GiB in the end.
_MAX_GROWTH = 1536 << 20
_STATM = Path("/proc/self/statm")


class _Memory:
    """The resident memory of this process after it was last given back, in bytes."""

    def __init__(self) -> None:
        self._least = 0

    def bound(self) -> None:
        now = self._resident()
        self._least = min(self._least, now) or now
        if now - self._least > _MAX_GROWTH:
            jax.clear_caches()
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            self._least = self._resident()

    @staticmethod
    def _resident() -> int:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="session")
def _memory() -> _Memory:
    return _Memory()


@pytest.fixture(autouse=True)
def _bounded_memory(_memory):
    """Keeps a worker small: JAX keeps every program, and glibc what was freed."""
    yield
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        _memory.bound()
