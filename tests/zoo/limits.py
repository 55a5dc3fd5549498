"""The cells that fail, with the reason: what the reader lacks."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limit:
    """Why readers can't run a model.

    Attributes:
      found: text that the reader's error, or the difference from JAX, has.
      reason: a sentence for the table's page.
    """

    found: str
    reason: str


_STATE = "Variables become constants in the conversion; assignments are lost."
_RANDOM = "Lacks operations on bits (`Bitcast`, shifts), which random numbers are made with."
_SCATTER = "`ScatterNd` overwrites where indices repeat; TensorFlow's adds."
_LISTS = (
    "Lists of tensors need a static shape of their elements, and the batch size is unknown here. "
    "Save with a static batch size."
)

LIMITS: dict[tuple[str, str], Limit] = {
    ("openvino", "gpt_with_state"): Limit("logits differs", _STATE),
    ("onnx", "gpt_with_state"): Limit("logits differs", _STATE),
    ("tfjs", "gpt_with_state"): Limit("Identity_1 is not in graph", _STATE),
    ("openvino", "diffusion"): Limit("Bitcast", _RANDOM),
    ("onnx", "diffusion"): Limit("Bitcast", _RANDOM),
    ("litert", "diffusion"): Limit("LeftShift", _RANDOM),
    ("tfjs", "diffusion"): Limit("LeftShift", _RANDOM),
    ("openvino", "gnn"): Limit("graphs differs", _SCATTER),
    ("onnx", "gnn"): Limit("graphs differs", _SCATTER),
    ("litert", "lstm_seq2seq"): Limit("requires element_shape to be static", _LISTS),
    ("litert", "gru_seq2seq"): Limit("requires element_shape to be static", _LISTS),
    ("tfjs", "bert"): Limit("Erfc", "Lacks `Erfc`."),
    ("onnx", "bert"): Limit(
        "Invalid position of 0", "Joins two `Reshape`s wrongly when it optimizes the graph."
    ),
    ("onnx", "gru_seq2seq"): Limit(
        "bound to different types (tensor(int32) and tensor(int64)",
        "The counter of a loop becomes int64; what is computed from it stays int32.",
    ),
    ("onnx", "physics"): Limit(
        "SSA form", "Nodes of a loop inside a loop get the names of nodes outside it."
    ),
}
