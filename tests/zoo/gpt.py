"""GPT in plain JAX: the step that decodes one token, with a cache of keys and values.

Once the cache is an argument and a result, once it is state of the model.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.function import function
from savax.trackable import Module, TrackedState, Variable
from savax.types import TensorSpec
from tests.zoo.case import ZooModel, integers, normal

VOCABULARY, WIDTH, HEADS, LAYERS, LENGTH = 50, 32, 4, 2, 8
HEAD = WIDTH // HEADS


def init() -> dict:
    def weights(seed, *shape):
        return jnp.asarray(normal(seed, *shape) / np.sqrt(shape[0]))

    layers = [
        {
            "norm_1": {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)},
            "qkv": weights(10 * i + 1, WIDTH, 3 * WIDTH),
            "out": weights(10 * i + 2, WIDTH, WIDTH),
            "norm_2": {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)},
            "up": weights(10 * i + 3, WIDTH, 4 * WIDTH),
            "down": weights(10 * i + 4, 4 * WIDTH, WIDTH),
        }
        for i in range(LAYERS)
    ]
    norm = {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)}
    tokens, positions = weights(97, VOCABULARY, WIDTH), weights(98, LENGTH, WIDTH)
    return {"tokens": tokens, "positions": positions, "layers": layers, "norm": norm}


def _norm(x, p):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * p["scale"] + p["bias"]


def _attention(p, x, cache, i, position):
    """Attends from one token to those in the cache [layers, 2, batch, length, ...]."""
    batch = x.shape[0]
    q, k, v = jnp.split((x @ p["qkv"]).reshape(batch, 3 * HEADS, HEAD), 3, axis=1)
    new = jnp.stack([k, v])[None, :, :, None]
    cache = lax.dynamic_update_slice(cache, new, (i, 0, 0, position, 0, 0))
    keys, values = cache[i, 0], cache[i, 1]
    scores = jnp.einsum("bhd,bthd->bht", q, keys) / np.sqrt(HEAD)
    scores = jnp.where(jnp.arange(LENGTH) <= position, scores, -1e9)
    mixed = jnp.einsum("bht,bthd->bhd", jax.nn.softmax(scores), values)
    return mixed.reshape(batch, WIDTH) @ p["out"], cache


def decode_step(params, token, position, cache):
    """Takes a token [batch], its position [] and the cache; returns logits and the new cache."""
    x = params["tokens"][token] + params["positions"][position]
    for i, p in enumerate(params["layers"]):
        mixed, cache = _attention(p, _norm(x, p["norm_1"]), cache, i, position)
        x = x + mixed
        x = x + jax.nn.gelu(_norm(x, p["norm_2"]) @ p["up"]) @ p["down"]
    logits = _norm(x, params["norm"]) @ params["tokens"].T
    return {"logits": logits, "next": jnp.argmax(logits, -1), "new_cache": cache}


CACHE = (LAYERS, 2, "batch", LENGTH, HEADS, HEAD)


class WithCacheArgument(Module):
    def __init__(self, params: dict) -> None:
        super().__init__()
        self.params = TrackedState(params, trainable=True)

    @function(
        input_signature=[
            TensorSpec(["batch"], "int32", name="token"),
            TensorSpec([], "int32", name="position"),
            TensorSpec(CACHE, name="cache"),
        ]
    )
    def __call__(self, token, position, cache):
        return decode_step(self.params.value, token, position, cache)


class WithCacheVariable(Module):
    """Serves one conversation: it remembers what it has seen."""

    def __init__(self, params: dict) -> None:
        super().__init__()
        self.params = TrackedState(params, trainable=True)
        shape = (LAYERS, 2, 1, LENGTH, HEADS, HEAD)
        self.cache = Variable(jnp.zeros(shape), trainable=False, name="cache")
        self.position = Variable(0, trainable=False, name="position")

    @function(input_signature=[TensorSpec([1], "int32", name="token")])
    def __call__(self, token):
        results = decode_step(self.params.value, token, self.position.value, self.cache.value)
        self.cache.assign(results.pop("new_cache"))
        self.position.assign_add(1)
        return results


def _cache(batch: int) -> np.ndarray:
    return normal(batch, LAYERS, 2, batch, LENGTH, HEADS, HEAD)


def gpt() -> ZooModel:
    params = init()
    runs = [
        {"token": integers(b, VOCABULARY, b), "position": np.int32(3 + b), "cache": _cache(b)}
        for b in (1, 3)
    ]

    @jax.jit
    def reference(token, position, cache):
        return decode_step(params, token, position, cache)

    return ZooModel("GPT step", "JAX", WithCacheArgument(params), reference, runs)


def gpt_with_state() -> ZooModel:
    params = init()
    cache = jnp.zeros((LAYERS, 2, 1, LENGTH, HEADS, HEAD))
    position = 0

    def reference(token):
        nonlocal cache, position
        results = jax.jit(decode_step)(params, token, position, cache)
        cache, position = results.pop("new_cache"), position + 1
        return results

    runs = [{"token": np.array([token], np.int32)} for token in (5, 17, 3)]
    return ZooModel("GPT step, cache as state", "JAX", WithCacheVariable(params), reference, runs)
