"""CRC-32C against its definition, and what is stored of it."""

from __future__ import annotations

import google_crc32c
import numpy as np
import pytest

from savax.errors import UnsupportedError
from savax.trackable.bundle._crc32c import (
    PIECE_BYTES,
    crc32c,
    extend_crc32c,
    extend_crc32c_array,
    mask_crc32c,
)


def slow_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("data", [b"", b"a", b"123456789", bytes(range(256))])
def test_crc_is_the_castagnoli_polynomial(data: bytes) -> None:
    assert crc32c(data) == slow_crc32c(data)


def test_check_value_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_mask_of_nothing_is_the_constant() -> None:
    assert mask_crc32c(0) == 0xA282EAD8


def test_mask_known_value() -> None:
    # The lengths' checksum of ["ab", "", "longer"...] in a file written by TensorFlow.
    assert mask_crc32c(crc32c(b"")) == mask_crc32c(0)
    assert mask_crc32c(0x12345678) == ((0x12345678 >> 15 | 0x12345678 << 17) + 0xA282EAD8) % 2**32


def test_array_in_pieces_equals_the_whole(rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, 2 * PIECE_BYTES + 7, np.uint8)
    data.flags.writeable = False
    assert extend_crc32c_array(0, data) == crc32c(data.tobytes())
    half = extend_crc32c(0, data[:1000].tobytes())
    assert extend_crc32c_array(half, data[1000:]) == crc32c(data.tobytes())


def test_pure_python_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google_crc32c, "implementation", "python")
    with pytest.raises(UnsupportedError, match="google-crc32c"):
        crc32c(b"")
