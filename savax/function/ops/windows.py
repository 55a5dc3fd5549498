"""Reductions over sliding windows: reduce_window and the gradients of pooling, as pools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from jax.extend.core import ClosedJaxpr

from savax.function.ops._orders import extremum
from savax.function.ops._registry import lowers
from savax.function.ops._sizes import all_known, is_known, lower_pad, product
from savax.function.ops._slices import iota
from savax.function.ops._windows_math import crop, padding_name
from savax.function.ops.custom_reductions import combiner, lower_window_reduction
from savax.function.ops.window_selection import (
    Selection,
    lower_select_and_gather_add,
    lower_select_and_scatter_add,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol
    from savax.types import DType

# Windows without a pool are written as one slice per position and axis, up to this many.
_MAX_SLICES = 128
_POOLED = {"Maximum": "MaxPool", "AddV2": "AvgPool"}
_PRIMITIVES = {
    "mul": "Mul",
    "add": "AddV2",
    "max": "Maximum",
    "min": "Minimum",
    "and": "LogicalAnd",
    "or": "LogicalOr",
}


@dataclass(frozen=True)
class _Windows:
    """Windows over all axes of an operand.

    Attributes:
      sizes: of a window.
      strides: its steps.
      padding: pairs of amounts, numbers or dim expressions.
      dilation: distances of a window's elements.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[Any, Any], ...]
    dilation: tuple[int, ...]

    def axes(self) -> list[int]:
        """Returns the axes along which there is something to do."""
        trivial = zip(self.sizes, self.strides, self.padding, strict=True)
        return [
            axis
            for axis, (size, stride, (low, high)) in enumerate(trivial)
            if size != 1 or stride != 1 or not (is_known(low) and low == 0 == high)
        ]


