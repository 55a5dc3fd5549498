"""How the stacked results of a scan are collected, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from savax.function.lowering._graph_builder import is_static, known_shape
from savax.function.ops._slices import lower_slice
from savax.portability import InputView, NodeView, refusals
from savax.types import as_dtype

if TYPE_CHECKING:
    from savax.function.lowering._graph_builder import GraphBuilder, ResultType, Symbol

_INT32 = as_dtype("int32")


class ScanResult(Protocol):
    """A stacked result under construction; what a step has so far is one state of the loop.

    Attributes:
      keeps_elements: whether the elements themselves are kept, instead of copies.
    """

    keeps_elements: bool

    def initial(self, g: GraphBuilder) -> Symbol:
        """Returns the state before the first step."""

    def following(self, g: GraphBuilder, state: Symbol, index: Symbol, element: Symbol) -> Symbol:
        """Returns the state with the element of a step, whose place is ``index``."""

    def final(self, g: GraphBuilder, state: Symbol) -> Symbol:
        """Returns the elements of the state after the last step as one array."""


def scan_result(g: GraphBuilder, type_: ResultType, *, reverse: bool) -> ScanResult:
    """Returns how to collect a stacked result.

    Args:
      g: the graph builder.
      type_: dtype and shape of the whole, the length first.
      reverse: whether the last element comes first.
    """
    forms = g.lowerer.library.portable_forms
    sizes = _element_shape(g, type_)
    view = NodeView(
        "TensorListReserve", frozenset((type_.dtype.name,)), (InputView(constant=sizes.constant),)
    )
    if forms is not None and refusals(view, forms.consumers):
        return _Shifted(type_, reverse)
    return _TensorList(type_)


@dataclass(frozen=True)
class _TensorList:
    """A TensorList: linear in the length, and differentiated by TensorFlow."""

    type_: ResultType
    keeps_elements = True

    def initial(self, g: GraphBuilder) -> Symbol:
        result: Symbol = g.op(
            "TensorListReserve",
            _element_shape(g, self.type_),
            g.dim(self.type_.shape[0]),
            shape=(),
            element_dtype=self.type_.dtype,
        )
        return result

    def following(self, g: GraphBuilder, state: Symbol, index: Symbol, element: Symbol) -> Symbol:
        result: Symbol = g.op("TensorListSetItem", state, index, element, shape=())
        return result

    def final(self, g: GraphBuilder, state: Symbol) -> Symbol:
        length, *sizes = self.type_.shape
        is_sized = is_static(length)  # else an empty list wouldn't tell the shape of its elements
        result: Symbol = g.op(
            "TensorListStack",
            state,
            _element_shape(g, self.type_) if is_sized else g.dims(sizes),
            shape=self.type_.shape,
            element_dtype=self.type_.dtype,
            num_elements=int(length) if is_sized else -1,
        )
        return result


@dataclass(frozen=True)
class _Shifted:
    """An array that each step moves by one element, for readers whose lists need known sizes.

    Its shape stays the same, which loops of other readers want. All of it is copied in each step,
    as these readers do with lists.
    """

    type_: ResultType
    reverse: bool
    keeps_elements = False

    def initial(self, g: GraphBuilder) -> Symbol:
        return g.full(0, self.type_.shape, self.type_.dtype)

    def following(self, g: GraphBuilder, state: Symbol, index: Symbol, element: Symbol) -> Symbol:
        del index  # steps come in order
        length, *sizes = state.shape
        starts, limits = [0] * state.ndim, [length, *sizes]
        if self.reverse:
            limits[0] = length - 1
        else:
            starts[0] = 1
        kept = lower_slice(g, state, starts, limits)
        row = g.expand_dims(element, 0)
        return g.concat([row, kept] if self.reverse else [kept, row], 0)

    def final(self, g: GraphBuilder, state: Symbol) -> Symbol:
        del g
        return state


def _element_shape(g: GraphBuilder, type_: ResultType) -> Symbol:
    """Returns a list's element shape, with -1 for unknown sizes: converters want a constant."""
    sizes = [-1 if size is None else size for size in known_shape(type_.shape[1:])]
    return g.const(sizes, _INT32)
