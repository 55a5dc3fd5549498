"""Runs models of the zoo by readers of SavedModels: a cell for each model and reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from savax.saved_model import save
from tests.consumers.readers import Job, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.zoo.case import Arrays, ZooModel


def run_cells(
    reader: str, models: Mapping[str, ZooModel], folder: Path, environments: str | None
) -> dict[str, str | None]:
    """Saves models and runs them by a reader.

    Args:
      reader: one of ``tests.consumers.readers``.
      models: by name.
      folder: where they are saved.
      environments: the directory of the readers' environments.

    Returns:
      For each model what went wrong, or None if the reader computes what JAX does.
    """
    jobs = []
    for name, model in models.items():
        directory = folder / reader / name
        save(model.module, directory)
        jobs.append(Job(directory, model.runs))
    outcomes = dict(zip(models, run(reader, jobs, environments), strict=True))
    return {
        name: outcome.error or difference(models[name], outcome.outputs)
        for name, outcome in outcomes.items()
    }


def difference(model: ZooModel, outputs: list[Arrays]) -> str | None:
    """Returns how the outputs of a model's runs differ from the reference, or None."""
    for got, want in zip(outputs, model.expected, strict=True):
        if set(got) != set(want):
            return f"outputs are {sorted(got)}, not {sorted(want)}"
        for key, value in want.items():
            if got[key].shape != value.shape:
                return f"{key} has shape {got[key].shape}, not {value.shape}"
            if not np.allclose(got[key], value, model.tolerance, model.tolerance):
                return f"{key} differs by {np.abs(got[key] - value).max():.3g}"
    return None
