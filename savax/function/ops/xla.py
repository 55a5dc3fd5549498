"""XLA's operations as nodes, which jax2tf wrote; each is one of JAX's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import UnsupportedParamError
from savax.function.ops._operands import static_int
from savax.function.ops._registry import evaluates
from savax.function.ops._xla_numbers import (
    convolution_numbers,
    dot_numbers,
    gather_numbers,
    scatter_numbers,
)
from savax.function.ops.shaping import sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.function.evaluation._walk import NodeContext
    from savax.protos import FunctionRef
    from savax.types import DType

# Products.


@evaluates("XlaDotV2", ignores=("precision_config",))
def _xla_dot_v2(
    lhs: Any, rhs: Any, *, dimension_numbers: str, preferred_element_type: DType
) -> Any:
    numbers, kind = dot_numbers(dimension_numbers), preferred_element_type.numpy_dtype
    lhs, rhs = jnp.asarray(lhs), jnp.asarray(rhs)
    return lax.dot_general(lhs, rhs, numbers, preferred_element_type=kind)


@evaluates("XlaDot", ignores=("precision_config",))
def _xla_dot(lhs: Any, rhs: Any, *, dimension_numbers: str) -> Any:
    return lax.dot_general(jnp.asarray(lhs), jnp.asarray(rhs), dot_numbers(dimension_numbers))


@evaluates("XlaEinsum")
def _xla_einsum(a: Any, b: Any, *, equation: str) -> Any:
    return jnp.einsum(equation, a, b)


_CONVOLUTION = (
    *("window_strides", "padding", "lhs_dilation", "rhs_dilation"),
    "feature_group_count",
)


@evaluates("XlaConvV2", static=_CONVOLUTION, ignores=("precision_config",))
def _xla_conv_v2(
    lhs: Any,
    rhs: Any,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    feature_group_count: Any,
    *,
    dimension_numbers: str,
    preferred_element_type: DType,
    batch_group_count: int,
) -> Any:
    return lax.conv_general_dilated(
        jnp.asarray(lhs),
        jnp.asarray(rhs),
        sizes(window_strides),
        [(int(low), int(high)) for low, high in padding],
        lhs_dilation=sizes(lhs_dilation),
        rhs_dilation=sizes(rhs_dilation),
        dimension_numbers=convolution_numbers(dimension_numbers),
        feature_group_count=static_int(feature_group_count),
        batch_group_count=batch_group_count,
        preferred_element_type=preferred_element_type.numpy_dtype,
    )


@evaluates("XlaConv", static=_CONVOLUTION, ignores=("precision_config",))
def _xla_conv(
    lhs: Any,
    rhs: Any,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    feature_group_count: Any,
    *,
    dimension_numbers: str,
) -> Any:
    return lax.conv_general_dilated(
        jnp.asarray(lhs),
        jnp.asarray(rhs),
        sizes(window_strides),
        [(int(low), int(high)) for low, high in padding],
        lhs_dilation=sizes(lhs_dilation),
        rhs_dilation=sizes(rhs_dilation),
        dimension_numbers=convolution_numbers(dimension_numbers),
        feature_group_count=static_int(feature_group_count),
    )


# Windows and positions.


@evaluates("XlaDynamicSlice", static=("size_indices",))
def _xla_dynamic_slice(input: Any, start_indices: Any, size_indices: Any) -> Any:
    starts = jnp.asarray(start_indices)
    window = sizes(size_indices)
    return lax.dynamic_slice(jnp.asarray(input), [starts[i] for i in range(len(window))], window)


@evaluates("XlaDynamicUpdateSlice")
def _xla_dynamic_update_slice(input: Any, update: Any, indices: Any) -> Any:
    starts = jnp.asarray(indices)
    places = [starts[i] for i in range(len(input.shape))]
    return lax.dynamic_update_slice(jnp.asarray(input), jnp.asarray(update), places)


@evaluates("XlaPad", static=("padding_low", "padding_high", "padding_interior"))
def _xla_pad(
    input: Any, padding_value: Any, padding_low: Any, padding_high: Any, padding_interior: Any
) -> Any:
    amounts = (sizes(each) for each in (padding_low, padding_high, padding_interior))
    value = jnp.asarray(padding_value)
    return lax.pad(jnp.asarray(input), value, list(zip(*amounts, strict=True)))


def _vectors_last(indices: Any, axis: int) -> Any:
    """Puts the index vectors along the last axis; an axis beyond it means scalars."""
    indices = jnp.asarray(indices)
    return indices[..., None] if axis == indices.ndim else jnp.moveaxis(indices, axis, -1)


@evaluates("XlaGather", static=("slice_sizes",))
def _xla_gather(
    operand: Any,
    start_indices: Any,
    slice_sizes: Any,
    *,
    dimension_numbers: str,
    indices_are_sorted: bool,
) -> Any:
    indexed = gather_numbers(dimension_numbers)
    return lax.gather(
        jnp.asarray(operand),
        _vectors_last(start_indices, indexed.vector_axis),
        indexed.numbers,
        sizes(slice_sizes),
        indices_are_sorted=indices_are_sorted,
        mode="clip",
    )


_SCATTERS: dict[str, Callable[..., Any]] = {
    "set": lax.scatter,
    "add": lax.scatter_add,
    "mul": lax.scatter_mul,
    "min": lax.scatter_min,
    "max": lax.scatter_max,
}


@evaluates("XlaScatter", with_context=True)
def _xla_scatter(
    ctx: NodeContext,
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    *,
    update_computation: FunctionRef,
    dimension_numbers: str,
    indices_are_sorted: bool,
) -> Any:
    indexed = scatter_numbers(dimension_numbers)
    kind = _joining(ctx, update_computation)
    if kind is None:
        raise UnsupportedParamError(
            f"The function {update_computation.name!r}, by which XlaScatter joins values, isn't "
            "a replacement, sum, product or extremum."
        )
    return _SCATTERS[kind](
        jnp.asarray(operand),
        _vectors_last(scatter_indices, indexed.vector_axis),
        jnp.asarray(updates),
        indexed.numbers,
        indices_are_sorted=indices_are_sorted,
        mode="drop",
    )


# Reductions by a function of the graph.

_KINDS = {
    **dict.fromkeys(("Add", "AddV2", "LogicalOr", "BitwiseOr"), "add"),
    "Mul": "mul",
    "Minimum": "min",
    "Maximum": "max",
}
_PASSING = frozenset({"Identity", "PreventGradient", "StopGradient", "NoOp", "Const"})


def _joining(ctx: NodeContext, function: FunctionRef) -> str | None:
    """Returns how a function of two scalars joins them, if that is one of the usual ways."""
    plan = ctx.plan(function)
    ops = [node.op for node in plan.nodes if node.op not in _PASSING]
    if not ops and plan.effects.origins == (1,):
        return "set"
    while len(ops) == 1 and ops[0] in ("PartitionedCall", "StatefulPartitionedCall"):
        plan = ctx.walk.library.plan(plan.callees[0])
        ops = [node.op for node in plan.nodes if node.op not in _PASSING]
    if len(ops) != 1 or ops[0] not in _KINDS or plan.arg_dtypes[0].is_bool:
        return None
    if ops[0].startswith(("Logical", "Bitwise")):
        return None
    return _KINDS[ops[0]]


# JAX differentiates reductions by these functions.
_MONOIDS: dict[str, Callable[..., Any]] = {
    "add": lax.add,
    "mul": lax.mul,
    "min": lax.min,
    "max": lax.max,
}


def _reducer(ctx: NodeContext, function: FunctionRef) -> Callable[..., Any]:
    kind = _joining(ctx, function)
    if kind in _MONOIDS:
        return _MONOIDS[kind]
    return lambda *scalars: ctx.call(function, scalars)[0]


@evaluates(
    "XlaReduceWindow",
    static=(
        *("window_dimensions", "window_strides", "base_dilations", "window_dilations"),
        "padding",
    ),
    with_context=True,
)
def _xla_reduce_window(
    ctx: NodeContext,
    input: Any,
    init_value: Any,
    window_dimensions: Any,
    window_strides: Any,
    base_dilations: Any,
    window_dilations: Any,
    padding: Any,
    *,
    computation: FunctionRef,
) -> Any:
    return lax.reduce_window(
        jnp.asarray(input),
        _start(init_value),
        _reducer(ctx, computation),
        sizes(window_dimensions),
        sizes(window_strides),
        [(int(low), int(high)) for low, high in padding],
        base_dilation=sizes(base_dilations),
        window_dilation=sizes(window_dilations),
    )


def _start(value: Any) -> Any:
    """Returns an initial value as numpy's where it is known, so that JAX sees if it is neutral."""
    return np.asarray(value)[()] if isinstance(value, np.ndarray) else jnp.asarray(value)


