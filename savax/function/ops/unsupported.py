"""Primitives that savax doesn't lower, and why."""

from __future__ import annotations

_CALLBACK = "Python code on the host can't be part of a SavedModel; compute it outside the function"
_COLLECTIVE = "a SavedModel runs on one device; save the function without pmap or shard_map"

# Name of the primitive -> what to say about it, with the cure.
REASONS: dict[str, str] = {
    "all_gather": _COLLECTIVE,
    "all_to_all": _COLLECTIVE,
    "axis_index": _COLLECTIVE,
    "debug_callback": "jax.debug.print and jax.debug.callback run Python code; remove them",
    "debug_print": "jax.debug.print runs Python code; remove it",
    "infeed": _COLLECTIVE,
    "io_callback": _CALLBACK,
    "outfeed": _COLLECTIVE,
    "pallas_call": "a Pallas kernel has no TensorFlow form; give a reference implementation",
    "pmax": _COLLECTIVE,
    "pmin": _COLLECTIVE,
    "ppermute": _COLLECTIVE,
    "psum": _COLLECTIVE,
    "psum_scatter": _COLLECTIVE,
    "pure_callback": _CALLBACK,
    "shard_map": _COLLECTIVE,
    "xla_pmap": _COLLECTIVE,
}
