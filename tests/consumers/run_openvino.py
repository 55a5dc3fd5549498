"""Runs SavedModels by OpenVINO's own reader; see jobs.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openvino
from jobs import work

if TYPE_CHECKING:
    from jobs import Arrays, Runner


def open_model(path: str) -> Runner:
    model = openvino.Core().read_model(path)
    # f32 all through: some processors would compute in bf16 otherwise.
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(inputs: Arrays) -> Arrays:
        feeds = {}
        for port in compiled.inputs:
            name = next(name for name in inputs if any(_matches(name, own) for own in port.names))
            feeds[port] = inputs[name]
        results = compiled(feeds)
        ports = enumerate(compiled.outputs)
        return {_output_name(port.names): results[position] for position, port in ports}

    return run


def _matches(name: str, own: str) -> bool:
    return own in (name, f"serving_default_{name}", f"serving_default_{name}:0")


def _output_name(names: set[str]) -> str:
    # A port has the signature's name beside that of the tensor in the graph.
    return min(names, key=lambda name: (":" in name, "/" in name, len(name)))


if __name__ == "__main__":
    work(open_model, OpenVINO=openvino.__version__.split("-")[0])
