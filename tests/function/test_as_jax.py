"""Functions and their Variables as pure functions with dicts of arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import savax
from savax import TensorSpec
from savax.errors import InvalidArgumentError, VariableWriteError


class Dense(savax.Module):
    """A layer with a statistic that training updates and a table of integers."""

    def __init__(self) -> None:
        self.kernel = savax.Variable(np.float32([[1, 2], [3, 4], [5, 6]]), name="w")
        self.bias = savax.Variable(np.zeros(2, np.float32), name="w")
        self.mean = savax.Variable(np.zeros(2, np.float32), trainable=False, name="mean")
        self.steps = savax.Variable(np.int64(2**40), name="steps")

    @savax.function(input_signature=[TensorSpec([None, 3])])
    def __call__(self, x: Any) -> Any:
        return x @ self.kernel + self.bias - self.mean

    @savax.function(input_signature=[TensorSpec([None, 3])])
    def train(self, x: Any) -> Any:
        y = x @ self.kernel + self.bias
        self.mean.assign(0.9 * self.mean + 0.1 * y.mean(0))
        self.steps.assign_add(1)
        return y - self.mean


class Net(savax.Module):
    """Two functions over nested layers."""

    def __init__(self) -> None:
        self.layers = [Dense()]

    @savax.function(input_signature=[TensorSpec([None, 3])])
    def predict(self, x: Any) -> Any:
        return self.layers[0](x)

    @savax.function(input_signature=[TensorSpec([None, 3])])
    def train(self, x: Any) -> Any:
        return self.layers[0].train(x)


X = np.float32([[1, 0, 2], [0.5, 1, -1]])


@pytest.fixture(params=["own", "loaded"])
def net(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    if request.param == "own":
        return Net()
    savax.saved_model.save(Net(), tmp_path)
    return savax.saved_model.load(tmp_path)


def test_names_are_object_paths(net: Any) -> None:
    predict, params = savax.as_jax(net.predict, net)
    assert set(params) == {"layers.0.kernel", "layers.0.bias"}
    assert set(predict.state) == {"layers.0.mean", "layers.0.steps"}
    assert predict.state["layers.0.steps"] == 2**40


def test_methods_know_their_object() -> None:
    _, params = savax.as_jax(Net().predict)
    assert set(params) == {"layers.0.kernel", "layers.0.bias"}


def test_without_a_root_names_are_the_variables_own(tmp_path: Any) -> None:
    savax.saved_model.save(Net(), tmp_path)
    loaded: Any = savax.saved_model.load(tmp_path)
    for fn in (loaded.predict, loaded.predict.concrete_functions[0]):
        predict, params = savax.as_jax(fn)
        assert set(params) == {"w", "w_1"}
        np.testing.assert_allclose(predict(params, X), loaded.predict(X))


def test_gradients_under_jit(net: Any) -> None:
    predict, params = savax.as_jax(net.predict, net)
    found = jax.jit(jax.grad(lambda p: jnp.sum(predict(p, X) ** 2)))(params)
    residual = 2 * (X @ np.float32([[1, 2], [3, 4], [5, 6]]))
    np.testing.assert_allclose(found["layers.0.kernel"], X.T @ residual, rtol=1e-5)
    np.testing.assert_allclose(found["layers.0.bias"], residual.sum(0), rtol=1e-5)
    np.testing.assert_array_equal(net.layers[0].bias.numpy(), [0, 0])  # nothing was assigned


def test_signatures_are_functions_too(tmp_path: Any) -> None:
    net = Net()
    savax.saved_model.save(net, tmp_path, signatures=net.predict)
    loaded: Any = savax.saved_model.load(tmp_path)
    serve, params = savax.as_jax(loaded.signatures["serving_default"], loaded)
    doubled = {name: 2 * value for name, value in params.items()}
    result = serve(doubled, x=X)
    np.testing.assert_allclose(result["output_0"], 2 * (X @ params["layers.0.kernel"]))


def test_ensembles_by_vmap(net: Any) -> None:
    predict, params = savax.as_jax(net.predict, net)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 3 * leaf]), params)
    found = jax.vmap(predict, in_axes=(0, None))(many, X)
    np.testing.assert_allclose(found[1], 3 * found[0], rtol=1e-6)


def test_updates_are_returned(net: Any) -> None:
    train, params = savax.as_jax(net.train, net)
    state = train.state
    result, same, new = jax.jit(train.with_updates)(params, state, X)
    assert new["layers.0.steps"].shape == ()
    mean = 0.1 * (X @ params["layers.0.kernel"]).mean(0)
    np.testing.assert_allclose(new["layers.0.mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(result, X @ params["layers.0.kernel"] - mean, rtol=1e-6)
    np.testing.assert_array_equal(same["layers.0.bias"], params["layers.0.bias"])
    np.testing.assert_array_equal(net.layers[0].mean.numpy(), [0, 0])
    train.assign(same, {**new, "layers.0.steps": np.int64(2**41)})
    np.testing.assert_allclose(net.layers[0].mean.numpy(), mean, rtol=1e-6)
    assert net.layers[0].steps.numpy() == 2**41


def test_assignments_are_refused_in_a_pure_call(net: Any) -> None:
    train, params = savax.as_jax(net.train, net)
    with pytest.raises(VariableWriteError, match=r"'mean'.*with_updates"):
        train(params, X)


def test_fine_tuning_and_saving_again(net: Any, tmp_path: Any) -> None:
    predict, params = savax.as_jax(net.predict, net)
    target = np.ones([2, 2], np.float32)
    optimizer = optax.adam(0.3)

    def loss(params: Any) -> Any:
        return jnp.mean((predict(params, X) - target) ** 2)

    @jax.jit
    def step(params: Any, moments: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradients, moments)
        return optax.apply_updates(params, updates), moments, value

    moments, losses = optimizer.init(params), []
    for _ in range(60):
        params, moments, value = step(params, moments)
        losses.append(float(value))
    assert losses[-1] < losses[0] / 50
    predict.assign(params)
    savax.saved_model.save(net, tmp_path / "tuned")
    again: Any = savax.saved_model.load(tmp_path / "tuned")
    np.testing.assert_allclose(again.predict(X), predict(params, X), rtol=1e-5)


def test_all_problems_of_parameters_are_told(net: Any) -> None:
    predict, params = savax.as_jax(net.predict, net)
    del params["layers.0.bias"]
    params["other"] = jnp.zeros(1)
    params["layers.0.kernel"] = jnp.zeros([3, 1])
    with pytest.raises(InvalidArgumentError) as error:
        predict(params, X)
    for part in (
        "'layers.0.bias' is missing",
        "there is no 'other'",
        "'layers.0.kernel' has the shape (3, 1), not (3, 2)",
    ):
        assert part in str(error.value)


def test_nothing_is_assigned_of_wrong_parameters(net: Any) -> None:
    predict, _ = savax.as_jax(net.predict, net)
    wrong = {"layers.0.bias": jnp.ones(2), "layers.0.kernel": jnp.ones([3, 2], jnp.int32)}
    with pytest.raises(InvalidArgumentError, match=r"'layers.0.kernel' is int32, not float32"):
        predict.assign(wrong)
    np.testing.assert_array_equal(net.layers[0].bias.numpy(), [0, 0])


def test_plain_functions_close_over_variables() -> None:
    scale = savax.Variable(2.0, name="scale")

    def scaled(x: Any) -> Any:
        return scale * x

    pure, params = savax.as_jax(scaled)
    assert float(jax.grad(lambda p: pure(p, 5.0))(params)["scale"]) == 5.0


def test_no_function() -> None:
    with pytest.raises(InvalidArgumentError, match="takes a function"):
        savax.as_jax(3)  # type: ignore[arg-type]
