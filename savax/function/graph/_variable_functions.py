"""Variables by name, and operations on all variables of the default graph."""

from __future__ import annotations

import contextlib
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from savax.errors import InvalidArgumentError
from savax.function.graph._default_stack import get_default_graph
from savax.function.graph._graph_keys import GraphKeys
from savax.function.graph._graph_ops import group, no_op
from savax.function.graph._graph_variables import GraphVariable
from savax.function.graph._handles import Operation, Tensor
from savax.function.graph._initializers import fans, zeros_initializer
from savax.function.graph._node_building import constant_array
from savax.types import as_dtype, as_shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from savax.types import DType, DTypeLike

# Asks for a variable that exists, or makes it.
AUTO_REUSE = "auto_reuse"


@contextlib.contextmanager
def variable_scope(name_or_scope: str, reuse: Any = None) -> Iterator[str]:
    """Puts a prefix before the names of variables and nodes, inside a ``with``.

    Args:
      name_or_scope: the prefix inside the current one.
      reuse: True for variables that exist only, ``AUTO_REUSE`` for those that may, None for what
        the scope around says, at first for new ones only.

    Yields:
      The whole prefix.
    """
    graph = get_default_graph()
    before = graph.variable_scope
    prefix = f"{before.prefix}{name_or_scope.removesuffix('/')}/"
    graph.variable_scope = before._replace(prefix=prefix, reuse=reuse or before.reuse)
    try:
        with graph.name_scope(name_or_scope):
            yield prefix.removesuffix("/")
    finally:
        graph.variable_scope = before


def get_variable(
    name: str,
    shape: Any = None,
    dtype: DTypeLike = None,
    initializer: Any = None,
    *,
    trainable: bool = True,
    collections: Iterable[str] | None = None,
    use_resource: bool | None = None,
) -> GraphVariable:
    """Returns a variable of the default graph by name.

    Args:
      name: inside the current ``variable_scope``.
      shape: of a new one; not needed if the initializer is a value.
      dtype: of a new one; by default that of the initializer, or float32.
      initializer: a value, or a function of shape and dtype. None is Glorot's uniform distribution
        (zeros where the dtype has no fractions), equal in every run.
      trainable: see ``GraphVariable``.
      collections: see ``GraphVariable``.
      use_resource: see ``GraphVariable``.

    Raises:
      InvalidArgumentError: it exists and isn't to be reused, or is to be and doesn't exist; a
        reused one has another shape or dtype.
    """
    graph = get_default_graph()
    scope = graph.variable_scope
    full_name = scope.prefix + name
    found = graph.variables_by_name.get(full_name)
    if found is not None and scope.reuse:
        return _reused(found, shape, dtype)
    if found is not None:
        raise InvalidArgumentError(
            f"The variable {full_name!r} already exists. Use `variable_scope(..., reuse=True)` to "
            "get it again."
        )
    if scope.reuse and scope.reuse != AUTO_REUSE:
        raise InvalidArgumentError(f"There is no variable {full_name!r} to be reused.")
    value = _initial_value(full_name, shape, dtype, initializer)
    with graph.name_scope(None):
        made = GraphVariable(
            value, trainable, collections, name=full_name, dtype=dtype, use_resource=use_resource
        )
    graph.variables_by_name[full_name] = made
    return made


def _reused(found: GraphVariable, shape: Any, dtype: DTypeLike) -> GraphVariable:
    wanted = None if shape is None else as_shape(shape)
    other_shape = wanted is not None and wanted != found.shape
    if other_shape or (dtype is not None and as_dtype(dtype) is not found.dtype):
        raise InvalidArgumentError(
            f"The variable {found.name!r} has the dtype {found.dtype.name} and the shape "
            f"{found.shape}; it can't be reused with {dtype} and {wanted}."
        )
    return found


def global_variables(scope: str | None = None) -> list[GraphVariable]:
    """Returns the global variables of the default graph."""
    return get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


def local_variables(scope: str | None = None) -> list[GraphVariable]:
    """Returns the local variables of the default graph."""
    return get_default_graph().get_collection(GraphKeys.LOCAL_VARIABLES, scope)


def trainable_variables(scope: str | None = None) -> list[GraphVariable]:
    """Returns the trainable variables of the default graph."""
    return get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def variables_initializer(var_list: Sequence[GraphVariable], name: str = "init") -> Operation:
    """Adds an operation that gives variables their initial values."""
    if not var_list:
        return no_op(name)
    return group(*[variable.initializer for variable in var_list], name=name)


def global_variables_initializer() -> Operation:
    """Adds an operation that gives the global variables their initial values."""
    return variables_initializer(global_variables())


def local_variables_initializer() -> Operation:
    """Adds an operation that gives the local variables their initial values."""
    return variables_initializer(local_variables())


def tables_initializer(name: str = "init_all_tables") -> Operation:
    """Adds an operation that runs the initializers of the default graph's lookup tables."""
    found = get_default_graph().get_collection(GraphKeys.TABLE_INITIALIZERS)
    return group(*found, name=name) if found else no_op(name)


def is_variable_initialized(variable: GraphVariable) -> Tensor:
    """Adds a tensor that says whether a variable has a value."""
    op = "VarIsInitializedOp" if variable.is_resource else "IsVariableInitialized"
    tensor: Tensor = variable.graph.op(op, variable.handle, output_shape=())
    return tensor


def _initial_value(name: str, shape: Any, dtype: DTypeLike, initializer: Any) -> Any:
    """Returns the initial value of a variable that is asked for by shape.

    Args:
      name: of the variable.
      shape: its shape; None if the initializer is a value.
      dtype: its dtype; None for that of the initializer, or float32.
      initializer: a value, or a function of shape and dtype; None for Glorot's uniform
        distribution (zeros where the dtype has no fractions), equal in every run.
    """
    wanted = as_dtype("float32" if dtype is None else dtype)
    sizes = as_shape(shape) if shape is not None else None
    if isinstance(initializer, Tensor):
        return initializer
    graph = get_default_graph()
    with graph.name_scope(f"{name}/Initializer/"), graph.control_dependencies(None):
        if initializer is not None and not callable(initializer):
            value = constant_array(initializer, dtype, sizes)[0]
            return graph.constant(value, dtype, name="initial_value")
        if sizes is None or None in sizes:
            raise InvalidArgumentError(f"The shape of a new variable {name!r} must be fully known.")
        if initializer is not None:
            return initializer(sizes, wanted)
        fixed = [int(size or 0) for size in sizes]
        if not wanted.is_floating:
            return zeros_initializer()(fixed, wanted)
        return graph.constant(_glorot_uniform(name, fixed, wanted), wanted, name="initial_value")


def _glorot_uniform(name: str, sizes: list[int], dtype: DType) -> np.ndarray[Any, Any]:
    """Returns values of Glorot's uniform distribution, seeded by the variable's name."""
    limit = math.sqrt(6 / max(1, sum(fans(sizes))))
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return generator.uniform(-limit, limit, sizes).astype(dtype.numpy_dtype)
