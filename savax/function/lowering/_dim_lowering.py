"""Symbolic dims as int32 scalars of the graph.

The text of a JAX dim is JAX's own input grammar, so it is parsed from there: names, ``+ - * ^``,
``floordiv``, ``mod``, ``max`` and ``min``.
"""

from __future__ import annotations

import ast
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from savax.errors import InconclusiveDimensionError
from savax.function.lowering._graph_nodes import Symbol, is_static
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INT32 = as_dtype("int32")

_BINARY_OPS: dict[type[ast.operator], str] = {ast.Add: "AddV2", ast.Sub: "Sub", ast.Mult: "Mul"}
_CALL_OPS = {"floordiv": "FloorDiv", "mod": "FloorMod", "max": "Maximum", "min": "Minimum"}
_DIVISIONS = ("floordiv", "mod")


class OpBuilder(Protocol):
    """What is needed of a graph builder to compute dims."""

    def op(self, op: str, *inputs: Any, shape: Any = None, name: Any = None, **attrs: Any) -> Any:
        """Adds a node and returns its output."""

    def const(self, value: Any, dtype: Any = None) -> Symbol:
        """Returns a constant."""


def parse_dim(dim: Any) -> ast.expr:
    """Returns the syntax tree of a dim; ``^`` becomes ``**``."""
    return ast.parse(str(dim).replace("^", "**"), mode="eval").body


def dim_names(dim: Any) -> set[str]:
    """Returns the names of the unknown sizes that a dim depends on."""
    if is_static(dim):
        return set()
    return dim_names_of(parse_dim(dim))


def dim_names_of(*trees: ast.expr) -> set[str]:
    """Returns the names of the unknown sizes in the syntax trees of dims."""
    return {
        node.id
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id not in _CALL_OPS
    }


