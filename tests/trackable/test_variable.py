"""Variables: their values, dtypes and shapes, with and without JAX, inside and outside traces."""

from __future__ import annotations

import contextlib
import copy
import pickle
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from savax.errors import (
    DTypeMismatchError,
    EscapedTracerError,
    InvalidArgumentError,
    ShapeMismatchError,
)
from savax.trackable import (
    Module,
    Variable,
    VariableAggregation,
    VariableSynchronization,
    frame_scope,
)
from savax.trackable._arrays import BACKEND
from savax.types import TensorShape, TensorSpec, as_dtype


@pytest.fixture
def with_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the function layer installs, reduced to the minimum."""
    monkeypatch.setattr(BACKEND, "convert", jnp.asarray)
    monkeypatch.setattr(BACKEND, "is_tracer", lambda value: isinstance(value, jax.core.Tracer))


@pytest.fixture
def without_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BACKEND, "convert", lambda value: value)
    monkeypatch.setattr(BACKEND, "is_tracer", lambda _: False)


@pytest.mark.parametrize(
    ("initial", "dtype", "shape"),
    [
        (1.5, "float32", ()),
        (3, "int32", ()),
        (True, "bool", ()),
        (1j, "complex128", ()),
        ([], "float32", (0,)),
        ([[1, 2], [3, 4]], "int32", (2, 2)),
        ([1, 2.5], "float32", (2,)),
        ([True, 1], "int32", (2,)),
        ("text", "string", ()),
        ([b"a", "b"], "string", (2,)),
        (np.float64(2), "float64", ()),
        (np.arange(3), "int64", (3,)),
        ([np.int64(1), np.int64(2)], "int64", (2,)),
        (np.ones(2, ml_dtypes.bfloat16), "bfloat16", (2,)),
        (np.array([1, 2], ml_dtypes.int4), "int4", (2,)),
        (np.array(["a", "bc"]), "string", (2,)),
        (jnp.ones((2, 1), jnp.float16), "float16", (2, 1)),
        (lambda: np.zeros(3, np.uint8), "uint8", (3,)),
    ],
)
def test_initial_value_decides_dtype_and_shape(initial: Any, dtype: str, shape: Any) -> None:
    variable = Variable(initial)
    assert variable.dtype is as_dtype(dtype)
    assert variable.shape == shape
    assert variable.spec == TensorSpec(shape, dtype, "Variable")


def test_strings_are_bytes() -> None:
    assert Variable(["ä", b"\x00"]).numpy().tolist() == ["ä".encode(), b"\x00"]


@pytest.mark.parametrize(
    ("initial", "dtype", "expected"),
    [(1, "float16", 1.0), ([1, 2], "int64", [1, 2]), (np.arange(2.0), "float32", [0, 1])],
)
def test_dtype_casts_the_initial_value(initial: Any, dtype: str, expected: Any) -> None:
    variable = Variable(initial, dtype=dtype)
    assert variable.dtype is as_dtype(dtype)
    assert variable.numpy().dtype == as_dtype(dtype).numpy_dtype
    assert variable.numpy().tolist() == expected


@pytest.mark.parametrize(
    ("initial", "dtype", "error"),
    [
        (None, None, InvalidArgumentError),
        (1.5, "int32", DTypeMismatchError),
        (2**40, None, InvalidArgumentError),
        (300, "uint8", InvalidArgumentError),
        ([[1], [1, 2]], None, InvalidArgumentError),
        ([["a"], ["b", "c"]], None, InvalidArgumentError),
        (object(), None, InvalidArgumentError),
        ("a", "float32", DTypeMismatchError),
        (1.0, "string", DTypeMismatchError),
    ],
)
def test_impossible_initial_values_are_refused_by_name(
    initial: Any, dtype: Any, error: Any
) -> None:
    with pytest.raises(error, match="'kernel'"):
        Variable(initial, name="kernel", dtype=dtype)


def test_arrays_of_users_are_copied() -> None:
    array = np.zeros(3)
    variable = Variable(array)
    array[0] = 7
    assert variable.numpy().tolist() == [0, 0, 0]
    variable.assign(array)
    array[0] = 8
    assert variable.numpy().tolist() == [7, 0, 0]


def test_stored_host_values_cannot_be_changed_in_place(without_jax: None) -> None:
    with pytest.raises(ValueError, match="read-only"):
        Variable([1, 2]).value[0] = 5


def test_64_bit_values_survive_without_jaxs_64_bit_mode(with_jax: None) -> None:
    big, fine = 2**53 + 1, 1 / 3
    integers, floats = Variable(np.int64(big)), Variable(np.float64(fine))
    integers.assign(np.int64(big + 1))
    assert int(integers._host_value()) == big + 1
    assert floats._host_value() == fine


@pytest.mark.parametrize(
    ("initial", "value"),
    [
        (1.0, 2),
        (1.0, np.float64(2)),
        (1, np.int64(2)),
        (np.int64(1), 2),
        (np.int64(1), jnp.int32(2)),
        (np.float64(1), jnp.float32(2)),
        (np.ones(2, ml_dtypes.bfloat16), [2.0, 2.0]),
        (1.0, jnp.bfloat16(2)),
    ],
)
def test_assign_takes_what_the_dtype_can_hold(initial: Any, value: Any) -> None:
    variable = Variable(initial)
    dtype = variable.dtype
    assert variable.assign(value) is variable
    assert variable.dtype is dtype
    assert variable._host_value().dtype == dtype.numpy_dtype
    assert (variable.numpy() == 2).all()


@pytest.mark.parametrize(
    ("initial", "value", "error", "found"),
    [
        (1, 1.5, DTypeMismatchError, "float"),
        (1, np.float32(1), DTypeMismatchError, "float32"),
        (1, np.int64(2**40), DTypeMismatchError, "int64"),
        (1, jnp.float32(1), DTypeMismatchError, "float32"),
        (np.ones((), np.float16), jnp.float32(1), DTypeMismatchError, "float32"),
        (1.0, 1j, DTypeMismatchError, "complex"),
        (1.0, "a", DTypeMismatchError, "string"),
        (1.0, None, InvalidArgumentError, "None"),
        ([1.0, 2.0], [1.0], ShapeMismatchError, r"\(1,\)"),
        ([1.0, 2.0], 1.0, ShapeMismatchError, r"\(\)"),
        ([1.0, 2.0], jnp.ones((1, 2)), ShapeMismatchError, r"\(1, 2\)"),
    ],
)
def test_assign_refuses_other_kinds_and_shapes(
    initial: Any, value: Any, error: Any, found: str
) -> None:
    variable = Variable(initial, name="w")
    before = variable.numpy()
    with pytest.raises(error, match=f"Variable 'w'.*{found}"):
        variable.assign(value)
    assert variable.numpy().tolist() == before.tolist()


def test_mismatches_are_also_builtin_errors() -> None:
    assert issubclass(ShapeMismatchError, ValueError)
    assert issubclass(DTypeMismatchError, ValueError)
    assert issubclass(DTypeMismatchError, TypeError)


def test_sizes_may_change_where_the_shape_says_so() -> None:
    variable = Variable(np.zeros((1, 2)), shape=[None, 2])
    assert variable.shape == (None, 2)
    variable.assign(np.ones((5, 2)))
    assert variable.numpy().shape == (5, 2)
    with pytest.raises(ShapeMismatchError):
        variable.assign(np.ones((5, 3)))
    with pytest.raises(ShapeMismatchError):
        variable.assign_add(np.ones((4, 2)))
    anything = Variable(0, shape=TensorShape(None))
    assert anything.assign([[1, 2]]).shape is None


def test_shape_must_fit_the_initial_value() -> None:
    with pytest.raises(ShapeMismatchError, match=r"\(2,\).*\(3,\)"):
        Variable([1, 2], shape=[3])


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float16", "bfloat16", "float64"])
def test_assign_add_and_sub_keep_the_dtype(dtype: str) -> None:
    variable = Variable([1, 2], dtype=dtype)
    assert variable.assign_add([3, 3]).assign_sub([1, 1]) is variable
    assert variable.numpy().tolist() == [3, 4]
    assert variable._host_value().dtype == as_dtype(dtype).numpy_dtype
    with pytest.raises(ShapeMismatchError):
        variable.assign_add(1)


@pytest.mark.parametrize(
    ("given", "synchronization", "trainable"),
    [
        (None, VariableSynchronization.AUTO, True),
        (False, VariableSynchronization.AUTO, False),
        (None, VariableSynchronization.ON_READ, False),
        (None, 1, True),
    ],
)
def test_trainable(given: Any, synchronization: Any, trainable: bool) -> None:
    variable = Variable(
        1, given, synchronization=synchronization, aggregation=VariableAggregation.MEAN
    )
    assert variable.trainable is trainable
    assert variable.synchronization == synchronization
    assert variable.aggregation == 2


def test_arithmetic_is_the_values() -> None:
    a, b = Variable([4.0, 9.0]), Variable([2.0, 3.0])
    x, y = a.numpy(), b.numpy()
    pairs = [
        (a + b, x + y), (a - b, x - y), (a * b, x * y), (a / b, x / y), (a // b, x // y),
        (a % b, x % y), (a**b, x**y), (a @ b, x @ y), (-a, -x), (abs(-a), x), (+a, x),
        (1 + a, 1 + x), (1 - a, 1 - x), (2 * a, 2 * x), (1 / a, 1 / x), (1 // a, 1 // x),
        (5 % a, 5 % x), (2**a, 2**x), (a < b, x < y), (a <= b, x <= y), (a > b, x > y),
        (a >= b, x >= y), (a == b, x == y), (a != b, x != y), (a == x, x == x),
        (y + a, y + x), (y @ a, y @ x), (a[0], x[0]), (a[::-1], x[::-1]), (a.T, x.T),
    ]  # fmt: skip
    for found, expected in pairs:
        np.testing.assert_array_equal(found, expected)
    i, j = Variable([6, 5]), Variable([3, 1])
    for found, expected in [
        (i & j, [2, 1]), (i | j, [7, 5]), (i ^ j, [5, 4]), (~i, [-7, -6]), (i << j, [48, 10]),
        (i >> j, [0, 2]), (1 & i, [0, 1]), (1 | i, [7, 5]), (1 ^ i, [7, 4]), (1 << j, [8, 2]),
    ]:  # fmt: skip
        assert np.asarray(found).tolist() == expected
    assert divmod(i, j)[0].tolist() == [2, 5]


def test_conversions() -> None:
    assert (int(Variable(3)), float(Variable(0.5)), bool(Variable(0))) == (3, 0.5, False)
    assert [10, 20][Variable(1)] == 20
    assert len(Variable([1, 2])) == 2
    assert [int(x) for x in Variable([1, 2])] == [1, 2]
    assert np.asarray(Variable([1, 2]), dtype=np.float64).dtype == np.float64
    assert np.sum(Variable([1, 2])) == 3
    assert jnp.sin(Variable(0.0).value) == 0
    assert (jnp.ones(2) * Variable([2.0, 3.0])).tolist() == [2, 3]
    assert Variable([[1, 2]]).astype("float16").dtype == np.float16
    variable = Variable([[1.0, 2.0]])
    assert (variable.ndim, variable.size, variable.nbytes) == (2, 2, 8)
    assert (variable.sum(), variable.mean(), variable.max(), variable.min()) == (3, 1.5, 2, 1)


def test_misspelt_attributes_are_errors() -> None:
    with pytest.raises(AttributeError):
        Variable(1).asign(2)  # type: ignore[attr-defined]


def test_variables_have_references_instead_of_hashes() -> None:
    a, b = Variable(1), Variable(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)
    assert {a.ref(): "a", b.ref(): "b"}[a.ref()] == "a"
    assert a.ref().deref() is a


def test_host_value_is_converted_once_and_late(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def convert(value: Any) -> Any:
        calls.append(value)
        return jnp.asarray(value)

    monkeypatch.setattr(BACKEND, "convert", convert)
    variable = Variable(np.ones(2, np.float32))
    variable._set_host_value(np.zeros(2, np.float32))
    assert not calls
    assert isinstance(variable.value, jax.Array)
    assert variable.value is variable.value
    assert len(calls) == 1


def test_restored_value_must_fit() -> None:
    variable = Variable([1.0, 2.0], name="w")
    with pytest.raises(ShapeMismatchError):
        variable._set_host_value(np.zeros(3, np.float32))
    with pytest.raises(DTypeMismatchError):
        variable._set_host_value(np.zeros(2))


class RecordingFrame:
    """A frame that keeps values in a dict."""

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}
        self.created: list[Variable] = []

    def read(self, variable: Variable) -> Any:
        if id(variable) not in self.values:
            with frame_scope(None):
                self.values[id(variable)] = variable.value
        return self.values[id(variable)]

    def write(self, variable: Variable, value: Any) -> None:
        self.values[id(variable)] = value

    def create(self, variable: Variable, initial_value: Any) -> None:
        self.created.append(variable)
        self.values[id(variable)] = initial_value


def test_a_frame_stands_between_a_variable_and_its_value() -> None:
    variable, frame = Variable([1.0, 2.0]), RecordingFrame()
    with frame_scope(frame):
        variable.assign_add([1, 1])
        assert variable.value.tolist() == [2, 3]
        made = Variable(5)
        with pytest.raises(ShapeMismatchError):
            variable.assign(1.0)
    assert variable.value.tolist() == [1, 2]
    assert frame.created[0] is made
    assert frame.values[id(variable)].tolist() == [2, 3]


def test_the_frame_is_gone_after_an_error() -> None:
    variable, frame = Variable(1), RecordingFrame()
    with contextlib.suppress(RuntimeError), frame_scope(frame):
        raise RuntimeError
    variable.assign(2)
    assert not frame.values


def test_tracers_of_other_traces_are_never_stored(with_jax: None) -> None:
    variable = Variable(1.0, name="w")

    def write(x: Any) -> Any:
        variable.assign(x)
        return x

    with pytest.raises(EscapedTracerError, match=r"'w'.*savax\.function"):
        jax.jit(write)(2.0)
    with pytest.raises(EscapedTracerError):
        jax.jit(lambda x: Variable(x).value)(2.0)
    assert variable.numpy() == 1


def test_tracers_go_to_the_frame(with_jax: None) -> None:
    variable, frame = Variable(1.0), RecordingFrame()

    def step(x: Any) -> Any:
        with frame_scope(frame):
            variable.assign(variable + x)
            return variable * Variable(x)

    assert jax.jit(step)(2.0) == 6
    assert variable.numpy() == 1


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_copies_are_independent(copied: Any) -> None:
    variable = Variable([1.0, 2.0], False, name="w")
    other = copied(variable)
    other.assign([3.0, 4.0])
    assert variable.numpy().tolist() == [1, 2]
    assert (other.name, other.trainable, other.dtype) == ("w", False, as_dtype("float32"))


def test_names_have_the_scopes_prefix() -> None:
    module = Module("encoder")
    with module.name_scope:
        inner = Module("layer")
        assert Variable(1).name == "encoder/Variable"
        with inner.name_scope:
            assert Variable(1, name="w").name == "encoder/layer/w"
        assert Variable(1, name="b").name == "encoder/b"
    assert Variable(1, name="w").name == "w"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        (Variable([1.0, 2.0], name="w"), "shape=(2,) dtype=float32, numpy=[1., 2.]>"),
        (Variable(np.zeros(100), name="w"), "shape=(100,) dtype=float64>"),
    ],
)
def test_repr_is_short(variable: Variable, text: str) -> None:
    assert repr(variable) == f"<savax.Variable 'w' {text}"


@given(
    hnp.arrays(
        dtype=st.sampled_from([np.int8, np.uint16, np.int64, np.float32, np.float64, np.bool_]),
        shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    )
)
def test_any_array_is_kept_bit_by_bit(array: np.ndarray[Any, Any]) -> None:
    variable = Variable(array)
    assert variable._host_value().tobytes() == array.tobytes()
    assert variable.assign(array)._host_value().tobytes() == array.tobytes()


def test_variables_work_where_jax_is_not_loaded() -> None:
    code = (
        "import sys, savax.trackable as t\n"
        "v = t.Variable([1.0, 2.0])\n"
        "v.assign_add(v * 2)\n"
        "assert v.numpy().tolist() == [3.0, 6.0]\n"
        "assert not {'jax', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
