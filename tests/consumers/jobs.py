"""What the scripts ``run_*.py`` share: they take a file of jobs and write a line for each job.

``python run_X.py JOBS.json RESULTS.jsonl``. A job is ``{"model": directory, "inputs": [npz files],
"outputs": [npz files]}``: the default signature of the model runs once for each file of inputs, in
that order; arrays go by the signature's names. The first line of results is ``{"versions":
{package: version}}``; then there is a line ``{"error": text or null}`` for each job.

This file runs in the environments of the readers, so that it knows nothing but numpy.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Arrays = dict[str, np.ndarray]
    Runner = Callable[[Arrays], Arrays]


def work(open_model: Callable[[str], Runner], **versions: str) -> None:
    """Runs the jobs that the command line names, and ends the process.

    Args:
      open_model: takes the directory of a model; returns what runs its default signature.
      **versions: of the packages that do the work.
    """
    jobs_path, results_path = sys.argv[1:]
    with open(results_path, "w") as results:
        print(json.dumps({"versions": versions}), file=results, flush=True)
        for job in json.loads(Path(jobs_path).read_text()):
            print(json.dumps({"error": _error_of(job, open_model)}), file=results, flush=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # past the teardown of runtimes, in which some of them hang or crash


def _error_of(job: dict[str, Any], open_model: Callable[[str], Runner]) -> str | None:
    try:
        run = open_model(job["model"])
        for inputs_path, outputs_path in zip(job["inputs"], job["outputs"], strict=True):
            with np.load(inputs_path) as inputs:
                np.savez(outputs_path, **run(dict(inputs)))
    except Exception as error:  # readers fail with exceptions of every kind
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None
