"""Arguments of unknown rank."""

from __future__ import annotations

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from savax.errors import TracingError
from savax.function.tracing._traced_body import RankPolymorphicBody
from savax.function.tracing._tracing import concrete_trace, trace
from savax.trackable import Variable
from savax.types import TensorSpec

ANY = TensorSpec(None, "float32", "x")


def traced(fn, *specs):
    return trace(lambda *args: ([fn(*args)], None), specs or [ANY]).body


def test_elementwise_function_has_every_rank():
    body = traced(jnp.tanh)
    assert isinstance(body, RankPolymorphicBody)
    assert sorted(body.bodies) == [0, 1, 2, 3, 4, 5]
    assert body.unranked_args == (0,)
    assert body.arg_specs == (ANY,)
    assert body.out_specs[0].shape is None
    assert [len(body.bodies[r].jaxpr.in_avals[0].shape) for r in range(6)] == [0, 1, 2, 3, 4, 5]
    assert not body.is_static


def test_full_reduction_has_one_shape():
    assert traced(jnp.mean).out_specs[0].shape == ()


def test_ranks_that_fail_are_dropped_with_their_reason():
    body = traced(lambda x: jnp.swapaxes(x, 1, 2))
    assert sorted(body.bodies) == [3, 4, 5]
    assert sorted(body.failures) == [0, 1, 2]
    assert all(body.failures.values())


def test_unknown_sizes_are_found_at_each_rank():
    weights = np.ones((3, 2), np.float32)
    body = traced(lambda x: x @ weights)
    assert sorted(body.bodies) == [1, 2, 3, 4, 5]
    assert body.bodies[3].arg_specs[0].dims == (None, None, 3)
    assert body.out_specs[0].shape is None


def test_no_rank_fits():
    with pytest.raises(TracingError, match=r"any rank of x") as caught:
        traced(lambda x: jnp.reshape(x, (1,) * x.ndim) @ jnp.ones((7, x.ndim + 20)))
    assert "rank 5" in str(caught.value)


def test_error_that_does_not_depend_on_the_rank_is_raised_as_it_is():
    def fn(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        traced(fn)


def test_result_must_not_depend_on_the_rank():
    with pytest.raises(TracingError, match="rank 0"):
        trace(lambda x: ([x] * (1 + x.ndim), x.ndim), [ANY])
    with pytest.raises(TracingError, match="int32"):
        traced(lambda x: x.astype("int32") if x.ndim == 2 else x)


def test_captures_are_the_same_at_all_ranks():
    a, b, c = (Variable(np.float32(i), name="abc"[i]) for i in range(3))

    def fn(x):
        if x.ndim == 0:
            c.assign(x)
            return x * b
        if x.ndim == 1:
            return x * a
        return x * b * a

    body = traced(fn)
    assert [v.name for v in body.captures] == ["c", "b", "a"]
    assert body.written == (0,)
    for rank, one in body.bodies.items():
        assert one.captures == body.captures
        assert one.written == (0,)
        assert [aval.shape for aval in one.jaxpr.in_avals[:3]] == [(), (), ()]
        if rank > 0:
            assert one.jaxpr.jaxpr.outvars[1] is one.jaxpr.jaxpr.invars[0]
    x = np.ones((2,), np.float32)
    concrete = concrete_trace(lambda x: ([fn(x)], None), [(2,)], body)
    (result,) = jax.extend.core.jaxpr_as_fun(concrete.jaxpr)(
        *[v.value for v in concrete.captures], x
    )
    np.testing.assert_array_equal(result, x * 0)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (1,) * 6])
def test_call_uses_the_actual_rank(shape):
    def fn(x):
        return [x * jnp.sum(x)], None

    body = trace(fn, [ANY]).body
    concrete = concrete_trace(fn, [shape], body)
    x = np.ones(shape, np.float32)
    (result,) = jax.extend.core.jaxpr_as_fun(concrete.jaxpr)(x)
    np.testing.assert_array_equal(result, x * x.sum())


def test_two_arguments_have_one_rank():
    body = traced(jnp.add, ANY, TensorSpec(None, "float32", "y"))
    assert body.unranked_args == (0, 1)
    for rank, one in body.bodies.items():
        assert [len(s.dims) for s in one.arg_specs] == [rank, rank]


def test_known_arguments_keep_their_shape():
    body = traced(lambda x, y: x + jnp.sum(y), ANY, TensorSpec([None, 3], "float32", "y"))
    assert body.arg_specs[1].dims == (None, 3)
