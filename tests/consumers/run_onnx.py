"""Runs SavedModels by tf2onnx and onnxruntime; see jobs.py."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

import onnxruntime
import tf2onnx.convert
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
    # The command's own entry, which reads its arguments as a command does.
    arguments = ["--saved-model", path, "--signature_def", "serving_default", "--opset", "18"]
    sys.argv = ["tf2onnx.convert", *arguments, "--output", onnx_path]
    tf2onnx.convert.main()


if __name__ == "__main__":
    work(open_model, tf2onnx=tf2onnx.__version__, onnxruntime=onnxruntime.__version__)
