"""Operations on whole arrays for readers that lack them.

These forms are used only where a graph is written for such a reader; see ``docs/portability.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function.ops._registry import replaces
from savax.function.ops._sizes import is_known
from savax.function.ops._traced import traced

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol
    from savax.types import DType


@replaces("Rint")
def _rint(g: GraphBuilder, x: Symbol) -> Symbol:
    return g.op("Round", x)


@replaces("SelectV2")
def _select(g: GraphBuilder, mask: Symbol, x: Symbol, y: Symbol, *, shape: Any) -> Symbol | None:
    """Chooses by IsNan: for other conditions tf2onnx multiplies by the mask, and NaN spreads."""
    if not x.dtype.is_floating or (mask.node is not None and mask.node.op == "IsNan"):
        return None
    constants = [value.constant for value in (x, y) if value.constant is not None]
    is_finite = all(np.isfinite(np.asarray(value, np.float64)).all() for value in constants)
    if len(constants) == 2 or not is_finite:
        return None
    marked = g.op("SelectV2", mask, g.scalar(np.nan, x), g.scalar(0, x), shape=mask.shape)
    return g.op("SelectV2", g.op("IsNan", marked), x, y, shape=shape)


@replaces("Cast")
def _cast(g: GraphBuilder, x: Symbol, *, DstT: DType) -> Symbol | None:  # noqa: N803
    """Writes a complex number with no imaginary part."""
    if x.dtype.name != "float32" or DstT.name != "complex64":
        return None
    return g.op("Complex", x, g.op("ZerosLike", x), Tout=DstT)


@replaces("Conv2D")
def _conv2d(
    g: GraphBuilder,
    x: Symbol,
    kernel: Symbol,
    *,
    strides: Any,
    padding: str,
    explicit_paddings: Any,
    dilations: Any,
    data_format: str,
    shape: Any,
) -> Symbol | None:
    """Writes a convolution in groups as one for each group."""
    depth = kernel.shape[2]
    if data_format != "NHWC" or not is_known(x.shape[3]) or x.shape[3] == depth:
        return None
    groups = x.shape[3] // depth
    width = kernel.shape[3] // groups
    parts = []
    for group in range(groups):
        own = g.slice(x, [0, 0, 0, group * depth], [*x.shape[:3], (group + 1) * depth])
        part = g.slice(kernel, [0, 0, 0, group * width], [*kernel.shape[:3], (group + 1) * width])
        parts.append(
            g.op(
                "Conv2D",
                own,
                part,
                shape=(*shape[:3], width),
                strides=strides,
                padding=padding,
                explicit_paddings=explicit_paddings,
                dilations=dilations,
            )
        )
    return g.concat(parts, 3)


@replaces("StopGradient")
def _stop_gradient(g: GraphBuilder, x: Symbol) -> Symbol:
    return x  # who lacks it takes no derivatives


# Cumulative operations: each step joins with what lies twice as far away.


@replaces("Cumprod")
def _cumprod(
    g: GraphBuilder, x: Symbol, axis: Symbol, *, exclusive: bool, reverse: bool
) -> Symbol | None:
    return None if exclusive else _cumulative(g, x, axis, "Mul", 1, reverse)


def _cumulative(
    g: GraphBuilder, x: Symbol, axis: Symbol, op: str, neutral: Any, reverse: bool
) -> Symbol | None:
    if axis.constant is None:
        return None
    at = int(axis.constant) % x.ndim
    size = x.shape[at]
    if not is_known(size):
        return None
    distance = 1
    while distance < size:
        paddings = np.zeros((x.ndim, 2), np.int32)
        paddings[at, 1 if reverse else 0] = distance
        starts, limits = [0] * x.ndim, list(x.shape)
        if reverse:
            starts[at] = distance
        else:
            limits[at] = size - distance
        moved = g.op(
            "PadV2",
            g.slice(x, starts, limits),
            g.const(paddings),
            g.scalar(neutral, x),
            shape=x.shape,
        )
        x = g.op(op, x, moved)
        distance *= 2
    return x


@replaces("CumulativeLogsumexp")
def _cumulative_logsumexp(
    g: GraphBuilder, x: Symbol, axis: Symbol, *, exclusive: bool, reverse: bool
) -> Symbol | None:
    if exclusive or axis.constant is None or not is_known(x.shape[int(axis.constant)]):
        return None
    at = int(axis.constant) % x.ndim

    def sums(x: Any) -> Any:
        return lax.associative_scan(jnp.logaddexp, x, reverse=reverse, axis=at)

    return traced(g, sums, x)[0]


# Scatters, one update after the other: converters read those of repeated indices in other ways.


@replaces("ScatterNd")
def _scatter_nd(
    g: GraphBuilder, indices: Symbol, updates: Symbol, extent: Symbol, *, shape: Any
) -> Symbol | None:
    zeros = g.full(0, shape, updates.dtype)
    forms = g.lowerer.library.portable_forms
    if forms is not None and forms.runs("TensorScatterAdd", updates.dtype.name):
        return g.op("TensorScatterAdd", zeros, indices, updates, shape=shape)
    return _scattered(g, zeros, indices, updates, jnp.add)


@replaces("TensorScatterMax")
def _tensor_scatter_max(
    g: GraphBuilder, tensor: Symbol, indices: Symbol, updates: Symbol
) -> Symbol | None:
    return _scattered(g, tensor, indices, updates, jnp.maximum)


@replaces("TensorScatterMin")
def _tensor_scatter_min(
    g: GraphBuilder, tensor: Symbol, indices: Symbol, updates: Symbol
) -> Symbol | None:
    return _scattered(g, tensor, indices, updates, jnp.minimum)


@replaces("UnsortedSegmentProd")
def _unsorted_segment_prod(
    g: GraphBuilder, data: Symbol, ids: Symbol, count: Symbol, *, shape: Any
) -> Symbol | None:
    ones = g.full(1, shape, data.dtype)
    outside = g.op("Less", ids, g.scalar(0, ids))  # a negative segment is dropped
    mask = g.reshape(outside, (*ids.shape, *[1] * (data.ndim - ids.ndim)))
    factors = g.op("SelectV2", mask, g.scalar(1, data), data, shape=data.shape)
    rows = g.op("Maximum", ids, g.scalar(0, ids))
    points = g.expand_dims(rows, -1)
    return _scattered(g, ones, points, factors, jnp.multiply)


def _scattered(
    g: GraphBuilder,
    tensor: Symbol,
    indices: Symbol,
    updates: Symbol,
    combine: Callable[[Any, Any], Any],
) -> Symbol:
    """Joins updates with the elements that they are for, in a loop."""
    depth = int(indices.shape[-1])
    batch = indices.ndim - 1

    def scattered(tensor: Any, indices: Any, updates: Any) -> Any:
        points = indices.reshape((-1, depth)).astype(np.int32)
        rows = updates.reshape((points.shape[0], *updates.shape[batch:]))

        def step(tensor: Any, update: Any) -> Any:
            point, row = update
            at = tuple(point[axis] for axis in range(depth))
            joined = combine(tensor.at[at].get(mode="promise_in_bounds"), row)
            return tensor.at[at].set(joined, mode="promise_in_bounds"), None

        return lax.scan(step, tensor, (points, rows))[0]

    return traced(g, scattered, tensor, indices, updates)[0]