class DimLowering:
    """Computes dims inside one function.

    Args:
      builder: adds the nodes.
      sources: the symbols whose shapes tell the sizes; None in a body that is given the sizes.
      size_argument: in a body, returns the argument that holds the named size.
    """

    def __init__(
        self,
        builder: OpBuilder,
        sources: Iterable[Symbol] = (),
        size_argument: Callable[[str], Symbol] | None = None,
    ) -> None:
        self._builder = builder
        self._size_argument = size_argument
        self._memo: dict[str, Symbol] = {}
        self._vectors: dict[str, Symbol] = {}
        self._shapes: dict[int, Symbol] = {}
        self._origins: dict[str, tuple[Symbol, int, Fraction, Fraction]] = {}
        self._relations: list[tuple[Symbol, int, ast.expr]] = []
        self._solving: set[str] = set()
        self.add_sources(sources)

    def add_sources(self, symbols: Iterable[Symbol]) -> None:
        """Adds symbols whose shapes tell sizes."""
        for symbol in symbols:
            self._add_source(symbol)

    def scalar(self, dim: Any) -> Symbol:
        """Returns an int32 scalar with the value of a dim."""
        if is_static(dim):
            return self._builder.const(int(dim), INT32)
        symbol = self._expression(parse_dim(dim))
        if symbol.dim is None:
            symbol.dim = dim
        return symbol

    def vector(self, shape: tuple[Any, ...]) -> Symbol:
        """Returns an int32 vector with the values of dims."""
        if is_static(shape):
            return self._builder.const([int(dim) for dim in shape], INT32)
        text = str(shape)
        found = self._vectors.get(text)
        if found is None:
            found = self._vectors[text] = self._builder.op(
                "Pack", [self.scalar(dim) for dim in shape], shape=(len(shape),), axis=0
            )
        return found

    def new_sizes(self, shape: tuple[Any, ...]) -> Symbol:
        """Returns the sizes that a Reshape to a shape takes: -1 for the one that isn't known."""
        unknown = [axis for axis, dim in enumerate(shape) if not is_static(dim)]
        if len(unknown) != 1 or any(dim == 0 for dim in shape if is_static(dim)):
            return self.vector(shape)
        return self._builder.const([-1 if a in unknown else d for a, d in enumerate(shape)])

    def _add_source(self, symbol: Symbol) -> None:
        for axis, dim in enumerate(symbol.shape):
            if is_static(dim):
                continue
            tree = parse_dim(dim)
            affine = _affine(tree)
            if affine is None:
                self._relations.append((symbol, axis, tree))
                continue
            name, factor, offset = affine
            known = self._origins.get(name)
            # The plain size is the best source, then the first.
            if known is None or (factor == 1 and offset == 0 and (known[2] != 1 or known[3] != 0)):
                self._origins[name] = (symbol, axis, factor, offset)

    def _expression(self, tree: ast.expr) -> Symbol:
        text = ast.unparse(tree)
        found = self._memo.get(text)
        if found is None:
            found = self._memo[text] = self._compute(tree)
        return found

    def _compute(self, tree: ast.expr) -> Symbol:
        if isinstance(tree, ast.Constant):
            return self._builder.const(tree.value, INT32)
        if isinstance(tree, ast.Name):
            return self.size(tree.id)
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            return self._op("Neg", self._expression(tree.operand))
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
            args = [self._expression(arg) for arg in tree.args]
            if tree.func.id in _DIVISIONS and args[1].constant is None:
                # JAX takes sizes for positive; TensorFlow fails where it divides by an empty one.
                args[1] = self._op("Maximum", args[1], self._builder.const(1, INT32))
            return self._op(_CALL_OPS[tree.func.id], *args)
        if isinstance(tree, ast.BinOp):
            return self._binary(tree)
        raise InconclusiveDimensionError(f"The dim {ast.unparse(tree)} can't be computed.")

    def _binary(self, tree: ast.BinOp) -> Symbol:
        left = self._expression(tree.left)
        exponent = _number(tree.right)
        if isinstance(tree.op, ast.Pow) and exponent is not None:
            power = left
            for _ in range(int(exponent) - 1):
                power = self._op("Mul", power, left)
            return power
        return self._op(_BINARY_OPS[type(tree.op)], left, self._expression(tree.right))

    def size(self, name: str) -> Symbol:
        """Returns an int32 scalar with the value of a named size."""
        if self._size_argument is not None:
            return self._size_argument(name)
        found = self._memo.get(name)
        if found is None:
            found = self._memo[name] = self._size_of_source(name)
        return found

    def _size_of_source(self, name: str) -> Symbol:
        if name not in self._origins:
            return self._solved(name)
        symbol, axis, factor, offset = self._origins[name]
        size = self._axis_size(symbol, axis, name)
        if offset:
            size = self._op("Sub", size, self._builder.const(int(offset), INT32))
        if factor != 1:
            size = self._op("FloorDiv", size, self._builder.const(int(factor), INT32))
        return size

    def _solved(self, name: str) -> Symbol:
        """Returns a size that is known by sums or products with other sizes only."""
        self._solving.add(name)
        try:
            for symbol, axis, tree in self._relations:
                parts = _linear_parts(tree, name)
                if parts is None or not all(map(self._is_given, dim_names_of(*parts))):
                    continue
                factor, offset = map(self._expression, parts)
                size = self._axis_size(symbol, axis, name)
                if offset.constant != 0:
                    size = self._op("Sub", size, offset)
                if factor.constant is None:  # an empty one tells nothing
                    factor = self._op("Maximum", factor, self._builder.const(1, INT32))
                return size if factor.constant == 1 else self._op("FloorDiv", size, factor)
        finally:
            self._solving.remove(name)
        raise InconclusiveDimensionError(
            f"The size {name!r} can't be computed from the shapes of the arguments. "
            "Give an argument a dim that is this size alone."
        )

    def _is_given(self, name: str) -> bool:
        """Whether a size can be computed without those that are being solved for."""
        if name in self._solving:
            return False
        if name in self._origins or name in self._memo:
            return True
        self._solving.add(name)
        try:
            parts = (_linear_parts(tree, name) for _, _, tree in self._relations)
            return any(p is not None and all(map(self._is_given, dim_names_of(*p))) for p in parts)
        finally:
            self._solving.remove(name)

    def _axis_size(self, symbol: Symbol, axis: int, name: str) -> Symbol:
        shape = self._shapes.get(id(symbol))
        if shape is None:
            shape = self._builder.op("Shape", symbol, shape=(symbol.ndim,), out_type=INT32)
            self._shapes[id(symbol)] = shape
        bounds = [self._builder.const([value], INT32) for value in (axis, axis + 1, 1)]
        result: Symbol = self._builder.op(
            "StridedSlice", shape, *bounds, shape=(), name=f"size_{name}", shrink_axis_mask=1
        )
        return result

    def _op(self, op: str, *inputs: Symbol) -> Symbol:
        result: Symbol = self._builder.op(op, *inputs, shape=())
        return result


