"""Joining, splitting and padding: concatenate, stack, split, tile, pad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import InvalidArgumentError, ShapeMismatchError
from savax.function.ops._operands import static_int
from savax.function.ops._registry import evaluates, folds, lowers
from savax.function.ops._sizes import all_known, is_known, lower_pad
from savax.function.ops._slices import lower_slice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


# Lowerings.


@lowers("concatenate")
def _lower_concatenate(g: GraphBuilder, *operands: Symbol, dimension: int) -> Symbol:
    return operands[0] if len(operands) == 1 else g.concat(list(operands), dimension)


@lowers("stack")
def _lower_stack(g: GraphBuilder, *operands: Symbol, axis: int) -> Symbol:
    return g.op("Pack", list(operands), axis=int(axis), shape=g.out[0].shape)


@lowers("unstack")
def _lower_unstack(g: GraphBuilder, operand: Symbol, *, axis: int) -> tuple[Symbol, ...]:
    shapes = [out.shape for out in g.out]
    return _several(g.op("Unpack", operand, axis=int(axis), num=len(shapes), shapes=shapes))


@lowers("split")
def _lower_split(
    g: GraphBuilder, operand: Symbol, *, sizes: Sequence[Any], axis: int
) -> tuple[Symbol, ...]:
    shapes = [out.shape for out in g.out]
    axis_operand = np.array(axis, np.int32)
    if len(shapes) == 1:
        return (operand,)
    if all(size == sizes[0] for size in sizes):
        return _several(g.op("Split", axis_operand, operand, num_split=len(shapes), shapes=shapes))
    if not all_known(sizes) and any(map(is_known, sizes)):
        # TensorFlow forgets all lengths where one is computed; a slice keeps its own.
        return _parts(g, operand, sizes, axis)
    lengths = g.dims(tuple(sizes))
    return _several(
        g.op("SplitV", operand, lengths, axis_operand, num_split=len(shapes), shapes=shapes)
    )


def _parts(g: GraphBuilder, operand: Symbol, sizes: Sequence[Any], axis: int) -> tuple[Symbol, ...]:
    parts, start = [], 0
    for size in sizes:
        starts, limits = [0] * operand.ndim, list(operand.shape)
        starts[axis], limits[axis] = start, start + size
        parts.append(lower_slice(g, operand, starts, limits))
        start = start + size
    return tuple(parts)


def _several(results: Any) -> tuple[Symbol, ...]:
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)


@lowers("tile")
def _lower_tile(g: GraphBuilder, operand: Symbol, *, reps: Sequence[Any]) -> Symbol:
    rank = len(g.out[0].shape)
    operand = g.reshape(operand, (1,) * (rank - len(operand.shape)) + tuple(operand.shape))
    reps = (1,) * (rank - len(reps)) + tuple(reps)
    if all(is_known(rep) and rep == 1 for rep in reps):
        return operand
    return g.op("Tile", operand, g.dims(reps), shape=g.out[0].shape)


@lowers("pad")
def _lower_pad(
    g: GraphBuilder, operand: Symbol, padding_value: Symbol, *, padding_config: Sequence[Any]
) -> Symbol:
    return lower_pad(g, operand, padding_value, padding_config)


# Evaluations.


@evaluates("Pack")
def _pack(values: tuple[Any, ...], *, axis: int) -> Any:
    return jnp.stack(values, axis)


@folds("Pack")
def _pack_static(values: tuple[Any, ...], *, axis: int) -> Any:
    return np.stack(values, axis)


@evaluates("Unpack")
@folds("Unpack")
def _unpack(value: Any, *, num: int, axis: int) -> tuple[Any, ...]:
    lead = (slice(None),) * (axis % len(value.shape))
    return tuple(value[(*lead, i, Ellipsis)] for i in range(num))


@evaluates("ConcatV2", static=("axis",))
def _concat_v2(values: tuple[Any, ...], axis: Any) -> Any:
    return jnp.concatenate(values, static_int(axis))


@folds("ConcatV2")
def _concat_v2_static(values: tuple[Any, ...], axis: Any) -> Any:
    return np.concatenate(values, static_int(axis))


@evaluates("Concat", static=("concat_dim",))
def _concat(concat_dim: Any, values: tuple[Any, ...]) -> Any:
    return jnp.concatenate(values, static_int(concat_dim))


@evaluates("ParallelConcat", ignores=("shape",))
def _parallel_concat(values: tuple[Any, ...]) -> Any:
    if any(value.shape[:1] != (1,) for value in values):
        raise ShapeMismatchError(
            f"ParallelConcat takes one row each, found {[value.shape for value in values]}."
        )
    return jnp.concatenate(values, 0)


@folds("Concat")
def _concat_static(concat_dim: Any, values: tuple[Any, ...]) -> Any:
    return np.concatenate(values, static_int(concat_dim))


@evaluates("ConcatOffset", static=("concat_dim", "shape"))
@folds("ConcatOffset")
def _concat_offset(concat_dim: Any, shape: tuple[Any, ...]) -> tuple[Any, ...]:
    axis = static_int(concat_dim)
    offset, offsets = 0, []
    for each in shape:
        row = np.zeros_like(each)
        row[axis] = offset
        offset += int(each[axis])
        offsets.append(row)
    return tuple(offsets)


@evaluates("Split", static=("split_dim",))
@folds("Split")
def _split(split_dim: Any, value: Any, *, num_split: int) -> tuple[Any, ...]:
    axis = static_int(split_dim)
    if value.shape[axis] % num_split:
        raise InvalidArgumentError(
            f"Split: axis {axis} of {value.shape} doesn't split into {num_split} equal parts."
        )
    return _pieces(value, [value.shape[axis] // num_split] * num_split, axis)


@evaluates("SplitV", static=("size_splits", "split_dim"))
@folds("SplitV")
def _split_v(value: Any, size_splits: Any, split_dim: Any, *, num_split: int) -> tuple[Any, ...]:
    axis = static_int(split_dim)
    lengths = [int(size) for size in size_splits]
    if -1 in lengths:  # at most one part takes what the others leave
        lengths[lengths.index(-1)] = value.shape[axis] - (sum(lengths) + 1)
    if len(lengths) != num_split or sum(lengths) != value.shape[axis] or min(lengths) < 0:
        raise InvalidArgumentError(
            f"SplitV: parts {size_splits} don't make up axis {axis} of {value.shape}."
        )
    return _pieces(value, lengths, axis)


def _pieces(value: Any, lengths: Sequence[int], axis: int) -> tuple[Any, ...]:
    index: list[Any] = [slice(None)] * value.ndim
    start, pieces = 0, []
    for length in lengths:
        index[axis] = slice(start, start + length)
        pieces.append(value[tuple(index)])
        start += length
    return tuple(pieces)


@evaluates("Pad", static=("paddings",))
def _pad(input: Any, paddings: Any) -> Any:
    return jnp.pad(input, _pairs(paddings))


@folds("Pad")
def _pad_static(input: Any, paddings: Any) -> Any:
    return np.pad(input, _pairs(paddings))


@evaluates("PadV2", static=("paddings",))
def _pad_v2(input: Any, paddings: Any, constant_values: Any) -> Any:
    config = [(low, high, 0) for low, high in _pairs(paddings)]
    return lax.pad(jnp.asarray(input), jnp.asarray(constant_values), config)


@folds("PadV2")
def _pad_v2_static(input: Any, paddings: Any, constant_values: Any) -> Any:
    return np.pad(input, _pairs(paddings), constant_values=constant_values)


@evaluates("MirrorPad", static=("paddings",))
def mirror_pad(input: Any, paddings: Any, *, mode: str) -> Any:
    return jnp.pad(input, _pairs(paddings), _mirror_mode(mode))


@folds("MirrorPad")
def _mirror_pad_static(input: Any, paddings: Any, *, mode: str) -> Any:
    return np.pad(input, _pairs(paddings), _mirror_mode(mode))  # type: ignore[call-overload]


@evaluates("MirrorPadGrad", static=("paddings",))
def _mirror_pad_grad(input: Any, paddings: Any, *, mode: str) -> Any:
    pairs = _pairs(paddings)
    shape = [size - low - high for size, (low, high) in zip(input.shape, pairs, strict=True)]
    source = jax.ShapeDtypeStruct(shape, input.dtype)  # type: ignore[no-untyped-call]
    (result,) = jax.linear_transpose(lambda x: jnp.pad(x, pairs, _mirror_mode(mode)), source)(input)
    return result


def _mirror_mode(mode: str) -> str:
    return {"REFLECT": "reflect", "SYMMETRIC": "symmetric"}[mode]


def _pairs(paddings: Any) -> list[tuple[int, int]]:
    return [(int(low), int(high)) for low, high in np.asarray(paddings).reshape(-1, 2)]
