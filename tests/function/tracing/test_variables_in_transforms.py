"""Variables read and assigned under each of JAX's transformations, traced more than once."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from savax.errors import EscapedTracerError, TracingError, VariableWriteError
from savax.function.tracing._tracing import trace
from savax.trackable import Variable
from savax.types import TensorSpec

X = np.array([1.0, 2.0, 3.0], np.float32)
SPEC = TensorSpec([3], "float32", "x")

# Long-lived, so that JAX's caches could keep what one trace made of the functions below.
V = Variable(np.float32(2.0), name="v")
COUNT = Variable(np.int32(0), name="count")


@pytest.fixture(autouse=True)
def _reset():
    V.assign(np.float32(2.0))
    COUNT.assign(np.int32(0))


def run(body, *args):
    """Runs a static body as a function layer does, and stores the new values."""
    values = [c.value for c in body.captures]
    results = jax.jit(jax.extend.core.jaxpr_as_fun(body.jaxpr))(*values, *args)
    outputs = results[: len(body.out_specs)]
    for position, value in zip(body.written, results[len(outputs) :], strict=True):
        body.captures[position].assign(value)
    return outputs


def traced(fn, *specs, **options):
    return trace(lambda *args: ([fn(*args)], None), specs or [SPEC], **options).body


def scale(x):
    return x * V.value


@jax.custom_jvp
def scale_jvp(x):
    return x * V.value


scale_jvp.defjvp(lambda primals, tangents: (scale_jvp(*primals), tangents[0] * V.value))


@jax.custom_vjp
def scale_vjp(x):
    return x * V.value


scale_vjp.defvjp(lambda x: (x * V.value, None), lambda _, g: (g * V.value,))


jit_scale = jax.jit(scale)
checkpoint_scale = jax.checkpoint(scale)


def scan_body(carry, item):
    return carry * V.value, item * V.value


def total(x):
    return jnp.sum(scale(x) ** 2)


def total_of_jit(x):
    return jnp.sum(jit_scale(x) ** 2)


def total_of_checkpoint(x):
    return jnp.sum(checkpoint_scale(x) ** 2)


def total_of_jvp(x):
    return jnp.sum(scale_jvp(x) ** 2)


def total_of_vjp(x):
    return jnp.sum(scale_vjp(x) ** 2)


def combine(a, b):
    return a + b * V.value


def below(state):
    return jnp.sum(state) < 10 * V.value


READS = {
    "plain": scale,
    "jit": jit_scale,
    "jit of jit": jax.jit(jit_scale),
    "grad": jax.grad(total),
    "grad of jit": jax.grad(total_of_jit),
    "grad of checkpoint": jax.grad(total_of_checkpoint),
    "grad of custom_jvp": jax.grad(total_of_jvp),
    "grad of custom_vjp": jax.grad(total_of_vjp),
    "value_and_grad": lambda x: jax.value_and_grad(total)(x)[0],
    "vmap": jax.vmap(scale),
    "vmap of jit": jax.vmap(jit_scale),
    "jvp": lambda x: jax.jvp(scale, (x,), (x,))[1],
    "vjp": lambda x: jax.vjp(scale, x)[1](x)[0],
    "jacrev": jax.jacrev(scale),
    "hessian": jax.hessian(total),
    "linearize": lambda x: jax.linearize(scale, x)[1](x),
    "scan": lambda x: jax.lax.scan(scan_body, jnp.float32(1.0), x)[1],
    "scan carry": lambda x: jax.lax.scan(scan_body, jnp.float32(1.0), x)[0],
    "map": lambda x: jax.lax.map(scale, x),
    "while": lambda x: jax.lax.while_loop(below, scale, x),
    "fori": lambda x: jax.lax.fori_loop(0, 3, lambda i, c: scale(c), x),
    "cond": lambda x: jax.lax.cond(x[0] > 0, scale, jnp.negative, x),
    "switch": lambda x: jax.lax.switch(1, [jnp.negative, scale], x),
    "checkpoint": checkpoint_scale,
    "custom_jvp": scale_jvp,
    "custom_vjp": scale_vjp,
    "eval_shape": lambda x: x * V.value + jax.eval_shape(jit_scale, x).shape[0],
    "associative_scan": lambda x: jax.lax.associative_scan(combine, x),
    "named_scope": jax.named_scope("inner")(scale),
    "value as argument": lambda x: jax.jit(lambda v: x * v)(V),
}


@pytest.mark.parametrize("case", READS)
@pytest.mark.parametrize("known", [True, False])
def test_read_is_never_stale(case, known):
    fn = READS[case]
    expected = {}
    for value in (3.0, 5.0):
        # JAX's own caches freeze a Variable in eager calls too; a fresh program shows the truth.
        V.assign(np.float32(value))
        jax.clear_caches()
        expected[value] = np.asarray(fn(X))
    jax.clear_caches()
    V.assign(np.float32(2.0))
    bodies = [traced(fn, candidates=[V] if known else []) for _ in range(2)]
    for body in bodies:
        assert body.captures == (V,) or body.captures[0] is V
        assert body.written == ()
        for value in (3.0, 5.0):
            V.assign(np.float32(value))
            (found,) = run(body, X)
            np.testing.assert_allclose(found, expected[value], rtol=1e-6)


@pytest.mark.parametrize("case", READS)
def test_eager_use_after_a_trace_works(case):
    jax.clear_caches()
    traced(READS[case])
    V.assign(np.float32(3.0))
    found = np.asarray(READS[case](X))
    jax.clear_caches()
    np.testing.assert_allclose(found, READS[case](X), rtol=1e-6)


def count_up(x):
    COUNT.assign_add(1)
    return x + COUNT.value


jit_count = jax.jit(count_up)


@jax.custom_vjp
def count_vjp(x):
    return count_up(x)


def _count_forward(x):
    COUNT.assign_add(10)
    return x, None


def _count_backward(_, g):
    COUNT.assign_add(100)
    return (g,)


count_vjp.defvjp(_count_forward, _count_backward)


def count_if(x):
    return jax.lax.cond(x[0] > 0, count_up, lambda y: y, x)


def count_condition(state):
    COUNT.assign_add(1)
    return state[0] < 4


# The function, and the count after one run with X.
WRITES = {
    "plain": (count_up, 1),
    "twice": (lambda x: count_up(count_up(x)), 2),
    "jit": (jit_count, 1),
    "jit twice": (lambda x: jit_count(jit_count(x)), 2),
    "outside and in jit": (lambda x: count_up(jit_count(count_up(x))), 3),
    "cond taken": (count_if, 1),
    "cond not taken": (lambda x: count_if(-x), 0),
    "switch": (lambda x: jax.lax.switch(1, [jnp.negative, count_up], x), 1),
    "scan": (lambda x: jax.lax.scan(lambda c, i: (count_up(c), i), x, X)[0], 3),
    "while body": (
        lambda x: jax.lax.while_loop(lambda s: s[0] < 4, lambda s: (count_up(s), s + 1)[1], x),
        3,
    ),
    "fori": (lambda x: jax.lax.fori_loop(0, 4, lambda i, c: count_up(c), x), 4),
    "map": (lambda x: jax.lax.map(count_up, x), 3),
    "checkpoint": (jax.checkpoint(count_up), 1),
    "custom_vjp": (count_vjp, 1),
    "grad": (jax.grad(lambda x: jnp.sum(count_up(x))), 1),
    "grad of jit": (jax.grad(lambda x: jnp.sum(jit_count(x))), 1),
    "grad of scan": (
        jax.grad(lambda x: jax.lax.scan(lambda c, i: (count_up(c), i), x, X)[0].sum()),
        3,
    ),
    "grad of cond": (jax.grad(lambda x: jnp.sum(count_if(x))), 1),
    "grad of custom_vjp": (jax.grad(lambda x: jnp.sum(count_vjp(x))), 110),
    "value_and_grad": (lambda x: jax.value_and_grad(lambda y: count_up(y).sum())(x)[1], 1),
    "jvp": (lambda x: jax.jvp(count_up, (x,), (x,))[0], 1),
    "vjp": (lambda x: jax.vjp(count_up, x)[1](x)[0], 1),
    # Shapes alone are asked for, so nothing is run.
    "eval_shape": (lambda x: x + len(jax.eval_shape(count_up, x).shape), 0),
}


@pytest.mark.parametrize("case", WRITES)
@pytest.mark.parametrize("known", [True, False])
def test_write_takes_effect_once_per_run(case, known):
    fn, step = WRITES[case]
    for _ in range(2):
        body = traced(fn, candidates=[COUNT] if known else [])
        assert COUNT.numpy() == 0, "tracing itself assigned"
        for times in (1, 2):
            run(body, X)
            assert COUNT.numpy() == step * times
        COUNT.assign(np.int32(0))


@pytest.mark.parametrize("case", ["scan", "jit twice", "cond taken", "fori"])
def test_reads_between_writes_see_them(case):
    fn, _ = WRITES[case]
    (found,) = run(traced(fn), X)
    expected = {
        "scan": X + 1 + 2 + 3,
        "jit twice": X + 1 + 2,
        "cond taken": X + 1,
        "fori": X + 1 + 2 + 3 + 4,
    }[case]
    np.testing.assert_array_equal(found, expected)


def test_functions_without_inner_writes_have_no_refs():
    text = str(traced(WRITES["twice"][0]).jaxpr)
    assert "Ref" not in text
    assert "Ref" in str(traced(WRITES["jit"][0]).jaxpr)


def test_many_inner_writes_take_few_passes():
    variables = [Variable(np.float32(0)) for _ in range(20)]
    calls = []

    def fn(x):
        calls.append(1)
        jax.jit(lambda: [v.assign_add(1.0) for v in variables] and 0)()
        return x

    body = traced(fn)
    assert len(body.written) == 20
    assert len(calls) <= 3


REFUSED = {
    "vmap": (jax.vmap(count_up), "vmap"),
    "vmap of jit": (jax.vmap(jit_count), "vmap"),
    "vmap of scan": (
        jax.vmap(lambda x: jax.lax.scan(lambda c, i: (count_up(c), i), x, X)[0]),
        "vmap",
    ),
    "custom_jvp": (
        lambda x: _custom_jvp_writer(x),
        "custom_jvp",
    ),
    # JAX would forget the assignment of the last, false condition.
    "while condition": (
        lambda x: jax.lax.while_loop(count_condition, lambda s: s + 1, x),
        "condition",
    ),
    # JAX would give the condition the first value again and again.
    "while condition read": (
        lambda x: jax.lax.while_loop(lambda s: s[0] + COUNT.value < 4, count_up, x),
        "condition reads it",
    ),
    "grad of checkpoint": (jax.grad(lambda x: jnp.sum(jax.checkpoint(count_up)(x))), "checkpoint"),
}


@jax.custom_jvp
def _custom_jvp_writer(x):
    return count_up(x)


_custom_jvp_writer.defjvp(lambda p, t: (_custom_jvp_writer(*p), t[0]))


@pytest.mark.parametrize("case", REFUSED)
def test_write_that_jax_would_lose_is_refused(case):
    fn, word = REFUSED[case]
    with pytest.raises(VariableWriteError, match=word) as caught:
        traced(fn)
    assert "'count'" in str(caught.value)
    assert COUNT.numpy() == 0


def test_while_loop_may_read_in_its_condition_what_it_does_not_write():
    def fn(x):
        return jax.lax.while_loop(lambda s: s[0] < 2 * V.value, count_up, x)

    (found,) = run(traced(fn), X)
    np.testing.assert_array_equal(found, X + 1 + 2)
    assert COUNT.numpy() == 2


def scale_and_count(x):
    V.assign(V.value * 1.5)
    y = x * V.value + COUNT.value
    COUNT.assign_add(1)
    return y


def _as_custom_vjp(f):
    wrapped = jax.custom_vjp(f)
    wrapped.defvjp(lambda x: (f(x), None), lambda _, g: (g * V.value,))
    return wrapped


def _value_times_gradient(f):
    def product(x):
        value, gradient = jax.value_and_grad(lambda y: jnp.sum(f(y)))(x)
        return value * gradient

    return product


# Under jax.disable_jit, JAX runs these in Python, so eager Variables show what is right.
WRAPPERS = {
    "plain": lambda f: f,
    "twice": lambda f: lambda x: f(f(x)),
    "jit": jax.jit,
    "checkpoint": lambda f: f if jax.config.jax_disable_jit else jax.checkpoint(f),
    "cond": lambda f: lambda x: jax.lax.cond(V.value > 2.5, f, lambda y: f(y) * 2, x),
    "switch": lambda f: lambda x: jax.lax.switch(COUNT.value % 2, [f, lambda y: -f(y)], x),
    "scan": lambda f: (
        lambda x: jax.lax.scan(lambda c, i: (f(c), c * V.value), x, jnp.arange(3.0))[0]
    ),
    "scan items": lambda f: (
        lambda x: jax.lax.scan(lambda c, i: (f(c), c * V.value), x, jnp.arange(3.0))[1].sum(0)
    ),
    "while": lambda f: (
        lambda x: jax.lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, f(s[1])), (0, x))[1]
    ),
    "fori": lambda f: lambda x: jax.lax.fori_loop(0, 2, lambda i, c: f(c), x),
    "map": lambda f: lambda x: jax.lax.map(lambda t: f(jnp.ones(3) * t), x).sum(0),
    "grad": lambda f: jax.grad(lambda x: jnp.sum(f(x) ** 2)),
    "value_and_grad": _value_times_gradient,
    "jvp": lambda f: lambda x: jax.jvp(f, (x,), (x,))[1],
    "vjp": lambda f: lambda x: jax.vjp(f, x)[1](x)[0],
    "linearize": lambda f: lambda x: jax.linearize(f, x)[1](x),
    "custom_vjp": _as_custom_vjp,
}
OUTER = ["scan", "while", "grad", "linearize"]
INNER = ["jit", "cond", "scan items", "while", "fori", "checkpoint", "grad"]
REVERSE = ("grad", "linearize")


@pytest.mark.parametrize(
    ("outer", "inner"),
    [("plain", name) for name in WRAPPERS] + [(a, b) for a in OUTER for b in INNER],
)
def test_values_are_those_of_eager_python(outer, inner):
    x = X / 10

    def fn(x):
        return WRAPPERS[outer](WRAPPERS[inner](scale_and_count))(x)

    if (outer, inner) == ("grad", "while"):
        with pytest.raises(ValueError, match="Reverse-mode"):
            traced(fn)
        return
    if (outer in REVERSE and inner == "checkpoint") or (outer, inner) == ("linearize", "while"):
        with pytest.raises(VariableWriteError, match="twice"):
            traced(fn)
        return
    with jax.disable_jit():
        expected = np.asarray(fn(x))
    state = V.numpy(), COUNT.numpy()
    V.assign(np.float32(2.0))
    COUNT.assign(np.int32(0))
    (found,) = run(traced(fn), x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(V.numpy(), state[0], rtol=1e-6)
    assert COUNT.numpy() == state[1]


def test_write_of_a_differentiated_value_is_refused():
    def loss(x):
        V.assign(jnp.sum(x))
        return jnp.sum(x * V.value)

    with pytest.raises(VariableWriteError, match=r"'v'.*stop_gradient"):
        traced(jax.grad(loss))


def test_write_of_a_stopped_value_is_fine():
    def loss(x):
        V.assign(jax.lax.stop_gradient(jnp.sum(x)))
        return jnp.sum(x)

    run(traced(jax.grad(loss)), X)
    assert V.numpy() == 6


def test_write_inside_a_transformation_keeps_the_shape():
    grown = Variable(np.zeros(3, np.float32), shape=[None], name="grown")

    def fn(x):
        return jax.jit(lambda y: grown.assign(jnp.concatenate([y, y])).value.sum())(x)

    with pytest.raises(VariableWriteError, match="grown"):
        traced(fn)


def test_value_of_an_inner_transformation_cannot_escape():
    kept = []

    def inner(y):
        kept.append(y * 2)
        return y

    def fn(x):
        jax.jit(inner)(x)
        return x + kept[-1]

    with pytest.raises(EscapedTracerError):
        traced(fn)


def test_value_of_an_inner_transformation_cannot_be_assigned():
    kept = []

    def fn(x):
        jax.jit(lambda y: kept.append(y.sum()) or y)(x)
        V.assign(kept[-1])
        return x

    with pytest.raises(EscapedTracerError):
        traced(fn)
    assert V.numpy() == 2


def test_value_of_a_trace_cannot_be_kept():
    kept = []
    traced(lambda x: kept.append(x * 2) or x)
    with pytest.raises(EscapedTracerError):
        traced(lambda x: x + kept[0])


def test_write_under_a_foreign_trace_is_refused():
    @jax.jit
    def fn(x):
        V.assign(x)
        return x

    with pytest.raises(EscapedTracerError, match="'v'"):
        fn(jnp.float32(1))
    assert V.numpy() == 2


def test_plain_thread_sees_the_stored_value():
    seen = []

    def fn(x):
        V.assign(x[0])
        thread = threading.Thread(target=lambda: seen.append(V.numpy()))
        thread.start()
        thread.join()
        return x

    traced(fn)
    assert all(value == 2 for value in seen)


@pytest.mark.parametrize("write", [False, True])
def test_thread_with_the_context_of_a_trace(write):
    seen, errors = [], []

    def work():
        try:
            seen.append(V.numpy())
            if write:
                V.assign(np.float32(7))
        except VariableWriteError as error:
            errors.append(error)

    def fn(x):
        V.assign(x[0])
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(work,))
        thread.start()
        thread.join()
        return x

    traced(fn)
    assert all(value == 2 for value in seen)
    assert bool(errors) == write
    assert V.numpy() == 2


def test_code_that_outlives_a_trace_uses_stored_values():
    contexts = []
    traced(lambda x: contexts.append(contextvars.copy_context()) or x * V.value)
    contexts[-1].run(V.assign, np.float32(9))
    assert V.numpy() == 9
    assert contexts[-1].run(V.numpy) == 9


def test_two_threads_trace_at_the_same_time():
    bodies, errors = [None] * 4, []

    def work(i):
        try:
            own = Variable(np.float32(i), name=f"own{i}")

            def fn(x):
                return jax.lax.scan(lambda c, t: (own.assign_add(1.0).value * c, t), x, X)[0]

            bodies[i] = traced(fn)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for i, body in enumerate(bodies):
        run(body, X)
        assert body.captures[0].numpy() == i + 3


def test_asyncio_tasks_do_not_share_frames():
    async def main():
        body = await asyncio.to_thread(traced, scale)
        return body, V.value

    body, value = asyncio.run(main())
    assert body.captures[0] is V
    assert value == 2


def test_trace_inside_a_trace():
    inner = {}

    def fn(x):
        y = x * V.value
        inner["body"] = traced(jit_count)
        return y + V.value

    body = traced(fn)
    assert [c.name for c in body.captures] == ["v"]
    assert [c.name for c in inner["body"].captures] == ["count"]
    run(inner["body"], X)
    assert COUNT.numpy() == 1


def test_inner_trace_may_close_over_outer_values():
    inner = []

    def fn(x):
        inner.append(traced(lambda y: y + x, SPEC))
        return x

    traced(fn)
    assert inner[-1].closes_over_tracers
    assert not traced(scale).closes_over_tracers


def test_error_of_the_function_passes_through():
    def fn(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        traced(fn)


def test_python_value_of_a_traced_variable_is_an_error():
    with pytest.raises((TypeError, TracingError)):
        traced(lambda x: x * float(V.value), candidates=[V])
    with pytest.raises((TypeError, TracingError)):
        traced(lambda x: x * float(V.value))
