"""How many nodes graphs have, op by op: what makes them grow is seen here."""

from __future__ import annotations

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.lowering_check import lower

IMAGES = np.zeros((2, 16, 16, 3), np.float32)
TOKENS = np.zeros((2, 6, 16), np.float32)
NHWC = ("NHWC", "HWIO", "NHWC")


def zeros(*shape):
    return np.zeros(shape, np.float32)


def mlp(x, w, b, v):
    return jax.nn.softmax(jax.nn.relu(x @ w + b) @ v)


def cnn(x, kernel, bias, scale, offset, mean, variance):
    x = lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=NHWC) + bias
    x = (x - mean) * (lax.rsqrt(variance + 1e-3) * scale) + offset
    x = lax.reduce_window(jax.nn.relu6(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "VALID") / 4
    return x.mean((1, 2))


def block(x, qkv, out, up, down):
    """A block of a transformer: causal attention and a network of two layers."""

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)

    b, t, d = x.shape
    q, k, v = jnp.split((norm(x) @ qkv).reshape(b, t, 4, 3 * d // 4), 3, axis=-1)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / 2
    causal = jnp.tril(jnp.ones((t, t), bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -1e9))
    x = x + jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(b, t, d) @ out
    return x + jax.nn.gelu(norm(x) @ up) @ down


def lstm(x, w, u, bias):
    def step(state, row):
        h, c = state
        i, f, g, o = jnp.split(row @ w + h @ u + bias, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[0], 4))
    (h, _), hidden = lax.scan(step, (start, start), x.swapaxes(0, 1))
    return h, hidden


@jax.jit
def _shared(x):
    for _ in range(8):
        x = jnp.tanh(x * 2) + 1
    return x


def twelve_calls(x):
    for _ in range(12):
        x = _shared(x)
    return x


# Name: function, arguments, their shapes, and how many nodes of each op the functions have.
GRAPHS = {
    "mlp": (
        mlp,
        [zeros(2, 3), zeros(3, 4), zeros(4), zeros(4, 5)],
        [(None, 3), None, None, None],
        "AddV2:1 Identity:1 MatMul:2 Relu:1 Softmax:1",
    ),
    "cnn": (
        cnn,
        [IMAGES, zeros(3, 3, 3, 4), *[zeros(4)] * 5],
        [(None, 16, 16, 3), *[None] * 6],
        "AddV2:3 AvgPool:1 Const:2 Conv2D:1 Identity:1 MaxPool:1 Mean:1 Mul:2 Relu6:1 "
        "Rsqrt:1 Sub:1",
    ),
    "transformer block": (
        block,
        [TOKENS, zeros(16, 48), zeros(16, 16), zeros(16, 32), zeros(32, 16)],
        [(None, None, 16), None, None, None, None],
        "AddV2:6 BatchMatMulV2:4 Const:18 Einsum:2 GreaterEqual:1 Identity:1 Mean:4 Mul:7 "
        "Pack:2 Range:1 RealDiv:1 Reshape:4 Rsqrt:2 SelectV2:1 Shape:1 Softmax:1 Split:1 "
        "Square:3 StridedSlice:2 Sub:2 Tanh:1",
    ),
    "lstm": (
        lstm,
        [zeros(2, 5, 3), zeros(3, 16), zeros(4, 16), zeros(16)],
        [(None, None, 3), None, None, None],
        "AddV2:4 Const:10 Fill:1 GatherV2:1 Identity:12 Less:1 MatMul:2 Mul:3 Pack:1 "
        "Shape:1 Sigmoid:3 Split:1 StatelessWhile:1 StridedSlice:2 Tanh:2 "
        "TensorListReserve:1 TensorListSetItem:1 TensorListStack:1 Transpose:1",
    ),
    "twelve calls": (
        twelve_calls,
        [zeros(3)],
        [(None,)],
        "AddV2:8 Const:2 Identity:2 Mul:8 PartitionedCall:12 Tanh:8",
    ),
}


def _counts(library):
    nodes = [node.op for function in library.functions.values() for node in function.node_def]
    return " ".join(f"{op}:{count}" for op, count in sorted(Counter(nodes).items()))


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_have_no_more_nodes_than_these(name):
    fn, args, specs, expected = GRAPHS[name]
    lowered = lower(fn, *args, specs=specs)
    assert _counts(lowered.library) == expected
