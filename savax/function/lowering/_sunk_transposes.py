"""Transposes to channels-first layouts sink below what is computed element by element.

Convolutions and pools of such layouts are written with channels last, between two transposes. Those
between two of them meet when nothing is left in between, and vanish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from savax.function.lowering._graph_nodes import Symbol, is_static

if TYPE_CHECKING:
    from collections.abc import Sequence

# Below these, in addition to ops whose inputs broadcast.
UNARY = frozenset(
    (
        *("Abs", "Cast", "Ceil", "Cosh", "Cos", "Elu", "Erf", "Erfc", "Exp", "Expm1", "Floor"),
        *("IsFinite", "Log", "Log1p", "Neg", "Reciprocal", "Relu", "Relu6", "Rsqrt", "Selu"),
        *("Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Sqrt", "Square", "StopGradient", "Tanh"),
    )
)


def channels_last(x: Any) -> Symbol | None:
    """Returns what a symbol is the channels-first transpose of, or None."""
    if not isinstance(x, Symbol) or x.ndim < 4 or x.node is None or x.node.op != "Transpose":
        return None
    source, perm = x.node.inputs
    if perm.constant is None or tuple(perm.constant) != to_first(x.ndim):
        return None
    return source


def to_first(rank: int) -> tuple[int, ...]:
    """Returns the axes of a channels-last array in the order of a channels-first one."""
    return (0, rank - 1, *range(1, rank - 1))


def inputs_with_channels_last(inputs: Sequence[Any]) -> list[Any] | None:
    """Returns the inputs of an op that works element by element, all with channels last.

    Scalars, and vectors along the channels, are taken along if there is a transpose to save.

    Returns:
      None if there is none, or not all inputs can be had so; else symbols, and pairs of a symbol
      and the shape that it must be given.
    """
    sources = [channels_last(x) for x in inputs]
    ranks = {source.ndim for source in sources if source is not None}
    if len(ranks) != 1:
        return None
    (rank,) = ranks
    found: list[Any] = []
    for x, source in zip(inputs, sources, strict=True):
        if source is not None:
            found.append(source)
        elif not isinstance(x, Symbol):
            if np.ndim(x):
                return None
            found.append(x)
        elif x.scalar is not None or not x.shape:
            found.append(x if x.scalar is None else x.scalar)
        elif _is_along_channels(x, rank):
            found.append((x, x.shape[x.ndim - rank + 1 : x.ndim - rank + 2]))
        else:
            return None
    return found


def _is_along_channels(x: Symbol, rank: int) -> bool:
    """Whether all sizes but that of the channels are 1."""
    if x.ndim < rank - 1 or not is_static(x.shape):
        return False
    channel = x.ndim - rank + 1
    return all(size == 1 for axis, size in enumerate(x.shape) if axis != channel)
