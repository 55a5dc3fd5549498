"""Calls of functions: counted loops, maps over rows, derivatives, batches; and mutexes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from savax.errors import InvalidArgumentError, ShapeMismatchError
from savax.function.evaluation._segments import SegmentRunner

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_function, load_function  # noqa: E402

pytestmark = pytest.mark.tf

F32 = tf.TensorSpec([None], tf.float32)
SCALAR = tf.TensorSpec([], tf.float32)


def registered(fn: Any, *specs: tf.TensorSpec) -> Any:
    """Returns a concrete function that nodes of the graph that is traced may name."""
    concrete = tf.function(fn).get_concrete_function(*specs)
    concrete.add_to_graph(tf.compat.v1.get_default_graph())
    return concrete


X = np.array([1.0, -2.0, 0.5], np.float32)


@pytest.mark.parametrize("bounds", [(0, 4, 1), (5, 0, -2), (3, 3, 1)], ids=["up", "down", "none"])
def test_counted_loops_agree(bounds: tuple[int, int, int]) -> None:
    def loop(x: tf.Tensor, start: tf.Tensor, limit: tf.Tensor, delta: tf.Tensor) -> Any:
        body = registered(
            lambda i, x, y: (x * 2.0 + tf.cast(i, tf.float32), y + i),
            *(tf.TensorSpec([], tf.int32), F32, tf.TensorSpec([], tf.int32)),
        )
        arguments = {"start": start, "limit": limit, "delta": delta, "body": body}
        return tuple(tf.raw_ops.For(**arguments, input=[x, tf.constant(7)]))

    given = [np.int32(bound) for bound in bounds]
    loaded = check_function(tf.function(loop), X, *given)
    jitted = jax.jit(lambda *args: loaded.body.run(args))(X, *given)
    np.testing.assert_allclose(jitted[0], loaded.body.run([X, *given])[0])

    def known(x: tf.Tensor) -> Any:
        return loop(x, *(tf.constant(bound) for bound in bounds))

    fixed = check_function(tf.function(known), X)
    slope = jax.grad(lambda x: fixed.body.run([x])[0].sum())(X)
    np.testing.assert_allclose(slope, 2.0 ** len(range(*bounds)) * np.ones(3))


def test_loops_that_assign_agree() -> None:
    v = tf.Variable(1.0)

    @tf.function
    def step(i: tf.Tensor, x: tf.Tensor, handle: tf.Tensor) -> Any:
        tf.raw_ops.AssignAddVariableOp(resource=handle, value=tf.cast(i, tf.float32))
        return x + tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32), handle

    def run(x: tf.Tensor) -> Any:
        specs = (tf.TensorSpec([], tf.int32), F32, tf.TensorSpec([], tf.resource))
        concrete = step.get_concrete_function(*specs)
        concrete.add_to_graph(tf.compat.v1.get_default_graph())
        result, _ = tf.raw_ops.For(
            start=0, limit=3, delta=1, input=[x + v, v.handle], body=concrete
        )
        return result

    traced = tf.function(run).get_concrete_function(tf.TensorSpec([3], tf.float32))
    loaded = load_function(traced)
    expected = traced(tf.constant(X)).numpy()
    np.testing.assert_allclose(loaded.body.run([X])[0], expected)
    (variable,) = loaded.variables.values()
    np.testing.assert_allclose(variable.numpy(), v.numpy())


@pytest.mark.parametrize("bounds", [(0, 3, 0), (0, 3, -1), (3, 0, 1)], ids=["0", "-1", "1"])
def test_loops_without_an_end_are_refused(bounds: tuple[int, int, int]) -> None:
    def loop(x: tf.Tensor) -> Any:
        body = registered(lambda i, x: x, tf.TensorSpec([], tf.int32), F32)
        start, limit, delta = bounds
        return tf.raw_ops.For(start=start, limit=limit, delta=delta, input=[x], body=body)

    traced = tf.function(loop).get_concrete_function(tf.TensorSpec([3], tf.float32))
    with pytest.raises(InvalidArgumentError, match="can't go from"):
        load_function(traced).body.run([X])


def test_maps_over_rows_agree() -> None:
    def mapped(x: tf.Tensor, scale: tf.Tensor) -> Any:
        f = registered(lambda row, s: (row * s, tf.reduce_sum(row)), F32, SCALAR)
        kinds = {"output_types": [tf.float32, tf.float32], "output_shapes": [[3], []]}
        arguments = {"arguments": [x], "captured_inputs": [scale], "f": f}
        return tuple(tf.raw_ops.MapDefun(**arguments, **kinds))

    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    loaded = check_function(tf.function(mapped), rows, np.float32(2))
    check_function(tf.function(mapped), rows[:0], np.float32(2))
    slope = jax.grad(lambda x: loaded.body.run([x, np.float32(2)])[0].sum())(rows)
    np.testing.assert_allclose(slope, np.full_like(rows, 2))

    def of_strings(x: tf.Tensor) -> Any:
        f = registered(lambda s: (tf.strings.length(s), s + "!"), tf.TensorSpec([], tf.string))
        kinds = {"output_types": [tf.int32, tf.string], "output_shapes": [[], []]}
        return tuple(tf.raw_ops.MapDefun(arguments=[x], captured_inputs=[], f=f, **kinds))

    check_function(tf.function(of_strings), np.array([b"a", b"bcd"], object))


def test_symbolic_gradients_agree() -> None:
    def derivative(x: tf.Tensor, y: tf.Tensor, dy: tf.Tensor) -> Any:
        spec = tf.TensorSpec([3], tf.float32)
        f = registered(lambda x, y: (x * x * y, tf.sin(x)), spec, spec)
        return tuple(tf.raw_ops.SymbolicGradient(input=[x, y, dy, dy], Tout=["float"] * 2, f=f))

    check_function(tf.function(derivative), X, X[::-1] * 3, np.ones(3, np.float32))


def test_calls_of_other_devices_agree() -> None:
    def call(x: tf.Tensor) -> Any:
        f = registered(lambda x: x + 1.0, F32)
        index = tf.raw_ops.DeviceIndex(device_names=["GPU", "CPU"])
        none = tf.raw_ops.DeviceIndex(device_names=["GPU", "TPU"])
        target = "/job:localhost/replica:0/task:0/device:CPU:0"
        return *tf.raw_ops.RemoteCall(target=target, args=[x], Tout=["float"], f=f), index, none

    check_function(tf.function(call), X)


BATCHING = {"num_batch_threads": 1, "max_batch_size": 8, "batch_timeout_micros": 0}


@pytest.mark.parametrize("allowed", [[], [4, 8]], ids=["any_size", "padded"])
def test_batched_calls_agree(allowed: list[int]) -> None:
    v = tf.Variable([1.0, 2.0])

    def serve(text: tf.Tensor, x: tf.Tensor) -> Any:
        def model(text: tf.Tensor, x: tf.Tensor) -> Any:
            rows = tf.cast(tf.shape(x)[0], tf.float32)  # shows whether the batch was filled up
            return tf.strings.join([text, "!"]), x * v + rows

        specs = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 2], tf.float32)
        f = registered(model, *specs)
        return tuple(
            tf.raw_ops.BatchFunction(
                in_tensors=[text, x],
                captured_tensors=f.captured_inputs,
                f=f,
                Tout=[tf.string, tf.float32],
                allowed_batch_sizes=allowed,
                shared_name=f"serve {allowed}",  # batches are made for each name
                **BATCHING,
            )
        )

    for rows in (3, 1):
        text = np.array([b"a", b"\xff", b""], object)[:rows]
        x = np.arange(6, dtype=np.float32).reshape(3, 2)[:rows]
        loaded = check_function(tf.function(serve), text, x)
    segments = SegmentRunner(loaded.library).segments(loaded.library.plan(loaded.name))
    assert any(not segment.on_host for segment in segments)


def test_a_batch_of_unequal_rows_is_refused() -> None:
    def serve(x: tf.Tensor, y: tf.Tensor) -> Any:
        f = registered(lambda x, y: x, F32, F32)
        inputs = {"in_tensors": [x, y], "captured_tensors": [], "f": f, "Tout": ["float"]}
        return tf.raw_ops.BatchFunction(**inputs, **BATCHING)

    traced = tf.function(serve).get_concrete_function(F32, F32)
    with pytest.raises(ShapeMismatchError, match="same number of rows"):
        load_function(traced).body.run([X, X[:2]])


def test_batches_and_their_parts_agree() -> None:
    def batched(x: tf.Tensor) -> Any:
        (whole,), place, number = tf.raw_ops.Batch(
            in_tensors=[x], grad_timeout_micros=0, allowed_batch_sizes=[4, 8], **BATCHING
        )
        part = {"batch_index": place, "id": number}
        own = tf.raw_ops.Unbatch(batched_tensor=whole * 2.0, timeout_micros=0, **part)
        slope = tf.raw_ops.UnbatchGrad(original_input=whole, grad=own, **part)
        return whole, own, slope

    check_function(tf.function(batched), X)


def test_what_a_mutex_guards_runs() -> None:
    def guarded(x: tf.Tensor) -> Any:
        lock = tf.raw_ops.MutexLock(mutex=tf.raw_ops.MutexV2(shared_name="m"))
        with tf.control_dependencies([lock]):
            y = x * 2.0
        with tf.control_dependencies([y]):
            tf.raw_ops.ConsumeMutexLock(mutex_lock=lock)
        return y

    loaded = check_function(tf.function(guarded), X)
    assert not loaded.library.plan(loaded.name).needs_host
