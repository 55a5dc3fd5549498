"""Primitives that savax doesn't lower, and why."""

from __future__ import annotations

_CALLBACK = "Python code on the host can't be part of a SavedModel; compute it outside the function"
_COLLECTIVE = "a SavedModel runs on one device; save the function without pmap or shard_map"
_LIBRARY = "it calls a library outside of the program; write it with JAX's own functions"
_KERNEL = "a Pallas kernel has no TensorFlow form; give a reference implementation"
_DECOMPOSITION = "TensorFlow has no such decomposition; jnp.linalg.qr, svd and eig have a form"
_ATTENTION = "cuDNN's attention has no TensorFlow form; give implementation='xla'"
_SCALED = "products with scales of blocks have no TensorFlow form; multiply by the scales first"
_TOKEN = "tokens order effects on the host, which a SavedModel doesn't have"
_GENERATOR = "keys of this generator can't be saved; use threefry2x32, rbg or unsafe_rbg"
_INTERNAL = "it is part of a JAX transformation that isn't finished; lower the function's result"

_COLLECTIVES = (
    *("all_gather_done", "all_gather_reduced", "all_gather_reduced_start"),
    *("all_gather_start", "all_to_all_done", "all_to_all_start", "full_to_shard"),
    *("global_array_to_host_local_array", "host_local_array_to_global_array", "infeed"),
    *("outfeed", "pbroadcast", "pbroadcast_done", "pbroadcast_start", "pgather"),
    *("ppermute_done", "ppermute_start", "precv", "preduced", "psend", "psum_done"),
    *("psum_invariant_start", "psum_scatter", "psum_start", "ragged_all_to_all"),
    *("reduce_scatter_done", "reduce_scatter_start", "reduced_vary_cast_p"),
    *("shard_to_full", "unreduced_psum", "unreduced_psum_start"),
    *("unreduced_reduce_scatter", "unreduced_reduce_scatter_start"),
    *("vary_unreduced_cast_p", "xla_pmap"),
)
_ATTENTIONS = (
    *("dot_product_attention_bwd_wrapper", "dot_product_attention_fp8_bwd_wrapper"),
    *("dot_product_attention_fp8_fwd_wrapper", "dot_product_attention_fwd_wrapper"),
)

# Name of the primitive -> what to say about it, with the cure.
REASONS: dict[str, str] = {
    **dict.fromkeys(_COLLECTIVES, _COLLECTIVE),
    **dict.fromkeys(_ATTENTIONS, _ATTENTION),
    "after_all": _TOKEN,
    "call_exported": "an exported function is StableHLO; call the function it was made of",
    "check": "a check isn't a value; make it one with jax.experimental.checkify.checkify",
    "core_map": _KERNEL,
    "create_linear": _INTERNAL,
    "create_token": _TOKEN,
    "custom_lin": _INTERNAL,
    "custom_transpose_call": _INTERNAL,
    "debug_callback": "jax.debug.print and jax.debug.callback run Python code; remove them",
    "debug_print": "jax.debug.print runs Python code; remove it",
    "ffi_call": _LIBRARY,
    "geqp3": _DECOMPOSITION,
    "io_callback": _CALLBACK,
    "pallas_call": _KERNEL,
    "philox2x32": _GENERATOR,
    "philox4x32": _GENERATOR,
    "pin": "a pinned buffer is memory of this process",
    "pure_callback": _CALLBACK,
    "rng_uniform": "its numbers can't be repeated; use jax.random with a key",
    "run_state": "a nested state of jax.experimental.state; use jax.new_ref",
    "scaled_dot": _SCALED,
    "scaled_matmul_wrapper": _SCALED,
    "schur": _DECOMPOSITION,
    "select_and_scatter": "window selection by a function of its own; use gradients of max pooling",
    "threefry4x32": _GENERATOR,
    "tridiagonal": _DECOMPOSITION,
    "unpin": "a pinned buffer is memory of this process",
    "unreachable": _INTERNAL,
    "with_memory_space_constraint": _KERNEL,
}
