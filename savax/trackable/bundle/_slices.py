"""Tensors stored in parts: specs of slices, and the ordered keys of their entries.

A slice of a tensor has an entry of its own under a key made for machines: a NUL byte, the tensor's
name, the rank, and the extent of each dim, in a code whose byte order is the order of the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from savax.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.trackable.bundle._entries import SliceSpec
    from savax.types import DTypeLike


class Partitioned(NamedTuple):
    """A tensor given in parts, each of which is stored on its own.

    Attributes:
      full_shape: shape of the whole tensor.
      dtype: its element type.
      slices: pairs of a spec and an array. A spec has one ``(start, length)`` per dim; ``None``
        or length -1 stand for the whole dim.
    """

    full_shape: tuple[int, ...]
    dtype: DTypeLike
    slices: Sequence[tuple[Sequence[tuple[int, int] | None], Any]]


def as_slice_spec(
    spec: Sequence[tuple[int, int] | None], full_shape: tuple[int, ...], what: str
) -> SliceSpec:
    """Returns a user's slice spec in its stored form.

    Args:
      spec: one ``(start, length)`` or None per dim.
      full_shape: shape of the tensor that is sliced.
      what: how to call the tensor in the error.

    Raises:
      InvalidArgumentError: the spec has another rank, or leaves the shape.
    """
    if len(spec) != len(full_shape):
        raise InvalidArgumentError(
            f"{what} has the shape {full_shape}, but a slice of it has {len(spec)} extents."
        )
    stored = []
    for extent, dim in zip(spec, full_shape, strict=True):
        start, length = (0, -1) if extent is None else (int(extent[0]), int(extent[1]))
        if (start, length) != (0, -1) and (start < 0 or length < 0 or start + length > dim):
            raise InvalidArgumentError(
                f"{what} has the shape {full_shape}, which its slice {tuple(spec)} leaves."
            )
        stored.append((start, length))
    return tuple(stored)


def parse_slice_spec(text: str) -> tuple[tuple[int, ...], SliceSpec]:
    """Reads TensorFlow's text form of a slice, e.g. ``"4 3 0,2:-"``.

    Returns:
      The full shape and the spec of the slice.

    Raises:
      InvalidArgumentError: the text isn't of this form.
    """
    *dims, extents = text.split(" ")
    try:
        shape = tuple(int(dim) for dim in dims)
        spec = [_parse_extent(extent) for extent in (extents.split(":") if extents else ())]
    except ValueError as error:
        raise InvalidArgumentError(f"{text!r} is not the spec of a slice.") from error
    return shape, as_slice_spec(spec, shape, f"The spec {text!r}")


def _parse_extent(text: str) -> tuple[int, int] | None:
    if text == "-":
        return None
    start, length = text.split(",")
    return int(start), int(length)


def slice_shape(spec: SliceSpec, full_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of a slice."""
    return tuple(
        dim if length < 0 else length for (_, length), dim in zip(spec, full_shape, strict=True)
    )


def slice_starts(spec: SliceSpec) -> tuple[int, ...]:
    """Returns the index of a slice's first element."""
    return tuple(start for start, _ in spec)


def encode_slice_key(name: bytes, spec: SliceSpec) -> bytes:
    """Returns the key of a slice's entry.

    Args:
      name: the tensor's checkpoint key.
      spec: the slice as stored.
    """
    return b"".join(
        (
            _encode_number(0),
            _escape(name) if b"\x00" in name or b"\xff" in name else name,
            b"\x00\x01",
            _encode_number(len(spec)),
            *(_encode_signed(value) for extent in spec for value in extent),
        )
    )


def _escape(name: bytes) -> bytes:
    special = {0x00: b"\x00\xff", 0xFF: b"\xff\x00"}
    return b"".join(special.get(byte, bytes((byte,))) for byte in name)


def _encode_number(value: int) -> bytes:
    """Codes an integer >= 0: the number of its bytes, then the bytes, highest first."""
    size = (value.bit_length() + 7) // 8
    return bytes((size,)) + value.to_bytes(size, "big")


def _encode_signed(value: int) -> bytes:
    """Codes an integer so that byte order is numeric order.

    Of n bytes the first n bits are ones and the next is a zero, and the value fills the rest; so a
    byte holds 6 bits beside its sign, and each further one 7. A negative value is the complement
    of the code of ``-1 - value``.
    """
    magnitude = ~value if value < 0 else value
    size = magnitude.bit_length() // 7 + 1
    ones = ((1 << size) - 1) << (7 * size)
    code = ones | magnitude
    if value < 0:
        code ^= (1 << 8 * size) - 1
    return code.to_bytes(size, "big")
