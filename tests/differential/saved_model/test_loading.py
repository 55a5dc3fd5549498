"""Models that TensorFlow wrote: tags, options, forms of the file, and what one does with them."""

from __future__ import annotations

import shutil
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import savax as sv
import savax.protos
from savax.errors import (
    InvalidArgumentError,
    NotFoundError,
    SignatureMismatchError,
)
from savax.saved_model import LoadOptions, ModelChangedWarning, TagsMismatchError, load, save

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf


class Model(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable([1.0, 2.0], name="w")
        self.state = [tf.Variable(2**40, dtype=tf.int64), {"mask": tf.Variable([True, False])}]
        self.name_of_it = (tf.Variable(b"abc"), 3)
        self.half = tf.Variable(tf.constant([1.5], tf.bfloat16))
        self.inner = tf.Module()
        self.inner.v = tf.Variable(tf.ones([2, 2]), trainable=False)
        self.inner.parent = self

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
    def __call__(self, x):
        return {"y": x * self.w}

    @tf.function(
        input_signature=[tf.TensorSpec([], tf.float32, "a"), tf.TensorSpec([], tf.float32, "b")]
    )
    def two(self, a, b):
        return a - b


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("tensorflow") / "model"
    model = Model()
    options = tf.saved_model.SaveOptions(function_aliases={"twice": model.two})
    signatures = {"serving_default": model.__call__, "two": model.two}
    tf.saved_model.save(model, str(path), signatures, options)
    return path


def test_attributes(directory) -> None:
    model = load(directory)
    assert model.state[0].numpy() == 2**40
    assert model.state[1]["mask"].numpy().tolist() == [True, False]
    assert model.name_of_it[0].numpy() == b"abc"
    assert model.half.dtype is sv.bfloat16
    assert model.half.numpy()[0] == 1.5
    assert not model.inner.v.trainable
    assert model.inner.parent is model
    assert model.tensorflow_version == tf.__version__
    assert model.tensorflow_git_version == tf.version.GIT_VERSION
    assert not hasattr(model, "variables")


def test_it_is_callable_if_the_saved_object_was(directory, tmp_path) -> None:
    np.testing.assert_array_equal(load(directory)(jnp.ones((1, 2)))["y"], [[1, 2]])
    module = tf.Module()
    module.f = tf.function(lambda x: x, input_signature=[tf.TensorSpec([], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "m"))
    assert not callable(load(tmp_path / "m"))


def test_signatures(directory) -> None:
    signatures = load(directory).signatures
    x = np.ones((1, 2), np.float32)
    assert set(signatures) == {"serving_default", "two"}
    assert len(signatures) == 2
    np.testing.assert_array_equal(signatures["serving_default"](x)["y"], [[1, 2]])
    np.testing.assert_array_equal(signatures["serving_default"](x=x)["y"], [[1, 2]])
    assert signatures["two"](b=np.float32(1), a=np.float32(3))["output_0"] == 2
    with pytest.raises(TypeError):
        signatures["other"] = signatures["two"]
    with pytest.raises(KeyError):
        signatures["other"]
    with pytest.raises(SignatureMismatchError):
        signatures["two"](a=np.float32(1))
    with pytest.raises(SignatureMismatchError):
        signatures["serving_default"](z=x)


@pytest.mark.parametrize("tags", [None, "serve", ["serve"], {"serve"}, ("serve",)], ids=repr)
def test_tags_that_fit(tags, directory) -> None:
    tf.saved_model.load(str(directory), tags)
    assert load(directory, tags).w.shape == (2,)


@pytest.mark.parametrize("tags", ["train", ["serve", "train"], [], "", {"gpu"}], ids=repr)
def test_tags_that_do_not_fit(tags, directory) -> None:
    with pytest.raises(ValueError) as theirs:
        tf.saved_model.load(str(directory), tags)
    with pytest.raises(TagsMismatchError, match="it has: serve") as ours:
        load(directory, tags)
    assert isinstance(ours.value, theirs.type)


def test_extra_tags(tmp_path) -> None:
    module = sv.Module()
    module.v = sv.Variable(1.0)
    save(module, tmp_path / "m", options=sv.saved_model.SaveOptions(extra_tags=["a", "b"]))
    for tags in (None, ["serve", "b", "a"]):
        assert load(tmp_path / "m", tags).v.numpy() == 1
        assert tf.saved_model.load(str(tmp_path / "m"), tags).v.numpy() == 1
    for read, kind in ((load, TagsMismatchError), (tf.saved_model.load, ValueError)):
        with pytest.raises(kind):
            read(str(tmp_path / "m"), "serve")


def test_two_meta_graphs_need_tags(tmp_path) -> None:
    builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "m"))
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        v = tf.compat.v1.get_variable("v", initializer=1.0)
        session.run(v.initializer)
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.add_meta_graph(["serve", "gpu"])
    builder.save()
    with pytest.raises(ValueError) as error:
        load(tmp_path / "m")
    assert "gpu, serve" in str(error.value)


