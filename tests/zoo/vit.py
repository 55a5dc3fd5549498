"""Vision transformer in flax linen: patches, class token, encoder blocks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from savax.function import function
from savax.trackable import Module, TrackedState
from savax.types import TensorSpec
from tests.zoo.case import ZooModel, filled, normal


class EncoderBlock(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads)(y, y)
        y = nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(y)


class VisionTransformer(nn.Module):
    width: int = 32
    depth: int = 2
    heads: int = 4
    patch: int = 8
    classes: int = 10

    @nn.compact
    def __call__(self, images):
        size = (self.patch, self.patch)
        x = nn.Conv(self.width, size, strides=size, padding="VALID", name="embedding")(images)
        x = x.reshape(x.shape[0], -1, self.width)
        token = self.param("class_token", nn.initializers.normal(), (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(token, (x.shape[0], 1, 1)), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        for _ in range(self.depth):
            x = EncoderBlock(self.heads)(x)
        return nn.Dense(self.classes)(nn.LayerNorm()(x)[:, 0])


class Served(Module):
    def __init__(self, network: nn.Module, params: Any) -> None:
        super().__init__()
        self.network = network
        self.params = TrackedState(params, trainable=True)

    @function(input_signature=[TensorSpec([None, 32, 32, 3], name="images")])
    def __call__(self, images):
        logits = self.network.apply({"params": self.params.value}, images)
        return {"logits": logits, "label": jnp.argmax(logits, axis=-1)}


def vit() -> ZooModel:
    network = VisionTransformer()
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = filled(jax.eval_shape(network.init, jax.random.key(0), images))["params"]

    @jax.jit
    def reference(images):
        logits = network.apply({"params": params}, images)
        return {"logits": logits, "label": jnp.argmax(logits, axis=-1)}

    runs = [{"images": normal(b, b, 32, 32, 3)} for b in (1, 3)]
    return ZooModel("ViT", "flax linen", Served(network, params), reference, runs)
