"""While: ``lax.scan`` where the number of trips is known, else ``lax.while_loop``.

Arguments that the body passes on unchanged stay outside of the carry, so that shapes and handles
stay static. Where no fixed carry exists, short loops are unrolled; others run in Python, on
concrete values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function.evaluation._carry import (
    as_leaf,
    as_list_like,
    can_be_array,
    common_list,
    handles_of,
    is_carried,
    trace_call,
)
from savax.function.evaluation._loops import trip_count
from savax.function.evaluation._plan_values import (
    NeedsValue,
    TensorListValue,
    is_traced,
    static_value,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.evaluation._plan import Plan
    from savax.function.evaluation._plan_values import ResourceHandle, Value
    from savax.function.evaluation._walk import NodeContext, Walk

# Nodes that an unrolled loop may walk through; it is compiled in one piece.
_MAX_UNROLLED_NODES = 2000

# Each round allocates at least one list whose elements' shape the body has shown.
_MAX_ROUNDS = 8

_VARYING = "the shapes of the loop's variables change from one iteration to the next"


def run_while(ctx: NodeContext, cond: Plan, body: Plan, args: Sequence[Value]) -> list[Value]:
    """Returns the loop variables after the last iteration.

    Args:
      ctx: context of the node.
      cond: whether to go on.
      body: one iteration.
      args: the variables before the first one.
    """
    if ctx.walk.runner is not None:  # loops that can be compiled are in a compiled segment
        return _stepped(ctx, cond, body, args)
    trips = trip_count(cond, body, args)
    if trips == 0:
        return list(args)
    if trips == 1:
        return ctx.walk.run(body, args)
    try:
        return _Loop(ctx, cond, body, args).run(trips)
    except NeedsValue:
        if trips is not None and trips * body.size <= _MAX_UNROLLED_NODES:
            return _unrolled(ctx, body, args, trips)
        if jax.tree.reduce(lambda a, b: a or is_traced(b), list(args), False):
            raise
        return _stepped(ctx, cond, body, args)


def _unrolled(ctx: NodeContext, body: Plan, args: Sequence[Value], trips: int) -> list[Value]:
    values = list(args)
    for _ in range(trips):
        values = ctx.walk.run(body, values)
    return values


def _stepped(ctx: NodeContext, cond: Plan, body: Plan, args: Sequence[Value]) -> list[Value]:
    """Runs a loop in Python; its condition must come out concrete."""
    values = [
        # As arrays, what changes doesn't ask for a program of its own at each step.
        jnp.asarray(v) if can_be_array(v) and body.effects.origins[i] != i else v
        for i, v in enumerate(args)
    ]
    while True:
        known = static_value(ctx.walk.run(cond, values)[0])
        if known is None:
            ctx.needs_value("input", "the loop's condition depends on it")
        if not known:
            return values
        values = ctx.walk.run(body, values)


class _Loop:
    """A While node whose variables have fixed shapes."""

    def __init__(self, ctx: NodeContext, cond: Plan, body: Plan, args: Sequence[Value]) -> None:
        self._ctx = ctx
        self._cond = cond
        self._body = body
        self._args = list(args)
        self._varying = [i for i, origin in enumerate(body.effects.origins) if origin != i]
        writes = [*body.effects.writes, *cond.effects.writes]
        self._written: list[ResourceHandle] = handles_of(args, writes, ctx.walk.resources)

    def run(self, trips: int | None) -> list[Value]:
        for i in self._varying:
            if not is_carried(self._args[i]):
                self._ctx.needs_value("input", "a variable of the loop is no array")
        init = [as_leaf(self._args[i]) for i in self._varying]
        for handle in self._written:
            init.append(as_leaf(self._ctx.read(handle)))
        init, call = self._fixed_point(init)

        def step(carry: list[Value]) -> list[Value]:
            results = call.results(carry)
            found = [
                known if shape is None else value
                for known, shape, value in zip(call.known, call.shapes, results, strict=True)
            ]
            return [_like(value, start) for value, start in zip(found, init, strict=True)]

        if trips is None:
            final = lax.while_loop(self._test, step, init)
        else:
            final, _ = lax.scan(lambda carry, _: (step(carry), None), init, None, length=trips)
        return self._finished(final)

    def _walk(self, carry: Sequence[Value]) -> tuple[Walk, list[Value]]:
        """Returns a walk and arguments for one evaluation of the condition or body."""
        walk = self._ctx.walk.branch(self._written)
        args = list(self._args)
        for i, value in zip(self._varying, carry, strict=False):
            args[i] = value
        state = carry[len(self._varying) :]
        walk.store.values.update(zip(self._written, state, strict=True))
        return walk, args

    def _step(self, carry: Sequence[Value]) -> list[Value]:
        walk, args = self._walk(carry)
        results = walk.run(self._body, args)
        return [
            *(results[i] for i in self._varying),
            *(walk.store.values[handle] for handle in self._written),
        ]

    def _test(self, carry: Sequence[Value]) -> Any:
        walk, args = self._walk(carry)
        return jnp.asarray(walk.run(self._cond, args)[0], bool).reshape(())

    def _fixed_point(self, init: list[Value]) -> tuple[list[Value], Any]:
        """Returns initial values, with lists allocated, that the body maps to their own kind."""
        for _ in range(_MAX_ROUNDS):
            call = trace_call(self._step, init)
            wanted = []
            for known, shape, start in zip(call.known, call.shapes, init, strict=True):
                if shape is None and not can_be_array(known):
                    self._ctx.needs_value("input", "a variable of the loop is no array")
                wanted.append(self._widened(start, known if shape is None else shape))
            if all(a is b for a, b in zip(wanted, init, strict=True)):
                return init, call
            init = wanted
        return self._ctx.needs_value("input", _VARYING)

    def _widened(self, start: Value, result: Value) -> Value:
        if isinstance(start, TensorListValue) and isinstance(result, TensorListValue):
            common = common_list(start, result)
            if common is None:
                self._ctx.needs_value("input", _VARYING)
            same = (common.buffer is None) == (start.buffer is None)
            if same and common.element_shape == start.element_shape:
                return start
            return as_list_like(start, common)
        if isinstance(result, TensorListValue) or isinstance(start, TensorListValue):
            self._ctx.needs_value("input", _VARYING)
        if tuple(start.shape) != tuple(result.shape):
            self._ctx.needs_value("input", _VARYING)
        return start

    def _finished(self, final: Sequence[Value]) -> list[Value]:
        results = list(self._args)
        for i, value in zip(self._varying, final, strict=False):
            results[i] = value
        for handle, value in zip(self._written, final[len(self._varying) :], strict=True):
            self._ctx.write(handle, value)
        return results


def _like(value: Value, start: Value) -> Value:
    if isinstance(value, TensorListValue):
        return as_list_like(value, start)
    return lax.convert_element_type(value, np.dtype(start.dtype))
