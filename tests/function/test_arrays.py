"""Variables and containers among JAX's own functions."""

from __future__ import annotations

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from savax.errors import InvalidArgumentError, TracingError
from savax.function._arrays import current_value, narrowed, settled_value
from savax.function.tracing._tracing import trace
from savax.trackable import (
    Constant,
    Module,
    TrackedDict,
    TrackedList,
    TrackedOrderedDict,
    Variable,
)
from savax.types import TensorSpec

X = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


@pytest.fixture
def v():
    return Variable(np.array([[5.0, 6.0], [7.0, 8.0]], np.float32), name="v")


CALLS = {
    "add": lambda v: jnp.add(X, v),
    "add first": lambda v: jnp.add(v, X),
    "operator": lambda v: X @ v,
    "reflected": lambda v: v @ X,
    "matmul": lambda v: jnp.matmul(X, v),
    "dot": lambda v: jnp.dot(v, X),
    "einsum": lambda v: jnp.einsum("ij,jk->ik", X, v),
    "where": lambda v: jnp.where(X > 2, v, X),
    "concatenate": lambda v: jnp.concatenate([X, v]),
    "stack": lambda v: jnp.stack([v, v]),
    "sum": lambda v: jnp.sum(v, axis=0),
    "take": lambda v: jnp.take(v, jnp.array([0]), axis=0),
    "relu": lambda v: jax.nn.relu(v),
    "softmax": lambda v: jax.nn.softmax(v),
    "norm": lambda v: jnp.linalg.norm(v),
    "clip": lambda v: jnp.clip(v, 0, 6),
    "asarray": lambda v: jnp.asarray(v),
    "numpy": lambda v: np.asarray(v) + 1,
    "stop_gradient": lambda v: jax.lax.stop_gradient(v),
    "jit": lambda v: jax.jit(lambda a: a + 1)(v),
    "grad": lambda v: jax.grad(lambda a: jnp.sum(a * a))(v),
    "vmap": lambda v: jax.vmap(lambda a: a * 2)(v),
    "scan": lambda v: jax.lax.scan(lambda c, t: (c + t, c), jnp.zeros(2), v)[1],
    "cond": lambda v: jax.lax.cond(True, lambda a: a, lambda a: a * 2, v),
    "device_put": lambda v: jax.device_put(v),
    "index": lambda v: v[0] + v.at[0].set(1.0)[0],
}


@pytest.mark.parametrize("case", CALLS)
def test_jax_functions_take_variables(case, v):
    expected = CALLS[case](v.numpy() if case != "index" else jnp.asarray(v.numpy()))
    found = CALLS[case](v)
    assert not isinstance(found, Variable)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("case", [c for c in CALLS if c not in ("numpy",)])
def test_traced_functions_take_variables(case, v):
    body = trace(lambda x: ([CALLS[case](v)], None), [TensorSpec([2])]).body
    assert body.captures == (v,)
    v.assign(v.numpy() * 2)
    (found,) = jax.jit(jax.extend.core.jaxpr_as_fun(body.jaxpr))(v.value, np.zeros(2, np.float32))
    v_value = v.numpy() if case != "index" else jnp.asarray(v.numpy())
    np.testing.assert_allclose(found, CALLS[case](v_value), rtol=1e-6)


def test_no_variable_comes_out_of_a_tree(v):
    leaves, treedef = jax.tree.flatten({"a": [v, 1.0]})
    assert not any(isinstance(leaf, Variable) for leaf in leaves)
    rebuilt = jax.tree.unflatten(treedef, leaves)
    assert not isinstance(rebuilt["a"][0], Variable)
    doubled = jax.tree.map(lambda leaf: leaf * 2, [v])
    np.testing.assert_array_equal(doubled[0], v.numpy() * 2)
    jax.tree.map(lambda leaf: leaf, [v], is_leaf=lambda x: x is v)
    assert isinstance(jax.tree.leaves([v], is_leaf=lambda x: isinstance(x, Variable))[0], Variable)


def test_gradients_and_variables_in_one_map(v):
    grads = jax.grad(lambda p: jnp.sum(p["w"] ** 2))({"w": v})
    new = jax.tree.map(lambda g, p: p - 0.1 * g, grads, {"w": v})
    np.testing.assert_allclose(new["w"], v.numpy() * 0.8, rtol=1e-6)


