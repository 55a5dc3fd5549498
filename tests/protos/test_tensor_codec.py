"""encode_tensor and decode_tensor: round trips, forms, and hostile messages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from savax.errors import (
    CorruptSavedModelError,
    DTypeMismatchError,
    NotEncodableError,
    ResourceLimitError,
)
from savax.protos import (
    ResourceHandleProto,
    TensorProto,
    VariantTensorDataProto,
    decode_tensor,
    encode_tensor,
)
from savax.types import ALL_DTYPES, as_dtype

NUMBERS = [d for d in ALL_DTYPES if d.is_numeric]


def _bits(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _same(a, b):
    """Whether all elements have the same bits, or are NaN: a value's NaN loses its payload."""
    bits = (_bits(a) == _bits(b)).reshape(a.size, a.itemsize).all(axis=1)
    return (bits | (a != a).ravel() & (b != b).ravel()).all()


def _random_bits(dtype, shape, seed):
    """An array of arbitrary bit patterns of a dtype, NaNs and infinities included."""
    raw = np.random.default_rng(seed).integers(0, 256, (*shape, dtype.size), np.uint8)
    if dtype.name == "bool":
        raw &= 1
    if dtype.name in ("int4", "int2", "uint4", "uint2"):  # their other bits have no meaning
        return raw.astype(dtype.numpy_dtype).reshape(shape)
    if dtype.name == "float4_e2m1fn":
        raw &= 15
    return raw.reshape(-1).view(dtype.numpy_dtype).reshape(shape)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (0,), (2, 0, 3), (2, 3)])
@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda d: d.name)
def test_numbers_round_trip(dtype, shape, compact):
    array = _random_bits(dtype, shape, seed=sum(shape))
    proto = encode_tensor(array, dtype, compact=compact)
    decoded = decode_tensor(TensorProto.FromString(proto.SerializeToString()))
    assert proto.dtype == dtype.number
    assert decoded.dtype == dtype.numpy_dtype
    assert decoded.shape == shape
    assert _same(decoded, array)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
def test_floats_keep_their_bits(array):
    decoded = decode_tensor(encode_tensor(array))
    assert _same(decoded, array)
    assert np.array_equal(np.signbit(decoded), np.signbit(array))


@given(st.lists(st.binary(max_size=6), max_size=6))
def test_strings_round_trip(values):
    array = np.empty(len(values), object)
    array[:] = values
    decoded = decode_tensor(encode_tensor(array))
    assert decoded.dtype == object
    assert decoded.tolist() == values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("é", "é".encode()),
        (b"a\0", b"a\0"),
        (np.array("text"), b"text"),
        (np.array("text", np.dtypes.StringDType()), b"text"),
        (np.array(b"text"), b"text"),
    ],
)
def test_text_is_written_as_utf8(value, expected):
    assert encode_tensor(value).string_val == [expected]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1, "int32"),
        (1 << 40, "int64"),
        (1.5, "float32"),
        (True, "bool"),
        (1j, "complex128"),
        ("a", "string"),
        (np.float64(1), "float64"),
        (np.int64(1), "int64"),
    ],
)
def test_dtypes_of_python_values(value, name):
    assert as_dtype(int(encode_tensor(value).dtype)).name == name


@pytest.mark.parametrize(
    ("array", "field", "count"),
    [
        (np.ones(300, np.float32), "float_val", 1),
        (np.array([True, True]), "bool_val", 1),
        (np.array([2j, 2j], np.complex64), "scomplex_val", 2),
        (np.array([2, 1], np.uint16), "int_val", 2),
        (np.array([b"a", b"a"], object), "string_val", 1),
        (np.array([b"a", b"b"], object), "string_val", 2),
        (np.float16(1), "half_val", 1),
        (np.array([np.nan, np.nan]), "double_val", 1),
    ],
)
def test_typed_fields(array, field, count):
    proto = encode_tensor(array)
    assert not proto.tensor_content
    assert len(getattr(proto, field)) == count


def test_zeros_of_both_signs_are_not_equal():
    assert encode_tensor(np.array([0.0, -0.0])).tensor_content


def test_without_compact_equal_elements_are_written_out():
    assert encode_tensor(np.ones(3, np.float32), compact=False).tensor_content


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.ones(2, np.float32), "int32"),
        (np.array([1 << 40]), "int32"),
        ([300], "uint8"),
        ([1.5], "int32"),
        (np.array([1, "a"], object), "float32"),
        (np.ones(2, np.complex64), "float32"),
        ([8], "int4"),
    ],
)
def test_encode_refuses_lossy_casts(array, dtype):
    with pytest.raises(DTypeMismatchError):
        encode_tensor(array, dtype)


@pytest.mark.parametrize(
    ("array", "dtype"), [([1.0], "int32"), ([1, 2], "bfloat16"), (np.ones(2), "float16")]
)
def test_encode_casts(array, dtype):
    decoded = decode_tensor(encode_tensor(array, dtype))
    assert decoded.dtype == as_dtype(dtype).numpy_dtype
    np.testing.assert_array_equal(decoded.astype(np.float64), np.asarray(array, np.float64))


@pytest.mark.parametrize("value", [[1, b"a", None], object(), [["a"], ["b", "c"]]])
def test_encode_refuses_what_is_no_tensor(value):
    with pytest.raises((NotEncodableError, DTypeMismatchError)):
        encode_tensor(value, "string")


@pytest.mark.parametrize("big_endian", [">f4", ">i8"])
def test_big_endian_arrays_are_converted(big_endian):
    array = np.array([1, 2, 3], big_endian)
    np.testing.assert_array_equal(decode_tensor(encode_tensor(array)), array)


