"""Batches that TensorFlow makes of the inputs of several calls: here each call is one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from savax.errors import ShapeMismatchError
from savax.function.evaluation._plan_values import array_value
from savax.function.ops._indexing import is_host_array
from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.evaluation._walk import NodeContext
    from savax.protos import FunctionRef

# How many threads make batches, and how long they wait for calls.
_TUNING = ("batch_timeout_micros", "batching_queue", "max_batch_size", "max_enqueued_batches")


@evaluates(
    "BatchFunction",
    with_context=True,
    ignores=(
        *(*_TUNING, "Tout", "enable_large_batch_splitting", "num_batch_threads"),
        *("low_priority_allowed_batch_sizes", "low_priority_batch_timeout_micros"),
        *("low_priority_max_batch_size", "low_priority_max_enqueued_batches"),
        *("batch_padding_policy", "mixed_priority_policy"),
    ),
)
def _batch_function(
    ctx: NodeContext,
    in_tensors: tuple[Any, ...],
    captured_tensors: tuple[Any, ...],
    *,
    f: FunctionRef,
    allowed_batch_sizes: list[int],
) -> Any:
    rows = _row_count(in_tensors)
    padded = _padded(in_tensors, rows, allowed_batch_sizes)
    results = ctx.call(f, [*padded, *captured_tensors])
    if padded is in_tensors:
        return results
    return [array_value(result)[:rows] for result in results]


@evaluates("Batch", ignores=(*_TUNING, "grad_timeout_micros", "num_batch_threads"))
def _batch(
    in_tensors: tuple[Any, ...], *, allowed_batch_sizes: list[int]
) -> tuple[Sequence[Any], Any, Any]:
    rows = _row_count(in_tensors)
    place = np.array([[0, 0, rows]], np.int64)  # of call 0, from the first row to the last
    return _padded(in_tensors, rows, allowed_batch_sizes), place, np.array(0, np.int64)


@evaluates("Unbatch", static=("batch_index",), ignores=("timeout_micros",))
def _unbatch(batched_tensor: Any, batch_index: Any, id: Any) -> Any:
    return batched_tensor[int(batch_index[0, 1]) : int(batch_index[0, 2])]


@evaluates("UnbatchGrad")
def _unbatch_grad(original_input: Any, batch_index: Any, grad: Any, id: Any) -> Any:
    return grad


def _row_count(tensors: Sequence[Any]) -> Any:
    """Returns the common first size of what goes into a batch."""
    counts = {tuple(tensor.shape[:1]) for tensor in tensors}
    if len(counts) != 1 or () in counts:
        raise ShapeMismatchError(
            "What goes into a batch has the same number of rows, found tensors of the shapes "
            f"{[tuple(tensor.shape) for tensor in tensors]}."
        )
    return counts.pop()[0]


def _padded(tensors: Sequence[Any], rows: Any, allowed: Sequence[int]) -> Sequence[Any]:
    """Returns tensors with their first row repeated up to the next allowed number of rows."""
    size = min((s for s in allowed if s >= rows), default=rows) if isinstance(rows, int) else rows
    if size == rows or not rows:
        return tensors
    return [_with_rows(tensor, size - rows) for tensor in tensors]


def _with_rows(tensor: Any, count: int) -> Any:
    tensor = array_value(tensor)
    xp: Any = np if is_host_array(tensor) else jnp
    return xp.concatenate([tensor, xp.repeat(tensor[:1], count, axis=0)])
