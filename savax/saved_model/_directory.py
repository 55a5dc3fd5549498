"""Replacing a SavedModel directory as a whole: readers find the old model or the new one.

The new directory is built beside the old one and the two are exchanged in one step of the file
system. What savax doesn't own in the old directory (``assets.extra/``) moves along.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
from typing import TYPE_CHECKING

from savax.errors import PublishError
from savax.saved_model._remote_models import publish_remote
from savax.trackable.bundle import fsync_directory, work_directory
from savax.trackable.bundle._locations import as_location, is_url
from savax.types._paths import FINGERPRINT_PB, SAVED_MODEL_FOLDERS, SAVED_MODEL_FORMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.types import PathLike

# Entries of a model directory that a save replaces or removes; all others are kept.
_OWNED_FILES = (*SAVED_MODEL_FORMS, FINGERPRINT_PB)
_OWNED = frozenset((*SAVED_MODEL_FOLDERS, *_OWNED_FILES))

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
_IN_PLACE = frozenset({errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS})


def publish_directory(export_dir: PathLike, build: Callable[[str], None]) -> None:
    """Makes what a function builds the content of a model directory.

    Args:
      export_dir: the directory, or its URL; it need not exist, nor its parents. Through a
        symbolic link, the directory that it leads to.
      build: fills an empty directory, whose path it gets. If it raises, nothing has changed.

    Raises:
      PublishError: the path is a file, or the file system refuses.
      SavaxError: at a URL; see ``publish_remote``.
    """
    location = as_location(export_dir)
    if is_url(location):
        publish_remote(location, build)
        return
    target = os.path.realpath(location)
    parent, name = os.path.split(target)
    if os.path.lexists(target) and not os.path.isdir(target):
        raise PublishError(f"{target!r} is a file; a SavedModel is a directory.")
    try:
        os.makedirs(parent, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise PublishError(f"{parent!r} is no directory: {error}.") from error
    if os.path.ismount(target):
        _publish_in_place(target, build)
        return
    try:
        with work_directory(parent, name) as work:
            _publish_beside(target, work, build)
    except OSError as error:
        if isinstance(error, PublishError) or error.errno not in _IN_PLACE:
            raise
        if not os.path.isdir(target):
            raise PublishError(f"{parent!r} can't be written: {error}.") from error
        _publish_in_place(target, build)


def _publish_beside(target: str, work: str, build: Callable[[str], None]) -> None:
    model = os.path.join(work, "model")
    os.mkdir(model)
    build(model)
    exists = os.path.isdir(target)
    if exists:
        shutil.copymode(target, model)
        _link_foreign(target, model)
    fsync_tree(model)
    parent = os.path.dirname(target)
    if not exists:
        _rename_to_new(model, target)
    elif not _exchange(model, target):
        _swap_by_two_renames(model, target)
    fsync_directory(parent)
    if exists:
        # What others put into the old directory since then; the rest of it goes with the work.
        _link_foreign(model, target)


def _rename_to_new(model: str, target: str) -> None:
    try:
        os.rename(model, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # Somebody else made it meanwhile; theirs is the old model now.
        if not _exchange(model, target):
            _swap_by_two_renames(model, target)


def _exchange(first: str, second: str) -> bool:
    """Exchanges two directories in one step; False where the system can't."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    code = renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
    )
    if code == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), second)


def _swap_by_two_renames(model: str, target: str) -> None:
    """Replaces a directory where the two can't be exchanged; between the renames there is none.

    A crash there leaves the old model beside its place under a name that ``recover`` finds.
    """
    parent, name = os.path.split(target)
    old = os.path.join(parent, f".{name}.savax-old-{secrets.token_hex(8)}")
    os.rename(target, old)
    try:
        os.rename(model, target)
    except BaseException:
        os.rename(old, target)
        raise
    os.rename(old, model)


def recover(export_dir: PathLike) -> None:
    """Puts an old model back that a crash between two renames has left beside its place."""
    location = as_location(export_dir)
    if is_url(location):
        return
    target = os.path.realpath(location)
    parent, name = os.path.split(target)
    if os.path.lexists(target) or not os.path.isdir(parent):
        return
    with os.scandir(parent) as entries:
        found = [entry.path for entry in entries if entry.name.startswith(f".{name}.savax-old-")]
    if found:
        os.rename(max(found, key=os.path.getmtime), target)


def _publish_in_place(target: str, build: Callable[[str], None]) -> None:
    """Replaces the entries of a directory that can't be renamed itself; ``saved_model.pb`` last.

    Not atomic: a reader may meet new variables with the old graph.
    """
    work = os.path.join(target, f".savax-{secrets.token_hex(8)}")
    os.mkdir(work)
    try:
        build(work)
        fsync_tree(work)
        for folder in SAVED_MODEL_FOLDERS:
            new, old = os.path.join(work, folder), os.path.join(target, folder)
            if os.path.isdir(new) and os.path.isdir(old):
                if not _exchange(new, old):
                    _swap_by_two_renames(new, old)
            elif os.path.isdir(new):
                os.rename(new, old)
            elif os.path.isdir(old):
                os.rename(old, os.path.join(work, f"{folder}.old"))
        for file in reversed(_OWNED_FILES):
            new, old = os.path.join(work, file), os.path.join(target, file)
            if os.path.exists(new):
                os.replace(new, old)
            elif os.path.exists(old):
                os.unlink(old)
        fsync_directory(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _link_foreign(source: str, destination: str) -> None:
    """Gives a directory the entries of another that savax doesn't own and that it lacks."""
    with os.scandir(source) as entries:
        foreign = [entry for entry in entries if entry.name not in _OWNED]
    for entry in foreign:
        if entry.name.startswith(".savax-"):
            continue
        to = os.path.join(destination, entry.name)
        if os.path.lexists(to):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.copytree(entry.path, to, symlinks=True, copy_function=_link_or_copy)
        else:
            _link_or_copy(entry.path, to)


def _link_or_copy(source: str, destination: str) -> None:
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, destination, follow_symlinks=False)


def fsync_tree(directory: str) -> None:
    """Waits until all files below a directory, and their names, are on disk."""
    for folder, _, files in os.walk(directory, topdown=False):
        for file in files:
            path = os.path.join(folder, file)
            if os.path.islink(path):
                continue
            with contextlib.suppress(PermissionError):  # another's file: its owner's to sync
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        fsync_directory(folder)
