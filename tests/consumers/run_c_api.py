"""Runs SavedModels by TensorFlow's C API, the loader of TF Serving; see jobs.py."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from jobs import work

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.tensorflow_c_api import CApiModel

if __name__ == "__main__":
    work(lambda path: CApiModel(path).run, TensorFlow=version("tensorflow-cpu"))
