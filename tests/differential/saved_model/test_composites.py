"""Sparse, ragged and sliced values as arguments and results of TensorFlow's functions."""

from __future__ import annotations

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import savax  # noqa: E402
from savax.saved_model import load, save  # noqa: E402

pytestmark = pytest.mark.tf

INDICES = np.array([[0, 1], [2, 3]], np.int64)
SPARSE = (INDICES, np.array([1, 2], np.float32), np.array([5, 4], np.int64))
RAGGED = (np.arange(6, dtype=np.int64), (np.array([0, 2, 3]), np.array([0, 1, 4, 6])))
WORDS = (np.array([b"a", b"b\xc3\xa9", b""], object), (np.array([0, 3, 3], np.int32),))
SLICES = (np.ones((2, 3), np.float32), np.array([0, 4], np.int64))


class _Model(tf.Module):
    @tf.function(input_signature=[tf.SparseTensorSpec([None, 4])])
    def sparse(self, x):
        return {"double": x * 2.0, "dense": tf.sparse.to_dense(x)}

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None, None], tf.int64)])
    def ragged(self, x):
        return x + 1, tf.reduce_sum(x.flat_values)

    @tf.function(
        input_signature=[tf.RaggedTensorSpec([2, None], tf.string, row_splits_dtype=tf.int32)]
    )
    def words(self, x):
        return tf.strings.length(x.flat_values), x

    @tf.function(input_signature=[tf.IndexedSlicesSpec([None, 3]), tf.TensorSpec([])])
    def slices(self, x, factor):
        return [tf.IndexedSlices(x.values * factor, x.indices)]


def _in_tensorflow(model):
    """Returns the results of all functions, flat."""
    results = [
        model.sparse(tf.SparseTensor(*SPARSE)),
        model.ragged(tf.RaggedTensor.from_nested_row_splits(*RAGGED)),
        model.words(tf.RaggedTensor.from_nested_row_splits(*WORDS)),
        model.slices(tf.IndexedSlices(*SLICES), 3.0),
    ]
    return [x.numpy() for x in tf.nest.flatten(results, expand_composites=True)]


def _here(model):
    results = [
        model.sparse(savax.SparseTensor(*SPARSE)),
        model.ragged(savax.RaggedTensor(*RAGGED)),
        model.words(x=savax.RaggedTensor(*WORDS)),
        model.slices(savax.IndexedSlices(*SLICES), 3.0),
    ]
    kinds = savax.SparseTensor, savax.RaggedTensor, savax.IndexedSlices
    assert isinstance(results[0]["double"], kinds[0])
    assert isinstance(results[1][0], kinds[1])
    assert results[1][0].ragged_rank == 2
    assert isinstance(results[3][0], kinds[2])
    return [np.asarray(x) for x in jax.tree.leaves(results)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("composites") / "model")
    tf.saved_model.save(_Model(), path)
    return path


@pytest.fixture(scope="module")
def loaded(directory):
    return load(directory)


