"""Runs models of the zoo by readers of SavedModels: a cell for each model and reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from savax.errors import UnsupportedTargetError
from savax.saved_model import SaveOptions, save
from tests.consumers.readers import OF_TENSORFLOW, Job, Outcome, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.zoo.case import Arrays, ZooModel


def run_cells(
    reader: str, models: Mapping[str, ZooModel], folder: Path, environments: str | None
) -> dict[str, str | None]:
    """Saves models for a reader and runs them by it.

    Args:
      reader: one of ``tests.consumers.readers``.
      models: by name.
      folder: where they are saved.
      environments: the directory of the readers' environments.

    Returns:
      For each model what went wrong, or None if the reader computes what JAX does.
    """
    target = "tensorflow" if reader in OF_TENSORFLOW else reader
    refused, jobs = {}, {}
    for name, model in models.items():
        directory = folder / reader / name
        try:
            save(model.module, directory, options=SaveOptions(target=target))
        except UnsupportedTargetError as error:
            refused[name] = Outcome((), f"{type(error).__name__}: {error}")
        else:
            jobs[name] = Job(directory, model.runs)
    ran = dict(zip(jobs, run(reader, list(jobs.values()), environments), strict=True))
    outcomes = {name: {**refused, **ran}[name] for name in models}
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
