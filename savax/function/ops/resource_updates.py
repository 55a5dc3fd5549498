"""Writing parts of Variables at computed positions, and slices of them; counting up; freeing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from savax.errors import InvalidArgumentError
from savax.function.ops._registry import evaluates
from savax.function.ops.scattering import columns_of
from savax.function.ops.slicing import updated_slice

if TYPE_CHECKING:
    from savax.function.evaluation._plan_values import ResourceHandle
    from savax.function.evaluation._walk import NodeContext
    from savax.types import DType


def _scatter_nd_rule(method: str) -> Any:
    def write(ctx: NodeContext, ref: ResourceHandle, indices: Any, updates: Any) -> None:
        value = jnp.asarray(ctx.read(ref))
        at = value.at[columns_of(indices, value.shape)]
        ctx.write(ref, getattr(at, method)(updates, mode="drop"))

    return write


_METHODS = {"Update": "set", "Add": "add", "Sub": "subtract", "Max": "max", "Min": "min"}

for _name, _method in _METHODS.items():
    evaluates(
        f"ResourceScatterNd{_name}",
        with_context=True,
        ignores=("use_locking", "bad_indices_policy"),
    )(_scatter_nd_rule(_method))


@evaluates("ResourceStridedSliceAssign", with_context=True)
def _resource_strided_slice_assign(
    ctx: NodeContext,
    ref: ResourceHandle,
    begin: Any,
    end: Any,
    strides: Any,
    value: Any,
    *,
    begin_mask: int,
    end_mask: int,
    ellipsis_mask: int,
    new_axis_mask: int,
    shrink_axis_mask: int,
) -> None:
    masks = (begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask)
    whole = jnp.asarray(ctx.read(ref))
    ctx.write(ref, updated_slice(ctx, whole, (begin, end, strides), masks, value))


@evaluates("ResourceCountUpTo", with_context=True, on_host=True)
def _resource_count_up_to(
    ctx: NodeContext,
    resource: ResourceHandle,
    *,
    limit: int,
    T: DType,  # noqa: N803
) -> Any:
    """Returns the count, and adds one to it; it never gets above the limit."""
    count = np.asarray(ctx.read(resource))
    if count >= limit:
        raise InvalidArgumentError(
            f"The Variable {resource.name!r} has counted to {count}, and its limit is {limit}."
        )
    ctx.write(resource, np.asarray(count + 1, T.numpy_dtype))
    return count


@evaluates("DestroyResourceOp", ignores=("ignore_lookup_error",))
def _destroy_resource(resource: ResourceHandle) -> None:
    """Does nothing: a resource is freed when no object refers to it any more."""
