"""Probes of ops on whole arrays: reductions, indexing, products, matrices, complex numbers."""

# ruff: noqa: B008 - a default binds the value that a loop has

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from probes import Probe, constant, number, raw

if TYPE_CHECKING:
    from collections.abc import Iterable

_REAL = ("float32", "float64")
_IMAGE = (2, 6, 6, 2)
_VOLUME = (2, 4, 4, 4, 2)
_SQUARE = (2, 3, 3)


def reductions() -> Iterable[Probe]:
    for op in ("Sum", "Max", "Min", "Prod", "Mean"):
        yield Probe(op, lambda d, x, op=getattr(raw, op): op(input=x, axis=[1]))
    for op in ("All", "Any"):
        build = lambda d, x, op=getattr(raw, op): op(input=x, axis=[1])  # noqa: E731
        yield Probe(op, build, dtypes=("bool",))
    for op in ("ArgMax", "ArgMin"):
        yield Probe(
            op,
            lambda d, x, op=getattr(raw, op): op(input=x, dimension=1, output_type=tf.int32),
        )
    for op in ("Cumsum", "Cumprod", "CumulativeLogsumexp"):
        yield Probe(op, lambda d, x, op=getattr(raw, op): op(x=x, axis=1))
    yield Probe("TopKV2", lambda d, x: list(raw.TopKV2(input=x, k=2)))
    yield Probe("Where", lambda d, x: raw.Where(condition=x))
    yield Probe("Unique", lambda d, x: list(raw.Unique(x=x)), ((4,),))
    yield Probe(
        "LowerBound",
        lambda d, x, y: raw.LowerBound(sorted_inputs=raw.Cumsum(x=raw.Abs(x=x), axis=1), values=y),
        ((3, 4), (3, 2)),
    )


def indexing() -> Iterable[Probe]:
    yield Probe("GatherV2", lambda d, x: raw.GatherV2(params=x, indices=[2, 0], axis=1))
    yield Probe(
        "GatherV2",
        lambda d, x, i: raw.GatherV2(params=x, indices=i, axis=1, batch_dims=1),
        ((3, 4), (3, 2)),
        inputs=("", "int32"),
    )
    yield Probe(
        "GatherNd",
        lambda d, x, i: raw.GatherNd(params=x, indices=i),
        ((3, 4), (3, 2)),
        (0, 2),
        inputs=("", "int32"),
    )
    yield Probe(
        "ScatterNd",
        lambda d, x: raw.ScatterNd(indices=[[2], [0], [1]], updates=x, shape=[4, 4]),
    )
    for op in ("Update", "Add", "Sub", "Max", "Min"):
        name = f"TensorScatter{op}"
        yield Probe(
            name,
            lambda d, x, y, op=getattr(raw, name): op(tensor=x, indices=[[2], [0]], updates=y),
            ((3, 4), (2, 4)),
        )
    yield Probe(
        "OneHot",
        lambda d, i: raw.OneHot(indices=i, depth=3, on_value=number(d, 1), off_value=number(d, 0)),
        ((3,),),
        (0, 3),
        inputs=("int32",),
    )
    for op in ("Sum", "Max", "Min", "Prod"):
        name = f"UnsortedSegment{op}"
        yield Probe(
            name,
            lambda d, x, op=getattr(raw, name): op(data=x, segment_ids=[2, 0, 2], num_segments=3),
        )


