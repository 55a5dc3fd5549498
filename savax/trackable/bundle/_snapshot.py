"""Opening a bundle's files so that they belong to one and the same save.

A bundle may be overwritten, or its directory replaced, while it is opened. The index is read and
all data files that it names are opened at once; if the index is another file by then, everything
starts again.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import stat

from savax.errors import (
    CorruptBundleError,
    NotFoundError,
    ResourceLimitError,
    UnsafePathError,
)
from savax.trackable.bundle._bytes import read_bytes
from savax.trackable.bundle._index import Index, read_index
from savax.trackable.bundle._limits import MAX_INDEX_BYTES
from savax.types import index_path, shard_path

_ATTEMPTS = 4  # one, and three more after the index changed
_MAX_LINKS = 8


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The open files of a bundle.

    Attributes:
      index: content of the index file.
      fds: descriptor of each data file that entries name, by its number.
      sizes: bytes in each of these files.
    """

    index: Index
    fds: dict[int, int]
    sizes: dict[int, int]

    def close(self) -> None:
        """Closes the files."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()


def open_snapshot(prefix: str, dir_fd: int | None, contained: bool) -> Snapshot:
    """Opens a bundle.

    Args:
      prefix: path of the bundle without suffixes.
      dir_fd: open directory that a relative prefix starts at; None for the working directory.
      contained: refuse files that are links to other directories.

    Raises:
      NotFoundError: there is no index file.
      CorruptBundleError: a file is damaged, missing, or isn't a plain file.
      ResourceLimitError: the index is too large, or names more files than may be open.
      UnsafePathError: a file is a link out of its directory, and ``contained`` is set.
    """
    parent, name = os.path.split(prefix)
    try:
        # Where there is O_PATH, the directory needn't be readable.
        flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
        parent_fd = os.open(parent or ".", flags, dir_fd=dir_fd)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no directory {parent!r} for {prefix!r}.") from error
    try:
        return _Opener(prefix, name, parent_fd, contained).open()
    finally:
        os.close(parent_fd)


class _Opener:
    def __init__(self, prefix: str, name: str, parent_fd: int, contained: bool) -> None:
        self._prefix = prefix
        self._name = name
        self._parent_fd = parent_fd
        self._contained = contained

    def open(self) -> Snapshot:
        for _ in range(_ATTEMPTS):
            fd = self._open_index()
            try:
                snapshot = self._open_with(fd)
            except (CorruptBundleError, NotFoundError):
                if self._is_current(fd):
                    raise
            else:
                if self._is_current(fd):
                    return snapshot
                snapshot.close()
            finally:
                os.close(fd)  # not before: an open file's inode isn't given to another one
        raise CorruptBundleError(
            f"The checkpoint {self._prefix!r} changed each of the {_ATTEMPTS} times it was opened."
        )

    def _open_index(self) -> int:
        try:
            return self._open_file(index_path(self._name))
        except FileNotFoundError as error:
            raise NotFoundError(
                f"There is no checkpoint {self._prefix!r}: {index_path(self._prefix)!r} doesn't "
                "exist."
            ) from error

    def _is_current(self, fd: int) -> bool:
        opened = os.fstat(fd)
        try:
            # Follows links, as opening did.
            now = os.stat(index_path(self._name), dir_fd=self._parent_fd)
        except FileNotFoundError:
            return False
        return (opened.st_dev, opened.st_ino, opened.st_size, opened.st_mtime_ns) == (
            now.st_dev,
            now.st_ino,
            now.st_size,
            now.st_mtime_ns,
        )

    def _open_with(self, index_fd: int) -> Snapshot:
        size = os.fstat(index_fd).st_size
        if size > MAX_INDEX_BYTES:
            raise ResourceLimitError(
                f"{index_path(self._prefix)!r} has {size} bytes, over the limit of "
                f"{MAX_INDEX_BYTES}."
            )
        try:
            index = read_index(read_bytes(index_fd, 0, size))
        except CorruptBundleError as error:
            raise CorruptBundleError(f"{index_path(self._prefix)!r}: {error}") from error
        snapshot = Snapshot(index, {}, {})
        try:
            for shard in sorted(index.shards):
                fd = self._open_shard(shard, index.header.num_shards)
                snapshot.fds[shard] = fd
                snapshot.sizes[shard] = os.fstat(fd).st_size
            self._check_extents(snapshot)
        except BaseException:
            snapshot.close()
            raise
        return snapshot

    def _open_shard(self, shard: int, num_shards: int) -> int:
        try:
            return self._open_file(shard_path(self._name, shard, num_shards))
        except FileNotFoundError as error:
            raise CorruptBundleError(
                f"The data file {shard_path(self._prefix, shard, num_shards)!r} doesn't exist, "
                "but the index names it."
            ) from error
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise ResourceLimitError(
                f"The checkpoint {self._prefix!r} has more data files than this process may open; "
                "raise the limit (ulimit -n)."
            ) from error

    def _open_file(self, name: str) -> int:
        # O_NONBLOCK: opening a FIFO mustn't wait for a writer.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        if self._contained:
            name = self._follow(name)
            flags |= os.O_NOFOLLOW
        fd = os.open(name, flags, dir_fd=self._parent_fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise CorruptBundleError(f"{name!r} of {self._prefix!r} isn't a regular file.")
        return fd

    def _follow(self, name: str) -> str:
        """Returns what a name is a link to, inside its own directory."""
        target = name
        for _ in range(_MAX_LINKS):
            try:
                target = os.readlink(target, dir_fd=self._parent_fd)
            except OSError as error:
                if error.errno == errno.EINVAL:  # not a link
                    return target
                raise
            if "/" in target:
                break
        raise UnsafePathError(
            f"{name!r} of {self._prefix!r} is a link that may leave its directory ({target!r}). "
            "Replace it by the file itself."
        )

    def _check_extents(self, snapshot: Snapshot) -> None:
        for entry in snapshot.index.stored():
            end = entry.offset_bytes + entry.size_bytes
            if end > snapshot.sizes[entry.shard]:
                raise CorruptBundleError(
                    f"{entry.key!r} ends at byte {end} of data file {entry.shard} of "
                    f"{self._prefix!r}, which has {snapshot.sizes[entry.shard]} bytes: it was "
                    "truncated, or belongs to another index."
                )
