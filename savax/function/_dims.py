"""Dims as text, which is JAX's own grammar for them: their names, and values for known sizes."""

from __future__ import annotations

import ast
import operator
import re
from typing import TYPE_CHECKING, Any

from savax.errors import InvalidArgumentError, SignatureMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The functions of JAX's grammar for dims.
_FUNCTIONS: Mapping[str, Any] = {
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "max": max,
    "min": min,
}
_OPERATORS: Mapping[type[ast.AST], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
_NAME = re.compile(r"[A-Za-z_]\w*")

# "Symbolic dimension comparison 'b' > '3' is inconclusive."
_COMPARISON = re.compile(r"comparison '([^']+)' (<=|>=|<|>) '([^']+)'")
# Sizes for which dims are compared, enough to tell quotients and remainders by small numbers apart.
_SAMPLES = range(1, 25)


def dim_names(dim: Any) -> list[str]:
    """Returns the names in a dim or in the text of one, in order and without functions."""
    found = _NAME.findall(str(dim))
    return [name for name in dict.fromkeys(found) if name not in _FUNCTIONS]


def evaluate_dim(dim: Any, sizes: Mapping[str, int]) -> int:
    """Returns the value of a dim, or of the text of one, for known sizes of its names."""
    tree = ast.parse(str(dim).replace("^", "**"), mode="eval")
    return int(_evaluate(tree.body, sizes))


def _evaluate(node: ast.expr, sizes: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            return sizes[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return int(_OPERATORS[type(op)](_evaluate(left, sizes), _evaluate(right, sizes)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, sizes)
        case ast.Call(func=ast.Name(id=name), args=args) if name in _FUNCTIONS:
            return int(_FUNCTIONS[name](*[_evaluate(arg, sizes) for arg in args]))
    raise InvalidArgumentError(f"{ast.unparse(node)!r} isn't the text of a dim.")


def bind_dims(
    dims: Sequence[Sequence[Any]], shapes: Sequence[Sequence[int]], names: Sequence[str]
) -> dict[str, int]:
    """Returns the sizes of the names in dims, given actual shapes.

    Args:
      dims: for each argument its sizes and symbolic dims.
      shapes: for each argument its shape.
      names: of the arguments, for messages.

    Raises:
      SignatureMismatchError: an argument doesn't have its rank or a known size, equal dims have
        different sizes, or no size makes a dim's expression true.
    """
    sizes: dict[str, int] = {}
    origins: dict[str, str] = {}
    places = []
    for wanted, shape, name in zip(dims, shapes, names, strict=True):
        if len(wanted) != len(shape):
            raise SignatureMismatchError(
                f"Argument {name!r} has rank {len(wanted)} by the signature, got the shape "
                f"{tuple(shape)}."
            )
        for axis, (dim, size) in enumerate(zip(wanted, shape, strict=True)):
            places.append((str(dim), int(size), f"axis {axis} of {name!r}"))
    # Plain names first: expressions are checked against them, or solved for what is left.
    waiting = sorted(places, key=lambda row: len(dim_names(row[0])) != 1)
    solved = -1
    while solved < len(sizes):
        solved = len(sizes)
        for text, size, place in waiting:
            unknown = [n for n in dim_names(text) if n not in sizes]
            if len(unknown) == 1:
                _solve(text, size, unknown[0], sizes)
                origins.setdefault(unknown[0], f"{size} in {place}")
    for text, size, place in places:
        known = [n for n in dim_names(text) if n in sizes]
        if len(known) == len(dim_names(text)) and evaluate_dim(text, sizes) != size:
            given = ", ".join(f"{n} is {sizes[n]} (from {origins[n]})" for n in known)
            raise SignatureMismatchError(
                f"By the signature, {place} is {text}; it is {size}{' while ' * bool(given)}"
                f"{given}."
            )
    return sizes


def _solve(text: str, size: int, name: str, sizes: dict[str, int]) -> None:
    """Finds the size of a name in an expression that is linear in it; else leaves it unknown."""
    at_0, at_1, at_2 = (evaluate_dim(text, {**sizes, name: n}) for n in (0, 1, 2))
    slope = at_1 - at_0
    if slope and at_2 - at_1 == slope:
        sizes[name] = max((size - at_0) // slope, 0)


def are_equal_dims(a: Any, b: Any) -> bool:
    """Whether two dims have the same value at all sizes of a sample.

    JAX doesn't see that ``floordiv(n + 1, 2)`` and ``floordiv(n - 1, 2) + 1`` are equal.
    """
    if a is b or a == b:
        return True
    names = dict.fromkeys([*dim_names(a), *dim_names(b)])
    for size in _SAMPLES if names else ():
        sizes = {name: size + 5 * i * size % 7 for i, name in enumerate(names)}
        if evaluate_dim(a, sizes) != evaluate_dim(b, sizes):
            return False
    return bool(names)


def deciding_constraints(text: str) -> tuple[str, ...]:
    """Returns the constraints that decide a comparison that JAX couldn't: it holds, or it doesn't.

    Args:
      text: of JAX's error.

    Returns:
      Two texts in JAX's notation, which has ``>=`` and ``<=`` only; none for other errors.
    """
    match = _COMPARISON.search(text)
    if match is None:
        return ()
    left, sign, right = match.groups()
    if not dim_names(left):
        left, right, sign = right, left, sign.translate(str.maketrans("<>", "><"))
    more, less = {">": (1, 0), ">=": (0, -1), "<": (0, -1), "<=": (1, 0)}[sign]
    both = f"{left} >= {_moved(right, more)}", f"{left} <= {_moved(right, less)}"
    return both if ">" in sign else both[::-1]


def _moved(dim: str, distance: int) -> str:
    if not dim_names(dim):
        return str(evaluate_dim(dim, {}) + distance)
    return f"{dim} {'+' if distance > 0 else '-'} 1" if distance else dim
