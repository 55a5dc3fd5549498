"""Reading a model's protos from a directory, and choosing one of its MetaGraphDefs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING, Any

from savax.errors import (
    CorruptSavedModelError,
    InvalidArgumentError,
    NotFoundError,
    ResourceLimitError,
    SavaxError,
    UnsafePathError,
)
from savax.protos import MetaGraphDef, SavedModel, parse, parse_text
from savax.saved_model._directory import recover
from savax.saved_model._remote_models import LocalCopy, copy_model
from savax.saved_model.image._joining import ImageReader
from savax.trackable.bundle._locations import as_location, is_url, join
from savax.trackable.bundle._storage import is_file
from savax.types._paths import SAVED_MODEL_CPB, SAVED_MODEL_FORMS, SAVED_MODEL_PB, SAVED_MODEL_PBTXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np

    from savax.types import PathLike

_ATTEMPTS = 100  # to open a directory that others replace at the same time
_LOCK_SECONDS = 1.0  # that a publisher may take to move a version away
_POLL_SECONDS = 0.002
_MOST_BYTES = 1 << 31  # protobuf's own limit; text that spells out more isn't of use either


class TagsMismatchError(InvalidArgumentError, RuntimeError):
    """A model has no graph, or more than one, with the tags asked for."""


class ModelDirectory:
    """An open model directory: what is read from it belongs together.

    A model that takes its place meanwhile isn't seen.

    Attributes:
      path: of the directory.
      fd: the open directory.
      copy: what must live as long as the model's assets are used, if they are a copy.
    """

    def __init__(self, path: str, fd: int, copy: LocalCopy | None = None) -> None:
        self.path = path
        self.fd = fd
        self.copy = copy

    def is_current(self) -> bool:
        """Whether the directory is still the one at its path."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.fd))
        except OSError:
            return False

    def read(self, name: str) -> bytes | None:
        """Returns the content of a file; None if there is none.

        Raises:
          UnsafePathError: the entry is a link or no plain file.
          ResourceLimitError: it is larger than any message or index can be.
        """
        with self.opened(name) as fd:
            if fd is None:
                return None
            size = os.fstat(fd).st_size
            if size > _MOST_BYTES:
                raise ResourceLimitError(
                    f"{self.path}/{name} has {size} bytes; a file of its kind can't have more than "
                    f"{_MOST_BYTES}."
                )
            with open(fd, "rb", closefd=False) as stream:
                return stream.read()

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[int | None]:
        """Opens a file for reading; None if there is none.

        Raises:
          UnsafePathError: the entry is a link or no plain file.
        """
        try:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            file = os.open(name, flags, dir_fd=self.fd)
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            raise UnsafePathError(
                f"{self.path}/{name} can't be opened: {error.strerror}."
            ) from None
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise UnsafePathError(f"{self.path}/{name} is no file.")
            yield file
        finally:
            os.close(file)


@contextlib.contextmanager
def open_model(export_dir: PathLike) -> Iterator[ModelDirectory]:
    """Opens a model directory; one at a URL is copied to this machine.

    Raises:
      NotFoundError: there is no such directory.
      SavaxError: a remote file system failed; see ``copy_model``.
    """
    location = as_location(export_dir)
    if not is_url(location):
        with _open_local(location) as directory:
            yield directory
        return
    copy = copy_model(location)
    try:
        with _open_local(copy.path) as directory:
            directory.copy = copy
            yield directory
    except SavaxError as error:
        error.add_note(f"{copy.path!r} is a copy of {location!r}.")
        raise
    finally:
        copy.keep_assets_only()


