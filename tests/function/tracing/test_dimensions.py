"""Unknown dims: which traces find their equalities, and what is said of those that don't."""

from __future__ import annotations

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from savax.errors import (
    InconclusiveDimensionError,
    InvalidArgumentError,
    SignatureMismatchError,
    TracingError,
)
from savax.function import function
from savax.function._dims import are_equal_dims, bind_dims, dim_names, evaluate_dim
from savax.function.tracing._dimensions import DimensionTable
from savax.function.tracing._tracing import concrete_trace, trace
from savax.trackable import Variable
from savax.types import TensorSpec

N = None


def specs_of(*shapes):
    return [TensorSpec(shape, "float32", "xyzw"[i]) for i, shape in enumerate(shapes)]


def traced(fn, *shapes, **options):
    return trace(lambda *args: ([fn(*args)], "aux"), specs_of(*shapes), **options).body


def attention(q, k, v):
    weights = jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", q, k))
    return jnp.einsum("bqk,bkd->bqd", weights, v)


def loop_carry(x, y):
    return jax.lax.fori_loop(0, 3, lambda i, c: c + y, x)


# Function, shapes of its arguments, the dims found, shapes to run it at.
TABLE = {
    "one batch": (jnp.sin, [(N, 4)], [(N, 4)], [(2, 4)]),
    "add": (jnp.add, [(N, 4), (N, 4)], [("x_0", 4), ("x_0", 4)], [(2, 4), (2, 4)]),
    "add of 2-d unknowns": (
        jnp.add,
        [(N, N), (N, N)],
        [("x_0", "x_1"), ("x_0", "x_1")],
        [(2, 5), (2, 5)],
    ),
    "add three": (
        lambda x, y, z: x + y * z,
        [(N, 4), (N, 4), (N, 4)],
        [("x_0", 4), ("x_0", 4), ("x_0", 4)],
        [(2, 4)] * 3,
    ),
    "matmul with weights": (
        lambda x: x @ np.ones((3, 2), np.float32),
        [(N, N)],
        [(N, 3)],
        [(5, 3)],
    ),
    "matmul": (jnp.matmul, [(N, N), (N, N)], [(N, "x_1"), ("x_1", N)], [(5, 3), (3, 2)]),
    "concat": (
        lambda x, y: jnp.concatenate([x, y], axis=1),
        [(N, 3), (N, 4)],
        [("x_0", 3), ("x_0", 4)],
        [(2, 3), (2, 4)],
    ),
    "concat along the unknown": (
        lambda x, y: jnp.concatenate([x, y]),
        [(N, 3), (N, 3)],
        [(N, 3), (N, 3)],
        [(2, 3), (5, 3)],
    ),
    "where": (
        lambda x, y: jnp.where(x > 0, x, y),
        [(N, 2), (N, 2)],
        [("x_0", 2), ("x_0", 2)],
        [(3, 2), (3, 2)],
    ),
    "einsum": (
        lambda x, y: jnp.einsum("bi,bi->b", x, y),
        [(N, 4), (N, 4)],
        [("x_0", 4), ("x_0", 4)],
        [(3, 4), (3, 4)],
    ),
    "attention": (
        attention,
        [(N, N, 8), (N, N, 8), (N, N, 8)],
        [("x_0", N, 8), ("x_0", "y_1", 8), ("x_0", "y_1", 8)],
        [(2, 3, 8), (2, 5, 8), (2, 5, 8)],
    ),
    "dot": (jnp.dot, [(N,), (N,)], [("x_0",), ("x_0",)], [(3,), (3,)]),
    "retrieval": (
        lambda q, c: q @ c.T,
        [(N, 8), (N, 8)],
        [(N, 8), (N, 8)],
        [(2, 8), (7, 8)],
    ),
    "dynamic_update_slice": (
        lambda x, y: jax.lax.dynamic_update_slice(x, y, (0, 0)) + y,
        [(N, 4), (N, 4)],
        [("x_0", 4), ("x_0", 4)],
        [(3, 4), (3, 4)],
    ),
    "scan": (
        lambda x, y: jax.lax.scan(lambda c, t: (c + t[0] * t[1], c), jnp.zeros(4), (x, y))[1],
        [(N, 4), (N, 4)],
        [("x_0", 4), ("x_0", 4)],
        [(3, 4), (3, 4)],
    ),
    "vmap": (
        jax.vmap(lambda a, b: a * b),
        [(N, 4), (N, 4)],
        [("x_0", 4), ("x_0", 4)],
        [(3, 4), (3, 4)],
    ),
    "cond": (
        lambda x, y: jax.lax.cond(jnp.sum(x) > 0, lambda: x, lambda: y),
        [(N, 4), (N, 4)],
        [("x_0", 4), ("x_0", 4)],
        [(3, 4), (3, 4)],
    ),
    "select": (
        lambda x, y: jax.lax.select(x > 0, x, y),
        [(N, 4), (N, 4)],
        [("x_0", 4), ("x_0", 4)],
        [(3, 4), (3, 4)],
    ),
    "at set": (
        lambda x, y: jnp.asarray(x).at[:].set(y),
        [(N, 4), (N, 4)],
        [("x_0", 4), ("x_0", 4)],
        [(3, 4), (3, 4)],
    ),
    "loop carry": (loop_carry, [(N,), (N,)], [("x_0",), ("x_0",)], [(3,), (3,)]),
    "different ranks": (
        lambda x, y: x + y,
        [(N, N), (5,)],
        [(N, 5), (5,)],
        [(2, 5), (5,)],
    ),
    "conv channels": (
        lambda x: jax.lax.conv_general_dilated(
            x,
            np.ones((3, 3, 3, 2), np.float32),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
        [(N, N, N, N)],
        [(N, N, N, 3)],
        [(2, 8, 9, 3)],
    ),
    "means of a loss": (
        lambda x, y: jnp.mean((x - y) ** 2),
        [(N, 2), (N, 2)],
        [("x_0", 2), ("x_0", 2)],
        [(4, 2), (4, 2)],
    ),
    "stack": (
        lambda x, y: jnp.stack([x, y]),
        [(N,), (N,)],
        [("x_0",), ("x_0",)],
        [(4,), (4,)],
    ),
    "bias": (
        lambda x, y: x + y,
        [(N, N), (N,)],
        [(N, "x_1"), ("x_1",)],
        [(4, 3), (3,)],
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_equal_dims_are_found(case):
    fn, shapes, found, actual = TABLE[case]
    body = traced(fn, *shapes)
    assert [spec.dims for spec in body.arg_specs] == found
    rng = np.random.default_rng(0)
    args = [rng.normal(size=shape).astype(np.float32) for shape in actual]
    concrete = concrete_trace(lambda *a: ([fn(*a)], "aux"), actual, body)
    assert concrete.is_static
    assert not body.is_static
    (result,) = jax.extend.core.jaxpr_as_fun(concrete.jaxpr)(*args)
    np.testing.assert_allclose(result, fn(*args), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["add", "matmul", "attention", "bias"])
def test_symbolic_trace_equals_jax_export(case):
    fn, shapes, found, actual = TABLE[case]
    rng = np.random.default_rng(0)
    args = [rng.normal(size=shape).astype(np.float32) for shape in actual]
    scope = jax.export.SymbolicScope()
    texts = [
        ", ".join(str(d) if d is not N else f"n{i}{j}" for j, d in enumerate(dims)) + ","
        for i, dims in enumerate(found)
    ]
    avals = [
        jax.ShapeDtypeStruct(jax.export.symbolic_shape(text, scope=scope), np.float32)
        for text in texts
    ]
    exported = jax.export.export(jax.jit(fn))(*avals)
    body = traced(fn, *shapes)
    assert [len(a.shape) for a in exported.out_avals] == [len(s.shape) for s in body.out_specs]
    concrete = concrete_trace(lambda *a: ([fn(*a)], "aux"), actual, body)
    (result,) = jax.extend.core.jaxpr_as_fun(concrete.jaxpr)(*args)
    np.testing.assert_allclose(result, exported.call(*args), rtol=1e-5, atol=1e-5)


def test_named_dims_stay_as_given():
    body = traced(jnp.add, ("batch", 4), ("batch", N))
    assert [spec.dims for spec in body.arg_specs] == [("batch", 4), ("batch", 4)]
    assert body.out_specs[0].dims == ("batch", 4)


def test_unknown_dim_takes_the_name_of_a_named_one():
    body = traced(jnp.add, ("batch", 4), (N, 4))
    assert [spec.dims for spec in body.arg_specs] == [("batch", 4), ("batch", 4)]


def test_different_names_are_not_made_equal():
    with pytest.raises(TracingError, match="one name") as caught:
        traced(jnp.add, ("a", 4), ("b", 4))
    assert "(x: float32[a, 4], y: float32[b, 4])" in str(caught.value)
    assert "test_dimensions.py" in str(caught.value)


def test_expression_of_dims():
    def fn(x):
        return x.reshape(-1, 8)

    with pytest.raises(TracingError):
        traced(fn, (N, 4))
    body = traced(fn, ("2*b", 4))
    assert body.arg_specs[0].dims == ("2*b", 4)
    assert concrete_trace(lambda x: ([fn(x)], "aux"), [(6, 4)], body).out_specs[0].shape == (3, 8)
    with pytest.raises(SignatureMismatchError, match=r"axis 0 of 'x' is 2\*b; it is 5"):
        concrete_trace(lambda x: ([fn(x)], "aux"), [(5, 4)], body)


def test_illegal_name_of_a_dim():
    with pytest.raises(InvalidArgumentError, match="batch size"):
        traced(jnp.sin, ("batch size", 4))


def test_illegal_constraint():
    with pytest.raises(InvalidArgumentError, match="constraints"):
        traced(jnp.sin, ("b", 4), constraints=("b >",))


def test_inconclusive_comparison_names_line_and_cure():
    def fn(x):
        return x[0] if x.shape[0] > 1 else x

    with pytest.raises(InconclusiveDimensionError, match="constraints") as caught:
        traced(fn, (N, 4))
    assert "x: float32[x_0, 4]" in str(caught.value)
    assert "test_dimensions.py" in str(caught.value)
    assert traced(fn, ("b", 4), constraints=("b >= 2",)).constraints == ("b >= 2",)


def test_size_as_python_number_names_line_and_cure():
    def fn(x):
        return sum(x[i] for i in range(x.shape[0]))

    with pytest.raises(TracingError, match=r"fori_loop") as caught:
        traced(fn, (N, 4))
    assert "test_dimensions.py" in str(caught.value)


def test_first_error_is_raised_when_nothing_helps():
    def fn(x, y):
        return x.reshape(7, -1) + y

    with pytest.raises(TracingError) as caught:
        traced(fn, (N, 4), (N, 3))
    assert "x: float32[x_0, 4], y: float32[y_0, 3]" in str(caught.value)


def test_own_error_of_the_function_is_not_changed():
    def fn(x):
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today") as caught:
        traced(fn, (N, 4))
    assert type(caught.value) is ValueError


def test_static_function_is_traced_once():
    calls = []

    def fn(x, y):
        calls.append(1)
        return x @ y

    with pytest.raises(TypeError):
        traced(fn, (2, 3), (4, 5))
    assert len(calls) == 1


def test_python_decision_on_a_dim_is_found():
    def fn(x):
        return ([x[0] if x.shape[0] == 1 else x], None)

    body = trace(fn, specs_of((N, 4))).body
    concrete_trace(fn, [(2, 4)], body)
    with pytest.raises(TracingError, match=r"\(1, 4\).*Python decision"):
        concrete_trace(fn, [(1, 4)], body)


def test_python_decision_on_the_structure_is_found():
    def fn(x):
        return ([x, x], "two") if x.shape[0] == 1 else ([x], "one")

    body = trace(fn, specs_of((N, 4))).body
    with pytest.raises(TracingError, match=r"returns two .2 tensors., but one"):
        concrete_trace(fn, [(1, 4)], body)


def test_python_decision_on_the_dtype_is_found():
    def fn(x):
        return [x.astype("int32") if x.shape[0] == 1 else x], None

    body = trace(fn, specs_of((N, 4))).body
    with pytest.raises(TracingError, match=r"int32.*float32"):
        concrete_trace(fn, [(1, 4)], body)


def test_python_decision_on_an_assignment_is_found():
    count = Variable(0, name="count")

    def fn(x):
        if x.shape[0] == 1:
            count.assign_add(1)
        return [x], None

    body = trace(fn, specs_of((N, 4))).body
    concrete_trace(fn, [(2, 4)], body)
    with pytest.raises(TracingError, match=r"count"):
        concrete_trace(fn, [(1, 4)], body)


def test_calls_must_keep_equal_dims_equal():
    body = traced(jnp.add, (N, 4), (N, 4))
    with pytest.raises(SignatureMismatchError, match=r"axis 0 of 'y' is x_0; it is 3 while"):
        concrete_trace(lambda *a: ([jnp.add(*a)], "aux"), [(2, 4), (3, 4)], body)
    with pytest.raises(SignatureMismatchError, match="rank"):
        concrete_trace(lambda *a: ([jnp.add(*a)], "aux"), [(2, 4), (4,)], body)
    with pytest.raises(SignatureMismatchError, match="axis 1 of 'x' is 4; it is 5"):
        concrete_trace(lambda *a: ([jnp.add(*a)], "aux"), [(2, 5), (2, 5)], body)


def test_variable_of_unknown_size_is_symbolic():
    rows = Variable(np.ones((2, 4), np.float32), shape=[None, 4], name="rows")

    def fn(x):
        rows.assign(jnp.concatenate([rows.value, x]))
        return [jnp.sum(rows.value)], None

    body = trace(fn, specs_of((N, 4))).body
    assert not body.is_static
    assert str(body.jaxpr.out_avals[1].shape[0]) in ("rows_v0_0 + x_0", "x_0 + rows_v0_0")
    concrete = concrete_trace(fn, [(3, 4)], body)
    assert [a.shape for a in concrete.jaxpr.out_avals] == [(), (5, 4)]


def test_variable_and_argument_of_equal_size():
    state = Variable(np.ones((2, 4), np.float32), shape=[None, 4], name="x")

    def fn(x):
        return [state + x], None

    body = trace(fn, specs_of((N, 4))).body
    concrete_trace(fn, [(2, 4)], body)
    with pytest.raises(SignatureMismatchError, match="Variable x"):
        concrete_trace(fn, [(3, 4)], body)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 6),
        ("3*b + 2*a - 4", 23),
        ("a^2", 36),
        ("floordiv(a + 1, 2)", 3),
        ("mod(a, 4)", 2),
        ("max(a, b)", 6),
        ("min(a, b)", 5),
        ("- 3*b + 2*a", -3),
    ],
)
def test_dim_texts_have_the_value_that_jax_gives_them(text, value):
    assert evaluate_dim(text, {"a": 6, "b": 5}) == value
    a, _ = jax.export.symbolic_shape("a, b")
    assert set(dim_names(text)) <= {"a", "b"}
    symbolic = jax.export.symbolic_shape(f"{text},", like=None, scope=a.scope)[0]
    assert evaluate_dim(str(symbolic), {"a": 6, "b": 5}) == value
    # The printed text is read back as the same dim.
    assert jax.export.symbolic_shape(f"{symbolic},", scope=a.scope)[0] == symbolic