def test_skip_checkpoint(directory) -> None:
    model = load(directory, options=LoadOptions(experimental_skip_checkpoint=True))
    assert model.w.shape == (2,)
    with pytest.raises(InvalidArgumentError, match="no value"):
        model.w.numpy()
    with pytest.raises(InvalidArgumentError, match="no value"):
        model(np.ones((1, 2), np.float32))
    model.w.assign([3.0, 4.0])
    np.testing.assert_array_equal(model(np.ones((1, 2), np.float32))["y"], [[3, 4]])


def test_partial_checkpoint(directory, tmp_path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    shutil.rmtree(copy / "variables")
    (copy / "fingerprint.pb").unlink()
    partial = tf.train.Checkpoint(w=tf.Variable([5.0, 6.0]))
    partial.write(str(copy / "variables" / "variables"))
    with pytest.raises(ValueError, match="allow_partial_checkpoint"):
        load(copy)
    model = load(copy, options=LoadOptions(allow_partial_checkpoint=True))
    assert model.w.numpy().tolist() == [5, 6]
    with pytest.raises(InvalidArgumentError, match="no value"):
        model.half.numpy()


def test_a_checkpoint_that_numbers_its_objects_otherwise(tmp_path) -> None:
    module = tf.Module()
    module.a, module.b = tf.Variable(1.0), tf.Variable(2.0)
    module.f = tf.function(lambda: module.a - module.b, input_signature=[])
    tf.saved_model.save(module, str(tmp_path / "m"))
    other = tf.Module()
    other.b, other.a = tf.Variable(20.0), tf.Variable(10.0)
    tf.train.Checkpoint(root=other).write(str(tmp_path / "m" / "variables" / "variables"))
    assert tf.saved_model.load(str(tmp_path / "m")).a.numpy() == 10
    with pytest.warns(ModelChangedWarning, match=r"variables\.index changed after"):
        model = load(tmp_path / "m")
    assert [model.a.numpy(), model.b.numpy(), float(model.f())] == [10, 20, -10]


def test_slot_variables_of_an_optimizer(tmp_path) -> None:
    from tensorflow.python.keras.optimizer_v2 import gradient_descent

    module = tf.Module()
    module.v, module.w = tf.Variable([1.0, 2.0]), tf.Variable([3.0])
    module.optimizer = gradient_descent.SGD(0.5, momentum=0.5)
    gradients = [(tf.constant([1.0, 2.0]), module.v), (tf.constant([7.0]), module.w)]
    module.optimizer.apply_gradients(gradients)
    tf.saved_model.save(module, str(tmp_path / "m"))
    for path in (tmp_path / "m", tmp_path / "again"):
        model = load(path)
        for name in ("v", "w"):
            slot = model.optimizer.get_slot(getattr(model, name), "momentum")
            want = module.optimizer.get_slot(getattr(module, name), "momentum")
            np.testing.assert_array_equal(slot.numpy(), want.numpy())
        if path.name == "m":
            save(model, tmp_path / "again")
    tf.saved_model.load(str(tmp_path / "again"))


def test_function_aliases(directory) -> None:
    assert not hasattr(load(directory), "function_aliases")
    model = load(directory, options=LoadOptions(experimental_load_function_aliases=True))
    assert model.function_aliases["twice"](3.0, 1.0) == 2


def test_options_that_do_nothing_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="experimental_io_device"):
        LoadOptions(experimental_io_device="/job:worker")
    with pytest.raises(TypeError, match="'f'"):
        sv.saved_model.SaveOptions(function_aliases={"f": 3})


