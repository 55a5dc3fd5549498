"""Models of every family that savax lowers, written in JAX as a user would; and their inputs."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function import function
from savax.trackable import Module, Variable
from savax.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable


def weights(seed: int, *shape: int, name: str) -> Variable:
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(max(1, int(np.prod(shape[:-1]))))
    return Variable((rng.standard_normal(shape) * scale).astype(np.float32), name=name)


class Mlp(Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = (8, 16, 16, 3)
        self.kernels = [
            weights(i, m, n, name=f"kernel_{i}")
            for i, (m, n) in enumerate(itertools.pairwise(sizes))
        ]
        self.biases = [weights(9 + i, n, name=f"bias_{i}") for i, n in enumerate(sizes[1:])]

    @function(input_signature=[TensorSpec([None, 8], name="x")])
    def __call__(self, x):
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            x = x @ kernel + bias
            x = jax.nn.relu(x) if i == 0 else jnp.tanh(x) if i == 1 else x
        return {"logits": x, "probabilities": jax.nn.softmax(x)}


class Cnn(Module):
    """Strides, dilation, groups, depthwise kernels, pooling, batch normalisation; NHWC."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = weights(0, 3, 3, 3, 8, name="stem")
        self.grouped = weights(1, 3, 3, 4, 8, name="grouped")
        self.depthwise = weights(2, 3, 3, 1, 8, name="depthwise")
        self.dilated = weights(3, 3, 3, 8, 8, name="dilated")
        self.pointwise = weights(4, 1, 1, 8, 16, name="pointwise")
        self.head = weights(5, 16, 10, name="head")
        self.gamma = Variable(np.ones(8, np.float32), name="gamma")
        self.mean = Variable(np.full(8, 0.1, np.float32), trainable=False, name="mean")
        self.variance = Variable(np.full(8, 0.9, np.float32), trainable=False, name="variance")

    @function(input_signature=[TensorSpec([None, 16, 16, 3], name="images")])
    def __call__(self, images):
        def conv(x, kernel, strides=(1, 1), padding="SAME", **options):
            layout = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(
                x, kernel.value, strides, padding, dimension_numbers=layout, **options
            )

        x = conv(images, self.stem, (2, 2))
        x = (x - self.mean) * lax.rsqrt(self.variance + 1e-3) * self.gamma
        x = jax.nn.relu(x)
        x = conv(x, self.grouped, feature_group_count=2)
        x = jax.nn.silu(conv(x, self.depthwise, feature_group_count=8))
        x = conv(x, self.dilated, padding="VALID", rhs_dilation=(2, 2))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
        x = jax.nn.relu6(conv(x, self.pointwise, padding=[(1, 0), (0, 1)]))
        x = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "VALID") / 4
        return {"logits": jnp.mean(x, axis=(1, 2)) @ self.head}


class CnnChannelsFirst(Module):
    """The same operations as PyTorch users write them: NCHW, and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = weights(0, 6, 2, 3, 3, name="stem")
        self.up = weights(1, 3, 3, 6, 4, name="up")

    @function(input_signature=[TensorSpec([None, 2, 9, 9], name="images")])
    def __call__(self, images):
        x = lax.conv_general_dilated(
            images,
            self.stem.value,
            (2, 2),
            [(1, 1), (1, 1)],
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
        )
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 1, 1), "VALID")
        x = jnp.transpose(jax.nn.leaky_relu(x), (0, 2, 3, 1))
        x = lax.conv_transpose(x, self.up.value, (2, 2), "SAME")
        return {"map": jax.nn.sigmoid(x), "flat": x.reshape(x.shape[0], -1)}


class Transformer(Module):
    """Embedding, causal attention with heads, layer norm, gelu, tied output; two None dims."""

    width, heads, vocabulary = 16, 4, 50

    def __init__(self) -> None:
        super().__init__()
        d = self.width
        self.embedding = weights(0, self.vocabulary, d, name="embedding")
        self.positions = weights(1, 32, d, name="positions")
        self.blocks = [
            {
                "qkv": weights(10 * i + 2, d, 3 * d, name="qkv"),
                "out": weights(10 * i + 3, d, d, name="out"),
                "up": weights(10 * i + 4, d, 4 * d, name="up"),
                "down": weights(10 * i + 5, 4 * d, d, name="down"),
                "scale": Variable(np.ones(d, np.float32), name="scale"),
                "offset": Variable(np.zeros(d, np.float32), name="offset"),
            }
            for i in range(2)
        ]

    def norm(self, x, block):
        mean = x.mean(-1, keepdims=True)
        variance = x.var(-1, keepdims=True)
        return (x - mean) * lax.rsqrt(variance + 1e-6) * block["scale"] + block["offset"]

    def attention(self, x, block):
        b, t, d = x.shape
        qkv = (x @ block["qkv"]).reshape(b, t, 3, self.heads, d // self.heads)
        q, k, v = (qkv[:, :, i] for i in range(3))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(d // self.heads)
        causal = jnp.arange(t)[:, None] >= jnp.arange(t)[None, :]
        probabilities = jax.nn.softmax(jnp.where(causal, scores, -1e9), axis=-1)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", probabilities, v)
        return mixed.reshape(b, t, d) @ block["out"]

    @function(input_signature=[TensorSpec([None, None], "int32", name="tokens")])
    def __call__(self, tokens):
        x = self.embedding.value[tokens] + self.positions.value[: tokens.shape[1]]
        for block in self.blocks:
            x = x + self.attention(self.norm(x, block), block)
            x = x + jax.nn.gelu(self.norm(x, block) @ block["up"]) @ block["down"]
        logits = x @ self.embedding.value.T
        return {"logits": logits, "next": jnp.argmax(logits[:, -1], axis=-1)}


class Lstm(Module):
    """An LSTM by ``lax.scan`` over a batch of sequences."""

    units = 6

    def __init__(self) -> None:
        super().__init__()
        self.kernel = weights(0, 4, 4 * self.units, name="kernel")
        self.recurrent = weights(1, self.units, 4 * self.units, name="recurrent")
        self.bias = weights(2, 4 * self.units, name="bias")

    @function(input_signature=[TensorSpec([None, 7, 4], name="sequence")])
    def __call__(self, sequence):
        kernel, recurrent, bias = self.kernel.value, self.recurrent.value, self.bias.value

        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((sequence.shape[0], self.units))
        (last, _), outputs = lax.scan(step, (zeros, zeros), jnp.swapaxes(sequence, 0, 1))
        return {"last": last, "outputs": jnp.swapaxes(outputs, 0, 1)}


class ControlFlow(Module):
    """while, fori, cond and switch, with closures over Variables."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = Variable(0.5, name="rate")

    @function(
        input_signature=[TensorSpec([None, 3], name="x"), TensorSpec([], "int32", name="which")]
    )
    def __call__(self, x, which):
        rate = self.rate.value
        halved = lax.while_loop(
            lambda s: jnp.max(jnp.abs(s[0])) > 1, lambda s: (s[0] * rate, s[1] + 1), (x, 0)
        )
        powered = lax.fori_loop(0, 3, lambda i, y: y * rate + i, x)
        chosen = lax.switch(which, [lambda y: y + 1, lambda y: jnp.sin(y), lambda y: y * rate], x)
        sign = lax.cond(x.sum() > 0, lambda y: y, lambda y: -y, x)
        return {"halved": halved[0], "steps": halved[1], "mix": powered + chosen + sign}