def _affine(tree: ast.expr) -> tuple[str, Fraction, Fraction] | None:
    """Returns (name, factor, offset) if a dim is ``factor * name + offset``."""
    if isinstance(tree, ast.Name):
        return tree.id, Fraction(1), Fraction(0)
    if not isinstance(tree, ast.BinOp):
        return None
    for one, other in ((tree.left, tree.right), (tree.right, tree.left)):
        inner = _affine(one)
        number = _number(other)
        if inner is None or number is None:
            continue
        name, factor, offset = inner
        if isinstance(tree.op, ast.Mult):
            return name, factor * number, offset * number
        if isinstance(tree.op, ast.Add):
            return name, factor, offset + number
        if isinstance(tree.op, ast.Sub):
            sign = 1 if one is tree.left else -1
            return name, factor * sign, (offset - number) if sign == 1 else number - offset
    return None


def _linear_parts(tree: ast.expr, name: str) -> tuple[ast.expr, ast.expr] | None:
    """Returns (factor, offset) if a dim is ``factor * name + offset``, neither with that name."""
    zero, one = ast.Constant(0), ast.Constant(1)
    if name not in dim_names_of(tree):
        return zero, tree
    if isinstance(tree, ast.Name):
        return one, zero
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        tree = ast.BinOp(zero, ast.Sub(), tree.operand)
    if not isinstance(tree, ast.BinOp):
        return None
    left, right = _linear_parts(tree.left, name), _linear_parts(tree.right, name)
    if left is None or right is None:
        return None
    if isinstance(tree.op, ast.Add | ast.Sub):
        factor, offset = (_combined(tree.op, a, b) for a, b in zip(left, right, strict=True))
    elif isinstance(tree.op, ast.Mult) and name not in dim_names_of(tree.right):
        factor, offset = (_combined(tree.op, part, tree.right) for part in left)
    elif isinstance(tree.op, ast.Mult) and name not in dim_names_of(tree.left):
        factor, offset = (_combined(tree.op, part, tree.left) for part in right)
    else:
        return None
    return None if _number(factor) == 0 else (factor, offset)


def _combined(op: ast.operator, a: ast.expr, b: ast.expr) -> ast.expr:
    """Returns the tree of an operation, without terms of zero and factors of one."""
    left, right = _number(a), _number(b)
    if left is not None and right is not None:
        sign = -1 if isinstance(op, ast.Sub) else 1
        value = left * right if isinstance(op, ast.Mult) else left + sign * right
        return ast.Constant(int(value))
    if isinstance(op, ast.Mult):
        if 0 in (left, right):
            return ast.Constant(0)
        if 1 in (left, right):
            return b if left == 1 else a
    elif right == 0:
        return a
    elif left == 0 and isinstance(op, ast.Add):
        return b
    return ast.BinOp(a, op, b)


def _number(tree: ast.expr) -> Fraction | None:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
        return Fraction(tree.value)
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        inner = _number(tree.operand)
        return None if inner is None else -inner
    return None