def test_text_form(directory, tmp_path) -> None:
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    copy = shutil.copytree(directory, tmp_path / "copy")
    proto = saved_model_pb2.SavedModel.FromString((copy / "saved_model.pb").read_bytes())
    (copy / "saved_model.pbtxt").write_text(text_format.MessageToString(proto))
    (copy / "saved_model.pb").unlink()
    np.testing.assert_array_equal(load(copy)(jnp.ones((1, 2)))["y"], [[1, 2]])
    assert sv.saved_model.contains_saved_model(copy)
    (copy / "saved_model.pbtxt").write_text("meta_graphs { bogus: 1 }")
    with pytest.raises(OSError):
        load(copy)


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ("variables/variables.index", "variables.index"),
        ("variables/variables.data-00000-of-00001", "data-00000-of-00001"),
        ("variables", "variables"),
        ("saved_model.pb", "saved_model.pb"),
        (".", "directory"),
    ],
)
def test_missing_files(missing, text, directory, tmp_path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    path = copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises((OSError, tf.errors.OpError)):
        tf.saved_model.load(str(copy))
    with pytest.raises(OSError, match=text) as error:
        load(copy)
    assert "copy" in str(error.value)
    if missing in ("saved_model.pb", "."):
        assert isinstance(error.value, NotFoundError)
        assert not sv.saved_model.contains_saved_model(copy)


@pytest.mark.parametrize("missing", ["fingerprint.pb", "assets"])
def test_files_that_may_be_missing(missing, directory, tmp_path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    path = copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert load(copy).w.shape == (2,)


def test_trained_variables_are_what_is_saved_again(directory, tmp_path) -> None:
    model = load(directory)

    def loss(x):
        return jnp.sum((model(x)["y"] - 3.0) ** 2)

    x = jnp.ones((1, 2))
    before = loss(x)
    _, gradients = sv.value_and_grad(loss, [model.w])(x)
    for variable, gradient in zip([model.w], gradients, strict=True):
        variable.assign_sub(0.1 * gradient)
    assert loss(x) < before
    save(model, tmp_path / "m")
    theirs = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_allclose(theirs.w.numpy(), model.w.numpy())
    np.testing.assert_allclose(theirs(tf.ones((1, 2)))["y"], model(x)["y"])
    assert set(theirs.signatures) == {"serving_default", "two"}
    assert theirs.signatures["two"](a=tf.constant(3.0), b=tf.constant(1.0))["output_0"] == 2
    assert theirs.state[0].numpy() == 2**40
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(theirs(tf.ones((1, 2)))["y"] ** 2)
    assert tape.gradient(value, theirs.w) is not None


def test_transformations(directory) -> None:
    model = load(directory)
    x = jnp.ones((3, 2))
    np.testing.assert_array_equal(jax.jit(lambda x: model(x)["y"])(x), model(x)["y"])
    gradient = jax.grad(lambda x: model(x)["y"].sum())(x)
    np.testing.assert_array_equal(gradient, [[1, 2]] * 3)
    mapped = jax.vmap(lambda row: model(row[None])["y"][0])(x)
    np.testing.assert_array_equal(mapped, model(x)["y"])


def variant(tmp_path: Any, name: str, summand: float) -> str:
    """Saves a model whose functions have the names of all variants, and differ deep inside."""

    class Variant(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.v = tf.Variable(summand)

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
        def deepest(self, x):
            return x + summand

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
        def deep(self, x):
            return self.deepest(x)

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
        def __call__(self, x):
            return self.deep(x) * self.v

    path = str(tmp_path / name)
    tf.saved_model.save(Variant(), path)
    data = (tmp_path / name / "saved_model.pb").read_bytes()
    proto = sv.protos.parse(sv.protos.SavedModel, data, "")
    # Equal numbers in the names, as models from two processes have them.
    text = sv.protos.to_text(proto)
    import re

    numbers: dict[str, str] = {}
    text = re.sub(
        r"(__inference_\w+?_)(\d+)\b",
        lambda m: m[1] + numbers.setdefault(m[0], str(len(numbers))),
        text,
    )
    proto = sv.protos.parse_text(sv.protos.SavedModel, text.encode(), "")
    (tmp_path / name / "saved_model.pb").write_bytes(sv.protos.serialize(proto))
    (tmp_path / name / "fingerprint.pb").unlink()
    return path


def test_models_with_equal_function_names_inside_one_object(tmp_path) -> None:
    first, second = variant(tmp_path, "a", 2.0), variant(tmp_path, "b", 5.0)
    module = sv.Module()
    module.a, module.b, module.a_again = load(first), load(second), load(first)
    module.a_again.v.assign(10.0)
    module.sum = sv.function(
        lambda x: module.a(x) + module.b(x), input_signature=[sv.TensorSpec([], sv.float32)]
    )
    want = {"a": (1 + 2) * 2, "b": (1 + 5) * 5, "a_again": (1 + 2) * 10, "sum": 6 + 30}
    save(module, tmp_path / "m")
    theirs, ours = tf.saved_model.load(str(tmp_path / "m")), load(tmp_path / "m")
    for name, value in want.items():
        assert float(getattr(theirs, name)(tf.constant(1.0))) == value
        assert float(getattr(ours, name)(jnp.float32(1))) == value
    assert float(theirs.signatures["serving_default"](x=tf.constant(1.0))["output_0"]) == 36
    assert float(theirs.b.deep(tf.constant(1.0))) == 6


def test_a_checkpoint_as_root(tmp_path) -> None:
    checkpoint = tf.train.Checkpoint(model=Model(), step=tf.Variable(3))
    checkpoint.save(str(tmp_path / "ck"))
    tf.saved_model.save(checkpoint, str(tmp_path / "m"))
    model = load(tmp_path / "m")
    assert model.step.numpy() == 3
    assert model.save_counter.numpy() == 1
    np.testing.assert_array_equal(model.model(jnp.ones((1, 2)))["y"], [[1, 2]])
    fresh = sv.train.Checkpoint(step=sv.Variable(0))
    fresh.restore(tmp_path / "m").expect_partial()
    assert fresh.step.numpy() == 3


def test_tables_are_saved_again(tmp_path) -> None:
    module = tf.Module()
    keys = tf.lookup.KeyValueTensorInitializer(["a"], [1])
    module.table = tf.lookup.StaticHashTable(keys, -1)
    module.v = tf.Variable(2.0)
    spec = [tf.TensorSpec([None], tf.string)]
    module.look = tf.function(module.table.lookup, input_signature=spec)
    module.f = tf.function(lambda: module.v * 2, input_signature=[])
    tf.saved_model.save(module, str(tmp_path / "m"))
    loaded = load(tmp_path / "m")
    assert loaded.f() == 4
    save(loaded, tmp_path / "again")
    words = np.array([b"a", b"b"], object)
    assert load(tmp_path / "again").look(words).tolist() == [1, -1]
    theirs = tf.saved_model.load(str(tmp_path / "again"))
    assert theirs.look(tf.constant(words)).numpy().tolist() == [1, -1]


def test_keras_model_as_an_attribute(tmp_path) -> None:
    layer = tf.keras.layers.Dense(2)
    layer.build((None, 3))
    module = tf.Module()
    module.layer = layer
    spec = [tf.TensorSpec([None, 3], tf.float32)]
    module.f = tf.function(lambda x: layer(x), input_signature=spec)
    tf.saved_model.save(module, str(tmp_path / "m"))
    loaded = load(tmp_path / "m")
    x = np.ones((1, 3), np.float32)
    np.testing.assert_allclose(loaded.f(x), layer(x), rtol=1e-6)
    save(loaded, tmp_path / "again")
    theirs = tf.saved_model.load(str(tmp_path / "again"))
    np.testing.assert_allclose(theirs.f(x), layer(x), rtol=1e-6)


def test_an_edited_model_is_loaded_with_a_warning(directory, tmp_path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    proto = sv.protos.parse(sv.protos.SavedModel, (copy / "saved_model.pb").read_bytes(), "")
    for function in proto.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "Mul":
                node.op = "AddV2"
    (copy / "saved_model.pb").write_bytes(sv.protos.serialize(proto))
    with pytest.warns(ModelChangedWarning, match="changed after fingerprint"):
        model = load(copy)
    np.testing.assert_array_equal(model(jnp.ones((1, 2)))["y"], [[2, 3]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(model, copy)
        load(copy)


def _edited(path, edit) -> None:
    """Changes the object graph of a model."""
    file = path / "saved_model.pb"
    model = savax.protos.SavedModel.FromString(file.read_bytes())
    edit(model.meta_graphs[0].object_graph_def)
    file.write_bytes(model.SerializeToString())
    (path / "fingerprint.pb").unlink()


def test_signatures_without_parameters(directory, tmp_path) -> None:
    """Early versions of TensorFlow 2 wrote no parameters for the functions of signatures."""
    path = tmp_path / "model"
    shutil.copytree(directory, path)

    def forget_parameters(objects: Any) -> None:
        bare = [node.bare_concrete_function for node in objects.nodes]
        described = [function for function in bare if function.HasField("function_spec")]
        assert described
        for function in described:
            function.ClearField("function_spec")

    _edited(path, forget_parameters)
    model = load(path)
    expected = tf.saved_model.load(str(path)).signatures["two"](a=tf.constant(3.0), b=2.0)
    for result in (model.signatures["two"](a=3.0, b=2.0), model.signatures["two"](3.0, 2.0)):
        assert result.keys() == expected.keys()
        np.testing.assert_array_equal(*result.values(), *expected.values())
    np.testing.assert_array_equal(
        model.signatures["serving_default"](x=[[1.0, 1.0]])["y"], [[1, 2]]
    )
    save(model, tmp_path / "again")
    again = tf.saved_model.load(str(tmp_path / "again"))
    assert float(*again.signatures["two"](a=tf.constant(3.0), b=tf.constant(2.0)).values()) == 1.0


class _Pruned(tf.Module):
    """A function of a graph of version 1, and parts that are cut out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.v = tf.Variable([2.0, 3.0])
        specs = [tf.TensorSpec([None, 2], name="z"), tf.TensorSpec([], tf.int64, name="a")]
        self.whole = tf.compat.v1.wrap_function(self._compute, specs)
        fetches = self.whole.structured_outputs
        self.cut = self.whole.prune(self.whole.inputs[:2], {"sum": fetches["sum"]})
        self.one = self.whole.prune([self.whole.inputs[0]], fetches["double"])

    def _compute(self, z, a):
        return {"sum": z * self.v + tf.cast(a, tf.float32), "double": z * 2.0}


def test_functions_that_were_cut_out_of_a_graph(tmp_path) -> None:
    """TensorFlow stores no input signature for them."""
    original = _Pruned()
    tf.saved_model.save(original, str(tmp_path / "model"))
    model = load(tmp_path / "model")
    save(model, tmp_path / "again")
    z, a = np.float32([[1, 2], [3, 4]]), np.int64(5)
    expected = original.cut(z=tf.constant(z), a=tf.constant(a))["sum"]
    for loaded in (model, tf.saved_model.load(str(tmp_path / "again"))):
        given = (z, a) if loaded is model else (tf.constant(z), tf.constant(a))
        np.testing.assert_array_equal(loaded.cut(*given)["sum"], expected)
        np.testing.assert_array_equal(loaded.cut(z=given[0], a=given[1])["sum"], expected)
        np.testing.assert_array_equal(loaded.whole(*given)["sum"], expected)
        np.testing.assert_array_equal(loaded.one(given[0]), 2 * z)
    assert model.cut.structured_input_signature[0][0] == sv.TensorSpec([None, 2], name="z")
    np.testing.assert_array_equal(model.cut(z[:0], a)["sum"], z[:0])
    with pytest.raises(SignatureMismatchError, match="pruned"):
        model.cut(z)


@pytest.mark.parametrize("dtype", [0, 12345])
def test_functions_of_a_graph_with_unknown_types_are_refused(dtype, tmp_path) -> None:
    path = tmp_path / "model"
    tf.saved_model.save(_Pruned(), str(path))
    file = path / "saved_model.pb"
    proto = savax.protos.SavedModel.FromString(file.read_bytes())
    for function in proto.meta_graphs[0].graph_def.library.function:
        if "pruned" in function.signature.name:
            function.signature.input_arg[0].type = dtype
    file.write_bytes(proto.SerializeToString())
    (path / "fingerprint.pb").unlink()
    with pytest.raises(savax.errors.CorruptSavedModelError, match="pruned"):
        load(path)
