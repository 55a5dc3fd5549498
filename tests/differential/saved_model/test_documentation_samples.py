"""The samples of TensorFlow's page on ``tf.saved_model.save`` (r2.4), after ``import savax as tf``.

Keras isn't part of savax, so where the page says ``tf.keras.Model`` these say ``tf.Module``. What
is saved is served by the real TensorFlow.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import savax as tf
from savax.errors import InvalidArgumentError
from savax.protos import MetaGraphDef, SavedModel, parse

tensorflow = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf


def meta_graph(directory: Any) -> MetaGraphDef:
    data = (directory / "saved_model.pb").read_bytes()
    return parse(SavedModel, data, "saved_model.pb").meta_graphs[0]


class Adder(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec(shape=None, dtype=tf.float32)])
    def add(self, x):
        return x + x + 1.0


@pytest.fixture(scope="module")
def adder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("adder") / "model"
    to_export = Adder()
    tf.saved_model.save(to_export, directory)
    return directory


@pytest.mark.parametrize("rank", range(4))
def test_adder_is_servable_at_any_rank(adder, rank) -> None:
    x = np.arange(2**rank, dtype=np.float32).reshape((2,) * rank)
    signature = tensorflow.saved_model.load(str(adder)).signatures["serving_default"]
    np.testing.assert_array_equal(signature(x=tensorflow.constant(x))["output_0"], 2 * x + 1)
    with tensorflow.compat.v1.Session(graph=tensorflow.Graph()) as session:
        loaded = tensorflow.compat.v1.saved_model.load(session, ["serve"], str(adder))
        definition = loaded.signature_def["serving_default"]
        got = session.run(definition.outputs["output_0"].name, {definition.inputs["x"].name: x})
    np.testing.assert_array_equal(got, 2 * x + 1)
    np.testing.assert_array_equal(tf.saved_model.load(adder).add(x), 2 * x + 1)


def test_adder_has_an_input_named_x_of_any_shape(adder) -> None:
    definition = meta_graph(adder).signature_def["serving_default"]
    assert set(definition.inputs) == {"x"}
    assert definition.inputs["x"].tensor_shape.unknown_rank
    assert definition.inputs["x"].dtype == tf.float32.number


class Classifier(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(jnp.ones((3, 2)), name="kernel")

    @tf.function
    def call(self, x):
        return x @ self.kernel


def test_exporting_from_a_function_without_a_fixed_signature(tmp_path) -> None:
    m = Classifier()
    tf.saved_model.save(
        m,
        tmp_path / "saved_model",
        signatures=m.call.get_concrete_function(
            tf.TensorSpec(shape=[None, 3], dtype=tf.float32, name="inp")
        ),
    )
    loaded = tensorflow.saved_model.load(str(tmp_path / "saved_model"))
    for batch in (1, 4):
        x = np.ones((batch, 3), np.float32)
        got = loaded.signatures["serving_default"](inp=tensorflow.constant(x))
        np.testing.assert_array_equal(got["output_0"], x @ np.ones((3, 2)))
    definition = meta_graph(tmp_path / "saved_model").signature_def["serving_default"]
    assert definition.inputs["inp"].name == "serving_default_inp:0"


class Serializing(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec(shape=[None], dtype=tf.float32)])
    def serve(self, serialized):
        return {"twice": serialized * 2}


def test_exporting_with_a_signature_specified(tmp_path) -> None:
    tf.saved_model.save(Serializing(), tmp_path / "m")
    loaded = tensorflow.saved_model.load(str(tmp_path / "m"))
    got = loaded.signatures["serving_default"](serialized=tensorflow.constant([1.0, 2.0]))
    np.testing.assert_array_equal(got["twice"], [2, 4])


class TwoMethods(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rate = tf.Variable(3.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def scale(self, x):
        return {"scaled": x * self.rate}

    @tf.function
    def shift(self, x, by=1):
        return x + self.rate + by


def test_a_dict_of_signatures(tmp_path) -> None:
    m = TwoMethods()
    signatures = {
        "scale": m.scale,
        "shift": m.shift.get_concrete_function(tf.TensorSpec([], tf.float32), by=2),
    }
    tf.saved_model.save(m, tmp_path / "m", signatures)
    loaded = tensorflow.saved_model.load(str(tmp_path / "m"))
    assert set(loaded.signatures) == {"scale", "shift"}
    got = loaded.signatures["scale"](x=tensorflow.constant([1.0, 2.0]))
    np.testing.assert_array_equal(got["scaled"], [3, 6])
    got = loaded.signatures["shift"](x=tensorflow.constant(1.0))
    np.testing.assert_array_equal(got["output_0"], 6)


class MyModel(tf.Module):
    @tf.function
    def func(self):
        return jnp.arange(3.0)

    @tf.function
    def serve(self):
        return self.func() * 2


@pytest.mark.parametrize("which", ["function", "concrete", "list"])
def test_function_aliases(which, tmp_path) -> None:
    model = MyModel()
    signatures = {"serving_default": model.serve.get_concrete_function()}
    aliased = {
        "function": lambda: model.func,
        "concrete": lambda: model.func.get_concrete_function(),
        "list": lambda: [model.func.get_concrete_function()],
    }[which]()
    options = tf.saved_model.SaveOptions(function_aliases={"my_func": aliased})
    tf.saved_model.save(model, tmp_path / "m", signatures, options)

    found = meta_graph(tmp_path / "m")
    (name,) = found.meta_info_def.function_aliases
    assert found.meta_info_def.function_aliases[name] == "my_func"
    assert name.startswith("__inference_func_")
    assert name in found.object_graph_def.concrete_functions
    theirs = tensorflow.saved_model.load(
        str(tmp_path / "m"),
        options=tensorflow.saved_model.LoadOptions(experimental_load_function_aliases=True),
    )
    np.testing.assert_array_equal(theirs.function_aliases["my_func"](), [0, 1, 2])
    np.testing.assert_array_equal(theirs.signatures["serving_default"]()["output_0"], [0, 2, 4])
    ours = tf.saved_model.load(
        tmp_path / "m", options=tf.saved_model.LoadOptions(experimental_load_function_aliases=True)
    )
    np.testing.assert_array_equal(ours.function_aliases["my_func"](), [0, 1, 2])


def test_an_alias_of_a_function_that_the_model_does_not_hold(tmp_path) -> None:
    model = MyModel()

    @tf.function
    def outside(x):
        return x + 1

    outside(1.0)
    options = tf.saved_model.SaveOptions(function_aliases={"f": outside})
    tf.saved_model.save(model, tmp_path / "m", {}, options)
    assert list(meta_graph(tmp_path / "m").meta_info_def.function_aliases.values()) == ["f"]
    tensorflow.saved_model.load(str(tmp_path / "m"))


def test_a_custom_signatures_attribute_is_refused(tmp_path) -> None:
    m = Adder()
    m.signatures = {"serving_default": m.add}
    with pytest.raises(InvalidArgumentError, match="'signatures'"):
        tf.saved_model.save(m, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("where", ["variables/variables", "variables", "variables/"])
def test_an_exported_checkpoint_restores_as_a_training_checkpoint(where, tmp_path) -> None:
    # The page says: "by pointing tf.train.Checkpoint.restore to the SavedModel's "variables/"
    # subdirectory".
    exported = tf.train.Checkpoint(model=Classifier(), step=tf.Variable(7, dtype=tf.int64))
    exported.model.kernel.assign(jax.random.normal(jax.random.key(0), (3, 2)))
    tf.saved_model.save(exported, tmp_path / "m")

    fresh = tf.train.Checkpoint(model=Classifier(), step=tf.Variable(0, dtype=tf.int64))
    path = f"{tmp_path}/m/{where}"
    fresh.restore(path).expect_partial()
    assert int(fresh.step.numpy()) == 7
    np.testing.assert_array_equal(fresh.model.kernel.numpy(), exported.model.kernel.numpy())
    if where == "variables/variables":
        theirs = tensorflow.train.Checkpoint(step=tensorflow.Variable(0, dtype=tensorflow.int64))
        theirs.restore(path).expect_partial()
        assert theirs.step.numpy() == 7


@pytest.mark.parametrize(
    "obj", [3, {"a": 1}, [tf.Module()], None], ids=lambda value: type(value).__name__
)
def test_what_is_not_trackable_is_refused(obj, tmp_path) -> None:
    with pytest.raises(ValueError, match="can't be saved"):
        tf.saved_model.save(obj, tmp_path / "m")


def test_saving_inside_a_function_is_refused(tmp_path) -> None:
    @tf.function
    def f(x):
        tf.saved_model.save(Adder(), tmp_path / "m")
        return x

    with pytest.raises(AssertionError, match=r"inside a savax\.function"):
        f(1.0)


def test_the_exported_model_strips_default_attributes(adder) -> None:
    found = meta_graph(adder)
    assert found.meta_info_def.stripped_default_attrs
    theirs = tensorflow.compat.v1.GraphDef.FromString(found.graph_def.SerializeToString())
    before = theirs.SerializeToString(deterministic=True)
    from tensorflow.python.framework import meta_graph as their_meta_graph

    their_meta_graph.strip_graph_default_valued_attrs(
        tensorflow.compat.v1.MetaGraphDef(graph_def=theirs)
    )
    wrapped = tensorflow.compat.v1.MetaGraphDef(graph_def=theirs)
    their_meta_graph.strip_graph_default_valued_attrs(wrapped)
    assert wrapped.graph_def.SerializeToString(deterministic=True) == before
