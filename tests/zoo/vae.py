"""Variational autoencoder in equinox: single examples, vmap, convolutions channels first."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from savax.function import function
from savax.trackable import Module, TrackedState
from savax.types import TensorSpec
from tests.zoo.case import ZooModel, filled, normal

LATENT = 4


class Vae(eqx.Module):
    encoder: eqx.nn.Sequential
    decoder: eqx.nn.Sequential

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 6)
        self.encoder = eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(1, 8, 3, stride=2, padding=1, key=keys[0]),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.Conv2d(8, 16, 3, stride=2, padding=1, key=keys[1]),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.Lambda(jnp.ravel),
                eqx.nn.Linear(16 * 7 * 7, 2 * LATENT, key=keys[2]),
            ]
        )
        self.decoder = eqx.nn.Sequential(
            [
                eqx.nn.Linear(LATENT, 16 * 7 * 7, key=keys[3]),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.Lambda(lambda x: x.reshape(16, 7, 7)),
                eqx.nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1, key=keys[4]),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1, key=keys[5]),
            ]
        )

    def __call__(self, image, noise):
        mean, log_variance = jnp.split(self.encoder(image), 2)
        latent = mean + jnp.exp(0.5 * log_variance) * noise
        return {
            "image": jax.nn.sigmoid(self.decoder(latent)),
            "mean": mean,
            "log_variance": log_variance,
        }


class Served(Module):
    def __init__(self, model: eqx.Module) -> None:
        super().__init__()
        self.model = TrackedState(model, trainable=True)

    @function(
        input_signature=[
            TensorSpec(["batch", 1, 28, 28], name="images"),
            TensorSpec(["batch", LATENT], name="noise"),
        ]
    )
    def __call__(self, images, noise):
        return jax.vmap(self.model.value)(images, noise)


def vae() -> ZooModel:
    model = filled(eqx.filter_eval_shape(Vae, jax.random.key(0)))
    runs = [{"images": normal(b, b, 1, 28, 28), "noise": normal(9, b, LATENT)} for b in (1, 3)]

    @jax.jit
    def reference(images, noise):
        return jax.vmap(model)(images, noise)

    return ZooModel("VAE", "equinox", Served(model), reference, runs)
