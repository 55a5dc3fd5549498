"""Steps on images as steps on matrices [positions, channels].

XLA computes a product of [images, rows, columns, channels] as one of matrices. What lies between
it and an elementwise step is a reshape then, which XLA joins with that step; another step that
takes the same value computes it again, back to the last convolution. Where the elementwise steps
behind a product are on matrices too, the value is computed once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

from savax.function.evaluation._example_axes import is_elementwise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.evaluation._flat_programs import Step


class Matrix(NamedTuple):
    """An array [..., channels] as a matrix [positions, channels].

    Attributes:
      value: the matrix.
      shape: that of the array.
    """

    value: Any
    shape: tuple[int, ...]


def as_array(value: Any) -> Any:
    """Returns what may be a matrix as the array that it stands for."""
    return value.value.reshape(value.shape) if isinstance(value, Matrix) else value


def run_step(step: Step, operands: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Returns the results of a step, as matrices where that is better.

    Args:
      step: what to run.
      operands: arrays and matrices.
      params: of the step.
    """
    if step.name == "dot_general" and _is_product(operands, params):
        left, right = operands[0], as_array(operands[1])
        numbers = (((1,), (0,)), ((), ()))
        found = step.bind([_as_matrix(left), right], {**params, "dimension_numbers": numbers})
        return [Matrix(x, (*_shape(left)[:-1], x.shape[-1])) for x in found]
    shapes = [x.shape for x in operands if isinstance(x, Matrix)]
    if shapes and is_elementwise(step):
        matrices = [_as_operand(x, shapes[0]) for x in operands]
        if all(x is not None for x in matrices):
            return [Matrix(x, shapes[0]) for x in step.bind(matrices, params)]
    return step.bind([as_array(x) for x in operands], params)


def _is_product(operands: Sequence[Any], params: dict[str, Any]) -> bool:
    """Whether a step multiplies each vector of channels with a matrix of weights."""
    left, right = map(_shape, operands)
    (contracted, batched) = params["dimension_numbers"]
    axes = [tuple(numbers) for numbers in (*contracted, *batched)]
    return len(left) > 2 and len(right) == 2 and axes == [(len(left) - 1,), (0,), (), ()]


def _as_operand(value: Any, shape: tuple[int, ...]) -> Any:
    """Returns an operand that meets a matrix element by element; None if that can't be."""
    own = _shape(value)
    if not own:
        return value
    if own == shape:
        return _as_matrix(value)
    is_row = len(own) == len(shape) and math.prod(own[:-1]) == 1
    return jnp.reshape(as_array(value), (1, own[-1])) if is_row else None


def _as_matrix(value: Any) -> Any:
    return value.value if isinstance(value, Matrix) else value.reshape(-1, value.shape[-1])


def _shape(value: Any) -> tuple[int, ...]:
    return value.shape if isinstance(value, Matrix) else jnp.shape(value)