def _assert_equal(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_results_are_those_of_tensorflow(loaded):
    _assert_equal(_here(loaded), _in_tensorflow(_Model()))


def test_saving_again_keeps_the_signatures(directory, loaded, tmp_path):
    save(loaded, tmp_path / "again")
    _assert_equal(_here(load(tmp_path / "again")), _in_tensorflow(_Model()))
    again = tf.saved_model.load(str(tmp_path / "again"))
    _assert_equal(_in_tensorflow(again), _in_tensorflow(_Model()))
    first = tf.saved_model.load(directory)
    for name in ("sparse", "ragged", "words", "slices"):
        concretes = [getattr(model, name).concrete_functions[0] for model in (first, again)]
        specs = [concrete.structured_input_signature for concrete in concretes]
        assert specs[0] == specs[1]


def test_composites_pass_through_transformations(loaded):
    def loss(values):
        return loaded.sparse(savax.SparseTensor(INDICES, values, SPARSE[2]))["dense"].sum()

    values = jnp.array([1.0, 2.0])
    np.testing.assert_array_equal(jax.grad(loss)(values), [1.0, 1.0])
    assert jax.tree.map(jnp.shape, savax.IndexedSlices(*SLICES)).values == (2, 3)


def test_empty_composites(loaded):
    empty = savax.SparseTensor(INDICES[:0], SPARSE[1][:0], SPARSE[2])
    assert not loaded.sparse(empty)["dense"].any()
    rows, total = loaded.ragged(savax.RaggedTensor(RAGGED[0][:0], [[0], [0]]))
    assert (rows.flat_values.shape, int(total)) == ((0,), 0)


@pytest.mark.parametrize(
    "value",
    [np.ones((5, 4), np.float32), savax.RaggedTensor(*RAGGED), savax.SparseTensor([[0]], [1], [4])],
    ids=["array", "ragged", "other rank"],
)
def test_other_values_are_refused(loaded, value):
    with pytest.raises(savax.errors.SignatureMismatchError, match="sparse"):
        loaded.sparse(value)


class _Own(savax.Module):
    """savax's functions, with and without signatures."""

    @savax.function(input_signature=[savax.SparseTensorSpec([None, 4])])
    def sparse(self, x):
        doubled = savax.SparseTensor(x.indices, x.values * 2, x.dense_shape)
        dense = jnp.zeros((5, 4)).at[x.indices[:, 0], x.indices[:, 1]].set(x.values)
        return {"double": doubled, "dense": dense}

    @savax.function
    def ragged(self, x):
        grown = savax.RaggedTensor(x.flat_values + 1, x.nested_row_splits)
        return grown, x.flat_values.sum()

    @savax.function(input_signature=[savax.IndexedSlicesSpec([None, 3]), savax.TensorSpec([])])
    def slices(self, x, factor):
        return [savax.IndexedSlices(x.values * factor, x.indices)]


OWN_SPLITS = (np.array([0, 2, 2, 6]),)
OWN_VALUES = np.arange(6, dtype=np.float32)


@pytest.fixture(scope="module", params=[False, True], ids=["32 bits", "64 bits"])
def own(request, tmp_path_factory):
    """A saved model of savax's functions, traced with and without 64-bit types."""
    path = tmp_path_factory.mktemp("own") / "model"
    with jax.enable_x64(request.param):
        model = _Own()
        model.ragged(savax.RaggedTensor(OWN_VALUES, OWN_SPLITS))
        save(model, path)
    return path


def test_own_functions_run_in_tensorflow(own):
    model = tf.saved_model.load(str(own))
    found = model.sparse(tf.SparseTensor(*SPARSE))
    expected = tf.sparse.to_dense(tf.SparseTensor(*SPARSE))
    assert isinstance(found["double"], tf.SparseTensor)
    np.testing.assert_array_equal(tf.sparse.to_dense(found["double"]), 2 * expected)
    np.testing.assert_array_equal(found["dense"], expected)
    rows = tf.RaggedTensor.from_row_splits(OWN_VALUES, OWN_SPLITS[0])
    grown, total = model.ragged(rows)
    assert grown.to_list() == (rows + 1).to_list()
    assert float(total) == 15
    (scaled,) = model.slices(tf.IndexedSlices(*SLICES), 3.0)
    np.testing.assert_array_equal(scaled.values, 3 * SLICES[0])
    np.testing.assert_array_equal(scaled.indices, SLICES[1])
    empty = tf.SparseTensor(INDICES[:0], SPARSE[1][:0], SPARSE[2])
    assert not model.sparse(empty)["dense"].numpy().any()
    concrete = model.sparse.concrete_functions[0]
    assert concrete.structured_input_signature == ((tf.SparseTensorSpec([None, 4]),), {})


def test_own_functions_are_loaded_again(own):
    model, here = load(own), _Own()
    here.ragged(savax.RaggedTensor(OWN_VALUES, OWN_SPLITS))
    for call in (
        lambda m: m.sparse(savax.SparseTensor(*SPARSE)),
        lambda m: m.ragged(savax.RaggedTensor(OWN_VALUES, OWN_SPLITS)),
        lambda m: m.slices(savax.IndexedSlices(*SLICES), 3.0),
    ):
        found, expected = call(model), call(here)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)


