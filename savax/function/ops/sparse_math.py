"""Arithmetic of sparse tensors: sums, reductions, softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from savax.function.evaluation._plan_values import static_value
from savax.function.ops._registry import evaluates
from savax.function.ops.shaping import sizes

if TYPE_CHECKING:
    from savax.function.evaluation._walk import NodeContext

    _Array = np.ndarray[Any, Any]


def merged(a_indices: _Array, b_indices: _Array) -> tuple[_Array, _Array, _Array]:
    """Returns the indices that occur in either, in order, and where those of each are."""
    whole = np.concatenate([a_indices, b_indices])
    union, place = np.unique(whole, axis=0, return_inverse=True)
    place = place.reshape(-1)
    return union, place[: len(a_indices)], place[len(a_indices) :]


def _placed(values: Any, place: _Array, count: int) -> Any:
    values = jnp.asarray(values)
    return jnp.zeros(count, values.dtype).at[place].add(values)


@evaluates("SparseAdd", static=("a_indices", "a_shape", "b_indices"), with_context=True)
def _sparse_add(
    ctx: NodeContext,
    a_indices: Any,
    a_values: Any,
    a_shape: Any,
    b_indices: Any,
    b_values: Any,
    b_shape: Any,
    thresh: Any,
) -> tuple[Any, Any, Any]:
    union, at_a, at_b = merged(a_indices, b_indices)
    least = static_value(thresh)
    if least is not None and least <= 0:
        total = _placed(a_values, at_a, len(union)) + _placed(b_values, at_b, len(union))
        return union, total, a_shape
    known_a, known_b = static_value(a_values), static_value(b_values)
    if known_a is None or known_b is None or least is None:  # small sums are left out
        ctx.needs_value("a_values", "the number of results depends on it")
    whole = np.zeros(len(union), known_a.dtype)
    whole[at_a] += known_a
    whole[at_b] += known_b
    kept = np.flatnonzero(np.abs(whole) >= least)
    return union[kept], whole[kept], a_shape


@evaluates("SparseAddGrad", static=("a_indices", "b_indices", "sum_indices"))
def _sparse_add_grad(
    backprop_val_grad: Any, a_indices: Any, b_indices: Any, sum_indices: Any
) -> tuple[Any, Any]:
    gradient = jnp.asarray(backprop_val_grad)
    padded = jnp.concatenate([gradient, jnp.zeros(1, gradient.dtype)])
    places = {tuple(row): i for i, row in enumerate(sum_indices.tolist())}
    absent = len(sum_indices)
    found = (
        np.array([places.get(tuple(row), absent) for row in rows.tolist()], np.int64)
        for rows in (a_indices, b_indices)
    )
    at_a, at_b = found
    return padded[at_a], padded[at_b]


@evaluates("SparseSparseMaximum", static=("a_indices", "b_indices"))
def _sparse_sparse_maximum(
    a_indices: Any, a_values: Any, a_shape: Any, b_indices: Any, b_values: Any, b_shape: Any
) -> tuple[Any, Any]:
    union, at_a, at_b = merged(a_indices, b_indices)
    placed = _placed(a_values, at_a, len(union)), _placed(b_values, at_b, len(union))
    return union, jnp.maximum(*placed)


@evaluates("SparseSparseMinimum", static=("a_indices", "b_indices"))
def _sparse_sparse_minimum(
    a_indices: Any, a_values: Any, a_shape: Any, b_indices: Any, b_values: Any, b_shape: Any
) -> tuple[Any, Any]:
    union, at_a, at_b = merged(a_indices, b_indices)
    placed = _placed(a_values, at_a, len(union)), _placed(b_values, at_b, len(union))
    return union, jnp.minimum(*placed)


# A dense operand is broadcast to the sparse one, and read where that has values.


def _dense_at(sp_indices: Any, sp_shape: Any, dense: Any) -> Any:
    whole = jnp.broadcast_to(jnp.asarray(dense), sizes(sp_shape))
    index = jnp.asarray(sp_indices).astype(jnp.int32)
    return whole.at[tuple(index[:, i] for i in range(whole.ndim))].get(mode="clip")


@evaluates("SparseDenseCwiseMul", static=("sp_shape",))
def _sparse_dense_mul(sp_indices: Any, sp_values: Any, sp_shape: Any, dense: Any) -> Any:
    return jnp.asarray(sp_values) * _dense_at(sp_indices, sp_shape, dense)


@evaluates("SparseDenseCwiseDiv", static=("sp_shape",))
def _sparse_dense_div(sp_indices: Any, sp_values: Any, sp_shape: Any, dense: Any) -> Any:
    return jnp.asarray(sp_values) / _dense_at(sp_indices, sp_shape, dense)


@evaluates("SparseDenseCwiseAdd", static=("sp_shape",))
def _sparse_dense_add(sp_indices: Any, sp_values: Any, sp_shape: Any, dense: Any) -> Any:
    return jnp.asarray(sp_values) + _dense_at(sp_indices, sp_shape, dense)


# Reductions.


def _groups(indices: _Array, shape: Any, axes: Any) -> tuple[list[int], _Array, _Array]:
    """Returns the axes that are kept, the groups that occur, and the group of each value."""
    reduced = {int(axis) % len(shape) for axis in np.asarray(axes).reshape(-1)}
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    if not kept:
        count = min(len(indices), 1)
        return kept, np.zeros((count, 0), np.int64), np.zeros(len(indices), np.int64)
    groups, group = np.unique(indices[:, kept], axis=0, return_inverse=True)
    return kept, groups, group.reshape(-1)


def _reduced(values: Any, group: _Array, count: int, largest: bool) -> Any:
    values = jnp.asarray(values)
    if largest:
        return jax.ops.segment_max(values, group, count)
    return jnp.zeros(count, values.dtype).at[group].add(values)


def _to_dense(
    indices: Any, values: Any, shape: Any, axes: Any, keep_dims: bool, largest: bool
) -> Any:
    kept, groups, group = _groups(indices, shape, axes)
    found = _reduced(values, group, len(groups), largest)
    whole = tuple(int(shape[axis]) for axis in kept)
    if kept:
        dense = jnp.zeros(whole, found.dtype).at[tuple(groups.T)].set(found)
    else:
        dense = found[0] if len(groups) else jnp.zeros((), found.dtype)
    if keep_dims:
        dense = dense.reshape([int(s) if i in kept else 1 for i, s in enumerate(shape)])
    return dense


def _to_sparse(
    indices: Any, values: Any, shape: Any, axes: Any, keep_dims: bool, largest: bool
) -> tuple[Any, Any, Any]:
    kept, groups, group = _groups(indices, shape, axes)
    found = _reduced(values, group, len(groups), largest)
    whole = np.array([int(shape[axis]) for axis in kept], np.int64)
    if keep_dims:
        wide = np.zeros((len(groups), len(shape)), np.int64)
        wide[:, kept] = groups
        groups, whole = wide, np.ones(len(shape), np.int64)
        whole[kept] = np.array(shape)[kept]
    return groups.astype(np.int64), found, whole


_STATIC = ("input_indices", "input_shape", "reduction_axes")


@evaluates("SparseReduceSum", static=_STATIC)
def _sparse_reduce_sum(
    input_indices: Any, input_values: Any, input_shape: Any, reduction_axes: Any, *, keep_dims: bool
) -> Any:
    return _to_dense(input_indices, input_values, input_shape, reduction_axes, keep_dims, False)


@evaluates("SparseReduceMax", static=_STATIC)
def _sparse_reduce_max(
    input_indices: Any, input_values: Any, input_shape: Any, reduction_axes: Any, *, keep_dims: bool
) -> Any:
    return _to_dense(input_indices, input_values, input_shape, reduction_axes, keep_dims, True)


@evaluates("SparseReduceSumSparse", static=_STATIC)
def _sparse_reduce_sum_sparse(
    input_indices: Any, input_values: Any, input_shape: Any, reduction_axes: Any, *, keep_dims: bool
) -> Any:
    return _to_sparse(input_indices, input_values, input_shape, reduction_axes, keep_dims, False)


@evaluates("SparseReduceMaxSparse", static=_STATIC)
def _sparse_reduce_max_sparse(
    input_indices: Any, input_values: Any, input_shape: Any, reduction_axes: Any, *, keep_dims: bool
) -> Any:
    return _to_sparse(input_indices, input_values, input_shape, reduction_axes, keep_dims, True)


@evaluates("SparseSoftmax", static=("sp_indices",))
def _sparse_softmax(sp_indices: Any, sp_values: Any, sp_shape: Any) -> Any:
    """Takes the softmax over the values of each row; what a row doesn't have counts as -inf."""
    values = jnp.asarray(sp_values)
    _, row = np.unique(sp_indices[:, :-1], axis=0, return_inverse=True)
    row = row.reshape(-1)
    count = int(row.max(initial=-1)) + 1
    top = jax.ops.segment_max(jax.lax.stop_gradient(values), row, count)
    weights = jnp.exp(values - top[row])
    total = jnp.zeros(count, values.dtype).at[row].add(weights)
    return weights / total[row]
