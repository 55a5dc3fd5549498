"""Parsing ops against TensorFlow's kernels."""

from __future__ import annotations

import json

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function, load_function  # noqa: E402

from savax.errors import InvalidArgumentError, ResourceLimitError  # noqa: E402

pytestmark = pytest.mark.tf


def example(**features):
    lists = {
        bytes: lambda v: {"bytes_list": tf.train.BytesList(value=v)},
        float: lambda v: {"float_list": tf.train.FloatList(value=v)},
        int: lambda v: {"int64_list": tf.train.Int64List(value=v)},
    }
    found = {}
    for name, values in features.items():
        kind = type(values[0]) if values else None
        found[name] = tf.train.Feature(**(lists[kind](values) if kind else {}))
    return tf.train.Example(features=tf.train.Features(feature=found)).SerializeToString()


EXAMPLES = np.array(
    [
        example(a=[1.0, 2.0], b=[b"x"], c=[1, 2, 3], d=[0.5]),
        example(a=[3.0, 4.0], c=[], d=[1.5, 2.5], e=[b"\xff", b""]),
        example(a=[5.0, 6.0], b=[b"y\x00"], c=[-(2**60)], f=[7]),
    ],
    object,
)


def _parse(spec):
    return lambda serialized: tf.nest.flatten(
        tf.io.parse_example(serialized, spec), expand_composites=True
    )


SPECS = {
    "dense": {
        "a": tf.io.FixedLenFeature([2], tf.float32),
        "b": tf.io.FixedLenFeature([], tf.string, "none"),
        "f": tf.io.FixedLenFeature([1, 1], tf.int64, [[-1]]),
    },
    "default": {"f2": tf.io.FixedLenFeature([2], tf.int64, [4, 5])},
    "sparse": {"c": tf.io.VarLenFeature(tf.int64), "e": tf.io.VarLenFeature(tf.string)},
    "ragged": {
        "c": tf.io.RaggedFeature(tf.int64),
        "d": tf.io.RaggedFeature(tf.float32, row_splits_dtype=tf.int64),
    },
    "padded": {
        "d": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
        "a": tf.io.FixedLenSequenceFeature([1], tf.float32, True, default_value=-1.0),
        "e": tf.io.FixedLenSequenceFeature([], tf.string, True, default_value="pad"),
    },
    "all": {
        "a": tf.io.FixedLenFeature([2], tf.float32),
        "c": tf.io.VarLenFeature(tf.int64),
        "d": tf.io.RaggedFeature(tf.float32),
    },
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("count", [3, 1, 0])
def test_parse_example(name, count):
    function = tf.function(_parse(SPECS[name]))
    concrete = function.get_concrete_function(tf.TensorSpec([None], tf.string))
    check_function(concrete, EXAMPLES[:count])


@pytest.mark.parametrize("name", ["dense", "sparse", "ragged"])
def test_parse_one_example(name):
    scalar = np.array(EXAMPLES[0], object)
    concrete = tf.function(_parse(SPECS[name])).get_concrete_function(tf.TensorSpec([], tf.string))
    check_function(concrete, scalar)
    if name != "ragged":
        single = tf.function(
            lambda s: tf.nest.flatten(
                tf.io.parse_single_example(s, SPECS[name]), expand_composites=True
            )
        )
        check_function(single.get_concrete_function(tf.TensorSpec([], tf.string)), scalar)


def test_older_parsing_ops():
    check_evaluation(
        "ParseExample",
        EXAMPLES,
        np.array([b"n1", b"n2", b"n3"], object),
        [b"c"],
        [b"a", b"b"],
        [np.float32([]), np.array([b"none"], object)],
        sparse_types=[tf.int64],
        dense_shapes=[[2], [1]],
    )
    check_evaluation(
        "ParseSingleExample",
        np.array(EXAMPLES[0], object),
        [np.float32([])],
        constant=["dense_defaults"],
        num_sparse=1,
        sparse_keys=["c"],
        dense_keys=["a"],
        sparse_types=[tf.int64],
        dense_shapes=[[2]],
    )


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ({"zz": tf.io.FixedLenFeature([], tf.int64)}, "lacks the feature 'zz'"),
        ({"a": tf.io.FixedLenFeature([2], tf.int64)}, "expected int64, found float32"),
        ({"a": tf.io.FixedLenFeature([3], tf.float32)}, "2 values"),
        ({"b": tf.io.VarLenFeature(tf.int64)}, "expected int64, found string"),
    ],
    ids=["missing", "dtype", "size", "sparse dtype"],
)
def test_examples_that_dont_fit(spec, match):
    concrete = tf.function(_parse(spec)).get_concrete_function(tf.TensorSpec([None], tf.string))
    with pytest.raises(tf.errors.InvalidArgumentError):
        concrete(tf.constant(EXAMPLES))
    with pytest.raises(InvalidArgumentError, match=match):
        load_function(concrete).body.run([EXAMPLES])