@evaluates("XlaReduce", with_context=True)
def _xla_reduce(
    ctx: NodeContext,
    input: Any,
    init_value: Any,
    *,
    dimensions_to_reduce: list[int],
    reducer: FunctionRef,
) -> Any:
    joined = _reducer(ctx, reducer)
    return lax.reduce(jnp.asarray(input), _start(init_value), joined, dimensions_to_reduce)


@evaluates("XlaVariadicReduceV2", with_context=True)
def _xla_variadic_reduce_v2(
    ctx: NodeContext,
    inputs: tuple[Any, ...],
    init_values: tuple[Any, ...],
    *,
    dimensions_to_reduce: list[int],
    reducer: FunctionRef,
) -> Any:
    return joined_arrays(ctx, inputs, init_values, dimensions_to_reduce, reducer)


def joined_arrays(
    ctx: NodeContext,
    inputs: Sequence[Any],
    init_values: Sequence[Any],
    dimensions: Sequence[int],
    reducer: FunctionRef,
) -> Any:
    """Returns arrays of one shape, joined along some of their axes by a function of the graph.

    Args:
      ctx: of the node.
      inputs: the arrays.
      init_values: a scalar for each, with which the joining starts.
      dimensions: the axes.
      reducer: takes two sets of scalars and returns one.
    """
    if len(inputs) == 1:
        joined = _reducer(ctx, reducer)
        start = _start(init_values[0])
        return lax.reduce(jnp.asarray(inputs[0]), start, joined, dimensions)

    def join(left: Any, right: Any) -> Any:
        return tuple(ctx.call(reducer, [*left, *right]))

    arrays = tuple(jnp.asarray(x) for x in inputs)
    starts = tuple(jnp.asarray(x) for x in init_values)
    return tuple(lax.reduce(arrays, starts, join, dimensions))


# The rest.


@evaluates("XlaReducePrecision")
def _xla_reduce_precision(operand: Any, *, exponent_bits: int, mantissa_bits: int) -> Any:
    return lax.reduce_precision(jnp.asarray(operand), exponent_bits, mantissa_bits)


@evaluates("XlaSort")
def _xla_sort(input: Any) -> Any:
    return lax.sort(jnp.asarray(input))


@evaluates("XlaKeyValueSort")
def _xla_key_value_sort(keys: Any, values: Any) -> tuple[Any, ...]:
    return tuple(lax.sort((jnp.asarray(keys), jnp.asarray(values)), num_keys=1))


# Placement and scheduling are JAX's own.


@evaluates("XlaSharding", ignores=("sharding", "unspecified_dims"))
def _xla_sharding(input: Any) -> Any:
    return input


@evaluates("XlaOptimizationBarrier")
def _xla_optimization_barrier(input: tuple[Any, ...]) -> Any:
    return input
