"""Models at URLs: copied to be read, and written in an order that readers can bear.

A store has neither renames nor directories that stay open. What says that a model exists is the
file of its proto: it is put last, and deleted before the files of an older model change.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from typing import TYPE_CHECKING, NamedTuple

from savax.errors import CorruptBundleError, CorruptSavedModelError, NotFoundError, SavaxError
from savax.protos import FingerprintDef, serialize
from savax.trackable.bundle._index import build_index, encode_key, read_index
from savax.trackable.bundle._locations import join
from savax.trackable.bundle._remote import (
    RemoteSink,
    RemoteSource,
    delete_object,
    list_objects,
    object_info,
    put_object,
)
from savax.trackable.bundle._shard_names import find_shards, free_count
from savax.types import index_path, shard_path, variables_prefix
from savax.types._farmhash import fingerprint64
from savax.types._paths import (
    ASSETS_DIRECTORY,
    ASSETS_EXTRA_DIRECTORY,
    FINGERPRINT_PB,
    SAVED_MODEL_FOLDERS,
    SAVED_MODEL_FORMS,
    VARIABLES_DIRECTORY,
    VARIABLES_FILENAME,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_FOLDERS = (*SAVED_MODEL_FOLDERS, ASSETS_EXTRA_DIRECTORY)
_MOST_DEPTH = 16  # of folders in assets
_ATTEMPTS = 4  # to copy a model that others replace at the same time
_PIECE_BYTES = 32 << 20


class LocalCopy:
    """A model's files in a temporary directory, which exists as long as this object.

    Attributes:
      path: of the directory.
    """

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="savax-")
        self._remove = weakref.finalize(self, _remove_tree, self.path, os.getpid())

    def keep_assets_only(self) -> None:
        """Removes what nobody needs once the model is loaded; all of it if there are no assets."""
        if not os.path.isdir(os.path.join(self.path, ASSETS_DIRECTORY)):
            self._remove()
            return
        for name in set(os.listdir(self.path)) - {ASSETS_DIRECTORY}:
            path = os.path.join(self.path, name)
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)

    def remove(self) -> None:
        """Removes the directory."""
        self._remove()


def _remove_tree(path: str, pid: int) -> None:
    """Removes a directory, unless this is a process that was forked from its maker."""
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)


def copy_model(url: str) -> LocalCopy:
    """Copies the files of a model at a URL to this machine.

    Raises:
      NotFoundError: there is no model.
      CorruptSavedModelError: it was replaced again and again while it was copied.
      SavaxError: the file system can't be reached or doesn't let in; see ``RemoteSource``.
    """
    for attempt in range(_ATTEMPTS):
        if not any(_is_file(join(url, form)) for form in SAVED_MODEL_FORMS):
            forms = ", ".join(SAVED_MODEL_FORMS)
            raise NotFoundError(f"There is no SavedModel at {url!r}: no {forms}.")
        copy = LocalCopy()
        try:
            _copy_files(url, copy.path)
        except (NotFoundError, CorruptBundleError) as error:
            copy.remove()
            if attempt == _ATTEMPTS - 1:
                raise CorruptSavedModelError(
                    f"The SavedModel at {url!r} changes while it is read: {error}"
                ) from error
        except BaseException:
            copy.remove()
            raise
        else:
            return copy
    raise AssertionError  # the last attempt returns or raises


def _is_file(url: str) -> bool:
    info = object_info(url)
    return info is not None and info["type"] == "file"


def _copy_files(url: str, path: str) -> None:
    sources: list[RemoteSource] = []
    names = [name for name in (*SAVED_MODEL_FORMS, FINGERPRINT_PB) if _is_file(join(url, name))]
    for folder in _FOLDERS:
        names += _files_below(url, folder)
    try:
        for name in names:
            source = RemoteSource(join(url, name))
            sources.append(source)
            target = os.path.join(path, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "xb") as file:
                for start in range(0, source.size_bytes, _PIECE_BYTES):
                    size = min(_PIECE_BYTES, source.size_bytes - start)
                    file.write(source.read(start, size))
        for source in sources:
            source.check_unchanged()
    finally:
        for source in sources:
            source.close()


def _files_below(url: str, folder: str, depth: int = 0) -> list[str]:
    """Returns the relative names of all files in a folder and in those inside it."""
    found: list[str] = []
    for name in list_objects(join(url, folder)):
        relative = f"{folder}/{name}"
        info = object_info(join(url, relative))
        if name in (".", "..") or "\0" in name or info is None:
            continue
        if info["type"] == "file":
            found.append(relative)
        elif depth < _MOST_DEPTH:
            found += _files_below(url, relative, depth + 1)
    return found


class _Upload(NamedTuple):
    """What is written under a name: a file of this machine, or bytes."""

    name: str
    path: str | None
    data: bytes = b""


def publish_remote(url: str, build: Callable[[str], None]) -> None:
    """Makes what a function builds the model at a URL; one process may write there at a time.

    Data files of the Variables are sent first, under names that no file has. Then the file of the
    older model's proto is deleted, the rest is sent, and the file of the proto last: a reader finds
    the older model, none, or the new one.

    Args:
      url: the model's directory.
      build: fills an empty directory of this machine, whose path it gets.

    Raises:
      RemoteStorageError: a step failed. The message says whether the older model is still there.
      SavaxError: see ``RemoteSink``.
    """
    with tempfile.TemporaryDirectory(prefix="savax-") as work:
        build(work)
        data, rest = _planned(url, work)
        sent: list[str] = []
        try:
            for upload in data:
                sent.append(upload.name)
                _send(url, upload)
        except BaseException:
            _delete_all(url, sent)
            raise
        older = [form for form in SAVED_MODEL_FORMS if _is_file(join(url, form))]
        try:
            for form in older:
                delete_object(join(url, form))
            for upload in rest:
                _send(url, upload)
        except SavaxError as error:
            if older:
                error.add_note(f"The older model at {url!r} may be gone; save the new one again.")
            raise
        kept = {upload.name for upload in (*data, *rest)}
        stale = [name for folder in SAVED_MODEL_FOLDERS for name in _files_below(url, folder)]
        _delete_all(url, [name for name in stale if name not in kept])


def _planned(url: str, work: str) -> tuple[list[_Upload], list[_Upload]]:
    """Returns data files under free names, and the other files in the order of writing."""
    data, index = _renamed_data(url, work)
    rest = []
    for folder, _, files in os.walk(work):
        for file in sorted(files):
            path = os.path.join(folder, file)
            name = os.path.relpath(path, work)
            if name not in SAVED_MODEL_FORMS and not find_shards([file], VARIABLES_FILENAME):
                rest.append(_Upload(name, path))
    if index is not None:
        index_name = index_path(f"{VARIABLES_DIRECTORY}/{VARIABLES_FILENAME}")
        replaced = {index_name: index, FINGERPRINT_PB: _fingerprint_with(work, index)}
        rest = [
            _Upload(upload.name, None, replaced[upload.name]) if upload.name in replaced else upload
            for upload in rest
        ]
    forms = [_Upload(form, os.path.join(work, form)) for form in SAVED_MODEL_FORMS]
    return data, rest + [form for form in forms if form.path and os.path.exists(form.path)]


def _renamed_data(url: str, work: str) -> tuple[list[_Upload], bytes | None]:
    """Returns the data files under names that the URL hasn't, and the index if that changes it."""
    folder = os.path.join(work, VARIABLES_DIRECTORY)
    own = find_shards(os.listdir(folder) if os.path.isdir(folder) else [], VARIABLES_FILENAME)
    if not own:
        return [], None
    names = list_objects(join(url, VARIABLES_DIRECTORY))
    taken = set(find_shards(names, VARIABLES_FILENAME).values())
    planned = len(own)
    count = free_count(planned, taken)
    prefix = f"{VARIABLES_DIRECTORY}/{VARIABLES_FILENAME}"
    data = [
        _Upload(shard_path(prefix, i, count), shard_path(variables_prefix(work), i, planned))
        for i in range(planned)
    ]
    data += [_Upload(shard_path(prefix, i, count), None) for i in range(planned, count)]
    if count == planned:
        return data, None
    with open(index_path(variables_prefix(work)), "rb") as file:
        index = read_index(file.read())
    entries = {encode_key(key): entry for key, entry in index.entries.items()} | index.slices
    return data, build_index(count, entries.items())


def _fingerprint_with(work: str, index: bytes) -> bytes:
    """Returns a model's fingerprint, changed to that with another index of the checkpoint."""
    path = os.path.join(work, FINGERPRINT_PB)
    if not os.path.exists(path):
        return b""
    with open(path, "rb") as file:
        fingerprint = FingerprintDef.FromString(file.read())
    fingerprint.checkpoint_hash = fingerprint64(index)
    return serialize(fingerprint)


def _send(url: str, upload: _Upload) -> None:
    target = join(url, upload.name)
    if upload.path is None:
        put_object(target, upload.data)
    else:
        send_file(target, upload.path)


def send_file(url: str, path: str) -> None:
    """Writes a file of this machine to a URL.

    Raises:
      SavaxError: see ``RemoteSink``.
    """
    sink = RemoteSink(url)
    try:
        with open(path, "rb") as file:
            while piece := file.read(_PIECE_BYTES):
                sink.write(piece)
        sink.finish()
    finally:
        sink.close()


def _delete_all(url: str, names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(SavaxError):  # the next writer's, then
            delete_object(join(url, name))
