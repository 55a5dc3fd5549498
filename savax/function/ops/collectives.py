"""shard_map and collective operations on a mesh of one device, where there is nobody to talk to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from savax.function.ops._registry import lowers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


@lowers("shard_map")
def _lower_shard_map(
    g: GraphBuilder,
    *operands: Any,
    jaxpr: Any,
    mesh: Any,
    in_specs: Any,
    out_specs: Any,
    check_vma: bool,
    manual_axes: Any = None,
    newly_manual_axes: Any = None,
) -> list[Any]:
    if mesh.size != 1:
        g.unsupported(
            f"a shard_map over {mesh.size} devices; a SavedModel runs on one, so save the function "
            "without shard_map, or with a mesh of one device"
        )
    return g.inline(jaxpr, (), operands, g.is_read)


# The rules below are reached inside of a shard_map on one device only: every axis has the size 1.


@lowers("psum", "psum_invariant", "pmax", "pmin")
def _lower_reduction(
    g: GraphBuilder, *operands: Symbol, axes: Sequence[Any], axis_index_groups: Any = None
) -> tuple[Symbol, ...]:
    if any(isinstance(axis, int) for axis in axes):
        g.unsupported("a collective reduction over axes of an array; reduce those first")
    return operands


@lowers("axis_index")
def _lower_axis_index(g: GraphBuilder, *, axis_name: Any) -> Symbol:
    return g.const(np.array(0, np.int32))


@lowers("ppermute")
def _lower_ppermute(g: GraphBuilder, x: Symbol, *, axis_name: Any, perm: Sequence[Any]) -> Symbol:
    return x if perm else g.full(0, x.shape, x.dtype)  # what nobody sends is zero


@lowers("all_gather", "all_gather_invariant")
def _lower_all_gather(
    g: GraphBuilder,
    x: Symbol,
    *,
    all_gather_dimension: int,
    axis_name: Any,
    axis_size: int,
    tiled: bool,
    axis_index_groups: Any = None,
) -> Symbol:
    return x if tiled else g.expand_dims(x, all_gather_dimension)


@lowers("reduce_scatter")
def _lower_reduce_scatter(
    g: GraphBuilder,
    x: Symbol,
    *,
    scatter_dimension: int,
    axis_name: Any,
    axis_size: int,
    tiled: bool,
    axis_index_groups: Any = None,
) -> Symbol:
    return x if tiled else g.squeeze(x, (scatter_dimension,))


@lowers("all_to_all")
def _lower_all_to_all(
    g: GraphBuilder,
    x: Symbol,
    *,
    split_axis: int,
    concat_axis: int,
    axis_name: Any,
    tiled: bool,
    axis_index_groups: Any = None,
) -> Symbol:
    return x
