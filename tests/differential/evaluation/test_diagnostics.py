"""Ops that pass values on or check them."""

from __future__ import annotations

import jax
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_evaluation, load_function  # noqa: E402

from savax.errors import InvalidArgumentError, ShapeMismatchError  # noqa: E402

pytestmark = pytest.mark.tf

X = np.float32([1, -2, 3])


@pytest.mark.parametrize("op", ["Identity", "StopGradient"])
@pytest.mark.parametrize("value", [X, np.int64([2**40]), np.array([True]), np.array(["a", "é"])])
def test_values_pass_through(op, value):
    check_evaluation(op, value)


def test_lists_pass_through():
    check_evaluation("IdentityN", [X, np.int32(1), np.array(["a"])])


def test_gradient_passes_or_stops():
    check_evaluation("Identity", X, grad=True)
    check_evaluation("EnsureShape", X, shape=[None], grad=True)
    check_evaluation("CheckNumerics", X, message="bad", grad=True)
    check_evaluation("StopGradient", X, grad=True)


def _load(function, *specs):
    return load_function(tf.function(function).get_concrete_function(*specs)).body


def test_wrong_shape_is_refused():
    body = _load(lambda x: tf.ensure_shape(x, [2]), tf.TensorSpec(None))
    with pytest.raises(ShapeMismatchError, match=r"expected shape \(2,\), found \(3,\)"):
        body.run([X])


def test_assertion_on_shapes_fails_and_on_data_is_dropped():
    def f(x):
        tf.debugging.Assert(tf.shape(x)[0] < 3, ["too long:", tf.shape(x)])
        tf.debugging.Assert(tf.reduce_all(x > 0), [x])
        return x

    body = _load(f, tf.TensorSpec([None]))
    assert body.run([X[:2]])[0].tolist() == [1, -2]
    with pytest.raises(InvalidArgumentError, match=r"Assertion failed: too long: \[3\]"):
        body.run([X])


def test_print_is_silent_under_jit(capfd):
    def f(x):
        tf.print("value", x)
        return x + 1

    body = _load(f, tf.TensorSpec([None]))
    assert jax.jit(lambda x: body.run([x])[0])(X).tolist() == [2, -1, 4]
