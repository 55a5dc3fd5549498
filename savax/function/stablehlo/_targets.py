"""Targets of custom calls that are part of StableHLO's or JAX's own programs.

All others are refused: a target can be any function of the process, and some take addresses of
memory.
"""

from __future__ import annotations

_CHLO = ("acos", "acosh", "asin", "asinh", "atanh", "cosh", "erf", "sinh", "tan", "topk")
_DYNAMIC = ("approx_top_k", "reduce_window", "rng_bit_generator", "top_k")

# What XLA itself resolves. JAX 0.9 writes operations that StableHLO hasn't as ``mhlo.<name>``.
TARGETS_OF_XLA = frozenset(
    {
        *("Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "annotate_device_placement"),
        *("shape_assertion", "ApproxTopK", "chlo.ragged_dot"),
        *("Eigh", "Qr", "ProductOfElementaryHouseholderReflectors", "LuDecomposition"),
        *(f"mhlo.{name}" for name in _CHLO),
        *(f"stablehlo.dynamic_{name}" for name in _DYNAMIC),
    }
)

_LAPACK = ("potrf", "geqrf", "gesdd", "getrf", "gehrd", "geev", "gees", "trsm", "gtsv")
_LAPACK_REAL = ("orgqr", "syevd", "sytrd")
_LAPACK_COMPLEX = ("ungqr", "heevd", "hetrd")
_SOLVER = ("getrf", "geqrf", "orgqr", "potrf", "syevd", "gesvd", "gesvdj", "sytrd")

# Functions of jaxlib, which other programs with XLA don't have.
TARGETS_OF_JAX = frozenset(
    {
        *(f"lapack_{kind}{name}_ffi" for kind in "sdcz" for name in _LAPACK),
        *(f"lapack_{kind}{name}_ffi" for kind in "sd" for name in _LAPACK_REAL),
        *(f"lapack_{kind}{name}_ffi" for kind in "cz" for name in _LAPACK_COMPLEX),
        *(f"{library}solver_{name}_ffi" for library in ("cu", "hip") for name in _SOLVER),
        *("cu_threefry2x32_ffi", "hip_threefry2x32_ffi", "hipsolver_gesdd_ffi"),
        *("cu_lu_pivots_to_permutation", "hip_lu_pivots_to_permutation", "cusparse_gtsv2_ffi"),
    }
)
