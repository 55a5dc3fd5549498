"""Variables have the dtype, shape and trainability that TensorFlow gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from savax.trackable import Variable
from savax.types import as_shape

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

INITIAL: dict[str, Any] = {
    "float": 1.5,
    "int": 3,
    "bool": True,
    "complex": 1j,
    "text": "a",
    "bytes": b"a",
    "list": [[1, 2], [3, 4]],
    "mixed list": [1, 2.5],
    "texts": ["a", "bc"],
    "empty list": [],
    "tuple": (1, 2),
    "float64": np.float64(1),
    "int64 array": np.arange(3),
    "list of float32": [np.float32(1), 2.5],
    "list of float64": [np.float64(1), np.float64(2)],
    "numpy text": np.array(["a", "b"]),
    "function": lambda: [1.0, 2.0],
}


@pytest.mark.parametrize("name", INITIAL)
def test_dtype_and_shape_of_initial_values(name: str) -> None:
    ours, theirs = Variable(INITIAL[name]), tf.Variable(INITIAL[name])
    assert ours.dtype.name == theirs.dtype.name
    assert ours.shape == tuple(theirs.shape)
    assert ours.trainable == theirs.trainable
    assert ours.name == theirs.name.removesuffix(":0")
    assert np.array_equal(ours.numpy(), theirs.numpy())


CASTS = [
    (1, "float16"),
    ([1, 2], "int64"),
    (np.float64(1), "float32"),
    (True, "bool"),
    ("a", "string"),
]


@pytest.mark.parametrize(("initial", "dtype"), CASTS)
def test_casts(initial: Any, dtype: str) -> None:
    ours, theirs = Variable(initial, dtype=dtype), tf.Variable(initial, dtype=dtype)
    assert ours.dtype.name == theirs.dtype.name
    assert np.array_equal(ours.numpy(), theirs.numpy())


REFUSED: list[tuple[Any, Any]] = [
    (1.0, [1.0, 2.0]),
    ([1.0, 2.0], 1.0),
    (1, 1.5),
    (1.0, "text"),
    (1.0, 1j),
    (1, "text"),
]


@pytest.mark.parametrize(("initial", "value"), REFUSED)
@pytest.mark.parametrize("method", ["assign", "assign_add", "assign_sub"])
def test_both_refuse(initial: Any, value: Any, method: str) -> None:
    with pytest.raises((ValueError, TypeError, tf.errors.InvalidArgumentError)):
        getattr(tf.Variable(initial), method)(value)
    with pytest.raises(ValueError):
        getattr(Variable(initial), method)(value)


@pytest.mark.parametrize("shape", [[None, 2], [1, 2], [None, None]])
def test_open_shapes(shape: Any) -> None:
    ours, theirs = Variable([[1, 2]], shape=shape), tf.Variable([[1, 2]], shape=shape)
    assert ours.shape == as_shape(theirs.shape)
