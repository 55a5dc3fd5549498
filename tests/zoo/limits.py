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


_STATE = "Variables become constants in the conversion. savax refuses assignments for this target."
_RANDOM = "Has no integers of 64 bits and no unsigned ones, which random numbers are made with."

LIMITS: dict[tuple[str, str], Limit] = {
    ("openvino", "gpt_with_state"): Limit("UnsupportedTargetError", _STATE),
    ("onnx", "gpt_with_state"): Limit("UnsupportedTargetError", _STATE),
    ("tfjs", "gpt_with_state"): Limit("UnsupportedTargetError", _STATE),
    ("tfjs", "diffusion"): Limit("UnsupportedTargetError", _RANDOM),
}
