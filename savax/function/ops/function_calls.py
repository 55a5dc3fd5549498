"""Calls of functions: counted loops, maps over rows, derivatives, calls on other devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from savax.errors import InvalidArgumentError, ShapeMismatchError
from savax.function.evaluation._plan_values import array_value, static_value
from savax.function.evaluation._while_loops import run_while
from savax.function.ops._registry import evaluates
from savax.protos import FunctionDef, FunctionRef, encode_attr
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.function.evaluation._walk import NodeContext
    from savax.protos import NodeDef
    from savax.types import DType, Shape


@evaluates("RemoteCall", with_context=True, ignores=("Tout",))
def _remote_call(ctx: NodeContext, target: Any, args: tuple[Any, ...], *, f: FunctionRef) -> Any:
    return ctx.call(f, args)  # where it runs is JAX's choice


@evaluates("DeviceIndex")
def _device_index(*, device_names: list[str]) -> Any:
    """Returns the position of the CPU, whose branch has no kernels of one vendor, or the last."""
    found = device_names.index("CPU") if "CPU" in device_names else len(device_names)
    return np.array(found, np.int32)


# A For is a While over an index and its bounds, whose functions are written here.


@evaluates("For", with_context=True)
def _for(
    ctx: NodeContext,
    start: Any,
    limit: Any,
    delta: Any,
    input: tuple[Any, ...],
    *,
    body: FunctionRef,
    T: list[DType],  # noqa: N803 - the attribute's name
) -> Any:
    known = [static_value(bound) for bound in (start, limit, delta)]
    if all(bound is not None for bound in known):
        _check_bounds(*(int(bound) for bound in known if bound is not None))
    library = ctx.walk.library
    loop = run_while(
        ctx,
        library.plan_of(_loop_condition(T)),
        library.plan_of(_loop_body(body, T)),
        [start, limit, delta, *input],
    )
    return loop[3:]


def _check_bounds(start: int, limit: int, delta: int) -> None:
    if delta == 0 or (limit - start) * delta < 0:
        raise InvalidArgumentError(f"A For loop can't go from {start} to {limit} by {delta}.")


def _loop_condition(types: Sequence[DType]) -> FunctionDef:
    """Returns the function that says whether an index is before its limit."""
    function = _loop_function("condition of For over", types)
    zero = function.node_def.add(name="zero", op="Const")
    zero.attr["value"].CopyFrom(encode_attr(np.array(0, np.int32)))
    _set_types(zero, dtype="int32")
    for name, op, inputs, kind in (
        ("rises", "Greater", ("delta", "zero"), "int32"),
        ("below", "Less", ("index", "limit"), "int32"),
        ("above", "Greater", ("index", "limit"), "int32"),
        ("goes_on", "SelectV2", ("rises", "below", "above"), "bool"),
    ):
        node = function.node_def.add(name=name, op=op, input=inputs)
        _set_types(node, T=kind)
    function.signature.output_arg.add(name="goes_on", type=as_dtype("bool").number)
    function.ret["goes_on"] = "goes_on:0"
    return function


def _loop_body(body: FunctionRef, types: Sequence[DType]) -> FunctionDef:
    """Returns the function of one iteration, with the index and its bounds."""
    function = _loop_function(f"body of For, {body.name}, over", types)
    values = [f"value_{i}" for i in range(len(types))]
    following = function.node_def.add(name="next", op="AddV2", input=["index", "delta"])
    _set_types(following, T="int32")
    call = function.node_def.add(name="call", op="StatefulPartitionedCall")
    call.input.extend(["index", *values])
    call.attr["f"].CopyFrom(encode_attr(body))
    call.attr["Tin"].CopyFrom(encode_attr([as_dtype("int32"), *types], "list(type)"))
    call.attr["Tout"].CopyFrom(encode_attr(list(types), "list(type)"))
    results = ["next:0", "limit", "delta", *(f"call:{i}" for i in range(len(types)))]
    for arg, result in zip(list(function.signature.input_arg), results, strict=True):
        function.signature.output_arg.add(name=f"{arg.name}_after", type=arg.type)
        function.ret[f"{arg.name}_after"] = result
    function.control_ret["call"] = "call"
    return function


def _loop_function(name: str, types: Sequence[DType]) -> FunctionDef:
    """Returns a function of an index, its bounds and the variables of a loop."""
    function = FunctionDef()
    function.signature.name = f"{name} {', '.join(dtype.name for dtype in types)}"
    for arg in ("index", "limit", "delta"):
        function.signature.input_arg.add(name=arg, type=as_dtype("int32").number)
    for i, dtype in enumerate(types):
        function.signature.input_arg.add(name=f"value_{i}", type=dtype.number)
    return function


def _set_types(node: NodeDef, **types: str) -> None:
    for name, dtype in types.items():
        node.attr[name].type = as_dtype(dtype).number


@evaluates("MapDefun", with_context=True, ignores=("max_intra_op_parallelism", "output_types"))
def _map_defun(
    ctx: NodeContext,
    arguments: tuple[Any, ...],
    captured_inputs: tuple[Any, ...],
    *,
    f: FunctionRef,
    output_shapes: list[Shape],
) -> Any:
    counts = {argument.shape[0] for argument in arguments}
    if len(counts) != 1:
        raise ShapeMismatchError(
            f"MapDefun: the arguments have different numbers of rows: {sorted(counts)}."
        )
    plan = ctx.plan(f)
    if ctx.walk.runner is None:  # calls may write no Variables, and none knows of the others
        walk = ctx.walk.branch(())
        rows = tuple(jnp.asarray(argument) for argument in arguments)
        return lax.map(lambda row: tuple(walk.run(plan, [*row, *captured_inputs])), rows)
    calls = [
        ctx.walk.run(plan, [*(_row(argument, i) for argument in arguments), *captured_inputs])
        for i in range(counts.pop())
    ]
    return [
        _stacked([array_value(call[i]) for call in calls], dtype, shape)
        for i, (dtype, shape) in enumerate(zip(ctx.output_dtypes, output_shapes, strict=True))
    ]


def _row(value: Any, i: int) -> Any:
    return value[i : i + 1].reshape(value.shape[1:])  # an array also where it is one string


def _stacked(rows: Sequence[Any], dtype: DType, shape: Shape) -> Any:
    if not rows:
        return np.zeros([0, *(size or 0 for size in shape or ())], dtype.numpy_dtype)
    if dtype.name == "string":
        return np.stack([np.asarray(row, object) for row in rows])
    return jnp.stack([jnp.asarray(row) for row in rows])


@evaluates("SymbolicGradient", with_context=True, ignores=("Tout",))
def _symbolic_gradient(ctx: NodeContext, input: tuple[Any, ...], *, f: FunctionRef) -> Any:
    """Returns the derivative of a function by its arguments, which come before its cotangents."""
    plan = ctx.plan(f)
    count = len(plan.arg_names)
    arguments = [array_value(value) for value in input[:count]]
    wanted = [i for i, dtype in enumerate(plan.arg_dtypes) if _is_inexact(dtype)]
    kept = [i for i, dtype in enumerate(plan.output_dtypes) if _is_inexact(dtype)]
    walk = ctx.walk.branch(())

    def run(*values: Any) -> list[Any]:
        given = list(arguments)
        for i, value in zip(wanted, values, strict=True):
            given[i] = value
        results = walk.run(plan, given)
        return [jnp.asarray(array_value(results[i])) for i in kept]

    _, pull = jax.vjp(run, *(jnp.asarray(arguments[i]) for i in wanted))
    gradients = pull([jnp.asarray(input[count + k]) for k in kept])
    found = [jnp.zeros_like(jnp.asarray(argument)) for argument in arguments]
    for i, gradient in zip(wanted, gradients, strict=True):
        found[i] = gradient
    return found


def _is_inexact(dtype: DType) -> bool:
    return bool(jnp.issubdtype(dtype.numpy_dtype, jnp.inexact))
