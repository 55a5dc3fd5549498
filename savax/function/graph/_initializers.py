"""Initial values of variables by their shapes, as nodes of the default graph."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from savax.errors import InvalidArgumentError
from savax.function.graph._default_stack import get_default_graph
from savax.types import as_dtype, as_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.function.graph._handles import Tensor
    from savax.types import DType, DTypeLike

# Takes the shape and the dtype of a variable.
Initializer: TypeAlias = "Callable[..., Any]"

# The graph's seed of TensorFlow, where only an operation's is given.
_GRAPH_SEED = 87654321

# Standard deviation of the normal distribution that is cut off at twice its own.
_CUT_DEVIATION = 0.87962566103423978


def zeros_initializer(dtype: DTypeLike = "float32") -> Initializer:
    """Returns an initializer to zeros (False, or empty strings)."""
    return _filled(
        lambda wanted: b"" if wanted.name == "string" else np.zeros((), wanted.numpy_dtype), dtype
    )


def ones_initializer(dtype: DTypeLike = "float32") -> Initializer:
    """Returns an initializer to ones."""
    return _filled(lambda wanted: np.ones((), wanted.numpy_dtype), dtype)


def constant_initializer(
    value: Any = 0, dtype: DTypeLike = "float32", verify_shape: bool = False
) -> Initializer:
    """Returns an initializer to a value.

    Args:
      value: one value for all elements, or an array of as many elements as a variable has.
      dtype: of variables that say none.
      verify_shape: whether an array must have a variable's shape.
    """
    array = np.asarray(value)
    if array.ndim == 0:
        return _filled(lambda wanted: array.item(), dtype)

    def initial(shape: Any, dtype: DTypeLike = dtype, partition_info: Any = None) -> Tensor:
        sizes = _sizes(shape)
        if array.size != math.prod(sizes) or (verify_shape and array.shape != tuple(sizes)):
            raise InvalidArgumentError(
                f"The initial value has the shape {array.shape}, the variable {tuple(sizes)}."
            )
        return get_default_graph().constant(array.reshape(sizes), dtype, name="initial_value")

    return initial


def random_uniform_initializer(
    minval: float = 0.0,
    maxval: float | None = None,
    seed: int | None = None,
    dtype: DTypeLike = "float32",
) -> Initializer:
    """Returns an initializer to random numbers of equal probability.

    Args:
      minval: the least value.
      maxval: the limit; 1 by default.
      seed: of the numbers, which are TensorFlow's for it; without one they depend on the
        variable's name, and are equal in every run.
      dtype: of variables that say none.
    """
    limit = 1.0 if maxval is None else maxval
    return _random("RandomUniform", lambda sizes: (limit - minval, minval), seed, dtype)


def random_normal_initializer(
    mean: float = 0.0, stddev: float = 1.0, seed: int | None = None, dtype: DTypeLike = "float32"
) -> Initializer:
    """Returns an initializer to random numbers of a normal distribution.

    Args:
      mean: of the numbers.
      stddev: their standard deviation.
      seed: see ``random_uniform_initializer``.
      dtype: of variables that say none.
    """
    return _random("RandomStandardNormal", lambda sizes: (stddev, mean), seed, dtype)


def truncated_normal_initializer(
    mean: float = 0.0, stddev: float = 1.0, seed: int | None = None, dtype: DTypeLike = "float32"
) -> Initializer:
    """Returns an initializer like ``random_normal_initializer`` without values beyond 2 stddev."""
    return _random("TruncatedNormal", lambda sizes: (stddev, mean), seed, dtype)


def glorot_uniform_initializer(
    seed: int | None = None, dtype: DTypeLike = "float32"
) -> Initializer:
    """Returns an initializer to Glorot's uniform distribution.

    Args:
      seed: see ``random_uniform_initializer``.
      dtype: of variables that say none.
    """
    return _random("RandomUniform", _glorot_range, seed, dtype)


def glorot_normal_initializer(seed: int | None = None, dtype: DTypeLike = "float32") -> Initializer:
    """Returns an initializer to Glorot's normal distribution.

    Args:
      seed: see ``random_uniform_initializer``.
      dtype: of variables that say none.
    """

    def moments(sizes: Sequence[int]) -> tuple[float, float]:
        return math.sqrt(2 / max(1, sum(fans(sizes)))) / _CUT_DEVIATION, 0.0

    return _random("TruncatedNormal", moments, seed, dtype)


def fans(sizes: Sequence[int]) -> tuple[int, int]:
    """Returns how many values go into and come out of a layer with a kernel of a shape."""
    receptive = math.prod(sizes[:-2])
    if len(sizes) > 1:
        return receptive * sizes[-2], receptive * sizes[-1]
    return math.prod(sizes), math.prod(sizes)


def _glorot_range(sizes: Sequence[int]) -> tuple[float, float]:
    limit = math.sqrt(6 / max(1, sum(fans(sizes))))
    return 2 * limit, -limit


def _filled(value: Callable[[DType], Any], default: DTypeLike) -> Initializer:
    def initial(shape: Any, dtype: DTypeLike = default, partition_info: Any = None) -> Tensor:
        graph, sizes, wanted = get_default_graph(), _sizes(shape), as_dtype(dtype)
        item = graph.constant(value(wanted), wanted, name="value")
        dims = graph.constant(np.array(sizes, np.int32), name="shape")
        found: Tensor = graph.op("Fill", dims, item, name="initial_value", output_shape=sizes)
        return found

    return initial


def _random(
    op: str,
    moments: Callable[[Sequence[int]], tuple[float, float]],
    seed: int | None,
    default: DTypeLike,
) -> Initializer:
    """Returns an initializer to random numbers, scaled and moved.

    Args:
      op: draws the numbers.
      moments: for a shape, by what they are multiplied and what is added.
      seed: of the operation.
      default: dtype of variables that say none.
    """

    def initial(shape: Any, dtype: DTypeLike = default, partition_info: Any = None) -> Tensor:
        graph, sizes, wanted = get_default_graph(), _sizes(shape), as_dtype(dtype)
        if not wanted.is_floating:
            raise InvalidArgumentError(f"Random initial values are floats, not {wanted.name}.")
        own = (
            zlib.crc32(graph.unique_name(op, mark_as_used=False).encode()) if seed is None else seed
        )
        dims = graph.constant(np.array(sizes, np.int32), name="shape")
        seeds = {"seed": _GRAPH_SEED, "seed2": own}
        drawn = graph.op(op, dims, dtype=wanted, name=op, output_shape=sizes, **seeds)
        factor, offset = moments(sizes)
        found: Tensor = drawn * factor + offset
        found.set_shape(tuple(sizes))
        return found

    return initial


def _sizes(shape: Any) -> list[int]:
    sizes = as_shape(shape)
    if sizes is None or None in sizes:
        raise InvalidArgumentError(f"The shape of a new variable must be fully known, not {sizes}.")
    return [int(size or 0) for size in sizes]
