"""Activation functions of neural networks, and the gradient ops of elementwise functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from savax.function.lowering._custom_gradient_calls import is_of_jax, source_of
from savax.function.lowering._primitive_scan import live_equations
from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jax import Array

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

# Klambauer et al., "Self-normalizing neural networks" (2017).
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805

_FLOATS = frozenset({"bfloat16", "float16", "float32", "float64"})

# Functions of JAX with a derivative of their own that an op has too: 0 at the kinks.
_ACTIVATIONS = {"relu": (("max",), "Relu"), "relu6": (("max", "min"), "Relu6")}


def lower_activation(g: GraphBuilder, operands: Sequence[Symbol], jaxpr: Any) -> Symbol | None:
    """Returns the result of an activation function of ``jax.nn`` that is an op, else None.

    Args:
      g: the graph builder.
      operands: operands of a ``custom_jvp`` call.
      jaxpr: what it calls.
    """
    name, _, _ = source_of(jaxpr).partition(" at ")
    if name == "logaddexp" and is_of_jax(jaxpr):
        return _softplus_of(g, *operands)
    steps, op = _ACTIVATIONS.get(name, ((), ""))
    if not op or not is_of_jax(jaxpr) or len(operands) != 1:
        return None
    equations = [equation for equation, _ in live_equations(jaxpr.jaxpr)]
    if len(equations) == 1 and equations[0].primitive.name in ("jit", "pjit"):
        equations = equations[0].params["jaxpr"].jaxpr.eqns
    (x,) = operands
    if tuple(e.primitive.name for e in equations) != steps or x.dtype.name not in _FLOATS:
        return None
    result: Symbol = g.op(op, x, shape=x.shape)
    return result


def _softplus_of(g: GraphBuilder, x: Symbol, y: Symbol) -> Symbol | None:
    """Returns ``log(exp(x) + exp(y))`` if one of the two is zero, else None."""
    if x.scalar is not None:
        x, y = y, x
    zero = None if y.scalar is None else y.scalar.constant
    if zero is None or zero != 0 or x.dtype.name not in _FLOATS or x.shape != g.out[0].shape:
        return None
    result: Symbol = g.op("Softplus", x)
    return result


@evaluates("Relu")
def _relu(features: Array) -> Array:
    return jax.nn.relu(features)


@evaluates("Relu6")
def _relu6(features: Array) -> Array:
    features = jnp.asarray(features)
    return jnp.where(features >= 6, jnp.full_like(features, 6), jax.nn.relu(features))


@evaluates("LeakyRelu")
def _leaky_relu(features: Array, *, alpha: float) -> Array:
    features = jnp.asarray(features)
    return jnp.where(features > 0, features, features * jnp.asarray(alpha, features.dtype))


@evaluates("Elu")
def _elu(features: Array) -> Array:
    return jax.nn.elu(features)


@evaluates("Selu")
def _selu(features: Array) -> Array:
    features = jnp.asarray(features)
    return _SELU_SCALE * jax.nn.elu(features, _SELU_ALPHA)


@evaluates("Softplus")
def _softplus(features: Array) -> Array:
    return jax.nn.softplus(features)


@evaluates("Softsign")
def _softsign(features: Array) -> Array:
    return jax.nn.soft_sign(features)


# Gradient ops, which exported training functions hold. Those named after a function's result take
# that result, not its argument.


@evaluates("ReluGrad")
def _relu_grad(gradients: Array, features: Array) -> Array:
    return jnp.where(jnp.greater(features, 0), gradients, jnp.zeros_like(gradients))


@evaluates("Relu6Grad")
def _relu6_grad(gradients: Array, features: Array) -> Array:
    inside = jnp.greater(features, 0) & jnp.less(features, 6)
    return jnp.where(inside, gradients, jnp.zeros_like(gradients))


@evaluates("LeakyReluGrad")
def _leaky_relu_grad(gradients: Array, features: Array, *, alpha: float) -> Array:
    gradients = jnp.asarray(gradients)
    slope = jnp.asarray(alpha, gradients.dtype)
    return jnp.where(jnp.greater(features, 0), gradients, gradients * slope)


@evaluates("EluGrad")
def _elu_grad(gradients: Array, outputs: Array) -> Array:
    gradients, outputs = jnp.asarray(gradients), jnp.asarray(outputs)
    return jnp.where(outputs < 0, gradients * (outputs + 1), gradients)


@evaluates("SeluGrad")
def _selu_grad(gradients: Array, outputs: Array) -> Array:
    gradients, outputs = jnp.asarray(gradients), jnp.asarray(outputs)
    below = gradients * (outputs + _SELU_SCALE * _SELU_ALPHA)
    return jnp.where(outputs < 0, below, gradients * _SELU_SCALE)


@evaluates("SoftplusGrad")
def _softplus_grad(gradients: Array, features: Array) -> Array:
    return jnp.multiply(gradients, lax.logistic(features))


@evaluates("SoftsignGrad")
def _softsign_grad(gradients: Array, features: Array) -> Array:
    return jnp.divide(gradients, jnp.square(1 + jnp.abs(features)))


@evaluates("SigmoidGrad")
def _sigmoid_grad(y: Array, dy: Array) -> Array:
    y, dy = jnp.asarray(y), jnp.asarray(dy)
    return dy * jnp.conj(y * (1 - y))


@evaluates("TanhGrad")
def _tanh_grad(y: Array, dy: Array) -> Array:
    y, dy = jnp.asarray(y), jnp.asarray(dy)
    return dy * jnp.conj(1 - y * y)


@evaluates("SqrtGrad")
def _sqrt_grad(y: Array, dy: Array) -> Array:
    y, dy = jnp.asarray(y), jnp.asarray(dy)
    return dy * 0.5 / jnp.conj(y)


@evaluates("RsqrtGrad")
def _rsqrt_grad(y: Array, dy: Array) -> Array:
    y, dy = jnp.asarray(y), jnp.asarray(dy)
    return dy * -0.5 * jnp.conj(y * y * y)


@evaluates("ReciprocalGrad", "InvGrad")
def _reciprocal_grad(y: Array, dy: Array) -> Array:
    y, dy = jnp.asarray(y), jnp.asarray(dy)
    return -dy * jnp.conj(y * y)
