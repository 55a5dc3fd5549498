"""Frozen functions: values of Variables as constants of the compiled programs."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import savax
from savax import TensorSpec
from savax.errors import (
    InvalidArgumentError,
    SignatureMismatchError,
    UnsupportedError,
    VariableWriteError,
)

X = np.float32([[1, 2], [3, 4], [5, 6]])


class Model(savax.Module):
    """Functions that read Variables of several dtypes, and one that assigns."""

    def __init__(self) -> None:
        self.kernel = savax.Variable(np.float32([[1, 0], [2, 1]]), name="kernel")
        self.offset = savax.Variable(np.int64(2**40), name="offset")
        self.words = savax.Variable(np.array([b"a", b"b"], object), name="words")

    @savax.function(input_signature=[TensorSpec([None, 2], name="x")])
    def predict(self, x: Any) -> Any:
        return {"y": x @ self.kernel}

    @savax.function(input_signature=[TensorSpec([2])])
    def static(self, x: Any) -> Any:
        return x @ self.kernel

    @savax.function(input_signature=[TensorSpec([2], "string")])
    def texts(self, x: Any) -> Any:
        return savax.strings.join([x, self.words])

    @savax.function(input_signature=[TensorSpec([], "int64")])
    def count(self, x: Any) -> Any:
        self.offset.assign_add(1)
        return x

    @savax.function
    def general(self, x: Any, scale: float = 2.0) -> Any:
        return x * scale @ self.kernel


@pytest.fixture(params=["own", "loaded"])
def model(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    own = Model()
    own.general(X)
    own.general(X, 3.0)
    if request.param == "own":
        return own
    savax.saved_model.save(own, tmp_path / "m", signatures=own.predict)
    return savax.saved_model.load(tmp_path / "m")


def test_later_assignments_change_nothing(model: Any) -> None:
    for name, x in (("predict", X), ("static", X[0]), ("general", X)):
        fn = getattr(model, name)
        frozen, expected = savax.freeze(fn), fn(x)
        model.kernel.assign(model.kernel * 2)
        again = frozen(x)
        assert jax.tree.all(jax.tree.map(np.array_equal, again, expected)), name
        assert not jax.tree.all(jax.tree.map(np.array_equal, fn(x), expected)), name
        assert frozen.concrete_functions[0].captures == ()


def test_all_signatures_of_a_function(model: Any) -> None:
    frozen = savax.freeze(model.general)
    np.testing.assert_allclose(frozen(X, 3.0), 3 * X @ model.kernel.numpy())
    np.testing.assert_allclose(frozen(X), 2 * X @ model.kernel.numpy())
    with pytest.raises(SignatureMismatchError, match="axis 0 is 0 instead of 3"):
        frozen(X[:0])


def test_batches_of_any_size(model: Any) -> None:
    frozen = savax.freeze(model.predict)
    for size in (0, 1, 3):
        np.testing.assert_allclose(frozen(X[:size])["y"], X[:size] @ model.kernel.numpy())


def test_transformations(model: Any) -> None:
    frozen = savax.freeze(model.static)
    found = jax.jit(jax.vmap(jax.grad(lambda x: frozen(x).sum())))(X)
    np.testing.assert_allclose(found, np.tile(model.kernel.numpy().sum(1), (3, 1)))


def test_strings(model: Any) -> None:
    frozen = savax.freeze(model.texts)
    model.words.assign(np.array([b"y", b"z"], object))
    assert list(frozen(np.array([b"1", b"2"], object))) == [b"1a", b"2b"]


def test_signatures(tmp_path: Any) -> None:
    own = Model()
    savax.saved_model.save(own, tmp_path, signatures=own.predict)
    loaded: Any = savax.saved_model.load(tmp_path)
    frozen = savax.freeze(loaded.signatures["serving_default"])
    loaded.kernel.assign(loaded.kernel * 2)
    np.testing.assert_allclose(frozen(x=X)["y"], X @ own.kernel.numpy())


def test_values_of_64_bits(tmp_path: Any) -> None:
    own = savax.Module()
    own.offset = savax.Variable(np.int64(2**40))
    spec = TensorSpec([], "int64")
    with jax.enable_x64(True):
        own.add = savax.function(lambda x: x + own.offset.value, input_signature=[spec])
        savax.saved_model.save(own, tmp_path)
    loaded: Any = savax.saved_model.load(tmp_path)
    frozen = savax.freeze(loaded.add)
    loaded.offset.assign(np.int64(0))
    assert int(frozen(np.int64(5))) == 2**40 + 5


def test_functions_that_assign_are_refused(model: Any) -> None:
    with pytest.raises(VariableWriteError, match="'offset'"):
        savax.freeze(model.count)


def test_frozen_functions_are_not_saved(model: Any, tmp_path: Any) -> None:
    module = savax.Module()
    module.run = savax.freeze(model.predict)
    with pytest.raises(UnsupportedError, match="'predict' are frozen"):
        savax.saved_model.save(module, tmp_path / "frozen")
    assert not (tmp_path / "frozen").exists()


def test_nothing_to_freeze() -> None:
    with pytest.raises(InvalidArgumentError, match=r"takes a savax\.function"):
        savax.freeze(np.sin)  # type: ignore[type-var]
    with pytest.raises(InvalidArgumentError, match="has no signature"):
        savax.freeze(savax.function(lambda x: x))
