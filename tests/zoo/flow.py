"""Normalizing flow in equinox: affine couplings, log-likelihood and its inverse."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from savax.function import function
from savax.trackable import Module, TrackedState
from savax.types import TensorSpec
from tests.zoo.case import ZooModel, filled, normal

DIM = 4


class Coupling(eqx.Module):
    """Scales and shifts one half of a vector by what the other half says."""

    network: eqx.nn.MLP
    flipped: bool = eqx.field(static=True)

    def _parameters(self, kept):
        scale, shift = jnp.split(self.network(kept), 2)
        return jnp.tanh(scale), shift

    def forward(self, x):
        kept, moved = jnp.split(x[::-1] if self.flipped else x, 2)
        scale, shift = self._parameters(kept)
        y = jnp.concatenate([kept, moved * jnp.exp(scale) + shift])
        return (y[::-1] if self.flipped else y), scale.sum()

    def inverse(self, y):
        kept, moved = jnp.split(y[::-1] if self.flipped else y, 2)
        scale, shift = self._parameters(kept)
        x = jnp.concatenate([kept, (moved - shift) * jnp.exp(-scale)])
        return x[::-1] if self.flipped else x


class Flow(eqx.Module):
    couplings: list[Coupling]

    def __init__(self, key: jax.Array) -> None:
        self.couplings = [
            Coupling(eqx.nn.MLP(DIM // 2, DIM, 16, 2, jax.nn.silu, key=k), bool(i % 2))
            for i, k in enumerate(jax.random.split(key, 4))
        ]

    def log_density(self, x):
        total = 0.0
        for coupling in self.couplings:
            x, log_det = coupling.forward(x)
            total = total + log_det
        return jax.scipy.stats.norm.logpdf(x).sum() + total, x

    def sample(self, latent):
        for coupling in reversed(self.couplings):
            latent = coupling.inverse(latent)
        return latent


def evaluate(flow: Flow, points):
    log_density, latent = jax.vmap(flow.log_density)(points)
    back = jax.vmap(flow.sample)(latent)
    return {"log_density": log_density, "latent": latent, "sampled": back}


class Served(Module):
    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = TrackedState(flow, trainable=True)

    @function(input_signature=[TensorSpec([None, DIM], name="points")])
    def __call__(self, points):
        return evaluate(self.flow.value, points)


def flow() -> ZooModel:
    model = filled(eqx.filter_eval_shape(Flow, jax.random.key(0)))
    runs = [{"points": normal(b, b, DIM)} for b in (1, 3)]

    @jax.jit
    def reference(points):
        return evaluate(model, points)

    return ZooModel("Normalizing flow", "equinox", Served(model), reference, runs)
