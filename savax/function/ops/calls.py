"""Calls: jit, custom_jvp, custom_vjp, checkpoint; and values of dims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jax.extend.core import primitives

from savax.function.lowering._custom_gradient_calls import attach_gradient, equation_call, is_of_jax
from savax.function.ops._registry import lowers
from savax.function.ops.activations import lower_activation
from savax.function.ops.linear_systems import lower_dense_solve

if TYPE_CHECKING:
    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

# Parameters that the rules name but don't use steer compilation, placement, or differentiation,
# which happened before lowering: TensorFlow differentiates the ops that are written here.


@lowers("dim_as_value")
def _dim_as_value(g: GraphBuilder, *, dim: Any) -> Symbol:
    return g.dim_value(dim, g.out[0].dtype)


@lowers("jit", "pjit")
def _jit(
    g: GraphBuilder,
    *operands: Any,
    jaxpr: Any,
    name: str,
    in_shardings: Any,
    out_shardings: Any,
    in_layouts: Any,
    out_layouts: Any,
    donated_invars: Any,
    ctx_mesh: Any,
    keep_unused: bool,
    inline: bool,
    compiler_options_kvs: Any,
) -> list[Any]:
    return g.call(jaxpr, operands, name)


@lowers("call", "closed_call", "core_call")
def _closed_call(
    g: GraphBuilder, *operands: Any, call_jaxpr: Any, name: str = "", policy: Any = None
) -> list[Any]:
    return g.inline(call_jaxpr, (), operands, g.is_read)


@lowers("remat2", "checkpoint", "remat")
def _remat(
    g: GraphBuilder,
    *operands: Any,
    jaxpr: Any,
    prevent_cse: Any,
    differentiated: bool,
    policy: Any,
) -> list[Any]:
    return g.inline(jaxpr, (), operands, g.is_read)


@lowers("custom_jvp_call")
def _custom_jvp_call(
    g: GraphBuilder,
    *operands: Any,
    call_jaxpr: Any,
    jvp_jaxpr_fun: Any,
    num_consts: int,
    symbolic_zeros: bool,
    operand_types: Any,
) -> list[Any]:
    activation = lower_activation(g, operands, call_jaxpr)
    if activation is not None:
        return [activation]
    results = g.inline(call_jaxpr, (), operands, g.is_read)
    if g.in_loop and is_of_jax(call_jaxpr):
        # TensorFlow can't use a gradient there that needs values of the loop's body. JAX's own
        # functions are differentiated alike, but for singular points.
        return results
    params = {
        "call_jaxpr": call_jaxpr,
        "jvp_jaxpr_fun": jvp_jaxpr_fun,
        "num_consts": num_consts,
        "symbolic_zeros": symbolic_zeros,
    }
    call = equation_call(primitives.custom_jvp_call_p, params, operand_types, call_jaxpr)
    return attach_gradient(g, call, operands, results, constant=range(num_consts))


@lowers("custom_vjp_call", "custom_vjp_call_jaxpr")
def _custom_vjp_call(
    g: GraphBuilder,
    *operands: Any,
    call_jaxpr: Any,
    fwd_jaxpr_thunk: Any,
    num_consts: int,
    bwd: Any,
    out_trees: Any,
    symbolic_zeros: bool,
    operand_types: Any,
) -> list[Any]:
    results = g.inline(call_jaxpr, (), operands, g.is_read)
    params = {
        "call_jaxpr": call_jaxpr,
        "fwd_jaxpr_thunk": fwd_jaxpr_thunk,
        "num_consts": num_consts,
        "bwd": bwd,
        "out_trees": out_trees,
        "symbolic_zeros": symbolic_zeros,
    }
    call = equation_call(primitives.custom_vjp_call_p, params, operand_types, call_jaxpr)
    return attach_gradient(g, call, operands, results, constant=range(num_consts))


@lowers("custom_linear_solve", "linear_solve")
def _custom_linear_solve(
    g: GraphBuilder, *operands: Any, const_lengths: Any, jaxprs: Any, operand_types: Any
) -> list[Any]:
    # The solution is written; the other functions are for differentiation and checks.
    start = const_lengths.matvec + const_lengths.vecmat
    end = start + const_lengths.solve
    first_side = sum(const_lengths)
    sides = operands[first_side:]
    solution = lower_dense_solve(g, operands[: const_lengths.matvec], sides, jaxprs)
    if solution is not None:
        return [solution]
    results = g.inline(jaxprs.solve, (), [*operands[start:end], *sides], g.is_read)
    params = {"const_lengths": const_lengths, "jaxprs": jaxprs}
    call = equation_call(primitives.linear_solve_p, params, operand_types, jaxprs.solve)
    # What the solvers are given beside the matrix, as its factors, has no gradient.
    constant = range(const_lengths.matvec, first_side)
    return attach_gradient(g, call, operands, results, constant=constant)
