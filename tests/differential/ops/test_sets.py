"""Distinct elements and differences of sets agree with TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation  # noqa: E402

pytestmark = pytest.mark.tf

VECTORS = [
    np.array([3, 1, 3, 2, 1, 7], np.int32),
    np.array([0.5, -1.0, 0.5], np.float32),
    np.array([], np.int64),
    np.array([b"b", b"a", b"b"], object),
]


@pytest.mark.parametrize("x", VECTORS, ids=lambda x: str(x.dtype))
def test_distinct_elements_keep_their_order(x: np.ndarray) -> None:
    check_evaluation("Unique", x)
    check_evaluation("UniqueWithCounts", x, out_idx=tf.int64)


def test_distinct_rows_and_columns_agree() -> None:
    x = np.array([[2, 0, 0], [1, 0, 0], [2, 0, 0]], np.int32)
    for axis in ([0], [1]):
        check_evaluation("UniqueV2", x, np.array(axis, np.int64))
        check_evaluation("UniqueWithCountsV2", x, np.array(axis, np.int32))
    check_evaluation("UniqueV2", x[0], np.array([], np.int64))


@pytest.mark.parametrize("x", VECTORS, ids=lambda x: str(x.dtype))
def test_difference_of_lists_agrees(x: np.ndarray) -> None:
    check_evaluation("ListDiff", x, x[:1])
    check_evaluation("ListDiff", x, x[1:2], out_idx=tf.int64)