def products() -> Iterable[Probe]:
    yield Probe("MatMul", lambda d, x, y: raw.MatMul(a=x, b=y), ((3, 4), (4, 2)))
    batches = ((2, 3, 4), (2, 4, 2))
    yield Probe("BatchMatMulV2", lambda d, x, y: raw.BatchMatMulV2(x=x, y=y), batches)
    yield Probe(
        "BatchMatMulV3",
        lambda d, x, y: raw.BatchMatMulV3(x=x, y=y, Tout=tf.as_dtype(d)),
        batches,
    )
    yield Probe(
        "Einsum",
        lambda d, x, y: raw.Einsum(inputs=[x, y], equation="bij,bjk->bki"),
        batches,
    )
    ones = [1, 1, 1, 1]
    for options in (
        {"strides": ones, "padding": "SAME"},
        {"strides": ones, "padding": "SAME", "dilations": [1, 2, 2, 1]},
        {
            "strides": [1, 2, 2, 1],
            "padding": "EXPLICIT",
            "explicit_paddings": [0, 0, 1, 0, 0, 1, 0, 0],
        },
    ):
        yield Probe(
            "Conv2D",
            lambda d, x, options=options: raw.Conv2D(
                input=x, filter=constant(d, (3, 3, 2, 4)), **options
            ),
            (_IMAGE,),
        )
    yield Probe(
        "DepthwiseConv2dNative",
        lambda d, x: raw.DepthwiseConv2dNative(
            input=x, filter=constant(d, (3, 3, 2, 2)), strides=ones, padding="SAME"
        ),
        (_IMAGE,),
    )
    yield Probe("Conv2DBackpropInput", _transposed, ((2, 6, 6, 4),))
    yield Probe(
        "Conv3D",
        lambda d, x: raw.Conv3D(
            input=x, filter=constant(d, (2, 2, 2, 2, 3)), strides=[*ones, 1], padding="SAME"
        ),
        (_VOLUME,),
    )
    yield Probe(
        "Conv3DBackpropInputV2",
        lambda d, x: raw.Conv3DBackpropInputV2(
            input_sizes=[2, 8, 8, 8, 2],
            filter=constant(d, (2, 2, 2, 2, 3)),
            out_backprop=x,
            strides=[1, 2, 2, 2, 1],
            padding="SAME",
        ),
        ((2, 4, 4, 4, 3),),
    )
    window = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}
    yield Probe("MaxPool", lambda d, x: raw.MaxPool(input=x, **window), (_IMAGE,))
    yield Probe("AvgPool", lambda d, x: raw.AvgPool(value=x, **window), (_IMAGE,))
    cube = {"ksize": [1, 2, 2, 2, 1], "strides": [1, 2, 2, 2, 1], "padding": "SAME"}
    yield Probe("MaxPool3D", lambda d, x: raw.MaxPool3D(input=x, **cube), (_VOLUME,))
    yield Probe("AvgPool3D", lambda d, x: raw.AvgPool3D(input=x, **cube), (_VOLUME,))
    yield Probe("BiasAdd", lambda d, x: raw.BiasAdd(value=x, bias=constant(d, (4,))))
    yield Probe("Softmax", lambda d, x: raw.Softmax(logits=x))
    yield Probe("LogSoftmax", lambda d, x: raw.LogSoftmax(logits=x))
    yield Probe("FusedBatchNormV3", _batch_norm, (_IMAGE,))
    for op in ("ResizeBilinear", "ResizeNearestNeighbor"):
        yield Probe(
            op,
            lambda d, x, op=getattr(raw, op): op(images=x, size=[8, 8], half_pixel_centers=True),
            (_IMAGE,),
        )
    yield Probe(
        "SpaceToBatchND",
        lambda d, x: raw.SpaceToBatchND(input=x, block_shape=[2, 2], paddings=[[0, 0], [0, 0]]),
        (_IMAGE,),
    )
    blocks = (2, 4, 4, 4)
    yield Probe("DepthToSpace", lambda d, x: raw.DepthToSpace(input=x, block_size=2), (blocks,))
    yield Probe("SpaceToDepth", lambda d, x: raw.SpaceToDepth(input=x, block_size=2), (blocks,))


