"""Repeated calls skip binding, and never take another call for the one that they know."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from savax.errors import DTypeMismatchError, SignatureMismatchError
from savax.function import function
from savax.function._call_memo import CallMemo
from savax.trackable import Variable
from savax.types import TensorSpec

X = np.ones((2, 3), np.float32)
Y = np.zeros((2, 3), np.float32)


def test_a_call_like_an_earlier_one_is_found_with_its_own_tensors() -> None:
    memo: CallMemo[str] = CallMemo()
    memo.remember((X, 2), {"y": Y}, [Y, X], "target")
    x, y = X + 1, Y + 1
    target, tensors = memo.find((x, 2), {"y": y}) or ("", [])
    assert target == "target"
    assert [id(t) for t in tensors] == [id(y), id(x)]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((X, 3), {"y": Y}),
        ((X, True), {"y": Y}),
        ((X, 2), {"z": Y}),
        ((X, 2, Y), {}),
        ((X[:1], 2), {"y": Y}),
        ((X.astype(np.float16), 2), {"y": Y}),
        ((jnp.asarray(X), 2), {"y": Y}),
        ((Variable(X), 2), {"y": Y}),
        (([X], 2), {"y": Y}),
        ((X, 2.0), {"y": Y}),
    ],
)
def test_another_call_is_not_found(args: tuple, kwargs: dict) -> None:
    memo: CallMemo[str] = CallMemo()
    memo.remember((X, 2), {"y": Y}, [X, Y], "target")
    assert memo.find(args, kwargs) is None


@pytest.mark.parametrize(
    ("args", "tensors"),
    [
        ((X, X), [X, X]),  # which is which?
        ((X,), [X + 0]),  # converted
        ((X,), [X, Y]),  # a default
        ((X, 2), [X, np.int32(2)]),  # a number that became a tensor
        ((X, 2.0), [X]),  # 0.0 == -0.0
        (([X],), [X]),
    ],
)
def test_what_other_calls_need_not_share_is_not_kept(args: tuple, tensors: list) -> None:
    memo: CallMemo[str] = CallMemo()
    memo.remember(args, {}, tensors, "target")
    assert memo.find(args, {}) is None


def test_functions_tell_their_calls_apart() -> None:
    @function
    def scaled(x, y, factor=1, *, minus=False):
        return (x - y if minus else x + y) * factor

    x, y = jnp.full(3, 5.0), jnp.full(3, 2.0)
    for _ in range(3):
        assert scaled(x, y)[0] == 7
        assert scaled(y=x, x=y)[0] == 7
        assert scaled(x, y, minus=True)[0] == 3
        assert scaled(y=y, x=x, minus=True)[0] == 3
        assert scaled(y, x, minus=True)[0] == -3
        assert scaled(x, y, 2)[0] == 14
        assert scaled(x, y, factor=3)[0] == 21
        assert scaled(x, x)[0] == 10
        assert scaled(x[:2], y[:2]).shape == (2,)
        assert scaled(x.astype(jnp.int32), y.astype(jnp.int32)).dtype == jnp.int32


def test_wrong_calls_stay_wrong() -> None:
    @function(input_signature=[TensorSpec([None, 3], "float32")])
    def double(x):
        return 2 * x

    concrete = double.get_concrete_function()
    for called in (double, concrete):
        for _ in range(2):
            assert called(X).shape == (2, 3)
            with pytest.raises(SignatureMismatchError):
                called(X[:, :2])
            with pytest.raises((DTypeMismatchError, SignatureMismatchError)):
                called(X.astype(np.float64))


def test_known_calls_take_part_in_transformations() -> None:
    weight = Variable(3.0)

    @function
    def product(x):
        return jnp.sum(x * weight)

    x = jnp.ones(4)
    assert product(x) == product(x) == 12
    assert jax.grad(product)(x).tolist() == [3, 3, 3, 3]
    assert jax.jit(lambda y: product(x) + y)(1.0) == 13
    weight.assign(4.0)
    assert product(x) == 16

    @function
    def outer(y):
        weight.assign_add(1.0)
        return product(x) + y

    assert outer(jnp.float32(0)) == 20
    assert product(x) == 20
