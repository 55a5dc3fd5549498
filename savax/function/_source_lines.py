"""Which line of the user's code an equation or an exception comes from."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any

import jax
import jaxlib
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

# Frames of files below these folders are machinery between the user's line and the equation:
# JAX, numpy, savax itself, and the standard library (contextlib, functools, threading).
_SAVAX_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_STANDARD_FOLDER = os.path.dirname(os.path.abspath(traceback.__file__))
_MACHINERY_FOLDERS = tuple(
    os.path.join(folder, "")
    for folder in (
        os.path.dirname(os.path.abspath(jax.__file__)),
        os.path.dirname(os.path.abspath(jaxlib.__file__)),
        os.path.dirname(os.path.abspath(np.__file__)),
        _SAVAX_FOLDER,
    )
)
_RULES_FOLDER = os.path.join(_SAVAX_FOLDER, "function", "ops", "")
_SITE_PACKAGES = os.path.join(_STANDARD_FOLDER, "site-packages", "")


def is_user_file(file_name: str) -> bool:
    """Whether code in a file is neither JAX's, nor savax's, nor the standard library's."""
    path = os.path.abspath(file_name)
    if path.startswith(_MACHINERY_FOLDERS) or file_name.startswith("<frozen"):
        return False
    in_standard_library = path.startswith(os.path.join(_STANDARD_FOLDER, ""))
    return not in_standard_library or path.startswith(_SITE_PACKAGES)


def recorded_frames(equation: Any) -> tuple[Any, ...]:
    """Returns the frames that made an equation, innermost first, JAX's own among them.

    Args:
      equation: an equation of a jaxpr, or a JAX traceback object.
    """
    source_info = getattr(equation, "source_info", None)
    recorded = equation if source_info is None else source_info.traceback
    return tuple(getattr(recorded, "frames", None) or ())


def user_frame(equation: Any) -> str:
    """Returns where the user's code made an equation, as ``"file:line (function)"``.

    Args:
      equation: an equation of a jaxpr, or a JAX traceback object.

    Returns:
      The innermost line that belongs to the user; ``"unknown line"`` if JAX recorded none.
    """
    for frame in recorded_frames(equation):
        if is_user_file(frame.file_name):
            return f"{frame.file_name}:{frame.line_num} ({frame.function_name})"
    return "unknown line"


def is_of_rule(equation: Any) -> bool:
    """Whether a lowering rule that is written in JAX made an equation, not the user's program."""
    return any(frame.file_name.startswith(_RULES_FOLDER) for frame in recorded_frames(equation))


def user_frames(equations: Iterable[Any]) -> list[Any]:
    """Returns the frames of the user's code that made an equation, outermost first.

    JAX may record the whole stack for an equation of an inner function, or what is inside that
    function only; the frames of the equations around it come first then.

    Args:
      equations: an equation and those that it is part of, outermost first.

    Returns:
      JAX's frames: ``file_name``, ``function_name``, ``line_num``.
    """
    trace: list[Any] = []
    for equation in equations:
        frames = recorded_frames(equation)
        found = [frame for frame in frames[::-1] if is_user_file(frame.file_name)]
        if trace and found and _place(found[0]) != _place(trace[0]):
            trace = [*trace, *found]
        else:
            trace = found or trace
    return trace


def _place(frame: Any) -> tuple[str, str]:
    return frame.file_name, frame.function_name


def error_frame(error: BaseException) -> str:
    """Returns where the user's code raised an exception, as ``"file:line (function)"``."""
    summaries = traceback.extract_tb(error.__traceback__)
    for frame in reversed(summaries):
        if is_user_file(frame.filename):
            return f"{frame.filename}:{frame.lineno} ({frame.name})"
    return "unknown line"
