"""Function: binding, tracing, caching, methods, threads."""

from __future__ import annotations

import collections
import copy
import gc
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from savax.errors import (
    DTypeMismatchError,
    SignatureMismatchError,
    UnsupportedOptionError,
)
from savax.function import Function, function
from savax.trackable import Module, Variable
from savax.types import TensorSpec

Point = collections.namedtuple("Point", "x y")


def counting():
    """A function and the list that each of its traces appends to."""
    traces = []

    @function
    def double(x, factor=2):
        traces.append((getattr(x, "shape", x), factor))
        return x * factor

    return double, traces


def test_decorator_works_with_and_without_arguments() -> None:
    @function
    def plain(x):
        return x + 1

    @function()
    def called(x):
        return x + 1

    @function(input_signature=[TensorSpec([2])])
    def signed(x):
        return x + 1

    for f in (plain, called, signed, function(lambda x: x + 1)):
        assert isinstance(f, Function)
        np.testing.assert_array_equal(f(np.ones(2, np.float32)), [2, 2])


def test_tensors_are_cached_by_dtype_and_shape() -> None:
    double, traces = counting()
    for x in (np.ones(3, np.float32), jnp.zeros(3), Variable(np.ones(3, np.float32)).value):
        double(x)
    assert len(traces) == 1
    double(np.ones(4, np.float32))
    double(np.ones(3, np.int32))
    assert len(traces) == 3


def test_python_values_are_cached_by_type_and_value() -> None:
    double, traces = counting()
    x = np.ones(3, np.float32)
    results = [double(x, factor) for factor in (1, True, 1.0, 2, 1)]
    assert len(traces) == 4
    assert [r.dtype for r in results] == [np.float32] * 5


def test_default_and_keyword_arguments_share_a_trace() -> None:
    double, traces = counting()
    x = np.ones(3, np.float32)
    double(x)
    double(x, 2)
    double(factor=2, x=x)
    assert len(traces) == 1


def test_structure_is_part_of_the_signature() -> None:
    seen = []

    @function
    def total(values):
        seen.append(type(values).__name__)
        return sum(jax.tree.leaves(values))

    x = np.float32(1)
    for values in ([x, x], (x, x), {"a": x, "b": x}, Point(x, x), [x, x]):
        assert total(values) == 2
    assert seen == ["list", "tuple", "dict", "Point"]


def test_results_keep_their_structure() -> None:
    @function
    def everything(x):
        return {"p": Point(x, 2), "n": None, "l": [x, (1.5, True)]}

    result = everything(jnp.ones(2))
    assert isinstance(result["p"], Point)
    assert result["n"] is None
    assert isinstance(result["l"][1], tuple)
    assert result["l"][1][1].dtype == bool
    assert int(result["p"].y) == 2


def test_unknown_sizes_are_results_like_numbers() -> None:
    @function(input_signature=[TensorSpec([None, "n"])])
    def sizes(x):
        return {"rows": x.shape[0], "elements": x.size, "columns": 2 * x.shape[1] + 1}

    result = sizes(jnp.ones((3, 4)))
    assert {name: int(value) for name, value in result.items()} == {
        "rows": 3,
        "elements": 12,
        "columns": 9,
    }
    assert result["rows"].dtype == jnp.int32


def test_other_results_are_refused() -> None:
    @function
    def wrong(x):
        return {"ok": x, "bad": object()}

    with pytest.raises(TypeError, match="wrong returns object"):
        wrong(jnp.ones(1))


def test_unhashable_arguments_are_refused() -> None:
    double, _ = counting()
    with pytest.raises(TypeError, match=r"set .*can't be hashed"):
        double(np.ones(1), {1, 2})


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "'x' is missing"),
        ((1, 2, 3), {}, "3 positional arguments for 2 parameters"),
        ((1,), {"x": 2}, "'x' is given twice"),
        ((1,), {"wrong": 2}, "no parameter 'wrong'"),
    ],
)
def test_calls_that_do_not_bind(args, kwargs, message) -> None:
    double, _ = counting()
    with pytest.raises(TypeError, match=message):
        double(*args, **kwargs)


