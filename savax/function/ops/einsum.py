"""Einsum: contractions that no matrix product expresses."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


def lower_einsum(
    g: GraphBuilder,
    lhs: Symbol,
    rhs: Symbol,
    contract: tuple[tuple[int, ...], tuple[int, ...]],
    batch: tuple[tuple[int, ...], tuple[int, ...]],
    shape: Sequence[Any],
) -> Symbol:
    """Writes a product of two tensors; the result's axes are batch, lhs and rhs.

    Args:
      g: the graph builder.
      lhs: first operand.
      rhs: second operand, of the same dtype.
      contract: axes of both that are summed over, pairwise.
      batch: axes of both that are walked together, pairwise.
      shape: of the result.
    """
    letters = iter(string.ascii_letters)
    left = [next(letters) for _ in range(lhs.ndim)]
    right = [""] * rhs.ndim
    for a, b in zip((*contract[0], *batch[0]), (*contract[1], *batch[1]), strict=True):
        right[b] = left[a]
    right = [letter or next(letters) for letter in right]
    out = [left[axis] for axis in batch[0]]
    out += [left[a] for a in range(lhs.ndim) if a not in contract[0] and a not in batch[0]]
    out += [right[b] for b in range(rhs.ndim) if b not in contract[1] and b not in batch[1]]
    terms, operands = ["".join(left), "".join(right)], [lhs, rhs]
    forms = g.lowerer.library.portable_forms
    if forms is not None and forms.prefers_right(lhs):
        terms, operands = terms[::-1], operands[::-1]
    equation = f"{','.join(terms)}->{''.join(out)}"
    return g.op("Einsum", operands, equation=equation, shape=tuple(shape))


@evaluates("Einsum")
def _einsum(inputs: tuple[Any, ...], *, equation: str) -> Any:
    terms, arrow, out = equation.replace(" ", "").partition("->")
    labels = [label for label in out if label != "."]
    if not arrow or len(set(labels)) == len(labels):
        return jnp.einsum(equation, *inputs)
    return _with_repeated_labels(inputs, terms, out)


def _with_repeated_labels(inputs: tuple[Any, ...], terms: str, out: str) -> Any:
    """Evaluates e.g. ``i->ii``: values on a diagonal, zeros elsewhere."""
    labels = out.replace("...", "")
    unique = "".join(dict.fromkeys(labels))
    compact = jnp.einsum(f"{terms}->...{unique}" if "." in out else f"{terms}->{unique}", *inputs)
    head = compact.ndim - len(unique)
    size = {label: compact.shape[head + i] for i, label in enumerate(unique)}
    shape: list[int] = []
    for part in out.replace("...", "."):
        shape += compact.shape[:head] if part == "." else [size[part]]
    position: dict[str, list[int]] = {}  # label -> its axes; the ellipsis has the first `head`
    at = 0
    dots = 0
    for part in out.replace("...", "."):
        if part == ".":
            dots, at = at, at + head
        else:
            position.setdefault(part, []).append(at)
            at += 1
    first = [*range(dots, dots + head), *(position[label][0] for label in unique)]
    value = compact.transpose(sorted(range(len(first)), key=first.__getitem__))
    value = value.reshape([shape[i] if i in first else 1 for i in range(len(shape))])
    result = jnp.broadcast_to(value, shape)
    for places in position.values():
        for other in places[1:]:
            result = jnp.where(_diagonal(shape, places[0], other), result, jnp.zeros_like(result))
    return result


def _diagonal(shape: Sequence[int], first: int, second: int) -> Any:
    """Returns where the positions along two axes are equal."""
    rank = len(shape)
    positions = jnp.arange(shape[first], dtype=jnp.int32)
    row = positions.reshape([shape[first] if i == first else 1 for i in range(rank)])
    column = positions.reshape([shape[first] if i == second else 1 for i in range(rank)])
    return row == column
