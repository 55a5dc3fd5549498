"""``savax checkpoint list``: the keys of a checkpoint with dtypes, shapes and sizes."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from typing import TYPE_CHECKING

from savax.errors import KeyNotFoundError, UnsupportedError
from savax.saved_model.cli._tables import aligned, count_text, size_text
from savax.saved_model.cli._values import dtype_name, tensor_text
from savax.trackable.bundle import BundleReader
from savax.trackable.checkpoint import resolve_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from savax.trackable.bundle import Entry
    from savax.types import PathLike


@dataclasses.dataclass(frozen=True)
class StoredTensorReport:
    """A tensor of a checkpoint.

    Attributes:
      key: its checkpoint key.
      dtype: TensorFlow's name of the element type.
      shape: its sizes.
      size_bytes: bytes that it takes in the data files, or, stored in slices, that its value takes.
      num_slices: parts that it is stored in; 0 if it is in one piece.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    num_slices: int


@dataclasses.dataclass(frozen=True)
class ListReport:
    """The tensors of a checkpoint.

    Attributes:
      prefix: of the checkpoint's files.
      num_shards: number of its data files.
      tensors: sorted by key.
      num_elements: elements of these tensors together.
      size_bytes: bytes of these tensors together.
    """

    prefix: str
    num_shards: int
    tensors: tuple[StoredTensorReport, ...]
    num_elements: int
    size_bytes: int


def collect_list(path: PathLike, pattern: str | None = None) -> ListReport:
    """Returns what the index of a checkpoint says about its tensors.

    Args:
      path: prefix, index file, directory of checkpoints (its latest), or SavedModel directory.
      pattern: report only keys that match, with ``*``, ``?`` and ``[...]`` as in a shell; ``*``
        also stands for slashes.

    Raises:
      NotFoundError: there is no checkpoint.
      KeyNotFoundError: no key matches.
      CorruptBundleError: the index is damaged, or a data file is missing or too short.
    """
    prefix = resolve_prefix(path)
    with BundleReader(prefix) as reader:
        entries = [reader.entry(key) for key in matching(reader, pattern, prefix)]
        num_shards = reader.header.num_shards
    tensors = tuple(map(describe_entry, entries))
    return ListReport(
        prefix=prefix,
        num_shards=num_shards,
        tensors=tensors,
        num_elements=sum(entry.num_elements for entry in entries),
        size_bytes=sum(tensor.size_bytes for tensor in tensors),
    )


def matching(keys: Iterable[str], pattern: str | None, what: str) -> list[str]:
    """Returns the keys that a shell pattern matches; all of them without a pattern.

    Raises:
      KeyNotFoundError: there is a pattern, and no key matches.
    """
    if pattern is None:
        return list(keys)
    found = [key for key in keys if fnmatch.fnmatchcase(key, pattern)]
    if not found:
        raise KeyNotFoundError(f"No key of {what!r} matches {pattern!r}.")
    return found


def describe_entry(entry: Entry) -> StoredTensorReport:
    """Returns what an entry of the index says."""
    size_bytes = entry.size_bytes
    if entry.slices:
        size_bytes = math.prod(entry.shape) * item_bytes(entry)
    return StoredTensorReport(
        entry.key, dtype_name(entry.dtype_number), entry.shape, size_bytes, len(entry.slices)
    )


def item_bytes(entry: Entry) -> int:
    """Returns the bytes of an element; 0 where that varies or isn't known."""
    try:
        return entry.dtype.size
    except UnsupportedError:
        return 0


def list_lines(report: ListReport) -> Iterator[str]:
    """Yields the report for people."""
    yield f"Checkpoint {report.prefix}"
    yield (
        f"  {count_text(len(report.tensors), 'tensor')}, "
        f"{count_text(report.num_elements, 'element')}, {size_text(report.size_bytes)}; "
        f"{count_text(report.num_shards, 'data file')}"
    )
    yield ""
    yield from tensor_table(report.tensors)


def tensor_table(tensors: Iterable[StoredTensorReport]) -> Iterator[str]:
    """Yields a line for each tensor."""
    rows = [
        (
            tensor.key,
            tensor_text(tensor.dtype, tensor.shape),
            size_text(tensor.size_bytes),
            f"in {count_text(tensor.num_slices, 'slice')}" if tensor.num_slices else "",
        )
        for tensor in tensors
    ]
    yield from aligned(rows, right={2})
