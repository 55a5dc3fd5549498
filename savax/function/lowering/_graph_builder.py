"""GraphBuilder: what lowering rules use to write TensorFlow ops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, overload

import numpy as np

from savax.errors import UnsupportedParamError
from savax.function.lowering._broadcasts import (
    BROADCASTING,
    broadcast_shapes,
    broadcast_steps,
    can_broadcast,
    without_broadcasts,
)
from savax.function.lowering._dim_lowering import INT32, DimLowering
from savax.function.lowering._graph_nodes import (
    DimShape,
    Graph,
    Node,
    Symbol,
    is_static,
    known_shape,
    same_shape,
)
from savax.function.lowering._sunk_transposes import (
    UNARY,
    inputs_with_channels_last,
    to_first,
)
from savax.types import DType, as_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from savax.function.lowering._function_library import FunctionLibrary

__all__ = ["GraphBuilder", "Node", "ResultType", "Symbol", "is_static", "known_shape", "same_shape"]

_REDUCTIONS = frozenset({"Sum", "Max", "Min", "Prod", "Mean", "All", "Any"})

# A constant up to this many elements is written out; a larger one of equal elements is a Fill.
_MAX_WRITTEN_SPLAT = 1 << 16


class ResultType(NamedTuple):
    """Shape and dtype that a result of an equation must have."""

    shape: DimShape
    dtype: DType


class Lowerer(Protocol):
    """Lowers sub-jaxprs; see savax.function.lowering._lowering.

    Attributes:
      library: the functions that are written.
    """

    library: FunctionLibrary

    def inline(
        self,
        builder: Any,
        jaxpr: Any,
        consts: Sequence[Any],
        operands: Sequence[Any],
        read: Sequence[bool] | None = None,
    ) -> list[Any]:
        """Lowers a jaxpr into a builder's graph."""

    def call(self, builder: Any, jaxpr: Any, operands: Sequence[Any], name: str) -> list[Any]:
        """Lowers a call of a closed jaxpr."""


