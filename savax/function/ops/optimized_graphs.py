"""Ops that TensorFlow's graph optimizer writes: several operations in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from savax.errors import InvalidArgumentError, UnsupportedError
from savax.function.ops._registry import EVALUATIONS, evaluates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Operations that may follow a first one, by the names that fused_ops has for them. Those that are
# names of ops without attributes stand for these.
_NAMED = frozenset({"Relu", "Relu6", "Elu", "Tanh", "Sigmoid"})
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "GeluApproximate": lambda x: jax.nn.gelu(x, approximate=True),
    "GeluExact": lambda x: jax.nn.gelu(x, approximate=False),
    "Mish": jax.nn.mish,
    "_FusedHardSwish": jax.nn.hard_swish,
}

# What TensorFlow's kernel of _UnaryOpsComposition knows.
_UNARY_NAMES = """
    Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Elu Exp Expm1 Floor Inv Log Log1p Neg
    Reciprocal Relu Relu6 Rint Round Rsqrt Selu Sigmoid Sin Sinh Sqrt Square Tan Tanh
"""
_UNARY = frozenset(_UNARY_NAMES.split())


def _run(op: str, *inputs: Any, **attrs: Any) -> Any:
    """Computes another op by its own rule."""
    return EVALUATIONS[op].rule(*inputs, **attrs)


def _wide(x: Any) -> Any:
    """Returns an array in the type to compute in: 16-bit floats are rounded at the end only."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _followed(
    op: str,
    first: Any,
    fused_ops: Sequence[str],
    args: Sequence[Any],
    *,
    epsilon: float = 0.0,
    alpha: float,
    data_format: str = "NHWC",
) -> Any:
    """Returns the result of the operations that follow the first.

    Args:
      op: name of the whole, for errors.
      first: result of the first operation.
      fused_ops: names of the others, in order.
      args: their further operands, one after the other.
      epsilon: of batch normalization.
      alpha: slope of LeakyRelu below zero.
      data_format: layout of the result.

    Raises:
      InvalidArgumentError: there are more or fewer operands than the operations take.
      UnsupportedError: TensorFlow has no such operation there.
    """
    rest = [_wide(arg) for arg in args]

    def take(name: str, count: int) -> list[Any]:
        taken = rest[:count]
        del rest[:count]
        if len(taken) < count:
            raise InvalidArgumentError(
                f"{op}: the fused op {name} takes {count} of args, of which {len(taken)} are left."
            )
        return taken

    x = _wide(first)
    for name in fused_ops:
        if name == "BiasAdd":
            x = _run("BiasAdd", x, *take(name, 1), data_format=data_format)
        elif name == "FusedBatchNorm":
            x = _inferred_batch_norm(x, take(name, 4), epsilon, data_format)
        elif name == "Add":
            x = jnp.add(x, *take(name, 1))
        elif name == "Mul":
            x = jnp.multiply(x, *take(name, 1))
        elif name == "LeakyRelu":
            x = _run("LeakyRelu", x, alpha=alpha)
        elif name in _NAMED:
            x = _run(name, x)
        elif name in _ACTIVATIONS:
            x = _ACTIVATIONS[name](x)
        else:
            raise UnsupportedError(f"{op}: savax doesn't know the fused op {name!r}.")
    if rest:
        raise InvalidArgumentError(f"{op}: the fused ops {list(fused_ops)} leave {len(rest)} args.")
    return x.astype(jnp.asarray(first).dtype)


def _inferred_batch_norm(x: Any, args: Sequence[Any], epsilon: float, data_format: str) -> Any:
    attrs = {"epsilon": epsilon, "exponential_avg_factor": 1.0, "data_format": data_format}
    return _run("FusedBatchNormV3", x, *args, is_training=False, **attrs)[0]


# A contraction and what follows.


