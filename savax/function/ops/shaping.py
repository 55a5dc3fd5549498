"""Changes of shape and order that keep every element: reshape, transpose, broadcast, reverse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from savax.errors import ShapeMismatchError
from savax.function.ops._operands import as_size, static_int
from savax.function.ops._registry import evaluates, folds, lowers
from savax.function.ops._slices import squeezed_slice

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol
    from savax.types import DType


# Lowerings.


@lowers("reshape")
def _lower_reshape(
    g: GraphBuilder, operand: Symbol, *, new_sizes: Sequence[Any], dimensions: Any
) -> Symbol:
    if dimensions is not None:
        operand = g.transpose(operand, tuple(dimensions))
    return g.reshape(operand, g.out[0].shape)  # new_sizes, and the words of PRNG keys


@lowers("broadcast_in_dim")
def _lower_broadcast_in_dim(
    g: GraphBuilder, operand: Symbol, *, shape: Sequence[Any], broadcast_dimensions: Sequence[int]
) -> Symbol:
    shape = tuple(shape)
    if operand.constant is not None and operand.constant.size == 1:
        return g.full(operand.constant.reshape(()), shape, operand.dtype)
    rank = len(shape)
    # Leading unit axes are implied by BroadcastTo; only those behind the first kept axis matter.
    first = broadcast_dimensions[0] if broadcast_dimensions else rank
    aligned: list[Any] = [1] * (rank - first)
    for axis, target in enumerate(broadcast_dimensions):
        aligned[target - first] = operand.shape[axis]
    return g.broadcast(g.reshape(operand, tuple(aligned)), shape)


@lowers("broadcast_to")
def _lower_broadcast_to(g: GraphBuilder, operand: Symbol, *, shape: Sequence[Any]) -> Symbol:
    return g.broadcast(operand, tuple(shape))


@lowers("transpose")
def _lower_transpose(g: GraphBuilder, operand: Symbol, *, permutation: Sequence[int]) -> Symbol:
    return g.transpose(operand, tuple(int(p) for p in permutation))


@lowers("squeeze")
def _lower_squeeze(g: GraphBuilder, operand: Symbol, *, dimensions: Sequence[int]) -> Symbol:
    sliced = squeezed_slice(g, operand, frozenset(dimensions))
    return g.squeeze(operand, tuple(dimensions)) if sliced is None else sliced


@lowers("rev")
def _lower_rev(g: GraphBuilder, operand: Symbol, *, dimensions: Sequence[int]) -> Symbol:
    return reverse(g, operand, dimensions)


def reverse(g: GraphBuilder, operand: Symbol, axes: Iterable[int]) -> Symbol:
    """Returns an array backwards along axes; reversing twice leaves it as it was."""
    pending = set(axes)
    # OpenVINO reverses one axis at a time, so each has a node of its own.
    while operand.node is not None and operand.node.op == "ReverseV2":
        reversed_axes = operand.node.inputs[1].constant
        if reversed_axes is None:
            break
        pending ^= set(reversed_axes.tolist())
        operand = operand.node.inputs[0]
    if operand.constant is not None and pending:
        return g.const(np.flip(operand.constant, tuple(pending)), operand.dtype)
    for axis in sorted(pending):
        operand = g.op("ReverseV2", operand, np.array([axis], np.int32), shape=operand.shape)
    return operand


# Evaluations.


def sizes(shape: Any) -> tuple[int, ...]:
    """Returns a static shape operand as a tuple of Python ints, or JAX's symbolic dims."""
    return tuple(as_size(size) for size in np.asarray(shape).reshape(-1))


@evaluates("Reshape", static=("shape",))
@folds("Reshape")
def _reshape(tensor: Any, shape: Any) -> Any:
    return tensor.reshape(sizes(shape))


@evaluates("Squeeze")
@folds("Squeeze")
def _squeeze(input: Any, *, squeeze_dims: Sequence[int]) -> Any:
    axes = tuple(squeeze_dims) or tuple(i for i, size in enumerate(input.shape) if size == 1)
    return input.squeeze(axes) if axes else input


@evaluates("ExpandDims", static=("dim",))
def _expand_dims(input: Any, dim: Any) -> Any:
    return jnp.expand_dims(input, static_int(dim))


@folds("ExpandDims")
def _expand_dims_static(input: Any, dim: Any) -> Any:
    return np.expand_dims(input, static_int(dim))


@evaluates("Transpose", static=("perm",))
@folds("Transpose")
def _transpose(x: Any, perm: Any) -> Any:
    return x.transpose(sizes(perm)) if x.ndim else x


