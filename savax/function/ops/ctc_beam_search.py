"""Beam search for the best labels of connectionist temporal classification."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Any

import numpy as np

from savax.errors import InvalidArgumentError
from savax.function.ops._registry import evaluates

# Graves, "Supervised sequence labelling with recurrent neural networks" (2012), section 7.5.
_NEVER = -math.inf


class _Path:
    """A sequence of labels.

    Attributes:
      parent: the sequence without the last label; None for the empty one.
      label: the last label, -1 for the empty one.
      children: the sequences with one label more.
      total: log probability that the steps up to now give the sequence.
      blank: the same, if the last step is a blank.
      with_label: the same, if the last step is the last label.
      old_total: ``total`` before the step.
      old_blank: ``blank`` before the step.
    """

    __slots__ = (
        *("blank", "children", "label", "old_blank", "old_total", "parent", "total"),
        "with_label",
    )

    def __init__(self, parent: _Path | None, label: int) -> None:
        self.parent = parent
        self.label = label
        self.children: dict[int, _Path] = {}
        self.old_total = self.old_blank = _NEVER
        self.drop()

    def drop(self) -> None:
        """Takes the path out of the search."""
        self.total = self.blank = self.with_label = _NEVER

    def labels(self, merge_repeated: bool) -> list[int]:
        found: list[int] = []
        path, later = self, -1
        while path.parent is not None:
            if not merge_repeated or path.label != later:
                found.append(path.label)
            path, later = path.parent, path.label
        return found[::-1]


def _log_add(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))


class _Beam:
    """The best paths, at most so many."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._numbers = itertools.count()
        self._heap: list[tuple[float, int, _Path]] = []

    def accepts(self, total: float) -> bool:
        return total > _NEVER and (len(self._heap) < self._width or total > self._heap[0][0])

    def add(self, path: _Path) -> None:
        """Adds a path that is accepted; the worst one drops out if there are too many."""
        item = path.total, next(self._numbers), path
        if len(self._heap) < self._width:
            heapq.heappush(self._heap, item)
        else:
            heapq.heapreplace(self._heap, item)[2].drop()

    def ranked(self) -> list[_Path]:
        return [path for _, _, path in sorted(self._heap, key=lambda item: (-item[0], item[1]))]


def _step(paths: list[_Path], logs: list[float], width: int) -> _Beam:
    """Returns the best paths after a step.

    Args:
      paths: those before it, the best first.
      logs: log probability of each class, the blank last.
      width: how many paths are kept.
    """
    beam = _Beam(width)
    for path in paths:
        path.old_total, path.old_blank = path.total, path.blank
    for path in paths:
        parent = path.parent
        if parent is not None:
            if parent.total != _NEVER:
                before = parent.old_blank if path.label == parent.label else parent.old_total
                path.with_label = _log_add(path.with_label, before)
            path.with_label += logs[path.label]
        path.blank = path.old_total + logs[-1]
        path.total = _log_add(path.blank, path.with_label)
        beam.add(path)
    for path in paths:
        if beam.accepts(path.old_total):
            _grow(beam, path, logs)
    return beam


def _grow(beam: _Beam, path: _Path, logs: list[float]) -> None:
    """Adds the paths with one label more, as far as they are good enough."""
    for label, log in enumerate(logs[:-1]):
        child = path.children.get(label)
        if child is not None and child.total != _NEVER:
            continue
        total = log + (path.old_blank if label == path.label else path.old_total)
        if beam.accepts(total):
            if child is None:
                child = path.children[label] = _Path(path, label)
            child.blank, child.with_label, child.total = _NEVER, total, total
            beam.add(child)
        elif child is not None:
            child.drop()
            child.old_total = child.old_blank = _NEVER


def _search(logs: Any, width: int, count: int) -> list[_Path]:
    """Returns the best paths through steps [time, classes], the best first."""
    root = _Path(None, -1)
    root.total = root.blank = 0.0
    paths = [root]
    for step in logs.tolist():
        paths = _step(paths, step, width).ranked()
    if len(paths) < count:
        raise InvalidArgumentError(
            f"CTCBeamSearchDecoder found {len(paths)} sequences, {count} were asked for."
        )
    return paths[:count]


@evaluates("CTCBeamSearchDecoder", static=("inputs", "sequence_length"))
def _ctc_beam_search_decoder(
    inputs: Any, sequence_length: Any, *, beam_width: int, top_paths: int, merge_repeated: bool
) -> tuple[Any, ...]:
    """Returns indices, values and shapes of the sequences, and their log probabilities."""
    steps, batch = inputs.shape[:2]
    if sequence_length.shape != (batch,) or (sequence_length > steps).any():
        raise InvalidArgumentError(
            f"CTCBeamSearchDecoder: {steps} steps of {batch} rows can't have the lengths "
            f"{sequence_length.tolist()}."
        )
    if top_paths > beam_width:
        raise InvalidArgumentError(
            f"CTCBeamSearchDecoder: {top_paths} sequences of a beam of {beam_width}."
        )
    wide = inputs.astype(np.float64)
    highest = wide.max(-1, keepdims=True, initial=_NEVER)
    logs = wide - highest - np.log(np.exp(wide - highest).sum(-1, keepdims=True))
    rows = [
        _search(logs[: max(int(length), 0), row], beam_width, top_paths)
        for row, length in enumerate(sequence_length)
    ]
    indices, values, shapes = [], [], []
    for rank in range(top_paths):
        sequences = [paths[rank].labels(merge_repeated) for paths in rows]
        places = [[row, i] for row, labels in enumerate(sequences) for i in range(len(labels))]
        indices.append(np.array(places, np.int64).reshape(-1, 2))
        values.append(np.array([x for labels in sequences for x in labels], np.int64))
        shapes.append(np.array([batch, max(map(len, sequences), default=0)], np.int64))
    scores = [[path.total for path in paths] for paths in rows]
    totals = np.array(scores, inputs.dtype).reshape(batch, top_paths)
    return tuple(indices), tuple(values), tuple(shapes), totals
