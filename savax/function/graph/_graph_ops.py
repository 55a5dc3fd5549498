"""Functions that add nodes to the default graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import InvalidArgumentError
from savax.function._composites import SparseTensor
from savax.function.graph._default_stack import get_default_graph
from savax.types import as_dtype, as_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.graph._graph_variables import GraphVariable
    from savax.function.graph._handles import Operation, Tensor
    from savax.types import DTypeLike


def placeholder(dtype: DTypeLike, shape: Any = None, name: str = "Placeholder") -> Tensor:
    """Adds a tensor whose value is fed when a session runs.

    Args:
      dtype: of the values.
      shape: of the values, None for sizes that vary; None alone for any rank.
      name: of the node.
    """
    sizes = as_shape(shape)
    tensor: Tensor = get_default_graph().op(
        "Placeholder", name=name, dtype=as_dtype(dtype), shape=sizes, output_shape=sizes
    )
    return tensor


def placeholder_with_default(
    input: Any, shape: Any, name: str = "PlaceholderWithDefault"
) -> Tensor:
    """Adds a tensor whose value is fed when a session runs, or else is that of another one."""
    graph, sizes = get_default_graph(), as_shape(shape)
    default = graph.as_tensor(input, name=f"{name}/input")
    operation = graph.append(
        "PlaceholderWithDefault", name, [default.name], {"dtype": default.dtype, "shape": sizes}
    )
    operation.outputs[0].set_shape(sizes)
    return operation.outputs[0]


def sparse_placeholder(
    dtype: DTypeLike, shape: Any = None, name: str = "SparsePlaceholder"
) -> SparseTensor:
    """Adds a SparseTensor whose value is fed when a session runs.

    Args:
      dtype: of the values.
      shape: of the dense array, None for sizes that vary; None alone for any rank.
      name: of its tensors: ``name/indices``, ``name/values`` and ``name/shape``.
    """
    sizes = as_shape(shape)
    rank = None if sizes is None else len(sizes)
    if sizes is None:
        dense_shape = placeholder("int64", [None], f"{name}/shape")
    else:
        default = np.array([-1 if size is None else size for size in sizes], np.int64)
        dense_shape = placeholder_with_default(default, [rank], f"{name}/shape")
    return SparseTensor(
        placeholder("int64", [None, rank], f"{name}/indices"),
        placeholder(dtype, [None], f"{name}/values"),
        dense_shape,
    )


def constant(
    value: Any,
    dtype: DTypeLike = None,
    shape: Any = None,
    name: str = "Const",
    verify_shape: bool = False,
) -> Tensor:
    """Adds a constant.

    Args:
      value: an array, or Python values: numbers are float32 or int32 (int64 if they don't fit).
      dtype: of the constant.
      shape: of the constant; a single value is repeated.
      name: of the node.
      verify_shape: whether a value of another shape is an error.

    Raises:
      InvalidArgumentError: the value makes no such constant.
    """
    sizes = as_shape(shape)
    tensor = get_default_graph().constant(value, dtype, None if verify_shape else sizes, name)
    if verify_shape and sizes is not None and tensor.shape != sizes:
        raise InvalidArgumentError(f"Expected the shape {sizes}, found {tensor.shape}.")
    return tensor


def identity(input: Any, name: str = "Identity") -> Tensor:
    """Adds a node that passes a tensor on under a name of its own."""
    graph = get_default_graph()
    tensor = graph.as_tensor(input)
    result: Tensor = graph.op("Identity", tensor, name=name, output_shape=tensor.shape)
    return result


def no_op(name: str = "NoOp") -> Operation:
    """Adds an operation that only waits for its control inputs."""
    operation: Operation = get_default_graph().op("NoOp", name=name)
    return operation


def group(*inputs: Any, name: str = "group_deps") -> Operation:
    """Adds an operation that runs all of some operations and tensors.

    Args:
      *inputs: operations, tensors, variables, or lists of them.
      name: of the node.
    """
    graph = get_default_graph()
    items = [item for value in inputs for item in _flat(value)]
    with graph.control_dependencies(items):
        return no_op(name)


def assign(
    ref: GraphVariable,
    value: Any,
    validate_shape: bool | None = None,
    use_locking: bool | None = None,
    name: str | None = None,
) -> Any:
    """Adds nodes that assign a variable; see ``GraphVariable.assign``."""
    del validate_shape, use_locking  # the variable's own shape decides; each run is one step
    return ref.assign(value, name=name)


def assign_add(
    ref: GraphVariable, value: Any, use_locking: bool | None = None, name: str | None = None
) -> Any:
    """Adds nodes that add to a variable; see ``GraphVariable.assign_add``."""
    del use_locking
    return ref.assign_add(value, name=name)


def assign_sub(
    ref: GraphVariable, value: Any, use_locking: bool | None = None, name: str | None = None
) -> Any:
    """Adds nodes that subtract from a variable; see ``GraphVariable.assign_sub``."""
    del use_locking
    return ref.assign_sub(value, name=name)


def name_scope(name: str | None, default_name: str | None = None, values: Any = None) -> Any:
    """Puts a prefix before the names of new nodes of the default graph, inside a ``with``.

    Args:
      name: the prefix, or None.
      default_name: the prefix if ``name`` is None.
      values: accepted and ignored: the graph is the default one.
    """
    del values
    return get_default_graph().name_scope(default_name if name is None else name)


def control_dependencies(control_inputs: Sequence[Any] | None) -> Any:
    """Makes new nodes of the default graph wait for operations, inside a ``with``."""
    return get_default_graph().control_dependencies(control_inputs)


def device(device_name: str | None) -> Any:
    """Asks for a device for new nodes of the default graph, inside a ``with``."""
    return get_default_graph().device(device_name)


def add_to_collection(name: Any, value: Any) -> None:
    """Adds a value to a collection of the default graph."""
    get_default_graph().add_to_collection(name, value)


def add_to_collections(names: Any, value: Any) -> None:
    """Adds a value to several collections of the default graph."""
    get_default_graph().add_to_collections(names, value)


def get_collection_ref(key: Any) -> list[Any]:
    """Returns a collection of the default graph itself, to be changed in place."""
    return get_default_graph().get_collection_ref(key)


def get_collection(key: Any, scope: str | None = None) -> list[Any]:
    """Returns the values of a collection of the default graph."""
    return get_default_graph().get_collection(key, scope)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [item for each in value for item in _flat(each)]
    return [] if value is None else [value]
