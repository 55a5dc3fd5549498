"""What a trace holds: captures, constants, dtypes at the boundary, Variables made on the way."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import weakref

import jax
import jax.extend.core
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from savax.errors import (
    InvalidArgumentError,
    SavaxError,
    TracingError,
    VariableCreationError,
)
from savax.function._jax_names import check_jaxpr
from savax.function.tracing._constant_hoisting import is_large
from savax.function.tracing._jaxpr_checks import closed_jaxprs_of
from savax.function.tracing._tracing import concrete_trace, graph_names, trace
from savax.trackable import Constant, Variable
from savax.types import TensorSpec

SPEC = TensorSpec([3], "float32", "x")
X = np.array([1.0, 2.0, 3.0], np.float32)


def traced(fn, *specs, **options):
    return trace(lambda *args: ([fn(*args)], None), specs or [SPEC], **options).body


def run(body, *args):
    values = [c.array if isinstance(c, Constant) else c.value for c in body.captures]
    return jax.jit(jax.extend.core.jaxpr_as_fun(body.jaxpr))(*values, *args)


def test_captures_come_in_the_order_of_their_first_use():
    a, b, c = (Variable(np.float32(i), name="abc"[i]) for i in range(3))
    body = traced(lambda x: (x * c + b) * c, candidates=[a, b, c, b])
    check_jaxpr(body.jaxpr.jaxpr)
    assert [v.name for v in body.captures] == ["c", "b"]
    assert traced(lambda x: (x * c + b) * c).captures == body.captures
    (result,) = run(body, X)
    np.testing.assert_array_equal(result, (X * 2 + 1) * 2)


def test_written_captures_follow_the_results():
    a, b = (Variable(np.float32(i), name="ab"[i]) for i in range(2))

    def fn(x):
        b.assign(a + x[0])
        a.assign(b * 10)
        return [x, b.value], None

    body = trace(fn, [SPEC]).body
    assert [v.name for v in body.captures] == ["a", "b"] or body.captures[0].name == "b"
    assert body.written == (0, 1)
    results = run(body, X)
    found = dict(zip([body.captures[i].name for i in body.written], results[2:], strict=True))
    assert found == {"a": 10.0, "b": 1.0}
    assert (a.numpy(), b.numpy()) == (0, 1)


def test_assigned_values_have_the_dtype_of_the_variable():
    v = Variable(np.ones(3, np.float32))

    def fn(x):
        v.assign([1, 2, 3])
        return x

    assert traced(fn).jaxpr.out_avals[1].dtype == np.float32


def test_aux_is_that_of_the_last_pass():
    v = Variable(1.0)
    passes = []

    def fn(x):
        passes.append(1)
        return [x * v], len(passes)

    found = trace(fn, [SPEC])
    assert found.aux == found.body.aux == len(passes) == 2
    passes.clear()
    assert trace(fn, [SPEC], candidates=[v]).aux == 1


@pytest.mark.parametrize(
    ("result", "dtype"),
    [
        (1, np.int32),
        (True, np.bool_),
        (1.5, np.float32),
        ([1.0, 2.0], np.float32),
        (np.int8(3), np.int8),
        (np.ones(2, ml_dtypes.bfloat16), ml_dtypes.bfloat16),
        (Variable(np.float32(3)), np.float32),
    ],
)
def test_results_become_arrays_with_the_dtypes_of_tensorflow(result, dtype):
    body = traced(lambda x: result)
    assert body.jaxpr.out_avals[0].dtype == dtype
    assert not body.jaxpr.out_avals[0].weak_type


def test_result_without_array_is_named():
    with pytest.raises(TracingError, match=r"Result 0 .*object"):
        traced(lambda x: object())


def test_results_have_no_weak_type():
    body = traced(lambda x: jnp.asarray(3.0) * 2)
    assert not body.jaxpr.out_avals[0].weak_type


def test_large_constants_become_captures():
    large = np.arange(20000, dtype=np.float32)
    on_device = jnp.arange(20000, dtype=jnp.float32)
    small = np.arange(3, dtype=np.float32)
    v = Variable(np.float32(2))

    def fn(x):
        return (x * small * v).sum() + (large + on_device + large).sum()

    body = traced(fn)
    assert body.captures[0] is v
    constants = body.captures[1:]
    assert [type(c) for c in constants] == [Constant, Constant]
    assert any(c.array is on_device for c in constants)
    assert sum(np.size(c) for c in body.jaxpr.consts) <= 3
    (result,) = run(body, X)
    np.testing.assert_allclose(result, (X * small * 2).sum() + 3 * large.sum(), rtol=1e-5)


def test_large_constants_inside_jit_become_captures():
    large = np.arange(20000, dtype=np.float32)
    on_device = jnp.arange(20000, dtype=jnp.float32)
    n = Variable(np.float32(0), name="n")

    @jax.jit
    def inner(y):
        n.assign_add(1)
        return y * on_device

    @jax.jit
    def outer(y):
        return inner(y) + inner(y + 1) * large, y, jnp.float32(3)

    def fn(x):
        first, same, three = outer(x[0])
        return [first.sum(), same, three, jax.jit(lambda: on_device)().sum()], None

    body = trace(fn, [SPEC]).body
    check_jaxpr(body.jaxpr.jaxpr)
    assert sum(isinstance(c, Constant) for c in body.captures) == 2
    assert not any(is_large(c) for inner in closed_jaxprs_of(body.jaxpr) for c in inner.consts)
    found = run(body, X)
    expected = (on_device + 2 * on_device * large).sum()
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    assert (found[1], found[2], found[4]) == (1, 3, 2)
    np.testing.assert_allclose(found[3], on_device.sum(), rtol=1e-6)


def custom_jvp(g):
    f = jax.custom_jvp(g)
    f.defjvp(lambda primals, tangents: (g(*primals), *tangents))
    return f


def custom_vjp(g):
    f = jax.custom_vjp(g)
    f.defvjp(lambda x: (g(x), None), lambda _, ct: (ct,))
    return f


LARGE = np.linspace(0, 1, 20000, dtype=np.float32)
IN_BODIES = {
    "scan": lambda g, x: jax.lax.scan(lambda c, _: (g(c), c), x, None, length=2),
    "while": lambda g, x: jax.lax.while_loop(lambda c: g(c).sum() < 1e6, lambda c: g(c), x),
    "cond": lambda g, x: jax.lax.cond(x[0] > 0, g, lambda c: g(c) * g(c + 1), x),
    "remat": lambda g, x: jax.checkpoint(g)(x),
    "scan_in_cond": lambda g, x: jax.lax.cond(
        x[0] > 0, lambda x: IN_BODIES["scan"](g, x)[0], lambda x: -x, x
    ),
    "custom_jvp": lambda g, x: custom_jvp(g)(x),
    "custom_vjp": lambda g, x: custom_vjp(g)(x),
    "derivative": lambda g, x: jax.grad(lambda x: IN_BODIES["scan"](jax.checkpoint(g), x)[0].sum())(
        x
    ),
}


@pytest.mark.parametrize("name", list(IN_BODIES))
def test_large_constants_inside_bodies_become_captures(name):
    program = IN_BODIES[name]

    def fn(x):
        g = jax.jit(lambda c: c * 2 + jnp.asarray(LARGE)[:3] + jnp.asarray(LARGE[::-1])[:3])
        return jax.tree.leaves(program(g, x)), None

    body = trace(fn, [SPEC]).body
    check_jaxpr(body.jaxpr.jaxpr)
    assert sum(isinstance(c, Constant) for c in body.captures) == 2
    assert not any(is_large(c) for inner in closed_jaxprs_of(body.jaxpr) for c in inner.consts)
    for found, expected in zip(run(body, X), fn(X)[0], strict=False):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_names_are_legal_and_unique():
    assert graph_names(["x", "X", "x", "my-Arg/0", "_1", "9", "x_1"]) == (
        "x",
        "x_1",
        "x_2",
        "my_arg_0",
        "unknown",
        "unknown_1",
        "x_1_1",
    )
    assert traced(jnp.add, SPEC, SPEC).arg_names == ("x", "x_1")
    assert traced(jnp.add, SPEC, SPEC, names=["a", "b"]).arg_names == ("a", "b")
    assert traced(jnp.negative, TensorSpec([3])).arg_names == ("arg_0",)


class Keeper:
    def __init__(self):
        self.variables = {}

    def get(self, name, make):
        if name not in self.variables:
            self.variables[name] = Variable(make(), name=name)
        return self.variables[name]


def test_variables_are_created_in_the_first_pass_and_initialised():
    keeper = Keeper()
    base = Variable(np.float32(5), name="base")

    def fn(x):
        y = x * keeper.get("traced", lambda: jnp.full(3, 2.0) + 1)
        y = y + keeper.get("host", lambda: np.ones(3, np.float32))
        return y * keeper.get("dependent", lambda: base * 2 + keeper.variables["traced"][0])

    found = trace(lambda x: ([fn(x)], None), [SPEC])
    assert sorted(v.name for v in found.created) == ["dependent", "host", "traced"]
    values = {name: v.numpy().tolist() for name, v in keeper.variables.items()}
    assert values == {"traced": [3, 3, 3], "host": [1, 1, 1], "dependent": 13}
    assert [v.name for v in found.body.captures] == ["traced", "host", "dependent"]
    np.testing.assert_array_equal(run(found.body, X)[0], (X * 3 + 1) * 13)


def test_random_initial_values_are_drawn_once():
    keeper = Keeper()

    def fn(x):
        return x * keeper.get("w", lambda: jax.random.normal(jax.random.key(0), (3,)))

    body = traced(fn)
    np.testing.assert_allclose(
        keeper.variables["w"].numpy(), jax.random.normal(jax.random.key(0), (3,)), rtol=1e-6
    )
    np.testing.assert_allclose(run(body, X)[0], X * keeper.variables["w"].numpy())


def test_created_variables_survive_a_failing_pass():
    keeper = Keeper()

    def fn(x, y):
        return (x + y) * keeper.get("w", lambda: jnp.full(4, 2.0))

    body = traced(fn, TensorSpec([None, 4]), TensorSpec([None, 4]))
    assert keeper.variables["w"].numpy().tolist() == [2] * 4
    assert [v.name for v in body.captures] == ["w"]


def test_created_variable_can_be_assigned_at_once():
    keeper = Keeper()

    def fn(x):
        count = keeper.get("count", lambda: jnp.int32(0))
        count.assign_add(1)
        return x * count

    body = traced(fn)
    assert keeper.variables["count"].numpy() == 0
    assert run(body, X)[1] == 1


def test_initial_value_that_depends_on_an_argument_is_refused():
    keeper = Keeper()
    with pytest.raises(VariableCreationError, match=r"'w'.*arguments x.*test_tracing.py"):
        traced(lambda x: x * keeper.get("w", lambda: x + 1))


def test_debug_effects_do_not_count_as_dependence(capsys):
    keeper = Keeper()

    def fn(x):
        jax.debug.print("x {}", x)
        return x * keeper.get("w", lambda: jnp.ones(3))

    traced(fn)
    assert keeper.variables["w"].numpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize("make", [lambda: 1.0, lambda: jnp.float32(1)])
def test_function_must_keep_its_variables(make):
    with pytest.raises(VariableCreationError, match=r"each time .*'v'|'v'.*each time"):
        traced(lambda x: x * Variable(make(), name="v"))
    with pytest.raises(ValueError):
        traced(lambda x: x * Variable(make(), name="v"))


def test_variables_may_be_created_in_the_first_trace_only():
    keeper = Keeper()
    with pytest.raises(VariableCreationError, match="'w'"):
        traced(lambda x: x * keeper.get("w", lambda: 1.0), may_create=False)


def test_dropped_variables_are_not_kept_alive():
    found = trace(lambda x: ([x], None), [SPEC])
    keeper = Keeper()
    body = traced(lambda x: x * keeper.get("w", lambda: 1.0))
    assert found.created == ()
    assert len(body.captures) == 1
    reference = weakref.ref(keeper.variables["w"])
    keeper.variables.clear()
    del body
    gc.collect()
    assert reference() is None


def test_variable_made_inside_a_transformation():
    keeper = Keeper()
    with pytest.raises(TracingError, match="transformation"):
        traced(lambda x: jax.jit(lambda y: y * keeper.get("w", lambda: jnp.ones(3)))(x))
    keeper = Keeper()
    traced(lambda x: jax.jit(lambda y: y * keeper.get("w", lambda: np.ones(3, np.float32)))(x))
    assert keeper.variables["w"].numpy().tolist() == [1, 1, 1]


def test_64_bit_signature_without_64_bit_mode():
    v = Variable(np.float64(2.5), name="v", dtype="float64")
    n = Variable(np.int64(3), name="n", dtype="int64")

    def fn(x):
        n.assign_add(1)
        return [x, v * 2], None

    body = trace(fn, [TensorSpec([2], "int64", "x")]).body
    assert body.arg_specs[0].dtype == "int64"
    assert [a.dtype for a in body.jaxpr.in_avals] == [np.int32, np.float32, np.int32]
    assert [c.dtype.name for c in body.captures] == ["int64", "float64"]
    assert [s.dtype.name for s in body.out_specs] == ["int32", "float32"]
    assert v.numpy().dtype == np.float64


def test_64_bit_signature_in_64_bit_mode():
    v = Variable(np.float64(2.5), name="v", dtype="float64")
    with jax.enable_x64(True):
        body = trace(lambda x: ([x * v], None), [TensorSpec([2], "int64", "x")]).body
        assert [a.dtype for a in body.jaxpr.in_avals] == [np.float64, np.int64]
        assert body.out_specs[0].dtype == "float64"


@pytest.mark.parametrize(
    ("dtype", "inner"),
    [
        ("bool", np.bool_),
        ("uint8", np.uint8),
        ("int4", ml_dtypes.int4),
        ("bfloat16", ml_dtypes.bfloat16),
        ("float8_e5m2", ml_dtypes.float8_e5m2),
        ("complex64", np.complex64),
        ("complex128", np.complex64),
        ("uint64", np.uint32),
        ("float64", np.float32),
        ("string", np.dtypes.StringDType()),
    ],
)
def test_dtypes_of_arguments(dtype, inner):
    body = traced(lambda x: x, TensorSpec([2], dtype))
    assert body.jaxpr.in_avals[0].dtype == inner
    assert body.arg_specs[0].dtype == dtype


def test_handles_are_no_arrays():
    with pytest.raises(InvalidArgumentError, match="resource"):
        traced(lambda x: x, TensorSpec([], "resource"))


def test_strings_are_legal_in_jax():
    """Pins what JAX doesn't document: numpy's StringDType is a dtype that it traces."""

    specs = [TensorSpec([None], "string", "s"), TensorSpec([], "bool", "n")]

    def fn(s, n):
        return [s[0], jax.lax.select(n, s[::-1], s)], None

    body = trace(fn, specs).body
    assert [s.dtype.name for s in body.out_specs] == ["string", "string"]
    assert body.out_specs[1].shape == (None,)
    concrete = concrete_trace(fn, [(3,), ()], body)
    assert concrete.jaxpr.out_avals[1].shape == (3,)
    with pytest.raises(TypeError):
        trace(lambda s, n: ([s + s], None), specs)


def test_traces_of_one_program_are_equal():
    code = """
        import jax.numpy as jnp, numpy as np
        from savax.function.tracing._tracing import trace
        from savax.trackable import Variable
        from savax.types import TensorSpec
        v = Variable(np.ones(3, np.float32))
        body = trace(lambda x: ([jnp.sin(x) * v], None), [TensorSpec([None, 3])]).body
        print(body.jaxpr, body.arg_specs, body.arg_names)
    """
    outputs = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1


def test_every_error_is_a_savax_error_and_a_builtin():
    assert issubclass(VariableCreationError, SavaxError)
    assert issubclass(VariableCreationError, ValueError)
    assert issubclass(TracingError, TypeError)