def test_messages_round_trip():
    handles = np.array([ResourceHandleProto(name="a"), ResourceHandleProto(name="b")], object)
    assert decode_tensor(encode_tensor(handles, "resource")).tolist() == handles.tolist()
    variants = np.array(VariantTensorDataProto(type_name="list"), object)
    assert decode_tensor(encode_tensor(variants, "variant")).item() == variants.item()
    with pytest.raises(NotEncodableError):
        encode_tensor(np.array([1], object), "variant")


def _proto(number, sizes, **fields):
    proto = TensorProto(dtype=number, **fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


def test_the_last_value_repeats():
    np.testing.assert_array_equal(decode_tensor(_proto(1, [4], float_val=[1, 2])), [1, 2, 2, 2])
    np.testing.assert_array_equal(
        decode_tensor(_proto(8, [3], scomplex_val=[1, 0, 0, 2])), [1, 2j, 2j]
    )
    assert decode_tensor(_proto(7, [3], string_val=[b"a"])).tolist() == [b"a"] * 3


def test_no_value_at_all_is_zeros():
    np.testing.assert_array_equal(decode_tensor(_proto(3, [2])), [0, 0])
    assert decode_tensor(_proto(7, [2])).tolist() == [b"", b""]


def test_narrow_integers_wrap():
    np.testing.assert_array_equal(
        decode_tensor(_proto(29, [4], int_val=[14, -2, 7, 254])).astype(int), [-2, -2, 7, -2]
    )
    np.testing.assert_array_equal(decode_tensor(_proto(4, [2], int_val=[-1, 255])), [255, 255])


def test_bool_content_is_normalized():
    decoded = decode_tensor(_proto(10, [3], tensor_content=b"\x00\x01\x02"))
    assert _bits(decoded).tolist() == [0, 1, 1]


def test_strings_in_tensor_content():
    proto = _proto(7, [3], tensor_content=b"\x02\x00\x03abxyz")
    assert decode_tensor(proto).tolist() == [b"ab", b"", b"xyz"]


@pytest.mark.parametrize(
    ("proto", "error"),
    [
        (_proto(0, [1]), CorruptSavedModelError),
        (_proto(99, [1]), CorruptSavedModelError),
        (_proto(101, [1], float_val=[1]), CorruptSavedModelError),
        (_proto(1, [-1], float_val=[1]), CorruptSavedModelError),
        (_proto(1, [-5], float_val=[1]), CorruptSavedModelError),
        (_proto(1, [2], tensor_content=b"1234567"), CorruptSavedModelError),
        (_proto(1, [2], tensor_content=b"123456789"), CorruptSavedModelError),
        (_proto(1, [1], float_val=[1, 2]), CorruptSavedModelError),
        (_proto(1, [0], float_val=[1]), CorruptSavedModelError),
        (_proto(8, [1], scomplex_val=[1]), CorruptSavedModelError),
        (_proto(7, [1], tensor_content=b"\x05abc"), CorruptSavedModelError),
        (_proto(7, [1], tensor_content=b"\xff\xff"), CorruptSavedModelError),
        (_proto(7, [1 << 40], tensor_content=b"\x01a"), CorruptSavedModelError),
        (_proto(20, [1], tensor_content=b"a"), CorruptSavedModelError),
        (_proto(1, [1 << 40], float_val=[1]), ResourceLimitError),
        (_proto(1, [1 << 62, 1 << 62], float_val=[1]), ResourceLimitError),
        (_proto(1, [0, 1 << 62, 1 << 62]), ResourceLimitError),
        (_proto(7, [1 << 40], string_val=[b"a"]), ResourceLimitError),
        (_proto(1, [1] * 65, float_val=[1]), ResourceLimitError),
        (_proto(1, [1] * 255, float_val=[1]), CorruptSavedModelError),
    ],
)
def test_decode_refuses(proto, error):
    with pytest.raises(error):
        decode_tensor(proto)


def test_decode_refuses_unknown_rank():
    proto = TensorProto(dtype=1, float_val=[1])
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(CorruptSavedModelError):
        decode_tensor(proto)


def test_the_limit_is_the_callers():
    proto = _proto(1, [1000], float_val=[1])
    with pytest.raises(ResourceLimitError, match="4000 bytes; the limit is 3999"):
        decode_tensor(proto, limit_bytes=3999)
    assert decode_tensor(proto, limit_bytes=4000).size == 1000


_FIELDS = {f.name for f in TensorProto.DESCRIPTOR.fields} - {"resource_handle_val", "variant_val"}


@given(
    st.integers(0, 34),
    st.lists(st.integers(-2, 5) | st.integers(1 << 40, 1 << 62), max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "tensor_content": st.binary(max_size=12),
            "float_val": st.lists(st.floats(width=32), max_size=4),
            "int_val": st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=4),
            "half_val": st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=4),
            "scomplex_val": st.lists(st.floats(width=32), max_size=4),
            "string_val": st.lists(st.binary(max_size=3), max_size=4),
            "float8_val": st.binary(max_size=4),
            "bool_val": st.lists(st.booleans(), max_size=4),
        },
    ),
)
def test_any_message_decodes_or_is_refused(number, sizes, fields):
    try:
        decoded = decode_tensor(_proto(number, sizes, **fields), limit_bytes=1 << 20)
    except (CorruptSavedModelError, ResourceLimitError):
        return
    assert list(decoded.shape) == sizes
    assert decoded.dtype == as_dtype(number).numpy_dtype
