"""U-Net in flax nnx: convolutions with group normalisation, skips, transposed convolutions."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from savax.function import function
from savax.trackable import Module, TrackedState
from savax.types import TensorSpec
from tests.zoo.case import ZooModel, filled, normal


class DoubleConv(nnx.Module):
    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
        self.first_norm = nnx.GroupNorm(outputs, num_groups=4, rngs=rngs)
        self.second = nnx.Conv(outputs, outputs, (3, 3), rngs=rngs)
        self.second_norm = nnx.GroupNorm(outputs, num_groups=4, rngs=rngs)

    def __call__(self, x):
        x = nnx.silu(self.first_norm(self.first(x)))
        return nnx.silu(self.second_norm(self.second(x)))


class UNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.enter = DoubleConv(3, 8, rngs)
        self.down = DoubleConv(8, 16, rngs)
        self.bottom = DoubleConv(16, 32, rngs)
        self.up_1 = nnx.ConvTranspose(32, 16, (2, 2), strides=(2, 2), rngs=rngs)
        self.join_1 = DoubleConv(32, 16, rngs)
        self.up_2 = nnx.ConvTranspose(16, 8, (2, 2), strides=(2, 2), rngs=rngs)
        self.join_2 = DoubleConv(16, 8, rngs)
        self.out = nnx.Conv(8, 2, (1, 1), rngs=rngs)

    def __call__(self, images):
        a = self.enter(images)
        b = self.down(nnx.max_pool(a, (2, 2), strides=(2, 2)))
        c = self.bottom(nnx.avg_pool(b, (2, 2), strides=(2, 2)))
        b = self.join_1(jnp.concatenate([b, self.up_1(c)], axis=-1))
        a = self.join_2(jnp.concatenate([a, self.up_2(b)], axis=-1))
        return {"mask": nnx.sigmoid(self.out(a))}


class Served(Module):
    def __init__(self, model: nnx.Module) -> None:
        super().__init__()
        self.graphdef, state = nnx.split(model)
        self.state = TrackedState(state, trainable=True)

    @function(input_signature=[TensorSpec([None, 16, 16, 3], name="images")])
    def __call__(self, images):
        return nnx.merge(self.graphdef, self.state.value)(images)


def unet() -> ZooModel:
    graphdef, state = nnx.split(nnx.eval_shape(lambda: UNet(nnx.Rngs(0))))
    model = nnx.merge(graphdef, filled(state))
    runs = [{"images": normal(b, b, 16, 16, 3)} for b in (1, 3)]
    return ZooModel("U-Net", "flax nnx", Served(model), nnx.jit(model), runs)
