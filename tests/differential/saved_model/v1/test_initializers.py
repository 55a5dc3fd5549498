"""Initializers of variables by their shapes: the values and kinds of nodes that TensorFlow has."""

from __future__ import annotations

import numpy as np
import pytest

from savax.compat import v1
from savax.errors import InvalidArgumentError

tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1
pytestmark = pytest.mark.tf

ROWS = {
    "zeros": ("zeros_initializer", {}, "float32"),
    "zeros of integers": ("zeros_initializer", {}, "int64"),
    "empty strings": ("zeros_initializer", {}, "string"),
    "false": ("zeros_initializer", {}, "bool"),
    "ones": ("ones_initializer", {}, "float64"),
    "a number": ("constant_initializer", {"value": 2.5}, "float32"),
    "an array": ("constant_initializer", {"value": np.arange(24)}, "int64"),
    "uniform": ("random_uniform_initializer", {"minval": -3.0, "maxval": 5.0}, "float32"),
    "uniform by default": ("random_uniform_initializer", {}, "float32"),
    "normal": ("random_normal_initializer", {"mean": 2.0, "stddev": 0.5}, "float32"),
    "truncated": ("truncated_normal_initializer", {"mean": -1.0}, "float64"),
    "glorot uniform": ("glorot_uniform_initializer", {}, "float32"),
    "glorot normal": ("glorot_normal_initializer", {}, "float32"),
}
SHAPE = [2, 3, 4]


@pytest.mark.parametrize("row", ROWS)
def test_values_are_those_of_tensorflow(row) -> None:
    name, arguments, dtype = ROWS[row]
    is_random = not name.startswith(("zeros", "ones", "constant"))
    if is_random:
        arguments = {**arguments, "seed": 7}
    with tf1.Session(graph=tf.Graph()) as session:
        made = getattr(tf1, name)(**arguments)
        variable = tf1.get_variable("v", SHAPE, dtype, made, use_resource=True)
        session.run(variable.initializer)
        expected = session.run(variable)
    with v1.Session(graph=v1.Graph()) as session:
        made = getattr(v1, name)(**arguments)
        variable = v1.get_variable("v", SHAPE, dtype, made)
        assert variable.initial_value.shape == tuple(SHAPE)
        session.run(variable.initializer)
        got = session.run(variable)
        assert variable.name == "v:0"
        assert all(op.name.startswith("v") for op in session.graph.get_operations())
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5) if is_random else (
        np.testing.assert_array_equal(got, expected)
    )


def test_values_without_a_seed_depend_on_the_name() -> None:
    def made() -> list[np.ndarray]:
        with v1.Session(graph=v1.Graph()) as session:
            with v1.variable_scope("scope"):
                for name in "ab":
                    v1.get_variable(name, [3], initializer=v1.random_normal_initializer())
            session.run(v1.global_variables_initializer())
            return session.run(v1.global_variables())

    first, second = made(), made()
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


def test_what_initializers_refuse() -> None:
    with v1.Graph().as_default():
        with pytest.raises(InvalidArgumentError, match="shape"):
            v1.get_variable("a", [3], initializer=v1.constant_initializer([1.0, 2.0]))
        strict = v1.constant_initializer(np.ones(6), verify_shape=True)
        with pytest.raises(InvalidArgumentError, match="shape"):
            v1.get_variable("b", [2, 3], initializer=strict)
        with pytest.raises(InvalidArgumentError, match="floats"):
            v1.get_variable("c", [3], "int32", v1.glorot_uniform_initializer())
        with pytest.raises(InvalidArgumentError, match="fully known"):
            v1.zeros_initializer()([None])
