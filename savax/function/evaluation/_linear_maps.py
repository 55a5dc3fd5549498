# mypy: disable-error-code="no-untyped-call,untyped-decorator"
"""Linear functions that are known by their transpose.

A model has gradient functions, which take gradients of results to gradients of inputs. The
derivative in forward mode goes the other way, from tangents of inputs to tangents of results.
``push_tangents`` binds a primitive that stands for it. Reverse mode transposes the primitive, which
runs the gradient function as it is. Only forward mode makes the transpose of the gradient function.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.core
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from savax.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# From residuals and gradients of results to gradients of inputs, one for each tangent.
Pull: TypeAlias = "Callable[[list[Any], list[Any]], list[Any]]"

_PUSH = Primitive("push_tangents")
_PUSH.multiple_results = True


@dataclass(frozen=True, eq=False)
class _Map:
    """A linear function.

    Attributes:
      pull: its transpose.
      where: what it belongs to, for errors.
      num_residuals: how many of the operands are no tangents.
      results: shapes and dtypes of its results.
    """

    pull: Pull
    where: str
    num_residuals: int
    results: tuple[jax.ShapeDtypeStruct, ...]


def push_tangents(
    pull: Pull,
    where: str,
    residuals: Sequence[Any],
    tangents: Sequence[Any],
    results: Sequence[jax.ShapeDtypeStruct],
) -> list[Any]:
    """Returns the tangents of results.

    Args:
      pull: what takes residuals and gradients of the results to gradients of the inputs; linear in
        the gradients.
      where: what it belongs to, for errors.
      residuals: arrays.
      tangents: of the inputs.
      results: shapes and dtypes of the results.
    """
    linear = _Map(pull, where, len(residuals), tuple(results))
    found: list[Any] = _PUSH.bind(*residuals, *tangents, linear=linear)
    return found


@_PUSH.def_impl
def pushed(*operands: Any, linear: _Map) -> list[Any]:
    """Computes the tangents of results by the transpose of ``pull``."""
    residuals, tangents = operands[: linear.num_residuals], operands[linear.num_residuals :]

    def of_gradients(*gradients: Any) -> list[Any]:
        return linear.pull(list(residuals), list(gradients))

    try:
        return list(jax.linear_transpose(of_gradients, *linear.results)(list(tangents)))
    except Exception as error:
        raise UnsupportedError(
            f"The custom gradient of {linear.where} can't be used in forward mode (jax.jvp, "
            "jax.jacfwd), because JAX can't transpose it: it isn't linear in the gradients that "
            "it gets, is a compiled module, has operations on the host, or a loop of unknown "
            "length. Reverse mode (jax.grad, jax.jacrev) works. JAX's error: "
            f"{type(error).__name__}: {error}"
        ) from error


@_PUSH.def_abstract_eval
def _abstract(*_: Any, linear: _Map) -> list[Any]:
    return [jax.core.ShapedArray(spec.shape, spec.dtype) for spec in linear.results]


mlir.register_lowering(_PUSH, mlir.lower_fun(pushed, multiple_results=True))


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, linear: _Map) -> Any:
    count = linear.num_residuals
    moving = [ad.instantiate_zeros(tangent) for tangent in tangents]
    if all(isinstance(tangent, ad.Zero) for tangent in tangents[:count]):
        results = _PUSH.bind(*primals, linear=linear)
        return results, _PUSH.bind(*primals[:count], *moving[count:], linear=linear)

    push = functools.partial(pushed, linear=linear)
    return jax.jvp(push, list(primals), moving)


ad.primitive_jvps[_PUSH] = _jvp


def _transpose(cotangents: Sequence[Any], *operands: Any, linear: _Map) -> list[Any]:
    residuals, tangents = operands[: linear.num_residuals], operands[linear.num_residuals :]
    found = linear.pull(list(residuals), [ad.instantiate_zeros(ct) for ct in cotangents])
    return [None] * len(residuals) + [
        gradient if ad.is_undefined_primal(tangent) else None
        for gradient, tangent in zip(found, tangents, strict=True)
    ]


ad.primitive_transposes[_PUSH] = _transpose


def _batch(operands: Sequence[Any], dims: Sequence[Any], *, linear: _Map) -> Any:
    size = next(x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not None)
    count = linear.num_residuals
    tangents = [
        jnp.broadcast_to(x, (size, *x.shape)) if dim is None else jnp.moveaxis(x, dim, 0)
        for x, dim in zip(operands[count:], dims[count:], strict=True)
    ]
    pull = jax.vmap(linear.pull, in_axes=(list(dims[:count]), 0), axis_size=size)
    results = tuple(
        jax.ShapeDtypeStruct((size, *spec.shape), spec.dtype) for spec in linear.results
    )
    batched = replace(linear, pull=pull, results=results)
    found = _PUSH.bind(*operands[:count], *tangents, linear=batched)
    return found, [0] * len(found)


batching.primitive_batchers[_PUSH] = _batch
