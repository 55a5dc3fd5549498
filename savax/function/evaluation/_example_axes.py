"""Where the examples of a batch lie in the values of a program, as long as they don't meet.

An axis holds the examples if its size is a multiple of the batch's, and neighbouring elements
along it belong to one example: [batch, rows, columns] can become [batch * rows, columns]. A step
for which that can't be shown has no rule, or its rule gives None.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from savax.function.evaluation._flat_programs import FlatProgram, Ref, Step

_ELEMENTWISE = frozenset(
    {
        *("abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2"),
        *("atanh", "bessel_i0e", "bessel_i1e", "cbrt", "ceil", "clamp", "complex", "conj"),
        *("convert_element_type", "copy", "copy_p", "cos", "cosh", "digamma", "div", "eq"),
        *("erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "igamma"),
        *("igammac", "imag", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p"),
        *("logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or"),
        *("population_count", "pow", "real", "reduce_precision", "regularized_incomplete_beta"),
        *("rem", "round", "rsqrt", "select_n", "shift_left", "shift_right_arithmetic"),
        *("shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient"),
        *("sub", "tan", "tanh", "xor"),
    }
)
_MOVES = frozenset({"broadcast_in_dim", "reshape", "rev", "slice", "squeeze", "transpose"})


class Followed(NamedTuple):
    """What is known of a step's examples.

    Attributes:
      outputs: the axis of the examples in each result.
      cuts: for each operand the axis along which it must be cut although it doesn't depend on
        the examples: all of them meet it in one array.
      resized: the parameter that holds a result's or operand's shape, and where in it the size
        of the examples' axis is.
    """

    outputs: tuple[int, ...]
    cuts: tuple[int | None, ...]
    resized: tuple[str, int] | None = None


class _Operands(NamedTuple):
    """Shapes of a step's operands and results, and the examples' axis in operands that have it."""

    axes: tuple[int | None, ...]
    shapes: tuple[tuple[int, ...], ...]
    results: tuple[tuple[int, ...], ...]
    batch: int

    @property
    def first(self) -> int | None:
        return self.axes[0]


def follow(
    program: FlatProgram, step: Step, axes: Mapping[Ref, int], batch: int
) -> Followed | None:
    """Returns where a step has the examples; None if they may meet, or where no rule says.

    Args:
      program: what the step is of.
      step: a step that takes values with examples.
      axes: the examples' axis of each value that depends on them.
      batch: how many examples there are.
    """
    rule = _elementwise if step.name in _ELEMENTWISE else _RULES.get(step.name)
    if rule is None:
        return None
    operands = _Operands(
        axes=tuple(axes.get(ref) for ref in step.inputs),
        shapes=tuple(program.aval(ref).shape for ref in step.inputs),
        results=tuple(program.avals[i].shape for i in step.outputs),
        batch=batch,
    )
    return rule(operands, step.params)


def is_elementwise(step: Step) -> bool:
    """Whether a step computes each element from one of each operand."""
    return step.name in _ELEMENTWISE


def is_cheap(step: Step) -> bool:
    """Whether a step computes each element from one of each operand, or just moves them."""
    return is_elementwise(step) or step.name in _MOVES


def num_positions(program: FlatProgram, step: Step) -> int:
    """Returns how many vectors a convolution or product multiplies with its weights; else 0."""
    if step.name == "conv_general_dilated":
        channels = program.avals[step.outputs[0]].shape[
            step.params["dimension_numbers"].out_spec[1]
        ]
    elif step.name == "dot_general":
        (_, contracted), (_, batched) = step.params["dimension_numbers"]
        shape = program.aval(step.inputs[1]).shape
        known = {*contracted, *batched}
        channels = math.prod(size for axis, size in enumerate(shape) if axis not in known)
    else:
        return 0
    return int(program.avals[step.outputs[0]].size // max(channels, 1))


def _alone(operands: _Operands, axis: int, resized: tuple[str, int] | None = None) -> Followed:
    """Returns the answer for steps whose operands need no cut."""
    return Followed((axis,) * len(operands.results), (None,) * len(operands.axes), resized)


def _aligned(operands: _Operands, shape: Sequence[int]) -> Followed | None:
    """Returns the answer for operands that meet element by element along the examples' axis."""
    found = {axis for axis in operands.axes if axis is not None}
    if len(found) != 1:
        return None
    (axis,) = found
    cuts: list[int | None] = []
    for own, operand in zip(operands.axes, operands.shapes, strict=True):
        if own is None and (not operand or (len(operand) == len(shape) and operand[axis] == 1)):
            cuts.append(None)
        elif len(operand) != len(shape) or operand[axis] != shape[axis]:
            return None
        else:
            cuts.append(axis if own is None else None)
    return Followed((axis,) * len(operands.results), tuple(cuts))


