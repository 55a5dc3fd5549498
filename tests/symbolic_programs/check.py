"""Runs a row in JAX and in TensorFlow."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from savax.function._dims import evaluate_dim
from savax.function.lowering._function_library import FunctionLibrary
from savax.function.lowering._lowering import lower_function
from savax.function.tracing._traced_body import TracedBody
from savax.function.tracing._tracing import trace
from savax.types import TensorSpec
from tests.lowering_check import (
    Lowered,
    assert_equal,
    check_inferred_shapes,
    import_graph,
    op_by_op,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.symbolic_programs.rows import Row


def exported(row: Row) -> Lowered:
    """Returns the graph of a row's function."""

    def flat(*args: Any) -> tuple[Sequence[Any], Any]:
        return jax.tree.flatten(row.fn(*args))

    specs = [TensorSpec(spec.dims, spec.dtype, f"x{i}") for i, spec in enumerate(row.specs)]
    body = trace(flat, specs, constraints=row.constraints).body
    assert isinstance(body, TracedBody)
    assert [spec.dims for spec in body.arg_specs] == [spec.dims for spec in row.specs]
    library = FunctionLibrary()
    return Lowered(lower_function(body, "f_0", library), library, body.jaxpr)


def arguments(row: Row, sizes: dict[str, int]) -> list[np.ndarray[Any, Any]]:
    """Returns arguments for given sizes of the dims, the same each time."""
    rng = np.random.default_rng(zlib.crc32(str(sizes).encode()))
    args = []
    for spec in row.specs:
        shape = [evaluate_dim(dim, sizes) for dim in spec.dims or ()]
        dtype = spec.dtype.numpy_dtype
        if dtype.kind == "f":
            value = rng.normal(size=shape)
        elif dtype.kind == "c":
            value = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        else:
            value = rng.integers(-2 if dtype.kind == "i" else 0, 4, shape)
        args.append(value.astype(dtype))
    return args


def fixed(row: Row) -> Row:
    """Returns a row with the last of its sizes in its signature."""
    sizes = row.sizes[-1]
    specs = [
        TensorSpec([evaluate_dim(dim, sizes) for dim in spec.dims or ()], spec.dtype)
        for spec in row.specs
    ]
    return row._replace(specs=tuple(specs), sizes=(sizes,), constraints=())


def check(row: Row, *, unoptimized: bool = False) -> None:
    """Checks that one graph gives at each size what JAX gives, and knows what sizes are static.

    Args:
      row: the function.
      unoptimized: whether to run it op by op too, without TensorFlow's graph optimizers.
    """
    import tensorflow as tf

    lowered = exported(row)
    banned = sorted(op for op in lowered.all_ops() if op.startswith("Xla"))
    assert not banned
    graph = import_graph(lowered)
    check_inferred_shapes(graph, lowered.jaxpr.out_avals)
    calls = [arguments(row, sizes) for sizes in row.sizes]
    expected = _expected(row, calls)
    for config in [None, op_by_op()] if unoptimized else [None]:
        with tf.compat.v1.Session(graph=graph, config=config) as session:
            for sizes, args, wanted in zip(row.sizes, calls, expected, strict=True):
                feeds = dict(zip([tensor.name for tensor in graph.inputs], args, strict=True))
                found = session.run([tensor.name for tensor in graph.outputs], feeds)
                for index, (have, want) in enumerate(zip(found, wanted, strict=True)):
                    assert_equal(have, want, row.rtol, row.atol, f"result {index} at {sizes}")


def _expected(row: Row, calls: Sequence[Sequence[Any]]) -> list[list[np.ndarray[Any, Any]]]:
    """Returns what JAX gives for each call; compiling all of them at once takes half the time."""
    results = jax.jit(lambda calls: [row.fn(*args) for args in calls])(calls)
    return [[np.asarray(leaf) for leaf in jax.tree.leaves(result)] for result in results]
