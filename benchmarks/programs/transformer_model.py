"""An encoder of 23 million parameters in plain JAX: 6 layers of width 384 and 32,000 words."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LAYERS, WIDTH, HEADS, WORDS, SEQUENCE = 6, 384, 12, 32_000, 64


def make_parameters() -> dict[str, Any]:
    """Returns random float32 arrays."""
    generator = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray[Any, Any]:
        return (generator.random(shape, np.float32) - 0.5) * np.float32(2 / np.sqrt(shape[0]))

    def layer() -> dict[str, Any]:
        return {
            "qkv": weights(WIDTH, 3 * WIDTH),
            "out": weights(WIDTH, WIDTH),
            "up": weights(WIDTH, 4 * WIDTH),
            "down": weights(4 * WIDTH, WIDTH),
            "scales": np.ones((2, WIDTH), np.float32),
            "offsets": np.zeros((2, WIDTH), np.float32),
        }

    return {
        "words": weights(WORDS, WIDTH),
        "positions": weights(SEQUENCE, WIDTH),
        "layers": [layer() for _ in range(LAYERS)],
        "head": weights(WIDTH, 2),
    }


def _norm(x: Any, scale: Any, offset: Any) -> Any:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    centered = x - mean
    variance = jnp.mean(centered * centered, axis=-1, keepdims=True)
    return centered * jax.lax.rsqrt(variance + 1e-6) * scale + offset


def _attention(x: Any, layer: dict[str, Any]) -> Any:
    qkv = (x @ layer["qkv"]).reshape(*x.shape[:2], 3, HEADS, WIDTH // HEADS)
    q, k, v = (qkv[:, :, i] for i in range(3))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(WIDTH // HEADS).astype(np.float32)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)
    return mixed.reshape(x.shape) @ layer["out"]


def apply(parameters: dict[str, Any], tokens: Any) -> dict[str, Any]:
    """Returns two logits for each sequence of SEQUENCE tokens."""
    x = jnp.asarray(parameters["words"])[tokens] + parameters["positions"]
    for layer in parameters["layers"]:
        scales, offsets = jnp.asarray(layer["scales"]), jnp.asarray(layer["offsets"])
        x = x + _attention(_norm(x, scales[0], offsets[0]), layer)
        x = x + jax.nn.gelu(_norm(x, scales[1], offsets[1]) @ layer["up"]) @ layer["down"]
    return {"logits": jnp.mean(x, axis=1) @ parameters["head"]}