@lowers("reduce_window_max")
def _lower_reduce_window_max(
    g: GraphBuilder,
    operand: Symbol,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[Any],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Symbol:
    windows = _windows(window_dimensions, window_strides, padding, window_dilation)
    neutral = g.scalar(_extreme(operand.dtype, lowest=True), operand)
    operand = _spread(g, operand, neutral, base_dilation)
    op = "LogicalOr" if operand.dtype.is_bool else "Maximum"
    return _reduced(g, op, operand, neutral, windows)


@lowers("reduce_window_min")
def _lower_reduce_window_min(
    g: GraphBuilder,
    operand: Symbol,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[Any],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Symbol:
    windows = _windows(window_dimensions, window_strides, padding, window_dilation)
    neutral = g.scalar(_extreme(operand.dtype, lowest=False), operand)
    operand = _spread(g, operand, neutral, base_dilation)
    if operand.dtype.is_floating:
        return _smallest(g, operand, neutral, windows)
    op = "LogicalAnd" if operand.dtype.is_bool else "Minimum"
    return _reduced(g, op, operand, neutral, windows)


def _smallest(g: GraphBuilder, operand: Symbol, padding: Symbol, windows: _Windows) -> Symbol:
    """Reduces windows of floats to their minima, which TensorFlow has no pool for."""
    negative = g.op("Neg", operand, shape=operand.shape)
    largest = _reduced(g, "Maximum", negative, g.op("Neg", padding), windows)
    return g.op("Neg", largest, shape=largest.shape)


@lowers("reduce_window_sum")
def _lower_reduce_window_sum(
    g: GraphBuilder,
    operand: Symbol,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[Any],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Symbol:
    windows = _windows(window_dimensions, window_strides, padding, window_dilation)
    zero = g.scalar(0, operand)
    return _reduced(g, "AddV2", _spread(g, operand, zero, base_dilation), zero, windows)


@lowers("reduce_window")
def _lower_reduce_window(
    g: GraphBuilder,
    *operands: Symbol,
    jaxpr: Any,
    consts: Any,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[Any],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Any:
    body = getattr(jaxpr, "jaxpr", jaxpr)
    names = [equation.primitive.name for equation in body.eqns]
    if len(operands) != 2 or len(names) != 1 or names[0] not in _PRIMITIVES:
        return lower_window_reduction(
            g,
            operands,
            combiner(ClosedJaxpr(body, consts)),
            sizes=window_dimensions,
            strides=window_strides,
            padding=padding,
            base_dilation=base_dilation,
            window_dilation=window_dilation,
        )
    operand, initial = operands
    op = _PRIMITIVES[names[0]]
    if op.startswith("Logical") and not operand.dtype.is_bool:
        op = op.replace("Logical", "Bitwise")
    windows = _windows(window_dimensions, window_strides, padding, window_dilation)
    operand = _spread(g, operand, initial, base_dilation)
    if op == "Maximum":
        result = _reduced(g, op, operand, initial, windows)
    elif op == "Minimum" and operand.dtype.is_floating:
        result = _smallest(g, operand, initial, windows)
    else:
        result = _by_slices(g, op, operand, initial, windows)
    return _combined(g, op, initial, result)


def _windows(
    sizes: Sequence[int], strides: Sequence[int], padding: Sequence[Any], dilation: Sequence[int]
) -> _Windows:
    pairs = tuple((low, high) for low, high in padding)
    return _Windows(tuple(sizes), tuple(strides), pairs, tuple(dilation))


def _extreme(dtype: DType, *, lowest: bool) -> Any:
    if dtype.is_bool:
        return not lowest
    if dtype.is_integer:
        limits = ml_dtypes.iinfo(dtype.numpy_dtype)  # type: ignore[no-untyped-call]
        return limits.min if lowest else limits.max
    return -np.inf if lowest else np.inf


def _spread(g: GraphBuilder, x: Symbol, value: Symbol, dilation: Sequence[int]) -> Symbol:
    return lower_pad(g, x, value, [(0, 0, step - 1) for step in dilation])


def _reduced(
    g: GraphBuilder, op: str, operand: Symbol, neutral: Symbol, windows: _Windows
) -> Symbol:
    """Reduces windows by a pool where TensorFlow has one."""
    if not all_known(windows.sizes) or not all_known(windows.strides):
        return _by_positions(g, op, operand, neutral, windows)
    axes = windows.axes()
    if not axes:
        return operand
    pools = op in _POOLED and set(windows.dilation) == {1} and _has_pool(op, operand, axes)
    if not pools:
        return _by_slices(g, op, operand, neutral, windows)
    layout = _Layout.of(operand, axes)
    sizes = [windows.sizes[axis] for axis in layout.space]
    strides = [windows.strides[axis] for axis in layout.space]
    padding = [windows.padding[axis] for axis in layout.space]
    name = padding_name([operand.shape[axis] for axis in layout.space], sizes, strides, padding)
    # The average leaves out what SAME adds, the sum doesn't.
    if name is None or (name == "SAME" and op == "AddV2"):
        operand = lower_pad(g, operand, neutral, [(low, high, 0) for low, high in windows.padding])
        name = "VALID"
    pooled = _pool(g, _POOLED[op], operand, layout, sizes, strides, name)
    if op == "AddV2":
        pooled = g.op("Mul", pooled, g.scalar(product(sizes), pooled), shape=pooled.shape)
    return pooled


def _has_pool(op: str, operand: Symbol, axes: Sequence[int]) -> bool:
    if len(axes) > 3:
        return False
    name = operand.dtype.name
    if len(axes) == 3:
        return name in ("float32", "bfloat16")
    if operand.dtype.is_integer:
        return op == "Maximum" and name not in ("uint32", "uint64")
    return operand.dtype.is_floating


@dataclass(frozen=True)
class _Layout:
    """How an operand is turned to [batch, *space, channels].

    Attributes:
      space: the operand's axes that windows move along; two or three.
      before: its axes that become the batch.
      after: its axes that become the channels; none or one.
    """

    space: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, operand: Symbol, axes: Sequence[int]) -> _Layout:
        """Returns the layout for windows along the given axes."""
        rest = [axis for axis in range(operand.ndim) if axis not in axes]
        space = list(axes)
        # A pool along one axis takes a neighbour along, which nothing is done to.
        if len(space) == 1 and len(rest) > 1:
            partner = max((a for a in rest[:-1] if a < space[0]), default=rest[-2])
            if partner != 0 or len(rest) > 2:
                rest.remove(partner)
                space = sorted([partner, *space])
        return cls(
            tuple(space), tuple(rest[:-1]) if len(rest) > 1 else tuple(rest), tuple(rest[1:][-1:])
        )

    def order(self) -> tuple[int, ...]:
        """Returns the operand's axes in the order of the layout."""
        return (*self.before, *self.space, *self.after)

    def planes(self, sizes: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the spatial sizes, two at least."""
        space = tuple(sizes[axis] for axis in self.space)
        return (1, *space) if len(space) == 1 else space

    def shape(self, sizes: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the shape [batch, *space, channels] of an operand of given sizes."""
        batch = product([sizes[axis] for axis in self.before])
        channels = product([sizes[axis] for axis in self.after])
        return (batch, *self.planes(sizes), channels)


def _arranged(g: GraphBuilder, x: Symbol, layout: _Layout) -> Symbol:
    sizes = x.shape
    return g.reshape(g.transpose(x, layout.order()), layout.shape(sizes))


def _restored(g: GraphBuilder, x: Symbol, layout: _Layout, sizes: Sequence[Any]) -> Symbol:
    order = layout.order()
    x = g.reshape(x, tuple(sizes[axis] for axis in order))
    return g.transpose(x, [order.index(axis) for axis in range(len(order))])


def _pool(
    g: GraphBuilder,
    op: str,
    operand: Symbol,
    layout: _Layout,
    sizes: Sequence[int],
    strides: Sequence[int],
    padding: str,
) -> Symbol:
    result_sizes = g.out[0].shape
    pooled = g.op(
        op if len(layout.space) < 3 else f"{op}3D",
        _arranged(g, operand, layout),
        shape=layout.shape(result_sizes),
        padding=padding,
        **_pool_attrs(sizes, strides),
    )
    return _restored(g, pooled, layout, result_sizes)


def _pool_attrs(sizes: Sequence[int], strides: Sequence[int]) -> dict[str, Any]:
    ones = [1] * max(2 - len(sizes), 0)
    return {"ksize": [1, *ones, *sizes, 1], "strides": [1, *ones, *strides, 1]}


# What reduces an axis, by the op that combines two elements.
_REDUCTIONS = {
    "AddV2": "Sum",
    "Mul": "Prod",
    "Maximum": "Max",
    "Minimum": "Min",
    "LogicalOr": "Any",
    "LogicalAnd": "All",
}


def _by_positions(
    g: GraphBuilder, op: str, operand: Symbol, neutral: Symbol, windows: _Windows
) -> Symbol:
    """Reduces windows of unknown sizes axis by axis, an array of all windows' elements each."""
    if op not in _REDUCTIONS:
        g.unsupported(f"bitwise reductions of windows of unknown sizes {windows.sizes}")
    operand = lower_pad(g, operand, neutral, [(low, high, 0) for low, high in windows.padding])
    for axis in windows.axes():
        size, stride, step = windows.sizes[axis], windows.strides[axis], windows.dilation[axis]
        count = g.out[0].shape[axis]
        starts = g.op("Mul", iota(g, count), g.dim(stride), shape=(count,))
        inside = g.op("Mul", iota(g, size), g.dim(step), shape=(size,))
        places = g.op("AddV2", g.expand_dims(starts, 1), inside, shape=(count, size))
        before, after = operand.shape[:axis], operand.shape[axis + 1 :]
        at = np.array(axis, np.int32)
        wide = g.op("GatherV2", operand, places, at, shape=(*before, count, size, *after))
        reduced = np.array([axis + 1], np.int32)
        shape = (*before, count, *after)
        operand = g.op(_REDUCTIONS[op], wide, reduced, keep_dims=False, shape=shape)
    return operand


def _by_slices(
    g: GraphBuilder, op: str, operand: Symbol, neutral: Symbol, windows: _Windows
) -> Symbol:
    """Reduces axis by axis: one strided slice for each position in the window."""
    if not all_known(windows.sizes):
        return _by_positions(g, op, operand, neutral, windows)
    if sum(size for size in windows.sizes if size > 1) > _MAX_SLICES:
        g.unsupported(f"windows of {windows.sizes} elements, which TensorFlow has no pool for")
    config = [(low, high, 0) for low, high in windows.padding]
    operand = lower_pad(g, operand, neutral, config)
    for axis in windows.axes():
        size, stride, step = windows.sizes[axis], windows.strides[axis], windows.dilation[axis]
        count = g.out[0].shape[axis]
        total: Symbol | None = None
        for i in range(size):
            starts: list[Any] = [0] * operand.ndim
            limits = list(operand.shape)
            steps = [1] * operand.ndim
            starts[axis], steps[axis] = i * step, stride
            limits[axis] = i * step + (count - 1) * stride + 1
            part = g.slice(operand, starts, limits, steps)
            total = part if total is None else _combined(g, op, total, part)
        assert total is not None  # windows have at least one element
        operand = total
    return operand


def _combined(g: GraphBuilder, op: str, x: Symbol, y: Symbol) -> Symbol:
    if op in ("Maximum", "Minimum"):
        return extremum(g, x, y, largest=op == "Maximum")
    return g.op(op, x, y, shape=y.shape)


# Gradients of max pooling: the value flows to, or from, the first largest element of each window.


@lowers("select_and_scatter_add")
def _lower_select_and_scatter_add(
    g: GraphBuilder,
    source: Symbol,
    operand: Symbol,
    *,
    select_prim: Any,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[Any],
) -> Symbol:
    ones = [1] * operand.ndim
    windows = _windows(window_dimensions, window_strides, padding, ones)
    if not _has_gradient_kernel(operand, windows):
        selection = _as_selection(select_prim, windows, ones)
        return lower_select_and_scatter_add(g, source, operand, selection)
    layout, padded, name = _selection(g, operand, windows, select_prim.name)
    attrs = _pool_attrs(
        [windows.sizes[axis] for axis in layout.space],
        [windows.strides[axis] for axis in layout.space],
    )
    flat, gradient = _arranged(g, padded, layout), _arranged(g, source, layout)
    pooled = g.op("MaxPool", flat, shape=gradient.shape, padding=name, **attrs)
    result = g.op("MaxPoolGrad", flat, pooled, gradient, shape=flat.shape, padding=name, **attrs)
    result = _restored(g, result, layout, padded.shape)
    if name == "SAME":
        return result
    return crop(g, result, range(operand.ndim), windows.padding)


@lowers("select_and_gather_add")
def _lower_select_and_gather_add(
    g: GraphBuilder,
    tangents: Symbol,
    operand: Symbol,
    *,
    select_prim: Any,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[Any],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Symbol:
    windows = _windows(window_dimensions, window_strides, padding, window_dilation)
    dilated = set(base_dilation) | set(window_dilation) != {1}
    if dilated or not _has_gradient_kernel(operand, windows):
        selection = _as_selection(select_prim, windows, base_dilation)
        return lower_select_and_gather_add(g, tangents, operand, selection)
    layout, padded, name = _selection(g, operand, windows, select_prim.name)
    if name == "VALID":
        config = [(low, high, 0) for low, high in windows.padding]
        tangents = lower_pad(g, tangents, g.scalar(0, tangents), config)
    attrs = _pool_attrs(
        [windows.sizes[axis] for axis in layout.space],
        [windows.strides[axis] for axis in layout.space],
    )
    flat, moved = _arranged(g, padded, layout), _arranged(g, tangents, layout)
    out = g.out[0].shape
    shape = layout.shape(out)
    pooled = g.op("MaxPool", flat, shape=shape, padding=name, **attrs)
    result = g.op("MaxPoolGradGrad", flat, pooled, moved, shape=shape, padding=name, **attrs)
    return _restored(g, result, layout, out)


def _has_gradient_kernel(operand: Symbol, windows: _Windows) -> bool:
    return len(windows.axes()) <= 2 and operand.dtype.is_floating


def _as_selection(select_prim: Any, windows: _Windows, base_dilation: Sequence[int]) -> Selection:
    return Selection(
        select_prim.name == "ge",
        windows.sizes,
        windows.strides,
        windows.padding,
        base_dilation,
        windows.dilation,
    )


def _selection(
    g: GraphBuilder, operand: Symbol, windows: _Windows, select: str
) -> tuple[_Layout, Symbol, str]:
    """Returns the layout, the operand padded and signed so that the largest is wanted, padding."""
    axes = windows.axes() or [0]
    if select == "le":
        operand = g.op("Neg", operand, shape=operand.shape)
    layout = _Layout.of(operand, axes)
    name = padding_name(
        [operand.shape[axis] for axis in layout.space],
        [windows.sizes[axis] for axis in layout.space],
        [windows.strides[axis] for axis in layout.space],
        [windows.padding[axis] for axis in layout.space],
    )
    if name is None:
        lowest = g.scalar(-np.inf, operand)
        operand = lower_pad(g, operand, lowest, [(low, high, 0) for low, high in windows.padding])
    return layout, operand, name or "VALID"