class _Parts(savax.Module):
    """Functions whose results have indices and row splits that they compute."""

    @savax.function(input_signature=[savax.SparseTensorSpec([None, 4])])
    def sparse(self, x):
        return savax.SparseTensor(x.indices[::-1], x.values, x.dense_shape)

    @savax.function(input_signature=[savax.RaggedTensorSpec([None, None])])
    def ragged(self, x):
        return savax.RaggedTensor(x.flat_values, [x.nested_row_splits[0] + 0])

    @savax.function(
        input_signature=[savax.RaggedTensorSpec([None, None], row_splits_dtype="int32")]
    )
    def narrow_ragged(self, x):
        return savax.RaggedTensor(x.flat_values, [x.nested_row_splits[0] + 0])

    @savax.function(input_signature=[savax.IndexedSlicesSpec([None, 3])])
    def slices(self, x):
        return savax.IndexedSlices(x.values, x.indices + 1)

    @savax.function(input_signature=[savax.IndexedSlicesSpec([None, 3], indices_dtype="int32")])
    def narrow_slices(self, x):
        return savax.IndexedSlices(x.values, x.indices + 1)

    @savax.function(input_signature=[])
    def constant(self):
        return savax.RaggedTensor(jnp.arange(3.0), [jnp.array([0, 1, 3])])


@pytest.mark.parametrize("wide", [False, True], ids=["32 bits", "64 bits"])
def test_parts_of_results_have_tensorflows_types(tmp_path, wide):
    narrow_splits = [OWN_SPLITS[0].astype(np.int32)]
    with jax.enable_x64(wide):
        model = _Parts()
        found = {
            "sparse": model.sparse(savax.SparseTensor(*SPARSE)).indices,
            "ragged": model.ragged(savax.RaggedTensor(OWN_VALUES, OWN_SPLITS)).nested_row_splits[0],
            "narrow_ragged": model.narrow_ragged(
                savax.RaggedTensor(OWN_VALUES, narrow_splits)
            ).nested_row_splits[0],
            "slices": model.slices(savax.IndexedSlices(*SLICES)).indices,
            "narrow_slices": model.narrow_slices(
                savax.IndexedSlices(SLICES[0], SLICES[1].astype(np.int32))
            ).indices,
            "constant": model.constant().nested_row_splits[0],
        }
        frozen = savax.freeze(model.constant)()
        save(model, tmp_path / "model")
    np.testing.assert_array_equal(found["sparse"], INDICES[::-1])
    assert frozen.nested_row_splits[0].dtype == np.int64
    again = tf.saved_model.load(str(tmp_path / "model"))
    for name, part in found.items():
        assert (name, part.dtype) == (name, "int32" if name.startswith("narrow") else "int64")
        spec = getattr(again, name).concrete_functions[0].structured_outputs
        parts = spec._component_specs
        dtypes = {s.dtype for s in tf.nest.flatten(parts) if s.dtype.is_integer}
        assert (name, dtypes) == (name, {tf.as_dtype(part.dtype)})


def test_parts_that_are_no_tensors_arent_saved(tmp_path):
    model = savax.Module()
    model.f = savax.function(lambda x: x.values * 2)
    model.f(savax.IndexedSlices(SLICES[0], "all"))
    with pytest.raises(savax.errors.NotEncodableError, match=r"IndexedSlices whose parts aren't"):
        save(model, tmp_path / "model")


@pytest.mark.parametrize("ragged_rank", [0, -1, 3, 2_000_000_000])
def test_ragged_ranks_that_cant_be_are_refused(directory, tmp_path, ragged_rank):
    shutil.copytree(directory, tmp_path / "model")
    os.remove(tmp_path / "model" / "fingerprint.pb")
    file = tmp_path / "model" / "saved_model.pb"
    model = savax.protos.SavedModel.FromString(file.read_bytes())
    text = savax.protos.to_text(model)
    state = "int64_value: 2"
    assert state in text
    text = text.replace(state, f"int64_value: {ragged_rank}")
    file.write_bytes(savax.protos.parse_text(type(model), text, "model").SerializeToString())
    with pytest.raises(savax.errors.CorruptSavedModelError, match="ragged"):
        load(tmp_path / "model")
