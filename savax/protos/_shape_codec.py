"""Shapes as TensorShapeProto."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.errors import CorruptSavedModelError, InvalidArgumentError
from savax.protos._messages import TensorShapeProto

if TYPE_CHECKING:
    from savax.types import Shape

# TensorFlow's own limit (TensorShapeRep::MaxDimensions).
MAX_RANK = 254


def encode_shape(shape: Shape) -> TensorShapeProto:
    """Returns the message of a shape; unknown dims are written as -1.

    Raises:
      InvalidArgumentError: the rank is more than TensorFlow allows.
    """
    if shape is None:
        return TensorShapeProto(unknown_rank=True)
    if len(shape) > MAX_RANK:
        raise InvalidArgumentError(f"A shape has {len(shape)} axes; TensorFlow allows {MAX_RANK}.")
    proto = TensorShapeProto()
    for size in shape:
        proto.dim.add(size=-1 if size is None else size)
    return proto


def decode_shape(proto: TensorShapeProto) -> Shape:
    """Returns the shape that a message holds; names of dims are ignored.

    Raises:
      CorruptSavedModelError: a size is less than -1, or the rank more than TensorFlow allows.
    """
    if proto.unknown_rank:
        return None
    if len(proto.dim) > MAX_RANK:
        raise CorruptSavedModelError(
            f"A shape has {len(proto.dim)} axes; TensorFlow allows {MAX_RANK}."
        )
    sizes = tuple(dim.size for dim in proto.dim)
    if any(size < -1 for size in sizes):
        raise CorruptSavedModelError(f"The shape {list(sizes)} has a size less than -1.")
    return tuple(None if size == -1 else size for size in sizes)
