"""Steps of TensorFlow's optimizers: each reads and writes a Variable and its slots.

A step is a function of the Variable's value, its slots, and the op's other inputs and attributes by
their names; it returns the new value and slots. The sparse ops take the same steps, of some rows.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from savax.function._op_schemas import is_known_op, op_schema
from savax.function.ops._registry import evaluates, rule_keywords
from savax.function.ops.state import small_index

if TYPE_CHECKING:
    from collections.abc import Callable

    from savax.function.evaluation._plan_values import ResourceHandle
    from savax.function.evaluation._walk import NodeContext

    _State = tuple[Any, ...]
    _Step = Callable[..., _State]


def _gradient_descent(value: Any, *, alpha: Any, grad: Any) -> _State:
    return (value - alpha * grad,)


def _momentum(
    value: Any, speed: Any, *, lr: Any, grad: Any, momentum: Any, use_nesterov: bool
) -> _State:
    speed = speed * momentum + grad
    step = grad + speed * momentum if use_nesterov else speed
    return value - step * lr, speed


def _keras_momentum(
    value: Any, speed: Any, *, lr: Any, grad: Any, momentum: Any, use_nesterov: bool
) -> _State:
    speed = speed * momentum - grad * lr
    return value + (speed * momentum - grad * lr if use_nesterov else speed), speed


def _adam(
    value: Any,
    first: Any,
    second: Any,
    *,
    beta1_power: Any,
    beta2_power: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    grad: Any,
    use_nesterov: bool,
) -> _State:
    rate = lr * jnp.sqrt(1 - beta2_power) / (1 - beta1_power)
    first = first + (grad - first) * (1 - beta1)
    second = second + (jnp.square(grad) - second) * (1 - beta2)
    direction = grad * (1 - beta1) + beta1 * first if use_nesterov else first
    return value - direction * rate / (jnp.sqrt(second) + epsilon), first, second


def _adam_with_amsgrad(
    value: Any,
    first: Any,
    second: Any,
    largest: Any,
    *,
    beta1_power: Any,
    beta2_power: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    grad: Any,
) -> _State:
    rate = lr * jnp.sqrt(1 - beta2_power) / (1 - beta1_power)
    first = first + (grad - first) * (1 - beta1)
    second = second + (jnp.square(grad) - second) * (1 - beta2)
    largest = jnp.maximum(largest, second)
    return value - first * rate / (jnp.sqrt(largest) + epsilon), first, second, largest


def _adamax(
    value: Any,
    first: Any,
    largest: Any,
    *,
    beta1_power: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    grad: Any,
) -> _State:
    first = first + (grad - first) * (1 - beta1)
    largest = jnp.maximum(beta2 * largest, jnp.abs(grad))
    return value - lr / (1 - beta1_power) * (first / (largest + epsilon)), first, largest


def _adagrad(value: Any, total: Any, *, lr: Any, grad: Any, update_slots: bool) -> _State:
    return _adagrad_v2(value, total, lr=lr, epsilon=0, grad=grad, update_slots=update_slots)


def _adagrad_v2(
    value: Any, total: Any, *, lr: Any, epsilon: Any, grad: Any, update_slots: bool
) -> _State:
    if update_slots:
        total = total + jnp.square(grad)
    return value - grad * lr / (jnp.sqrt(total) + epsilon), total


def _adagrad_da(
    value: Any,
    total: Any,
    squares: Any,
    *,
    grad: Any,
    lr: Any,
    l1: Any,
    l2: Any,
    global_step: Any,
) -> _State:
    total, squares = total + grad, squares + jnp.square(grad)
    steps = jnp.asarray(global_step).astype(total.dtype)
    shrunk = jnp.where(l1 > 0, _shrunk(total, l1 * steps), total)
    return -lr * shrunk / (l2 * steps * lr + jnp.sqrt(squares)), total, squares


def _adadelta(
    value: Any, squares: Any, steps: Any, *, lr: Any, rho: Any, epsilon: Any, grad: Any
) -> _State:
    squares = squares * rho + jnp.square(grad) * (1 - rho)
    step = jnp.sqrt(steps + epsilon) / jnp.sqrt(squares + epsilon) * grad
    return value - step * lr, squares, steps * rho + jnp.square(step) * (1 - rho)


def _rms_prop(
    value: Any,
    squares: Any,
    speed: Any,
    *,
    lr: Any,
    rho: Any,
    momentum: Any,
    epsilon: Any,
    grad: Any,
) -> _State:
    squares = squares + (jnp.square(grad) - squares) * (1 - rho)
    speed = speed * momentum + grad * lr / jnp.sqrt(squares + epsilon)
    return value - speed, squares, speed


def _centered_rms_prop(
    value: Any,
    mean: Any,
    squares: Any,
    speed: Any,
    *,
    lr: Any,
    rho: Any,
    momentum: Any,
    epsilon: Any,
    grad: Any,
) -> _State:
    squares = squares + (jnp.square(grad) - squares) * (1 - rho)
    mean = mean + (grad - mean) * (1 - rho)
    speed = speed * momentum + grad * lr / jnp.sqrt(squares - jnp.square(mean) + epsilon)
    return value - speed, mean, squares, speed


def _add_sign(
    value: Any, mean: Any, *, lr: Any, alpha: Any, sign_decay: Any, beta: Any, grad: Any
) -> _State:
    mean = mean * beta + grad * (1 - beta)
    agreement = jnp.sign(grad) * jnp.sign(mean)
    return value - lr * (alpha + sign_decay * agreement) * grad, mean


def _power_sign(
    value: Any, mean: Any, *, lr: Any, logbase: Any, sign_decay: Any, beta: Any, grad: Any
) -> _State:
    mean = mean * beta + grad * (1 - beta)
    agreement = jnp.sign(grad) * jnp.sign(mean)
    return value - lr * jnp.exp(logbase * sign_decay * agreement) * grad, mean


# Proximal steps: after a step of the loss, the value is moved towards zero.


def _shrunk(value: Any, amount: Any) -> Any:
    """Moves a value towards zero, and not beyond."""
    return jnp.sign(value) * jnp.maximum(jnp.abs(value) - amount, 0)


def _proximal(value: Any, rate: Any, l1: Any, l2: Any) -> Any:
    return jnp.where(l1 > 0, _shrunk(value, rate * l1), value) / (1 + l2 * rate)


def _proximal_gradient_descent(value: Any, *, alpha: Any, l1: Any, l2: Any, grad: Any) -> _State:
    return (_proximal(value - grad * alpha, alpha, l1, l2),)


def _proximal_adagrad(value: Any, total: Any, *, lr: Any, l1: Any, l2: Any, grad: Any) -> _State:
    total = total + jnp.square(grad)
    rate = lr / jnp.sqrt(total)
    return _proximal(value - grad * rate, rate, l1, l2), total


def _ftrl(
    value: Any,
    total: Any,
    linear: Any,
    *,
    grad: Any,
    lr: Any,
    l1: Any,
    l2: Any,
    lr_power: Any,
    multiply_linear_by_lr: bool,
    l2_shrinkage: Any = 0,
) -> _State:
    # The linear part may be kept as a multiple of the learning rate.
    unit, divisor = (lr, 1) if multiply_linear_by_lr else (1, lr)
    new_total = total + jnp.square(grad)
    powers = [jnp.where(lr_power == -0.5, jnp.sqrt(t), t**-lr_power) for t in (new_total, total)]
    pull = grad + 2 * l2_shrinkage * value
    linear = linear + pull * unit - (powers[0] - powers[1]) / divisor * value
    bound = l1 * unit
    quadratic = powers[0] / divisor + 2 * l2 * unit
    return (jnp.clip(linear, -bound, bound) - linear) / quadratic, new_total, linear


# The names of TensorFlow's ops after ResourceApply and ResourceSparseApply.
_STEPS: dict[str, _Step] = {
    "AdaMax": _adamax,
    "Adadelta": _adadelta,
    "Adagrad": _adagrad,
    "AdagradDA": _adagrad_da,
    "AdagradV2": _adagrad_v2,
    "Adam": _adam,
    "AdamWithAmsgrad": _adam_with_amsgrad,
    "AddSign": _add_sign,
    "CenteredRMSProp": _centered_rms_prop,
    "Ftrl": _ftrl,
    "FtrlV2": _ftrl,
    "GradientDescent": _gradient_descent,
    "KerasMomentum": _keras_momentum,
    "Momentum": _momentum,
    "PowerSign": _power_sign,
    "ProximalAdagrad": _proximal_adagrad,
    "ProximalGradientDescent": _proximal_gradient_descent,
    "RMSProp": _rms_prop,
}


class _StepRule:
    """The evaluation of an op that takes a step.

    Args:
      op: its name.
      step: what it computes.
    """

    def __init__(self, op: str, step: _Step) -> None:
        inputs = op_schema(op).inputs
        self._step = step
        self._names = [arg.name for arg in inputs]
        self._slots = sum(arg.type is not None and arg.type.name == "resource" for arg in inputs)
        attrs = sorted(rule_keywords(step) & set(op_schema(op).attrs))
        parameter = inspect.Parameter
        self.__signature__ = inspect.Signature(
            [
                *(parameter(name, parameter.POSITIONAL_ONLY) for name in ("ctx", *self._names)),
                *(parameter(name, parameter.KEYWORD_ONLY) for name in attrs),
            ]
        )

    def __call__(self, ctx: NodeContext, *inputs: Any, **attrs: Any) -> None:
        handles: tuple[ResourceHandle, ...] = inputs[: self._slots]
        numbers = dict(zip(self._names[self._slots :], inputs[self._slots :], strict=True))
        if "delta" in numbers:
            numbers["grad"] = numbers.pop("delta")
        state = tuple(jnp.asarray(ctx.read(handle)) for handle in handles)
        if "indices" in numbers:
            found = _rows_after(self._step, state, **numbers, **attrs)
        else:
            found = self._step(*state, **numbers, **attrs)
        for handle, value in zip(handles, found, strict=True):
            ctx.write(handle, value)


def _rows_after(step: _Step, state: _State, *, grad: Any, indices: Any, **others: Any) -> _State:
    """Takes a step of some rows; one after the other where a row occurs repeatedly."""
    index = small_index(indices, state[0].shape)
    index = jnp.where(index < 0, np.int32(state[0].shape[0]), index)
    grad = jnp.asarray(grad)
    if not index.shape[0]:
        return state

    def after(state: _State, index: Any, grad: Any) -> _State:
        rows = (each.at[index].get(mode="clip") for each in state)
        found = step(*rows, grad=grad, **others)
        pairs = zip(state, found, strict=True)
        return tuple(each.at[index].set(row, mode="drop") for each, row in pairs)

    def one_by_one(state: _State) -> _State:
        def body(i: Any, state: _State) -> _State:
            return after(state, index[i], grad[i])

        last: _State = jax.lax.fori_loop(0, index.shape[0], body, state)
        return last

    ordered = jnp.sort(index)
    repeats = jnp.any(ordered[1:] == ordered[:-1])
    found: _State = jax.lax.cond(
        repeats, one_by_one, lambda state: after(state, index, grad), state
    )
    return found


for _name, _step in _STEPS.items():
    for _op in (f"ResourceApply{_name}", f"ResourceSparseApply{_name}"):
        if is_known_op(_op):
            evaluates(_op, with_context=True, ignores=("use_locking",))(_StepRule(_op, _step))
