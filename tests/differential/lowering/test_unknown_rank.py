"""Functions of unknown rank in TensorFlow: one body where it fits, else a branch for each rank."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from savax.function import function
from savax.protos import SavedModel
from savax.saved_model import load, save
from savax.trackable import Module, Variable
from savax.types import TensorSpec

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

ANY = TensorSpec(None, name="x")


class Elementwise(Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = Variable(3.0, name="scale")
        self.calls = Variable(0, trainable=False, name="calls")

    @function(input_signature=[ANY])
    def __call__(self, x):
        self.calls.assign_add(1)
        return {"y": jnp.tanh(x) * self.scale + 1.0}


class LastAxis(Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = Variable(3.0, name="scale")
        self.calls = Variable(0, trainable=False, name="calls")

    @function(input_signature=[ANY])
    def __call__(self, x):
        self.calls.assign_add(1)
        return {"y": jax.nn.softmax(x * self.scale), "mean": x.mean()}


def array(rank: int) -> np.ndarray:
    shape = tuple(range(2, 2 + rank))
    return np.asarray(np.random.default_rng(rank).standard_normal(shape), np.float32)


def library(directory: str) -> list[str]:
    model = SavedModel()
    with open(f"{directory}/saved_model.pb", "rb") as file:
        model.ParseFromString(file.read())
    return [f.signature.name for f in model.meta_graphs[0].graph_def.library.function]


@pytest.fixture(params=[Elementwise, LastAxis], ids=lambda cls: cls.__name__)
def model(request):
    return request.param()


@pytest.mark.parametrize("rank", range(1, 5))
def test_every_rank_gives_equal_results(model, rank, tmp_path) -> None:
    save(model, tmp_path / "m")
    x = array(rank)
    want = model(x)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    for got in (
        loaded(tf.constant(x)),
        loaded.signatures["serving_default"](x=tf.constant(x)),
        load(tmp_path / "m")(x),
    ):
        assert set(got) == set(want)
        for key in want:
            np.testing.assert_allclose(got[key], want[key], atol=1e-6)
    assert loaded.calls.numpy() == 2


def test_elementwise_functions_have_one_body(tmp_path) -> None:
    save(Elementwise(), tmp_path / "one")
    save(LastAxis(), tmp_path / "many")
    assert not any("rank" in name for name in library(str(tmp_path / "one")))
    assert sum("_rank_" in name for name in library(str(tmp_path / "many"))) >= 5


def test_gradients_flow_through_the_branches(model, tmp_path) -> None:
    save(model, tmp_path / "m")
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    x = array(2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(loaded(tf.constant(x))["y"] ** 2)
    got = tape.gradient(loss, loaded.scale)

    def reference(scale):
        if isinstance(model, Elementwise):
            return jnp.sum((jnp.tanh(x) * scale + 1.0) ** 2)
        return jnp.sum(jax.nn.softmax(x * scale) ** 2)

    np.testing.assert_allclose(got, jax.grad(reference)(3.0), rtol=1e-4)


def test_a_rank_without_a_trace_is_refused_in_words(tmp_path) -> None:
    model = LastAxis()
    save(model, tmp_path / "m")
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="the rank of x is not one of"):
        loaded(tf.zeros([1] * 7))


def test_v1_sessions_feed_any_rank(model, tmp_path) -> None:
    save(model, tmp_path / "m")
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "m"))
        signature = meta_graph.signature_def["serving_default"]
        assert signature.inputs["x"].tensor_shape.unknown_rank
        for rank in (1, 3):
            got = session.run(
                signature.outputs["y"].name, {signature.inputs["x"].name: array(rank)}
            )
            np.testing.assert_allclose(got, model(array(rank))["y"], atol=1e-6)
