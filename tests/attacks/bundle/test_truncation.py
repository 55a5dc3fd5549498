"""Every truncation of every file of a bundle is a typed error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from savax.errors import CorruptBundleError, SavaxError
from savax.trackable.bundle import BundleReader, Partitioned, write_bundle

if TYPE_CHECKING:
    from pathlib import Path


def make(prefix: Path) -> None:
    slices = [([(0, 1)], np.float32([1])), ([(1, 2)], np.float32([2, 3]))]
    write_bundle(
        prefix,
        [
            ("a", np.arange(5, dtype=np.int16)),
            ("s", ["ab", "", "c" * 40]),
            ("p", Partitioned((3,), np.float32, slices)),
            ("b", np.float64(3)),
        ],
        shards=2,
        fsync=False,
    )


def read_all(prefix: Path) -> None:
    with BundleReader(prefix) as reader:
        for key in reader:
            reader.read(key)
        reader.verify()


@pytest.mark.parametrize("name", ["index", "data-00000-of-00002", "data-00001-of-00002"])
def test_every_truncation_is_found(name: str, tmp_path: Path) -> None:
    make(tmp_path / "x")
    read_all(tmp_path / "x")
    path = tmp_path / f"x.{name}"
    size = os.path.getsize(path)
    assert size >= 20
    for length in range(size - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(CorruptBundleError):
            read_all(tmp_path / "x")


def test_bytes_behind_the_data_are_ignored_and_behind_the_index_found(tmp_path: Path) -> None:
    make(tmp_path / "x")
    with open(tmp_path / "x.data-00000-of-00002", "ab") as file:
        file.write(b"junk")
    read_all(tmp_path / "x")
    with open(tmp_path / "x.index", "ab") as file:
        file.write(b"junk")
    with pytest.raises(SavaxError, match="magic"):
        read_all(tmp_path / "x")
