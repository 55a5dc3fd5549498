"""Resizing against TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from tests.evaluation_check import check_evaluation

pytestmark = pytest.mark.tf

IMAGE = np.random.default_rng(9).normal(size=(2, 4, 5, 3)).astype(np.float32)
MODES = [
    {},
    {"half_pixel_centers": True},
    {"align_corners": True},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(8, 10), (3, 7), (4, 5), (1, 1), (9, 2)])
def test_resize_is_evaluated(size, mode):
    size = np.array(size, np.int32)
    check_evaluation("ResizeBilinear", IMAGE, size, grad=True, **mode)
    check_evaluation("ResizeNearestNeighbor", IMAGE, size, grad=True, **mode)
    whole = (IMAGE * 90).astype(np.uint8)
    check_evaluation("ResizeBilinear", whole, size, rtol=1e-4, atol=1e-4, **mode)
    check_evaluation("ResizeNearestNeighbor", whole, size, **mode)


@pytest.mark.parametrize("mode", MODES)
def test_gradient_of_resize_is_evaluated(mode):
    grads = np.random.default_rng(1).normal(size=(2, 8, 7, 3)).astype(np.float32)
    check_evaluation("ResizeBilinearGrad", grads, IMAGE, **mode)
    check_evaluation("ResizeNearestNeighborGrad", grads, np.array([4, 5], np.int32), **mode)
