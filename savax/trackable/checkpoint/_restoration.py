"""Giving a checkpoint's values to objects: at once, and to children that are made later."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from savax.errors import (
    DTypeMismatchError,
    InvalidArgumentError,
    ShapeMismatchError,
)
from savax.trackable._base import SlotOwner
from savax.trackable._names import is_captured_array
from savax.trackable._object_graph import Node, ObjectGraph, freeze_object_graph
from savax.trackable._registry import SAVER_REGISTRY
from savax.trackable._tree_parts import KEY_PROBLEM
from savax.trackable._variable import Variable
from savax.trackable.bundle import BundleReader
from savax.trackable.checkpoint._matching import Assignment, Match, match_objects, match_slot
from savax.trackable.checkpoint._registered_savers import restore_by_savers
from savax.trackable.checkpoint._report import (
    Mismatch,
    Missing,
    Restored,
    RestoreReport,
    Unused,
    with_nearest,
)
from savax.trackable.checkpoint._stored_graph import read_stored_graph
from savax.types._collector import collector_paused, collector_paused_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from savax.trackable._base import Trackable
    from savax.trackable.bundle._tensors import Verify

_SHOWN_PROBLEMS = 20


class Restoration:
    """One restored checkpoint: what it holds and who got what.

    It lives as long as objects wait for values from it, and keeps the checkpoint's files open
    until then, so that a later one under the same prefix changes nothing.

    Args:
      prefix: of the checkpoint.
      verify: see ``BundleReader``.
      with_slots: whether slot variables get values, and are missed if they don't.

    Raises:
      NotFoundError: there is no such checkpoint.
      UnsupportedError: the checkpoint has no object graph.
    """

    def __init__(self, prefix: str, verify: Verify = True, *, with_slots: bool = True) -> None:
        self.prefix = prefix
        self._with_slots = with_slots
        self._bundle = BundleReader(prefix, verify=verify)
        self.stored = read_stored_graph(self._bundle)
        self.objects: dict[int, list[Trackable]] = {}
        self._unused: list[tuple[int, str]] = []
        self._restored: dict[int, Assignment] = {}
        self._unfit: dict[int, tuple[Trackable, list[Mismatch]]] = {}
        self._num_awaited = 0
        self._awaited_slots: set[int] = set()
        self._ids_of: dict[int, list[int]] = {}  # stored ids by id() of an object

    def restore(self, graph: ObjectGraph, stored_id: int = 0, path: str = "root") -> None:
        """Assigns values to all objects of a graph that the checkpoint has.

        Args:
          graph: objects; its root stands for the stored node.
          stored_id: where to start in the checkpoint.
          path: of the graph's root, for messages.

        Raises:
          ShapeMismatchError: a value doesn't fit its Variable (DTypeMismatchError if only dtypes
            differ). The message lists all of them, and nothing has been assigned.
          CorruptBundleError: a value's bytes are damaged.
        """
        with collector_paused_for(len(graph.nodes)):
            match = match_objects(
                graph, self.stored, self.objects, stored_id, with_slots=self._with_slots
            )
            self._apply(match, graph, path)

    def _apply(self, match: Match, graph: ObjectGraph, path: str) -> None:
        unfit = unfitting_values(match.assignments, graph, path, self._bundle)
        if unfit:
            self._unfit.update((id(obj), (obj, problems)) for obj, problems in unfit)
            raise mismatch_error(self.prefix, [p for _, problems in unfit for p in problems])
        assign_values(match.assignments, self._bundle)
        restore_by_savers(match.by_savers, self.prefix)
        self._note(match, match.assignments)
        for awaited in match.awaited:
            parent_path = path + graph.path_of(awaited.parent_id).removeprefix("root")
            pending = PendingChild(self, awaited.stored_id, f"{parent_path}.{awaited.name}")
            graph.nodes[awaited.parent_id].obj._await_restoration(awaited.name, pending)
        self._num_awaited += len(match.awaited)
        self._await_slots(match)
        if not self._num_awaited and not self._awaited_slots:
            self._bundle.close()

    def compare(self, graph: ObjectGraph) -> None:
        """Notes what restoring into a graph would do, and assigns nothing."""
        self._compared(graph)
        self._bundle.close()

    def restore_checked(
        self, graph: ObjectGraph, exempt: Trackable | None, check: Callable[[RestoreReport], None]
    ) -> RestoreReport:
        """Assigns values to a graph's objects if a check lets it; none waits for values after that.

        Args:
          graph: objects.
          exempt: an object that the checkpoint need not have.
          check: gets what is going to be done; what it raises ends the restoring before that. It
            must not let values pass that don't fit.

        Returns:
          What the check got.
        """
        with self._bundle:
            match = self._compared(graph)
            report = self.report(graph, exempt)
            check(report)
            assign_values(match.assignments, self._bundle)
            restore_by_savers(match.by_savers, self.prefix)
        return report

    def _compared(self, graph: ObjectGraph) -> Match:
        """Returns which objects get which values, and notes it."""
        match = match_objects(graph, self.stored, self.objects)
        unfit = unfitting_values(match.assignments, graph, "root", self._bundle)
        self._unfit.update((id(obj), (obj, problems)) for obj, problems in unfit)
        self._note(match, [a for a in match.assignments if id(a.obj) not in self._unfit])
        return match

    def restore_awaited(self, child: Trackable, stored_id: int, path: str) -> None:
        """Assigns values to a child that has just been tracked, and to what it leads to."""
        self._num_awaited -= 1
        self.restore(freeze_object_graph(child), stored_id, path)

    def restore_awaited_slot(
        self, optimizer_id: int, variable: Trackable, slot_name: str, slot: Trackable
    ) -> None:
        """Assigns a value to a slot that has just been added, if the checkpoint has one."""
        for original_id in self._ids_of.get(id(variable), ()):
            for owner_id, reference in self.stored.slots_on(original_id):
                slot_id = reference.slot_variable_node_id
                is_meant = (owner_id, reference.slot_name) == (optimizer_id, slot_name)
                if is_meant and slot_id in self._awaited_slots:
                    path = self.stored.paths()[slot_id]
                    match = match_slot(slot, slot_id, self.stored)
                    self._apply(match, freeze_object_graph(slot), path)
                    return

    def _await_slots(self, match: Match) -> None:
        if not self._with_slots:
            return
        self._awaited_slots.difference_update(match.pairs)
        for stored_id, objects in match.pairs.items():
            owners = [obj for obj in objects if isinstance(obj, SlotOwner)]
            if not owners:
                continue
            slot_ids = {slot.slot_variable_node_id for slot in self.stored.slots_of(stored_id)}
            awaited = {slot_id for slot_id in slot_ids if slot_id not in self.objects}
            self._awaited_slots |= awaited
            for owner in owners if awaited else ():
                owner._await_slots(PendingSlotVariables(self, stored_id))

    def was_restored(self, obj: Trackable) -> bool:
        """Whether an object got values."""
        return id(obj) in self._restored

    def _note(self, match: Match, restored: Sequence[Assignment]) -> None:
        by_savers = [Assignment(assignment.obj, {}) for assignment in match.by_savers]
        for assignment in (*restored, *by_savers):
            self._restored[id(assignment.obj)] = assignment
        for stored_id, objects in match.pairs.items():
            self.objects.setdefault(stored_id, []).extend(objects)
            for obj in objects:
                self._ids_of.setdefault(id(obj), []).append(stored_id)
        self._unused.extend(match.unknown)
        for stored_id in match.shadowed:
            self._unused.extend((stored_id, name) for name in self.stored.keys_of(stored_id))

    @collector_paused()
    def report(self, graph: ObjectGraph, exempt: Trackable | None = None) -> RestoreReport:
        """Returns what objects have got by now, and what is left over.

        Arrays that the functions of a saved model close over don't count as left over: the object
        that was saved has no Variables for them.

        Args:
          graph: all objects that can be reached now.
          exempt: an object that the checkpoint need not have.
        """
        restored: list[Restored] = []
        mismatched: list[Mismatch] = []
        missing: list[Missing] = []
        for node in graph.nodes:
            path = graph.path_of(node.id)
            if self.was_restored(node.obj):
                keys = self._restored[id(node.obj)].keys.values()
                restored += [Restored(path, key) for key in keys]
            elif id(node.obj) in self._unfit:
                problems = self._unfit[id(node.obj)][1]
                mismatched += [problem._replace(path=path) for problem in problems]
            elif node.obj is not exempt and _has_values(node.obj) and not _is_captured(path, node):
                missing.append(Missing(path, type(node.obj).__name__))
        unused = self._unused_values({mismatch.key for mismatch in mismatched})
        return with_nearest(
            RestoreReport(
                self.prefix, tuple(restored), tuple(mismatched), tuple(missing), tuple(unused)
            )
        )

    def _unused_values(self, mismatched: set[str]) -> list[Unused]:
        skipped = set() if self._with_slots else self.stored.slot_ids()
        left = [
            (stored_id, name)
            for stored_id in range(len(self.stored.nodes))
            if stored_id not in self.objects and stored_id not in skipped
            for name in self.stored.keys_of(stored_id)
        ] + self._unused
        paths = self.stored.paths() if left else []
        unused = []
        for stored_id, name in left:
            key = self.stored.keys_of(stored_id)[name]
            full_name = next(a.full_name for a in self.stored.nodes[stored_id].attributes)
            if key not in mismatched and not is_captured_array(paths[stored_id], full_name):
                entry = self._bundle.entry(key)
                unused.append(Unused(paths[stored_id], key, entry.dtype, entry.shape))
        return unused


def _is_captured(path: str, node: Node) -> bool:
    """Whether a node is a part of a loaded model that checkpoints of the saved object lack."""
    return isinstance(node.obj, Variable) and is_captured_array(path, node.obj.name)


def _has_values(obj: Trackable) -> bool:
    return bool(obj._tensor_names()) or SAVER_REGISTRY.name_of(obj) is not None


def unfitting_values(
    assignments: Iterable[Assignment], graph: ObjectGraph, root: str, bundle: BundleReader
) -> list[tuple[Trackable, list[Mismatch]]]:
    """Returns objects whose values don't fit, and why.

    Args:
      assignments: objects of the graph and the keys of their values.
      graph: for the objects' paths.
      root: path of the graph's root.
      bundle: where the values are.
    """
    unfit = []
    for assignment in assignments:
        entries = {name: bundle.entry(key) for name, key in assignment.keys.items()}
        problems = assignment.obj._restoration_problems(entries)
        decisive = entries.keys() & set(assignment.obj._decisive_tensors)
        if decisive and not problems:
            values = {name: bundle.read(assignment.keys[name]) for name in decisive}
            problems = assignment.obj._value_problems(values)
        if problems:
            # A slot is out of the graph if only its optimizer, or only its Variable, is in it.
            path = "a slot variable"
            if assignment.obj in graph:
                path = root + graph.path_of(assignment.obj).removeprefix("root")
            key = next(iter(assignment.keys.values()))
            unfit.append((assignment.obj, [Mismatch(path, key, text) for text in problems]))
    return unfit


def mismatch_error(prefix: str, problems: Sequence[Mismatch]) -> InvalidArgumentError:
    """Returns the error that lists values that don't fit."""
    about = {" ".join(mismatch.problem.split()[:2]) for mismatch in problems}
    kind: type[InvalidArgumentError] = ShapeMismatchError
    if about == {"expected dtype"}:
        kind = DTypeMismatchError
    elif about == {KEY_PROBLEM}:
        kind = InvalidArgumentError
    shown = RestoreReport(prefix, mismatched=tuple(problems)).mismatch_lines()
    lines = "".join(f"\n  {text}" for text in shown[:_SHOWN_PROBLEMS])
    more = len(problems) - _SHOWN_PROBLEMS
    rest = f"\n  and {more} more" if more > 0 else ""
    return kind(
        f"{len(problems)} values of the checkpoint {prefix!r} don't fit, so nothing was "
        f"restored:{lines}{rest}"
    )


