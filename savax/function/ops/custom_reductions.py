"""Reductions by functions that TensorFlow has no op for: all of an axis, or windows of it.

They are written as the function itself on whole arrays, so halves of an axis are combined with each
other, and the elements of all windows at once.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun

from savax.function.ops._registry import lowers
from savax.function.ops._sizes import all_known
from savax.function.ops._traced import traced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

    Arrays = tuple[jax.Array, ...]
    Combine = Callable[[Arrays, Arrays], Arrays]

# Windows are written as one slice for each of their positions, up to this many.
_MAX_POSITIONS = 256


def combiner(jaxpr: Any) -> Combine:
    """Returns a reduction's function of scalars as one of arrays of equal shape."""
    scalars = jaxpr_as_fun(jaxpr)

    def combine(first: Arrays, second: Arrays) -> Arrays:
        flat = [x.reshape(-1) for x in (*first, *second)]
        shape = first[0].shape
        return tuple(x.reshape(shape) for x in jax.vmap(scalars)(*flat))

    return combine


def lower_reduction(
    g: GraphBuilder, operands: Sequence[Symbol], combine: Combine, axes: Sequence[int]
) -> tuple[Symbol, ...]:
    """Writes a reduction of arrays over axes.

    Args:
      g: the graph builder.
      operands: the arrays, then as many initial values.
      combine: the function.
      axes: axes that are reduced; by halves if their sizes are known, else row by row.
    """
    count = len(operands) // 2
    sizes = [operands[0].shape[axis] for axis in axes]

    def reduced(*values: jax.Array) -> Arrays:
        arrays, initial = values[:count], values[count:]
        kept = [axis for axis in range(arrays[0].ndim) if axis not in axes]
        shape = tuple(arrays[0].shape[axis] for axis in kept)
        count_of_rows = math.prod(sizes)
        rows = tuple(x.transpose((*axes, *kept)).reshape((count_of_rows, *shape)) for x in arrays)
        start = tuple(jnp.broadcast_to(x, shape) for x in initial)
        if not all_known(sizes):
            return _combined_in_turn(start, rows, combine)
        if not math.prod(sizes):
            return start
        return combine(start, _folded(rows, combine))

    return tuple(traced(g, reduced, *operands))


def _combined_in_turn(start: Arrays, rows: Arrays, combine: Combine) -> Arrays:
    def step(i: jax.Array, total: Arrays) -> Arrays:
        row = tuple(lax.dynamic_index_in_dim(x, i, keepdims=False) for x in rows)
        return combine(total, row)

    result: Arrays = lax.fori_loop(0, rows[0].shape[0], step, start)
    return result


def _folded(rows: Arrays, combine: Combine) -> Arrays:
    """Combines neighbours of the first axis until one is left; their order is kept."""
    size = rows[0].shape[0]
    while size > 1:
        half = size // 2
        even = tuple(x[0 : 2 * half : 2] for x in rows)
        odd = tuple(x[1 : 2 * half : 2] for x in rows)
        pairs = combine(even, odd)
        if size % 2:
            pairs = tuple(
                jnp.concatenate([pair, x[size - 1 :]]) for pair, x in zip(pairs, rows, strict=True)
            )
        rows, size = pairs, size - half
    return tuple(x[0] for x in rows)


def lower_window_reduction(
    g: GraphBuilder,
    operands: Sequence[Symbol],
    combine: Combine,
    *,
    sizes: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[Any],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> tuple[Symbol, ...]:
    """Writes a reduction of sliding windows.

    Args:
      g: the graph builder.
      operands: the arrays, then as many initial values, which are also the padding.
      combine: the function.
      sizes: of a window, one entry per axis as in the following.
      strides: its steps.
      padding: pairs of amounts.
      base_dilation: distances of the operand's elements.
      window_dilation: distances of a window's elements.
    """
    count = len(operands) // 2
    if not all_known(sizes):
        g.unsupported("windows of unknown sizes by a function of its own")
    if math.prod(sizes) > _MAX_POSITIONS:
        g.unsupported(f"windows of more than {_MAX_POSITIONS} elements by a function of its own")
    shape = tuple(g.out[0].shape)
    config = [
        (low, high, step - 1) for (low, high), step in zip(padding, base_dilation, strict=True)
    ]

    def reduced(*values: jax.Array) -> Arrays:
        arrays, initial = values[:count], values[count:]
        padded = [lax.pad(x, v, config) for x, v in zip(arrays, initial, strict=True)]
        result = tuple(jnp.broadcast_to(v, shape) for v in initial)
        for place in itertools.product(*map(range, sizes)):
            starts = [p * step for p, step in zip(place, window_dilation, strict=True)]
            limits = [
                start + (size - 1) * stride + 1
                for start, size, stride in zip(starts, shape, strides, strict=True)
            ]
            part = tuple(lax.slice(x, starts, limits, strides) for x in padded)
            result = combine(result, part)
        return result

    return tuple(traced(g, reduced, *operands))


@lowers("approx_top_k")
def _lower_approx_top_k(
    g: GraphBuilder,
    x: Symbol,
    *,
    k: int,
    reduction_dimension: int,
    recall_target: float,
    is_max_k: bool,
    reduction_input_size_override: int,
    aggregate_to_topk: bool,
) -> tuple[Symbol, ...]:
    # TensorFlow's CPU has no approximation: the exact answer has a recall of 1.
    axis = reduction_dimension % x.ndim
    length = g.out[0].shape[axis]

    def largest(x: jax.Array) -> Arrays:
        rows = jnp.moveaxis(x, axis, -1)
        values, places = lax.top_k(rows if is_max_k else -rows, length)
        values = values if is_max_k else -values
        return jnp.moveaxis(values, -1, axis), jnp.moveaxis(places, -1, axis)

    return tuple(traced(g, largest, x))
