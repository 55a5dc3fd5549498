"""Probes: functions of one TensorFlow op each, and what they are tried with."""

# ruff: noqa: B008 - a default binds the value that a loop has

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

raw = tf.raw_ops

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
ALL = ("float32", "int32", "bool", *FLOATS[:2], "float64", *COMPLEX, *INTEGERS[:2], *INTEGERS[3:])


@dataclasses.dataclass(frozen=True)
class Probe:
    """A function whose results say whether a consumer runs an op.

    Attributes:
      op: the op.
      build: makes the result of a dtype's name and the inputs.
      shapes: of the inputs; the first size is unknown in the model.
      domain: least and largest value of the inputs.
      dtypes: what it is tried with; those that TensorFlow refuses are left out.
      inputs: dtypes of the inputs; "" is the one that is tried.
      judges: the ops that it says something of; by default its own.
      types: the dtypes that it says something of; by default the one that is tried.
    """

    op: str
    build: Callable[..., Any]
    shapes: Sequence[tuple[int, ...]] = ((3, 4),)
    domain: tuple[float, float] = (-2, 2)
    dtypes: Sequence[str] = ALL
    inputs: Sequence[str] | None = None
    judges: Sequence[str] = ()
    types: Sequence[str] = ()


def constant(dtype: str, shape: tuple[int, ...] = ()) -> Any:
    values = np.random.default_rng(7).uniform(-2, 2, shape)
    return tf.constant(values.astype(tf.as_dtype(dtype).as_numpy_dtype))


def number(dtype: str, value: int) -> Any:
    return tf.constant(np.asarray(value).astype(tf.as_dtype(dtype).as_numpy_dtype))


def _named(names: str, arguments: str, **options: Any) -> Iterable[Probe]:
    """Yields probes of ops whose inputs are tensors of one type, given their argument names."""
    keys = arguments.split()
    shapes = options.pop("shapes", ((3, 4),) * len(keys))
    for name in names.split():

        def build(dtype: str, *inputs: Any, op: Any = getattr(raw, name)) -> Any:
            return op(**dict(zip(keys, inputs, strict=True)))

        yield Probe(name, build, shapes, **options)


def _with(names: str, tensor: str, shape: tuple[int, ...] = (3, 4), **attrs: Any) -> list[Probe]:
    """Returns probes of ops of one tensor with further arguments."""
    return [
        Probe(
            name, lambda dtype, x, op=getattr(raw, name): _all(op(**{tensor: x}, **attrs)), (shape,)
        )
        for name in names.split()
    ]


def _all(results: Any) -> Any:
    return list(results) if isinstance(results, tuple) else results


def elementwise() -> Iterable[Probe]:
    yield from _named(
        "Abs Neg Sign Floor Ceil Round Rint Exp Expm1 Sigmoid Tanh Sin Cos Tan Sinh Cosh Asinh "
        "Atan Square Erf Erfc IsFinite IsInf IsNan OnesLike ZerosLike BesselI0e BesselI1e Invert "
        "PopulationCount",
        "x",
    )
    yield from _named("Softplus Softsign Relu Relu6 Elu Selu LeakyRelu", "features")
    yield from _named("Log Sqrt Rsqrt Reciprocal Lgamma Digamma Log1p", "x", domain=(0.3, 3))
    yield from _named("Acos Asin Atanh Erfinv", "x", domain=(-0.9, 0.9))
    yield from _named("Acosh", "x", domain=(1.1, 3))
    yield from _named("Ndtri", "x", domain=(0.1, 0.9))
    yield from _named("LogicalNot", "x", dtypes=("bool",))
    yield from _named(
        "AddV2 Sub Mul Maximum Minimum SquaredDifference Equal NotEqual Less LessEqual Greater "
        "GreaterEqual BitwiseAnd BitwiseOr BitwiseXor MulNoNan NextAfter",
        "x y",
        domain=(-3, 3),
    )
    yield from _named(
        "RealDiv FloorDiv FloorMod TruncateDiv TruncateMod DivNoNan Xdivy",
        "x y",
        domain=(0.6, 9),
    )
    yield from _named("LeftShift RightShift", "x y", domain=(0, 5))
    yield from _named("Pow Atan2 Xlogy", "x y", domain=(1, 3))
    yield from _named("Atan2", "y x", domain=(1, 3))
    yield from _named("LogicalAnd LogicalOr", "x y", dtypes=("bool",))
    yield from _named("Igamma Igammac IgammaGradA Polygamma", "a x", domain=(1.5, 3))
    yield from _named("Zeta", "x q", domain=(1.5, 3))
    yield from _named("Betainc", "a b x", domain=(0.1, 0.9))
    yield from _named("ClipByValue", "t clip_value_min clip_value_max")
    yield from _named("SelectV2", "condition t e", inputs=("bool", "", ""))


