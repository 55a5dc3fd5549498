"""Ops that TensorFlow's graph optimizer writes compute what its kernels do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_function, load_function  # noqa: E402
from ml_dtypes import bfloat16  # noqa: E402
from tensorflow.python.framework import op_def_library  # noqa: E402

import savax  # noqa: E402
from savax.function._op_schemas import op_schema  # noqa: E402
from savax.function.evaluation._attr_decoding import default_attrs  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.tf


def node(op: str, *inputs: Any, **attrs: Any) -> Any:
    """Adds a node to the graph that is being traced; ``tf.raw_ops`` lacks these ops."""
    schema = op_schema(op)
    determined = {
        name
        for arg in schema.inputs
        for name in (arg.type_attr, arg.number_attr, arg.type_list_attr)
    }
    if "TArgs" in schema.attrs:
        attrs["num_args"] = len(inputs[2])
    attrs = {**default_attrs(schema), **attrs}
    given = {name: value for name, value in attrs.items() if name not in determined}
    names = [arg.name for arg in schema.inputs]
    return op_def_library.apply_op(op, "node", **dict(zip(names, inputs, strict=True)), **given)


# What TensorFlow's kernels for CPUs take after each op, oneDNN's included.
SIMPLE = ("Relu", "Relu6", "Elu", "LeakyRelu")
CHAINS: dict[str, list[tuple[str, ...]]] = {
    "_FusedConv2D": [
        ("BiasAdd",),
        *[("BiasAdd", name) for name in (*SIMPLE, "Mish", "_FusedHardSwish")],
        ("FusedBatchNorm",),
        *[("FusedBatchNorm", name) for name in SIMPLE],
        ("BiasAdd", "Add"),
        *[("BiasAdd", "Add", name) for name in SIMPLE],
    ],
    "_FusedConv3D": [
        ("BiasAdd",),
        *[("BiasAdd", name) for name in (*SIMPLE, "Mish")],
        ("BiasAdd", "Add"),
        ("BiasAdd", "Add", "Relu"),
    ],
    "_FusedDepthwiseConv2dNative": [
        ("BiasAdd",),
        *[("BiasAdd", name) for name in ("Relu", "Relu6", "Elu", "_FusedHardSwish")],
    ],
    "_FusedMatMul": [
        ("BiasAdd",),
        *[("BiasAdd", name) for name in (*SIMPLE, "Tanh", "Sigmoid")],
        *[("BiasAdd", name) for name in ("GeluExact", "GeluApproximate", "Add")],
    ],
}


class Operands:
    """Random operands for one of the ops of CHAINS.

    Attributes:
      x: the input.
      kernel: what it is multiplied with; the result has 3 channels.
    """

    def __init__(self, op: str, rng: np.random.Generator, kind: Any, batch: int = 2) -> None:
        self._rng = rng
        self._kind = kind
        x, kernel = {
            "_FusedConv2D": ((batch, 6, 5, 2), (3, 2, 2, 3)),
            "_FusedConv3D": ((batch, 3, 4, 5, 2), (2, 2, 3, 2, 3)),
            "_FusedDepthwiseConv2dNative": ((batch, 6, 5, 3), (3, 2, 3, 1)),
            "_FusedMatMul": ((batch, 5), (5, 3)),
        }[op]
        self.x, self.kernel = self.draw(*x), self.draw(*kernel)

    def draw(self, *shape: int) -> np.ndarray:
        return self._rng.normal(size=shape).astype(self._kind)

    def args(self, chain: tuple[str, ...]) -> list[np.ndarray]:
        return [array for name in chain for array in self._args_of(name)]

    def _args_of(self, name: str) -> Iterator[np.ndarray]:
        if name == "BiasAdd":
            yield self.draw(3)
        elif name == "Add":
            yield self.draw(*self.x.shape[:-1], 3)
        elif name == "FusedBatchNorm":
            for _ in range(3):
                yield self.draw(3)
            yield np.abs(self.draw(3)) + self._kind(0.5)


def attrs_of(op: str) -> dict[str, Any]:
    if op == "_FusedMatMul":
        return {"epsilon": 1e-3, "leakyrelu_alpha": 0.3}
    strides = [1] * (5 if op == "_FusedConv3D" else 4)
    return {"epsilon": 1e-3, "leakyrelu_alpha": 0.3, "strides": strides, "padding": "SAME"}


def fused(op: str, x: Any, kernel: Any, args: Any, chain: tuple[str, ...], **attrs: Any) -> Any:
    host = ([],) if op == "_FusedConv2D" else ()
    attrs = {"fused_ops": list(chain), **attrs_of(op), **attrs}
    return node(op, x, kernel, args, *host, **attrs)


@pytest.mark.parametrize("op", CHAINS)
def test_what_follows_an_op_agrees(op: str, rng: np.random.Generator) -> None:
    operands = Operands(op, rng, np.float32)
    args = [operands.args(chain) for chain in CHAINS[op]]

    @tf.function
    def function(x: Any, kernel: Any) -> list[Any]:
        return [fused(op, x, kernel, a, c) for a, c in zip(args, CHAINS[op], strict=True)]

    check_function(function, operands.x, operands.kernel, rtol=1e-4, atol=1e-5)


# Types that TensorFlow has kernels for on every CPU.
NARROW = [
    ("_FusedConv2D", np.float64, 1e-9),
    ("_FusedConv3D", bfloat16, 4e-2),
    ("_FusedDepthwiseConv2dNative", bfloat16, 4e-2),
    ("_FusedMatMul", bfloat16, 4e-2),
    ("_FusedMatMul", np.float16, 4e-3),
]


@pytest.mark.parametrize(
    ("op", "kind", "tolerance"), NARROW, ids=[f"{op}-{np.dtype(k).name}" for op, k, _ in NARROW]
)
def test_other_types_agree(op: str, kind: Any, tolerance: float, rng: np.random.Generator) -> None:
    operands = Operands(op, rng, kind)
    chains = [("BiasAdd",), ("BiasAdd", "Relu")]
    args = [operands.args(chain) for chain in chains]

    @tf.function
    def function(x: Any, kernel: Any) -> list[Any]:
        return [fused(op, x, kernel, a, c) for a, c in zip(args, chains, strict=True)]

    check_function(function, operands.x, operands.kernel, rtol=tolerance, atol=tolerance)


SPACE = [1, 2, 0, 1]
PADDED = [0, 0, 1, 1, *SPACE, 0, 0]
GEOMETRIES: list[tuple[str, dict[str, Any]]] = [
    ("_FusedConv2D", {"strides": [1, 2, 1, 1]}),
    ("_FusedConv2D", {"padding": "VALID", "dilations": [1, 2, 1, 1]}),
    ("_FusedConv2D", {"padding": "EXPLICIT", "explicit_paddings": [0, 0, *SPACE, 0, 0]}),
    ("_FusedConv2D", {"data_format": "NCHW", "strides": [1, 1, 2, 1]}),
    ("_FusedDepthwiseConv2dNative", {"strides": [1, 2, 2, 1]}),
    ("_FusedDepthwiseConv2dNative", {"padding": "VALID", "data_format": "NCHW"}),
    ("_FusedConv3D", {"strides": [1, 1, 2, 1, 1]}),
    ("_FusedConv3D", {"padding": "VALID", "padding_list": PADDED}),
    ("_FusedConv3D", {"padding": "SAME", "padding_list": PADDED}),
    ("_FusedConv3D", {"padding": "VALID", "padding_list": PADDED, "fused_ops": []}),
    ("_FusedConv3D", {"data_format": "NCDHW", "padding_list": [0, 0, 0, 0, *SPACE, 1, 1]}),
    ("_FusedMatMul", {"transpose_a": True}),
    ("_FusedMatMul", {"transpose_b": True}),
]


def test_layouts_strides_padding_and_transposes_agree(rng: np.random.Generator) -> None:
    rows = []
    for op, attrs in GEOMETRIES:
        operands = Operands(op, rng, np.float32)
        x, kernel = operands.x, operands.kernel
        if attrs.get("data_format", "").startswith("NC"):
            x = np.moveaxis(x, -1, 1)
        x = x.T if "transpose_a" in attrs else x
        kernel = kernel.T if "transpose_b" in attrs else kernel
        rows.append((op, x, kernel, operands.args(attrs.get("fused_ops", ("BiasAdd",))), attrs))

    @tf.function
    def function(zero: Any) -> list[Any]:
        return [
            fused(op, x + zero, kernel, args, ("BiasAdd", "Relu"), **attrs)
            for op, x, kernel, args, attrs in rows
        ]

    check_function(function, np.zeros((), np.float32), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", [op for op in CHAINS if op != "_FusedMatMul"])
def test_empty_batches_have_the_declared_shape(op: str, rng: np.random.Generator) -> None:
    # oneDNN's kernels give an empty batch the shape of the input instead.
    operands = Operands(op, rng, np.float32, batch=0)
    args = operands.args(("BiasAdd",))
    function = tf.function(
        lambda x: fused(op, x, operands.kernel, args, ("BiasAdd", "Relu"), padding="VALID")
    ).get_concrete_function(tf.TensorSpec(operands.x.shape))
    (found,) = load_function(function).body.run([operands.x])
    assert found.shape == tuple(function.structured_outputs.shape)
    assert found.size == 0


def test_empty_products_agree(rng: np.random.Generator) -> None:
    operands = Operands("_FusedMatMul", rng, np.float32, batch=0)
    args = operands.args(("BiasAdd",))
    function = tf.function(
        lambda x, kernel: fused("_FusedMatMul", x, kernel, args, ("BiasAdd", "Relu"))
    )
    check_function(function, operands.x, operands.kernel)


@pytest.mark.parametrize("kind", [np.float32, bfloat16], ids=["float32", "bfloat16"])
def test_products_of_batches_agree(kind: Any, rng: np.random.Generator) -> None:
    x, y, broadcast = (
        rng.normal(size=s).astype(kind) for s in ((2, 3, 4, 5), (2, 3, 5, 6), (3, 5, 6))
    )
    scales = [np.asarray(0.3, kind), np.full((1, 1, 1, 1), 0.3, kind)]
    added = rng.normal(size=(2, 1, 4, 6)).astype(kind)

    def product(x: Any, y: Any, scale: Any, **attrs: Any) -> Any:
        attrs["fused_ops"] = ["Mul", "Add"]
        return node("_MklFusedBatchMatMulV2", x, y, [scale, added], **attrs)

    @tf.function
    def function(x: Any, y: Any) -> list[Any]:
        turned = [tf.transpose(z, (0, 1, 3, 2)) for z in (x, y)]
        return [
            product(x, y, scales[0]),
            product(x, y, scales[1]),
            product(turned[0], y, scales[0], adj_x=True),
            product(x, turned[1], scales[0], adj_y=True),
            product(x, broadcast, scales[0]),
        ]

    tolerance = 1e-5 if kind is np.float32 else 4e-2
    check_function(function, x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", [np.float32, bfloat16], ids=["float32", "bfloat16"])
def test_normalizations_and_activations_agree(kind: Any, rng: np.random.Generator) -> None:
    def draw(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * 3 + 1).astype(kind)

    # Shapes, axes to reduce, channels.
    instances = [
        ((2, 5, 6, 3), [1, 2]),
        ((2, 3, 5, 6), [2, 3]),
        ((2, 4, 5, 6, 3), [1, 2, 3]),
        ((2, 3, 4, 5, 6), [2, 3, 4]),
    ]
    norms = [(draw(*shape), axes, draw(3), draw(3)) for shape, axes in instances]
    rows, table, empty = draw(3, 8), draw(2, 3, 8), draw(0, 3, 8)
    scale, offset = draw(8), draw(8)

    @tf.function
    def function(rows: Any, table: Any, empty: Any) -> list[Any]:
        found = [
            node("_MklLayerNorm", x, scale, offset, epsilon=1e-3) for x in (rows, table, empty)
        ]
        found += [node(op, x) for op in ("_MklSwish", "_MklFusedMish") for x in (rows, empty)]
        for x, axes, gamma, beta in norms:
            for chain in ([], ["Relu"], ["LeakyRelu"]):
                attrs = {"reduction_axes": axes, "fused_ops": chain, "leakyrelu_alpha": 0.3}
                found.append(node("_MklFusedInstanceNorm", x, gamma, beta, epsilon=1e-3, **attrs))
        return found

    tolerance = 1e-5 if kind is np.float32 else 4e-2
    check_function(function, rows, table, empty, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("is_training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("kind", [np.float32, bfloat16], ids=["float32", "bfloat16"])
def test_batch_normalization_with_relu_agrees(
    kind: Any, is_training: bool, rng: np.random.Generator
) -> None:
    x = rng.normal(size=(2, 5, 6, 4)).astype(kind)
    scale, offset, mean, variance = rng.uniform(0.5, 1.5, (4, 4)).astype(np.float32)

    @tf.function
    def function(x: Any) -> list[Any]:
        found: list[Any] = []
        for data_format, factor in (("NHWC", 1.0), ("NCHW", 1.0), ("NHWC", 0.3)):
            if data_format == "NCHW":
                x = tf.transpose(x, (0, 3, 1, 2))
            outputs = node(
                "_FusedBatchNormEx",
                x,
                scale,
                offset,
                mean,
                variance,
                [],
                epsilon=1e-3,
                exponential_avg_factor=factor,
                activation_mode="Relu",
                data_format=data_format,
                is_training=is_training,
            )
            if data_format == "NCHW":
                x = tf.transpose(x, (0, 2, 3, 1))
            found += outputs[:5]  # the sixth is the kernel's own
        return found

    tolerance = 1e-5 if kind is np.float32 else 1e-2
    check_function(function, x, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", ["Identity", "Relu"])
def test_batch_normalization_of_a_sum_and_its_gradient_agree(
    mode: str, rng: np.random.Generator
) -> None:
    # Only GPUs have these kernels: the operations that they stand for are compared.
    x, side, dy = rng.normal(size=(3, 2, 5, 6, 4)).astype(np.float32)
    scale, offset = rng.uniform(0.5, 1.5, (2, 4)).astype(np.float32)
    empty = np.zeros(0, np.float32)

    @tf.function
    def function(x: Any, side: Any, dy: Any) -> list[Any]:
        attrs = {"epsilon": 1e-3, "activation_mode": mode}
        y, *_, kept_1, kept_2, kept_3 = node(
            "_FusedBatchNormEx", x, scale, offset, empty, empty, [side], **attrs
        )
        grads = node(
            "_FusedBatchNormGradEx",
            *(dy, x, scale, kept_1, kept_2, kept_3, offset, y),
            num_side_inputs=1,
            **attrs,
        )
        dx, dscale, doffset, _, _, dside = grads
        return [y, dx, dscale, doffset, *dside]

    def plain(x: Any, side: Any, scale: Any, offset: Any) -> Any:
        y = tf.compat.v1.nn.fused_batch_norm(x, scale, offset, epsilon=1e-3)[0] + side
        return tf.nn.relu(y) if mode == "Relu" else y

    operands = [tf.constant(a) for a in (x, side, scale, offset)]
    with tf.GradientTape() as tape:
        tape.watch(operands)
        y = plain(*operands)
    dx, dside, dscale, doffset = tape.gradient(y, operands, output_gradients=dy)
    specs = [tf.TensorSpec(a.shape) for a in (x, side, dy)]
    found = load_function(function.get_concrete_function(*specs)).body.run([x, side, dy])
    for value, wanted in zip(found, (y, dx, dscale, doffset, dside), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)


UNARY = [
    "Abs Sqrt Log1p Neg",
    "Tanh Acos Cosh Acosh",
    "Sin Asin Sinh Asinh",
    "Sigmoid Atanh Atan Tan",
    "Rint Exp Log1p Reciprocal",
    "Floor Elu Expm1",
    "Ceil Relu Selu",
    "Relu6 Rsqrt",
    "Round Square Inv",
    "Cos Sin Exp Sqrt Log",
]
# The kernel for float16 knows fewer.
UNARY_ROWS = [(np.float32, UNARY, 1e-5), (np.float16, [*UNARY[5:]], 4e-3)]


@pytest.mark.parametrize(("kind", "chains", "tolerance"), UNARY_ROWS, ids=["float32", "float16"])
def test_chains_of_elementwise_operations_agree(
    kind: Any, chains: list[str], tolerance: float
) -> None:
    x = np.array([[-3.5, -1.5, -0.5, 0.2, 0.5], [0.99, 1.5, 2.5, 7, np.nan]], kind)
    function = tf.function(
        lambda x: [node("_UnaryOpsComposition", x, op_names=chain.split()) for chain in chains]
    )
    check_function(function, x, rtol=tolerance, atol=tolerance)


INTEGERS = [np.int8, np.int16, np.int32, np.int64]  # the kernel takes no unsigned ones


@pytest.mark.parametrize("kind", INTEGERS, ids=lambda kind: kind.__name__)
def test_hash_buckets_of_integers_agree(kind: Any) -> None:
    limits = np.iinfo(kind)
    x = np.array([[limits.min, limits.max], [0, 7]], kind)
    function = tf.function(lambda x: node("_TensorToHashBucketFast", x, num_buckets=1000))
    check_function(function, x)
    check_function(function, x[:0])


def test_gradients_are_those_of_the_plain_operations(rng: np.random.Generator) -> None:
    operands = Operands("_FusedConv2D", rng, np.float32)
    (bias,) = operands.args(("BiasAdd",))
    function = tf.function(
        lambda x, kernel: fused("_FusedConv2D", x, kernel, [bias], ("BiasAdd", "Elu"))
    )
    arrays = operands.x, operands.kernel
    body = load_function(function.get_concrete_function(*map(tf.constant, arrays))).body
    tensors = [tf.constant(a) for a in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        conv = tf.nn.conv2d(*tensors, 1, "SAME")
        loss = tf.reduce_sum(tf.sin(tf.nn.elu(tf.nn.bias_add(conv, bias))))
    wanted = tape.gradient(loss, tensors)
    for x64 in (False, True):
        with jax.enable_x64(x64):
            found = jax.grad(lambda pair: jnp.sum(jnp.sin(body.run(list(pair))[0])))(arrays)
        for value, gradient in zip(found, wanted, strict=True):
            np.testing.assert_allclose(value, gradient, rtol=1e-4, atol=1e-4)


REFUSED: dict[str, tuple[tuple[str, ...], int, dict[str, Any], type[Exception], str]] = {
    "unknown": (("BiasAdd", "Cube"), 1, {}, savax.errors.UnsupportedError, "'Cube'"),
    "too few": (("FusedBatchNorm",), 3, {}, ValueError, "takes 4 of args, of which 3"),
    "too many": (("BiasAdd", "Relu"), 2, {}, ValueError, "leave 1 args"),
    "kernel": (("BiasAdd",), 1, {"filter_format": "OIHW"}, savax.errors.UnsupportedError, "GPUs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_kernel_computes_is_refused(name: str, rng: np.random.Generator) -> None:
    chain, count, attrs, error, message = REFUSED[name]
    operands = Operands("_FusedConv2D", rng, np.float32)
    args = [np.ones(3, np.float32)] * count
    function = tf.function(
        lambda x: fused("_FusedConv2D", x, operands.kernel, args, chain, **attrs)
    ).get_concrete_function(tf.TensorSpec(operands.x.shape))
    with pytest.raises(error, match=message):
        load_function(function).body.run([operands.x])
