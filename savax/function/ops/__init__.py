"""Rules of all op families; importing this package registers them."""

from __future__ import annotations

from savax.function.ops import (
    bitwise,
    blocks,
    calls,
    casting,
    complex_numbers,
    control_flow_evaluations,
    creation,
    diagnostics,
    elementwise,
    gathering,
    joining,
    logical,
    matrices,
    scattering,
    segments,
    shaping,
    slicing,
    special_functions,
    state,
)

__all__ = [
    "bitwise",
    "blocks",
    "calls",
    "casting",
    "complex_numbers",
    "control_flow_evaluations",
    "creation",
    "diagnostics",
    "elementwise",
    "gathering",
    "joining",
    "logical",
    "matrices",
    "scattering",
    "segments",
    "shaping",
    "slicing",
    "special_functions",
    "state",
]
