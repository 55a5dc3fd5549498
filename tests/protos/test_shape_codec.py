"""encode_shape and decode_shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from savax.errors import CorruptSavedModelError, InvalidArgumentError
from savax.protos import TensorShapeProto, decode_shape, encode_shape

SHAPES = st.none() | st.lists(st.none() | st.integers(0, (1 << 63) - 1), max_size=5).map(tuple)


@given(SHAPES)
def test_shapes_round_trip(shape):
    data = encode_shape(shape).SerializeToString()
    assert decode_shape(TensorShapeProto.FromString(data)) == shape


def test_scalar_and_unknown_rank_differ():
    assert encode_shape(()).SerializeToString() == b""
    assert encode_shape(None).SerializeToString() == b"\x18\x01"


def test_decode_refuses_negative_sizes():
    proto = TensorShapeProto()
    proto.dim.add(size=-2)
    with pytest.raises(CorruptSavedModelError, match="-2"):
        decode_shape(proto)


def test_rank_is_limited():
    with pytest.raises(InvalidArgumentError):
        encode_shape((1,) * 255)
    proto = encode_shape((1,) * 254)
    proto.dim.add(size=1)
    with pytest.raises(CorruptSavedModelError):
        decode_shape(proto)
