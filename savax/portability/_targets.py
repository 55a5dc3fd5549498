"""The programs that a model can be written for, and the names that they go by."""

from __future__ import annotations

from savax.errors import InvalidArgumentError

CONSUMERS: dict[str, str] = {
    "litert": "LiteRT (TensorFlow Lite), its builtin ops",
    "tfjs": "TensorFlow.js, by its converter",
    "onnx": "ONNX, by tf2onnx, in onnxruntime",
    "openvino": "OpenVINO",
}

TENSORFLOW = "tensorflow"
PORTABLE = "portable"
TARGETS = (TENSORFLOW, *CONSUMERS, PORTABLE)


def consumers_of(target: str) -> tuple[str, ...]:
    """Returns the consumers that have to run what is written for a target.

    Args:
      target: ``"tensorflow"``, which runs every op, the name of a consumer, or ``"portable"``.

    Raises:
      InvalidArgumentError: there is no such target.
    """
    if target == TENSORFLOW:
        return ()
    if target == PORTABLE:
        return tuple(CONSUMERS)
    if target not in CONSUMERS:
        raise InvalidArgumentError(f"target is one of {', '.join(TARGETS)}, got {target!r}.")
    return (target,)


def checked_target(target: str | None) -> str | None:
    """Returns a target, or None if there is none.

    Raises:
      InvalidArgumentError: there is no such target.
    """
    if target is not None:
        consumers_of(target)
    return target