def test_optax_takes_variables(v):
    optimizer = optax.adamw(1e-1)
    state = optimizer.init({"w": v})
    grads = jax.grad(lambda p: jnp.sum(p["w"] ** 2))({"w": v})
    updates, state = optimizer.update(grads, state, {"w": v})
    v.assign(v + updates["w"])
    assert np.all(v.numpy() < np.array([[5.0, 6.0], [7.0, 8.0]]))


CONTAINERS = {
    "list": (TrackedList, [X, 2 * X]),
    "dict": (TrackedDict, {"b": X, "a": 2 * X}),
    "ordered": (TrackedOrderedDict, {"b": X, "a": 2 * X}),
}


@pytest.mark.parametrize("case", CONTAINERS)
def test_containers_are_trees_and_keep_their_type(case):
    kind, values = CONTAINERS[case]
    module = Module()
    module.held = kind(values)
    assert len(jax.tree.leaves(module.held)) == 2
    grads = jax.grad(lambda tree: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))(
        module.held
    )
    assert type(grads) is type(module.held) is kind
    new = jax.tree.map(lambda p, g: p - g / 2, module.held, grads)
    for leaf in jax.tree.leaves(new):
        np.testing.assert_array_equal(leaf, 0 * X)
    if case != "list":
        plain = jax.tree.leaves(dict(sorted(values.items())) if case == "dict" else None)
        order = jax.tree.leaves(module.held)
        assert np.array_equal(order[0], plain[0] if plain else X)


def test_host_value_becomes_a_jax_array_once(v):
    v._set_host_value(X.copy())
    first = v.value
    assert isinstance(first, jax.Array)
    assert v.value is first


def test_host_value_read_first_in_a_trace_is_no_tracer():
    v = Variable(np.float32(3))
    jax.jit(lambda x: x * v)(1.0)
    assert isinstance(v._stored, jax.Array)
    assert not isinstance(v._stored, jax.core.Tracer)
    assert v.numpy() == 3


@pytest.mark.parametrize("dtype", ["int64", "float64", "uint64", "complex128"])
def test_64_bit_values_stay_exact(dtype):
    value = np.array([2**53 - 1, 3], dtype) if dtype != "uint64" else np.array([2**64 - 1], dtype)
    v = Variable(value)
    assert v._host_value().dtype == np.dtype(dtype)
    np.testing.assert_array_equal(v._host_value(), value)
    assert v.value is not None
    np.testing.assert_array_equal(v._host_value(), value)
    with jax.enable_x64(True):
        assert v.value.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(v.value, value)


def test_integers_that_do_not_fit_are_refused():
    big = Variable(np.int64(2**31), name="big")
    with pytest.raises(InvalidArgumentError, match=r"'big'.*jax_enable_x64"):
        settled_value(big)
    with pytest.raises(InvalidArgumentError, match=r"Argument 'ids'.*jax_enable_x64"):
        narrowed(np.array([1, -(2**31) - 1]), "Argument 'ids'")
    assert narrowed(np.array([2**31 - 1, -(2**31)]), "x").dtype == np.int32
    assert narrowed(np.array([], np.int64), "x").dtype == np.int32
    assert narrowed(np.float64(1.5), "x").dtype == np.float32
    with jax.enable_x64(True):
        assert settled_value(big) == 2**31


def test_string_values_stay_on_the_host():
    names = Variable(["a", "b"])
    assert names.value.tolist() == [b"a", b"b"]
    assert settled_value(names).dtype == object


def test_current_value_follows_the_trace(v):
    seen = []
    trace(lambda x: (seen.append(current_value(v)) or [x], None), [TensorSpec([2])], candidates=[v])
    assert isinstance(seen[-1], jax.core.Tracer)
    assert isinstance(current_value(v), jax.Array)
    constant = Constant(X)
    assert current_value(constant) is X


def test_variable_without_value_is_named():
    class Keeper:
        v = None

    keeper = Keeper()

    def fn(x):
        keeper.v = Variable(x * 2, name="orphan")
        return [x], None

    with pytest.raises(TracingError, match="orphan"):
        trace(fn, [TensorSpec([2])])
    with pytest.raises(InvalidArgumentError, match="'orphan' has no value"):
        settled_value(keeper.v)
