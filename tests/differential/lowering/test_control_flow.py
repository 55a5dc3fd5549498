"""Branches, loops, Refs and calls, run by TensorFlow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.lowering_check import check_gradients, check_lowering, import_graph, lower

pytestmark = pytest.mark.tf
tf = pytest.importorskip("tensorflow")

X = np.linspace(-1, 2, 12, dtype=np.float32).reshape(3, 4)
SPECS = [None, (None, 4), (None, None)]


def cumulative(x):
    def step(carry, row):
        carry = carry * 0.5 + row
        return carry, (carry, row.sum(), row > 0)

    return jax.lax.scan(step, jnp.zeros(x.shape[1]), x)


def reverse(x):
    return jax.lax.scan(lambda c, a: (c + a, c * a), x[0], x, reverse=True)


def without_rows(x):
    return jax.lax.scan(lambda c, a: (c + a, c * a), x[0], x[:0])


def one_row(x):
    return jax.lax.scan(lambda c, a: (c + a, c * a), x[0], x[:1])


def unrolled(x):
    return jax.lax.scan(lambda c, a: (c + a, c * a), x[:, 0], x.T, unroll=True)


def unrolled_in_part(x):
    return jax.lax.scan(lambda c, a: (c + a, c * a), x[0], x, unroll=2)


def no_rows_given(x):
    return jax.lax.scan(lambda c, _: (c * 1.5, c), x, None, length=5)


def over_pairs(x):
    return jax.lax.scan(lambda c, a: (c + a[0] * a[1], a), jnp.float32(0), (x[:, 0], x[:, 1]))


def nested(x):
    def inner(c, a):
        return c + a * x.shape[0], c

    def outer(c, row):
        total, seen = jax.lax.scan(inner, c, row)
        return total, seen.max()

    return jax.lax.scan(outer, jnp.float32(0), x)


def weights_and_ids(x):
    w = np.arange(16, dtype=np.float32).reshape(4, 4) / 16
    return jax.lax.scan(lambda h, a: (jnp.tanh(a[0] @ w + h), a[1]), x[0], (x, jnp.arange(3)))[0]


def mapped(x):
    return jax.lax.map(lambda row: jnp.sin(row).sum(), x)


def counted(x):
    return jax.lax.fori_loop(0, 5, lambda i, s: s + i * x.shape[0], x)


def counted_from_a_value(x):
    start = x[0, 0].astype(jnp.int32)
    return jax.lax.fori_loop(start, start + 3, lambda i, s: s * 2 + i, x)


def looped(x):
    def go_on(state):
        return (state[0] < 20) & (state[1].sum() < 100)

    return jax.lax.while_loop(go_on, lambda s: (s[0] + 1, s[1] * 2 + x), (0, x))


def batched_loop(x):
    return jax.vmap(lambda r: jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, r))(x)


def empty_state(x):
    return jax.lax.while_loop(lambda s: s > 0, lambda s: s - 1, jnp.int32(3)), x


def chosen(x):
    return jax.lax.cond(x.sum() > 4, lambda a, b: a + b, lambda a, b: a * b, x, x[::-1])


def chosen_sizes(x):
    return jax.lax.cond(x[0, 0] > 0, lambda a: a * x.shape[0], lambda a: a + 1, x)


def chosen_in_loop(x):
    def step(c, row):
        return jax.lax.cond(row[0] > 0, lambda: c + row, lambda: c - row), c

    return jax.lax.scan(step, jnp.zeros(x.shape[1]), x)


def chosen_by_row(x):
    return jax.vmap(lambda r: jax.lax.cond(r.sum() > 0, jnp.sin, jnp.cos, r))(x)


def known_choice(x):
    return jax.lax.cond(True, jnp.sin, jnp.cos, x)


@pytest.mark.parametrize("specs", SPECS, ids=str)
@pytest.mark.parametrize(
    "fn",
    [
        cumulative,
        reverse,
        without_rows,
        one_row,
        unrolled_in_part,
        no_rows_given,
        nested,
        mapped,
        counted,
        counted_from_a_value,
        looped,
        batched_loop,
        empty_state,
        chosen,
        chosen_sizes,
        chosen_in_loop,
        chosen_by_row,
        known_choice,
    ],
    ids=lambda fn: fn.__name__,
)
def test_values(fn, specs):
    check_lowering(fn, X, specs=None if specs is None else [specs])


@pytest.mark.parametrize("fn", [unrolled, over_pairs], ids=lambda fn: fn.__name__)
def test_values_of_a_known_axis(fn):
    check_lowering(fn, X, specs=[(None, 4)])


def test_rows_of_two_dtypes():
    check_lowering(weights_and_ids, X)


@pytest.mark.parametrize("index", [-1, 0, 1, 2, 3, 4, 7])
def test_switch(index):
    branches = [jnp.sin, jnp.cos, lambda a: a * 2, lambda a: a * a.shape[0], jnp.tanh]
    check_lowering(
        lambda i, x: jax.lax.switch(i, branches, x), np.int32(index), X, specs=[None, (None, 4)]
    )


@pytest.mark.parametrize("flag", [False, True])
def test_branches_without_operands(flag):
    check_lowering(lambda p: jax.lax.cond(p, lambda: 1.0, lambda: 2.0), np.bool_(flag))


@pytest.mark.parametrize(
    "fn",
    [cumulative, reverse, nested, mapped, counted, chosen, chosen_in_loop, no_rows_given],
    ids=lambda fn: fn.__name__,
)
@pytest.mark.parametrize("specs", [None, [(None, 4)]], ids=str)
def test_gradients(fn, specs):
    check_gradients(fn, X, specs=specs)


def test_gradient_of_a_loop_that_jax_does_not_differentiate():
    def fn(x):
        return jax.lax.while_loop(lambda y: y < 9, lambda y: y * 2, x)

    lowered = lower(fn, np.float32(1))
    graph = import_graph(lowered)
    with graph.as_default():
        (gradient,) = tf.gradients(graph.outputs, graph.inputs)
    with tf.compat.v1.Session(graph=graph) as session:
        assert session.run(gradient.name, {graph.inputs[0].name: 3.0}) == 4.0


def test_gradient_of_an_rnn():
    def rnn(x, w, u):
        h, hs = jax.lax.scan(lambda h, a: (jnp.tanh(a @ w + h @ u),) * 2, jnp.zeros((2, 3)), x)
        return h.sum() + (hs**2).sum()

    rng = np.random.default_rng(0)
    x, w, u = (rng.normal(size=s).astype(np.float32) for s in ((5, 2, 4), (4, 3), (3, 3)))
    check_lowering(rnn, x, w, u, specs=[(None, 2, 4), None, None])
    check_gradients(rnn, x, w, u, specs=[(None, 2, 4), None, None])


# Functions that JAX has differentiated


def trained(w, x):
    def step(h, a):
        h = jnp.tanh(a @ w + h)
        return h, h * 2

    h, hs = jax.lax.scan(jax.checkpoint(step), x[0], x)
    return (hs**2).mean() + jax.nn.gelu(h).sum()


def gradient_of_branches(x):
    def fn(x):
        return jax.lax.cond(x.sum() > 0, lambda a: (a**2).sum(), lambda a: a.sum(), x)

    return jax.grad(fn)(x)


def gradient_of_a_counted_loop(x):
    def fn(s):
        return jax.lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) * s, x).sum()

    return jax.grad(fn)(2.0)


def tangent_of_a_loop(x):
    def fn(x):
        return jax.lax.while_loop(lambda s: s.sum() < 50, lambda s: s * 1.5 + 1, x)

    return jax.jvp(fn, (x,), (x,))


def second_derivatives(x):
    return jax.hessian(lambda row: jnp.sin(row).prod())(x[0])


def batched_scan(x):
    return jax.vmap(lambda r: jax.lax.scan(lambda c, a: (c * a + 1, c), 1.0, r))(x)


def root(x):
    def solve(f, y):
        return jax.lax.fori_loop(0, 20, lambda i, y: y - f(y) / (3 * y * y), y)

    start = jnp.float32(1)
    return jax.lax.custom_root(lambda y: y**3 - x[2, 3], start, solve, lambda g, y: y / g(1.0))


def test_a_training_loss_and_its_gradient():
    w = np.eye(4, dtype=np.float32) + 0.1
    check_lowering(jax.value_and_grad(trained), w, X, specs=[None, (None, 4)], rtol=1e-4)


@pytest.mark.parametrize(
    "fn",
    [
        gradient_of_branches,
        gradient_of_a_counted_loop,
        tangent_of_a_loop,
        second_derivatives,
        batched_scan,
        root,
    ],
)
def test_transformed_functions(fn):
    check_lowering(fn, X, specs=[(None, 4)], rtol=1e-4)


def test_keys_are_carried_and_read_row_by_row():
    def fn(x):
        def step(key, row):
            key, used = jax.random.split(key)
            return key, jnp.where(jax.random.bernoulli(used, 0.5, row.shape), row, 0)

        dropped = jax.lax.scan(step, jax.random.key(0), x)[1]
        keys = jax.random.split(jax.random.key(1), 3)
        return dropped, jax.lax.map(lambda key: jax.random.normal(key, (4,)), keys)

    check_lowering(fn, X)


def test_wide_integers():
    def fn(x):
        n = x.shape[0]
        total = jax.lax.fori_loop(0, n, lambda i, c: c + i, jnp.int64(0))
        scanned = jax.lax.scan(lambda c, r: (c + r * n, (c, c.sum())), x[0], x)
        return scanned, jnp.int64(n), total, x[-1], x[n // 2 :]

    with jax.enable_x64(True):
        check_lowering(fn, X.astype(np.float64), specs=[(None, 4)])


# Refs


def counts(x):
    ref = jax.new_ref(jnp.int32(0))

    def step(c, row):
        ref[...] += 1
        return c + row, ref[...]

    total, seen = jax.lax.scan(step, jnp.zeros(x.shape[1]), x)
    return total, seen, jax.ref.freeze(ref)


def counts_in_a_branch(x):
    ref = jax.new_ref(jnp.zeros(x.shape))

    def add(a):
        ref[...] = ref[...] + a
        return a

    y = jax.lax.cond(x.sum() > 0, add, lambda a: a * 2, x)
    return y, jax.ref.freeze(ref)


def counts_in_while(x):
    ref = jax.new_ref(jnp.float32(1))

    def step(i):
        ref[...] *= 2
        return i + 1

    last = jax.lax.while_loop(lambda i: i < 4, step, 0)
    return last, jax.ref.freeze(ref)


def reads_in_a_condition(x):
    ref = jax.new_ref(x.sum())
    last = jax.lax.while_loop(lambda y: y < ref[...], lambda y: y + 1.5, jnp.float32(0))
    return last, jax.ref.freeze(ref)


def counts_in_jit(x):
    ref = jax.new_ref(jnp.float32(1))

    @jax.jit
    def bump(a):
        ref[...] += a.sum()
        return a * ref[...]

    return bump(x), bump(x), jax.ref.freeze(ref)


def parts(x):
    ref = jax.new_ref(x)
    first = ref[0, 1]
    ref[1, 1:3] = jnp.ones(2)
    ref[0] += 1.0
    jax.ref.addupdate(ref, (slice(None), 0), x[:, 1])
    return first, ref[2], jax.ref.freeze(ref)


def parts_by_value(x):
    ref = jax.new_ref(x)

    def step(i, carry):
        ref[i] = ref[i] * 2 + carry
        return carry + 1

    last = jax.lax.fori_loop(0, 3, step, jnp.float32(0))
    return last, jax.ref.freeze(ref)


@pytest.mark.parametrize(
    "fn",
    [
        counts,
        counts_in_a_branch,
        counts_in_while,
        counts_in_jit,
        parts,
        parts_by_value,
        reads_in_a_condition,
    ],
)
def test_refs(fn):
    check_lowering(fn, X)


@pytest.mark.parametrize("fn", [counts, counts_in_a_branch, counts_in_while, counts_in_jit])
def test_refs_of_unknown_size(fn):
    check_lowering(fn, X, specs=[(None, 4)])


# Calls


@jax.custom_jvp
def twice(x):
    return x * 2


twice.defjvp(lambda primals, tangents: (twice(primals[0]), tangents[0] * 2))


@jax.custom_vjp
def square(x):
    return x**2


square.defvjp(lambda x: (square(x), x), lambda x, g: (2 * x * g,))


def calls(x):
    y = jax.checkpoint(lambda a: jnp.sin(a) * 2)(x)
    return square(twice(y)), jax.jit(lambda a, b: (a + b, a))(x, y)[0], jax.nn.relu(x)


def long_function(x):
    for _ in range(12):
        x = jnp.sin(x) + x * 0.5
    return x * x.shape[0], x.sum(0)


long_jit = jax.jit(long_function)


def called_twice(x):
    y, s = long_jit(x)
    z, t = long_jit(y)
    return z, s + t


def test_calls():
    check_lowering(calls, X, specs=[(None, 4)])
    check_gradients(calls, X, specs=[(None, 4)])


def test_a_large_function_that_is_called_twice_is_shared():
    lowered = check_lowering(called_twice, X, specs=[(None, 4)])
    assert lowered.ops().count("PartitionedCall") == 2
    assert len(lowered.library.functions) == 2
    check_gradients(called_twice, X, specs=[(None, 4)])


def test_dims_as_values():
    def fn(x, y):
        n = x.shape[0]
        sizes = [n, n * 2 - 1, n // 2, n % 2, n * n, y.shape[0]]
        return [jnp.int32(size) for size in sizes], x.reshape(-1), x[n // 2 :], x[-1], x[: n - 1]

    check_lowering(fn, X, np.zeros((6, 2), np.float32), specs=[("b", 4), ("2*b", 2)])


def test_a_dim_that_is_only_known_as_an_expression():
    check_lowering(
        lambda y: jnp.float32(y.shape[0] // 2), np.zeros((6,), np.float32), specs=[("2*b",)]
    )
