"""Fourier transforms of JAX, written as those of TensorFlow.

TensorFlow's evaluations are in ``fourier``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.function.ops._registry import lowers
from savax.function.ops._sizes import all_known, is_known, with_known_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.lowering._graph_builder import GraphBuilder, Symbol

# Names of the ops by the number of axes that are transformed.
_DIMENSIONS = ("", "", "2D", "3D")


@lowers("fft")
def _lower_fft(g: GraphBuilder, x: Symbol, *, fft_type: Any, fft_lengths: Sequence[Any]) -> Symbol:
    out = g.out[0]
    count = len(fft_lengths)
    kind = fft_type.name
    if count == 0:
        return x
    if any(is_known(size) and size == 0 for size in (*x.shape, *out.shape)):
        return g.full(0, out.shape, out.dtype)
    if count > 3:
        g.unsupported(f"a Fourier transform of {count} axes at once; TensorFlow has up to 3")
    op = f"{kind}{_DIMENSIONS[count]}"
    if kind in ("FFT", "IFFT"):
        return g.op(op, x, shape=out.shape)
    lengths = g.dims(tuple(fft_lengths))
    if kind == "RFFT":
        result = g.op(op, x, lengths, Tcomplex=out.dtype, shape=out.shape)
    else:
        result = g.op(op, x, lengths, Treal=out.dtype, shape=out.shape)
    return result if all_known(fft_lengths) else with_known_sizes(g, result)