def test_bytes_that_are_no_example():
    concrete = tf.function(_parse(SPECS["dense"])).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )
    for wrong in (b"\xff\xff\xff", EXAMPLES[0][:-3], b"\x0a\xff\xff\xff\xff\x0f"):
        with pytest.raises(InvalidArgumentError, match="Example 0"):
            load_function(concrete).body.run([np.array([wrong], object)])


def test_huge_shapes_are_refused():
    raw = tf.function(
        lambda s: tf.raw_ops.ParseExampleV2(
            serialized=s,
            names=[],
            sparse_keys=[],
            dense_keys=["q"],
            ragged_keys=[],
            dense_defaults=[tf.constant([], tf.int64)],
            num_sparse=0,
            sparse_types=[],
            ragged_value_types=[],
            ragged_split_types=[],
            dense_shapes=[[None, 2**40]],
        )
    )
    body = load_function(raw.get_concrete_function(tf.TensorSpec([None], tf.string))).body
    with pytest.raises((ResourceLimitError, InvalidArgumentError)):
        body.run([np.array([example(q=[1])], object)])


TENSORS = {
    "float": np.float32([[1, 2], [3, 4]]),
    "scalar": np.int64(7),
    "empty": np.zeros((0, 3), np.uint8),
    "bool": np.array([True, False, True]),
    "strings": np.array([b"a", b"", b"\xff"], object),
    "half": np.float16([1, 2]),
    "complex": np.complex64([1j]),
    "equal": np.ones((4,), np.int32),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors(name):
    value = TENSORS[name]
    dtype = tf.string if value.dtype == object else tf.as_dtype(value.dtype)
    serialized = check_evaluation("SerializeTensor", value)[0]
    check_evaluation("ParseTensor", serialized, out_type=dtype)
    other = np.array(tf.make_tensor_proto(value).SerializeToString(), object)
    check_evaluation("ParseTensor", other, out_type=dtype)


def test_wrong_tensors():
    concrete = tf.function(lambda s: tf.io.parse_tensor(s, tf.int32)).get_concrete_function(
        tf.TensorSpec([], tf.string)
    )
    body = load_function(concrete).body
    huge = tf.make_tensor_proto(np.int32([1, 1]))
    huge.tensor_shape.dim[0].size = 2**50
    for wrong in (b"junk", tf.io.serialize_tensor(1.0).numpy(), huge.SerializeToString()):
        with pytest.raises((InvalidArgumentError, ResourceLimitError)):
            body.run([np.array(wrong, object)])


def csv_row(*defaults, records, **attrs):
    text = np.array(records, object)
    check_evaluation("DecodeCSV", text, list(defaults), constant=["record_defaults"], **attrs)


def test_csv():
    text, whole = np.array([b"-"], object), np.int32([7])
    csv_row(whole, text, np.float32([0.5]), records=[b"1,abc,2.5", b",,", b'3,"a,""b""",-1e3'])
    csv_row(np.int64([]), text, records=[b"1;x", b"2;"], field_delim=";")
    csv_row(text, text, records=[b'"a",b', b"c d,"], use_quote_delim=False)
    csv_row(whole, text, records=[b"NA,x,4", b"2,y,NA"], na_value="NA", select_cols=[0, 2])
    csv_row(text, records=[b'""', b'"x"'])
    csv_row(np.float64([0]), records=[[b"1"], [b"2"]])


def test_wrong_csv():
    concrete = tf.function(
        lambda s: tf.io.decode_csv(s, [tf.constant([], tf.int32), ""])
    ).get_concrete_function(tf.TensorSpec([None], tf.string))
    body = load_function(concrete).body
    for wrong in (
        b"1",
        b"1,a\n",
        b'1,"a"\r\n',
        b"1,2,3",
        b",a",
        b"x,a",
        b'1,"a',
        b'1,"a"b',
        b'1,a"b',
    ):
        with pytest.raises(tf.errors.InvalidArgumentError):
            concrete(tf.constant([wrong]))
        with pytest.raises(InvalidArgumentError):
            body.run([np.array([wrong], object)])


def test_json_examples():
    document = {
        "features": {
            "feature": {
                "a": {"floatList": {"value": [1.5, 2]}},
                "b": {"bytesList": {"value": ["eA=="]}},
                "c": {"int64List": {"value": ["3", 4]}},
            }
        }
    }
    text = np.array([json.dumps(document).encode()], object)
    concrete = tf.function(tf.io.decode_json_example).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )
    body = load_function(concrete).body
    (found,) = body.run([text])
    expected = concrete(tf.constant(text)).numpy()
    parsed = [tf.train.Example.FromString(items[0]) for items in (found, expected)]
    assert parsed[0] == parsed[1]
    for wrong in (b"{", b'{"nope": 1}', b"[" * 5000):
        with pytest.raises(InvalidArgumentError, match="JSON"):
            body.run([np.array([wrong], object)])


