"""The codecs against TensorFlow's own, in both directions and by bytes."""

from collections import namedtuple

import numpy as np
import pytest

from savax.protos import (
    BoundedTensorSpec,
    GraphDef,
    StructuredValue,
    TensorProto,
    TypeSpecValue,
    decode_structure,
    decode_tensor,
    encode_structure,
    encode_tensor,
    serialize,
)
from savax.types import ALL_DTYPES, TensorShape, TensorSpec, as_dtype

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

from tensorflow.core.framework import tensor_pb2  # noqa: E402
from tensorflow.core.protobuf import saved_model_pb2, struct_pb2  # noqa: E402
from tensorflow.python.framework import tensor_spec as tf_tensor_spec  # noqa: E402
from tensorflow.python.framework import tensor_util  # noqa: E402
from tensorflow.python.saved_model import nested_structure_coder  # noqa: E402

# make_tensor_proto knows no field for single values of these dtypes.
FIELDLESS = ("float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz")
DTYPES = [d for d in ALL_DTYPES if d.is_numeric or d.name == "string"]
SHAPES = [(), (1,), (3,), (0,), (2, 3)]


def _array(dtype, shape, seed=1):
    if dtype.name == "string":
        count = int(np.prod(shape))
        return np.array([b"s%d\0" % i for i in range(count)], object).reshape(shape)
    numbers = np.random.default_rng(seed).integers(-3, 4, shape)
    if dtype.is_complex:
        numbers = numbers + 2j
    if dtype.is_unsigned or dtype.name in ("quint8", "quint16", "bool", "uint2"):
        numbers = abs(numbers)
    return np.asarray(numbers).astype(dtype.numpy_dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_encode_gives_the_bytes_of_make_tensor_proto(dtype, shape):
    array = _array(dtype, shape)
    if dtype.name in FIELDLESS and array.size < 2:
        pytest.skip("make_tensor_proto refuses it")
    theirs = tensor_util.make_tensor_proto(array, dtype=tf.as_dtype(dtype.name))
    ours = encode_tensor(array, dtype, compact=False)
    assert serialize(ours) == theirs.SerializeToString(deterministic=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_make_ndarray_reads_what_encode_wrote(dtype, shape):
    if dtype.name in FIELDLESS and 0 in shape:
        pytest.skip("make_ndarray refuses it")
    for array in (_array(dtype, shape), np.full(shape, _array(dtype, (1,))[0])):
        proto = encode_tensor(array.astype(dtype.numpy_dtype), dtype)
        theirs = tf.make_ndarray(tensor_pb2.TensorProto.FromString(serialize(proto)))
        # TensorFlow's arrays of quantized numbers are structured, with one field.
        theirs = theirs.view(dtype.numpy_dtype) if theirs.dtype.kind == "V" else theirs
        np.testing.assert_array_equal(theirs, array)
        assert theirs.shape == shape


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_the_runtime_reads_what_encode_wrote(dtype, shape):
    for array in (_array(dtype, shape), np.full(shape, _array(dtype, (1,))[0])):
        data = serialize(encode_tensor(array.astype(dtype.numpy_dtype), dtype))
        parsed = tf.io.parse_tensor(data, tf.as_dtype(dtype.name))
        assert parsed.shape == shape
        np.testing.assert_array_equal(np.asarray(parsed.numpy(), array.dtype), array)


# The dtypes of the kernels of SerializeTensor.
SERIALIZED = tuple(
    d.name
    for d in DTYPES
    if not d.name.startswith(("q", "float8", "float4"))
    and d.name.lstrip("u") not in ("int4", "int2")
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", SERIALIZED)
def test_decode_reads_what_the_runtime_wrote(name, shape):
    array = _array(as_dtype(name), shape)
    for written in (array, np.full(shape, _array(as_dtype(name), (1,))[0])):
        data = tf.io.serialize_tensor(tf.constant(written, name)).numpy()
        decoded = decode_tensor(TensorProto.FromString(data))
        assert decoded.shape == shape
        np.testing.assert_array_equal(decoded, written)


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": 1, "float_val": [1, 2]},
        {"dtype": 8, "scomplex_val": [1, 0, 0, 2]},
        {"dtype": 7, "string_val": [b"a"]},
        {"dtype": 10, "bool_val": [True]},
        {"dtype": 19, "half_val": [15360]},
        {"dtype": 14, "half_val": [16256, 0]},
        {"dtype": 29, "int_val": [-2, 3]},
        {"dtype": 29, "int_val": [14]},
        {"dtype": 4, "int_val": [-1, 300]},
        {"dtype": 24, "float8_val": b"<\x3e"},
        {"dtype": 3},
        {"dtype": 7},
    ],
    ids=str,
)
def test_repeated_and_missing_values_are_read_as_the_runtime_does(fields):
    proto = TensorProto(**fields)
    proto.tensor_shape.dim.add(size=4)
    dtype = as_dtype(fields["dtype"])
    parsed = tf.io.parse_tensor(serialize(proto), tf.as_dtype(dtype.name)).numpy()
    np.testing.assert_array_equal(decode_tensor(proto), parsed)


def test_captured_constants_have_the_form_of_saved_models(tmp_path):
    arrays = [
        np.ones((3, 2), np.float32),
        np.arange(3, dtype=np.float32),
        np.array([0, 1, 1, 1], np.uint16),
        np.array([1, 1], np.complex64),
        np.array([True, False]),
        np.array([2, 2], np.float16),
        np.zeros((0, 3), np.float32),
        np.array([b"a", b"a"], object),
        np.float64(3),
        np.array([7]),
    ]
    root = tf.Module()
    root.constants = [tf.constant(array) for array in arrays]
    root.f = tf.function(lambda: [tf.identity(c) for c in root.constants], input_signature=[])
    tf.saved_model.save(root, tmp_path)
    model = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    graph = GraphDef.FromString(model.meta_graphs[0].graph_def.SerializeToString())
    written = {serialize(n.attr["value"].tensor) for n in graph.node if n.op == "Const"}
    for array in arrays:
        assert serialize(encode_tensor(array)) in written


Pair = namedtuple("Pair", "a b")

STRUCTURES = [
    (None, None),
    (1.5, 1.5),
    (-7, -7),
    ((1 << 63) - 1, (1 << 63) - 1),
    ("é", "é"),
    (True, True),
    ([], []),
    ((), ()),
    ({}, {}),
    ([1, (2, {"k": None})], [1, (2, {"k": None})]),
    (Pair(1, [Pair("x", None)]), Pair(1, [Pair("x", None)])),
    (TensorShape(None), tf.TensorShape(None)),
    (TensorShape([1, None]), tf.TensorShape([1, None])),
    (TensorShape([]), tf.TensorShape([])),
    (TensorSpec([None, 2], "float32", "x"), tf.TensorSpec([None, 2], tf.float32, "x")),
    (TensorSpec(None, "string"), tf.TensorSpec(None, tf.string)),
    (np.ones((2, 2), np.float32), np.ones((2, 2), np.float32)),
    (np.array([b"a"], object), np.array([b"a"], object)),
    *((as_dtype(d.name), tf.as_dtype(d.name)) for d in ALL_DTYPES),
]


@pytest.mark.parametrize(("ours", "theirs"), STRUCTURES, ids=lambda v: str(v)[:30])
def test_structures_have_the_bytes_of_nested_structure_coder(ours, theirs):
    data = nested_structure_coder.encode_structure(theirs).SerializeToString(deterministic=True)
    assert serialize(encode_structure(ours)) == data
    decoded = decode_structure(StructuredValue.FromString(data))
    again = nested_structure_coder.decode_proto(
        struct_pb2.StructuredValue.FromString(serialize(encode_structure(decoded)))
    )
    if isinstance(theirs, np.ndarray):
        np.testing.assert_array_equal(decoded, theirs)
        np.testing.assert_array_equal(again, theirs)
    else:
        assert decoded == ours
        assert again == theirs


def test_tensors_have_the_bytes_of_nested_structure_coder():
    theirs = nested_structure_coder.encode_structure(tf.constant([1.0, 1.0]))
    ours = StructuredValue.FromString(theirs.SerializeToString())
    np.testing.assert_array_equal(decode_structure(ours), np.ones(2, np.float32))

    class Array:
        shape, dtype = (2,), np.dtype("float32")

        def __array__(self, dtype=None, copy=None):
            return np.ones(2, np.float32)

    assert encode_structure(Array()) == ours


def test_bounded_specs_have_the_bytes_of_nested_structure_coder():
    theirs = tf_tensor_spec.BoundedTensorSpec([2], tf.float32, 0.0, [1.0, 2.0], name="b")
    ours = BoundedTensorSpec(
        (2,), as_dtype("float32"), "b", np.float32(0), np.array([1, 2], np.float32)
    )
    data = nested_structure_coder.encode_structure(theirs).SerializeToString(deterministic=True)
    assert serialize(encode_structure(ours)) == data
    decoded = decode_structure(StructuredValue.FromString(data))
    assert serialize(encode_structure(decoded)) == data


F32, I64 = as_dtype("float32"), as_dtype("int64")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            tf.RaggedTensorSpec([None, None], tf.float32),
            TypeSpecValue(3, "RaggedTensorSpec", (TensorShape([None, None]), F32, 1, I64), 2),
        ),
        (
            tf.SparseTensorSpec([1, None]),
            TypeSpecValue(1, "SparseTensorSpec", (TensorShape([1, None]), F32), 3),
        ),
        (
            tf.IndexedSlicesSpec(),
            TypeSpecValue(
                2, "IndexedSlicesSpec", (TensorShape(None), F32, I64, None, TensorShape([None])), 2
            ),
        ),
        (
            tf.TensorArraySpec([2]),
            TypeSpecValue(4, "TensorArraySpec", (TensorShape([2]), F32, False, True), 1),
        ),
        (
            tf.data.DatasetSpec(tf.TensorSpec([])),
            TypeSpecValue(5, "DatasetSpec", (TensorSpec([]), TensorShape([])), 1),
        ),
        (
            tf.OptionalSpec(tf.TensorSpec([])),
            TypeSpecValue(7, "OptionalSpec", (TensorSpec([]),), 1),
        ),
    ],
    ids=lambda v: type(v).__name__,
)
def test_type_specs_have_the_bytes_of_nested_structure_coder(theirs, ours):
    data = nested_structure_coder.encode_structure(theirs).SerializeToString(deterministic=True)
    assert decode_structure(StructuredValue.FromString(data)) == ours
    assert serialize(encode_structure(ours)) == data
    again = struct_pb2.StructuredValue.FromString(serialize(encode_structure(ours)))
    assert nested_structure_coder.decode_proto(again) == theirs


@pytest.mark.parametrize("value", [b"a", np.float32(1), 1j, object(), np.int64(3), lambda: None])
def test_both_refuse(value):
    with pytest.raises(nested_structure_coder.NotEncodableError):
        nested_structure_coder.encode_structure(value)
    with pytest.raises(TypeError):
        encode_structure(value)


def test_named_tuples_precede_tuples_and_bools_ints():
    for value in (Pair(1, 2), True, np.float64(2)):
        theirs = nested_structure_coder.encode_structure(value)
        assert serialize(encode_structure(value)) == theirs.SerializeToString()
