"""One-hot rows, bands and diagonals against TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from tests.evaluation_check import check_evaluation

pytestmark = pytest.mark.tf

X = np.random.default_rng(8).normal(size=(2, 4, 5)).astype(np.float32)
ALIGNMENTS = ["LEFT_RIGHT", "RIGHT_LEFT", "LEFT_LEFT", "RIGHT_RIGHT"]


def ints(*values):
    return np.array(values, np.int32)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot_is_evaluated(axis, dtype):
    indices = np.array([[0, 3], [200, 2]]).astype(dtype)
    check_evaluation("OneHot", indices, ints(4)[0], np.float32(2), np.float32(-1), axis=axis)
    check_evaluation("OneHot", indices, ints(0)[0], np.int64(2), np.int64(-1), axis=axis)


def test_negative_one_hot_is_a_row_of_zeros():
    check_evaluation("OneHot", ints(-1, 2), ints(3)[0], np.float32(1), np.float32(0), axis=-1)


@pytest.mark.parametrize("band", [(0, 0), (-1, 0), (1, -1), (2, 1), (-1, -1)])
def test_matrix_band_part_is_evaluated(band):
    check_evaluation("MatrixBandPart", X, *(np.int64(bound) for bound in band), grad=True)


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("k", [(0,), (1,), (-2,), (-1, 1), (0, 2), (-3, -1)])
def test_diagonals_are_evaluated(k, align):
    k = np.array(k if len(k) > 1 else k[0], np.int32)
    (part,) = check_evaluation("MatrixDiagPartV3", X, k, np.float32(9), align=align)
    check_evaluation(
        "MatrixDiagV3", part, k, np.int32(-1), np.int32(-1), np.float32(7), align=align
    )
    check_evaluation("MatrixDiagV3", part, k, np.int32(4), np.int32(5), np.float32(7), align=align)
    check_evaluation("MatrixSetDiagV3", X, part * 2, k, align=align, grad=True)


def test_old_diagonals_are_evaluated():
    check_evaluation("MatrixDiag", X)
    check_evaluation("MatrixDiagPart", X)
    check_evaluation("Diag", X[0, :2])
    check_evaluation("DiagPart", np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2))
