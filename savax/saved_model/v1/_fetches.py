"""What a session is asked for: nested fetches and fed values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from savax.errors import (
    DTypeMismatchError,
    InvalidArgumentError,
    KeyNotFoundError,
    ShapeMismatchError,
)
from savax.function import SparseTensor
from savax.function._composites import COMPOSITES
from savax.function.graph._handles import Operation, Tensor
from savax.trackable import host_array
from savax.types import shapes_compatible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.function.graph._graph import Graph


class Fetches:
    """Nested fetches as a flat list.

    Args:
      graph: of the tensors and operations.
      fetches: tensors, variables, operations, names of them, composites of tensors, in lists,
        tuples, namedtuples and dicts.

    Attributes:
      tensors: names of the tensors, each once.
      targets: names of the operations, each once.
    """

    def __init__(self, graph: Graph, fetches: Any) -> None:
        self._graph = graph
        self._tensors: dict[str, int] = {}
        self._targets: dict[str, None] = {}
        self._rebuild = self._structure(fetches)

    @property
    def tensors(self) -> Sequence[str]:
        """Names of the tensors."""
        return tuple(self._tensors)

    @property
    def targets(self) -> Sequence[str]:
        """Names of the operations."""
        return tuple(self._targets)

    def rebuild(self, values: Sequence[Any]) -> Any:
        """Returns the values in the structure of the fetches, None for operations."""
        return self._rebuild(values)

    def _structure(self, fetch: Any) -> Callable[[Sequence[Any]], Any]:
        if isinstance(fetch, Mapping):
            parts = {key: self._structure(value) for key, value in fetch.items()}
            return lambda values: _mapping_like(fetch, {k: p(values) for k, p in parts.items()})
        if isinstance(fetch, list | tuple):
            items = [self._structure(item) for item in fetch]
            return lambda values: _sequence_like(fetch, [item(values) for item in items])
        if isinstance(fetch, COMPOSITES):
            leaves, tree = jax.tree.flatten(fetch)
            each = [self._leaf(leaf) for leaf in leaves]
            return lambda values: _composite(
                jax.tree.unflatten(tree, [part(values) for part in each])
            )
        return self._leaf(fetch)

    def _leaf(self, fetch: Any) -> Callable[[Sequence[Any]], Any]:
        try:
            element = self._graph.as_graph_element(fetch)
        except TypeError as error:
            raise TypeError(
                f"The fetch {fetch!r} of type {type(fetch).__name__} is no tensor, operation or "
                "name of one."
            ) from error
        except (KeyNotFoundError, InvalidArgumentError) as error:
            raise InvalidArgumentError(f"The fetch {fetch!r} can't be found: {error}") from None
        if isinstance(element, Operation):
            self._targets[element.name] = None
            return lambda _: None
        if element.dtype.name in ("resource", "variant"):
            raise InvalidArgumentError(
                f"The fetch {element.name!r} is a {element.dtype.name}, which has no value outside "
                "the graph."
            )
        position = self._tensors.setdefault(element.name, len(self._tensors))
        return lambda values: values[position]


class SparseTensorValue(NamedTuple):
    """The value of a SparseTensor, as a session takes and returns it.

    Attributes:
      indices: int64 array of shape ``[n, rank]``.
      values: array of shape ``[n]``.
      dense_shape: int64 array of shape ``[rank]``.
    """

    indices: Any
    values: Any
    dense_shape: Any


def _composite(value: Any) -> Any:
    if isinstance(value, SparseTensor):
        return SparseTensorValue(value.indices, value.values, value.dense_shape)
    return value


def _mapping_like(fetch: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    return values if type(fetch) is dict else type(fetch)(values)  # type: ignore[call-arg]


def _sequence_like(fetch: Any, values: list[Any]) -> Any:
    if hasattr(fetch, "_fields"):
        return type(fetch)(*values)
    return type(fetch)(values)


def fed_values(graph: Graph, feed_dict: Mapping[Any, Any] | None) -> dict[str, Any]:
    """Returns what is fed: arrays by the name of the tensor.

    Raises:
      TypeError: a key is no tensor, or a value is a tensor of a graph.
      InvalidArgumentError: a key names no tensor of the graph; a value is None or doesn't fit its
        tensor (ShapeMismatchError, DTypeMismatchError).
    """
    found: dict[str, Any] = {}
    pairs = [pair for item in (feed_dict or {}).items() for pair in _fed_parts(*item)]
    for key, value in pairs:
        try:
            tensor = graph.as_graph_element(key, allow_operation=False)
        except (KeyNotFoundError, InvalidArgumentError) as error:
            raise FeedKeyError(f"The feed {key!r} can't be found: {error}") from None
        except TypeError as error:
            raise TypeError(f"A key of feed_dict is a tensor or its name, got {key!r}.") from error
        assert isinstance(tensor, Tensor)
        found[tensor.name] = _fed_array(tensor, value)
    return found


def _fed_parts(key: Any, value: Any) -> list[tuple[Any, Any]]:
    """Returns the tensors of a composite with what is fed for each."""
    if not isinstance(key, COMPOSITES):
        return [(key, value)]
    tensors = jax.tree.leaves(key)
    values = jax.tree.leaves(value) if isinstance(value, COMPOSITES) else value
    if not isinstance(values, list | tuple) or len(values) != len(tensors):
        raise FeedValueError(
            f"The value fed for a {type(key).__name__} is one, or a tuple of its {len(tensors)} "
            f"parts, got a {type(value).__name__}."
        )
    return list(zip(tensors, values, strict=True))


class FeedValueError(InvalidArgumentError, TypeError):
    """What is fed for a composite is no such value."""


class FeedKeyError(InvalidArgumentError, TypeError):
    """A key of a feed_dict is no tensor of the graph."""


def _fed_array(tensor: Tensor, value: Any) -> Any:
    if isinstance(value, Tensor | Operation) or hasattr(value, "graph_tensor"):
        raise TypeError(
            f"The value fed for {tensor.name!r} is a tensor of a graph; feed an array, for "
            "instance what a session gives for it."
        )
    if value is None:
        raise InvalidArgumentError(f"The value fed for {tensor.name!r} is None.")
    dtype = tensor.dtype
    if dtype.name == "string":
        array = host_array(value, dtype)
    else:
        array = np.asarray(value)
        if array.dtype.kind in "OSU" or not _converts(array, dtype.numpy_dtype):
            raise DTypeMismatchError(
                f"{tensor.name!r} is {dtype.name}; {array.dtype} can't be fed for it."
            )
        array = array.astype(dtype.numpy_dtype, copy=False)
    shape = tensor.known_shape
    if not shapes_compatible(array.shape, shape):
        raise ShapeMismatchError(
            f"Cannot feed a value of shape {array.shape} for {tensor.name!r}, which has the shape "
            f"{shape}."
        )
    return array


def _converts(array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> bool:
    """Whether values keep their meaning: no fractions for integers, no numbers for booleans."""
    if array.dtype == dtype or not array.size:
        return True
    order = "buifc"
    kinds = ["f" if kind.kind == "V" else kind.kind for kind in (array.dtype, dtype)]
    found, wanted = (order.index(kind) if kind in order else -1 for kind in kinds)
    if found < 0 or wanted < 0 or (wanted == 0 and found > 0):
        return False
    if found > 2 >= wanted:  # TensorFlow truncates fractions; whole numbers only, here
        return bool((array == np.floor(array.real)).all()) if found == 3 else False
    return found <= 2 or found <= wanted
