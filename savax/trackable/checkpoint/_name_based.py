"""Restoring checkpoints of names and values, as TensorFlow 1 wrote them, into Variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.errors import InvalidArgumentError, KeyNotFoundError
from savax.trackable._names import OBJECT_GRAPH_KEY
from savax.trackable._object_graph import ObjectGraph, freeze_object_graph
from savax.trackable._variable import VARIABLE_VALUE, Variable
from savax.trackable.bundle import BundleReader
from savax.trackable.checkpoint._matching import Assignment
from savax.trackable.checkpoint._prefix import resolve_prefix
from savax.trackable.checkpoint._report import (
    Missing,
    Restored,
    RestoreReport,
    Unused,
    with_nearest,
)
from savax.trackable.checkpoint._restoration import (
    assign_values,
    mismatch_error,
    unfitting_values,
)
from savax.trackable.checkpoint._status import NameBasedLoadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from savax.trackable._base import Trackable
    from savax.types import PathLike

_SHOWN = 10


def restore_by_name(
    root: Trackable, path: PathLike, names: Mapping[str, Variable] | None = None
) -> NameBasedLoadStatus:
    """Restores Variables from a checkpoint by the names of its values.

    This is for checkpoints that TensorFlow 1 wrote (``Saver``, format V2): they hold names and
    values, but no objects. ``list_variables`` shows the names.

    Args:
      root: an object from which the Variables can be reached.
      path: see ``Checkpoint.restore``.
      names: Variables by their names in the checkpoint; ``:0`` at the end of a name is ignored.
        By default each Variable goes by its own name.

    Returns:
      A status whose methods check what was restored, at the moment of the restore.

    Raises:
      NotFoundError: there is no such checkpoint.
      KeyNotFoundError: the checkpoint lacks names of the map, or a Variable of the map can't be
        reached from the root.
      InvalidArgumentError: two Variables go by one name of the checkpoint, or one by two.
      ShapeMismatchError: a value doesn't fit its Variable (DTypeMismatchError if only dtypes
        differ). The message lists all of them, and nothing has been assigned.
      CorruptBundleError: the checkpoint is damaged; nothing has been assigned.
    """
    graph = freeze_object_graph(root)
    with BundleReader(resolve_prefix(path)) as bundle:
        chosen = _named(graph, bundle) if names is None else _mapped(graph, bundle, names)
        assignments = [
            Assignment(variable, {VARIABLE_VALUE: key}) for key, variable in chosen.items()
        ]
        unfit = unfitting_values(assignments, graph, "root", bundle)
        if unfit:
            raise mismatch_error(bundle.prefix, [p for _, problems in unfit for p in problems])
        assign_values(assignments, bundle)
        return NameBasedLoadStatus(_report(graph, bundle, chosen))


def _named(graph: ObjectGraph, bundle: BundleReader) -> dict[str, Variable]:
    """Returns the Variables whose own names the checkpoint has, by those names."""
    found: dict[str, Variable] = {}
    for node in graph.nodes:
        if not isinstance(node.obj, Variable) or node.obj.name not in bundle:
            continue
        other = found.setdefault(node.obj.name, node.obj)
        if other is not node.obj:
            raise InvalidArgumentError(
                f"{graph.path_of(other)} and {graph.path_of(node.id)} are both named "
                f"{node.obj.name!r}. Say by names={{name in the checkpoint: Variable}} which "
                "values they get."
            )
    return found


def _mapped(
    graph: ObjectGraph, bundle: BundleReader, names: Mapping[str, Variable]
) -> dict[str, Variable]:
    """Returns the Variables of a map by keys of the checkpoint, all of them checked."""
    chosen = {name.removesuffix(":0"): variable for name, variable in names.items()}
    problems = []
    key_of: dict[int, str] = {}
    for key, variable in chosen.items():
        if not isinstance(variable, Variable):
            raise InvalidArgumentError(
                f"names[{key!r}] must be a Variable, not a {type(variable).__name__}."
            )
        path = graph.path_of(variable)
        other = key_of.setdefault(id(variable), key)
        if other != key:
            raise InvalidArgumentError(f"{path} can't get both {other!r} and {key!r}.")
        if key not in bundle:
            problems.append((key, path))
    if len(problems) == 1:
        bundle.entry(problems[0][0])  # raises, with the nearest keys
    if problems:
        shown = ", ".join(f"{key!r} (for {path})" for key, path in problems[:_SHOWN])
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise KeyNotFoundError(
            f"The checkpoint {bundle.prefix!r} has no {shown}{more}, so nothing was restored. "
            "list_variables shows what it has."
        )
    return chosen


def _report(
    graph: ObjectGraph, bundle: BundleReader, chosen: Mapping[str, Variable]
) -> RestoreReport:
    keys = {id(variable): key for key, variable in chosen.items()}
    restored, missing = [], []
    for node in graph.nodes:
        path = graph.path_of(node.id)
        if id(node.obj) in keys:
            restored.append(Restored(path, keys[id(node.obj)]))
        elif node.obj._tensor_names():
            missing.append(Missing(path, type(node.obj).__name__))
    left = [key for key in bundle if key not in chosen and key != OBJECT_GRAPH_KEY]
    unused = [Unused(key, key, bundle.entry(key).dtype, bundle.entry(key).shape) for key in left]
    return with_nearest(
        RestoreReport(bundle.prefix, tuple(restored), (), tuple(missing), tuple(unused))
    )
