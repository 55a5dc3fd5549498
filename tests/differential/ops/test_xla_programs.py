"""XLA's operations that only TensorFlow's compiler runs agree with what it makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from savax.errors import UnsupportedParamError

tf = pytest.importorskip("tensorflow")

from evaluation_check import LoadedFunction, load_function  # noqa: E402
from tensorflow.compiler.tf2xla.ops import gen_xla_ops as xla  # noqa: E402
from tensorflow.compiler.xla import xla_data_pb2  # noqa: E402

pytestmark = pytest.mark.tf

X = np.array([[4.0, 1.0, 2.0], [1.0, 3.0, 0.5], [2.0, 0.5, 5.0]], np.float32)
SCALAR = tf.TensorSpec([], tf.float32)


def check_compiled(fn: Any, *args: np.ndarray, signed: bool = True) -> LoadedFunction:
    """Compares a function with what TensorFlow compiles of it; returns the loaded function."""
    traced = tf.function(fn, jit_compile=True).get_concrete_function(*map(tf.constant, args))
    loaded = load_function(traced)
    expected = [each.numpy() for each in tf.nest.flatten(traced(*map(tf.constant, args)))]
    for found, wanted in zip(map(np.asarray, loaded.body.run(list(args))), expected, strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        if not signed:
            found, wanted = np.abs(found), np.abs(wanted)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    return loaded


def registered(fn: Any, *specs: tf.TensorSpec) -> Any:
    concrete = tf.function(fn).get_concrete_function(*specs)
    concrete.add_to_graph(tf.compat.v1.get_default_graph())
    return concrete


def test_loops_agree() -> None:
    def run(x: tf.Tensor) -> Any:
        test = registered(lambda x, n: x < 100.0, SCALAR, tf.TensorSpec([], tf.int32))
        step = registered(lambda x, n: (x * 3.0, n + 1), SCALAR, tf.TensorSpec([], tf.int32))
        return tuple(xla.xla_while(input=[x, 0], cond=test, body=step))

    for value in (0.5, 2.0, 200.0):
        loaded = check_compiled(run, np.float32(value))
    assert not loaded.library.plan(loaded.name).needs_host


def test_branches_are_taken() -> None:
    # TensorFlow's compiler wants an attribute that the op doesn't have.
    def run(x: tf.Tensor) -> Any:
        double = registered(lambda x: x * 2.0, SCALAR)
        less = registered(lambda x: x - 1.0, SCALAR)
        arguments = {"then_branch": double, "else_branch": less, "Tout": [tf.float32]}
        return xla.xla_if(cond=x > 1.0, inputs=[x], **arguments)

    body = load_function(tf.function(run).get_concrete_function(SCALAR)).body
    assert [float(body.run([np.array(x, np.float32)])[0]) for x in (0.5, 2)] == [-0.5, 4]


def test_reductions_of_several_arrays_agree() -> None:
    def run(x: tf.Tensor, y: tf.Tensor) -> Any:
        joined = registered(lambda a, b, c, d: (a + c, tf.maximum(b, d)), *[SCALAR] * 4)
        start = [tf.constant(0.0), tf.constant(-1e9)]
        arguments = {"dimensions_to_reduce": [0], "reducer": joined}
        return tuple(xla.xla_variadic_reduce(input=[x, y], init_value=start, **arguments))

    check_compiled(run, X, X[::-1] * 2)


def test_decompositions_agree() -> None:
    def run(x: tf.Tensor) -> Any:
        options = {"max_iter": 100, "epsilon": 1e-6}
        values, vectors = xla.xla_self_adjoint_eig(a=x, lower=True, **options)
        sizes, left, right = xla.xla_svd(a=x, precision_config="", **options)
        again = tf.matmul(left * sizes[..., None, :], right, transpose_b=True)
        return tf.sort(values), tf.matmul(vectors * values, vectors, transpose_b=True), again

    check_compiled(run, X)


def windows(x: tf.Tensor, source: tf.Tensor, scatter: Any) -> Any:
    select = registered(lambda a, b: a >= b, SCALAR, SCALAR)
    arguments = {"window_dimensions": [2, 2], "window_strides": [1, 1], "padding": [[0, 1], [0, 0]]}
    joined = registered(scatter, SCALAR, SCALAR)
    return xla.xla_select_and_scatter(
        operand=x, source=source, init_value=0.5, select=select, scatter=joined, **arguments
    )


def test_sums_at_maxima_agree() -> None:
    source = np.arange(6, dtype=np.float32).reshape(3, 2)
    check_compiled(lambda x, s: windows(x, s, lambda a, b: a + b), X, source)
    traced = tf.function(lambda x, s: windows(x, s, lambda a, b: a * b)).get_concrete_function(
        tf.constant(X), tf.constant(source)
    )
    with pytest.raises(UnsupportedParamError, match="sum at maxima"):
        load_function(traced).body.run([X, source])


def test_sizes_and_replicas_agree() -> None:
    def run(x: tf.Tensor, n: tf.Tensor) -> Any:
        bound = xla.xla_set_bound(input=n, bound=7)
        fixed = xla.xla_remove_dynamic_dimension_size(input=x, dim_index=0)
        wide = xla.xla_broadcast_helper(lhs=x, rhs=x[0], broadcast_dims=[1])
        tall = xla.xla_broadcast_helper(lhs=x[:, 0], rhs=x, broadcast_dims=[0])
        same = xla.xla_broadcast_helper(lhs=x, rhs=x[:1], broadcast_dims=tf.zeros([0], tf.int32))
        return bound, fixed, *wide, *tall, *same

    check_compiled(run, X, np.int32(3))


def test_older_products_and_sorts_agree() -> None:
    numbers = xla_data_pb2.DotDimensionNumbers(
        lhs_contracting_dimensions=[1], rhs_contracting_dimensions=[0]
    ).SerializeToString()

    def run(x: tf.Tensor) -> Any:
        product = xla.xla_dot(lhs=x, rhs=x, dimension_numbers=numbers, precision_config="")
        keys, values = xla.xla_key_value_sort(keys=x[0], values=x[1])
        kept = xla.xla_optimization_barrier(input=[x, keys])
        return product, keys, values, *kept, xla.xla_sharding(input=x)

    check_compiled(run, X)


def test_one_replica_is_alone() -> None:
    # TensorFlow compiles these for several devices only.
    def run(x: tf.Tensor) -> Any:
        groups: Any = {"group_assignment": [[0]], "reduce_op": "Add"}
        total = xla.xla_all_reduce(input=x, mode="CrossReplica", **groups)
        return total, xla.xla_reduce_scatter(input=x, scatter_dimension=0, **groups)

    body = load_function(tf.function(run).get_concrete_function(tf.constant(X))).body
    for result in body.run([X]):
        np.testing.assert_array_equal(result, X)
    number = tf.function(lambda: xla.xla_replica_id()).get_concrete_function()
    assert int(load_function(number).body.run([])[0]) == 0
