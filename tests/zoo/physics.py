"""Heat equation in plain JAX: implicit time steps, each solved by conjugate gradients.

The solver is a ``while_loop`` that ends when the residual is small; it is inside a ``fori_loop``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from savax.function import function
from savax.trackable import Module, Variable
from savax.types import TensorSpec
from tests.zoo.case import ZooModel, normal

SIZE, TIME_STEPS, TIME_STEP = 16, 4, 0.1


def _laplacian(u):
    """Second differences of u [batch, size, size], with u = 0 outside."""
    padded = jnp.pad(u, ((0, 0), (1, 1), (1, 1)))
    neighbours = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
    neighbours = neighbours + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return neighbours - 4 * u


def _dot(a, b):
    return jnp.sum(a * b, axis=(1, 2), keepdims=True)


def _conjugate_gradients(operator, b, tolerance):
    def unfinished(state):
        _, _, _, square, i = state
        return (jnp.max(square) > tolerance) & (i < 100)

    def step(state):
        x, residual, direction, square, i = state
        image = operator(direction)
        length = square / jnp.maximum(_dot(direction, image), 1e-30)
        x, residual = x + length * direction, residual - length * image
        new_square = _dot(residual, residual)
        direction = residual + new_square / jnp.maximum(square, 1e-30) * direction
        return x, residual, direction, new_square, i + 1

    residual = b - operator(b)
    start = (b, residual, residual, _dot(residual, residual), 0)
    x, _, _, _, steps = lax.while_loop(unfinished, step, start)
    return x, steps


def simulate(conductivity, temperature):
    """Takes the temperature [batch, size, size]; returns it after ``TIME_STEPS`` steps."""

    def operator(u):
        return u - TIME_STEP * conductivity * _laplacian(u)

    def advance(_, state):
        u, total = state
        u, steps = _conjugate_gradients(operator, u, 1e-10)
        return u, total + steps

    final, iterations = lax.fori_loop(0, TIME_STEPS, advance, (temperature, 0))
    return {"final": final, "iterations": iterations, "heat": final.sum(axis=(1, 2))}


class Served(Module):
    def __init__(self) -> None:
        super().__init__()
        self.conductivity = Variable(2.0, name="conductivity")

    @function(input_signature=[TensorSpec([None, SIZE, SIZE], name="temperature")])
    def __call__(self, temperature):
        return simulate(self.conductivity.value, temperature)


def physics() -> ZooModel:
    runs = [{"temperature": normal(b, b, SIZE, SIZE)} for b in (1, 3)]

    @jax.jit
    def reference(temperature):
        return simulate(2.0, temperature)

    return ZooModel("Heat equation", "JAX", Served(), reference, runs)
