"""Sparse tensors in strings and variants, and other tensors in variants, agree with TensorFlow."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, check_function  # noqa: E402
from tensorflow.python.ops import composite_tensor_ops  # noqa: E402

from savax.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError  # noqa: E402
from savax.function.ops import composite_variants, serialized_sparse  # noqa: E402
from savax.function.ops._registry import EVALUATIONS  # noqa: E402
from savax.types import as_dtype  # noqa: E402

pytestmark = pytest.mark.tf

raw = tf.raw_ops
PLACES = np.array([[0, 1, 0], [0, 1, 1], [2, 0, 1], [2, 3, 0]], np.int64)
SHAPE = np.array([4, 5, 2], np.int64)
FLOAT, INT = as_dtype("float32"), as_dtype("int64")
VALUES = [
    np.array([1.5, -2, 0, 4], np.float32),
    np.array([1, 2, 3, 1 << 40], np.int64),
    np.array([True, False, True, True]),
    np.array([b"\x00a", b"", "ü".encode(), b"x" * 200], object),
]


@pytest.mark.parametrize("values", VALUES, ids=lambda v: v.dtype.name)
def test_strings_agree(values: np.ndarray) -> None:
    dtype = tf.string if values.dtype == object else tf.as_dtype(values.dtype)
    (one,) = check_evaluation("SerializeSparse", PLACES, values, SHAPE)
    (many,) = check_evaluation("SerializeManySparse", PLACES, values, SHAPE)
    assert many.shape == (4, 3)
    for serialized in (one, many, np.stack([[one, one]] * 2)):
        check_evaluation("DeserializeSparse", serialized, dtype=dtype)
    check_evaluation("DeserializeManySparse", many, dtype=dtype)
    (empty,) = check_evaluation("SerializeSparse", PLACES[:0], values[:0], SHAPE)
    check_evaluation("DeserializeManySparse", np.stack([empty, one]), dtype=dtype)


def test_variants_agree_and_pass_gradients() -> None:
    def there_and_back(values: tf.Tensor) -> Any:
        parts = {"sparse_indices": PLACES, "sparse_values": values, "sparse_shape": SHAPE}
        one = raw.SerializeSparse(**parts, out_type=tf.variant)
        many = raw.SerializeManySparse(**parts, out_type=tf.variant)
        return (
            *raw.DeserializeSparse(serialized_sparse=one, dtype=values.dtype),
            *raw.DeserializeSparse(serialized_sparse=many, dtype=values.dtype),
        )

    function = tf.function(there_and_back)
    check_function(function, VALUES[1])
    loaded = check_function(function, VALUES[0])
    check_function(function, VALUES[3])
    gradient = jax.grad(lambda x: (loaded.body.run([x])[1] ** 2).sum())(VALUES[0])
    np.testing.assert_array_equal(gradient, 2 * VALUES[0])


def test_what_is_not_a_serialized_sparse_tensor_is_refused() -> None:
    run = serialized_sparse._deserialize_many_sparse
    kind = {"out_type": as_dtype("string")}
    good = serialized_sparse._serialize_sparse(PLACES, VALUES[0], SHAPE, **kind)
    flat = serialized_sparse._serialize_sparse(PLACES[:, :1], VALUES[0], SHAPE[:1], **kind)
    with pytest.raises(DTypeMismatchError, match="expected int64, found float32"):
        run(good[None], dtype=INT)
    with pytest.raises(ShapeMismatchError, match=r"sparse tensors of the ranks \[1, 3\]"):
        run(np.stack([good, flat]), dtype=FLOAT)
    with pytest.raises(ShapeMismatchError, match=r"have the shapes \(\(4, 3\), \(4,\), \(1,\)\)"):
        run(np.array([[good[0], good[1], flat[2]]], object), dtype=FLOAT)
    with pytest.raises(ShapeMismatchError, match=r"found the shape \(0, 3\)"):
        run(good[None][:0], dtype=FLOAT)
    with pytest.raises(ShapeMismatchError, match="expected rank 2, found 1"):
        run(good, dtype=FLOAT)
    with pytest.raises(InvalidArgumentError, match="The string of DeserializeManySparse"):
        run(np.array([[b"x", b"y", b"z"]], object), dtype=FLOAT)
    with pytest.raises(InvalidArgumentError, match="holds no part of a sparse tensor"):
        run(np.array([[None] * 3], object), dtype=FLOAT)
    many = serialized_sparse._serialize_many_sparse
    with pytest.raises(InvalidArgumentError, match="aren't in order"):
        many(PLACES[::-1], VALUES[0], SHAPE, **kind)
    with pytest.raises(InvalidArgumentError, match="rows outside of 0 to 3"):
        many(PLACES + np.array([9, 0, 0]), VALUES[0], SHAPE, **kind)


def test_composites_in_variants_agree() -> None:
    def there_and_back(values: tf.Tensor) -> Any:
        ragged = tf.RaggedTensor.from_row_splits(values, [0, 2, 2, 3])
        found = []
        for composite in (ragged, ragged.to_sparse(), tf.IndexedSlices(values, tf.range(3))):
            variant = composite_tensor_ops.composite_tensor_to_variants(composite)
            kind = tf.type_spec_from_value(composite)
            back = composite_tensor_ops.composite_tensor_from_variant(variant, kind)
            found += tf.nest.flatten(back, expand_composites=True)
        return found

    loaded = check_function(tf.function(there_and_back), np.array([1.0, 2.0, 3.0], np.float32))
    gradient = jax.grad(lambda x: loaded.body.run([x])[0].prod())(np.array([1.0, 2, 3], np.float32))
    np.testing.assert_allclose(gradient, [6, 3, 2])
    variant = composite_variants._from_components((VALUES[0], VALUES[1]))
    for wanted in ([INT, INT], [FLOAT]):
        with pytest.raises(DTypeMismatchError, match="of components float32, int64: expected"):
            composite_variants._to_components(variant, Tcomponents=wanted)
    with pytest.raises(InvalidArgumentError, match="holds no composite tensor"):
        composite_variants._to_components(None, Tcomponents=[FLOAT])


def test_gradients_of_ragged_rows_agree() -> None:
    def gradient(values: tf.Tensor) -> tf.Tensor:
        splits = tf.constant([0, 2, 2, 3], tf.int64)
        rows = raw.RaggedTensorToVariant(
            rt_nested_splits=[splits], rt_dense_values=values, batched_input=True
        )
        return raw.RaggedTensorToVariantGradient(
            encoded_ragged_grad=rows,
            row_splits=splits,
            dense_values_shape=tf.shape(values),
            Tvalues=values.dtype,
        )

    check_function(tf.function(gradient), np.array([1.0, 2.0, 3.0], np.float32))
    check_function(tf.function(gradient), np.array([[1, 2], [3, 4], [5, 6]], np.int64))


@pytest.mark.parametrize("kind", ["Sum", "Mean", "SqrtN"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64], ids=lambda t: t.__name__)
def test_gradients_of_chosen_rows_agree(kind: str, dtype: Any) -> None:
    op = f"SparseSegment{kind}GradV2"
    grad = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    indices, segments = np.array([4, 1, 4, 0], dtype), np.array([0, 0, 2, 2], dtype)
    check_evaluation(op, grad, indices, segments, np.int32(6))
    check_evaluation(op, grad, indices[:0], segments[:0], np.int32(6))


def test_chosen_rows_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="expected 0 to 3, found 0 to 4"):
        EVALUATIONS["SparseSegmentSumGradV2"].rule(
            np.ones((1, 2), np.float32), np.array([0, 4]), np.array([0, 0]), np.int32(4)
        )
