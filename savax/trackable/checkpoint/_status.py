"""What a restore did, and assertions about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from savax.errors import IncompleteRestoreError
from savax.trackable.checkpoint._report import RestoreReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.trackable._base import Trackable
    from savax.trackable._object_graph import ObjectGraph
    from savax.trackable.checkpoint._restoration import Restoration

_SHOWN = 10


class LoadStatus:
    """What ``Checkpoint.restore``, ``Checkpoint.read`` and ``restore_by_name`` return."""

    def report(self) -> RestoreReport:
        """Returns what matched and what is left over, by path; print it to read it."""
        raise NotImplementedError

    def assert_consumed(self) -> Self:
        """Checks that all of the checkpoint's values and all objects with values met.

        Raises:
          IncompleteRestoreError: lists both the values and the objects that are left over.
        """
        report = self.report()
        _require(report, report.mismatch_lines(), report.unused_lines(), report.missing_lines())
        return self

    def assert_existing_objects_matched(self) -> Self:
        """Checks that all objects with values got them from the checkpoint.

        Raises:
          IncompleteRestoreError: lists the others.
        """
        report = self.report()
        _require(report, report.mismatch_lines(), report.missing_lines())
        return self

    def assert_nontrivial_match(self) -> Self:
        """Checks that anything besides the root was found in the checkpoint.

        Raises:
          IncompleteRestoreError: nothing was.
        """
        raise NotImplementedError

    def expect_partial(self) -> Self:
        """Does nothing: savax never warns about values that weren't restored."""
        return self

    def run_restore_ops(self, session: None = None) -> None:
        """Does nothing: values have been restored already."""

    def initialize_or_restore(self, session: None = None) -> None:
        """Does nothing: values have been restored already."""


class CheckpointLoadStatus(LoadStatus):
    """The status of a checkpoint that was restored.

    Assertions and reports look at the objects as they are then: an object that was made after the
    restore, and got its values when it was assigned to an attribute, counts as restored.

    Args:
      restoration: what was restored.
      freeze: returns the objects that can be reached now.
      exempt: an object that the checkpoint need not have.
    """

    def __init__(
        self,
        restoration: Restoration,
        freeze: Callable[[], ObjectGraph],
        exempt: Trackable | None = None,
    ) -> None:
        self._restoration = restoration
        self._freeze = freeze
        self._exempt = exempt

    def report(self) -> RestoreReport:
        """Returns what matched and what is left over, by path; print it to read it."""
        return self._restoration.report(self._freeze(), self._exempt)

    def assert_nontrivial_match(self) -> Self:
        """Checks that anything besides the root was found in the checkpoint.

        Raises:
          IncompleteRestoreError: nothing was.
        """
        graph = self._freeze()
        found = [obj for objects in self._restoration.objects.values() for obj in objects]
        if any(obj is not graph.root for obj in found) or self._restoration.was_restored(
            graph.root
        ):
            return self
        ours = [name for name, _ in graph.nodes[0].children]
        theirs = [child.local_name for child in self._restoration.stored.nodes[0].children]
        raise IncompleteRestoreError(
            f"The checkpoint {self._restoration.prefix!r} has nothing in common with the objects: "
            f"it has {theirs[:_SHOWN]!r} at its root, they have {ours[:_SHOWN]!r}."
        )


class NameBasedLoadStatus(LoadStatus):
    """The status of a checkpoint that was restored by names.

    Args:
      report: what was restored.
    """

    def __init__(self, report: RestoreReport) -> None:
        self._report = report

    def report(self) -> RestoreReport:
        """Returns what matched and what is left over, by path; print it to read it."""
        return self._report

    def assert_nontrivial_match(self) -> Self:
        """Checks that anything was found in the checkpoint.

        Raises:
          IncompleteRestoreError: nothing was.
        """
        if not self._report.restored:
            theirs = [unused.key for unused in self._report.unused[:_SHOWN]]
            raise IncompleteRestoreError(
                f"The checkpoint {self._report.prefix!r} has no Variable's name: it has {theirs!r}."
            )
        return self


class InitializationOnlyStatus(LoadStatus):
    """The status of ``restore(None)``: there was nothing to restore."""

    def report(self) -> RestoreReport:
        """Returns an empty report."""
        return RestoreReport(None)

    def assert_consumed(self) -> Self:
        """Fails, as nothing was restored."""
        raise self._nothing()

    def assert_existing_objects_matched(self) -> Self:
        """Fails, as nothing was restored."""
        raise self._nothing()

    def assert_nontrivial_match(self) -> Self:
        """Fails, as nothing was restored."""
        raise self._nothing()

    def _nothing(self) -> IncompleteRestoreError:
        return IncompleteRestoreError(
            "No checkpoint was restored: the path was None, as latest_checkpoint returns it for a "
            "directory without one."
        )


def _require(report: RestoreReport, *kinds: list[str]) -> None:
    lines = [line for kind in kinds for line in _shown(kind)]
    if lines:
        raise IncompleteRestoreError(
            f"The checkpoint {report.prefix!r} and the objects differ:"
            + "".join(f"\n  {line}" for line in lines)
        )


def _shown(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
