"""Variables: handles, reads and assignments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from savax.function.evaluation._plan_values import array_value
from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from savax.function.evaluation._plan_values import ResourceHandle
    from savax.function.evaluation._walk import NodeContext
    from savax.types import DType, Shape


@evaluates("VarHandleOp", with_context=True)
def _var_handle(
    ctx: NodeContext, *, dtype: DType, shape: Shape, shared_name: str
) -> ResourceHandle:
    return ctx.resource(shared_name or ctx.node.name, dtype, shape)


@evaluates("ReadVariableOp", with_context=True)
def _read_variable(ctx: NodeContext, resource: ResourceHandle, *, dtype: DType) -> Any:
    return ctx.read(resource)


@evaluates("DisableCopyOnRead")
def _disable_copy_on_read(resource: ResourceHandle) -> None:
    return None


@evaluates("VarIsInitializedOp", with_context=True)
def _var_is_initialized(ctx: NodeContext, resource: ResourceHandle) -> Any:
    return np.array(ctx.is_initialized(resource))


@evaluates("VariableShape", with_context=True)
def _variable_shape(ctx: NodeContext, input: ResourceHandle, *, out_type: DType) -> Any:
    return np.array(ctx.read(input).shape, out_type.numpy_dtype)


@evaluates("AssignVariableOp", with_context=True, ignores=("validate_shape",))
def _assign_variable(
    ctx: NodeContext, resource: ResourceHandle, value: Any, *, dtype: DType
) -> None:
    ctx.write(resource, value)


@evaluates("AssignAddVariableOp", with_context=True)
def _assign_add(ctx: NodeContext, resource: ResourceHandle, value: Any, *, dtype: DType) -> None:
    ctx.write(resource, jnp.add(ctx.read(resource), value))


@evaluates("AssignSubVariableOp", with_context=True)
def _assign_sub(ctx: NodeContext, resource: ResourceHandle, value: Any, *, dtype: DType) -> None:
    ctx.write(resource, jnp.subtract(ctx.read(resource), value))


@evaluates("ResourceGather", with_context=True)
def _resource_gather(
    ctx: NodeContext, resource: ResourceHandle, indices: Any, *, batch_dims: int, dtype: DType
) -> Any:
    params = jnp.asarray(ctx.read(resource))
    return gather_rows(params, indices, batch_dims)


@evaluates("ResourceGatherNd", with_context=True)
def _resource_gather_nd(
    ctx: NodeContext, resource: ResourceHandle, indices: Any, *, dtype: DType
) -> Any:
    params = jnp.asarray(ctx.read(resource))
    index = small_index(indices, params.shape)
    return params.at[tuple(jnp.moveaxis(index, -1, 0))].get(mode="fill", fill_value=0)


def gather_rows(params: Any, indices: Any, batch_dims: int) -> Any:
    """Returns slices of ``params`` along the axis after the batch axes; zeros out of range."""
    index = small_index(indices, params.shape)
    # JAX counts negative positions from the end, TensorFlow doesn't have them.
    index = jnp.where(index < 0, np.int32(params.shape[batch_dims]), index)
    if batch_dims == 0:
        return params.at[index].get(mode="fill", fill_value=0)
    grids = [
        jnp.arange(size, dtype=jnp.int32).reshape(
            [-1 if i == axis else 1 for i in range(index.ndim)]
        )
        for axis, size in enumerate(params.shape[:batch_dims])
    ]
    return params.at[(*grids, index)].get(mode="fill", fill_value=0)


def small_index(indices: Any, shape: tuple[int, ...]) -> Any:
    """Returns indices as int32 where the array is small enough; out of range stays so."""
    indices = jnp.asarray(indices)
    limit = np.iinfo(np.int32).max
    if indices.dtype != jnp.int64 or max(shape, default=0) >= limit:
        return indices
    return jnp.clip(indices, -1, limit).astype(jnp.int32)


def _scatter(op: str) -> Any:
    def write(
        ctx: NodeContext,
        resource: ResourceHandle,
        indices: Any,
        updates: Any,
        *,
        dtype: DType,
    ) -> None:
        value = jnp.asarray(ctx.read(resource))
        index = small_index(indices, value.shape)
        index = jnp.where(index < 0, np.int32(value.shape[0]), index)
        updates = jnp.broadcast_to(array_value(updates), index.shape + value.shape[1:])
        ctx.write(resource, getattr(value.at[index], op)(updates, mode="drop"))

    return write


_SCATTERS = {
    "ResourceScatterUpdate": "set",
    "ResourceScatterAdd": "add",
    "ResourceScatterSub": "subtract",
    "ResourceScatterMul": "multiply",
    "ResourceScatterDiv": "divide",
    "ResourceScatterMin": "min",
    "ResourceScatterMax": "max",
}

for _op, _method in _SCATTERS.items():
    evaluates(_op, with_context=True)(_scatter(_method))
