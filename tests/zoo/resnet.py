"""ResNet in flax linen: batch normalisation with running statistics, residual stages."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from savax.function import function
from savax.trackable import Module, TrackedState
from savax.types import TensorSpec
from tests.zoo.case import ZooModel, filled, normal


class Block(nn.Module):
    """The bottleneck: 1x1, 3x3, 1x1 convolutions, and a projection where shapes change."""

    filters: int
    strides: int

    @nn.compact
    def __call__(self, x, train: bool):
        conv = functools.partial(nn.Conv, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        y = nn.relu(norm()(conv(self.filters, (1, 1))(x)))
        y = nn.relu(norm()(conv(self.filters, (3, 3), strides=self.strides)(y)))
        y = norm()(conv(4 * self.filters, (1, 1))(y))
        if x.shape != y.shape:
            x = norm()(conv(4 * self.filters, (1, 1), strides=self.strides)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    stages: tuple[int, ...] = (2, 1)
    filters: int = 8
    classes: int = 10

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(self.filters, (7, 7), strides=2, padding=3, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for i, size in enumerate(self.stages):
            for k in range(size):
                x = Block(self.filters * 2**i, 2 if i and not k else 1)(x, train)
        return nn.Dense(self.classes)(x.mean(axis=(1, 2)))


class Served(Module):
    def __init__(self, network: nn.Module, variables: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.params = TrackedState(variables["params"], trainable=True)
        self.batch_stats = TrackedState(variables["batch_stats"])

    @function(input_signature=[TensorSpec([None, 32, 32, 3], name="images")])
    def __call__(self, images):
        variables = {"params": self.params.value, "batch_stats": self.batch_stats.value}
        logits = self.network.apply(variables, images)
        return {"logits": logits, "probabilities": jax.nn.softmax(logits)}


def resnet() -> ZooModel:
    network = ResNet()
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = filled(jax.eval_shape(network.init, jax.random.key(0), images))

    @jax.jit
    def reference(images):
        logits = network.apply(variables, images)
        return {"logits": logits, "probabilities": jax.nn.softmax(logits)}

    return ZooModel(
        "ResNet",
        "flax linen",
        Served(network, variables),
        reference,
        [{"images": normal(b, b, 32, 32, 3)} for b in (1, 3)],
    )
