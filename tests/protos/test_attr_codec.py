"""encode_attr and decode_attr."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from savax.errors import CorruptSavedModelError, InvalidArgumentError, NotEncodableError
from savax.protos import (
    AttrPlaceholder,
    AttrValue,
    FunctionRef,
    NameAttrList,
    decode_attr,
    encode_attr,
    encode_tensor,
)
from savax.types import ALL_DTYPES, TensorShape, as_dtype

ELEMENTS = {
    "int": st.integers(-(1 << 63), (1 << 63) - 1),
    "float": st.floats(width=32, allow_nan=False),
    "bool": st.booleans(),
    "string": st.binary(max_size=5),
    "type": st.sampled_from(ALL_DTYPES),
    "shape": st.builds(TensorShape, st.none() | st.lists(st.none() | st.integers(0, 9))),
}
ELEMENTS["func"] = st.builds(
    FunctionRef,
    st.text(max_size=5),
    st.dictionaries(st.text(max_size=3), st.one_of(*ELEMENTS.values()), max_size=3),
)


@pytest.mark.parametrize("kind", ELEMENTS)
@given(st.data())
def test_values_round_trip_with_and_without_their_kind(kind, data):
    value = data.draw(ELEMENTS[kind])
    values = data.draw(st.lists(ELEMENTS[kind], max_size=3))
    for encoded in (encode_attr(value), encode_attr(value, kind)):
        decoded = decode_attr(AttrValue.FromString(encoded.SerializeToString()))
        assert decoded == value
        assert type(decoded) is type(value)
    for encoded in (encode_attr(values), encode_attr(tuple(values), f"list({kind})")):
        assert decode_attr(encoded) == values


def test_tensors_round_trip():
    array = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(decode_attr(encode_attr(array)), array)
    proto = encode_tensor(array)
    assert encode_attr(proto, "tensor").tensor == proto
    decoded = decode_attr(encode_attr([array, array], "list(tensor)"))
    np.testing.assert_array_equal(decoded, [array, array])


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("float32", "type", AttrValue(type=1)),
        (np.int64, "type", AttrValue(type=9)),
        (3, "float", AttrValue(f=3)),
        ("text", None, AttrValue(s=b"text")),
        ("f", "func", AttrValue(func=NameAttrList(name="f"))),
        (AttrPlaceholder("T"), "type", AttrValue(placeholder="T")),
        (None, None, AttrValue()),
        ([], None, AttrValue(list=AttrValue.ListValue())),
        ([], "list(type)", AttrValue(list=AttrValue.ListValue())),
        ([1, 2.5], None, AttrValue(list=AttrValue.ListValue(f=[1, 2.5]))),
        (np.int32(3), None, AttrValue(i=3)),
        (np.bool_(True), None, AttrValue(b=True)),
        (np.arange(2), "list(int)", AttrValue(list=AttrValue.ListValue(i=[0, 1]))),
        (AttrValue(i=1), "int", AttrValue(i=1)),
    ],
)
def test_encode(value, kind, expected):
    assert encode_attr(value, kind) == expected


def test_shapes():
    assert decode_attr(encode_attr((1, None), "shape")) == TensorShape([1, None])
    assert decode_attr(encode_attr(None, "shape")) == TensorShape(None)
    assert encode_attr((), "shape").HasField("shape")
    assert decode_attr(encode_attr([(1,), None], "list(shape)")) == [
        TensorShape([1]),
        TensorShape(None),
    ]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1.5, "int"),
        (1, "bool"),
        ("1", "float"),
        ("ab", "list(int)"),
        (5, "list(int)"),
        (1 << 63, "int"),
        (1 << 63, None),
        ("nope", "type"),
        ((-1,), "shape"),
        (3, "string"),
        ([1], "string"),
        (3, "func"),
        (object(), None),
        ([1, "a"], None),
        ([[1], [2]], None),
        ("\ud800", "string"),
    ],
)
def test_encode_refuses(value, kind):
    with pytest.raises(NotEncodableError):
        encode_attr(value, kind)


def test_encode_refuses_unknown_kinds():
    with pytest.raises(InvalidArgumentError, match=r"list\(what\)"):
        encode_attr([1], "list(what)")


@pytest.mark.parametrize(
    "proto",
    [
        AttrValue(type=0),
        AttrValue(type=99),
        AttrValue(list=AttrValue.ListValue(i=[1], s=[b"a"])),
        AttrValue(list=AttrValue.ListValue(type=[1, 77])),
    ],
)
def test_decode_refuses(proto):
    with pytest.raises(CorruptSavedModelError):
        decode_attr(proto)


def test_reference_dtypes_decode_to_their_dtype():
    assert decode_attr(AttrValue(type=101)) is as_dtype("float32")
