"""CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) and the masked form that files store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import google_crc32c

from savax.errors import UnsupportedError

if TYPE_CHECKING:
    import numpy as np

# google_crc32c holds the interpreter lock for arrays, so they are fed in slices of this size:
# below 0.1 ms each, and small enough to be still in the cache when the slice is written.
PIECE_BYTES = 1 << 20

_MASK_DELTA = 0xA282EAD8  # LevelDB's constant: a CRC over bytes that hold CRCs is weak


class _Extend(Protocol):
    def __call__(self, crc: int, chunk: Any, /) -> int: ...


def crc32c(data: bytes) -> int:
    """Returns the CRC-32C of some bytes."""
    return _compiled()(0, data)


def extend_crc32c(crc: int, data: bytes) -> int:
    """Returns the CRC-32C of the bytes behind ``crc`` followed by ``data``."""
    return _compiled()(crc, data)


def extend_crc32c_array(crc: int, data: np.ndarray[Any, Any]) -> int:
    """Returns ``crc`` continued over a one-dimensional, contiguous uint8 array.

    The array isn't copied.
    """
    extend = _compiled()
    for start in range(0, data.size, PIECE_BYTES):
        crc = extend(crc, data[start : start + PIECE_BYTES])
    return crc


def mask_crc32c(crc: int) -> int:
    """Returns the form of a CRC that is stored: rotated right by 15 bits, plus a constant."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _compiled() -> _Extend:
    # The package falls back to pure Python, 1000 times slower, where its extension didn't load.
    if google_crc32c.implementation != "c":
        raise UnsupportedError(
            "google-crc32c has no compiled extension here, and its pure Python form is too slow "
            "for checkpoints. Reinstall it from a wheel: pip install --force-reinstall "
            "google-crc32c."
        )
    return cast("_Extend", google_crc32c.extend)
