"""Broadcasts: those that ops do by themselves, and those that no kernel does at once.

A kernel of TensorFlow joins neighboring axes that it treats alike into one run: axes that it
repeats of one operand, of the other, or of none. It takes up to five runs, and refuses more with
"Broadcast between ... is not supported yet" when it runs (found by trying; SelectV2 takes more).
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from savax.function.lowering._graph_nodes import DimShape, Symbol, is_static, same_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Ops whose inputs broadcast: an operand that was broadcast before may be taken as it was.
BROADCASTING = frozenset(
    (
        *("AddV2", "Sub", "Mul", "RealDiv", "FloorDiv", "FloorMod", "TruncateDiv", "TruncateMod"),
        *("Div", "Mod", "Maximum", "Minimum", "Pow", "SquaredDifference", "Atan2", "NextAfter"),
        *("Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual", "SelectV2"),
        *("LogicalAnd", "LogicalOr", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "LeftShift"),
        *("RightShift", "DivNoNan", "MulNoNan", "Xdivy", "Xlogy", "Igamma", "Igammac", "Zeta"),
        *("Polygamma", "Complex"),
    )
)

_MAX_RUNS = 5


def broadcast_shapes(shapes: Sequence[DimShape]) -> DimShape:
    """Returns the shape that shapes broadcast to, as numpy's rules say."""
    if not shapes:
        return ()
    result = shapes[0]
    for shape in shapes[1:]:
        if same_shape(result, shape):
            continue
        longer, shorter = (result, shape) if len(result) >= len(shape) else (shape, result)
        offset = len(longer) - len(shorter)
        result = (
            *longer[:offset],
            *(b if _is_one(a) else a for a, b in zip(longer[offset:], shorter, strict=True)),
        )
    return tuple(result)


def without_broadcasts(op: str, inputs: Sequence[Any], shape: Sequence[Any]) -> tuple[Any, ...]:
    """Returns the inputs of a broadcasting op without broadcasts that it does anyway."""
    sources = list(inputs)
    for index, x in enumerate(inputs):
        source = _broadcast_source(x)
        if source is None:
            continue
        shorter = [*sources[:index], source, *sources[index + 1 :]]
        shapes = [s.shape for s in shorter if isinstance(s, Symbol)]
        if same_shape(broadcast_shapes(shapes), tuple(shape)) and can_broadcast(op, shorter):
            sources = shorter
    return tuple(sources)


def can_broadcast(op: str, inputs: Sequence[Any]) -> bool:
    """Whether the kernel of a broadcasting op repeats its inputs by itself."""
    if op == "SelectV2":
        return True
    first, *rest = [x.shape if isinstance(x, Symbol) else () for x in inputs]
    return all(len(axis_runs(first, shape)) <= _MAX_RUNS for shape in rest)


def broadcast_steps(source: DimShape, shape: DimShape) -> Iterator[DimShape]:
    """Yields the shapes by which nodes bring a shape to one that it broadcasts to, the last one."""
    source = (1,) * (len(shape) - len(source)) + tuple(source)
    while len(runs := axis_runs(source, shape)) > _MAX_RUNS:
        # What is left for the next step is the last run of this one.
        done = {axis for run in runs[: _MAX_RUNS - 1] for axis in run}
        source = tuple(shape[i] if i in done else dim for i, dim in enumerate(source))
        yield source
    yield shape


def axis_runs(a: DimShape, b: DimShape) -> list[list[int]]:
    """Returns the axes of the result of two shapes that broadcast, joined as kernels do."""
    ndim = max(len(a), len(b))
    pairs = zip((1,) * (ndim - len(a)) + a, (1,) * (ndim - len(b)) + b, strict=True)
    ones = {axis: (_is_one(x), _is_one(y)) for axis, (x, y) in enumerate(pairs)}
    axes = [axis for axis in range(ndim) if ones[axis] != (True, True)]
    return [list(run) for _, run in groupby(axes, key=ones.__getitem__)]


def _is_one(dim: Any) -> bool:
    return is_static(dim) and bool(dim == 1)


def _broadcast_source(x: Any) -> Symbol | None:
    """Returns what a symbol was broadcast from."""
    if not isinstance(x, Symbol) or not x.shape:
        return None
    if x.scalar is not None:
        return x.scalar
    if x.node is not None and x.node.op == "BroadcastTo":
        return x.node.inputs[0]
    return None
