"""Ops whose names newer graphs can't have, in graphs that say they are older."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from savax.compat import v1

pytest.importorskip("tensorflow")

from old_graphs import check_graph, check_old_op, graph_of_op

pytestmark = pytest.mark.tf

RNG = np.random.default_rng(0)
SQUARE = RNG.normal(size=(2, 3, 3))
POSITIVE = SQUARE @ SQUARE.swapaxes(-1, -2) + np.eye(3)
TALL = RNG.normal(size=(2, 4, 3))
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
TYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


@TYPES
def test_decompositions_agree(dtype: str) -> None:
    positive, tall = POSITIVE.astype(dtype), TALL.astype(dtype)
    (factor,) = check_old_op("BatchCholesky", positive, **CLOSE)
    check_old_op("BatchCholeskyGrad", factor, SQUARE.astype(dtype), **CLOSE)
    check_old_op("BatchSelfAdjointEig", positive, signed=False, **CLOSE)
    for vectors in (False, True):
        values: dict[str, Any] = {"signed": False, **CLOSE, "outputs": 3 if vectors else 1}
        check_old_op("BatchSvd", tall, compute_uv=vectors, full_matrices=False, **values)
        values["outputs"] = 2 if vectors else 1
        check_old_op("BatchSelfAdjointEigV2", positive, compute_v=vectors, **values)


def test_equations_agree() -> None:
    square, tall = SQUARE.astype("float32"), TALL.astype("float64")
    check_old_op("BatchMatrixDeterminant", square, **CLOSE)
    check_old_op("BatchMatrixDeterminant", square.astype("complex64"), **CLOSE)
    for adjoint in (False, True):
        check_old_op("BatchMatrixInverse", square, adjoint=adjoint, **CLOSE)
        check_old_op("BatchMatrixSolve", square, square[..., :2], adjoint=adjoint, **CLOSE)
        for lower in (False, True):
            attrs = {"lower": lower, "adjoint": adjoint, **CLOSE}
            check_old_op("BatchMatrixTriangularSolve", square, square[..., :1], **attrs)
    for fast in (False, True):
        check_old_op("BatchMatrixSolveLs", tall, tall[..., :2], np.float64(0), fast=fast, **CLOSE)


@pytest.mark.parametrize("dtype", ["float32", "complex128", "int64"])
def test_parts_of_matrices_agree(dtype: str) -> None:
    x = (SQUARE * 5).astype(dtype)
    for low, high in ((0, -1), (-1, 0), (1, 1)):
        check_old_op("BatchMatrixBandPart", x, np.int64(low), np.int64(high))
    check_old_op("BatchMatrixDiag", x)
    (diagonal,) = check_old_op("BatchMatrixDiagPart", x)
    check_old_op("BatchMatrixSetDiag", x, diagonal[::-1])
    check_old_op("BatchMatrixDiagPart", x[:0])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_fourier_transforms_are_those_of_newer_names(axes: int) -> None:
    # TensorFlow has no kernels for them.
    x = (TALL + 1j * TALL[::-1]).astype(np.complex64)
    suffix = "" if axes == 1 else f"{axes}D"
    for name, transform in (("FFT", np.fft.fftn), ("IFFT", np.fft.ifftn)):
        graph, feed = graph_of_op(f"Batch{name}{suffix}", x)
        with v1.Session(graph=v1.Graph()) as session:
            v1.import_graph_def(graph, name="")
            found = session.run("y:0", feed)
        assert found.dtype == x.dtype
        np.testing.assert_allclose(found, transform(x, axes=range(-axes, 0)), rtol=1e-4, atol=1e-5)


def test_tiles_add_up() -> None:
    # TensorFlow's kernel can't be chosen: it wants an attribute that the op doesn't have.
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    for rows in (x, x[:, :0]):
        graph, feed = graph_of_op("TileGrad", rows, np.array([2, 3], np.int32))
        with v1.Session(graph=v1.Graph()) as session:
            v1.import_graph_def(graph, name="")
            found = session.run("y:0", feed)
        tiles = [part for half in np.split(rows, 2) for part in np.split(half, 3, axis=1)]
        np.testing.assert_array_equal(found, sum(tiles))


def test_the_second_placeholder_is_fed() -> None:
    graph, feed = graph_of_op("Neg", np.array([1.0, -2.0], np.float32))
    graph.node[0].op = "PlaceholderV2"
    graph.node[0].attr["shape"].shape.dim.add(size=2)
    check_graph(graph, ["y:0"], feed)