def assign_values(assignments: Sequence[Assignment], bundle: BundleReader) -> None:
    """Reads all values, then assigns them, so that a damaged file changes nothing."""
    placed = [_read_placed(assignment, bundle) for assignment in assignments]
    keys = {
        key
        for assignment, values in zip(assignments, placed, strict=True)
        for name, key in assignment.keys.items()
        if name not in values
    }
    others = dict(bundle.read_many(sorted(keys)))
    for assignment, values in zip(assignments, placed, strict=True):
        taken = {
            name: values[name] if name in values else others[key]
            for name, key in assignment.keys.items()
        }
        assignment.obj._restore_from_tensors(taken)


def _read_placed(assignment: Assignment, bundle: BundleReader) -> dict[str, Any]:
    """Returns the values that belong on certain devices; of each, only what they need is read."""
    values = {}
    for name, placement in assignment.obj._tensor_placements().items():
        if name in assignment.keys:
            key = assignment.keys[name]
            entry = bundle.entry(key)
            read = functools.partial(bundle.read_boxes, key)
            values[name] = placement.place(entry.shape, entry.dtype, read)
    return values


@dataclasses.dataclass(frozen=True)
class PendingChild:
    """A stored node that waits until an object of its name is tracked."""

    restoration: Restoration
    stored_id: int
    path: str

    def restore(self, child: Trackable) -> None:
        """Gives values to the child and to what can be reached from it."""
        self.restoration.restore_awaited(child, self.stored_id, self.path)


@dataclasses.dataclass(frozen=True)
class PendingSlotVariables:
    """Slot variables in a checkpoint that wait until an optimizer makes them."""

    restoration: Restoration
    optimizer_id: int

    def restore(self, variable: Trackable, slot_name: str, slot: Trackable) -> None:
        """Gives a value to a slot that has just been added, if there is one for it."""
        self.restoration.restore_awaited_slot(self.optimizer_id, variable, slot_name, slot)


def restore_objects(root: Trackable, prefix: str) -> Restoration:
    """Restores a checkpoint into the objects that can be reached from a root.

    Args:
      root: stands for the checkpoint's root.
      prefix: of the checkpoint.

    Returns:
      What was restored and what wasn't.
    """
    restoration = Restoration(prefix)
    restoration.restore(freeze_object_graph(root))
    return restoration
