"""Runs benchmarks and writes their tables to ``results.md``.

    python -m benchmarks                  # all that fit into memory and half an hour
    python -m benchmarks calls export     # these; the others keep their old results
    python -m benchmarks --large          # also checkpoints of 4 GiB and 100,000 Variables

Each benchmark is a process of its own, and can be run alone: ``python -m benchmarks.calls``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._rows import machine, rows_from_json, table

HERE = Path(__file__).parent
TITLES = {
    "calls": "Calls",
    "bundle_io": "Checkpoint files",
    "async_saving": "Saving in the background",
    "many_variables": "Checkpoints of many Variables",
    "image_models": "Graphs beyond 2 GiB",
    "export": "Export and load, in fresh processes",
    "inference": "Steady inference",
    "tensorflow_models": "Models from TensorFlow, on one core",
    "model_zoo": "A zoo of models from TensorFlow, on one core",
    "exported_graphs": "Exports inside TensorFlow, beside Keras",
    "restart": "Restart",
    "command_line": "Start of the process",
    "growth": "Growth",
    "scale": "Scale",
}
VERSIONS = ("jax", "numpy", "protobuf", "tensorflow-cpu", "keras", "safetensors")


def run(name: str, options: list[str]) -> dict[str, object]:
    """Runs a benchmark and returns its rows with how busy the machine was before."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "rows.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *options]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", **os.environ}
        subprocess.run(command, check=True, cwd=HERE.parent, env=environment)
        return {"load": load, "rows": json.loads(file.read_text())}


def versions() -> str:
    found = []
    for name in VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def page(results: dict[str, dict]) -> str:
    """Returns the results as a page of tables."""
    parts = [
        "# Results",
        "Written by `python -m benchmarks`. Each row is a pair of medians of one run, in which\n"
        "savax and the peer took turns; a ratio of savax to the peer below 1 means that savax\n"
        "takes less. What the misses come from is in `docs/performance.md`.",
        f"{machine()}; {versions()}.",
    ]
    for name, title in TITLES.items():
        if name in results:
            busy = results[name]["load"]
            parts.append(f"## {title}\n\n`python -m benchmarks.{name}`; load before: {busy:.1f}")
            parts.append(table(rows_from_json(results[name]["rows"])))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TITLES))
    parser.add_argument("--large", action="store_true", help="also what takes long, or 8 GiB")
    parser.add_argument("--quick", action="store_true", help="a few repeats only")
    parser.add_argument("--output", type=Path, default=HERE, help="directory of the results")
    parsed = parser.parse_args()
    unknown = set(parsed.names) - set(TITLES)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    stored = parsed.output / "results.json"
    results = json.loads(stored.read_text()) if stored.exists() else {}
    options = [flag for flag in ("--large", "--quick") if getattr(parsed, flag[2:])]
    for name in parsed.names or TITLES:
        print(f"{name} ...", flush=True)
        results[name] = run(name, options)
        print(table(rows_from_json(results[name]["rows"])), flush=True)
        stored.write_text(json.dumps(results, indent=1) + "\n")
        (parsed.output / "results.md").write_text(page(results))


if __name__ == "__main__":
    main()