def behaviour() -> Iterable[Probe]:
    """Yields probes of what readers do in other ways: ends of ranges, signs, repeated indices."""
    for op in ("FloorDiv", "FloorMod", "TruncateDiv", "TruncateMod"):
        # FloorDiv in onnxruntime is a condition of its own, in savax.portability.
        yield Probe(
            op,
            lambda d, x, y, op=getattr(raw, op): op(x=raw.Neg(x=x), y=y),
            ((3, 4), (3, 4)),
            (1, 9),
            ("int32", "int64", "float32"),
        )
    yield from _named(
        "AddV2", "x y", domain=(2_000_000_000, 2_100_000_000), dtypes=("int32", "uint32")
    )
    big = {"domain": (2**31 + 5, 2**32 - 5), "dtypes": ("uint32",), "types": ("uint32", "uint64")}
    for op in ("Less", "LessEqual", "Greater", "GreaterEqual", "Maximum", "Minimum"):
        yield Probe(op, lambda d, x, op=getattr(raw, op): op(x=x, y=number(d, 5)), **big)
    yield Probe("RightShift", lambda d, x: raw.RightShift(x=x, y=number(d, 3)), **big)
    yield Probe("FloorDiv", lambda d, x: raw.FloorDiv(x=x, y=number(d, 7)), **big)
    yield Probe("Max", lambda d, x: raw.Max(input=x, axis=[1]), judges=("Max", "Min"), **big)
    for dtype in ("uint8", "uint16", "uint32", "uint64"):
        limit = np.iinfo(dtype).max
        values = np.array([limit, limit // 2 + 7, 5, limit - 3], dtype)
        yield Probe(
            "Const",
            lambda d, x, values=values: raw.AddV2(x=x, y=tf.constant(values)),
            domain=(0, 9),
            dtypes=(dtype,),
        )
    repeated = [[2], [0], [2]]
    yield Probe(
        "ScatterNd",
        lambda d, x: raw.ScatterNd(indices=repeated, updates=x, shape=[4, 4]),
        dtypes=("float32",),
        types=ALL,
    )
    for op in ("TensorScatterAdd", "TensorScatterMax", "TensorScatterMin"):
        yield Probe(
            op,
            lambda d, x, y, op=getattr(raw, op): op(tensor=x, indices=repeated, updates=y),
            ((3, 4), (3, 4)),
        )
    for op in ("UnsortedSegmentSum", "UnsortedSegmentProd"):
        yield Probe(
            op,
            lambda d, x, op=getattr(raw, op): op(data=x, segment_ids=[-1, 0, 2], num_segments=3),
        )


def shapes() -> Iterable[Probe]:
    yield Probe("Reshape", lambda d, x: raw.Reshape(tensor=x, shape=[-1, 2]))
    yield Probe("Transpose", lambda d, x: raw.Transpose(x=x, perm=[1, 0]))
    yield Probe("Squeeze", lambda d, x: raw.Squeeze(input=x, axis=[1]), ((3, 1, 4),))
    yield from _with("ExpandDims", "input", axis=1)
    yield Probe(
        "BroadcastTo",
        lambda d, x: raw.BroadcastTo(
            input=x, shape=raw.ConcatV2(values=[[5], raw.Shape(input=x)], axis=0)
        ),
    )
    yield from _with("Tile", "input", multiples=[2, 1])
    yield Probe("Fill", lambda d, x: raw.Fill(dims=raw.Shape(input=x), value=constant(d)))
    yield Probe("ConcatV2", lambda d, x, y: raw.ConcatV2(values=[x, y], axis=1), ((3, 4), (3, 2)))
    yield Probe("Pack", lambda d, x, y: raw.Pack(values=[x, y], axis=1), ((3, 4), (3, 4)))
    yield Probe("Unpack", lambda d, x: raw.Unpack(value=x, num=4, axis=1)[1])
    yield Probe("Split", lambda d, x: raw.Split(axis=1, value=x, num_split=2)[1])
    yield Probe(
        "SplitV",
        lambda d, x: raw.SplitV(value=x, size_splits=[1, 3], axis=1, num_split=2)[1],
    )
    yield from _with("Slice", "input", begin=[0, 1], size=[-1, 2])
    yield from _with(
        "StridedSlice",
        "input",
        begin=[0, 1],
        end=[0, 4],
        strides=[1, 2],
        begin_mask=1,
        end_mask=1,
    )
    yield from _with("Pad", "input", paddings=[[1, 0], [0, 2]])
    yield Probe(
        "PadV2",
        lambda d, x: raw.PadV2(input=x, paddings=[[1, 0], [0, 2]], constant_values=constant(d)),
    )
    yield from _with("MirrorPad", "input", paddings=[[1, 0], [0, 2]], mode="REFLECT")
    yield from _with("ReverseV2", "tensor", axis=[1])
    yield from _with("Roll", "input", shift=[1], axis=[1])
    yield from _with("Rank", "input")
    yield Probe(
        "Range",
        lambda d, x: raw.Range(start=number(d, 0), limit=x, delta=number(d, 1)),
        ((),),
        (4, 5),
    )
    for op in ("StopGradient", "PreventGradient"):
        yield Probe(op, lambda d, x, op=getattr(raw, op): raw.Neg(x=op(input=raw.Neg(x=x))))
    yield Probe(
        "EnsureShape",
        lambda d, x: raw.Neg(x=raw.EnsureShape(input=raw.Neg(x=x), shape=[None, 4])),
    )
    yield Probe("Const", lambda d, x: raw.ConcatV2(values=[x, constant(d, (2, 4))], axis=0))
    yield from _with("MatrixBandPart", "input", (2, 4, 4), num_lower=-1, num_upper=0)
    yield Probe(
        "MatrixDiagV3",
        lambda d, x: raw.MatrixDiagV3(
            diagonal=x, k=0, num_rows=-1, num_cols=-1, padding_value=number(d, 0)
        ),
    )
    yield Probe(
        "MatrixDiagPartV3",
        lambda d, x: raw.MatrixDiagPartV3(input=x, k=0, padding_value=number(d, 0)),
        ((2, 4, 4),),
    )


def casts() -> Iterable[Probe]:
    for other in (*FLOATS, *INTEGERS, "bool"):
        dtype = tf.as_dtype(other)
        yield Probe(
            "Cast", lambda d, x: raw.Cast(x=x, DstT=tf.float32), ((3, 4),), (0, 3), (other,)
        )
        yield Probe(
            "Cast",
            lambda d, x, dtype=dtype: raw.Cast(x=x, DstT=dtype),
            ((3, 4),),
            (0, 3),
            ("float32",),
            types=(other,),
        )
    for other in ("int32", "uint32", "float32", "uint8"):
        yield Probe(
            "Bitcast",
            lambda d, x, o=tf.as_dtype(other): raw.Bitcast(
                input=raw.Bitcast(input=x, type=o), type=tf.as_dtype(d)
            ),
        )
