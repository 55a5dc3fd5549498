"""Arrays cut into grids of parts, and operations between replicas, of which there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from savax.errors import ShapeMismatchError, UnsupportedParamError

tf = pytest.importorskip("tensorflow")

from evaluation_check import LoadedFunction, load_function, walk_function  # noqa: E402

pytestmark = pytest.mark.tf

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def compiled_check(fn: Any, *args: np.ndarray) -> LoadedFunction:
    """Compares a function with TensorFlow's, whose kernels only its compiler has."""
    traced = tf.function(fn, jit_compile=True).get_concrete_function(*map(tf.constant, args))
    loaded = load_function(traced)
    expected = tf.nest.flatten(traced(*map(tf.constant, args)))
    for found, wanted in zip(loaded.body.run(list(args)), expected, strict=True):
        assert found.dtype == wanted.numpy().dtype
        np.testing.assert_array_equal(found, wanted)
    return loaded


@pytest.mark.parametrize("paddings", [[], [1, 0]], ids=["exact", "padded"])
def test_grids_agree(paddings: list[int]) -> None:
    counts = [2, 2] if paddings else [3, 2]
    number = counts[0] * counts[1]

    def there_and_back(x: tf.Tensor) -> Any:
        split = {"N": number, "num_splits": counts, "paddings": paddings}
        parts = tf.raw_ops.XlaSplitND(input=x, **split)
        inputs = [part + float(i) for i, part in enumerate(parts)]
        whole = tf.raw_ops.XlaConcatND(inputs=inputs, num_concats=counts, paddings=paddings)
        return *parts, whole

    compiled_check(there_and_back, X)


def test_grids_of_variables_agree() -> None:
    v = tf.Variable(X)

    def step(x: tf.Tensor) -> Any:
        split = {"N": 4, "num_splits": [2, 2], "paddings": [1, 0]}
        parts = tf.raw_ops.ReadVariableXlaSplitND(resource=v.handle, T=tf.float32, **split)
        concat = {"num_concats": [2, 2], "paddings": [1, 0]}
        inputs = [part + x for part in parts]
        tf.raw_ops.AssignVariableXlaConcatND(resource=v.handle, inputs=inputs, **concat)
        return parts[0] + 0.0 * v[0, 0]

    loaded = compiled_check(step, np.float32(2))
    (variable,) = loaded.variables.values()
    np.testing.assert_array_equal(variable.numpy(), v.numpy())


def test_parts_that_make_no_grid_are_refused() -> None:
    def split(x: tf.Tensor) -> Any:
        return tf.raw_ops.XlaSplitND(input=x, N=4, num_splits=[2, 2])

    def concat(x: tf.Tensor) -> Any:
        return tf.raw_ops.XlaConcatND(inputs=[x, x, x], num_concats=[2, 2])

    for fn in (split, concat):
        traced = tf.function(fn).get_concrete_function(tf.TensorSpec(None, tf.float32))
        with pytest.raises(ShapeMismatchError):
            load_function(traced).body.run([X])


def test_replicas() -> None:
    # TensorFlow has kernels for TPUs only.
    def exchanged(groups: list[list[int]]) -> LoadedFunction:
        def run(x: tf.Tensor) -> Any:
            total = tf.raw_ops.CrossReplicaSum(input=x, group_assignment=groups)
            axes = {"concat_dimension": 0, "split_dimension": 1, "split_count": len(groups[0])}
            return total, tf.raw_ops.AllToAll(input=x, group_assignment=groups, **axes)

        return load_function(tf.function(run).get_concrete_function(tf.TensorSpec([3, 4])))

    for result in walk_function(exchanged([[0]]), [X]):
        np.testing.assert_array_equal(result, X)
    with pytest.raises(UnsupportedParamError, match="2 replicas"):
        walk_function(exchanged([[0, 1]]), [X])
