"""Arithmetic of sliding windows that convolutions and pools share: padding, layout, axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jax import lax

from savax.function.ops._sizes import all_known, is_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

Pairs = list[tuple[Any, Any]]


def padding_name(
    sizes: Sequence[Any], window: Sequence[int], strides: Sequence[int], padding: Sequence[Any]
) -> str | None:
    """Returns "VALID" or "SAME" if that is what a padding amounts to for every unknown size.

    Args:
      sizes: of the spatial axes.
      window: its sizes, dilation included.
      strides: steps of the window.
      padding: pairs of amounts, numbers or dim expressions.
    """
    pairs = [tuple(pair) for pair in padding]
    if all(is_known(amount) and amount == 0 for pair in pairs for amount in pair):
        return "VALID"
    same = lax.padtype_to_pads(list(sizes), list(window), list(strides), "SAME")
    matches = (
        low == wanted[0] and high == wanted[1]
        for (low, high), wanted in zip(pairs, same, strict=True)
    )
    return "SAME" if all(matches) else None


def dilated(window: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Returns the extent of a window whose elements lie apart."""
    return [(size - 1) * step + 1 for size, step in zip(window, dilation, strict=True)]


def is_grouped(groups: Any) -> bool:
    """Whether a number of groups may be other than 1; a vmapped kernel has as many as the batch."""
    return not (is_known(groups) and groups == 1)


def crop(g: GraphBuilder, x: Symbol, axes: Sequence[int], cuts: Sequence[Any]) -> Symbol:
    """Cuts ``(low, high)`` elements off the ends of axes."""
    starts: list[Any] = [0] * x.ndim
    limits = list(x.shape)
    for axis, (low, high) in zip(axes, cuts, strict=True):
        starts[axis] = low
        limits[axis] = limits[axis] - high
    return g.slice(x, starts, limits)


def with_unit_axis(values: Sequence[Any], unit: Any) -> list[Any]:
    """Returns the values of a single spatial axis as those of two, the first of size 1."""
    return [unit, *values] if len(values) == 1 else list(values)


def explicit(pairs: Sequence[Any], channels_last: bool = True) -> list[int]:
    """Returns spatial padding as TensorFlow's flat list over all axes of the layout."""
    flat = [int(amount) for pair in pairs for amount in pair]
    return [0, 0, *flat, 0, 0] if channels_last else [0, 0, 0, 0, *flat]


def spatial_axes(data_format: str, rank: int) -> tuple[int, ...]:
    """Returns the spatial axes of a TensorFlow layout such as NHWC or NCDHW."""
    return tuple(range(1, rank - 1)) if data_format.endswith("C") else tuple(range(2, rank))


def spatial(values: Sequence[int], data_format: str) -> tuple[int, ...]:
    """Picks the spatial elements of a list over all axes of a TensorFlow layout."""
    return tuple(values[axis] for axis in spatial_axes(data_format, len(values)))


def pads_of(
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
) -> Pairs:
    """Returns TensorFlow's padding attributes as pairs over the spatial axes."""
    if padding == "EXPLICIT":
        rank = len(explicit_paddings) // 2
        return [
            (explicit_paddings[2 * axis], explicit_paddings[2 * axis + 1])
            for axis in spatial_axes(data_format, rank)
        ]
    return [(int(a), int(b)) for a, b in lax.padtype_to_pads(sizes, window, strides, padding)]


def known_pairs(pairs: Sequence[Any]) -> bool:
    """Whether all amounts of a padding are numbers that aren't negative."""
    return all(all_known(pair) and min(pair) >= 0 for pair in pairs)
