"""Runs the default signature of a SavedModel by OpenVINO's own reader.

``python run_openvino.py MODEL INPUTS.npz OUTPUTS.npz``; arrays go by the names of the signature.
"""

from __future__ import annotations

import sys

import numpy as np
import openvino


def main() -> None:
    model_path, inputs_path, outputs_path = sys.argv[1:]
    model = openvino.Core().read_model(model_path)
    # f32 all through: some processors would compute in bf16 otherwise.
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = np.load(inputs_path)
    feeds = {}
    for port in compiled.inputs:
        name = next(name for name in inputs if any(_matches(name, own) for own in port.names))
        feeds[port] = inputs[name]
    results = compiled(feeds)
    outputs = {}
    for position, port in enumerate(compiled.outputs):
        outputs[_output_name(port.names)] = results[position]
    np.savez(outputs_path, **outputs)


def _matches(name: str, own: str) -> bool:
    return own in (name, f"serving_default_{name}", f"serving_default_{name}:0")


def _output_name(names: set[str]) -> str:
    # A port has the signature's name beside that of the tensor in the graph.
    return min(names, key=lambda name: (":" in name, "/" in name, len(name)))


if __name__ == "__main__":
    main()
