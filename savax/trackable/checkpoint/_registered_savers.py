"""Objects whose values registered functions write and restore in place of their own."""

from __future__ import annotations

import os
import tempfile
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from savax.errors import InvalidArgumentError, UnsupportedError
from savax.trackable._registry import SAVER_REGISTRY
from savax.trackable.bundle import BundleReader, work_directory
from savax.trackable.bundle._locations import is_url
from savax.trackable.bundle._writer import checked_prefix
from savax.trackable.checkpoint._joint_writing import writing_group

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from savax.protos import TrackableObjectGraph
    from savax.trackable._base import Trackable
    from savax.trackable.checkpoint._options import CheckpointOptions


class UnknownSaverWarning(UserWarning):
    """Objects of a checkpoint were saved by a saver that isn't registered, so they get nothing."""


class SaverAssignment(NamedTuple):
    """An object whose values a registered saver restores.

    Attributes:
      obj: the object.
      saver: full name of the saver.
      object_name: what the saver knows the object by.
    """

    obj: Trackable
    saver: str
    object_name: str


def write_by_savers(
    savers: Mapping[str, Mapping[str, Trackable]], prefix: str, options: CheckpointOptions | None
) -> list[tuple[str, Any]]:
    """Lets savers write what they have for a checkpoint, and returns its tensors.

    Args:
      savers: objects by the names that their savers know them by, for each saver.
      prefix: of the checkpoint, beside which there is room for files.
      options: how it will be written.

    Raises:
      UnsupportedError: several processes write the checkpoint together.
      InvalidArgumentError: a saver returns something else than prefixes of what it wrote.
      Whatever a saver raises.
    """
    if not savers:
        return []
    if writing_group(options) is not None:
        raise UnsupportedError(
            f"Objects with registered checkpoint savers ({', '.join(savers)}) can't be written by "
            "several processes together; use CheckpointOptions(across_processes=False)."
        )
    prefix = checked_prefix(prefix)
    if is_url(prefix):
        with tempfile.TemporaryDirectory() as work:
            return shards_of_savers(savers, os.path.join(work, "part"))
    parent, name = os.path.split(prefix)
    os.makedirs(parent or ".", exist_ok=True)
    with work_directory(parent or ".", name) as work:
        return shards_of_savers(savers, os.path.join(work, name))


def shards_of_savers(
    savers: Mapping[str, Mapping[str, Trackable]], prefix: str
) -> list[tuple[str, Any]]:
    """Lets savers write bundles whose names begin with a prefix, and returns all their tensors.

    Raises:
      See ``write_by_savers``.
    """
    tensors: list[tuple[str, Any]] = []
    for saver_name, trackables in savers.items():
        saver = SAVER_REGISTRY.get(saver_name)
        assert saver is not None  # it was found in the registry, which forgets nothing
        file_prefix = f"{prefix}-{saver_name}"
        returned: Any = saver.save_fn(trackables=dict(trackables), file_prefix=file_prefix)
        for shard in _prefixes(saver_name, returned, file_prefix):
            with BundleReader(shard) as reader:
                tensors += reader.read_many(reader.keys())
    return tensors


def _prefixes(saver_name: str, returned: Any, file_prefix: str) -> list[str]:
    """Returns the prefixes that a saver says it wrote."""
    prefixes = [returned] if isinstance(returned, str | os.PathLike) else returned or []
    try:
        found = [os.fspath(prefix) for prefix in prefixes]
    except TypeError:
        found = [""]
    if not all(isinstance(prefix, str) and prefix.startswith(file_prefix) for prefix in found):
        raise InvalidArgumentError(
            f"The save_fn of the checkpoint saver {saver_name!r} must return the file_prefix that "
            f"it got, or a list of prefixes that begin with it, not {returned!r}."
        )
    return found


def find_saver(
    obj: Trackable, stored: TrackableObjectGraph.TrackableObject
) -> SaverAssignment | None:
    """Returns how an object's values are restored if a saver does that; else None.

    Args:
      obj: the object.
      stored: its node in the checkpoint.

    Raises:
      InvalidArgumentError: the saver that wrote the values isn't for this object.
    """
    if not stored.HasField("registered_saver"):
        # Objects whose class got a saver later: as in TensorFlow, the first key is their name.
        name = SAVER_REGISTRY.name_of(obj) if stored.attributes else None
        key = stored.attributes[0].checkpoint_key if name is not None else ""
        return None if name is None else SaverAssignment(obj, name, key)
    name = stored.registered_saver.name
    saver = SAVER_REGISTRY.get(name)
    if saver is None:
        warnings.warn(
            f"A {type(obj).__name__} isn't restored: the checkpoint has it from the checkpoint "
            f"saver {name!r}, which isn't registered here.",
            UnknownSaverWarning,
            stacklevel=2,
        )
        return None
    if not SAVER_REGISTRY.accepts(name, obj):
        if saver.is_strict:
            raise InvalidArgumentError(
                f"A {type(obj).__name__} was saved by the checkpoint saver {name!r}, whose "
                "predicate refuses the object that it would be restored into."
            )
        return None
    return SaverAssignment(obj, name, stored.registered_saver.object_name)


def restore_by_savers(assignments: Iterable[SaverAssignment], prefix: str) -> None:
    """Lets savers restore their objects from a checkpoint.

    Raises:
      Whatever a saver raises.
    """
    by_saver: dict[str, dict[str, Trackable]] = {}
    for obj, saver_name, object_name in assignments:
        by_saver.setdefault(saver_name, {})[object_name] = obj
    for saver_name, trackables in by_saver.items():
        saver = SAVER_REGISTRY.get(saver_name)
        assert saver is not None  # it was found in the registry, which forgets nothing
        saver.restore_fn(trackables=trackables, merged_prefix=prefix)