@contextlib.contextmanager
def _open_local(path: str) -> Iterator[ModelDirectory]:
    recover(path)
    for _ in range(_ATTEMPTS):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFoundError(f"There is no SavedModel directory {path!r}: {error}.") from error
        _hold(fd)
        directory = ModelDirectory(path, fd)
        if directory.is_current():
            break
        os.close(fd)  # moved away before it was locked, so perhaps on the way to be deleted
    else:
        raise NotFoundError(f"There is no SavedModel at {path!r} for long enough to read it.")
    try:
        yield directory
    finally:
        # Before it is closed: a process that was forked meanwhile has it open, and so locked, too.
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _hold(fd: int) -> None:
    """Locks a directory against being deleted by publishers, where locks work."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_POLL_SECONDS)  # a publisher has it for a moment
        except OSError:
            return
        else:
            return


def contains_saved_model(export_dir: PathLike) -> bool:
    """Whether a directory holds a SavedModel, in whichever form.

    Raises:
      SavaxError: a remote file system can't be asked.
    """
    location = as_location(export_dir)
    return any(is_file(join(location, form)) for form in SAVED_MODEL_FORMS)


def read_saved_model(directory: ModelDirectory) -> SavedModel:
    """Returns a directory's model.

    Raises:
      NotFoundError: there is none.
      CorruptSavedModelError: the file can't be parsed.
      ResourceLimitError: its records ask for far more than the file has.
    """
    model, constants = read_parts(directory)
    put_back(model, constants)
    return model


def put_back(model: SavedModel, constants: Mapping[int, np.ndarray[Any, Any]]) -> None:
    """Puts into a model what ``read_parts`` has kept apart."""
    for index, array in constants.items():
        tensor = model.meta_graphs[0].graph_def.node[index].attr["value"].tensor
        tensor.tensor_content = array.tobytes()


def read_parts(directory: ModelDirectory) -> tuple[SavedModel, dict[int, np.ndarray[Any, Any]]]:
    """Returns a directory's model, and what of it is kept apart.

    Returns:
      The proto, and the content of large constants of its first graph by the index of their nodes,
      which have dtype and shape.

    Raises:
      As ``read_saved_model``.
    """
    data = directory.read(SAVED_MODEL_PB)
    if data is not None:
        return parse(SavedModel, data, f"{directory.path}/{SAVED_MODEL_PB}"), {}
    data = directory.read(SAVED_MODEL_PBTXT)
    if data is not None:
        return parse_text(SavedModel, data, f"{directory.path}/{SAVED_MODEL_PBTXT}"), {}
    with directory.opened(SAVED_MODEL_CPB) as fd:
        if fd is not None:
            reader = ImageReader(fd, f"{directory.path}/{SAVED_MODEL_CPB}")
            return reader.read(), reader.constants
    raise NotFoundError(
        f"There is no SavedModel in {directory.path!r}: no {SAVED_MODEL_PB}, "
        f"{SAVED_MODEL_PBTXT} or {SAVED_MODEL_CPB}."
    )


def choose_meta_graph(
    model: SavedModel, tags: str | Iterable[str] | None, path: str
) -> MetaGraphDef:
    """Returns the MetaGraphDef with a set of tags; without tags, the only one.

    Raises:
      TagsMismatchError: there is none, or without tags more than one.
      CorruptSavedModelError: the model has no graph at all.
    """
    graphs = list(model.meta_graphs)
    if not graphs:
        raise CorruptSavedModelError(f"The SavedModel {path!r} has no MetaGraphDef.")
    available = "; ".join(", ".join(sorted(g.meta_info_def.tags)) or "(none)" for g in graphs)
    if tags is None:
        if len(graphs) == 1:
            return graphs[0]
        raise TagsMismatchError(
            f"The SavedModel {path!r} has {len(graphs)} graphs; choose one by its tags: "
            f"{available}."
        )
    wanted = {tags} if isinstance(tags, str) else set(tags)
    for graph in graphs:
        if set(graph.meta_info_def.tags) == wanted:
            return graph
    raise TagsMismatchError(
        f"The SavedModel {path!r} has no graph with the tags {', '.join(sorted(wanted))}; it has: "
        f"{available}."
    )
