"""Chains of JAX's equations that TensorFlow has one op for: means, softmax, average pools.

The rule of a chain's last equation asks here. What the chain wrote before stays in the graph if
something else reads it, and is left out otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from savax.function.ops._sizes import all_known

if TYPE_CHECKING:
    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

# Narrower types are rounded after each step of a chain, but once by an op.
_FLOATS = frozenset({"float32", "float64"})


def find_quotient(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol | None:
    """Returns ``x / y`` where one op gives it, else None."""
    if x.dtype.name not in _FLOATS or x.node is None:
        return None
    if x.node.op == "Sum":
        return _mean(g, x, y)
    if x.node.op == "Exp":
        return _softmax(g, x, y)
    return _average_pool(x, y) if x.node.op == "Mul" else None


def find_difference(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol | None:
    """Returns ``x - y`` where one op gives it, else None: a ``log_softmax``."""
    if x.dtype.name not in _FLOATS or y.node is None or y.node.op != "Log":
        return None
    total = y.node.inputs[0]
    if total.node is None or total.node.op != "Sum":
        return None
    exponential = total.node.inputs[0]
    if exponential.node is None or exponential.node.op != "Exp":
        return None
    logits = _logits(exponential)
    if logits is None or exponential.node.inputs[0] is not x or not _keeps_last(total):
        return None
    return g.op("LogSoftmax", logits, shape=logits.shape)


def _mean(g: GraphBuilder, total: Symbol, count: Symbol) -> Symbol | None:
    assert total.node is not None
    x, axes = total.node.inputs
    if axes.constant is None or count.shape:
        return None
    size = math.prod(x.shape[int(axis) % x.ndim] for axis in np.ravel(axes.constant))
    if count.constant is not None:
        is_count = all_known([size]) and float(count.constant) == size
    else:
        cast = count.node
        is_count = cast is not None and cast.op == "Cast" and cast.inputs[0].dim is not None
        is_count = is_count and cast is not None and bool(cast.inputs[0].dim == size)
    if not is_count:
        return None
    keep = bool(total.node.attrs.get("keep_dims"))
    return g.op("Mean", x, axes, shape=total.shape, keep_dims=keep)


def _softmax(g: GraphBuilder, exponential: Symbol, total: Symbol) -> Symbol | None:
    if total.node is None or total.node.op != "Sum" or not _keeps_last(total):
        return None
    logits = _logits(exponential)
    if logits is None or total.node.inputs[0] is not exponential:
        return None
    return g.op("Softmax", logits, shape=logits.shape)


def _logits(exponential: Symbol) -> Symbol | None:
    """Returns the numbers of which ``exp(x - max(x))`` was computed along the last axis."""
    assert exponential.node is not None
    shifted = exponential.node.inputs[0]
    if shifted.node is None or shifted.node.op != "Sub":
        return None
    logits, largest = shifted.node.inputs
    if largest.node is not None and largest.node.op == "StopGradient":
        largest = largest.node.inputs[0]
    if largest.node is None or largest.node.op != "Max" or not _keeps_last(largest):
        return None
    return logits if largest.node.inputs[0] is logits else None


def _keeps_last(reduced: Symbol) -> bool:
    """Whether a reduction is one of the last axis, which it keeps."""
    assert reduced.node is not None
    x, axes = reduced.node.inputs
    if axes.constant is None or not reduced.node.attrs.get("keep_dims"):
        return False
    return [int(axis) % x.ndim for axis in np.ravel(axes.constant)] == [x.ndim - 1]


def _average_pool(total: Symbol, count: Symbol) -> Symbol | None:
    """Returns the averages of windows whose sums were written as averages times a count."""
    assert total.node is not None
    pool, factor = total.node.inputs
    if pool.node is None or pool.node.op != "AvgPool":
        return None
    if factor.constant is None or count.constant is None:
        return None
    return pool if bool(np.all(factor.constant == count.constant)) else None
