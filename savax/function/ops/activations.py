"""Activation functions of neural networks, and the gradient ops of elementwise functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from jax import Array

# Klambauer et al., "Self-normalizing neural networks" (2017).
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


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
