"""encode_structure and decode_structure."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from savax.errors import (
    CorruptSavedModelError,
    InvalidArgumentError,
    NotEncodableError,
    ResourceLimitError,
)
from savax.protos import (
    BoundedTensorSpec,
    NamedTupleValue,
    PairValue,
    StructuredValue,
    TensorSpecProto,
    TypeSpecValue,
    decode_structure,
    encode_structure,
)
from savax.types import ALL_DTYPES, TensorShape, TensorSpec, as_dtype

SHAPES = st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.text(max_size=4),
    st.builds(TensorShape, SHAPES),
    st.sampled_from(ALL_DTYPES),
    st.builds(
        TensorSpec, SHAPES, st.sampled_from(ALL_DTYPES), st.none() | st.text(min_size=1, max_size=3)
    ),
)
NAMES = st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True, max_size=3)


def _named(names, element):
    return namedtuple("Pair", names)(*([element] * len(names)))


VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.builds(_named, NAMES, inner),
        st.builds(TypeSpecValue, st.integers(1, 13), st.text(max_size=3), inner, st.integers(0, 9)),
    ),
    max_leaves=8,
)


def _shape_of(value):
    """A value with the types of its parts, which == between containers ignores."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return ("named", type(value).__name__, value._fields, [_shape_of(v) for v in value])
    if isinstance(value, list | tuple):
        return (type(value), [_shape_of(v) for v in value])
    if isinstance(value, dict):
        return (dict, {k: _shape_of(v) for k, v in value.items()})
    if isinstance(value, TypeSpecValue):
        return (value.class_number, value.class_name, _shape_of(value.type_state))
    return (type(value), value)


@given(VALUES)
def test_values_round_trip(value):
    data = encode_structure(value).SerializeToString()
    decoded = decode_structure(StructuredValue.FromString(data))
    assert _shape_of(decoded) == _shape_of(value)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (None, "0a00"),
        (1.5, "59000000000000f83f"),
        (0, "6000"),
        (-1, "6001"),
        (1, "6002"),
        ("é", "6a02c3a9"),
        (True, "7001"),
        (TensorShape(None), "fa01021801"),
        (as_dtype("bfloat16"), "80020e"),
        ((), "a20300"),
    ],
)
def test_wire_examples(value, wire):
    """Bytes observed in files that TensorFlow wrote."""
    assert encode_structure(value).SerializeToString().hex() == wire


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (True, "bool_value"),
        (np.float64(1), "float64_value"),
        (np.ones(2), "numpy_value"),
        (namedtuple("P", "x")(1), "named_tuple_value"),
        (OrderedDict(a=1), "dict_value"),
    ],
)
def test_kinds_of_look_alikes(value, field):
    assert encode_structure(value).WhichOneof("kind") == field


def test_arrays():
    class Array:
        shape, dtype = (2,), np.dtype("float32")

        def __array__(self, dtype=None, copy=None):
            return np.ones(2, np.float32)

    proto = encode_structure(Array())
    assert proto.WhichOneof("kind") == "tensor_value"
    assert len(proto.tensor_value.tensor_content) == 8
    np.testing.assert_array_equal(decode_structure(proto), [1, 1])


def test_bounded_specs():
    spec = BoundedTensorSpec((2,), as_dtype("float32"), "b", np.float32(0), np.ones(2, np.float32))
    decoded = decode_structure(encode_structure(spec))
    assert (decoded.shape, decoded.dtype, decoded.name) == ((2,), spec.dtype, "b")
    np.testing.assert_array_equal(decoded.minimum, 0)
    np.testing.assert_array_equal(decoded.maximum, [1, 1])


def test_named_tuples_of_equal_fields_have_one_class():
    value = namedtuple("Pair", "a b")(1, 2)
    first = decode_structure(encode_structure(value))
    second = decode_structure(encode_structure(value._replace(a=3)))
    assert type(first) is type(second)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (b"a", r"^value is b'a' of type bytes"),
        ([1, (2, {"k": np.float32(1)})], r"value\[1\]\[1\]\['k'\]"),
        ({"a": {1: 2}}, r"value\['a'\] has the key 1"),
        (namedtuple("P", "x")(1j), r"value\.x is 1j"),
        (TypeSpecValue(3, "R", [object()], 1), r"value\.type_state\[0\]"),
        (lambda: None, "function"),
        (np.array([object()], object), "value is an array"),
        ("\ud800", "isn't Unicode"),
        ({"\ud800": 1}, "isn't Unicode"),
    ],
)
def test_encode_refuses_with_the_path(value, path):
    with pytest.raises(NotEncodableError, match=path):
        encode_structure(value)


@pytest.mark.parametrize("value", [1 << 63, [-(1 << 63) - 1]])
def test_encode_refuses_large_ints(value):
    with pytest.raises(InvalidArgumentError, match="64 bits"):
        encode_structure(value)


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: {"k": v}, lambda v: namedtuple("P", "x")(v)]
)
def test_what_encode_accepts_is_shallow_enough_to_parse(wrap):
    def nested(depth):
        value = 1
        for _ in range(depth):
            value = wrap(value)
        return value

    deepest = max(d for d in range(60) if _encodes(nested(d)))
    assert deepest >= 25
    data = encode_structure(nested(deepest)).SerializeToString()
    decoded = decode_structure(StructuredValue.FromString(data))
    assert _shape_of(decoded) == _shape_of(nested(deepest))
    with pytest.raises(NotEncodableError, match="nested too deeply"):
        encode_structure(nested(60))


def _encodes(value):
    try:
        encode_structure(value)
    except NotEncodableError:
        return False
    return True


def test_encode_refuses_cycles():
    value = []
    value.append(value)
    with pytest.raises(NotEncodableError, match="nested too deeply"):
        encode_structure(value)


def test_decode_refuses_deep_messages():
    proto = StructuredValue()
    inner = proto
    for _ in range(300):
        inner = inner.list_value.values.add()
    inner.int64_value = 1
    with pytest.raises(ResourceLimitError):
        decode_structure(proto)


@pytest.mark.parametrize(
    "proto",
    [
        StructuredValue(),
        StructuredValue(tensor_dtype_value=0),
        StructuredValue(tensor_dtype_value=99),
        StructuredValue(tensor_spec_value=TensorSpecProto(dtype=77)),
        StructuredValue(
            named_tuple_value=NamedTupleValue(
                name="not an identifier", values=[PairValue(key="x", value=encode_structure(1))]
            )
        ),
        StructuredValue(
            named_tuple_value=NamedTupleValue(
                name="P", values=[PairValue(key="class", value=encode_structure(1))]
            )
        ),
        StructuredValue(named_tuple_value=NamedTupleValue(name="P", values=[PairValue(key="x")])),
    ],
)
def test_decode_refuses(proto):
    with pytest.raises(CorruptSavedModelError):
        decode_structure(proto)