class NodeBuilder:
    """Adds nodes and constants to a graph.

    Attributes:
      graph: the graph under construction.
      out: types of the results of the equation that is being lowered.
      is_read: for each of them, whether anybody reads it.
      scope: prefix of node names, from JAX's name stack.
      in_loop: whether the graph is that of a loop's body, or is called from one.
      dims_lowering: computes symbolic dims.
    """

    def __init__(
        self,
        lowerer: Lowerer,
        dim_sources: Iterable[Symbol] = (),
        size_argument: Callable[[str], Symbol] | None = None,
    ) -> None:
        self.graph = Graph()
        self.lowerer = lowerer
        self.out: tuple[ResultType, ...] = ()
        self.is_read: tuple[bool, ...] = ()
        self.scope = ""
        self.in_loop = False
        self.dims_lowering = DimLowering(self, dim_sources, size_argument)

    @overload
    def op(
        self,
        op: str,
        *inputs: Any,
        shapes: Sequence[Sequence[Any]],
        name: str | None = None,
        **attrs: Any,
    ) -> tuple[Symbol, ...]: ...

    @overload
    def op(
        self,
        op: str,
        *inputs: Any,
        shape: Sequence[Any] | None = None,
        name: str | None = None,
        **attrs: Any,
    ) -> Symbol: ...

    def op(
        self,
        op: str,
        *inputs: Any,
        shape: Sequence[Any] | None = None,
        shapes: Sequence[Sequence[Any]] | None = None,
        name: str | None = None,
        **attrs: Any,
    ) -> Any:
        """Adds a node.

        Args:
          op: op type.
          *inputs: symbols in the order of the op's inputs, a list for a list input. Arrays and
            numbers become constants.
          shape: shape of the only output; by default the inputs broadcast together.
          shapes: shapes of several outputs.
          name: the node's name below the current scope; by default the op type.
          **attrs: attributes that the inputs don't determine.

        Returns:
          The output as a Symbol, or a tuple of them if ``shapes`` is given.

        Raises:
          InvalidArgumentError: the inputs or attributes don't fit the op.
        """
        if shapes is None and (op in BROADCASTING or op in UNARY):
            below = self._below_transposes(op, inputs, name, attrs)
            if below is not None:
                return below
        if shapes is None and shape is None:
            shape = broadcast_shapes([x.shape for x in inputs if isinstance(x, Symbol)])
        if op in BROADCASTING and shape is not None and len(inputs) > 1:
            inputs = without_broadcasts(op, inputs, shape)
            if not can_broadcast(op, inputs):
                inputs = self._all_broadcast(inputs, tuple(shape))
        all_shapes = shapes if shapes is not None else [shape if shape is not None else ()]
        forms = self.lowerer.library.portable_forms
        if forms is not None:
            replaced = forms.replaced(self, op, inputs, attrs, all_shapes)
            if replaced is not None:
                return replaced if shapes is not None else replaced[0]
        base = name or op
        node = self.graph.add(
            op,
            inputs,
            attrs,
            [tuple(s) for s in all_shapes],
            f"{self.scope}/{base}" if self.scope else base,
        )
        return node.outputs if shapes is not None else node.outputs[0]

    def _below_transposes(
        self, op: str, inputs: Sequence[Any], name: str | None, attrs: dict[str, Any]
    ) -> Symbol | None:
        """Returns an op's result from what its inputs are transposes of, if they are."""
        return None

    def _all_broadcast(self, inputs: Sequence[Any], shape: DimShape) -> tuple[Any, ...]:
        """Returns inputs of an op that broadcasts, all of the shape of its result."""
        return tuple(inputs)

    def const(self, value: Any, dtype: Any = None) -> Symbol:
        """Returns a constant; equal constants share one node.

        Args:
          value: array, number, string or nested lists of them.
          dtype: element type; by default that of the array, int32 and float32 for Python numbers.
        """
        return self.graph.constant(value, None if dtype is None else as_dtype(dtype))

    def scalar(self, value: Any, like: Symbol | DType) -> Symbol:
        """Returns a 0-d constant of a symbol's dtype, or of the given one."""
        return self.graph.constant(value, like.dtype if isinstance(like, Symbol) else like)

    def dim(self, dim: Any) -> Symbol:
        """Returns an int32 scalar with the value of a dim."""
        return self._unscoped(self.dims_lowering.scalar, dim)

    def size(self, name: str) -> Symbol:
        """Returns an int32 scalar with the value of a named size."""
        return self._unscoped(self.dims_lowering.size, name)

    def dim_value(self, dim: Any, dtype: DType) -> Symbol:
        """Returns a scalar of an integer dtype with the value of a dim."""
        if is_static(dim):
            return self.const(int(dim), dtype)
        symbol = self.dim(dim)
        if dtype is not symbol.dtype:
            symbol = self.op("Cast", symbol, shape=(), DstT=dtype)
            symbol.dim = dim
        return symbol

    def dims(self, shape: Sequence[Any]) -> Symbol:
        """Returns an int32 vector with the values of dims."""
        return self._unscoped(self.dims_lowering.vector, tuple(shape))

    def _unscoped(self, compute: Callable[[Any], Symbol], argument: Any) -> Symbol:
        """Returns a value that all scopes share, so it has the name of none."""
        scope, self.scope = self.scope, ""
        try:
            return compute(argument)
        finally:
            self.scope = scope

    def is_static(self, dim_or_shape: Any) -> bool:
        """Whether a dim is a number, or all dims of a shape are."""
        return is_static(dim_or_shape)

    def unsupported(self, reason: str) -> NoReturn:
        """Refuses the current equation; it is reported together with all other refusals.

        Raises:
          UnsupportedParamError: always.
        """
        raise UnsupportedParamError(reason)

    def inline(
        self,
        jaxpr: Any,
        consts: Sequence[Any],
        operands: Sequence[Any],
        read: Sequence[bool] | None = None,
    ) -> list[Any]:
        """Lowers a sub-jaxpr in place.

        Args:
          jaxpr: a Jaxpr or ClosedJaxpr.
          consts: values of a Jaxpr's constants; ignored for a ClosedJaxpr, which has its own.
          operands: symbols of its inputs.
          read: which of its results are read; what only the others need isn't written.

        Returns:
          The symbols of its results; anything for those that aren't read.
        """
        return self.lowerer.inline(self, jaxpr, consts, operands, read)

    def call(self, jaxpr: Any, operands: Sequence[Any], name: str) -> list[Any]:
        """Lowers a call of a closed jaxpr: in place, or as a shared function if it pays."""
        return self.lowerer.call(self, jaxpr, operands, name)