def test_keyword_only_and_variadic_arguments() -> None:
    @function
    def combine(x, *more, scale, shift=0.0, **named):
        return scale * (x + sum(more) + sum(named.values())) + shift

    one = jnp.float32(1)
    assert combine(one, one, one, scale=2.0, z=one) == 8
    assert combine(one, scale=jnp.float32(3)) == 3
    with pytest.raises(TypeError, match="'scale' is missing"):
        combine(one)


class TestInputSignature:
    def test_converts_numbers_and_lists(self) -> None:
        @function(input_signature=[TensorSpec([None]), TensorSpec([], "int32")])
        def add(x, n):
            return x + n.astype("float32")

        np.testing.assert_array_equal(add([1, 2], 3), [4, 5])
        np.testing.assert_array_equal(add(np.ones(1, np.float32), n=1), [2])
        assert add.experimental_get_tracing_count() == 1

    def test_refuses_other_dtypes_and_shapes(self) -> None:
        @function(input_signature=[TensorSpec([None, 2], name="rows")])
        def f(rows):
            return rows

        with pytest.raises(DTypeMismatchError, match="'rows' of f takes float32, got int32"):
            f(np.ones((1, 2), np.int32))
        with pytest.raises(TypeError, match=r"got the shape \(1, 3\)"):
            f(np.ones((1, 3), np.float32))
        with pytest.raises(TypeError, match="can't be converted"):
            f(["text"])

    @pytest.mark.parametrize(
        ("signature", "message"),
        [
            (TensorSpec([]), "list or tuple"),
            ([np.float32], "holds TensorSpecs"),
            ([None], "holds TensorSpecs"),
            ([TensorSpec([])] * 3, "3 specs for 2 positional parameters"),
            ([], "no spec for 'x'"),
        ],
    )
    def test_must_fit_the_function(self, signature, message) -> None:
        def f(x, y=1):
            return x

        with pytest.raises(TypeError, match=message):
            function(f, input_signature=signature)

    def test_may_leave_out_parameters_with_defaults(self) -> None:
        @function(input_signature=[TensorSpec([2])])
        def f(x, y=3.0, *, z=1.0):
            return x * y + z

        np.testing.assert_array_equal(f([1, 2]), [4, 7])

    def test_may_be_nested(self) -> None:
        spec = {"a": TensorSpec([None]), "b": [TensorSpec([], "int32")]}

        @function(input_signature=[spec])
        def f(tree):
            return tree["a"] * tree["b"][0].astype("float32")

        np.testing.assert_array_equal(f({"a": [1, 2], "b": [3]}), [3, 6])
        with pytest.raises(TypeError, match="Argument 'tree'"):
            f({"a": [1.0]})

    def test_takes_jax_shape_structs(self) -> None:
        @function(input_signature=[jax.ShapeDtypeStruct((2,), jnp.float32)])
        def f(x):
            return x

        assert f.get_concrete_function().inputs == (TensorSpec([2], name="x"),)


class Counter(Module):
    def __init__(self, start: int) -> None:
        super().__init__()
        self.count = Variable(start, trainable=False)

    @function(input_signature=[TensorSpec([], "int32")])
    def add(self, n):
        return self.count.assign_add(n)

    @function
    def peek(this, times):  # noqa: N805 - another name than self
        return this.count * times


