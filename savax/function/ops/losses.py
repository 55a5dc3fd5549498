"""Cross entropies with their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from savax.function.ops._registry import evaluates

if TYPE_CHECKING:
    from jax import Array


@evaluates("SoftmaxCrossEntropyWithLogits")
def _softmax_cross_entropy(features: Array, labels: Array) -> tuple[Array, Array]:
    features, labels = jnp.broadcast_arrays(features, labels)
    log_probabilities = jax.nn.log_softmax(features, axis=-1)
    loss = -jnp.sum(labels * log_probabilities, axis=-1)
    return loss, jnp.exp(log_probabilities) - labels


@evaluates("SparseSoftmaxCrossEntropyWithLogits")
def _sparse_softmax_cross_entropy(features: Array, labels: Array) -> tuple[Array, Array]:
    features, labels = jnp.asarray(features), jnp.asarray(labels)
    classes = features.shape[-1]
    log_probabilities = jax.nn.log_softmax(features, axis=-1)
    valid = ((labels >= 0) & (labels < classes))[:, None]
    index = jnp.clip(labels, 0, max(classes - 1, 0)).astype(jnp.int32)[:, None]
    # A label outside the classes gives NaN, as on TensorFlow's GPUs; its CPU kernel fails.
    nan = jnp.asarray(jnp.nan, features.dtype)
    chosen = jnp.where(valid, jnp.take_along_axis(log_probabilities, index, axis=-1), nan)
    one_hot = (index == jnp.arange(classes, dtype=jnp.int32)).astype(features.dtype)
    return -chosen[:, 0], jnp.where(valid, jnp.exp(log_probabilities) - one_hot, nan)
