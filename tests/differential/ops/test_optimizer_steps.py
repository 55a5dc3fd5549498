"""Steps of optimizers, dense and of some rows, agree with TensorFlow's."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import load_function  # noqa: E402

from savax.errors import InvalidArgumentError  # noqa: E402

pytestmark = pytest.mark.tf

RATE = {"lr": 0.1}
SHRINKAGE = {"l1": 0.02, "l2": 0.3}
POWERS = {"beta1_power": 0.9, "beta2_power": 0.99}
MOMENTS = {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-3}
DECAY = {"rho": 0.9, "epsilon": 1e-3}
SIGNS = {"sign_decay": 0.8, "beta": 0.9}
FTRL = RATE | SHRINKAGE | {"lr_power": -0.5}

# Name, number of slots, other inputs, attributes.
STEPS: dict[str, tuple[str, int, dict[str, float], dict[str, bool]]] = {
    "AdaMax": ("AdaMax", 2, RATE | {"beta1_power": 0.9} | MOMENTS, {}),
    "Adadelta": ("Adadelta", 2, RATE | DECAY, {}),
    "Adagrad": ("Adagrad", 1, RATE, {}),
    "Adagrad, fixed slots": ("Adagrad", 1, RATE, {"update_slots": False}),
    "AdagradDA": ("AdagradDA", 2, RATE | SHRINKAGE | {"global_step": 3}, {}),
    "AdagradDA, l1=0": ("AdagradDA", 2, RATE | {"l1": 0.0, "l2": 0.3, "global_step": 1}, {}),
    "AdagradV2": ("AdagradV2", 1, RATE | {"epsilon": 1e-3}, {}),
    "Adam": ("Adam", 2, RATE | POWERS | MOMENTS, {"use_nesterov": True}),
    "AdamWithAmsgrad": ("AdamWithAmsgrad", 3, RATE | POWERS | MOMENTS, {}),
    "AddSign": ("AddSign", 1, RATE | SIGNS | {"alpha": 0.7}, {}),
    "CenteredRMSProp": ("CenteredRMSProp", 3, RATE | DECAY | {"momentum": 0.8}, {}),
    "Ftrl": ("Ftrl", 2, FTRL, {}),
    "Ftrl, other power": ("Ftrl", 2, FTRL | {"lr_power": -0.7}, {}),
    "Ftrl, scaled": ("Ftrl", 2, FTRL, {"multiply_linear_by_lr": True}),
    "FtrlV2": ("FtrlV2", 2, FTRL | {"l2_shrinkage": 0.1}, {}),
    "FtrlV2, scaled": ("FtrlV2", 2, FTRL | {"l2_shrinkage": 0.1}, {"multiply_linear_by_lr": True}),
    "GradientDescent": ("GradientDescent", 0, {"alpha": 0.1}, {}),
    "KerasMomentum": ("KerasMomentum", 1, RATE | {"momentum": 0.9}, {"use_nesterov": True}),
    "Momentum": ("Momentum", 1, RATE | {"momentum": 0.9}, {"use_nesterov": True}),
    "Momentum, plain": ("Momentum", 1, RATE | {"momentum": 0.9}, {}),
    "PowerSign": ("PowerSign", 1, RATE | SIGNS | {"logbase": 0.7}, {}),
    "ProximalAdagrad": ("ProximalAdagrad", 1, RATE | SHRINKAGE, {}),
    "ProximalGradientDescent": ("ProximalGradientDescent", 0, SHRINKAGE | {"alpha": 0.1}, {}),
    "RMSProp": ("RMSProp", 2, RATE | DECAY | {"momentum": 0.8}, {}),
}
DENSE_ONLY = {"AdaMax", "Adam", "AdamWithAmsgrad", "AddSign", "GradientDescent", "PowerSign"}
VALUES = np.array([[1.0, -2.0], [3.0, 0.01], [-0.5, 0.2], [0.0, 4.0], [1.5, 1.0]])


class Step:
    """A step of one optimizer on Variables of its own.

    Attributes:
      row: of the table.
      variables: the trained one and its slots.
    """

    def __init__(self, row: str, shape: tuple[int, ...], dtype: Any, sparse: bool) -> None:
        self.row = row
        name, slots, numbers, self._attrs = STEPS[row]
        self._op = getattr(tf.raw_ops, f"Resource{'SparseApply' if sparse else 'Apply'}{name}")
        start = np.resize(VALUES, shape).astype(dtype)
        label = "".join(c for c in row if c.isalnum())
        self.variables = [tf.Variable(start, name=f"{label}0")] + [
            tf.Variable(abs(start) * 0.1 * i + 0.5, name=f"{label}{i + 1}") for i in range(slots)
        ]
        parameters = list(inspect.signature(self._op).parameters)
        self._grad = "delta" if "delta" in parameters else "grad"
        self._inputs = dict(zip(parameters, (v.handle for v in self.variables), strict=False))
        for number, value in numbers.items():  # step counts are integers
            kind = np.int64 if number == "global_step" else dtype
            self._inputs[number] = tf.constant(value, kind)

    def run(self, gradient: Any, rows: tuple[Any, ...]) -> list[Any]:
        where = {"indices": rows[0]} if rows else {}
        self._op(**self._inputs, **{self._grad: gradient}, **where, **self._attrs)
        return [v.read_value() for v in self.variables]


def check_steps(
    rows: list[str],
    shape: tuple[int, ...],
    indices: Any = None,
    dtype: Any = np.float32,
    tol: float = 1e-5,
) -> None:
    """Takes two steps of each optimizer, of all elements or of the rows at ``indices``."""
    steps = [Step(row, shape, dtype, indices is not None) for row in rows]
    count = shape[:1] if indices is None else np.shape(indices)[-1:]
    gradient = (np.resize(VALUES[::-1] * 0.3, (*count, *shape[1:]))).astype(dtype)

    @tf.function
    def take(gradient: tf.Tensor, *at: tf.Tensor) -> Any:
        return [step.run(gradient, at) for step in steps]

    calls = [(gradient,)] * 2 if indices is None else [(gradient, each) for each in indices]
    concrete = take.get_concrete_function(*map(tf.constant, calls[0]))
    loaded = load_function(concrete)
    names = [step.row for step in steps for _ in step.variables]
    for args in calls:
        expected = tf.nest.flatten(concrete(*map(tf.constant, args)))
        for row, a, b in zip(names, loaded.body.run(list(args)), expected, strict=True):
            assert np.asarray(a).dtype == b.numpy().dtype
            a, b = (np.asarray(x, np.float64) for x in (a, b.numpy()))
            np.testing.assert_allclose(a, b, rtol=tol, atol=tol / 10, err_msg=row)


REPEATED_AND_NOT = np.array([[4, 1, 4, 4], [2, 0, 1, 3]], np.int32)
OF_ROWS = [row for row, (name, *_) in STEPS.items() if name not in DENSE_ONLY]


def test_steps_of_all_elements_agree() -> None:
    check_steps(list(STEPS), (5, 2))


def test_steps_of_rows_agree() -> None:
    check_steps(OF_ROWS, (5, 2), REPEATED_AND_NOT)


def test_steps_of_single_elements_agree() -> None:
    check_steps(OF_ROWS[::3], (5, 1), REPEATED_AND_NOT.astype(np.int64))
    check_steps(OF_ROWS[::3], (5,), REPEATED_AND_NOT[:, :0])


def test_narrow_and_wide_types_agree() -> None:
    check_steps(["Momentum"], (5, 2), REPEATED_AND_NOT, np.float64, 1e-12)
    check_steps(["Ftrl"], (5, 2), None, np.float16, 5e-3)


def test_counts_go_up_to_their_limit() -> None:
    count = tf.Variable(np.int64(3), name="count")

    @tf.function
    def following() -> Any:
        old = tf.raw_ops.ResourceCountUpTo(resource=count.handle, limit=5, T=tf.int64)
        return old, count.read_value()

    concrete = following.get_concrete_function()
    loaded = load_function(concrete)
    for wanted in (3, 4):
        found, after = loaded.body.run([])
        assert found.dtype == after.dtype == np.int64
        assert [int(x) for x in (found, after)] == [int(x) for x in concrete()]
        assert int(found) == wanted
    with pytest.raises(InvalidArgumentError, match="'count' has counted to 5, and its limit is 5"):
        loaded.body.run([])
    with pytest.raises(tf.errors.OutOfRangeError):
        concrete()
    assert int(loaded.variables["count"].numpy()) == int(count.numpy()) == 5


def test_destroying_a_resource_leaves_what_was_read() -> None:
    value = tf.Variable([1.0, 2.0], name="v")

    @tf.function
    def last(x: tf.Tensor) -> tf.Tensor:
        result = value.read_value() * x
        with tf.control_dependencies([result]):
            tf.raw_ops.DestroyResourceOp(resource=value.handle)
        return result

    x = np.array([3.0, 4.0], np.float32)
    loaded = load_function(last.get_concrete_function(tf.constant(x)))
    np.testing.assert_array_equal(loaded.body.run([x])[0], [3.0, 8.0])
