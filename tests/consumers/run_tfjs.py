"""Runs SavedModels by the tensorflowjs converter and TF.js' CPU backend in node; see jobs.py."""

from __future__ import annotations

import base64
import importlib
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jobs import work

if TYPE_CHECKING:
    from jobs import Arrays, Runner

HERE = Path(__file__).parent


def _converter() -> Any:
    """Returns the converter's module, without importing what only Keras and forests need."""
    for name in ("tensorflowjs", "tensorflowjs.converters"):
        package = types.ModuleType(name)
        (folder,) = importlib.util.find_spec(name).submodule_search_locations
        package.__path__ = [folder]
        sys.modules[name] = package
    for name in ("tensorflow_decision_forests", "tensorflow_hub"):
        sys.modules[name] = types.ModuleType(name)
    np.object = object  # a name that numpy has dropped and the converter uses
    return importlib.import_module("tensorflowjs.converters.tf_saved_model_conversion_v2")


class Node:
    """A process that loads and runs graph models; requests and answers are lines of JSON."""

    def __init__(self) -> None:
        modules = Path(sys.prefix) / "node_modules"
        self._process = subprocess.Popen(
            ["node", HERE / "run_tfjs.mjs", modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"node ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def _encode(array: np.ndarray) -> dict[str, Any]:
    kinds = {"f": "float32", "i": "int32", "u": "int32", "b": "bool"}
    dtype = kinds[array.dtype.kind]
    data = base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode()
    return {"dtype": dtype, "shape": array.shape, "data": data}


def _decode(tensor: dict[str, Any]) -> np.ndarray:
    data = base64.b64decode(tensor["data"])
    return np.frombuffer(data, tensor["dtype"]).reshape(tensor["shape"])


def main() -> None:
    converter = _converter()
    node = Node()

    def open_model(path: str) -> Runner:
        with tempfile.TemporaryDirectory() as folder:
            converter.convert_tf_saved_model(
                path,
                folder,
                signature_def="serving_default",
                use_structured_outputs_names=True,
            )
            node.ask(load=folder)

        def run(inputs: Arrays) -> Arrays:
            answer = node.ask(inputs={name: _encode(array) for name, array in inputs.items()})
            return {name: _decode(tensor) for name, tensor in answer["outputs"].items()}

        return run

    packages = json.loads((Path(sys.prefix) / "package.json").read_text())["dependencies"]
    work(
        open_model,
        tensorflowjs=importlib.metadata.version("tensorflowjs"),
        tfjs=packages["@tensorflow/tfjs-core"],
    )


if __name__ == "__main__":
    main()
