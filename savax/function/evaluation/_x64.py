# mypy: disable-error-code="no-untyped-call,untyped-decorator"
"""64-bit values inside traces of callers that have JAX's 64-bit types switched off.

``with jax.enable_x64(True)`` around a call isn't enough under the caller's ``jax.jit`` or
``jax.grad``: JAX lowers and transposes after the context has ended. ``x64_call`` binds a primitive
whose every rule enters the context again.

This file and `_linear_maps` alone use JAX's interpreter interfaces, which may change between
versions.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from savax.function._jax_names import get_opaque_trace_state, take_current_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SCOPE = Primitive("x64_scope")
_SCOPE.multiple_results = True

# Programs of scopes that run outside of any trace, and scopes derived from others.
_CACHE_SIZE = 512

# The state outside of any trace, even if this module is imported inside one.
with take_current_trace():
    _NO_TRACE = get_opaque_trace_state()


def x64_enabled() -> bool:
    """Whether 64-bit types are on in this thread now."""
    return bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]


def in_trace() -> bool:
    """Whether JAX traces or transforms a function in this thread now."""
    return bool(get_opaque_trace_state() != _NO_TRACE)


def concrete_64(value: Any) -> Any:
    """Returns a host array as a JAX array of its own dtype, also of 64 bits; others as they are."""
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.itemsize < 8:
        return value
    with take_current_trace(), jax.enable_x64(True):
        return jax.numpy.asarray(value)


def as_int64(value: Any) -> Any:
    """Returns an array of integers as one of int64; a traced one as it is."""
    if isinstance(value, jax.core.Tracer):
        return value
    with take_current_trace(), jax.enable_x64(True):
        return value.astype(np.int64)


def trace_x64(fn: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, Any]:
    """Returns the jaxpr of a function with 64-bit types on, and the structure of its results."""
    specs = jax.tree.map(_spec, args)
    with jax.enable_x64(True):
        jaxpr, shapes = jax.make_jaxpr(fn, return_shape=True)(*specs)
    return jaxpr, jax.tree.structure(shapes)


def x64_call(jaxpr: ClosedJaxpr, *operands: Any) -> list[Any]:
    """Computes a jaxpr with 64-bit types on, whatever trace this is called in."""
    results: list[Any] = _SCOPE.bind(*operands, jaxpr=jaxpr)
    return results


def _spec(value: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(value), value.dtype)


def _make_jaxpr(fn: Callable[..., Any], avals: Sequence[Any]) -> ClosedJaxpr:
    with jax.enable_x64(True):
        return jax.make_jaxpr(fn)(*[_spec(aval) for aval in avals])


@functools.lru_cache(_CACHE_SIZE)
def _compiled(jaxpr: ClosedJaxpr) -> Callable[..., Any]:
    return jax.jit(jaxpr_as_fun(jaxpr))


@_SCOPE.def_impl
def _run(*operands: Any, jaxpr: ClosedJaxpr) -> Any:
    with jax.enable_x64(True):
        return _compiled(jaxpr)(*operands)


@_SCOPE.def_abstract_eval
def _abstract(*_: Any, jaxpr: ClosedJaxpr) -> Any:
    return jaxpr.out_avals


def _lower(ctx: Any, *operands: Any, jaxpr: ClosedJaxpr) -> Any:
    with jax.enable_x64(True):
        return mlir.lower_fun(jaxpr_as_fun(jaxpr), multiple_results=True)(ctx, *operands)


mlir.register_lowering(_SCOPE, _lower)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, jaxpr: ClosedJaxpr) -> Any:
    """Binds two scopes, one for values and one for tangents only, so that the second is linear."""
    results = _SCOPE.bind(*primals, jaxpr=jaxpr)
    moving = tuple(not isinstance(tangent, ad.Zero) for tangent in tangents)
    derived, smooth = _tangent_jaxpr(jaxpr, moving)
    given = [tangent for tangent, moves in zip(tangents, moving, strict=True) if moves]
    found = iter(_SCOPE.bind(*primals, *given, jaxpr=derived) if any(smooth) else ())
    return results, [
        next(found) if is_smooth else ad.Zero(aval.to_tangent_aval())
        for is_smooth, aval in zip(smooth, jaxpr.out_avals, strict=True)
    ]


@functools.lru_cache(_CACHE_SIZE)
def _tangent_jaxpr(
    jaxpr: ClosedJaxpr, moving: tuple[bool, ...]
) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    """Returns the jaxpr from values and moving tangents to tangents of the smooth results."""
    count = len(moving)
    fn = jaxpr_as_fun(jaxpr)
    smooth = tuple(jax.numpy.issubdtype(a.dtype, jax.numpy.inexact) for a in jaxpr.out_avals)

    def tangents_of(*operands: Any) -> list[Any]:
        primals, given = list(operands[:count]), list(operands[count:])
        positions = [i for i, moves in enumerate(moving) if moves]

        def of_moving(*values: Any) -> list[Any]:
            full = list(primals)
            for i, value in zip(positions, values, strict=True):
                full[i] = value
            return [y for y, is_smooth in zip(fn(*full), smooth, strict=True) if is_smooth]

        return list(jax.jvp(of_moving, [primals[i] for i in positions], given)[1])

    given_avals = [aval for aval, moves in zip(jaxpr.in_avals, moving, strict=True) if moves]
    return _make_jaxpr(tangents_of, [*jaxpr.in_avals, *given_avals]), smooth


ad.primitive_jvps[_SCOPE] = _jvp


def _transpose(cotangents: Sequence[Any], *operands: Any, jaxpr: ClosedJaxpr) -> Any:
    linear = tuple(ad.is_undefined_primal(operand) for operand in operands)
    given = tuple(not isinstance(ct, ad.Zero) for ct in cotangents)
    known = [x for x, is_linear in zip(operands, linear, strict=True) if not is_linear]
    passed = [ct for ct, is_given in zip(cotangents, given, strict=True) if is_given]
    found = iter(_SCOPE.bind(*known, *passed, jaxpr=_transposed_jaxpr(jaxpr, linear, given)))
    return [next(found) if is_linear else None for is_linear in linear]


@functools.lru_cache(_CACHE_SIZE)
def _transposed_jaxpr(
    jaxpr: ClosedJaxpr, linear: tuple[bool, ...], given: tuple[bool, ...]
) -> ClosedJaxpr:
    """Returns the jaxpr from known operands and given cotangents to those of linear operands."""
    fn = jaxpr_as_fun(jaxpr)
    linear_avals = [a for a, is_linear in zip(jaxpr.in_avals, linear, strict=True) if is_linear]
    known_avals = [a for a, is_linear in zip(jaxpr.in_avals, linear, strict=True) if not is_linear]

    def transposed(*operands: Any) -> Any:
        known, passed = operands[: len(known_avals)], operands[len(known_avals) :]

        def of_linear(*values: Any) -> list[Any]:
            rest, moving = iter(known), iter(values)
            full = [next(moving) if is_linear else next(rest) for is_linear in linear]
            return [y for y, is_given in zip(fn(*full), given, strict=True) if is_given]

        return jax.linear_transpose(of_linear, *[_spec(a) for a in linear_avals])(list(passed))

    out_avals = [a for a, is_given in zip(jaxpr.out_avals, given, strict=True) if is_given]
    return _make_jaxpr(transposed, [*known_avals, *out_avals])


ad.primitive_transposes[_SCOPE] = _transpose


def _batch(operands: Sequence[Any], dims: Sequence[Any], *, jaxpr: ClosedJaxpr) -> Any:
    size = next(x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not None)
    batched = _batched_jaxpr(jaxpr, tuple(dims), size)
    return _SCOPE.bind(*operands, jaxpr=batched), [0] * len(jaxpr.out_avals)


@functools.lru_cache(_CACHE_SIZE)
def _batched_jaxpr(jaxpr: ClosedJaxpr, dims: tuple[int | None, ...], size: int) -> ClosedJaxpr:
    avals = []
    for aval, dim in zip(jaxpr.in_avals, dims, strict=True):
        shape = list(aval.shape)
        if dim is not None:
            shape.insert(dim, size)
        avals.append(jax.ShapeDtypeStruct(tuple(shape), aval.dtype))
    return _make_jaxpr(jax.vmap(jaxpr_as_fun(jaxpr), in_axes=dims, axis_size=size), avals)


batching.primitive_batchers[_SCOPE] = _batch