@pytest.mark.parametrize("text", ["__import__('os')", "a.b", "a if b else c", "1.5"])
def test_only_dims_are_evaluated(text):
    with pytest.raises(InvalidArgumentError):
        evaluate_dim(text, {"a": 6, "b": 5})


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 9), st.integers(0, 9))
def test_sizes_are_bound_from_linear_expressions(a, b, factor, offset):
    dims = [(f"{factor}*a + {offset}", "b"), ("a + b",)]
    sizes = bind_dims(dims, [(factor * a + offset, b), (a + b,)], ["x", "y"])
    assert sizes == {"a": a, "b": b}
    with pytest.raises(SignatureMismatchError):
        bind_dims(dims, [(factor * a + offset, b), (a + b + 1,)], ["x", "y"])


def test_tokens_do_not_clash_with_names_of_the_user():
    table = DimensionTable(["x_0"], ())
    assert table.dims("x", [None, "x_0"]) == ("x_0_", "x_0")
    assert table.dims("x", [None, "x_0"]) == ("x_0_", "x_0")
    assert table.dims("0bad name", [None]) == ("d0bad_name_0",)


def test_numbers_in_data_are_not_taken_for_shapes():
    table = DimensionTable((), ())
    table.dims("x", [None])
    assert not table.learn(ValueError("values (1, 2, 3) and (1, 2, 4) differ"))
    assert not table.learn(KeyError("x"))


