"""Ways around ops that a consumer doesn't run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_OUTSIDE = "compute it in the program that calls the model, and pass the result as an argument"
_LINEAR_ALGEBRA = (
    "no converter has decompositions of matrices; compute it before exporting if the matrix is "
    "constant, else " + _OUTSIDE
)
_RANDOM = "draw the numbers in the program that calls the model, and pass them as an argument"
_STRINGS = "strings and tables stay in TensorFlow; " + _OUTSIDE
_STATE = (
    "converters freeze variables; take the state as an argument and return the new one, or leave "
    "this function out of the signatures"
)
_BITS = "work on numbers instead of bits, or " + _OUTSIDE
_SPECIAL = "use an approximation of it by exp, log and polynomials, or " + _OUTSIDE
_COMPLEX = "compute with real and imaginary parts as two real arrays"

# Ops that savax writes by others where a consumer lacks them; see savax/function/ops/portable_*.py.
REPLACED_OPS = frozenset(
    (
        *("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "BitwiseAnd", "BitwiseOr"),
        *(
            "Cast",
            "Conv2D",
            "Cosh",
            "Cumprod",
            "CumulativeLogsumexp",
            "Bitcast",
            "Digamma",
            "Erf",
            "Erfc",
            "Expm1",
            "FloorDiv",
            "FloorMod",
            "Greater",
            "GreaterEqual",
            "Invert",
            "Less",
            "LessEqual",
        ),
        *(
            "LeftShift",
            "Lgamma",
            "Log1p",
            "PopulationCount",
            "RightShift",
            "Rint",
            "ScatterNd",
            "SelectV2",
            "Sinh",
            "StopGradient",
            "Tan",
            "Tanh",
            "TensorScatterMax",
        ),
        *("TensorScatterMin", "TruncateDiv", "UnsortedSegmentProd"),
    )
)

# By op, or by the beginning of its name.
_ADVICE: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("MatrixBandPart", "MatrixDiag", "MatrixSetDiag"),
        "choose elements by comparing the numbers of rows and columns",
    ),
    (
        ("Cholesky", "Eig", "Matrix", "Qr", "SelfAdjointEig", "Svd", "Tridiagonal", "LogMatrix"),
        _LINEAR_ALGEBRA,
    ),
    (("Random", "Stateless", "Stateful", "Multinomial", "TruncatedNormal", "Rng"), _RANDOM),
    (("String", "LookupTable", "HashTable", "Regex", "StaticRegex", "Parse", "Decode"), _STRINGS),
    (("Unicode", "AsString", "ReduceJoin", "Substr", "Encode", "MutableHash"), _STRINGS),
    (("Assign", "ResourceScatter", "ResourceApply", "ResourceStrided"), _STATE),
    (
        (
            "Bitwise",
            "Invert",
            "LeftShift",
            "RightShift",
            "PopulationCount",
            "RightShift",
            "Bitcast",
        ),
        _BITS,
    ),
    (("NextAfter",), _BITS),
    (("Cumprod", "CumulativeLogsumexp"), "give the axis a known size, or " + _OUTSIDE),
    (("Bessel", "Betainc", "Igamma", "Polygamma", "Zeta", "Lgamma", "Digamma", "Ndtri"), _SPECIAL),
    (("Erf", "Dawsn", "Fresnel", "Spence", "Expint"), _SPECIAL),
    (("Complex", "Real", "Imag", "Conj", "Angle", "FFT", "IFFT", "RFFT", "IRFFT"), _COMPLEX),
    (("XlaCallModule", "Xla"), 'export with lowering="ops" instead of "stablehlo"'),
    (("EagerPyFunc", "PyFunc"), "callbacks into Python don't leave this process; " + _OUTSIDE),
    (("Assert", "Print", "CheckNumerics"), "set SaveOptions.experimental_debug_stripper"),
    (("StatelessCase", "Case"), "write it as nested jax.lax.cond"),
)
_DTYPE_ADVICE = {
    "bfloat16": "convert the Variables and arguments to float32 before exporting",
    "float64": "compute in float32",
    "float16": "compute in float32",
    "complex64": _COMPLEX,
    "complex128": _COMPLEX,
    "string": _STRINGS,
}


def way_around(op: str, dtypes: Sequence[str], supported: Collection[str]) -> str:
    """Returns what to do about an op that a consumer doesn't run.

    Args:
      op: the op's name.
      dtypes: the dtypes that it has.
      supported: those for which the consumer runs it.
    """
    if supported:
        missing = [dtype for dtype in dtypes if dtype not in supported]
        for dtype in missing:
            if dtype in _DTYPE_ADVICE:
                return _DTYPE_ADVICE[dtype]
        return f"it runs it for {', '.join(sorted(supported))}; convert the operands with astype"
    for starts, advice in _ADVICE:
        if op.startswith(starts):
            return advice
    return _OUTSIDE
