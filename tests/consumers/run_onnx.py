"""Runs SavedModels by tf2onnx and onnxruntime; see jobs.py."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import onnxruntime
from jobs import work

if TYPE_CHECKING:
    from jobs import Arrays, Runner


def open_model(path: str) -> Runner:
    with tempfile.TemporaryDirectory() as folder:
        onnx_path = os.path.join(folder, "model.onnx")
        _convert(path, onnx_path)
        session = onnxruntime.InferenceSession(onnx_path, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        feeds = {port.name: inputs[port.name] for port in session.get_inputs()}
        return dict(zip(names, session.run(None, feeds), strict=True))

    return run


def _convert(path: str, onnx_path: str) -> None:
    # The command in a process of its own: it goes on after errors and only logs them.
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", path]
    command += ["--signature_def", "serving_default", "--opset", "18", "--output", onnx_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])


if __name__ == "__main__":
    work(open_model)
