"""Convolutions that TensorFlow has no kernel for: complex, of 64-bit integers, of many axes.

Complex ones are three real ones. The others are written as one product per element of the kernel.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from savax.function.ops._orders import part_dtype
from savax.function.ops._sizes import all_known
from savax.function.ops._traced import traced
from savax.function.ops._windows_math import is_grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

# Elements of a kernel, each of which becomes a slice and a product.
_MAX_POSITIONS = 512


class Convolution(NamedTuple):
    """The parameters of ``lax.conv_general_dilated``."""

    window_strides: Sequence[int]
    padding: Sequence[Any]
    lhs_dilation: Sequence[int]
    rhs_dilation: Sequence[int]
    dimension_numbers: Any
    feature_group_count: int
    batch_group_count: int


def lower_complex_convolution(
    g: GraphBuilder, lhs: Symbol, rhs: Symbol, convolution: Convolution
) -> Symbol:
    """Writes a convolution of complex numbers by their parts."""
    part = part_dtype(g.out[0].dtype).numpy_dtype

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(a, b, **convolution._asdict(), preferred_element_type=part)

    def convolved(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        # Three products instead of four, as JAX itself has it: the sums round alike.
        (a, b), (c, d) = ((jnp.real(x), jnp.imag(x)) for x in (lhs, rhs))
        shared = product(a + b, c)
        return lax.complex(shared - product(b, c + d), shared + product(a, d - c))

    return traced(g, convolved, lhs, rhs)[0]


def lower_by_positions(
    g: GraphBuilder, lhs: Symbol, rhs: Symbol, convolution: Convolution
) -> Symbol:
    """Writes a convolution as a sum over the elements of the kernel."""
    out = g.out[0]
    kernel = [rhs.shape[axis] for axis in convolution.dimension_numbers.rhs_spec[2:]]
    if not all_known(kernel) or math.prod(kernel) > _MAX_POSITIONS:
        g.unsupported(
            "a convolution that TensorFlow has no kernel for (its types or number of axes), with a "
            f"kernel of unknown size or more than {_MAX_POSITIONS} elements"
        )

    def convolved(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        dtype = out.dtype.numpy_dtype
        return _convolved(lhs.astype(dtype), rhs.astype(dtype), out.shape, convolution)

    return traced(g, convolved, lhs, rhs)[0]


def _convolved(
    lhs: jax.Array, rhs: jax.Array, shape: Sequence[int], convolution: Convolution
) -> jax.Array:
    numbers = convolution.dimension_numbers
    lhs, rhs = lhs.transpose(numbers.lhs_spec), rhs.transpose(numbers.rhs_spec)
    parts = convolution.batch_group_count
    if is_grouped(parts):  # groups of the batch become groups of the channels
        batch, channels, *space = lhs.shape
        lhs = lhs.reshape((parts, batch // parts, channels, *space))
        lhs = jnp.moveaxis(lhs, 0, 1).reshape((batch // parts, parts * channels, *space))
    groups = parts * convolution.feature_group_count
    lhs = _grouped(lhs, 1, groups)  # [batch, group, channel, *space]
    rhs = _grouped(rhs, 0, groups)  # [group, out channel, channel, *kernel]
    spread = zip(convolution.padding, convolution.lhs_dilation, strict=True)
    config = [(low, high, step - 1) for (low, high), step in spread]
    lhs = lax.pad(lhs, jnp.zeros((), lhs.dtype), [(0, 0, 0)] * 3 + config)
    sizes = [shape[axis] for axis in numbers.out_spec]
    total = _sum_of_products(lhs, rhs, sizes[2:], convolution)  # [group, batch, *space, channel]
    rank = len(sizes)
    total = total.transpose((1, 0, rank, *range(2, rank)))
    return total.reshape(sizes).transpose([numbers.out_spec.index(i) for i in range(rank)])


def _grouped(x: jax.Array, axis: int, groups: int) -> jax.Array:
    return x.reshape((*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :]))


def _sum_of_products(
    lhs: jax.Array, rhs: jax.Array, space: Sequence[int], convolution: Convolution
) -> jax.Array:
    kernel = rhs.shape[3:]
    total = jnp.zeros((lhs.shape[1], lhs.shape[0], *space, rhs.shape[1]), lhs.dtype)
    for place in itertools.product(*map(range, kernel)):
        starts = [p * step for p, step in zip(place, convolution.rhs_dilation, strict=True)]
        steps = [1, 1, 1, *convolution.window_strides]
        limits = [
            start + (size - 1) * step + 1
            for start, size, step in zip(starts, space, convolution.window_strides, strict=True)
        ]
        part = lax.slice(lhs, [0, 0, 0, *starts], [*lhs.shape[:3], *limits], steps)
        weights = rhs[(slice(None), slice(None), slice(None), *place)]
        total = total + lax.dot_general(part, weights, (((2,), (2,)), ((1,), (0,))))
    return total