@evaluates("_FusedConv2D", ignores=("num_args",))
def _fused_conv2d(
    input: Any,
    filter: Any,
    args: Sequence[Any],
    host_args: Sequence[Any],
    *,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int],
    data_format: str,
    filter_format: str,
    dilations: Sequence[int],
    fused_ops: Sequence[str],
    epsilon: float,
    leakyrelu_alpha: float,
) -> Any:
    is_plain = filter_format == "HWIO" and data_format in ("NHWC", "NCHW") and not host_args
    if not is_plain or not jnp.issubdtype(input.dtype, jnp.floating):
        raise UnsupportedError(
            "_FusedConv2D of 8-bit integers, and in cuDNN's own layouts, runs on GPUs with "
            "TensorFlow only."
        )
    found = _run(
        "Conv2D",
        input,
        filter,
        strides=strides,
        padding=padding,
        explicit_paddings=explicit_paddings,
        data_format=data_format,
        dilations=dilations,
    )
    return _followed(
        "_FusedConv2D",
        found,
        fused_ops,
        args,
        epsilon=epsilon,
        alpha=leakyrelu_alpha,
        data_format=data_format,
    )


@evaluates("_FusedDepthwiseConv2dNative")
def _fused_depthwise_conv2d_native(
    input: Any,
    filter: Any,
    args: Sequence[Any],
    *,
    strides: Sequence[int],
    padding: str,
    data_format: str,
    dilations: Sequence[int],
    fused_ops: Sequence[str],
    epsilon: float,
    leakyrelu_alpha: float,
) -> Any:
    found = _run(
        "DepthwiseConv2dNative",
        input,
        filter,
        strides=strides,
        padding=padding,
        explicit_paddings=(),
        data_format=data_format,
        dilations=dilations,
    )
    return _followed(
        "_FusedDepthwiseConv2dNative",
        found,
        fused_ops,
        args,
        epsilon=epsilon,
        alpha=leakyrelu_alpha,
        data_format=data_format,
    )


@evaluates("_FusedConv3D")
def _fused_conv3d(
    input: Any,
    filter: Any,
    args: Sequence[Any],
    *,
    strides: Sequence[int],
    padding: str,
    data_format: str,
    dilations: Sequence[int],
    padding_list: Sequence[int],
    fused_ops: Sequence[str],
    epsilon: float,
    leakyrelu_alpha: float,
) -> Any:
    if padding_list:  # of a Pad in front, pairs for all axes; the kernel pads no more than that
        input = jnp.pad(input, list(zip(padding_list[::2], padding_list[1::2], strict=True)))
        padding = "VALID"
    found = _run(
        "Conv3D",
        input,
        filter,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilations=dilations,
    )
    return _followed(
        "_FusedConv3D",
        found,
        fused_ops,
        args,
        epsilon=epsilon,
        alpha=leakyrelu_alpha,
        data_format=data_format,
    )


