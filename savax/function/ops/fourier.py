"""Fourier transforms over the last axes, and over chosen ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from savax.function.ops._registry import evaluates
from savax.function.ops.shaping import sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from savax.types import DType

# The transforms over several axes go one axis after the other: JAX's own stop at three.


def _complex(x: Any, lengths: Sequence[int | None], axes: Sequence[int], inverse: bool) -> Any:
    transform: Callable[..., Any] = jnp.fft.ifft if inverse else jnp.fft.fft
    for axis, length in zip(axes, lengths, strict=True):
        x = transform(x, length, axis)
    return x


def _real(x: Any, lengths: Sequence[int], axes: Sequence[int]) -> Any:
    """Transforms real values: the last of the axes keeps only frequencies that aren't negative."""
    x = jnp.fft.rfft(x, lengths[-1], axes[-1])
    return _complex(x, lengths[:-1], axes[:-1], False)


def _inverse_real(x: Any, lengths: Sequence[int], axes: Sequence[int]) -> Any:
    x = _complex(x, lengths[:-1], axes[:-1], True)
    return jnp.fft.irfft(x, lengths[-1], axes[-1])


def _last(count: int) -> tuple[int, ...]:
    return tuple(range(-count, 0))


def _plain_rule(count: int, inverse: bool) -> Any:
    def transform(input: Any) -> Any:
        return _complex(jnp.asarray(input), [None] * count, _last(count), inverse)

    return transform


def _real_rule(count: int) -> Any:
    def transform(input: Any, fft_length: Any, *, Tcomplex: DType) -> Any:  # noqa: N803
        result = _real(jnp.asarray(input), sizes(fft_length), _last(count))
        return result.astype(Tcomplex.numpy_dtype)

    return transform


def _inverse_real_rule(count: int) -> Any:
    def transform(input: Any, fft_length: Any, *, Treal: DType) -> Any:  # noqa: N803
        result = _inverse_real(jnp.asarray(input), sizes(fft_length), _last(count))
        return result.astype(Treal.numpy_dtype)

    return transform


for _count, _suffix in ((1, ""), (2, "2D"), (3, "3D")):
    evaluates(f"FFT{_suffix}", f"BatchFFT{_suffix}")(_plain_rule(_count, False))
    evaluates(f"IFFT{_suffix}", f"BatchIFFT{_suffix}")(_plain_rule(_count, True))
    evaluates(f"RFFT{_suffix}", static=("fft_length",))(_real_rule(_count))
    evaluates(f"IRFFT{_suffix}", static=("fft_length",))(_inverse_real_rule(_count))


@evaluates("FFTND", static=("fft_length", "axes"))
def _fft_nd(input: Any, fft_length: Any, axes: Any) -> Any:
    return _complex(jnp.asarray(input), sizes(fft_length), sizes(axes), False)


@evaluates("IFFTND", static=("fft_length", "axes"))
def _ifft_nd(input: Any, fft_length: Any, axes: Any) -> Any:
    return _complex(jnp.asarray(input), sizes(fft_length), sizes(axes), True)


@evaluates("RFFTND", static=("fft_length", "axes"))
def _rfft_nd(input: Any, fft_length: Any, axes: Any, *, Tcomplex: DType) -> Any:  # noqa: N803
    result = _real(jnp.asarray(input), sizes(fft_length), sizes(axes))
    return result.astype(Tcomplex.numpy_dtype)


@evaluates("IRFFTND", static=("fft_length", "axes"))
def _irfft_nd(input: Any, fft_length: Any, axes: Any, *, Treal: DType) -> Any:  # noqa: N803
    result = _inverse_real(jnp.asarray(input), sizes(fft_length), sizes(axes))
    return result.astype(Treal.numpy_dtype)
