"""value_and_grad: derivatives with respect to Variables and arguments, equal to JAX's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from savax.errors import InvalidArgumentError, VariableWriteError
from savax.function import function, grad, value_and_grad
from savax.trackable import Module, Variable


class Linear(Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = Variable(np.arange(6, dtype=np.float32).reshape(3, 2), name="w")
        self.b = Variable(np.ones(2, np.float32), name="b")
        self.calls = Variable(0, trainable=False, name="calls")

    @function
    def loss(self, x):
        self.calls.assign_add(1)
        return jnp.mean((x @ self.w + self.b) ** 2)


X = jnp.linspace(-1, 1, 12).reshape(4, 3)


def reference(w, b, x):
    return jnp.mean((x @ w + b) ** 2)


@pytest.fixture(params=["function", "plain", "method"])
def model_and_loss(request):
    model = Linear()
    python = model.loss.python_function
    return model, {
        "function": model.loss,
        "plain": lambda x: python(x),
        "method": python,
    }[request.param]


def test_equals_jax(model_and_loss) -> None:
    model, loss = model_and_loss
    want, (want_w, want_b, want_x) = jax.value_and_grad(reference, (0, 1, 2))(
        model.w.value, model.b.value, X
    )
    value, (of_x, of_variables) = value_and_grad(
        loss, variables={"w": model.w, "b": model.b}, argnums=0
    )(X)
    np.testing.assert_allclose(value, want, rtol=1e-6)
    np.testing.assert_allclose(of_variables["w"], want_w, rtol=1e-6)
    np.testing.assert_allclose(of_variables["b"], want_b, rtol=1e-6)
    np.testing.assert_allclose(of_x, want_x, rtol=1e-6)


def test_assignments_happen_once(model_and_loss) -> None:
    model, loss = model_and_loss
    differentiate = value_and_grad(loss, variables=[model.w])
    differentiate(X)
    assert int(model.calls) == 1
    differentiate(X)
    assert int(model.calls) == 2


def test_sees_new_values(model_and_loss) -> None:
    model, loss = model_and_loss
    differentiate = value_and_grad(loss, variables=model.b)
    before, _ = differentiate(X)
    model.w.assign(jnp.zeros((3, 2)))
    after, gradient = differentiate(X)
    assert float(after) == 1 != float(before)
    np.testing.assert_allclose(gradient, [1, 1])


def test_a_module_stands_for_its_trainable_variables() -> None:
    model = Linear()
    _, gradients = value_and_grad(model.loss, variables=model)(X)
    assert [g.shape for g in gradients] == [v.shape for v in model.trainable_variables]


def test_finds_the_variables_itself(model_and_loss) -> None:
    model, loss = model_and_loss
    _, gradients = value_and_grad(loss)(X)
    assert set(gradients) == {model.w.ref(), model.b.ref()}
    assert int(model.calls) == 1


def test_has_aux() -> None:
    v = Variable(2.0)

    @function
    def f(x):
        return v * x, {"twice": 2 * x}

    (value, aux), gradient = value_and_grad(f, variables=v, has_aux=True)(jnp.float32(3))
    assert (float(value), float(aux["twice"]), float(gradient)) == (6, 6, 3)
    gradient, aux = grad(f, argnums=0, has_aux=True)(jnp.float32(3))
    assert (float(gradient), float(aux["twice"])) == (2, 6)


def test_argnums_follow_jax() -> None:
    f = function(lambda a, b: a["k"] ** 2 * b)
    a, b = {"k": jnp.float32(3)}, jnp.float32(2)
    _, (of_a, of_b) = value_and_grad(f, argnums=(0, 1))(a, b)
    assert float(of_a["k"]) == 12
    assert float(of_b) == 9
    assert float(grad(f, argnums=-1)(a, b)) == 9


def test_a_training_step_is_a_function() -> None:
    model = Linear()

    @function
    def step(x):
        value, gradients = value_and_grad(model.loss, variables=[model.w, model.b])(x)
        for variable, gradient in zip((model.w, model.b), gradients, strict=True):
            variable.assign_sub(0.1 * gradient)
        return value

    losses = [float(step(X)) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert int(model.calls) == 20
    assert step.experimental_get_tracing_count() == 1


def test_second_derivatives() -> None:
    v = Variable(2.0)
    cube = function(lambda: v**3)
    assert float(grad(grad(cube, variables=v), variables=v)()) == 12


@pytest.mark.parametrize("variables", ["model", [3]])
def test_what_is_no_variable_is_refused(variables) -> None:
    with pytest.raises(InvalidArgumentError, match=r"no savax\.Variable"):
        value_and_grad(lambda: 0.0, variables=variables)()


def test_integer_variables_are_refused_by_name() -> None:
    model = Linear()
    with pytest.raises(ValueError, match=r"'calls' \(int32\)"):
        value_and_grad(model.loss, variables=[model.calls])(X)


def test_nothing_to_differentiate_is_an_error() -> None:
    with pytest.raises(ValueError, match="no trainable"):
        value_and_grad(function(lambda x: x))(jnp.float32(1))


def test_argnums_out_of_range() -> None:
    with pytest.raises(ValueError, match="argnums=2"):
        grad(function(lambda x: x), argnums=2)(jnp.float32(1))


def test_assignment_inside_an_inner_transformation_is_refused() -> None:
    v = Variable(1.0)

    def loss(x):
        jax.jit(lambda y: v.assign(y).value)(x)
        return x * v

    with pytest.raises(VariableWriteError, match="Variable"):
        value_and_grad(loss, variables=v)(jnp.float32(1))