@evaluates("_FusedMatMul")
def _fused_mat_mul(
    a: Any,
    b: Any,
    args: Sequence[Any],
    *,
    transpose_a: bool,
    transpose_b: bool,
    fused_ops: Sequence[str],
    epsilon: float,
    leakyrelu_alpha: float,
) -> Any:
    product = _run("MatMul", a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    return _followed(
        "_FusedMatMul", product, fused_ops, args, epsilon=epsilon, alpha=leakyrelu_alpha
    )


@evaluates("_MklFusedBatchMatMulV2")
def _fused_batch_mat_mul(
    x: Any,
    y: Any,
    args: Sequence[Any],
    *,
    adj_x: bool,
    adj_y: bool,
    fused_ops: Sequence[str],
    epsilon: float,
    leakyrelu_alpha: float,
) -> Any:
    product = _run("BatchMatMulV2", x, y, adj_x=adj_x, adj_y=adj_y)
    return _followed(
        "_MklFusedBatchMatMulV2", product, fused_ops, args, epsilon=epsilon, alpha=leakyrelu_alpha
    )


# Normalizations.


@evaluates("_FusedBatchNormEx")
def _fused_batch_norm_ex(
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any,
    variance: Any,
    side_input: Sequence[Any],
    *,
    epsilon: float,
    exponential_avg_factor: float,
    activation_mode: str,
    data_format: str,
    is_training: bool,
) -> tuple[Any, ...]:
    has_relu = _has_relu("_FusedBatchNormEx", activation_mode)
    y, *others = _run(
        "FusedBatchNormV3",
        x,
        scale,
        offset,
        mean,
        variance,
        epsilon=epsilon,
        exponential_avg_factor=exponential_avg_factor,
        data_format=data_format,
        is_training=is_training,
    )
    for side in side_input:
        y = jnp.add(y, side)
    return (_run("Relu", y) if has_relu else y, *others)


@evaluates("_FusedBatchNormGradEx")
def _fused_batch_norm_grad_ex(
    y_backprop: Any,
    x: Any,
    scale: Any,
    reserve_space_1: Any,
    reserve_space_2: Any,
    reserve_space_3: Any,
    offset: Any,
    y: Any,
    *,
    epsilon: float,
    num_side_inputs: int,
    activation_mode: str,
    data_format: str,
    is_training: bool,
) -> tuple[Any, ...]:
    if _has_relu("_FusedBatchNormGradEx", activation_mode):
        y_backprop = _run("ReluGrad", y_backprop, y)
    operands = (y_backprop, x, scale, reserve_space_1, reserve_space_2, reserve_space_3)
    attrs = {"epsilon": epsilon, "data_format": data_format, "is_training": is_training}
    return (*_run("FusedBatchNormGradV3", *operands, **attrs), (y_backprop,) * num_side_inputs)


def _has_relu(op: str, activation_mode: str) -> bool:
    if activation_mode not in ("Identity", "Relu"):
        raise UnsupportedError(
            f"{op} has the activations Identity and Relu, not {activation_mode}."
        )
    return activation_mode == "Relu"


@evaluates("_MklLayerNorm")
def _layer_norm(x: Any, scale: Any, offset: Any, *, epsilon: float) -> Any:
    y = _standardized(_wide(x), (x.ndim - 1,), epsilon) * _wide(scale) + _wide(offset)
    return y.astype(x.dtype)


@evaluates("_MklFusedInstanceNorm")
def _fused_instance_norm(
    x: Any,
    gamma: Any,
    beta: Any,
    *,
    fused_ops: Sequence[str],
    epsilon: float,
    leakyrelu_alpha: float,
    reduction_axes: Sequence[int],
) -> Any:
    shape = [1] * x.ndim
    shape[1 if x.ndim - 1 in reduction_axes else -1] = -1  # one number for each channel
    gamma, beta = (jnp.reshape(_wide(operand), shape) for operand in (gamma, beta))
    y = (_standardized(_wide(x), tuple(reduction_axes), epsilon) * gamma + beta).astype(x.dtype)
    return _followed("_MklFusedInstanceNorm", y, fused_ops, (), alpha=leakyrelu_alpha)


def _standardized(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    """Returns an array with mean 0 and variance 1 over axes."""
    centred = x - jnp.mean(x, axes, keepdims=True)
    return centred * lax.rsqrt(jnp.mean(jnp.square(centred), axes, keepdims=True) + epsilon)


# Chains of operations, element by element.


@evaluates("_MklSwish")
def _swish(features: Any) -> Any:
    return jax.nn.silu(_wide(features)).astype(features.dtype)


@evaluates("_MklFusedMish")
def _fused_mish(features: Any) -> Any:
    return jax.nn.mish(_wide(features)).astype(features.dtype)


@evaluates("_UnaryOpsComposition")
def _unary_ops_composition(x: Any, *, op_names: Sequence[str]) -> Any:
    if unknown := [name for name in op_names if name not in _UNARY]:
        raise UnsupportedError(f"_UnaryOpsComposition has no {', '.join(unknown)} in TensorFlow.")
    x = jnp.asarray(x)
    for name in op_names:
        x = _run(name, x)
    return x


@evaluates("_TensorToHashBucketFast", on_host=True)
def _tensor_to_hash_bucket_fast(input: Any, *, num_buckets: int) -> Any:
    attrs: dict[str, Any] = {"scientific": False, "shortest": False, "fill": ""}
    text = _run("AsString", input, precision=-1, width=-1, **attrs)
    return _run("StringToHashBucketFast", text, num_buckets=num_buckets)