def _elementwise(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    del params
    return _aligned(operands, operands.results[0])


def _concatenate(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    if params["dimension"] in operands.axes:
        return None
    return _aligned(operands, operands.results[0])


def _reduce(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    return _without(operands, params["axes"])


def _squeeze(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    return _without(operands, params["dimensions"])


def _without(operands: _Operands, dropped: Sequence[int]) -> Followed | None:
    axis = operands.first
    if axis is None or axis in dropped:
        return None
    return _alone(operands, axis - sum(other < axis for other in dropped))


def _cumulative(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    axis = operands.first
    return None if axis is None or axis == params["axis"] else _alone(operands, axis)


def _reverse(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    axis = operands.first
    return None if axis is None or axis in params["dimensions"] else _alone(operands, axis)


def _transpose(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    axis = operands.first
    return None if axis is None else _alone(operands, tuple(params["permutation"]).index(axis))


def _broadcast(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    axis = operands.first
    if axis is None or len(operands.axes) != 1:
        return None
    target = params["broadcast_dimensions"][axis]
    if operands.results[0][target] != operands.shapes[0][axis]:
        return None
    return _alone(operands, target, ("shape", target))


def _reshape(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    axis = operands.first
    if axis is None or len(operands.axes) != 1 or params.get("dimensions") is not None:
        return None
    (before,), (after,) = operands.shapes, operands.results
    if 0 in before:
        return None
    outside = math.prod(before[:axis])
    for target, size in enumerate(after):
        if math.prod(after[:target]) == outside and size > 1:
            is_multiple = size % operands.batch == 0
            return _alone(operands, target, ("new_sizes", target)) if is_multiple else None
    return None


def _pad(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    axis = operands.first
    if axis is None or operands.axes[1] is not None:
        return None
    return _alone(operands, axis) if tuple(params["padding_config"][axis]) == (0, 0, 0) else None


def _slice(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    axis = operands.first
    if axis is None or operands.results[0][axis] != operands.shapes[0][axis]:
        return None
    return _alone(operands, axis, ("limit_indices", axis))


def _split(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    axis = operands.first
    return None if axis is None or axis == params["axis"] else _alone(operands, axis)


def _dot_general(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    contracted, batched = params["dimension_numbers"]
    places = [_places(operands, contracted[i], batched[i], i) for i in range(2)]
    left, right = operands.axes
    if left is not None and right is not None:
        both = left in batched[0] and right in batched[1]
        target = places[0].get(left)
        is_same = both and target == places[1].get(right)
        return Followed((target,), (None, None)) if is_same and target is not None else None
    side = 0 if left is not None else 1
    axis = operands.axes[side]
    target = places[side].get(axis) if axis is not None else None
    if axis is None or target is None:
        return None
    cuts: list[int | None] = [None, None]
    if axis in batched[side]:
        cuts[1 - side] = batched[1 - side][tuple(batched[side]).index(axis)]
    return Followed((target,), tuple(cuts))


def _places(
    operands: _Operands, contracted: Sequence[int], batched: Sequence[int], side: int
) -> dict[int, int]:
    """Returns where the axes of an operand of a product are in the result."""
    rank = len(operands.shapes[side])
    free = [axis for axis in range(rank) if axis not in contracted and axis not in batched]
    start = len(operands.results[0]) - len(free) if side else len(batched)
    return {axis: i for i, axis in enumerate(batched)} | {
        axis: start + i for i, axis in enumerate(free)
    }


def _convolution(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    numbers = params["dimension_numbers"]
    if operands.axes != (numbers.lhs_spec[0], None) or params["batch_group_count"] != 1:
        return None
    return _alone(operands, numbers.out_spec[0])


def _reduce_window(operands: _Operands, params: Mapping[str, Any]) -> Followed | None:
    axis = operands.first
    if axis is None or len(operands.axes) != 1:
        return None
    names = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
    is_along = any(params[name][axis] != 1 for name in names)
    return None if is_along or tuple(params["padding"][axis]) != (0, 0) else _alone(operands, axis)


_RULES: dict[str, Callable[[_Operands, Mapping[str, Any]], Followed | None]] = {
    **dict.fromkeys(("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"), _cumulative),
    **dict.fromkeys(("reduce_max", "reduce_min", "reduce_prod", "reduce_sum"), _reduce),
    **dict.fromkeys(("argmax", "argmin", "reduce_and", "reduce_or", "reduce_xor"), _reduce),
    **dict.fromkeys(("reduce_window_max", "reduce_window_min"), _reduce_window),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "dot_general": _dot_general,
    "pad": _pad,
    "reduce_window_sum": _reduce_window,
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "split": _split,
    "squeeze": _squeeze,
    "transpose": _transpose,
}
