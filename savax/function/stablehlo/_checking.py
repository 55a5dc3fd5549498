"""Modules of files, read by a process of their own before this one does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jax.extend.mlir.dialects import stablehlo

from savax.errors import (
    CorruptSavedModelError,
    InvalidArgumentError,
    ResourceLimitError,
    UnsupportedError,
)
from savax.function.stablehlo import _modules
from savax.function.stablehlo._targets import TARGETS_OF_JAX, TARGETS_OF_XLA
from savax.protos import stablehlo_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.stablehlo._modules import Tensor

_SECONDS = 600

_DIALECTS = frozenset({"builtin", "chlo", "func", "stablehlo"})
_HOST_OPS = frozenset({f"stablehlo.{name}" for name in ("infeed", "outfeed", "recv", "send")})


@dataclass(frozen=True)
class CheckedModule:
    """A module that has been read and written anew.

    Attributes:
      artifact: the module, without lines of source code.
      arguments: of its main function.
      results: of its main function.
      fixed: the module for the shapes that it was read for.
      fixed_results: its results for these.
      shape_error: why it can't have them.
    """

    artifact: bytes
    arguments: list[Tensor]
    results: list[Tensor]
    fixed: bytes
    fixed_results: list[Tensor]
    shape_error: str | None


def checked_module(artifact: bytes, shapes: Sequence[Sequence[int]], where: str) -> CheckedModule:
    """Returns a module of which nothing is known yet.

    Args:
      artifact: the bytes of a portable artifact.
      shapes: of the last arguments of its main function; those before are scalars.
      where: the node that has it, for messages.

    Raises:
      CorruptSavedModelError: it is no StableHLO module.
      UnsupportedError: it is of a newer version than this JAX reads, or does what a loaded model
        may not do.
      ResourceLimitError: reading it takes too long.
    """
    _check_header(artifact, where)
    found, rest = _read_in_process(artifact, shapes, where)
    if "error" in found:
        raise CorruptSavedModelError(f"The module of {where} is damaged: {found['error']}")
    _check_contents(found, where)
    clean, fixed = rest[: found["clean_bytes"]], rest[found["clean_bytes"] :]
    return CheckedModule(
        clean,
        found["arguments"],
        found["results"],
        fixed,
        found.get("fixed_results", []),
        found.get("shape_error"),
    )


def fixed_module(
    module: CheckedModule, shapes: Sequence[Sequence[int]], where: str
) -> tuple[bytes, list[Tensor]]:
    """Returns a checked module for other shapes of its arguments, and its results.

    Raises:
      InvalidArgumentError: the module doesn't take these shapes.
    """
    try:
        fixed = _modules.refined(_modules.read_module(module.artifact), shapes)
        return _modules.write_module(fixed), _modules.describe(fixed)["results"]
    except Exception as error:  # MLIR and XLA have several classes of their own
        raise shape_error(str(error), where) from error


def shape_error(message: str, where: str) -> InvalidArgumentError:
    """Returns the error that says why a module doesn't take shapes."""
    reason = re.search(r"error: (.*)", message)
    text = reason.group(1) if reason else message
    return InvalidArgumentError(f"The module of {where} doesn't take these shapes: {text}")


def _check_header(artifact: bytes, where: str) -> None:
    version = stablehlo_version(artifact)
    if version is None:
        raise CorruptSavedModelError(f"The module of {where} is no StableHLO portable artifact.")
    newest = stablehlo.get_current_version()
    if _numbers(version) > _numbers(newest):
        raise UnsupportedError(
            f"The module of {where} is written in StableHLO {version}, and this JAX reads "
            f"StableHLO up to {newest}. A newer jaxlib reads it."
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _read_in_process(
    artifact: bytes, shapes: Sequence[Sequence[int]], where: str
) -> tuple[dict[str, Any], bytes]:
    request = json.dumps({"shapes": [list(shape) for shape in shapes]}).encode() + b"\n"
    # The process finds the packages of this one, and doesn't look for accelerators.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment["JAX_PLATFORMS"] = "cpu"
    try:
        done = subprocess.run(
            [sys.executable, "-P", _modules.__file__],
            input=request + artifact,
            capture_output=True,
            timeout=_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, TypeError) as error:  # TypeError: Python doesn't know its own program
        raise UnsupportedError(
            f"The module of {where} is read in a process of its own, which didn't start: {error}"
        ) from error
    except subprocess.TimeoutExpired:
        raise ResourceLimitError(
            f"The module of {where} wasn't read in {_SECONDS} seconds."
        ) from None
    header, _, rest = done.stdout.partition(b"\n")
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise ResourceLimitError(f"Reading the module of {where} takes too much time or memory.")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise CorruptSavedModelError(
            f"The module of {where} is damaged: MLIR's reader crashes on it ({name})."
        )
    if done.returncode or not header:
        message = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UnsupportedError(f"The process that reads the module of {where} failed: {message}")
    return json.loads(header), rest


def _check_contents(found: dict[str, Any], where: str) -> None:
    if found["devices"] != 1:
        raise UnsupportedError(
            f"The module of {where} is a program for {found['devices']} devices; savax runs those "
            "for one."
        )
    strange = [op for op in found["ops"] if op.partition(".")[0] not in _DIALECTS]
    if strange:
        raise UnsupportedError(
            f"The module of {where} has operations that aren't StableHLO: {', '.join(strange)}."
        )
    hosted = sorted(_HOST_OPS.intersection(found["ops"]))
    if hosted:
        raise UnsupportedError(
            f"The module of {where} exchanges data with the host by {', '.join(hosted)}, which a "
            "loaded model may not."
        )
    calls = sorted(set(found["custom_calls"]) - TARGETS_OF_XLA - TARGETS_OF_JAX)
    if calls:
        raise UnsupportedError(
            f"The module of {where} calls functions outside of StableHLO, which a loaded model may "
            f"not: {', '.join(calls)}."
        )
