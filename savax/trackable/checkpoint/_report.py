"""What a restore did, in lists by path: what matched, what is left over, and what doesn't fit."""

from __future__ import annotations

import dataclasses
import difflib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from savax.types import DType

_SHOWN = 20  # lines of each kind that the text has; the lists have all
_NUM_NEAREST = 3
_MAX_COMPARISONS = 20_000  # of paths; beyond that only the first leftovers get neighbours
_LIKENESS = 0.6


class Restored(NamedTuple):
    """A value that an object got.

    Attributes:
      path: of the object, such as ``root.layers.0.kernel``.
      key: of the value in the checkpoint.
    """

    path: str
    key: str


class Mismatch(NamedTuple):
    """A value that doesn't fit the object that it belongs to.

    Attributes:
      path: of the object.
      key: of the value in the checkpoint.
      problem: what was expected and what was found.
    """

    path: str
    key: str
    problem: str


class Missing(NamedTuple):
    """An object without a value in the checkpoint.

    Attributes:
      path: of the object.
      kind: its class.
      nearest: paths in the checkpoint, of values without an object, that look alike.
    """

    path: str
    kind: str
    nearest: tuple[str, ...] = ()


class Unused(NamedTuple):
    """A value in the checkpoint that no object got.

    Attributes:
      path: where the checkpoint's objects had it; the key if the checkpoint has no objects.
      key: of the value.
      dtype: of the value.
      shape: of the value.
      nearest: paths of objects without a value that look alike.
    """

    path: str
    key: str
    dtype: DType
    shape: tuple[int, ...]
    nearest: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """How a checkpoint and objects correspond; its ``str`` is made to be read.

    Attributes:
      prefix: of the checkpoint; None if there was none to restore.
      restored: values that objects got.
      mismatched: values that don't fit their objects.
      missing: objects without a value in the checkpoint.
      unused: values that no object got.
    """

    prefix: str | None
    restored: tuple[Restored, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    missing: tuple[Missing, ...] = ()
    unused: tuple[Unused, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left over, on either side."""
        return not (self.mismatched or self.missing or self.unused)

    @property
    def summary(self) -> str:
        """One line with the numbers."""
        if self.prefix is None:
            return "No checkpoint was restored."
        counts = [
            (len(self.restored), "restored"),
            (len(self.mismatched), "of another shape or dtype"),
            (len(self.missing), "missing in the checkpoint"),
            (len(self.unused), "only in the checkpoint"),
        ]
        text = ", ".join(f"{n} {what}" for n, what in counts if n or what == "restored")
        return f"Checkpoint {self.prefix!r}: {text}."

    def __str__(self) -> str:
        return "\n".join(
            [
                self.summary,
                *_section("Of another shape or dtype", self.mismatch_lines()),
                *_section("Missing in the checkpoint", self.missing_lines()),
                *_section("Only in the checkpoint", self.unused_lines()),
                *_section("Restored", [f"{path} from {key!r}" for path, key in self.restored]),
            ]
        )

    def mismatch_lines(self) -> list[str]:
        """Returns a line for each of ``mismatched``."""
        return [f"{path}: {problem} under {key!r}" for path, key, problem in self.mismatched]

    def missing_lines(self) -> list[str]:
        """Returns a line for each of ``missing``."""
        return [
            f"{path} ({kind}) isn't in the checkpoint{_hint(nearest)}"
            for path, kind, nearest in self.missing
        ]

    def unused_lines(self) -> list[str]:
        """Returns a line for each of ``unused``."""
        return [
            f"{path} in the checkpoint, under {key!r}, has no object here "
            f"({dtype.name}{list(shape)}){_hint(nearest)}"
            for path, key, dtype, shape, nearest in self.unused
        ]


def with_nearest(report: RestoreReport) -> RestoreReport:
    """Returns the report with the names that leftovers of both sides may have been meant as."""
    theirs = [unused.path for unused in report.unused]
    ours = [missing.path for missing in report.missing]
    missing = [
        missing._replace(nearest=nearest)
        for missing, nearest in zip(report.missing, _nearest_of(ours, theirs), strict=True)
    ]
    unused = [
        unused._replace(nearest=nearest)
        for unused, nearest in zip(report.unused, _nearest_of(theirs, ours), strict=True)
    ]
    return dataclasses.replace(report, missing=tuple(missing), unused=tuple(unused))


def _nearest_of(paths: Sequence[str], candidates: Sequence[str]) -> list[tuple[str, ...]]:
    if not candidates:
        return [()] * len(paths)
    compared = _MAX_COMPARISONS // len(candidates)
    by_name = {_comparable(path): path for path in candidates}
    found = [
        difflib.get_close_matches(_comparable(path), by_name, _NUM_NEAREST, _LIKENESS)
        for path in paths[:compared]
    ]
    hints = [tuple(by_name[name] for name in names) for names in found]
    return hints + [()] * len(paths[compared:])


def _comparable(path: str) -> str:
    """Returns a path without what all have in common, names of TensorFlow 1 as paths."""
    return path.removeprefix("root.").replace("/", ".")


def _hint(nearest: Iterable[str]) -> str:
    names = " or ".join(nearest)
    return f"; near: {names}" if names else ""


def _section(title: str, lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    rest = [f"  and {more} more"] if more > 0 else []
    return [f"{title}:", *(f"  {line}" for line in lines[:_SHOWN]), *rest] if lines else []
