"""Models of known architectures run where their users want them, and give what JAX gives."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("flax")
pytest.importorskip("equinox")

from tests.consumers.readers import OF_TENSORFLOW, OTHERS
from tests.zoo.cells import difference, run_cells
from tests.zoo.limits import LIMITS
from tests.zoo.models import MAKERS

if TYPE_CHECKING:
    from tests.zoo.case import ZooModel

ENVIRONMENTS = os.environ.get("SAVAX_CONSUMERS")
NAMES = [maker.__name__ for maker in MAKERS]


@pytest.fixture(scope="module")
def models() -> dict[str, ZooModel]:
    return {maker.__name__: maker() for maker in MAKERS}


@pytest.fixture(scope="module")
def cells(models, tmp_path_factory):
    """Returns what a reader makes of a model; each reader runs all of them at once."""
    found = {}

    def cell(reader: str, name: str) -> str | None:
        if reader not in found:
            folder = tmp_path_factory.mktemp("zoo")
            found[reader] = run_cells(reader, models, folder, ENVIRONMENTS)
        return found[reader][name]

    return cell


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_savax_computes_what_jax_does(maker, models) -> None:
    fresh = maker()  # it may have state
    outputs = [fresh.module(**inputs) for inputs in fresh.runs]
    assert difference(models[maker.__name__], outputs) is None


@pytest.mark.tf
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", OF_TENSORFLOW)
def test_tensorflow_computes_what_jax_does(reader, name, cells) -> None:
    assert cells(reader, name) is None


@pytest.mark.consumer
@pytest.mark.skipif(ENVIRONMENTS is None, reason="see tests/consumers/README.md")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", OTHERS)
def test_other_readers_compute_what_jax_does(reader, name, cells) -> None:
    limit = LIMITS.get((reader, name))
    found = cells(reader, name)
    if limit is None:
        assert found is None
    else:
        assert limit.found in found
