"""Sparse, ragged and sliced tensors in graphs and signatures of version 1, in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import savax
from savax.compat import v1
from savax.errors import CorruptSavedModelError, InvalidArgumentError, NotEncodableError
from savax.protos import TensorInfo, TypeSpecProto

tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1
pytestmark = pytest.mark.tf

SPARSE = ([[0, 1], [2, 0]], [1.5, -2.0], [3, 2])
EMPTY = (np.zeros((0, 2), np.int64), [], [0, 2])
ROWS = ([1.0, 2.0, 3.0], [0, 2, 2, 3])


def build(names: Any, unary: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns inputs and outputs of a graph, made by the names of one side."""
    sparse = names.sparse_placeholder("float32", [None, 2], name="s")
    doubled = names.SparseTensor(
        sparse.indices, unary("Neg", sparse.values, "doubled"), sparse.dense_shape
    )
    values = names.placeholder("float32", [None], name="values")
    splits = names.placeholder("int64", [None], name="splits")
    ragged = ragged_of(names, values, splits)
    slices = names.IndexedSlices(
        names.placeholder("float32", [None, 2], name="rows"),
        names.placeholder("int64", [None], name="places"),
    )
    negative = ragged_of(names, unary("Neg", values, "negative"), splits)
    any_rank = names.sparse_placeholder("float32", name="any_rank")
    inputs = {"r": ragged, "s": sparse, "slices": slices, "any": any_rank}
    return inputs, {"r": negative, "s": doubled, "rows": unary("Neg", slices.values, "more")}


def ragged_of(names: Any, values: Any, splits: Any) -> Any:
    if names is tf1:
        return tf.RaggedTensor.from_row_splits(values, splits, validate=False)
    return savax.RaggedTensor(values, [splits])


def unary_of_tensorflow(op: str, x: Any, name: str) -> Any:
    return getattr(tf.raw_ops, op)(x=x, name=name)


def unary_of_savax(op: str, x: Any, name: str) -> Any:
    return x.graph.op(op, x, name=name)


def test_messages_are_those_of_tensorflow() -> None:
    with tf.Graph().as_default():
        inputs, outputs = build(tf1, unary_of_tensorflow)
        values = {**inputs, "negative": outputs["r"]}
        theirs = {key: tf1.saved_model.build_tensor_info(x) for key, x in values.items()}
    with v1.Graph().as_default():
        inputs, outputs = build(v1, unary_of_savax)
        values = {**inputs, "negative": outputs["r"]}
        ours = {key: v1.saved_model.build_tensor_info(x) for key, x in values.items()}
    for key, info in theirs.items():
        assert ours[key] == TensorInfo.FromString(info.SerializeToString()), key


def write_tensorflow_model(directory: str) -> None:
    with tf1.Session(graph=tf.Graph()) as session:
        inputs, outputs = build(tf1, unary_of_tensorflow)
        tf1.saved_model.simple_save(session, directory, inputs, outputs)


def write_savax_model(directory: str) -> None:
    with v1.Session(graph=v1.Graph()) as session:
        inputs, outputs = build(v1, unary_of_savax)
        v1.saved_model.simple_save(session, directory, inputs, outputs)


FEEDS = {
    "s_indices": np.array(SPARSE[0], np.int64),
    "s_values": np.array(SPARSE[1], np.float32),
    "s_dense_shape": np.array(SPARSE[2], np.int64),
    "r_component_0": np.array(ROWS[0], np.float32),
    "r_component_1": np.array(ROWS[1], np.int64),
    "slices_component_0": np.ones((2, 2), np.float32),
    "slices_component_1": np.array([4, 0], np.int64),
    "any_indices": np.zeros((0, 1), np.int64),
    "any_values": np.zeros(0, np.float32),
    "any_dense_shape": np.zeros(1, np.int64),
}


@pytest.mark.parametrize("write", [write_tensorflow_model, write_savax_model])
def test_models_run_in_both(write, tmp_path) -> None:
    directory = str(tmp_path / "model")
    write(directory)
    theirs = tf.saved_model.load(directory).signatures["serving_default"]
    expected = theirs(**{key: tf.constant(value) for key, value in FEEDS.items()})
    got = savax.saved_model.load(directory).signatures["serving_default"](**FEEDS)
    np.testing.assert_array_equal(got["rows"], expected["rows"])
    for name in ("indices", "values", "dense_shape"):
        np.testing.assert_array_equal(getattr(got["s"], name), getattr(expected["s"], name))
    np.testing.assert_array_equal(got["r"].flat_values, expected["r"].flat_values)
    np.testing.assert_array_equal(got["r"].nested_row_splits[0], expected["r"].row_splits)
    with v1.Session(graph=v1.Graph()) as session:
        definition = v1.saved_model.load(session, ["serve"], directory)
        signature = definition.signature_def["serving_default"]
        tensors = {
            f"{kind}_{name}": v1.saved_model.get_tensor_from_tensor_info(info)
            for kind, infos in (("in", signature.inputs), ("out", signature.outputs))
            for name, info in infos.items()
        }
        for sparse in (SPARSE, EMPTY, v1.SparseTensorValue(*SPARSE), savax.SparseTensor(*SPARSE)):
            value = session.run(tensors["out_s"], {tensors["in_s"]: sparse})
            assert isinstance(value, v1.SparseTensorValue)
            fed = sparse.values if hasattr(sparse, "values") else sparse[1]
            np.testing.assert_array_equal(value.values, -np.asarray(fed))
        ragged = session.run([tensors["out_r"]], {tensors["in_r"]: ROWS})[0]
        np.testing.assert_array_equal(ragged.flat_values, [-1, -2, -3])


def test_signatures_with_composite_results_are_not_saved_again(tmp_path) -> None:
    write_savax_model(str(tmp_path / "model"))
    loaded = savax.saved_model.load(tmp_path / "model")
    with pytest.raises(NotEncodableError, match="'r', 's'"):
        savax.saved_model.save(loaded, tmp_path / "again")
    negative = loaded.prune("values:0", {"y": "negative:0"})
    savax.saved_model.save(loaded, tmp_path / "again", signatures=negative)
    again = tf.saved_model.load(str(tmp_path / "again")).signatures["serving_default"]
    assert again(tf.constant([1.0, 2.0]))["y"].numpy().tolist() == [-1, -2]


def test_what_is_no_composite_is_refused() -> None:
    with v1.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        sparse = v1.sparse_placeholder("float32", [None, 2], name="s")
        with pytest.raises(InvalidArgumentError, match="3 parts"):
            session.run(sparse, {sparse: ([[0, 0]], [1.0])})
        with pytest.raises(InvalidArgumentError, match="tensors of a graph"):
            v1.saved_model.build_tensor_info(savax.SparseTensor(*SPARSE))
        info = v1.saved_model.build_tensor_info(savax.RaggedTensor(sparse.values, [sparse.values]))
        del info.composite_tensor.components[1]
        with pytest.raises(CorruptSavedModelError, match="1 tensors"):
            v1.saved_model.get_tensor_from_tensor_info(info)
        info.composite_tensor.type_spec.type_spec_class = TypeSpecProto.DATA_ITERATOR_SPEC
        with pytest.raises(CorruptSavedModelError):
            v1.saved_model.get_tensor_from_tensor_info(info)
