"""How large models are exported: a thousand layers, and the structure of GPT-2 XL.

Each export is a process of its own; measured are the time, and the memory beyond the imports. The
transformer's bfloat16 weights are zeros, which take no memory until they are copied, as each is
once by its Variable: a second copy anywhere would show. With ``--large`` it has 48 layers and 1.6
billion parameters, else 2 layers.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import resource

import jax
import jax.numpy as jnp
import numpy as np

import savax as sx
from benchmarks._rows import Options, Row, run_alone
from benchmarks._timing import run_program
from benchmarks.growth import Deep

WIDTH, HEADS, WORDS, POSITIONS = 1600, 25, 50257, 1024


def zeros(*shape: int) -> sx.Variable:
    return sx.Variable(np.zeros(shape, jnp.bfloat16))


class Block(sx.Module):
    """Attention and two dense layers, each after a normalisation."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = zeros(WIDTH, 3 * WIDTH), zeros(WIDTH, WIDTH)
        self.up, self.down = zeros(WIDTH, 4 * WIDTH), zeros(4 * WIDTH, WIDTH)
        self.biases = [zeros(n * WIDTH) for n in (3, 1, 4, 1)]
        self.norms = [(zeros(WIDTH), zeros(WIDTH)) for _ in range(2)]

    def attention(self, x: Any) -> Any:
        qkv = x @ self.qkv + self.biases[0]
        q, k, v = jnp.split(qkv.reshape(*x.shape[:2], 3 * HEADS, WIDTH // HEADS), 3, axis=2)
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return mixed.reshape(x.shape) @ self.out + self.biases[1]

    def dense(self, x: Any) -> Any:
        return jax.nn.gelu(x @ self.up + self.biases[2]) @ self.down + self.biases[3]

    def normed(self, x: Any, index: int) -> Any:
        scale, offset = self.norms[index]
        return jax.nn.standardize(x, epsilon=1e-5) * scale + offset

    def __call__(self, x: Any) -> Any:
        x = x + self.attention(self.normed(x, 0))
        return x + self.dense(self.normed(x, 1))


class Transformer(sx.Module):
    """GPT-2 XL with fewer or as many layers."""

    def __init__(self, layers: int):
        super().__init__()
        self.words, self.positions = zeros(WORDS, WIDTH), zeros(POSITIONS, WIDTH)
        self.blocks = [Block() for _ in range(layers)]

    @sx.function(
        input_signature=[sx.TensorSpec(["batch", "length"], sx.int32, name="tokens")],
        constraints=(f"length <= {POSITIONS}",),
    )
    def __call__(self, tokens):
        x = self.words[tokens] + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return {"logits": x[:, -1] @ self.words.value.T}


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def child(model_name: str, layers: int) -> None:
    """Exports a model and prints what it took."""
    imported = peak_bytes()
    model = Deep(layers) if model_name == "deep" else Transformer(layers)
    weights = sum(math.prod(v.shape) * v.dtype.size for v in model.variables)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        sx.saved_model.save(model, directory)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": peak_bytes() - imported, "weights": weights}))


def export(model_name: str, layers: int) -> Any:
    return run_program(["-m", "benchmarks.scale", "--export", model_name, str(layers)]).reported


def measure(options: Options) -> list[Row]:
    small, large = export("deep", 100), export("deep", 1000)
    layers = 48 if options.large else 2
    half, whole = export("gpt", layers // 2), export("gpt", layers)
    return [
        Row("export of 1,000 layers", "100 layers", large["seconds"], small["seconds"], 12.0, "s"),
        Row("memory of it", "100 layers", large["peak"], small["peak"], 12.0, "MB"),
        Row(
            f"export of {whole['weights'] / 2e9:.2f} billion bfloat16",
            f"{half['weights'] / 2e9:.2f} billion",
            whole["seconds"],
            half["seconds"],
            2.4,
            "s",
        ),
        Row("memory of it", "its weights", whole["peak"], whole["weights"], 1.2, "MB"),
    ]


if __name__ == "__main__":
    if "--export" in sys.argv:
        child(sys.argv[-2], int(sys.argv[-1]))
    else:
        run_alone("scale", measure)
