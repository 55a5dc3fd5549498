"""RestoreV2 in a session: the operation's outputs are fed with what is read from a checkpoint.

An operation of a graph reads only the files whose names the caller feeds, so that a model can't
read what it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from savax.errors import CorruptSavedModelError, UnsafePathError
from savax.function.graph._tensor_names import canonical_tensor
from savax.trackable.bundle import BundleReader, parse_slice_spec

if TYPE_CHECKING:
    from savax.protos import NodeDef

Run: TypeAlias = Callable[[Sequence[str], Sequence[str], Mapping[str, Any]], list[Any]]


def restore_feeds(
    restores: Sequence[NodeDef],
    feeds: Mapping[str, Any],
    run: Run,
    open_checkpoint: Callable[[str], BundleReader],
) -> dict[str, Any]:
    """Returns the outputs of RestoreV2 operations, by the names of their tensors.

    Args:
      restores: the nodes of the operations in the graph.
      feeds: what the caller feeds.
      run: computes the operations' inputs.
      open_checkpoint: opens the checkpoint of a prefix.

    Raises:
      UnsafePathError: an operation reads a file that the caller doesn't name.
      NotFoundError: there is no such checkpoint.
      KeyNotFoundError: it lacks a tensor.
      CorruptSavedModelError: the operation's inputs don't fit each other.
    """
    named = {_text(item) for value in feeds.values() for item in _strings(value)}
    found: dict[str, Any] = {}
    for node in restores:
        inputs = [canonical_tensor(tensor) for tensor in node.input if not tensor.startswith("^")]
        if len(inputs) != 3:
            raise CorruptSavedModelError(
                f"The operation {node.name!r} has {len(inputs)} inputs; RestoreV2 has three."
            )
        given = [feeds[name] if name in feeds else run([name], [], feeds)[0] for name in inputs]
        prefix, names, slices = (np.asarray(value, dtype=object) for value in given)
        if prefix.size != 1:
            raise CorruptSavedModelError(
                f"The operation {node.name!r} reads {prefix.size} checkpoints, not one."
            )
        path = _text(prefix.item())
        if path not in named:
            raise UnsafePathError(
                f"The operation {node.name!r} reads the checkpoint {path!r}. savax reads only "
                "checkpoints whose names are fed; use a Saver's restore, or feed the name."
            )
        if names.size != slices.size or names.size != len(node.attr["dtypes"].list.type):
            raise CorruptSavedModelError(f"The inputs of {node.name!r} differ in their lengths.")
        for index, value in enumerate(
            _values(open_checkpoint(path), names.ravel(), slices.ravel())
        ):
            found[f"{node.name}:{index}"] = value
    return found


def _values(opened: BundleReader, names: Any, slices: Any) -> list[Any]:
    with opened as reader:
        values = []
        for name, spec in zip(map(_text, names), map(_text, slices), strict=True):
            if spec:
                shape, extents = parse_slice_spec(spec)
                starts = [start for start, _ in extents]
                sizes = [
                    size if length < 0 else length
                    for (_, length), size in zip(extents, shape, strict=True)
                ]
                values.append(reader.read_slice(name, starts, sizes))
            else:
                values.append(reader.read(name))
        return values


def _strings(value: Any) -> list[Any]:
    array = np.asarray(value)
    return array.ravel().tolist() if array.dtype == object else []


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