def sequence_example(context, lists):
    def feature(values):
        return tf.train.Example.FromString(example(x=values)).features.feature["x"]

    feature_lists = {
        key: tf.train.FeatureList(feature=[feature(values) for values in steps])
        for key, steps in lists.items()
    }
    return tf.train.SequenceExample(
        context=tf.train.Features(feature={k: feature(v) for k, v in context.items()}),
        feature_lists=tf.train.FeatureLists(feature_list=feature_lists),
    ).SerializeToString()


SEQUENCES = np.array(
    [
        sequence_example(
            {"a": [1], "s": [b"x", b"y"]},
            {"d": [[1.0, 2.0], [3.0, 4.0]], "v": [[1, 2], [], [3]], "r": [[b"p"], [b"q", b"r"]]},
        ),
        sequence_example({"a": [2]}, {"d": [[5.0, 6.0]], "v": [[9]]}),
        sequence_example({"a": [3]}, {}),
    ],
    object,
)
CONTEXT = {
    "a": tf.io.FixedLenFeature([], tf.int64),
    "s": tf.io.VarLenFeature(tf.string),
    "n": tf.io.FixedLenFeature([2], tf.float32, [7, 8]),
}
LISTS = {
    "d": tf.io.FixedLenSequenceFeature([2], tf.float32, allow_missing=True),
    "v": tf.io.VarLenFeature(tf.int64),
}
RAGGED = {"r": tf.io.RaggedFeature(tf.string), "s2": tf.io.RaggedFeature(tf.int64)}


def _flat(parsed):
    return tf.nest.flatten(parsed, expand_composites=True)


@pytest.mark.parametrize("count", [3, 1])
def test_sequence_examples(count):
    def f(serialized):
        context = {**CONTEXT, "s3": tf.io.RaggedFeature(tf.string)}
        return _flat(tf.io.parse_sequence_example(serialized, context, {**LISTS, **RAGGED}))

    concrete = tf.function(f).get_concrete_function(tf.TensorSpec([None], tf.string))
    check_function(concrete, SEQUENCES[:count])


@pytest.mark.parametrize("lists", [LISTS, {**LISTS, **RAGGED}], ids=["plain", "ragged"])
def test_one_sequence_example(lists):
    def f(serialized):
        return _flat(tf.io.parse_single_sequence_example(serialized, CONTEXT, lists))

    concrete = tf.function(f).get_concrete_function(tf.TensorSpec([], tf.string))
    check_function(concrete, np.array(SEQUENCES[0], object))


def test_older_op_of_sequence_examples():
    check_evaluation(
        "ParseSequenceExample",
        SEQUENCES[:2],
        np.array([], object),
        [np.int64([])],
        constant=["context_dense_defaults"],
        feature_list_dense_missing_assumed_empty=["d"],
        context_sparse_keys=["s"],
        context_dense_keys=["a"],
        feature_list_sparse_keys=["v"],
        feature_list_dense_keys=["d"],
        Ncontext_dense=1,
        Ncontext_sparse=1,
        Nfeature_list_sparse=1,
        Nfeature_list_dense=1,
        context_sparse_types=[tf.string],
        feature_list_dense_types=[tf.float32],
        context_dense_shapes=[[]],
        feature_list_sparse_types=[tf.int64],
        feature_list_dense_shapes=[[2]],
    )


def test_sequences_that_dont_fit():
    def f(serialized):
        lists = {"d": tf.io.FixedLenSequenceFeature([2], tf.float32)}
        return _flat(tf.io.parse_sequence_example(serialized, CONTEXT, lists))

    body = load_function(
        tf.function(f).get_concrete_function(tf.TensorSpec([None], tf.string))
    ).body
    uneven = sequence_example({"a": [1]}, {"d": [[1.0, 2.0], [3.0]]})
    integers = sequence_example({"a": [1]}, {"d": [[1, 2]]})
    for wrong in (SEQUENCES[2], uneven, integers, b"\xff"):
        with pytest.raises(InvalidArgumentError):
            body.run([np.array([wrong], object)])


def test_single_sequences_of_older_graphs_agree() -> None:
    example = tf.train.SequenceExample()
    example.context.feature["n"].int64_list.value.append(3)
    for row in ([1.0, 2.0], [3.0, 4.0]):
        steps = example.feature_lists.feature_list["x"].feature.add()
        steps.float_list.value.extend(row)
    words = example.feature_lists.feature_list["w"].feature.add()
    words.bytes_list.value.extend([b"a", b"b"])
    check_evaluation(
        "ParseSingleSequenceExample",
        np.array(example.SerializeToString(), object),
        np.array([], object),
        [],
        [np.array(b"n", object)],
        [np.array(b"w", object)],
        [np.array(b"x", object)],
        [np.array([], np.int64)],
        np.array(b"", object),
        context_sparse_types=[],
        feature_list_dense_types=[tf.float32],
        context_dense_shapes=[[]],
        feature_list_sparse_types=[tf.string],
        feature_list_dense_shapes=[[2]],
    )
