"""A step of a diffusion model in plain JAX: time embedding, denoiser, noise from a random key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from savax.function import function
from savax.trackable import Module, TrackedState
from savax.types import TensorSpec
from tests.zoo.case import ZooModel, integers, normal

DIM, WIDTH, STEPS = 6, 32, 50
BETAS = np.linspace(1e-4, 0.05, STEPS, dtype=np.float32)
ALPHAS = np.cumprod(1 - BETAS)


def init() -> list:
    sizes = [(DIM + WIDTH, 64), (64, 64), (64, DIM)]
    return [
        {"w": jnp.asarray(normal(i, m, n) / np.sqrt(m)), "b": jnp.zeros(n)}
        for i, (m, n) in enumerate(sizes)
    ]


def _time_embedding(t):
    frequencies = jnp.exp(-jnp.arange(0, 1, 2 / WIDTH) * np.log(10_000.0))
    angles = t[:, None].astype(jnp.float32) * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def step(params, x, t, seed):
    """Takes points x [batch, DIM], their times t [batch] and a seed []; returns points of t - 1."""
    y = jnp.concatenate([x, _time_embedding(t)], axis=-1)
    for p in params[:-1]:
        y = jax.nn.silu(y @ p["w"] + p["b"])
    noise = y @ params[-1]["w"] + params[-1]["b"]
    beta, alpha = jnp.asarray(BETAS)[t][:, None], jnp.asarray(ALPHAS)[t][:, None]
    mean = (x - beta / jnp.sqrt(1 - alpha) * noise) / jnp.sqrt(1 - beta)
    key = jax.random.fold_in(jax.random.key(seed), 7)
    fresh = jax.random.normal(key, x.shape)
    kept = jnp.where((t > 0)[:, None], jnp.sqrt(beta) * fresh, 0)
    return {"previous": mean + kept, "noise": noise}


class Served(Module):
    def __init__(self, params: list) -> None:
        super().__init__()
        self.params = TrackedState(params, trainable=True)

    @function(
        input_signature=[
            TensorSpec(["batch", DIM], name="x"),
            TensorSpec(["batch"], "int32", name="t"),
            TensorSpec([], "int32", name="seed"),
        ]
    )
    def __call__(self, x, t, seed):
        return step(self.params.value, x, t, seed)


def diffusion() -> ZooModel:
    params = init()
    runs = [
        {"x": normal(b, b, DIM), "t": integers(b, STEPS, b), "seed": np.int32(41 + b)}
        for b in (1, 3)
    ]

    @jax.jit
    def reference(x, t, seed):
        return step(params, x, t, seed)

    return ZooModel("Diffusion step", "JAX", Served(params), reference, runs)
