from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import pytest

from savax.function._source_lines import error_frame, is_user_file, user_frame


def _outer(x):
    return _inner(x)


def _inner(x):
    return jnp.where(x > 0, x, 1.0)


def test_user_frame_names_the_innermost_line_of_the_user():
    jaxpr = jax.make_jaxpr(_outer)(jnp.ones(3))
    line = inspect.getsourcelines(_inner)[1] + 1
    for equation in jaxpr.eqns:
        assert user_frame(equation) == f"{__file__}:{line} (_inner)"


def test_error_frame_names_the_line_that_called_jax():
    with pytest.raises(TypeError) as caught:
        jax.eval_shape(lambda x: jnp.zeros(3) @ x, jnp.ones(4))
    assert error_frame(caught.value).startswith(f"{__file__}:")
    assert "<lambda>" in error_frame(caught.value)


def test_machinery_is_not_the_user():
    assert not is_user_file(jax.__file__)
    assert not is_user_file(inspect.__file__)
    assert not is_user_file("<frozen importlib._bootstrap>")
    assert is_user_file(__file__)
