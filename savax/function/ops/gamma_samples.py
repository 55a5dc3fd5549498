"""Samples of the gamma distribution, and derivatives of the incomplete gamma function."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from savax.function.ops._detours import in_float
from savax.function.ops._registry import evaluates, lowers
from savax.function.ops._traced import traced
from savax.function.ops.random import generator_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol


@lowers("random_gamma")
def _lower_random_gamma(
    g: GraphBuilder, keys: Symbol, a: Symbol, *, log_space: bool, operand_types: Any
) -> Symbol:
    # JAX's primitive has no smaller parts; its own implementation is what makes equal samples.
    sample = _implementation(log_space)
    generator = generator_name(operand_types)

    def samples(words: jax.Array, a: jax.Array) -> Any:
        return sample(jax.random.wrap_key_data(words, impl=generator), a)

    return traced(g, samples, keys, a)[0]


@functools.cache
def _implementation(log_space: bool) -> Callable[..., Any]:
    """Returns the function of keys and parameters that JAX's gamma sampler is."""
    draw = jax.random.loggamma if log_space else jax.random.gamma
    key = jax.random.key(0)
    jaxpr = jax.make_jaxpr(draw)(key, jnp.ones(1, jnp.float32))
    primitive = _find(jaxpr.jaxpr, "random_gamma").primitive
    batched = {"use_vmap": True} if "use_vmap" in _parameters(primitive.impl) else {}
    return functools.partial(primitive.impl, log_space=log_space, **batched)


def _parameters(fn: Any) -> Any:
    return inspect.signature(fn).parameters


def _find(jaxpr: Any, name: str) -> Any:
    """Returns the first equation of a primitive, also inside others; None if there is none."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == name:
            return equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)
            found = None if inner is None else _find(inner, name)
            if found is not None:
                return found
    return None


@lowers("igamma_grad_a")
def _lower_igamma_grad_a(g: GraphBuilder, a: Symbol, x: Symbol) -> Symbol:
    return in_float(g, "IgammaGradA", a, x)


@evaluates("IgammaGradA")
def _igamma_grad_a(a: jax.Array, x: jax.Array) -> jax.Array:
    return lax.igamma_grad_a(*jnp.broadcast_arrays(a, x))


@evaluates("RandomGammaGrad")
@jax.jit
def _random_gamma_grad(alpha: jax.Array, sample: jax.Array) -> jax.Array:
    slope: jax.Array = lax.random_gamma_grad(*jnp.broadcast_arrays(alpha, sample))
    return slope