class TestMethods:
    def test_each_instance_has_its_own_functions_and_state(self) -> None:
        a, b = Counter(0), Counter(10)
        assert a.add is a.add
        assert a.add is not b.add
        assert int(a.add(1)) == 1
        assert int(b.add(5)) == 15
        assert int(a.count) == 1

    def test_self_may_have_another_name(self) -> None:
        assert int(Counter(3).peek(2)) == 6

    def test_inheritance_and_super(self) -> None:
        class Twice(Counter):
            @function(input_signature=[TensorSpec([], "int32")])
            def add(self, n):
                super().add(n)
                return super().add(n)

        twice = Twice(0)
        assert int(twice.add(2)) == 4
        assert int(twice.count) == 4

    def test_instances_are_collected(self) -> None:
        counter = Counter(0)
        counter.add(1)
        reference = weakref.ref(counter)
        del counter
        gc.collect()
        assert reference() is None

    def test_a_deep_copy_has_functions_of_its_own(self) -> None:
        original = Counter(0)
        original.add(1)
        copied = copy.deepcopy(original)
        copied.add(5)
        assert (int(original.count), int(copied.count)) == (1, 6)


class TestConcreteFunctions:
    def test_names_and_structure(self) -> None:
        @function
        def f(a, b, *rest, k=1):
            return {"sum": a + b["q"]}

        x = TensorSpec([2])
        concrete = f.get_concrete_function(x, {"q": x, "r": TensorSpec([3], name="mine")}, x)
        assert [spec.name for spec in concrete.inputs] == ["a", "b", "mine", "rest_0"]
        args, kwargs = concrete.structured_input_signature
        assert args[1]["q"] == TensorSpec([2], name="b_q")
        assert kwargs == {"k": 1}
        assert concrete.structured_outputs == {"sum": TensorSpec([2], name="sum")}

    def test_takes_structured_flat_and_named_arguments(self) -> None:
        @function
        def f(a, b, flip=False):
            return a - b if flip else b - a

        x = TensorSpec([])
        concrete = f.get_concrete_function(x, x, flip=True)
        one, three = np.float32(1), np.float32(3)
        assert concrete(one, three, flip=True) == -2
        assert concrete(three, one) == 2
        assert concrete(b=one, a=three) == 2
        with pytest.raises(ValueError, match=r"wanted: .*True"):
            concrete(one, three, flip=False)

    def test_the_most_general_one_is_reused(self) -> None:
        double, traces = counting()
        double.get_concrete_function(TensorSpec([None]))
        before = len(traces)
        result = double(np.ones(7, np.float32))
        assert result.shape == (7,)
        assert double.experimental_get_tracing_count() == 1
        assert len(traces) == before + 1  # at the known shape, to be run

    def test_reduce_retracing_generalises(self) -> None:
        @function(reduce_retracing=True)
        def f(x):
            return x + 1

        for size in (2, 3, 4, 5):
            assert f(np.ones(size, np.float32)).shape == (size,)
        assert [c.inputs[0].shape for c in f.concrete_functions] == [(2,), (None,)]

    def test_a_decision_on_an_unknown_size_is_an_error(self) -> None:
        @function(input_signature=[TensorSpec([None])])
        def f(x):
            return x.sum() if x.shape[0] == 1 else x

        with pytest.raises(TypeError):
            f(np.ones(1, np.float32))


def test_functions_call_functions() -> None:
    @function
    def inner(x):
        return x * 2

    @function(input_signature=[TensorSpec([None])])
    def outer(x):
        return inner(x) + inner(x[:1])

    np.testing.assert_array_equal(outer([1, 2]), [4, 6])
    # Both calls, and those at known sizes, are served by the first, of an unknown size.
    assert [c.inputs[0].shape for c in inner.concrete_functions] == [(None,)]


def test_variables_may_be_created_on_the_first_call() -> None:
    class Lazy(Module):
        kernel = None

        @function
        def __call__(self, x):
            if self.kernel is None:
                self.kernel = Variable(jnp.ones((x.shape[-1], 2)), name="kernel")
            return x @ self.kernel

    lazy = Lazy()
    np.testing.assert_array_equal(lazy(np.ones((1, 3), np.float32)), [[3, 3]])
    lazy.kernel.assign(np.zeros((3, 2), np.float32))
    np.testing.assert_array_equal(lazy(np.ones((1, 3), np.float32)), [[0, 0]])
    assert lazy.variables == (lazy.kernel,) or lazy.variables[0] is lazy.kernel


