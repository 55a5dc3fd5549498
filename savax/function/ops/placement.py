"""Primitives that say where or how a value is kept or compiled, which its reader decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.function.ops._registry import lowers

if TYPE_CHECKING:
    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


@lowers("device_put")
def _lower_device_put(
    g: GraphBuilder, *operands: Symbol, devices: Any, srcs: Any, copy_semantics: Any
) -> tuple[Symbol, ...]:
    return operands


@lowers("sharding_constraint")
def _lower_sharding_constraint(
    g: GraphBuilder,
    x: Symbol,
    *,
    sharding: Any,
    layout: Any,
    context_mesh: Any,
    unconstrained_dims: Any,
) -> Symbol:
    return x


@lowers("layout_constraint")
def _lower_layout_constraint(g: GraphBuilder, x: Symbol, *, layout: Any) -> Symbol:
    return x


@lowers("reshard")
def _lower_reshard(g: GraphBuilder, x: Symbol, *, dst_sharding: Any, concrete_mesh: Any) -> Symbol:
    return x


@lowers("pvary")
def _lower_pvary(
    g: GraphBuilder, *operands: Symbol, axes: Any, axis_index_groups: Any = None
) -> Any:
    return operands


@lowers("tie")
def _lower_tie(g: GraphBuilder, first: Symbol, second: Symbol) -> Symbol:
    return second


@lowers("stage", "xla_metadata_value", "to_edtype", "from_edtype")
def _lower_unchanged(
    g: GraphBuilder,
    x: Symbol,
    *,
    xla_metadata_kvs: Any = None,
    edtype: Any = None,
    dtype: Any = None,
) -> Symbol:
    return x


@lowers("dce_sink", "inspect_sharding", "shape_assertion")
def _lower_nothing(
    g: GraphBuilder,
    *operands: Symbol,
    prevent_mlir_dce: Any = None,
    callback: Any = None,
    error_message: Any = None,
) -> tuple[Symbol, ...]:
    return ()
