"""Crosses of features against TensorFlow: strings and hashes, of all kinds of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation  # noqa: E402

from savax.errors import InvalidArgumentError  # noqa: E402
from savax.function._op_schemas import op_schema  # noqa: E402
from savax.function.ops._registry import EVALUATIONS  # noqa: E402

pytestmark = pytest.mark.tf

ROWS = np.array([[0, 0], [0, 2], [2, 0], [2, 1]], np.int64)
WORDS = np.array([b"a", "\u00fcber".encode(), b"", b"x" * 70], object)
NUMBERS = np.array([7, -1, 2**40 + 3, 0], np.int64)
SHAPE = np.array([3, 4], np.int64)
DENSE_WORDS = np.array([[b"p", b"q"], [b"", b"r"], [b"s", b"p"]], object)
DENSE_NUMBERS = np.array([[1], [-5], [2**62]], np.int64)

COLUMNS: tuple[Any, ...] = (
    [ROWS, ROWS[:3]],
    [WORDS, NUMBERS[:3]],
    [SHAPE, SHAPE],
    [DENSE_NUMBERS, DENSE_WORDS],
)
ONLY_WORDS: tuple[Any, ...] = ([ROWS], [WORDS], [SHAPE], [DENSE_WORDS])


def check(op: str, *inputs: Any, **attrs: Any) -> None:
    """Compares an op with TensorFlow's; it runs on the host, so nothing of it is compiled."""
    names = [arg.name for arg in op_schema(op).inputs]
    check_evaluation(op, *inputs, constant=names, **attrs)


@pytest.mark.parametrize("num_buckets", [0, 5])
def test_sparse_hashes(num_buckets: int) -> None:
    attrs = {"hashed_output": True, "num_buckets": num_buckets, "out_type": tf.int64}
    for key in (956888297470, -3):
        check("SparseCross", *COLUMNS, hash_key=key, internal_type=tf.int64, **attrs)


def test_sparse_strings() -> None:
    attrs = {"hashed_output": False, "num_buckets": 0, "hash_key": 0, "out_type": tf.string}
    check("SparseCross", *ONLY_WORDS, internal_type=tf.string, **attrs)
    check("SparseCrossV2", *COLUMNS, np.array(b"_Y_", object))


@pytest.mark.parametrize("strong", [False, True], ids=["fast", "strong"])
@pytest.mark.parametrize("num_buckets", [0, 100])
def test_salted_hashes(num_buckets: int, strong: bool) -> None:
    salt = np.array([2**40 + 1, -7], np.int64)
    # TensorFlow crashes on strong hashes of dense numbers.
    columns = (*COLUMNS[:3], [DENSE_WORDS, DENSE_WORDS] if strong else COLUMNS[3])
    check("SparseCrossHashed", *columns, np.int64(num_buckets), np.bool_(strong), salt)


@pytest.mark.parametrize("hashed", [False, True], ids=["strings", "hashes"])
def test_ragged_columns(hashed: bool) -> None:
    splits = np.array([0, 3, 3, 4], np.int64)
    check(
        "RaggedCross",
        *([WORDS, NUMBERS], [splits, splits], [ROWS], [WORDS], [SHAPE]),
        [DENSE_NUMBERS],
        input_order="RDSR",
        hashed_output=hashed,
        num_buckets=7 if hashed else 0,
        hash_key=956888297470,
        out_values_type=tf.int64 if hashed else tf.string,
        out_row_splits_type=tf.int64,
    )


def test_rows_that_lack_a_feature_and_empty_batches() -> None:
    attrs = {"hashed_output": True, "num_buckets": 3, "hash_key": 1, "out_type": tf.int64}
    empty: tuple[Any, ...] = ([ROWS[:0]], [NUMBERS[:0]], [np.array([0, 0])], [DENSE_NUMBERS[:0]])
    check("SparseCross", *empty, internal_type=tf.int64, **attrs)
    unsorted = ROWS[[2, 0, 1, 3]]
    columns: tuple[Any, ...] = ([unsorted], [NUMBERS], [SHAPE], [DENSE_NUMBERS])
    check("SparseCross", *columns, internal_type=tf.int64, **attrs)


def test_hostile_columns_are_refused() -> None:
    rule = EVALUATIONS["SparseCrossV2"].rule
    separator = np.array(b"", object)
    columns = {
        "batch sizes": ([ROWS], [NUMBERS], [np.array([4, 4])], [DENSE_NUMBERS]),
        "two axes": ([ROWS], [NUMBERS], [SHAPE], [NUMBERS]),
        "sparse column": ([ROWS], [NUMBERS[:2]], [SHAPE], []),
    }
    for text, given in columns.items():
        with pytest.raises(InvalidArgumentError, match=text):
            rule(*given, separator)
