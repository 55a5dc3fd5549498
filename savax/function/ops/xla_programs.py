"""XLA's operations that only TensorFlow's compiler runs: branches, loops, windows, and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import UnsupportedParamError
from savax.function.evaluation._branches import run_branches
from savax.function.evaluation._while_loops import run_while
from savax.function.ops._registry import evaluates
from savax.function.ops.control_flow_evaluations import truth
from savax.function.ops.grids import check_alone
from savax.function.ops.shaping import sizes
from savax.function.ops.xla import joined_arrays

if TYPE_CHECKING:
    from savax.function.evaluation._walk import NodeContext
    from savax.protos import FunctionRef


@evaluates("XlaIf", with_context=True, ignores=("Tout",))
def _xla_if(
    ctx: NodeContext,
    cond: Any,
    inputs: tuple[Any, ...],
    *,
    then_branch: FunctionRef,
    else_branch: FunctionRef,
) -> Any:
    branches = [ctx.plan(else_branch), ctx.plan(then_branch)]
    return run_branches(ctx, truth(cond), "cond", branches, inputs)


@evaluates("XlaWhile", with_context=True)
def _xla_while(
    ctx: NodeContext, input: tuple[Any, ...], *, cond: FunctionRef, body: FunctionRef
) -> Any:
    return run_while(ctx, ctx.plan(cond), ctx.plan(body), input)


@evaluates("XlaVariadicReduce", with_context=True)
def _xla_variadic_reduce(
    ctx: NodeContext,
    input: tuple[Any, ...],
    init_value: tuple[Any, ...],
    *,
    dimensions_to_reduce: list[int],
    reducer: FunctionRef,
) -> Any:
    return joined_arrays(ctx, input, init_value, dimensions_to_reduce, reducer)


@evaluates("XlaSelfAdjointEig", ignores=("max_iter", "epsilon"))
def _xla_self_adjoint_eig(a: Any, *, lower: bool) -> tuple[Any, Any]:
    UPLO = "L" if lower else "U"  # noqa: N806 - the name that JAX gives it
    values, vectors = jnp.linalg.eigh(jnp.asarray(a), UPLO=UPLO)
    return values.astype(a.dtype), vectors


@evaluates("XlaSvd", ignores=("max_iter", "epsilon", "precision_config"))
def _xla_svd(a: Any) -> tuple[Any, Any, Any]:
    u, s, v_adjoint = jnp.linalg.svd(jnp.asarray(a), full_matrices=False)
    return s.astype(a.dtype), u, jnp.conj(jnp.swapaxes(v_adjoint, -1, -2))


@evaluates(
    "XlaSelectAndScatter",
    static=("window_dimensions", "window_strides", "padding"),
    with_context=True,
)
def _xla_select_and_scatter(
    ctx: NodeContext,
    operand: Any,
    window_dimensions: Any,
    window_strides: Any,
    padding: Any,
    source: Any,
    init_value: Any,
    *,
    select: FunctionRef,
    scatter: FunctionRef,
) -> Any:
    """Adds each element of the source where its window has its maximum."""
    ops = [_only_op(ctx, function) for function in (select, scatter)]
    if ops[0] not in ("GreaterEqual", "Greater") or ops[1] not in ("Add", "AddV2"):
        raise UnsupportedParamError(
            f"XlaSelectAndScatter by {select.name!r} and {scatter.name!r} isn't a sum at maxima."
        )
    low = np.asarray(-np.inf, operand.dtype)
    windows = sizes(window_dimensions), sizes(window_strides)
    pads = [(int(before), int(after)) for before, after in padding]
    _, pull = jax.vjp(
        lambda x: lax.reduce_window(x, low, lax.max, *windows, pads), jnp.asarray(operand)
    )
    return pull(jnp.asarray(source))[0] + init_value


def _only_op(ctx: NodeContext, function: FunctionRef) -> str | None:
    ops = [node.op for node in ctx.plan(function).nodes if node.op not in ("Identity", "NoOp")]
    return ops[0] if len(ops) == 1 else None


# What concerns several replicas, and sizes that may change, of which there are none here.


@evaluates("XlaReplicaId")
def _xla_replica_id() -> Any:
    return np.array(0, np.int32)


@evaluates("XlaAllReduce", static=("group_assignment",), ignores=("reduce_op", "mode"))
def _xla_all_reduce(input: Any, group_assignment: Any) -> Any:
    check_alone("XlaAllReduce", group_assignment)
    return input


@evaluates("XlaReduceScatter", static=("group_assignment",), ignores=("reduce_op",))
def _xla_reduce_scatter(input: Any, group_assignment: Any, scatter_dimension: Any) -> Any:
    check_alone("XlaReduceScatter", group_assignment)
    return input


@evaluates("XlaSetBound")
def _xla_set_bound(input: Any, bound: Any) -> Any:
    return input


@evaluates("XlaRemoveDynamicDimensionSize")
def _xla_remove_dynamic_dimension_size(input: Any, dim_index: Any) -> Any:
    return input


@evaluates("XlaBroadcastHelper", static=("broadcast_dims",))
def _xla_broadcast_helper(lhs: Any, rhs: Any, broadcast_dims: Any) -> tuple[Any, Any]:
    """Gives the array of lower rank axes of size 1, so that its own are those that are named."""
    lhs, rhs, axes = jnp.asarray(lhs), jnp.asarray(rhs), sizes(broadcast_dims)
    if lhs.ndim == rhs.ndim or not axes:
        return lhs, rhs
    rank = max(lhs.ndim, rhs.ndim)
    if lhs.ndim < rank:
        return _spread(lhs, axes, rank), rhs
    return lhs, _spread(rhs, axes, rank)


def _spread(x: Any, axes: tuple[int, ...], rank: int) -> Any:
    shape = [x.shape[axes.index(axis)] if axis in axes else 1 for axis in range(rank)]
    return x.reshape(shape)
