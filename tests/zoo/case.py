"""What a model of the zoo is."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.trackable import Module

    Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ZooModel:
    """A model, its inputs, and what JAX computes of them.

    Attributes:
      name: of the model.
      library: that it is written with.
      module: what is saved; its ``__call__`` has a signature.
      reference: takes the inputs as keywords; returns the outputs by name, computed without savax.
      runs: inputs by name for each run: two batch sizes, or steps that follow each other.
      tolerance: absolute and relative difference from the reference that rounding explains.
    """

    name: str
    library: str
    module: Module
    reference: Callable[..., dict[str, Any]]
    runs: Sequence[Arrays]
    tolerance: float = 1e-4

    @functools.cached_property
    def expected(self) -> list[Arrays]:
        """The outputs that the reference has for each run."""
        results = (self.reference(**inputs) for inputs in self.runs)
        return [{k: np.asarray(v) for k, v in result.items()} for result in results]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def integers(seed: int, high: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape, dtype=np.int32)


def filled(shapes: Any) -> Any:
    """Returns a tree of arrays like trained ones, for what ``jax.eval_shape`` says of a model.

    Initialisers give zeros and ones for much, which hides mistakes, and take seconds to compile.
    """

    def fill(path: Any, leaf: Any) -> Any:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf  # equinox has functions among its leaves
        name = jax.tree_util.keystr(path)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        values = normal(len(name) + leaf.size, *leaf.shape)
        if len(leaf.shape) > 1:
            values *= np.sqrt(max(leaf.shape) / leaf.size)
        elif "var" in name:
            values = 0.5 + np.abs(values)
        else:
            values = ("scale" in name) + 0.1 * values
        return jax.numpy.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)
