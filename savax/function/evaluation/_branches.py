"""If and Case: the taken branch where it is known, ``lax.switch`` where it isn't."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from savax.function.evaluation._carry import (
    TracedCall,
    as_leaf,
    as_list_like,
    can_be_array,
    common_list,
    handles_of,
    same_known,
    trace_call,
)
from savax.function.evaluation._plan_values import TensorListValue, static_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from savax.function.evaluation._plan import Plan
    from savax.function.evaluation._plan_values import Value
    from savax.function.evaluation._walk import NodeContext

_UNEQUAL = "its branches give results of different shapes"


def run_branches(
    ctx: NodeContext, selector: Value, operand: str, branches: Sequence[Plan], args: Sequence[Value]
) -> list[Value]:
    """Returns the results of the branch that an index selects.

    Args:
      ctx: context of the node.
      selector: int32 scalar, within the range of the branches.
      operand: name of the node's operand that the selector comes from, for errors.
      branches: plans of the branches.
      args: their common arguments.
    """
    known = static_value(selector)
    if known is not None:
        return ctx.walk.run(branches[int(known)], args)
    accesses = sorted({a for plan in branches for a in plan.effects.writes}, key=str)
    written = handles_of(args, accesses, ctx.walk.resources)

    def tracing(plan: Plan) -> Callable[[], list[Value]]:
        def run() -> list[Value]:
            walk = ctx.walk.branch(written)
            return [*walk.run(plan, args), *(walk.store.values.get(h) for h in written)]

        return run

    calls = [trace_call(tracing(plan)) for plan in branches]
    merged = _switch(ctx, selector, operand, calls)
    num_outputs = len(merged) - len(written)
    for handle, value in zip(written, merged[num_outputs:], strict=True):
        if value is not None:
            ctx.write(handle, value)
    return merged[:num_outputs]


def _switch(
    ctx: NodeContext, selector: Value, operand: str, calls: Sequence[TracedCall]
) -> list[Value]:
    count = len(calls[0].known)
    common = [_common(calls, i) for i in range(count)]
    open_results = [i for i in range(count) if not common[i]]
    if not open_results:
        return list(calls[0].known)
    adapted = [_adapters(ctx, operand, calls, i) for i in open_results]

    def running(branch: int) -> Callable[[], list[Value]]:
        def run() -> list[Value]:
            results = calls[branch].results()
            return [
                adapters[branch](results[i])
                for i, adapters in zip(open_results, adapted, strict=True)
            ]

        return run

    values = lax.switch(jnp.asarray(selector), [running(i) for i in range(len(calls))])
    merged = list(calls[0].known)
    for i, value in zip(open_results, values, strict=True):
        merged[i] = value
    return merged


def _common(calls: Sequence[TracedCall], i: int) -> bool:
    """Whether a result is known and the same in all branches."""
    first = calls[0]
    return all(
        call.shapes[i] is None and same_known(call.known[i], first.known[i]) for call in calls
    )


def _adapters(
    ctx: NodeContext, operand: str, calls: Sequence[TracedCall], i: int
) -> list[Callable[[Value], Value]]:
    """Returns, for each branch, what brings its result into the form that all share."""
    shapes = [call.shapes[i] if call.shapes[i] is not None else call.known[i] for call in calls]
    if all(isinstance(shape, TensorListValue) for shape in shapes):
        return _list_adapters(ctx, operand, shapes)
    for call, shape in zip(calls, shapes, strict=True):
        if call.shapes[i] is None and not can_be_array(call.known[i]):
            ctx.needs_value(operand, "a result is no array in one of its branches")
        if isinstance(shape, TensorListValue) or shape.shape != shapes[0].shape:
            ctx.needs_value(operand, _UNEQUAL)
    return [_constant(call.known[i]) if call.shapes[i] is None else as_leaf for call in calls]


def _constant(value: np.ndarray[Any, Any]) -> Callable[[Value], Value]:
    return lambda _: as_leaf(value)


def _list_adapters(
    ctx: NodeContext, operand: str, shapes: Sequence[TensorListValue]
) -> list[Callable[[Value], Value]]:
    target = shapes[0]
    for shape in shapes[1:]:
        common = common_list(target, shape)
        if common is None:
            ctx.needs_value(operand, _UNEQUAL)
        target = common

    def adapt(value: TensorListValue) -> TensorListValue:
        return as_list_like(value, target)

    return [adapt] * len(shapes)
