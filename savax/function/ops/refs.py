"""JAX's mutable arrays and memory: a Ref is the symbol that it holds, replaced at each write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from savax.function.lowering._function_bodies import RefCell
from savax.function.lowering._graph_builder import GraphBuilder, Symbol
from savax.function.ops._registry import lowers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@lowers("new_ref")
def _new_ref(
    g: GraphBuilder, value: Symbol, *, memory_space: Any = None, kind: Any = None
) -> RefCell:
    return RefCell(value)


@lowers("empty2", "empty")
def _empty(g: GraphBuilder, *, dtype: Any, shape: Any = (), memory_space: Any = None) -> Symbol:
    # Memory whose content doesn't matter.
    out = g.out[0]
    return g.full(0, out.shape, out.dtype)


@lowers("freeze")
def _freeze(g: GraphBuilder, cell: RefCell) -> Symbol:
    return cell.value


@lowers("get")
def _get(g: GraphBuilder, cell: RefCell, *indices: Any, tree: Any) -> Symbol:
    index = _Index(g, tree, indices)
    return index.apply(_read_part, cell.value) if index.parts else cell.value


@lowers("swap")
def _swap(g: GraphBuilder, cell: RefCell, value: Symbol, *indices: Any, tree: Any) -> Symbol:
    index = _Index(g, tree, indices)
    old = cell.value
    if not index.parts:
        cell.value = value
        return old
    cell.value = index.apply(_replace_part, old, value)
    return index.apply(_read_part, old)


@lowers("addupdate")
def _addupdate(
    g: GraphBuilder, cell: RefCell, value: Symbol, *indices: Any, tree: Any
) -> tuple[()]:
    index = _Index(g, tree, indices)
    cell.value = index.apply(_add_to_part, cell.value, value)
    return ()


def _read_part(index: Any, array: jax.Array) -> jax.Array:
    return array.at[index].get(mode="clip")


def _replace_part(index: Any, array: jax.Array, value: jax.Array) -> jax.Array:
    return array.at[index].set(value, mode="clip")


def _add_to_part(index: Any, array: jax.Array, value: jax.Array) -> jax.Array:
    return array.at[index].add(value, mode="clip") if index is not ... else array + value


class _Index:
    """The index of a Ref's read or write.

    Args:
      g: the builder.
      tree: structure of the index, as the equation has it.
      leaves: symbols in it.

    Attributes:
      parts: per axis a slice, or the number of a symbol; empty for the whole Ref.
    """

    def __init__(self, g: GraphBuilder, tree: Any, leaves: Sequence[Symbol]) -> None:
        self._g = g
        self._symbols: list[Symbol] = []
        transforms = jax.tree_util.tree_unflatten(tree, leaves)
        if len(transforms) > 1 or not all(hasattr(t, "indices") for t in transforms):
            g.unsupported("A Ref is used through a view of a view.")
        self.parts = [self._part(i) for t in transforms for i in t.indices]

    def _part(self, index: Any) -> slice | int:
        if isinstance(index, Symbol):
            self._symbols.append(index)
            return len(self._symbols) - 1
        start, size, stride = index.start, index.size, index.stride
        if isinstance(start, Symbol) or isinstance(size, Symbol):
            self._g.unsupported("A Ref is indexed by a slice with a computed start.")
        return slice(start, start + size * stride, stride)

    def apply(self, function: Callable[..., Any], *values: Symbol) -> Symbol:
        """Lowers ``function(index, *values)`` in place."""
        jaxpr = jax.make_jaxpr(_Indexed(function, tuple(self.parts), len(self._symbols)))(
            *(_aval(symbol) for symbol in (*self._symbols, *values))
        )
        (result,) = self._g.inline(jaxpr, (), [*self._symbols, *values])
        symbol: Symbol = result
        return symbol


class _Indexed:
    """A function of the symbols of an index and of arrays."""

    def __init__(
        self, function: Callable[..., Any], parts: tuple[slice | int, ...], count: int
    ) -> None:
        self._function = function
        self._parts = parts
        self._count = count

    def __call__(self, *arrays: Any) -> Any:
        numbers, values = arrays[: self._count], arrays[self._count :]
        index = tuple(
            part if isinstance(part, slice) else jnp.asarray(numbers[part]) for part in self._parts
        )
        return self._function(index or ..., *values)


def _aval(symbol: Symbol) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(symbol.shape, symbol.dtype.numpy_dtype)  # type: ignore[no-untyped-call]
