"""Equations computed while lowering: small arithmetic, and what leaves its operand as it is.

JAX writes index arithmetic (negative indices, slice bounds) as equations on literals and on values
of dims. They would hide static bounds from the rules, and fill graphs with nodes that nobody wants
to read. Results equal XLA's exactly: integers wrap around, floats are rounded once, and what XLA
defines differently from numpy is left to the rules.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jax import core

from savax.function._jax_names import InconclusiveDimensionOperation
from savax.function.lowering._graph_nodes import Symbol, is_static, same_shape
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, ResultType

Array = np.ndarray[Any, Any]

# Elements of a result that is still worth being a constant.
_MAX_SIZE = 256

_NUMPY: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "add": np.add,
    "and": np.bitwise_and,
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.bitwise_not,
    "or": np.bitwise_or,
    "sub": np.subtract,
    "xor": np.bitwise_xor,
}

# Floats are rounded once by these, or not at all. Division of integers isn't XLA's.
_ROUNDED_ONCE = frozenset(
    {"abs", "add", "eq", "ge", "gt", "le", "lt", "max", "min", "mul", "ne", "neg", "sub"}
)

_DIMS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "eq": lambda a, b: a == b,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "le": lambda a, b: a <= b,
    "lt": lambda a, b: a < b,
    "max": core.max_dim,
    "min": core.min_dim,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "sub": lambda a, b: a - b,
}
# Where an operand has one value, the result is the other operand: by positions of that operand, and
# its value by kind of dtype. Adding zero isn't the identity of floats, since -0 + 0 is +0.
_NEUTRAL: dict[str, tuple[tuple[int, ...], Mapping[str, Any]]] = {
    "add": ((0, 1), {"i": 0, "u": 0}),
    "sub": ((1,), {"i": 0, "u": 0, "f": 0}),
    "mul": ((0, 1), {"i": 1, "u": 1, "f": 1}),
    "div": ((1,), {"i": 1, "u": 1, "f": 1}),
    "max": ((0, 1), {"f": -math.inf}),
    "min": ((0, 1), {"f": math.inf}),
}

# A comparison of dims that is "not equal for all sizes" may still be equal for some.
_ONLY_IF_TRUE = frozenset({"eq"})


def fold(
    g: GraphBuilder, primitive: str, operands: Sequence[Any], params: Mapping[str, Any]
) -> Symbol | None:
    """Returns the result of an equation if it can be computed now, else None.

    Args:
      g: the builder; ``g.out`` holds the type of the result.
      primitive: name of the primitive.
      operands: symbols of the operands.
      params: the equation's parameters.
    """
    rule = _RULES.get(primitive)
    if rule is None or len(g.out) != 1 or not all(isinstance(x, Symbol) for x in operands):
        return None
    kept = _kept_operand(g.out[0], primitive, operands)
    if kept is not None:
        return kept
    if primitive != "select_n" and not _is_small(g.out[0], operands):
        return None
    return rule(g, primitive, operands, params)


def _kept_operand(out: ResultType, primitive: str, operands: Sequence[Symbol]) -> Symbol | None:
    """Returns the operand that the result equals because of the value of the other one."""
    positions, values = _NEUTRAL.get(primitive, ((), {}))
    for position in positions:
        other, kept = operands[position], operands[1 - position]
        scalar = None if other.scalar is None else other.scalar.constant
        if scalar is None or kept.dtype is not out.dtype or not same_shape(kept.shape, out.shape):
            continue
        kind = "f" if kept.dtype.is_floating else scalar.dtype.kind
        if kind in values and bool(scalar == values[kind]):
            return kept
    return None


def _is_small(out: ResultType, operands: Sequence[Symbol]) -> bool:
    """Whether a result is worth being a constant, and no operand's size is unknown."""
    if not is_static(out.shape) or math.prod(out.shape) > _MAX_SIZE:
        return False
    return all(is_static(x.shape) for x in operands)


def _fold_arithmetic(
    g: GraphBuilder, primitive: str, operands: Sequence[Symbol], params: Mapping[str, Any]
) -> Symbol | None:
    values = [x.constant for x in operands]
    out = g.out[0]
    if any(x.dtype.is_complex for x in operands):
        return None
    is_exact = not any(x.dtype.is_floating for x in operands)
    if all(value is not None for value in values) and (is_exact or primitive in _ROUNDED_ONCE):
        with np.errstate(all="ignore"):
            result = _NUMPY[primitive](*values)
        return g.const(np.broadcast_to(result, out.shape), out.dtype)
    if not is_exact:
        return None
    if out.shape != () or primitive not in _DIMS or any(x.dtype.is_unsigned for x in operands):
        return None
    dims = [_dim_value(x) for x in operands]
    if any(dim is None for dim in dims):
        return None
    try:
        result = _DIMS[primitive](*dims)
    except InconclusiveDimensionOperation:
        return None
    if out.dtype.is_bool:
        decided = bool(result)
        return g.const(decided) if decided or primitive not in _ONLY_IF_TRUE else None
    return g.dim_value(result, out.dtype)


