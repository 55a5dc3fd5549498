"""Connectionist temporal classification: losses, and distances between sequences."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import InvalidArgumentError
from savax.function.ops._host_strings import check_result_elements
from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from collections.abc import Sequence

# Graves et al., "Connectionist temporal classification" (2006). A path visits the states of a row
# in order: blank, label, blank, label, ..., blank. It stays at one or goes ahead, and may leave out
# the blank between two different labels.


@evaluates("CTCLoss")
def _ctc_loss(
    inputs: Any,
    labels_indices: Any,
    labels_values: Any,
    sequence_length: Any,
    *,
    preprocess_collapse_repeated: bool,
    ctc_merge_repeated: bool,
    ignore_longer_outputs_than_inputs: bool,
) -> tuple[Any, Any]:
    """Returns losses [batch] and the gradients of their sum.

    TensorFlow's kernel fails if a row has more labels than steps, where the loss here is infinite,
    and if a label or a length isn't possible, where it is NaN.
    """
    classes = inputs.shape[2]
    # The last class and those behind it are blanks; they are at the end of a row.
    is_label = jnp.asarray(labels_values) < classes - 1
    return _loss(
        (inputs, labels_indices, labels_values, sequence_length),
        is_label,
        classes - 1,
        preprocess_collapse_repeated,
        ctc_merge_repeated,
        ignore_longer_outputs_than_inputs,
    )


@evaluates("CTCLossV2")
def _ctc_loss_v2(
    inputs: Any,
    labels_indices: Any,
    labels_values: Any,
    sequence_length: Any,
    *,
    preprocess_collapse_repeated: bool,
    ctc_merge_repeated: bool,
    ignore_longer_outputs_than_inputs: bool,
) -> tuple[Any, Any]:
    """Returns what CTCLoss does, where the first class is the blank."""
    return _loss(
        (inputs, labels_indices, labels_values, sequence_length),
        jnp.ones(labels_values.shape, bool),
        0,
        preprocess_collapse_repeated,
        ctc_merge_repeated,
        ignore_longer_outputs_than_inputs,
    )


def _loss(
    operands: tuple[Any, ...],
    is_label: Any,
    blank: int,
    collapse: bool,
    merge: bool,
    ignore_longer: bool,
) -> tuple[Any, Any]:
    inputs, indices, values, lengths = operands
    if inputs.ndim != 3 or indices.ndim != 2 or indices.shape[:1] != values.shape:
        raise InvalidArgumentError(
            f"CTC losses take inputs [time, batch, classes], found {inputs.shape}, and as many "
            f"indices as labels, found {indices.shape} and {values.shape}."
        )
    steps, batch = inputs.shape[:2]
    if not steps:
        return jnp.zeros(batch, inputs.dtype), jnp.zeros(inputs.shape, inputs.dtype)
    room = min(values.shape[0], steps)
    arrays = (jnp.asarray(x) for x in (inputs, indices[:, 0], values, is_label, lengths))
    found: tuple[Any, Any] = _losses(*arrays, room, blank, collapse, merge, ignore_longer)
    return found


def _padded(rows: Any, values: Any, kept: Any, batch: int, room: int) -> tuple[Any, Any]:
    """Returns the labels that are kept as [batch, room], and their numbers."""
    order = jnp.cumsum(kept, dtype=jnp.int32) - kept
    first = jnp.full(batch, values.shape[0], jnp.int32).at[rows].min(order, mode="drop")
    place = jnp.where(kept, order - first.at[rows].get(mode="clip"), room)
    labels = jnp.zeros((batch, room), jnp.int32).at[rows, place].set(values, mode="drop")
    return labels, jnp.zeros(batch, jnp.int32).at[rows].add(kept, mode="drop")


@functools.partial(jax.jit, static_argnames=("room", "blank", "collapse", "merge", "ignore_longer"))
def _losses(
    inputs: Any,
    rows: Any,
    values: Any,
    is_label: Any,
    lengths: Any,
    room: int,
    blank: int,
    collapse: bool,
    merge: bool,
    ignore_longer: bool,
) -> tuple[Any, Any]:
    """Returns losses and gradients.

    Args:
      inputs: logits, [time, batch, classes].
      rows: of each label, ascending.
      values: the labels.
      is_label: which of them count.
      lengths: steps of each row.
      room: at least the most labels that a row has, or its steps.
      blank: the class that is no label.
      collapse: whether to take repeated labels for one.
      merge: whether a label goes on while its class is repeated.
      ignore_longer: whether rows with more labels than steps have no loss.
    """
    batch = inputs.shape[1]
    rows = jnp.where(rows < 0, batch, rows).astype(jnp.int32)  # dropped, and not the last ones
    values = values.astype(jnp.int32)
    given = jnp.zeros(batch, jnp.int32).at[rows].add(jnp.ones_like(rows), mode="drop")
    again = (rows[1:] == rows[:-1]) & (values[1:] == values[:-1]) & collapse
    kept = is_label & ~_behind_first(again)
    labels, counts = _padded(rows, values, kept.astype(jnp.int32), batch, room)
    loss, gradient = _paths(inputs, labels, counts, lengths, blank, merge)
    too_long = given > lengths
    none = lengths == 0 if not ignore_longer else (lengths == 0) | too_long
    impossible = too_long & ~none
    loss = jnp.where(impossible, jnp.asarray(jnp.inf, loss.dtype), jnp.where(none, 0, loss))
    gradient = jnp.where(none[:, None], 0, gradient)
    wrong = _wrong(inputs, rows, values, is_label, lengths, blank)
    nan = jnp.asarray(jnp.nan, loss.dtype)
    return jnp.where(wrong, nan, loss), jnp.where(wrong[:, None], nan, gradient)


def _behind_first(flags: Any) -> Any:
    """Puts False in front of the flags of all labels but the first."""
    return jnp.concatenate([jnp.zeros(1, bool), flags])[: flags.shape[0] + 1]


def _wrong(inputs: Any, rows: Any, values: Any, is_label: Any, lengths: Any, blank: int) -> Any:
    """Returns which rows have labels that aren't classes or are behind blanks, or wrong lengths."""
    steps, batch, classes = inputs.shape
    after_blank = _behind_first((rows[1:] == rows[:-1]) & ~is_label[:-1])
    found = is_label & ((values < 0) | (values >= classes) | (values == blank) | after_blank)
    wrong = jnp.zeros(batch, bool).at[rows].max(found, mode="drop")
    return wrong | (lengths < 0) | (lengths > steps)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def _paths(
    inputs: Any, labels: Any, counts: Any, lengths: Any, blank: int, merge: bool
) -> tuple[Any, Any]:
    """Returns losses [batch] and their gradients [time, batch, classes]."""
    steps, batch = inputs.shape[:2]
    log_y = jax.nn.log_softmax(inputs, axis=-1)
    states = jnp.full((batch, 2 * labels.shape[1] + 1), blank, jnp.int32)
    states = states.at[:, 1::2].set(labels)
    number = jnp.arange(states.shape[1], dtype=jnp.int32)
    is_label = number % 2 == 1
    stays = ~is_label | merge
    before = jnp.pad(states, ((0, 0), (2, 0)))[:, : states.shape[1]]
    skips = is_label & (number > 1) & ~((states == before) & merge)
    last = 2 * counts[:, None]
    emitted = jnp.take_along_axis(log_y, jnp.broadcast_to(states, (steps, *states.shape)), axis=2)
    emitted = jnp.where(number <= last, emitted, -jnp.inf)

    def forward(alpha: Any, emit: Any) -> tuple[Any, Any]:
        found = emit + _sum(
            jnp.where(stays, alpha, -jnp.inf),
            _shifted(alpha, 1),
            jnp.where(skips, _shifted(alpha, 2), -jnp.inf),
        )
        return found, found

    first = jnp.where(number <= 1, emitted[0], -jnp.inf)
    alphas = jnp.concatenate([first[None], lax.scan(forward, first, emitted[1:])[1]])

    ends = jnp.where((number <= last) & (number >= last - 1), 0.0, -jnp.inf).astype(inputs.dtype)

    def backward(carry: Any, item: Any) -> tuple[Any, Any]:
        emit, step = item
        found = _sum(
            jnp.where(stays, carry, -jnp.inf),
            _shifted(carry, -1),
            _shifted(jnp.where(skips, carry, -jnp.inf), -2),
        )
        beta = jnp.where((step == lengths - 1)[:, None], ends, found)
        return beta + emit, beta

    items = emitted, jnp.arange(steps, dtype=jnp.int32)
    betas = lax.scan(backward, jnp.full_like(ends, -jnp.inf), items, reverse=True)[1]
    log_p = jax.nn.logsumexp(alphas[0] + betas[0], axis=-1)
    return -log_p, _gradients(log_y, alphas + betas, log_p, states, lengths)