def test_a_slice_of_a_table_bounds_the_size_that_it_is_cut_to() -> None:
    table = Variable(np.arange(64, dtype=np.float32).reshape(32, 2))

    @function(input_signature=[TensorSpec([None, None, 2], name="x")])
    def f(x):
        return x + table[: x.shape[1]]

    assert f.get_concrete_function().body.traced.constraints == ("x_1 <= 32",)
    assert f(np.zeros((1, 5, 2), np.float32)).shape == (1, 5, 2)
    with pytest.raises(ValueError, match="33"):
        f(np.zeros((1, 33, 2), np.float32))


def test_dims_are_compared_by_their_values() -> None:
    b, n = jax.export.symbolic_shape("b, n")
    assert are_equal_dims((b + 1) // 2, (b - 1) // 2 + 1)
    assert are_equal_dims(b * n, n * b)
    assert not are_equal_dims((b + 1) // 2, b // 2)
    assert not are_equal_dims(b, n)
    assert not are_equal_dims(b % 5, (b + 20) % 4)
    assert are_equal_dims(3, 3)
    assert not are_equal_dims(3, 4)


def test_a_chain_of_sums_tells_all_sizes() -> None:
    dims = [("a + b",), ("b + c",), ("c*d",), ("c",)]
    assert bind_dims(dims, [(9,), (7,), (8,), (4,)], "wxyz") == {"a": 6, "b": 3, "c": 4, "d": 2}
