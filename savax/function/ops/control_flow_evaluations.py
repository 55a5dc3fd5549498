"""Evaluation of calls, branches and loops."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from savax.function.evaluation._branches import run_branches
from savax.function.evaluation._linear_maps import pushed
from savax.function.evaluation._plan_values import static_value
from savax.function.evaluation._while_loops import run_while
from savax.function.ops._registry import evaluates, lowers

if TYPE_CHECKING:
    from savax.function.evaluation._walk import NodeContext
    from savax.function.lowering._graph_builder import GraphBuilder
    from savax.protos import FunctionRef


@evaluates("PartitionedCall", "StatefulPartitionedCall", with_context=True, ignores=("Tout",))
def _call(ctx: NodeContext, args: tuple[Any, ...], *, f: FunctionRef) -> Any:
    return ctx.call(f, args)


@evaluates("If", "StatelessIf", with_context=True, ignores=("Tout", "output_shapes"))
def _if(
    ctx: NodeContext,
    cond: Any,
    input: tuple[Any, ...],
    *,
    then_branch: FunctionRef,
    else_branch: FunctionRef,
) -> Any:
    branches = [ctx.plan(else_branch), ctx.plan(then_branch)]
    return run_branches(ctx, truth(cond), "cond", branches, input)


@evaluates("Case", "StatelessCase", with_context=True, ignores=("Tout", "output_shapes"))
def _case(
    ctx: NodeContext, branch_index: Any, input: tuple[Any, ...], *, branches: list[FunctionRef]
) -> Any:
    last = np.int32(len(branches) - 1)
    xp: Any = np if isinstance(branch_index, np.ndarray) else jnp
    # An index that is out of range takes the last branch.
    index = xp.where((branch_index < 0) | (branch_index > last), last, branch_index)
    return run_branches(ctx, index, "branch_index", [ctx.plan(b) for b in branches], input)


@evaluates(
    "While", "StatelessWhile", with_context=True, ignores=("output_shapes", "parallel_iterations")
)
def _while(
    ctx: NodeContext, input: tuple[Any, ...], *, cond: FunctionRef, body: FunctionRef
) -> Any:
    return run_while(ctx, ctx.plan(cond), ctx.plan(body), input)


@evaluates("ToBool")
def _to_bool(input: Any) -> Any:
    return truth(input).astype(np.bool_)


def truth(cond: Any) -> Any:
    """Returns 1 or 0 for what an If takes as its condition: any scalar, or whether it is empty."""
    known = static_value(cond)
    if cond.shape != ():
        return np.asarray(cond.size > 0, np.int32)
    if known is not None:
        return np.asarray(bool(known), np.int32)
    return (cond != jnp.zeros((), cond.dtype)).astype(jnp.int32)


# A function that was evaluated in 64 bits while such a type was switched off; graphs have them.
@lowers("x64_scope")
def _x64_scope(g: GraphBuilder, *operands: Any, jaxpr: Any) -> list[Any]:
    return g.inline(jaxpr, (), operands, g.is_read)


# Tangents by the custom gradient of a loaded function.
@lowers("push_tangents")
def _push_tangents(g: GraphBuilder, *operands: Any, linear: Any, operand_types: Any) -> list[Any]:
    jaxpr = jax.make_jaxpr(functools.partial(pushed, linear=linear))(*operand_types)
    return g.inline(jaxpr, (), operands, g.is_read)