def _dim_value(x: Symbol) -> Any:
    """Returns the number or dim that a scalar holds, or None."""
    if x.dim is not None:
        return x.dim
    return None if x.constant is None or x.shape else int(x.constant)


def _fold_nothing(
    g: GraphBuilder, primitive: str, operands: Sequence[Symbol], params: Mapping[str, Any]
) -> Symbol | None:
    """Stands for what is left out if an operand is neutral, and not computed otherwise."""
    return None


def _fold_select(
    g: GraphBuilder, primitive: str, operands: Sequence[Symbol], params: Mapping[str, Any]
) -> Symbol | None:
    which, *cases = operands
    if which.dtype.is_bool and same_shape(which.shape, g.out[0].shape):
        values = [None if case.scalar is None else case.scalar.constant for case in cases]
        if g.out[0].dtype.is_bool and None not in values and [bool(v) for v in values] == [0, 1]:
            return which
    if which.constant is None or which.constant.size == 0:
        return None
    choices = np.unique(which.constant)
    return cases[int(choices[0])] if choices.size == 1 else None


def _fold_clamp(
    g: GraphBuilder, primitive: str, operands: Sequence[Symbol], params: Mapping[str, Any]
) -> Symbol | None:
    low, x, high = (operand.constant for operand in operands)
    if low is None or x is None or high is None or not operands[1].dtype.is_integer:
        return None
    return g.const(np.minimum(np.maximum(x, low), high), operands[1].dtype)


def _fold_cast(
    g: GraphBuilder, primitive: str, operands: Sequence[Symbol], params: Mapping[str, Any]
) -> Symbol | None:
    (x,) = operands
    target = as_dtype(params["new_dtype"])
    if x.dim is not None and target.is_integer and target.size >= 4:
        return g.cast(x, target)
    exact = x.dtype.is_integer or x.dtype.is_bool or (x.dtype.is_floating and target.is_floating)
    if x.constant is None or not exact or (target.is_floating and x.shape != ()):
        return None
    with np.errstate(over="ignore"):
        return g.const(x.constant.astype(target.numpy_dtype), target)


def _fold_shape(
    g: GraphBuilder, primitive: str, operands: Sequence[Symbol], params: Mapping[str, Any]
) -> Symbol | None:
    constants = [x.constant for x in operands]
    out = g.out[0]
    if any(value is None for value in constants):
        return None
    if not (out.dtype.is_integer or out.dtype.is_bool):
        return None
    values = [value for value in constants if value is not None]
    return g.const(_SHAPE_RULES[primitive](values, params, out.shape), out.dtype)


def _broadcast_in_dim(values: list[Array], params: Mapping[str, Any], shape: Any) -> Array:
    aligned = [1] * len(shape)
    for axis, size in zip(params["broadcast_dimensions"], values[0].shape, strict=True):
        aligned[axis] = size
    return np.broadcast_to(values[0].reshape(aligned), shape)


def _slice(values: list[Array], params: Mapping[str, Any], shape: Any) -> Array:
    strides = params["strides"] or (1,) * values[0].ndim
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return values[0][tuple(slice(*bound) for bound in bounds)]


def _reshape(values: list[Array], params: Mapping[str, Any], shape: Any) -> Array:
    return values[0].reshape(shape)


def _transpose(values: list[Array], params: Mapping[str, Any], shape: Any) -> Array:
    return values[0].transpose(params["permutation"])


def _concatenate(values: list[Array], params: Mapping[str, Any], shape: Any) -> Array:
    return np.concatenate(values, params["dimension"])


def _iota(values: list[Array], params: Mapping[str, Any], shape: Any) -> Array:
    axis = params["dimension"]
    aligned = [1] * len(shape)
    aligned[axis] = shape[axis]
    return np.broadcast_to(np.arange(shape[axis]).reshape(aligned), shape)


_SHAPE_RULES: dict[str, Callable[[list[Array], Mapping[str, Any], Any], Array]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "expand_dims": _reshape,
    "iota": _iota,
    "reshape": _reshape,
    "slice": _slice,
    "squeeze": _reshape,
    "transpose": _transpose,
}

_RULES: dict[str, Callable[..., Symbol | None]] = {
    **dict.fromkeys(_NUMPY, _fold_arithmetic),
    **dict.fromkeys(_SHAPE_RULES, _fold_shape),
    "clamp": _fold_clamp,
    "convert_element_type": _fold_cast,
    "div": _fold_nothing,
    "select_n": _fold_select,
}
