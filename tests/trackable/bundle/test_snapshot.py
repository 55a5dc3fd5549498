"""Opening the files of one save, whatever happens to them meanwhile."""

from __future__ import annotations

import os
import resource
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from savax.errors import (
    CorruptBundleError,
    NotFoundError,
    ResourceLimitError,
    UnsafePathError,
)
from savax.trackable.bundle import BundleReader, _snapshot, write_bundle

if TYPE_CHECKING:
    from pathlib import Path


def write(prefix: Path, value: float, shards: int = 1) -> None:
    tensors = [(str(i), np.float32(value)) for i in range(shards)]
    write_bundle(prefix, tensors, shards=shards, fsync=False)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no/x"):
        BundleReader(tmp_path / "no" / "x")
    with pytest.raises(NotFoundError, match=r"x\.index"):
        BundleReader(tmp_path / "x")
    write(tmp_path / "x", 1, 2)
    with pytest.raises(NotFoundError):
        BundleReader(tmp_path / "x.index" / "y")
    (tmp_path / "x.data-00001-of-00002").unlink()
    with pytest.raises(CorruptBundleError, match=r"x\.data-00001-of-00002"):
        BundleReader(tmp_path / "x")


def test_only_files_that_entries_name_are_opened(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x", [("k", 1)], shards=5)
    used = [name for name in os.listdir(tmp_path) if os.path.getsize(tmp_path / name)]
    for name in set(os.listdir(tmp_path)) - set(used):
        (tmp_path / name).unlink()
    with BundleReader(tmp_path / "x") as reader:
        assert reader.header.num_shards == 5
        assert reader.read("k") == 1


def test_directory_descriptor(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    write(tmp_path / "variables" / "variables", 1)
    fd = os.open(tmp_path, os.O_RDONLY)
    os.rename(tmp_path, tmp_path.with_name("moved"))
    with BundleReader("variables/variables", dir_fd=fd) as reader:
        assert reader.read("0") == 1
    os.close(fd)
    os.rename(tmp_path.with_name("moved"), tmp_path)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    write(tmp_path / "x", 1, 4)
    before = len(os.listdir("/proc/self/fd"))
    with BundleReader(tmp_path / "x"):
        assert len(os.listdir("/proc/self/fd")) == before + 4
    for name in ("x.data-00003-of-00004", "x.data-00000-of-00004", "x.index"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(CorruptBundleError):
            BundleReader(tmp_path / "x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_reader_closes_when_it_is_forgotten(tmp_path: Path) -> None:
    write(tmp_path / "x", 1)
    before = len(os.listdir("/proc/self/fd"))
    reader = BundleReader(tmp_path / "x")
    del reader
    assert len(os.listdir("/proc/self/fd")) == before


class Interrupter:
    """Changes the bundle while it is opened, a number of times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, prefix: Path, times: int) -> None:
        self.prefix = prefix
        self.left = times
        self.value = 100.0
        real = _snapshot.read_index

        def interrupted(data: bytes) -> object:
            index = real(data)
            if self.left:
                self.left -= 1
                self.value += 1
                write(self.prefix, self.value)
            return index

        monkeypatch.setattr(_snapshot, "read_index", interrupted)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_overwriting_while_opening_starts_again(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "x", 1)
    interrupter = Interrupter(monkeypatch, tmp_path / "x", times)
    with BundleReader(tmp_path / "x") as reader:
        assert reader.read("0") == interrupter.value == 100 + times


def test_overwriting_for_ever_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x", 1)
    interrupter = Interrupter(monkeypatch, tmp_path / "x", 100)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CorruptBundleError, match="changed"):
        BundleReader(tmp_path / "x")
    assert interrupter.left == 96
    assert len(os.listdir("/proc/self/fd")) == before


def test_deleting_while_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x", 1)
    real = _snapshot.read_index

    def deleting(data: bytes) -> object:
        for path in tmp_path.glob("x.*"):
            path.unlink()
        return real(data)

    monkeypatch.setattr(_snapshot, "read_index", deleting)
    with pytest.raises(NotFoundError):
        BundleReader(tmp_path / "x")


def test_exchanged_directory_does_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "x", value)
    real = _snapshot.read_index

    def exchanging(data: bytes) -> object:
        if (tmp_path / "b").exists():
            os.rename(tmp_path / "a", tmp_path / "old")
            os.rename(tmp_path / "b", tmp_path / "a")
        return real(data)

    monkeypatch.setattr(_snapshot, "read_index", exchanging)
    with BundleReader(tmp_path / "a" / "x") as reader:
        assert reader.read("0") == 1


def test_files_that_are_not_files(tmp_path: Path) -> None:
    write(tmp_path / "x", 1)
    for name in ("x.data-00000-of-00001", "x.index"):
        (tmp_path / name).rename(tmp_path / "saved")
        os.mkfifo(tmp_path / name)  # opening it without O_NONBLOCK would wait for ever
        with pytest.raises(CorruptBundleError, match="regular"):
            BundleReader(tmp_path / "x")
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
        with pytest.raises(CorruptBundleError, match="regular"):
            BundleReader(tmp_path / "x")
        (tmp_path / name).rmdir()
        (tmp_path / name).symlink_to("/dev/zero")
        with pytest.raises(CorruptBundleError, match="regular"):
            BundleReader(tmp_path / "x")
        (tmp_path / name).unlink()
        (tmp_path / "saved").rename(tmp_path / name)
    assert BundleReader(tmp_path / "x").read("0") == 1


@pytest.mark.parametrize("name", ["x.data-00000-of-00001", "x.index"])
def test_links_out_of_the_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "x", 1)
    shutil.move(tmp_path / "in" / name, tmp_path / "outside")
    link = tmp_path / "in" / name
    for target in ("../outside", str(tmp_path / "outside")):
        link.symlink_to(target)
        assert BundleReader(tmp_path / "in" / "x").read("0") == 1
        with pytest.raises(UnsafePathError, match=name):
            BundleReader(tmp_path / "in" / "x", contained=True)
        link.unlink()


@pytest.mark.parametrize("name", ["x.data-00000-of-00001", "x.index"])
def test_links_inside_the_directory(name: str, tmp_path: Path) -> None:
    write(tmp_path / "x", 1)
    (tmp_path / name).rename(tmp_path / "blob")
    (tmp_path / "second").symlink_to("blob")
    (tmp_path / name).symlink_to("second")
    assert BundleReader(tmp_path / "x", contained=True).read("0") == 1
    (tmp_path / "second").unlink()
    (tmp_path / "second").symlink_to(name)
    with pytest.raises(UnsafePathError):
        BundleReader(tmp_path / "x", contained=True)
    (tmp_path / "second").unlink()
    with pytest.raises((NotFoundError, CorruptBundleError)):
        BundleReader(tmp_path / "x", contained=True)


def test_index_over_the_limit(tmp_path: Path) -> None:
    write(tmp_path / "x", 1)
    os.truncate(tmp_path / "x.index", 1 << 40)  # sparse
    with pytest.raises(ResourceLimitError, match="limit"):
        BundleReader(tmp_path / "x")


def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    write(tmp_path / "x", 1, 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 50, hard))
    try:
        with pytest.raises(ResourceLimitError, match="ulimit"):
            BundleReader(tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == used
