"""Constants that are too large for a graph are refused before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import pytest

import savax as sv
from savax.errors import InvalidArgumentError
from savax.saved_model import SaveOptions, _graph_size, load, save

if TYPE_CHECKING:
    from pathlib import Path

SPEC = [sv.TensorSpec([None], sv.float32, name="x")]


class Layer(sv.Module):
    """Closes over arrays below 1 MiB, and has one that stays inside its function."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.tables = [
            sv.NoDependency(rng.random(size).astype(np.float32)) for size in (200_000, 100_000)
        ]
        self.inner = sv.NoDependency(rng.random(15_000).astype(np.float32))

    @sv.function(input_signature=SPEC)
    def __call__(self, x):
        total = jnp.sum(jnp.asarray(self.tables[0]))
        total += jnp.sum(jnp.asarray(self.tables[1]))
        return x * total + jnp.asarray(self.inner)[:3].sum()


def test_the_message_says_what_is_large_and_where(tmp_path: Path, monkeypatch) -> None:
    root = sv.Module()
    root.layers = [Layer()]
    monkeypatch.setattr(_graph_size, "MOST_GRAPH_BYTES", 1_200_000)
    with pytest.raises(InvalidArgumentError) as caught:
        save(root, tmp_path / "m")
    text = str(caught.value)
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.iterdir())
    for part in (
        "no more than 1,200,000 have a place in it",
        "savax.Variables",
        "experimental_image_format=True",
        "float32[200000], 800,000 bytes, closed over by root.layers.0.__call__.trace_0 at ",
        f"{__file__}:",
        "float32[100000], 400,000 bytes, closed over by",
        "float32[15000], 60,",
        "of root.layers.0.__call__.trace_0",
    ):
        assert part in text
    assert text.index("float32[200000]") < text.index("float32[100000]")
    save(root, tmp_path / "m", options=SaveOptions(experimental_image_format=True))
    x = np.float32([1, 2])
    np.testing.assert_allclose(load(tmp_path / "m").layers[0](x), root.layers[0](x), rtol=1e-5)


def test_equal_constants_count_once(tmp_path: Path, monkeypatch) -> None:
    array = np.random.default_rng(0).random(200_000).astype(np.float32)
    root = sv.Module()
    root.f = sv.function(lambda x: x * jnp.sum(array), input_signature=SPEC)
    root.g = sv.function(lambda x: x + jnp.max(array), input_signature=SPEC)
    monkeypatch.setattr(_graph_size, "MOST_GRAPH_BYTES", 900_000)
    save(root, tmp_path / "m", signatures=root.f)


def test_the_largest_of_many_are_named(tmp_path: Path, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.random(20_000 + i).astype(np.float32) for i in range(9)]
    root = sv.Module()
    root.f = sv.function(
        lambda x: x * sum(jnp.sum(array) for array in arrays), input_signature=SPEC
    )
    monkeypatch.setattr(_graph_size, "MOST_GRAPH_BYTES", 500_000)
    with pytest.raises(InvalidArgumentError, match=r"and 9 more") as caught:
        save(root, tmp_path / "m")
    assert str(caught.value).count("closed over by root.f.trace_0") == 5
    assert "float32[20008]" in str(caught.value)
    assert "float32[20003]" not in str(caught.value)


def test_strings_count(tmp_path: Path, monkeypatch) -> None:
    words = np.array([b"%d" % i * 100 for i in range(1000)], object)
    root = sv.Module()
    root.table = sv.lookup.StaticHashTable(
        sv.lookup.KeyValueTensorInitializer(np.arange(1000), words), b""
    )
    root.f = sv.function(
        lambda i: root.table.lookup(i), input_signature=[sv.TensorSpec([None], sv.int64)]
    )
    monkeypatch.setattr(_graph_size, "MOST_GRAPH_BYTES", 250_000)
    with pytest.raises(InvalidArgumentError, match=r"string\[1000\], 29\d,\d+ bytes"):
        save(root, tmp_path / "m")