def _transposed(dtype: str, x: Any) -> Any:
    batch = raw.StridedSlice(input=raw.Shape(input=x), begin=[0], end=[1], strides=[1])
    return raw.Conv2DBackpropInput(
        input_sizes=raw.ConcatV2(values=[batch, [12, 12, 2]], axis=0),
        filter=constant(dtype, (3, 3, 2, 4)),
        out_backprop=x,
        strides=[1, 2, 2, 1],
        padding="SAME",
    )


def _batch_norm(dtype: str, x: Any) -> Any:
    numbers = {name: constant("float32", (2,)) for name in ("scale", "offset", "mean")}
    results = raw.FusedBatchNormV3(x=x, variance=[1.5, 2.0], is_training=False, **numbers)
    return results[0]


def matrices() -> Iterable[Probe]:
    yield Probe("Cholesky", lambda d, x: raw.Cholesky(input=_positive(x)), (_SQUARE,))
    yield Probe("MatrixInverse", lambda d, x: raw.MatrixInverse(input=_positive(x)), (_SQUARE,))
    pair = (_SQUARE, (2, 3, 1))
    for op in ("MatrixTriangularSolve", "MatrixSolve"):
        yield Probe(op, lambda d, x, y, op=getattr(raw, op): op(matrix=_positive(x), rhs=y), pair)
    yield Probe("Qr", lambda d, x: raw.Qr(input=x)[1], (_SQUARE,))
    yield Probe("Svd", lambda d, x: raw.Svd(input=x, compute_uv=False)[0], (_SQUARE,))
    yield Probe(
        "SelfAdjointEigV2",
        lambda d, x: raw.SelfAdjointEigV2(input=_positive(x), compute_v=False)[0],
        (_SQUARE,),
    )
    yield Probe("TridiagonalSolve", lambda d, x, y: raw.TridiagonalSolve(diagonals=x, rhs=y), pair)


def _positive(x: Any) -> Any:
    eye = tf.constant(3 * np.eye(3, dtype=x.dtype.as_numpy_dtype))
    return raw.AddV2(x=raw.BatchMatMulV2(x=x, y=x, adj_y=True), y=eye)


def complex_numbers() -> Iterable[Probe]:
    """Yields probes whose inputs and outputs are real, as most readers have no complex ones."""
    two = ((3, 4), (3, 4))
    for kind, wide in zip(_REAL, ("complex64", "complex128"), strict=True):
        options: Any = {"dtypes": (kind,), "types": (kind, wide)}

        def pair(x: Any, y: Any) -> Any:
            return raw.Complex(real=x, imag=y)

        def size(z: Any, part: Any = tf.as_dtype(kind)) -> Any:
            return raw.ComplexAbs(x=z, Tout=part)

        def part_of(op: Any, x: Any, y: Any, part: Any = tf.as_dtype(kind)) -> Any:
            return op(input=raw.Complex(real=x, imag=y), Tout=part)

        both = ("Complex", "ComplexAbs")
        yield Probe("Complex", lambda d, x, y: size(pair(x, y)), two, judges=both, **options)
        for op in ("Real", "Imag"):
            yield Probe(op, lambda d, x, y, op=getattr(raw, op): part_of(op, x, y), two, **options)
        for op in ("Conj", "FFT", "IFFT"):
            yield Probe(
                op, lambda d, x, y, op=getattr(raw, op): size(op(input=pair(x, y))), two, **options
            )
    narrow: Any = {"dtypes": ("float32",), "types": ("float32", "complex64")}
    yield Probe("RFFT", lambda d, x: raw.ComplexAbs(x=raw.RFFT(input=x, fft_length=[4])), **narrow)
    yield Probe(
        "IRFFT",
        lambda d, x, y: raw.IRFFT(input=raw.Complex(real=x, imag=y), fft_length=[4]),
        ((3, 3), (3, 3)),
        **narrow,
    )
    yield Probe(
        "StatelessRandomUniformV2",
        lambda d, x: raw.StatelessRandomUniformV2(shape=[2, 2], key=[1], counter=[1, 2], alg=1),
        dtypes=("float32",),
    )