def test_creating_variables_at_every_call_is_refused() -> None:
    @function
    def leaky(x):
        return x * Variable(2.0)

    with pytest.raises(ValueError, match="Variable"):
        leaky(jnp.ones(1))


def test_variables_as_arguments_are_told_apart_by_aliasing() -> None:
    seen = []

    @function
    def add(a, b):
        seen.append(a is b)
        return a + b

    v, w = Variable(1.0), Variable(2.0)
    assert float(add(v, w)) == 3
    assert float(add(w, v)) == 3
    assert float(add(v, v)) == 2
    v.assign(5.0)
    assert float(add(v, w)) == 7


def test_int64_arguments_keep_their_values() -> None:
    @function(input_signature=[TensorSpec([None], "int64")])
    def same(x):
        return x

    assert same.get_concrete_function().outputs[0].dtype in ("int32", "int64")
    np.testing.assert_array_equal(same(np.array([1, 2])), [1, 2])
    if not jax.config.jax_enable_x64:
        with pytest.raises(ValueError, match="jax_enable_x64"):
            same(np.array([2**40]))


def test_calls_from_several_threads() -> None:
    counter = Counter(0)
    traces = []

    @function
    def traced(x):
        traces.append(threading.get_ident())
        return counter.count + x

    def work() -> None:
        for _ in range(50):
            counter.add(1)
            traced(np.int32(1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert int(counter.count) == 200
    assert traced.experimental_get_tracing_count() == 1


def test_a_function_may_call_itself() -> None:
    @function
    def factorial(n):
        return n * factorial(n - 1) if n > 1 else 1

    assert int(factorial(5)) == 120


def test_under_jax_transformations() -> None:
    scale = Variable(3.0)

    @function
    def f(x):
        return (x * scale).sum()

    x = jnp.arange(3.0)
    assert float(jax.jit(f)(x)) == 9
    np.testing.assert_array_equal(jax.grad(f)(x), [3, 3, 3])
    np.testing.assert_array_equal(jax.vmap(f)(jnp.ones((2, 3))), [9, 9])
    scale.assign(1.0)
    assert float(f(x)) == 3


def test_assignment_under_foreign_transformations_is_refused() -> None:
    counter = Counter(0)
    with pytest.raises(TypeError, match="can't be assigned"):
        jax.jit(counter.add)(jnp.int32(1))
    assert int(counter.count) == 0


def test_options_of_tensorflow_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UnsupportedOptionError, match="experimental_implements"):
        function(lambda x: x, experimental_implements="x")


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="decorates functions"):
        function(3)


def test_errors_show_wanted_and_given() -> None:
    @function
    def f(x):
        return x

    concrete = f.get_concrete_function(TensorSpec([2]))
    with pytest.raises(SignatureMismatchError) as caught:
        concrete(np.ones((2,), np.float32), np.ones((3,), np.int32))
    assert "wanted: (float32[2])" in str(caught.value)
    assert "given:  (float32[2], int32[3])" in str(caught.value)


def test_a_spec_is_not_served_by_a_narrower_trace_or_another_name() -> None:
    double, _ = counting()
    double(np.ones((0, 3), np.float32))
    general = double.get_concrete_function(TensorSpec([None, 3], name="inp"))
    assert general.inputs == (TensorSpec([None, 3], name="inp"),)
    assert general(inp=np.ones((2, 3), np.float32)).shape == (2, 3)
    again = double.get_concrete_function(TensorSpec([None, 3], name="other"))
    assert again.argument_names == ("other",)
    assert double.get_concrete_function(TensorSpec([None, 3])) is general
