"""Ops that pass values on, stand for them, or check them: Identity, Const, Placeholder, Assert."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from savax.errors import InvalidArgumentError, ShapeMismatchError
from savax.function.evaluation._plan_values import is_traced, static_value
from savax.function.ops._registry import evaluates, folds
from savax.types import shapes_compatible

if TYPE_CHECKING:
    from savax.types import DType, Shape


@evaluates("Const", "HostConst")
def _const(*, value: np.ndarray[Any, Any], dtype: DType) -> Any:
    return value


@evaluates("Identity")
def _identity(input: Any) -> Any:
    return input


@evaluates("IdentityN")
def _identity_n(input: tuple[Any, ...]) -> Any:
    return input


@evaluates("StopGradient")
def _stop_gradient(input: Any) -> Any:
    return jax.lax.stop_gradient(input) if is_traced(input) else input


# TensorFlow refuses to differentiate through it; savax doesn't, because graphs that jax2tf wrote
# without gradients hold it everywhere, and their derivatives are well defined.
@evaluates("PreventGradient", ignores=("message",))
def _prevent_gradient(input: Any) -> Any:
    return input


@evaluates("GuaranteeConst")
@folds("GuaranteeConst")
def _guarantee_const(input: Any) -> Any:
    return input


@evaluates("Snapshot")
def _snapshot(input: Any) -> Any:
    return input


@evaluates("Copy", "CopyHost", ignores=("tensor_name", "debug_ops_spec"))
def _copy(input: Any) -> Any:
    return input


@evaluates("DeepCopy")
def _deep_copy(x: Any) -> Any:
    return x


@evaluates("NoOp", "ControlTrigger")
def _no_op() -> None:
    return None


@evaluates("Timestamp", on_host=True, needs_64_bit=True)
def _timestamp() -> Any:
    return np.array(time.time(), np.float64)


@evaluates("Fact")
def _fact() -> Any:
    return np.array(b"0! == 1", object)


@evaluates("EnsureShape")
def _ensure_shape(input: Any, *, shape: Shape) -> Any:
    found = getattr(input, "shape", None)
    if found is not None and not shapes_compatible(tuple(found), shape):
        raise ShapeMismatchError(f"EnsureShape: expected shape {shape}, found {tuple(found)}.")
    return input


@evaluates("Placeholder", "PlaceholderV2")
def _placeholder(*, dtype: DType, shape: Shape) -> Any:
    raise InvalidArgumentError(
        f"A Placeholder of dtype {dtype.name} and shape {shape} has no value; feed one."
    )


@evaluates("PlaceholderWithDefault", ignores=("shape",))
def _placeholder_with_default(input: Any) -> Any:
    return input


# Assert, CheckNumerics and Print have no result that depends on their condition. They act on what
# is known while walking, and do nothing on traced values.


@evaluates("Assert")
def _assert(condition: Any, data: tuple[Any, ...], *, summarize: int) -> None:
    known = static_value(condition)
    if known is None or known.all():
        return
    parts = [_shown(item, summarize) for item in data]
    raise InvalidArgumentError("Assertion failed: " + " ".join(parts))


@evaluates("CheckNumerics")
def _check_numerics(tensor: Any, *, message: str) -> Any:
    return _checked_numerics(tensor, message)


@evaluates("CheckNumericsV2")
def _check_numerics_v2(tensor: Any, *, message: str) -> Any:
    return _checked_numerics(tensor, message)


def _checked_numerics(tensor: Any, message: str) -> Any:
    known = static_value(tensor)
    if known is not None and not np.isfinite(known).all():
        raise InvalidArgumentError(f"{message} : the tensor has Inf or NaN values.")
    return tensor


@evaluates("Print", ignores=("U", "message", "first_n", "summarize"))
def _print(input: Any, data: tuple[Any, ...]) -> Any:
    return input


@evaluates("PrintV2", ignores=("output_stream", "end"))
def _print_v2(input: Any) -> None:
    return None


@folds("Identity")
def _identity_static(input: Any) -> Any:
    return input


def _shown(item: Any, summarize: int) -> str:
    known = static_value(item)
    if known is None:
        return "<traced>"
    flat = known.reshape(-1).tolist()
    parts = [x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x) for x in flat]
    limit = len(parts) if summarize < 0 else summarize
    text = " ".join(parts[:limit]) + ("..." if len(parts) > limit else "")
    return text if known.ndim == 0 else f"[{text}]"