class GraphBuilder(NodeBuilder):
    """The ``g`` of lowering rules: a NodeBuilder with the usual steps on arrays."""

    def _below_transposes(
        self, op: str, inputs: Sequence[Any], name: str | None, attrs: dict[str, Any]
    ) -> Symbol | None:
        moved = inputs_with_channels_last(inputs)
        if moved is None:
            return None
        given = [self.reshape(*x) if isinstance(x, tuple) else x for x in moved]
        result = self.op(op, *given, name=name, **attrs)
        return self.transpose(result, to_first(result.ndim))

    def _all_broadcast(self, inputs: Sequence[Any], shape: DimShape) -> tuple[Any, ...]:
        return tuple(self.broadcast(x, shape) for x in inputs)

    def reshape(self, x: Symbol, shape: Sequence[Any]) -> Symbol:
        """Returns ``x`` in another shape with as many elements."""
        shape = tuple(shape)
        if same_shape(x.shape, shape):
            return x
        if (kept := self._kept_dims(x, shape)) is not None:
            return kept
        if x.constant is not None and is_static(shape):
            return self.const(x.constant.reshape(shape), x.dtype)
        if x.node is not None and x.node.op == "Reshape":
            return self.reshape(x.node.inputs[0], shape)
        forms, dims = self.lowerer.library.portable_forms, self.dims_lowering
        is_moved = forms is not None and forms.moves_reshape(x, shape)
        sizes = self._unscoped(dims.vector if is_moved else dims.new_sizes, shape)
        return self._result(self.op("Reshape", x, sizes, shape=shape), x.scalar)

    def transpose(self, x: Symbol, perm: Sequence[int]) -> Symbol:
        """Returns ``x`` with its axes in another order."""
        perm = tuple(int(axis) for axis in perm)
        if perm == tuple(range(x.ndim)):
            return x
        if x.node is not None and x.node.op == "Transpose":
            inner = x.node.inputs[1].constant
            if inner is not None:
                return self.transpose(x.node.inputs[0], [int(inner[axis]) for axis in perm])
        if x.node is not None and x.node.op == "Einsum":
            return self._permuted_einsum(x, perm)
        shape = tuple(x.shape[axis] for axis in perm)
        large = [axis for axis in perm if x.shape[axis] != 1]
        if x.node is not None and x.node.op == "Reshape" and large == sorted(large):
            return self.reshape(x, shape)
        if x.constant is not None:
            return self._result(self.const(x.constant.transpose(perm), x.dtype), x.scalar)
        return self._result(self.op("Transpose", x, self.const(perm, INT32), shape=shape), x.scalar)

    def _permuted_einsum(self, x: Symbol, perm: Sequence[int]) -> Symbol:
        """Returns the result of an Einsum with its axes in another order."""
        node = x.node
        assert node is not None
        operands, result = node.attrs["equation"].split("->")
        equation = f"{operands}->{''.join(result[axis] for axis in perm)}"
        shape = tuple(x.shape[axis] for axis in perm)
        return self.op("Einsum", list(node.inputs), shape=shape, equation=equation)

    def broadcast(self, x: Symbol, shape: Sequence[Any]) -> Symbol:
        """Returns ``x`` repeated to a shape that it broadcasts to (aligned at the last axis)."""
        shape = tuple(shape)
        if same_shape(x.shape, shape):
            return x
        if (kept := self._kept_dims(x, shape)) is not None:
            return kept
        if x.scalar is not None:
            return self._fill(x.scalar, shape)
        if x.ndim == 0:
            return self._fill(x, shape)
        for step in broadcast_steps(x.shape, shape):
            x = self.op("BroadcastTo", x, self.dims(step), shape=step)
        return x

    def cast(self, x: Symbol, dtype: Any) -> Symbol:
        """Returns ``x`` converted to a dtype with TensorFlow's Cast."""
        dtype = as_dtype(dtype)
        if x.dtype is dtype:
            return x
        result: Symbol = self.op("Cast", x, shape=x.shape, DstT=dtype)
        if dtype.is_integer and dtype.size >= 4:
            result.dim = x.dim
        return result

    def squeeze(self, x: Symbol, axes: Iterable[int]) -> Symbol:
        """Returns ``x`` without axes of size 1."""
        removed = sorted({int(axis) % x.ndim for axis in axes})
        if not removed:
            return x
        shape = tuple(dim for axis, dim in enumerate(x.shape) if axis not in removed)
        if x.constant is not None:
            return self.reshape(x, shape)
        return self._result(self.op("Squeeze", x, shape=shape, squeeze_dims=removed), x.scalar)

    def expand_dims(self, x: Symbol, axis: int) -> Symbol:
        """Returns ``x`` with an axis of size 1 before ``axis`` (negative: of the result)."""
        axis = axis % (x.ndim + 1)
        shape = (*x.shape[:axis], 1, *x.shape[axis:])
        if (kept := self._kept_dims(x, shape)) is not None:
            return kept
        if x.constant is not None:
            return self.reshape(x, shape)
        expanded = self.op("ExpandDims", x, self.const(axis, INT32), shape=shape)
        return self._result(expanded, x.scalar)

    def full(self, value: Any, shape: Sequence[Any], dtype: Any) -> Symbol:
        """Returns an array of equal elements: a Const, or a Fill if dims are unknown."""
        return self._fill(self.const(value, dtype), tuple(shape))

    def concat(self, parts: Sequence[Symbol], axis: int) -> Symbol:
        """Returns arrays one after the other along an axis."""
        if len(parts) == 1:
            return parts[0]
        axis = axis % parts[0].ndim
        shape = list(parts[0].shape)
        for part in parts[1:]:
            shape[axis] = shape[axis] + part.shape[axis]
        result: Symbol = self.op("ConcatV2", list(parts), self.const(axis, INT32), shape=shape)
        return result

    def slice(
        self,
        x: Symbol,
        starts: Sequence[Any],
        limits: Sequence[Any],
        strides: Sequence[int] | None = None,
    ) -> Symbol:
        """Returns ``x[start:limit:stride, ...]``; bounds are dims, strides positive numbers."""
        steps = tuple(strides) if strides is not None else (1,) * x.ndim
        shape = tuple(
            _slice_size(start, limit, step)
            for start, limit, step in zip(starts, limits, steps, strict=True)
        )
        if same_shape(shape, x.shape) and all(step == 1 for step in steps):
            return x
        if x.constant is not None and is_static(shape):
            bounds = zip(starts, limits, steps, strict=True)
            return self.const(x.constant[tuple(slice(*map(int, each)) for each in bounds)], x.dtype)
        begin_mask = end_mask = 0
        begins, ends = [], []
        for axis, (start, limit) in enumerate(zip(starts, limits, strict=True)):
            whole_begin = is_static(start) and start == 0
            whole_end = bool(limit == x.shape[axis])
            begin_mask |= whole_begin << axis
            end_mask |= whole_end << axis
            begins.append(0 if whole_begin else start)
            ends.append(0 if whole_end else limit)
        result: Symbol = self.op(
            "StridedSlice",
            x,
            self.dims(begins),
            self.dims(ends),
            self.dims(steps),
            shape=shape,
            begin_mask=begin_mask,
            end_mask=end_mask,
        )
        return self._result(result, x.scalar)

    def _fill(self, value: Symbol, shape: DimShape) -> Symbol:
        """Returns an array whose elements all equal a scalar symbol."""
        if not shape:
            return value
        if is_static(shape) and value.constant is not None:
            splat = np.broadcast_to(value.constant, shape)
            if splat.size <= _MAX_WRITTEN_SPLAT or value.dtype.name == "string":
                return self._result(self.const(splat, value.dtype), value)
        return self._result(self.op("Fill", self.dims(shape), value, shape=shape), value)

    def _kept_dims(self, x: Symbol, shape: DimShape) -> Symbol | None:
        """Returns a reduction with ``keep_dims`` if that is what a reshape of ``x`` makes."""
        node = x.node
        if node is None or node.op not in _REDUCTIONS or node.attrs.get("keep_dims"):
            return None
        operand, axes = node.inputs
        if axes.constant is None:
            return None
        reduced = {int(axis) % operand.ndim for axis in np.ravel(axes.constant)}
        kept = tuple(1 if axis in reduced else dim for axis, dim in enumerate(operand.shape))
        if not same_shape(kept, shape):
            return None
        found = self.graph.add(
            node.op, node.inputs, {**node.attrs, "keep_dims": True}, [kept], node.base_name
        )
        return found.outputs[0]

    @staticmethod
    def _result(result: Symbol, scalar: Symbol | None) -> Symbol:
        """Notes that all elements of a result equal a scalar."""
        if scalar is not None and result.scalar is None:
            result.scalar = scalar
        return result


def _slice_size(start: Any, limit: Any, step: int) -> Any:
    size = limit - start
    return size if step == 1 else (size + step - 1) // step
