"""The table of models and readers: measured figures, and the page made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.consumers.readers import OF_TENSORFLOW, OTHERS, versions
from tests.zoo.cells import run_cells
from tests.zoo.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.zoo.case import ZooModel

READERS = (*OF_TENSORFLOW, *OTHERS)
FIGURES = Path(__file__).parent / "consumers.json"
PAGE = Path(__file__).parents[2] / "docs" / "consumers.md"

_TITLES = {
    "tensorflow": "`tf.saved_model.load`",
    "session": "v1 session",
    "c_api": "C API",
    "openvino": "OpenVINO",
    "onnx": "ONNX",
    "litert": "LiteRT",
    "tfjs": "TF.js",
}

_TOP = """\
# Models and the programs that run them

<!-- Written by tools/report_consumers.py; change that instead. -->

Small models of known architectures, written with flax, equinox and plain JAX, are saved by savax
and run by the programs that read SavedModels. Each runs with two batch sizes (the one with state:
three steps) and must give what JAX gives, within rounding. The models are in `tests/zoo`; how they
are wrapped is shown in [Coming from JAX](coming_from_jax.md). For each program but TensorFlow they
are saved with the `target` of its name; see [Portability](portability.md).

"""


def measure(
    readers: Iterable[str], models: Mapping[str, ZooModel], folder: Path, environments: str
) -> dict[str, Any]:
    """Runs all models by some readers; returns the figures, as ``write`` takes them."""
    readers = list(readers)
    return {
        "models": {name: [model.name, model.library] for name, model in models.items()},
        "versions": {reader: versions(reader, environments) for reader in readers},
        "cells": {reader: run_cells(reader, models, folder, environments) for reader in readers},
    }


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Returns figures with those of some readers replaced."""
    return {
        "models": new["models"],
        "versions": {**old["versions"], **new["versions"]},
        "cells": {**old["cells"], **new["cells"]},
    }


def load() -> dict[str, Any]:
    """Returns the figures of the last run."""
    found: dict[str, Any] = json.loads(FIGURES.read_text())
    return found


def write(figures: dict[str, Any]) -> None:
    """Writes the figures and the page; errors are cut to their starts."""
    for cells in figures["cells"].values():
        cells.update({k: v and " ".join(v.split())[:1500] for k, v in cells.items()})
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    PAGE.write_text(page(figures))


def page(figures: dict[str, Any]) -> str:
    """Returns the text of docs/consumers.md."""
    reasons = _reasons(figures)
    total = sum(len(cells) for cells in figures["cells"].values())
    red = sum(error is not None for cells in figures["cells"].values() for error in cells.values())
    lines = [f"**{total - red} of {total} cells are equal.** Numbers name the reasons below."]
    lines += ["", f"| model | with | {' | '.join(_TITLES[reader] for reader in READERS)} |"]
    lines += [f"|---|---|{'---|' * len(READERS)}"]
    for name, (title, library) in figures["models"].items():
        cells = [_cell(reasons, reader, name, figures) for reader in READERS]
        lines.append(f"| {title} | {library} | {' | '.join(cells)} |")
    lines += ["", "## Reasons", ""]
    lines += [f"{number}. {reason}" for reason, number in reasons.items()]
    lines += ["", "## Versions", ""]
    for reader in READERS:
        found = ", ".join(f"{k} {v}" for k, v in figures["versions"][reader].items())
        lines.append(f"- {_TITLES[reader]}: {found}")
    return _TOP + "\n".join(lines) + "\n"


def _reasons(figures: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in figures["models"]:
        for reader in READERS:
            if figures["cells"][reader][name] is not None:
                found.setdefault(_reason(reader, name, figures), len(found) + 1)
    return found


def _reason(reader: str, name: str, figures: dict[str, Any]) -> str:
    limit = LIMITS.get((reader, name))
    return limit.reason if limit else f"Unknown: {figures['cells'][reader][name]}"


def _cell(reasons: dict[str, int], reader: str, name: str, figures: dict[str, Any]) -> str:
    if figures["cells"][reader][name] is None:
        return "equal"
    return f"no ({reasons[_reason(reader, name, figures)]})"
