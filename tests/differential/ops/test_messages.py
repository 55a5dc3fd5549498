"""Protobuf messages whose types nodes describe are read and written as TensorFlow does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from savax.errors import InvalidArgumentError, UnsupportedParamError

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, load_function  # noqa: E402

pytestmark = pytest.mark.tf

# Field types and what they are as arrays.
TYPES = {
    "double": "float64",
    "float": "float32",
    "int64": "int64",
    "uint64": "uint64",
    "int32": "int32",
    "fixed64": "uint64",
    "fixed32": "uint32",
    "bool": "bool",
    "string": "string",
    "bytes": "string",
    "uint32": "uint32",
    "sfixed32": "int32",
    "sfixed64": "int64",
    "sint32": "int32",
    "sint64": "int64",
}
WIDE = {"float": "float64", "int32": "int64", "fixed32": "uint64", "uint32": "uint64"}
DEFAULTS = {
    "double": "1.5",
    "int32": "-7",
    "bool": "true",
    "string": "ab",
    "uint64": str(2**64 - 1),
}


def descriptors(syntax: str = "proto2") -> FileDescriptorSet:
    """Returns the type Row: optional, repeated and packed fields, an enum and a message."""
    files = FileDescriptorSet()
    kind = files.file.add(name="kind.proto", package="test", syntax="proto2")
    file = files.file.add(name="row.proto", package="test", syntax=syntax)
    file.dependency.append("kind.proto")
    enum = kind.enum_type.add(name="Kind")
    for number, name in enumerate(("NONE", "SOME", "MANY")):
        enum.value.add(name=name, number=number)
    kind.message_type.add(name="Inner").field.add(
        name="x", number=1, type=FieldDescriptorProto.TYPE_INT32, label=1
    )
    row = file.message_type.add(name="Row")
    for position, name in enumerate(TYPES):
        number = FieldDescriptorProto.Type.Value(f"TYPE_{name.upper()}")
        own = row.field.add(name=f"one_{name}", number=100 - position, type=number, label=1)
        if syntax == "proto2" and name in DEFAULTS:
            own.default_value = DEFAULTS[name]
        row.field.add(name=f"many_{name}", number=1 + position, type=number, label=3)
        if name not in ("string", "bytes"):
            packed = row.field.add(
                name=f"packed_{name}", number=40 + position, type=number, label=3
            )
            packed.options.packed = True
    if syntax == "proto2":
        row.field.add(name="kind", number=200, type=14, type_name=".test.Kind", label=1)
        row.field[-1].default_value = "SOME"
    row.field.add(name="inner", number=201, type=11, type_name=".test.Inner", label=3)
    return files


def message_class(files: FileDescriptorSet) -> Any:
    pool = DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("test.Row"))


FILES = descriptors()
SOURCE = b"bytes://" + FILES.SerializeToString()
Row = message_class(FILES)
SAMPLES = {
    "bool": [True, False],
    "string": ["é", "", "b"],
    "bytes": [b"\xff\0", b""],
    **{name: [0.5, -2.0, np.inf] for name in ("double", "float")},
    **{name: [7, 0, 2**31 - 1] for name in ("fixed64", "fixed32", "uint32")},
    "uint64": [2**64 - 1, 3],
    **{name: [-1, 5, -(2**31)] for name in ("int32", "sfixed32", "sint32")},
    **{name: [-1, 5, -(2**63), 2**63 - 1] for name in ("int64", "sfixed64", "sint64")},
}


def rows() -> np.ndarray:
    """Returns serialized messages [3, 1]: one with all fields, one with some, an empty one."""
    full, some = Row(), Row()
    for name in TYPES:
        setattr(full, f"one_{name}", SAMPLES[name][0])
        getattr(full, f"many_{name}").extend(SAMPLES[name])
        if name not in ("string", "bytes"):
            getattr(full, f"packed_{name}").extend(SAMPLES[name])
        getattr(some, f"many_{name}").extend(SAMPLES[name][:1])
    full.inner.add(x=3)
    full.inner.add()
    full.kind = 2
    data = [full.SerializeToString(), some.SerializeToString() * 2, b""]
    return np.array(data, object).reshape(3, 1)


def fields(*kinds: str, wide: bool = False) -> dict[str, Any]:
    """Returns the attributes that ask for all fields of some kinds."""
    names, types = [], []
    for kind in kinds:
        for name, dtype in TYPES.items():
            if kind != "packed" or name not in ("string", "bytes"):
                names.append(f"{kind}_{name}")
                types.append(tf.as_dtype(WIDE.get(name, dtype) if wide else dtype))
    return {"field_names": names, "output_types": types}


TYPE = {"message_type": "test.Row", "descriptor_source": SOURCE}


@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
def test_fields_are_read_alike(wide: bool) -> None:
    # TensorFlow takes packed negative numbers for large ones where the array is wider.
    asked = fields("one", "many", *([] if wide else ["packed"]), wide=wide)
    asked["field_names"] += ["kind", "inner"]
    asked["output_types"] += [tf.int32, tf.string]
    check_evaluation("DecodeProtoV2", rows(), **TYPE, **asked)
    check_evaluation("DecodeProtoV2", rows()[0, 0], **TYPE, **fields("many"), sanitize=True)


def test_text_is_read_alike() -> None:
    text = b'one_int32: 3 many_string: "a" many_string: "b" inner { x: 4 } packed_float: [1, 2]'
    asked = {"field_names": ["many_string", "packed_float", "one_double", "inner"]}
    types = {"output_types": [tf.string, tf.float32, tf.float64, tf.string]}
    given = np.array([text, b""], object)
    check_evaluation("DecodeProtoV2", given, **TYPE, **asked, **types, message_format="text")


def test_unusual_bytes_are_read_alike() -> None:
    asked = {"field_names": ["many_int32", "one_int32"], "output_types": [tf.int32, tf.int64]}
    many, one = 5 << 3, 96 << 3  # TYPES has int32 in the fifth place
    cases = [
        bytes([many, 1, many | 2, 2, 2, 3, many, 0x80, 0x80, 0]),  # single and packed, long zeros
        bytes([many | 5, 1, 2, 3, 4, many, 9]),  # a value of another wire type is left out
        bytes([many, *[0xFF] * 9, 1]),  # -1 in ten bytes
        bytes([0x80 | one & 0x7F, one >> 7, 1, 0x80 | one & 0x7F, one >> 7, 2]),  # the last counts
        bytes([0xFB, 0x3E, many, 1, 0xFC, 0x3E, many, 2]),  # within a group that nobody knows
    ]
    for case in cases:
        check_evaluation("DecodeProtoV2", np.array([case], object), **TYPE, **asked)


@pytest.mark.parametrize(
    "data",
    [b"\x28", b"\x28\xff", b"\x2a\x05a", b"\x28" + b"\xff" * 11, b"\xfb\x3e", b"\xfc\x3e", b"\x2f"],
    ids=["cut", "number", "length", "endless", "group", "end", "type"],
)
def test_damaged_messages_are_refused(data: bytes) -> None:
    asked = {"field_names": ["many_int32"], "output_types": [tf.int32]}

    def read(data: tf.Tensor) -> Any:
        return tf.raw_ops.DecodeProtoV2(bytes=data, **TYPE, **asked)

    with pytest.raises(tf.errors.OpError):
        read(tf.constant([data]))
    body = load_function(tf.function(read).get_concrete_function(tf.TensorSpec([1], "string"))).body
    with pytest.raises(InvalidArgumentError, match="can't be read"):
        body.run([np.array([data], object)])


@pytest.mark.parametrize("syntax", ["proto2", "proto3"])
def test_messages_are_written_alike(syntax: str) -> None:
    asked = fields("many", "packed")
    values, sizes = [], []
    for name, dtype in zip(asked["field_names"], asked["output_types"], strict=True):
        items = SAMPLES[name.split("_")[1]][:2]
        if dtype == tf.string:
            items = [x.encode() if isinstance(x, str) else x for x in items]
            values.append(np.array([items, items[::-1]], object))
        else:
            values.append(np.array([items, items[::-1]], dtype.as_numpy_dtype))
        sizes.append([2, len(sizes) % 3])
    source = {**TYPE, "descriptor_source": b"bytes://" + descriptors(syntax).SerializeToString()}
    names = asked["field_names"]
    counts = np.array(sizes, np.int32).T
    (written,) = check_evaluation("EncodeProto", counts, values, **source, field_names=names)
    read = message_class(descriptors(syntax)).FromString(written[0])
    assert list(read.many_int64) == SAMPLES["int64"][:2]
    check_evaluation(
        "EncodeProto",
        np.array([[1, 0]], np.int32),
        [np.array([[-5]], np.int64), np.array([[b"\x08\x01"]], object)],
        **source,
        field_names=["one_int32", "inner"],
    )


def decoded(**attrs: Any) -> Any:
    def read(data: tf.Tensor) -> Any:
        return tf.raw_ops.DecodeProtoV2(bytes=data, **{**TYPE, **attrs})

    spec = tf.TensorSpec([1], tf.string)
    body = load_function(tf.function(read).get_concrete_function(spec)).body
    return body.run([np.array([b""], object)])


def test_other_types_are_refused() -> None:
    asked = {"field_names": ["many_int32"], "output_types": [tf.int32]}
    for source in ("local://", "/tmp/row.pb"):
        with pytest.raises(UnsupportedParamError, match="outside of the model"):
            decoded(**asked, descriptor_source=source)
    with pytest.raises(InvalidArgumentError, match="message type"):
        decoded(**asked, descriptor_source=b"bytes://\xff\xff")
    with pytest.raises(InvalidArgumentError, match=r"message type 'test\.None'"):
        decoded(**asked, message_type="test.None")
    with pytest.raises(InvalidArgumentError, match="no field 'none'"):
        decoded(field_names=["none"], output_types=[tf.int32])
    with pytest.raises(InvalidArgumentError, match="int32 or int64, not float32"):
        decoded(field_names=["many_int32"], output_types=[tf.float32])
    lacking = FileDescriptorSet(file=FILES.file[1:])
    with pytest.raises(InvalidArgumentError, match="don't have the message type"):
        decoded(**asked, descriptor_source=b"bytes://" + lacking.SerializeToString())
