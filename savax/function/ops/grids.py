"""Arrays cut into a grid of parts, one for each device, and operations between such devices.

A loaded model runs as one program on one device as far as its graph is concerned; JAX shards it.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from savax.errors import ShapeMismatchError, UnsupportedParamError
from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.evaluation._plan_values import ResourceHandle
    from savax.function.evaluation._walk import NodeContext
    from savax.types import DType


def _parts(x: Any, counts: Sequence[int], paddings: Sequence[int]) -> tuple[Any, ...]:
    """Returns the parts of an array, row after row; the array is filled up with zeros."""
    x = jnp.asarray(x)
    _check_rank(x.ndim, counts, paddings)
    x = jnp.pad(x, [(0, p) for p in paddings or [0] * x.ndim])
    if any(size % count for size, count in zip(x.shape, counts, strict=True)):
        raise ShapeMismatchError(f"An array of shape {x.shape} doesn't split into {counts} parts.")
    steps = [size // count for size, count in zip(x.shape, counts, strict=True)]
    places = itertools.product(*(range(count) for count in counts))
    return tuple(
        x[tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, steps, strict=True))]
        for place in places
    )


def _whole(parts: Sequence[Any], counts: Sequence[int], paddings: Sequence[int]) -> Any:
    """Returns the array that parts make up, without what it was filled up with."""
    rank = parts[0].ndim
    _check_rank(rank, counts, paddings)
    if len(parts) != math.prod(counts):
        raise ShapeMismatchError(f"{len(parts)} parts make up no grid of {list(counts)}.")
    rows = list(parts)
    for axis in reversed(range(rank)):
        count = counts[axis]
        groups = [rows[i : i + count] for i in range(0, len(rows), count)]
        rows = [jnp.concatenate(group, axis) for group in groups]
    whole = rows[0]
    ends = [size - p for size, p in zip(whole.shape, paddings or [0] * rank, strict=True)]
    return whole[tuple(slice(0, end) for end in ends)]


def _check_rank(rank: int, counts: Sequence[int], paddings: Sequence[int]) -> None:
    if len(counts) != rank or len(paddings) not in (0, rank):
        raise ShapeMismatchError(
            f"A grid of {list(counts)} parts with the padding {list(paddings)} isn't one of an "
            f"array with {rank} axes."
        )


@evaluates("XlaSplitND", ignores=("N",))
def _xla_split_nd(input: Any, *, num_splits: list[int], paddings: list[int]) -> Any:
    return _parts(input, num_splits, paddings)


@evaluates("XlaConcatND")
def _xla_concat_nd(inputs: tuple[Any, ...], *, num_concats: list[int], paddings: list[int]) -> Any:
    return _whole(inputs, num_concats, paddings)


@evaluates("ReadVariableXlaSplitND", with_context=True, ignores=("N",))
def _read_variable_xla_split_nd(
    ctx: NodeContext,
    resource: ResourceHandle,
    *,
    num_splits: list[int],
    paddings: list[int],
    T: DType,  # noqa: N803 - the attribute's name
) -> Any:
    return _parts(ctx.read(resource), num_splits, paddings)


@evaluates("AssignVariableXlaConcatND", with_context=True)
def _assign_variable_xla_concat_nd(
    ctx: NodeContext,
    resource: ResourceHandle,
    inputs: tuple[Any, ...],
    *,
    num_concats: list[int],
    paddings: list[int],
) -> None:
    ctx.write(resource, _whole(inputs, num_concats, paddings))


# Between replicas, of which there is one.


@evaluates("CrossReplicaSum", static=("group_assignment",))
def _cross_replica_sum(input: Any, group_assignment: Any) -> Any:
    check_alone("CrossReplicaSum", group_assignment)
    return input


@evaluates(
    "AllToAll",
    static=("group_assignment",),
    ignores=("concat_dimension", "split_dimension", "split_count"),
)
def _all_to_all(input: Any, group_assignment: Any) -> Any:
    check_alone("AllToAll", group_assignment)
    return input


def check_alone(op: str, groups: Any) -> None:
    """Refuses operations between replicas.

    Raises:
      UnsupportedParamError: a group has more than one.
    """
    if np.ndim(groups) == 2 and np.shape(groups)[1] > 1:
        raise UnsupportedParamError(
            f"{op} exchanges values of {np.shape(groups)[1]} replicas, and a loaded model is one; "
            "shard its arguments with JAX instead."
        )
