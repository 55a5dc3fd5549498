"""Files that a fuzzer found to reach much of the readers, and random damage for a bounded time."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.attacks.fuzz.targets import CORPUS, Targets

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("graph", "calls", "text", "image", "index", "fingerprint", "objects", "commands")
_SECONDS = 2.0  # for each target
_SLOW = 20.0  # for one input


@pytest.fixture(scope="module")
def targets() -> Iterator[Targets]:
    made = Targets()
    yield made
    made.close()


def _run(targets: Targets, name: str, data: bytes, what: str) -> None:
    start = time.perf_counter()
    try:
        targets.by_name[name](data)
    except Exception as error:
        raise AssertionError(f"{what} of {name!r} raised {error!r}") from error
    assert time.perf_counter() - start < _SLOW, f"{what} of {name!r} took too long"


def test_all_targets_are_fuzzed(targets: Targets) -> None:
    assert set(targets.by_name) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_files_as_they_are(targets: Targets, name: str) -> None:
    for seed in targets.seeds(name):
        _run(targets, name, seed, "the file itself")


@pytest.mark.parametrize("name", NAMES)
def test_corpus(targets: Targets, name: str) -> None:
    files = sorted((CORPUS / name).glob("*"))
    assert files
    for file in files:
        _run(targets, name, file.read_bytes(), file.name)


@pytest.mark.parametrize("name", NAMES)
def test_random_damage(targets: Targets, name: str) -> None:
    end = time.perf_counter() + _SECONDS
    for number, data in enumerate(targets.variants(name, random.Random(name))):
        _run(targets, name, data, f"variant {number}")
        if time.perf_counter() > end:
            break


def test_another_exception_is_a_failure(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(data: bytes) -> None:
        raise KeyError(data)

    monkeypatch.setitem(targets.by_name, "graph", fails)
    with pytest.raises(AssertionError, match=r"raised KeyError"):
        _run(targets, "graph", b"", "nothing")