@jax.custom_jvp
def smooth(x):
    return jnp.log1p(jnp.exp(x))


smooth.defjvp(
    lambda primals, tangents: (smooth(*primals), jax.nn.sigmoid(primals[0]) * tangents[0])
)


@jax.custom_vjp
def clipped(x):
    return x * 2


clipped.defvjp(lambda x: (x * 2, None), lambda _, g: (jnp.clip(g, -1, 1) * 2,))


class Misc(Module):
    """Casts, slices, concat, gather, one_hot, argmax, top_k, cumsum, einsum, custom derivatives.

    Two inputs whose unknown batch sizes must agree, as users of TensorFlow write it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = weights(0, 11, 5, name="table")

    @function(
        input_signature=[
            TensorSpec([None, 5], name="x"),
            TensorSpec([None], "int64", name="ids"),
            TensorSpec([None, 5], name="y"),
        ]
    )
    def __call__(self, x, ids, y):
        rows = self.table.value[ids] + x
        both = jnp.concatenate([rows, y], axis=-1)
        values, indices = lax.top_k(both, 3)
        onehot = jax.nn.one_hot(ids, 11, dtype=jnp.float32)
        return {
            "both": both[:, 1:-1][:, ::2],
            "last": both[-1],
            "values": values,
            "indices": indices,
            "best": jnp.argmax(both, axis=1),
            "sums": jnp.cumsum(both, axis=1),
            "mixed": jnp.einsum("bi,bj->bij", rows, onehot @ self.table),
            "smooth": smooth(x) + clipped(y),
            "half": (x.astype(jnp.bfloat16) * 2).astype(jnp.float32),
            "mask": jnp.where(x > 0, ids[:, None], -1).astype(jnp.int32),
            "taken": jnp.take_along_axis(both, indices, axis=1),
        }


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and how to make inputs for a batch size.

    Attributes:
      name: names the case.
      make: makes the model.
      inputs: takes a batch size and a random generator; returns the arrays by input name.
      differentiated: the output whose derivatives JAX has too, by name.
      tolerance: largest difference from JAX's own result.
    """

    name: str
    make: Callable[[], Module]
    inputs: Callable[[int, np.random.Generator], dict[str, Any]]
    differentiated: str
    tolerance: float = 2e-5


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


CASES = (
    Case("mlp", Mlp, lambda b, rng: {"x": normal(rng, b, 8)}, "logits"),
    Case("cnn", Cnn, lambda b, rng: {"images": normal(rng, b, 16, 16, 3)}, "logits"),
    Case("cnn_nchw", CnnChannelsFirst, lambda b, rng: {"images": normal(rng, b, 2, 9, 9)}, "map"),
    Case(
        "transformer",
        Transformer,
        lambda b, rng: {"tokens": rng.integers(0, 50, (b, 4 + b), dtype=np.int32)},
        "logits",
    ),
    Case("lstm", Lstm, lambda b, rng: {"sequence": normal(rng, b, 7, 4)}, "outputs"),
    Case(
        "control_flow",
        ControlFlow,
        lambda b, rng: {"x": 3 * normal(rng, b, 3), "which": np.int32(b % 3)},
        "mix",
    ),
    Case(
        "misc",
        Misc,
        lambda b, rng: {
            "x": normal(rng, b, 5),
            "ids": rng.integers(0, 11, b),
            "y": normal(rng, b, 5),
        },
        "mixed",
    ),
)
