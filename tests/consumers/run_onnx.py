"""Runs the default signature of a SavedModel by tf2onnx and onnxruntime.

``python run_onnx.py MODEL INPUTS.npz OUTPUTS.npz``; inputs and outputs by the signature's names.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime


def main() -> None:
    model_path, inputs_path, outputs_path = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        onnx_path = os.path.join(folder, "model.onnx")
        command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", model_path]
        command += ["--signature_def", "serving_default", "--opset", "18", "--output", onnx_path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        session = onnxruntime.InferenceSession(onnx_path, providers=["CPUExecutionProvider"])
    inputs = np.load(inputs_path)
    feeds = {port.name: inputs[port.name] for port in session.get_inputs()}
    names = [port.name for port in session.get_outputs()]
    results = dict(zip(names, session.run(None, feeds), strict=True))
    np.savez(outputs_path, **results)


if __name__ == "__main__":
    main()
