"""A process that runs cases of the harness: names come in, one JSON line per case goes out."""

from __future__ import annotations

import gc
import json
import sys
import traceback
from typing import Any, NamedTuple

import jax
import numpy as np

from savax import errors
from savax.function.lowering._function_library import FunctionLibrary
from savax.function.lowering._lowering import lower_jaxpr
from tests.lowering_check import Lowered, import_graph, op_by_op
from tests.primitive_harness.cases import Case, all_cases
from tests.primitive_harness.comparison import difference, tolerance
from tests.primitive_harness.properties import CHECKS

# Compiled code and graphs of this many cases are kept.
_CLEAR_EVERY = 100


class Outcome(NamedTuple):
    """What became of a case.

    Attributes:
      status: "passed"; "unsupported": savax refuses it; "wrong": TensorFlow computes something
        else; "error": something fails that should not; "skipped": JAX itself doesn't run it.
      detail: what went wrong.
    """

    status: str
    detail: str = ""


def run_case(case: Case) -> Outcome:
    """Runs a case in JAX, exports it, runs it in TensorFlow, and compares."""
    arguments = [_on_host(argument) for argument in case.arguments()]
    try:
        traced = jax.jit(case.harness.dyn_fun).trace(*arguments)
        expected = [_on_host(leaf) for leaf in jax.tree.leaves(_called(traced, arguments))]
    except Exception as error:  # whatever it is, it is JAX's own
        return Outcome("skipped", _line(error))
    library = FunctionLibrary()
    try:
        function = lower_jaxpr(traced.jaxpr, "f_0", library)
    except (errors.UnsupportedError, errors.UnsupportedPrimitiveError) as error:
        return Outcome("unsupported", _line(error))
    lowered = Lowered(function, library, traced.jaxpr)
    banned = sorted(op for op in lowered.all_ops() if op.startswith("Xla"))
    if banned:
        return Outcome("error", f"XLA's own ops: {banned}")
    found = run_op_by_op(lowered, jax.tree.leaves(arguments))
    check = CHECKS.get(case.group)
    if check is not None:
        text = check(case.harness.params, arguments, found, expected)
        return Outcome("wrong" if text else "passed", text)
    for index, (have, want) in enumerate(zip(found, expected, strict=True)):
        text = difference(have, want, tolerance(case.group))
        if text:
            return Outcome("wrong", f"result {index}: {text}")
    return Outcome("passed")


def _called(traced: Any, arguments: list[Any]) -> Any:
    return traced.lower().compile()(*arguments)


def run_op_by_op(lowered: Lowered, leaves: list[Any]) -> list[Any]:
    """Runs a function by TensorFlow's kernels, one op after the other, without any optimizer."""
    import tensorflow as tf

    graph = import_graph(lowered)
    feeds = dict(zip([tensor.name for tensor in graph.inputs], leaves, strict=True))
    with tf.compat.v1.Session(graph=graph, config=op_by_op()) as session:
        return list(session.run([tensor.name for tensor in graph.outputs], feeds))


def _on_host(value: Any) -> Any:
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    return np.asarray(value)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip()}"[:600]


def _attempt(case: Case) -> Outcome:
    try:
        return run_case(case)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome("error", f"{_line(error)} [{frame.filename.split('/')[-1]}:{frame.lineno}]")


def main() -> None:
    """Runs the cases named on stdin."""
    cases = all_cases()
    for number, line in enumerate(sys.stdin):
        name = line.strip()
        outcome = _attempt(cases[name])
        print(json.dumps([name, *outcome]), flush=True)
        if number % _CLEAR_EVERY == _CLEAR_EVERY - 1:
            jax.clear_caches()
            gc.collect()


if __name__ == "__main__":
    main()