@evaluates("ConjugateTranspose", static=("perm",))
def _conjugate_transpose(x: Any, perm: Any) -> Any:
    return jnp.conj(_transpose(x, perm))


@evaluates("BroadcastTo", static=("shape",))
def _broadcast_to(input: Any, shape: Any) -> Any:
    return jnp.broadcast_to(input, sizes(shape))


@folds("BroadcastTo")
def _broadcast_to_static(input: Any, shape: Any) -> Any:
    return np.broadcast_to(input, sizes(shape))


@evaluates("BroadcastArgs", static=("s0", "s1"))
@folds("BroadcastArgs")
def _broadcast_args(s0: Any, s1: Any) -> Any:
    return np.array(np.broadcast_shapes(sizes(s0), sizes(s1)), np.asarray(s0).dtype)


@evaluates("BroadcastGradientArgs", static=("s0", "s1"))
@folds("BroadcastGradientArgs")
def _broadcast_gradient_args(s0: Any, s1: Any) -> tuple[Any, Any]:
    left, right = sizes(s0), sizes(s1)
    rank = max(len(left), len(right))
    left = (1,) * (rank - len(left)) + left
    right = (1,) * (rank - len(right)) + right
    axes: tuple[list[int], list[int]] = ([], [])
    if sizes(s0) != sizes(s1):
        for axis, (a, b) in enumerate(zip(left, right, strict=True)):
            if a != b and 1 not in (a, b):
                raise ShapeMismatchError(
                    f"BroadcastGradientArgs: {sizes(s0)} and {sizes(s1)} don't broadcast."
                )
            if a == 1:
                axes[0].append(axis)
            if b == 1:
                axes[1].append(axis)
    dtype = np.asarray(s0).dtype
    return np.array(axes[0], dtype), np.array(axes[1], dtype)


@evaluates("Tile", static=("multiples",))
def _tile(input: Any, multiples: Any) -> Any:
    return jnp.tile(input, sizes(multiples))


@folds("Tile")
def _tile_static(input: Any, multiples: Any) -> Any:
    return np.tile(input, sizes(multiples))


@evaluates("TileGrad", static=("multiples",))
def _tile_grad(input: Any, multiples: Any) -> Any:
    """Returns the sum of the tiles."""
    counts = sizes(multiples)
    tiles = [(n, size // max(n, 1)) for n, size in zip(counts, input.shape, strict=True)]
    parts = jnp.asarray(input).reshape([size for tile in tiles for size in tile])
    return jnp.sum(parts, tuple(range(0, 2 * len(tiles), 2)))


@evaluates("Shape")
@folds("Shape")
def _shape(input: Any, *, out_type: DType) -> Any:
    return np.array(input.shape, out_type.numpy_dtype)


@evaluates("ShapeN")
@folds("ShapeN")
def _shape_n(input: tuple[Any, ...], *, out_type: DType) -> tuple[Any, ...]:
    return tuple(np.array(each.shape, out_type.numpy_dtype) for each in input)


@evaluates("Size")
@folds("Size")
def _size(input: Any, *, out_type: DType) -> Any:
    return np.array(np.prod(input.shape, dtype=np.int64), out_type.numpy_dtype)


@evaluates("Rank")
@folds("Rank")
def _rank(input: Any) -> Any:
    return np.array(len(input.shape), np.int32)


@evaluates("ReverseV2", static=("axis",))
def _reverse_v2(tensor: Any, axis: Any) -> Any:
    return jnp.flip(tensor, sizes(axis))


@folds("ReverseV2")
def _reverse_v2_static(tensor: Any, axis: Any) -> Any:
    return np.flip(tensor, sizes(axis))


@evaluates("Reverse", static=("dims",))
def _reverse(tensor: Any, dims: Any) -> Any:
    return jnp.flip(tensor, tuple(int(axis) for axis in np.flatnonzero(dims)))


@evaluates("Roll", static=("axis",))
def _roll(input: Any, shift: Any, axis: Any) -> Any:
    axes = sizes(axis)
    shifts = jnp.asarray(shift).reshape(-1)
    for i, each in enumerate(axes):
        input = jnp.roll(input, shifts[i], each)
    return input


@evaluates("InvertPermutation")
def _invert_permutation(x: Any) -> Any:
    positions = jnp.arange(x.shape[0], dtype=x.dtype)
    return jnp.zeros_like(x).at[x].set(positions, unique_indices=True)


@folds("InvertPermutation")
def _invert_permutation_static(x: Any) -> Any:
    inverse = np.empty_like(x)
    inverse[x] = np.arange(len(x), dtype=x.dtype)
    return inverse