def _gradients(log_y: Any, visits: Any, log_p: Any, states: Any, lengths: Any) -> Any:
    """Returns the gradients, of the probabilities of paths through each state."""
    steps, batch, classes = log_y.shape
    possible = log_p > -jnp.inf
    shares = jnp.exp(visits - jnp.where(possible, log_p, 0)[:, None])
    at = jnp.arange(batch, dtype=jnp.int32)[:, None], states
    used = jnp.zeros((batch, classes, steps), log_y.dtype).at[at].add(jnp.moveaxis(shares, 0, -1))
    steps_of_row = jnp.arange(steps, dtype=jnp.int32)[:, None] < lengths
    gradient = jnp.exp(log_y) - jnp.moveaxis(used, -1, 0)
    return jnp.where(steps_of_row[..., None], gradient, 0)


def _sum(*logs: Any) -> Any:
    return functools.reduce(jnp.logaddexp, logs)


def _shifted(logs: Any, places: int) -> Any:
    """Moves states by so many places; none comes from outside."""
    low, high = max(places, 0), max(-places, 0)
    padded = jnp.pad(logs, ((0, 0), (low, high)), constant_values=-jnp.inf)
    return padded[:, high : high + logs.shape[1]]


@_paths.defjvp
def _paths_jvp(
    blank: int, merge: bool, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    # Like TensorFlow's, the gradient isn't differentiated again.
    loss, gradient = _paths(*primals, blank, merge)
    gradient = lax.stop_gradient(gradient)
    slope = jnp.sum(gradient * tangents[0], axis=(0, 2))
    return (loss, gradient), (slope, jnp.zeros_like(gradient))


# Distances.


def _grouped(indices: Any, values: Any, shape: Any, what: str) -> dict[tuple[int, ...], list[Any]]:
    """Returns the sequences of a sparse tensor by all indices but the last."""
    if indices.ndim != 2 or shape.ndim != 1 or indices.shape != (len(values), len(shape)):
        raise InvalidArgumentError(
            f"EditDistance: the {what} has indices of shape {indices.shape}, values of shape "
            f"{values.shape} and a shape of {shape.shape}."
        )
    if ((indices < 0) | (indices >= shape)).any():
        raise InvalidArgumentError(f"EditDistance: the {what} has indices outside of its shape.")
    found: dict[tuple[int, ...], list[Any]] = {}
    for place, value in zip(indices[:, :-1].tolist(), values.tolist(), strict=True):
        found.setdefault(tuple(place), []).append(value)
    return found


def _distance(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Returns how many insertions, deletions and changes turn one sequence into another."""
    codes: dict[Any, int] = {}
    a, b = (
        np.array([codes.setdefault(x, len(codes)) for x in s], np.int64) for s in (first, second)
    )
    places = np.arange(len(b) + 1)
    row = places.copy()
    for index, value in enumerate(a):
        changed = np.minimum(row[1:] + 1, row[:-1] + (b != value))
        row = np.concatenate([[index + 1], changed])
        row = np.minimum.accumulate(row - places) + places  # insertions
    return int(row[-1])


@evaluates(
    "EditDistance",
    static=(
        *("hypothesis_indices", "hypothesis_values", "hypothesis_shape"),
        *("truth_indices", "truth_values", "truth_shape"),
    ),
)
def _edit_distance(
    hypothesis_indices: Any,
    hypothesis_values: Any,
    hypothesis_shape: Any,
    truth_indices: Any,
    truth_values: Any,
    truth_shape: Any,
    *,
    normalize: bool,
) -> Any:
    guesses = _grouped(hypothesis_indices, hypothesis_values, hypothesis_shape, "hypothesis")
    truths = _grouped(truth_indices, truth_values, truth_shape, "truth")
    if len(truth_shape) < 2 or truth_shape.shape != hypothesis_shape.shape:
        raise InvalidArgumentError(
            "EditDistance takes two sparse tensors of the same rank, at least 2; found shapes "
            f"{hypothesis_shape.tolist()} and {truth_shape.tolist()}."
        )
    shape = np.maximum(hypothesis_shape, truth_shape)[:-1].tolist()
    check_result_elements(int(np.prod(shape, dtype=object)), "EditDistance")
    result = np.zeros(shape, np.float32)
    for place in guesses.keys() | truths.keys():
        guess, truth = guesses.get(place, []), truths.get(place, [])
        distance = _distance(truth, guess)
        if normalize:
            result[place] = distance / len(truth) if truth else np.inf
        else:
            result[place] = distance
    return result
