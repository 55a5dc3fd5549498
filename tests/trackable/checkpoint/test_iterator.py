"""checkpoints_iterator."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import pytest

import savax.trackable.checkpoint._iterator as iterator_module
from savax.trackable import Variable
from savax.trackable.checkpoint import Checkpoint, checkpoints_iterator

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterator_module, "_POLL_SECONDS", 0.005)


def test_it_ends_at_the_timeout(tmp_path: Path) -> None:
    assert list(checkpoints_iterator(tmp_path / "missing", timeout=0.02)) == []
    prefix = Checkpoint(v=Variable(1)).save(tmp_path / "c")
    assert list(checkpoints_iterator(tmp_path, timeout=0.02)) == [prefix]


def test_every_new_checkpoint_comes_once(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=Variable(1))
    iterator = checkpoints_iterator(tmp_path)
    for _ in range(3):
        prefix = checkpoint.save(tmp_path / "c")
        assert next(iterator) == prefix
    checkpoint.save(tmp_path / "c")
    last = checkpoint.save(tmp_path / "c")
    assert next(iterator) == last  # the one between is gone


def test_it_waits_for_another_thread(tmp_path: Path) -> None:
    writer = threading.Timer(0.05, lambda: Checkpoint(v=Variable(1)).save(tmp_path / "c"))
    writer.start()
    assert next(checkpoints_iterator(tmp_path, timeout=30)) == str(tmp_path / "c-1")
    writer.join()


def test_the_timeout_function_decides(tmp_path: Path) -> None:
    calls = itertools.count(1)
    found = checkpoints_iterator(tmp_path, timeout=0.01, timeout_fn=lambda: next(calls) == 3)
    assert list(found) == []
    assert next(calls) == 4
    prefix = Checkpoint(v=Variable(1)).save(tmp_path / "c")
    assert list(checkpoints_iterator(tmp_path, timeout_fn=lambda: True)) == [prefix]


def test_the_least_time_between_two(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=Variable(1))
    iterator = checkpoints_iterator(tmp_path, min_interval_secs=0.1)
    checkpoint.save(tmp_path / "c")
    started = time.monotonic()
    next(iterator)
    checkpoint.save(tmp_path / "c")
    next(iterator)
    assert time.monotonic() - started >= 0.1
