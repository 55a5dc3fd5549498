"""Objects go to TensorFlow and back: attributes, containers, files, functions and their calls."""

from __future__ import annotations

import collections
import os
import shutil
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import savax as sv
from savax.errors import NotFoundError, SignatureMismatchError
from savax.protos import SavedModel, parse

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tf

Pair = collections.namedtuple("Pair", "x y")
NUMBERS = (
    *("float32", "float64", "float16", "bfloat16", "float8_e5m2", "float8_e4m3fn"),
    *("int8", "int16", "int32", "int64", "int4", "uint8", "uint16", "uint32", "uint64", "uint4"),
    *("bool", "complex64", "complex128"),
)


def both(module: Any, directory: Any, signatures: Any = None) -> tuple[Any, Any]:
    """Saves a module; returns it as TensorFlow and as savax load it."""
    sv.saved_model.save(module, directory, signatures)
    return tf.saved_model.load(str(directory)), sv.saved_model.load(directory)


def test_variables_of_every_dtype(tmp_path) -> None:
    module = sv.Module()
    for name in NUMBERS:
        values = np.array([[0, 1, 1], [1, 0, 3]]).astype(sv.as_dtype(name).numpy_dtype)
        setattr(module, name, sv.Variable(values, name=name))
    module.text = sv.Variable(np.array([b"a", b"", "ü".encode()], dtype=object))
    module.empty = sv.Variable(np.zeros((0, 3), np.float32))
    for model in both(module, tmp_path / "m"):
        for name in (*NUMBERS, "text", "empty"):
            want, got = getattr(module, name).numpy(), getattr(model, name).numpy()
            assert got.dtype == want.dtype, name
            np.testing.assert_array_equal(got, want, err_msg=name)


def test_properties_of_variables(tmp_path) -> None:
    module = sv.Module()
    module.fixed = sv.Variable(1.0, trainable=False, name="fixed")
    module.growing = sv.Variable(np.zeros((2, 3), np.float32), shape=(None, 3))
    module.mean = sv.Variable(
        1.0,
        synchronization=sv.VariableSynchronization.ON_READ,
        aggregation=sv.VariableAggregation.MEAN,
    )
    theirs, ours = both(module, tmp_path / "m")
    assert theirs.fixed.name == "fixed:0"
    assert ours.fixed.name == "fixed"
    for model in (theirs, ours):
        assert not model.fixed.trainable
        assert tuple(model.growing.shape) == (None, 3)
        assert not model.mean.trainable
        assert int(model.mean.aggregation.value) == 2
        assert int(model.mean.synchronization.value) == 3


def test_containers_shared_objects_and_cycles(tmp_path) -> None:
    module = sv.Module()
    v = [sv.Variable(float(i), name="same") for i in range(8)]
    module.list = [v[0], v[1], 3, [v[2]]]
    module.dict = {"a": v[3], "b": {"c": v[4]}, "n": 5}
    module.tuple = (v[5], 1)
    module.pair = Pair(v[6], v[7])
    module.plain, module.nothing = [1, 2], None
    module.shared, module.again = module.list, v[0]
    module.child = sv.Module()
    module.child.parent = module
    module.ordered = collections.OrderedDict(z=v[0], y=v[1])
    theirs, ours = both(module, tmp_path / "m")
    sv.saved_model.save(ours, tmp_path / "again")
    for model in (theirs, ours, tf.saved_model.load(str(tmp_path / "again"))):
        assert [model.list[0].numpy(), model.list[1].numpy(), model.list[3][0].numpy()] == [0, 1, 2]
        assert [model.dict["a"].numpy(), model.dict["b"]["c"].numpy()] == [3, 4]
        assert model.tuple[0].numpy() == 5
        assert [element.numpy() for element in model.pair] == [6, 7]
        assert list(model.plain) == []
        assert model.shared is model.list
        assert model.again is model.list[0]
        assert model.child.parent is model
        assert model.ordered["z"] is model.again


class Functions(sv.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rate = sv.Variable(2.0, name="rate")

    @sv.function
    def poly(self, x, scale=1, *, mode="a", flag=False):
        return {"r": x * self.rate * scale + (1 if mode == "a" else 2), "n": None}

    @sv.function
    def nested(self, d, pair):
        return [d["a"] + pair[0], (pair[1], {"z": d["a"]})]

    @sv.function
    def count(self, n=3):
        return jnp.arange(n)

    @sv.function
    def never(self, x):
        return x

    @sv.function
    def add(self, x):
        self.rate.assign_add(x)
        return self.rate.value

    @sv.function
    def assign(self, x):
        self.rate.assign(x)


CALLS = {
    "first": lambda m, c: m.poly(c([1, 1])),
    "default_given": lambda m, c: m.poly(c([1, 1]), 1),
    "keyword": lambda m, c: m.poly(c([1, 1, 1]), scale=2),
    "keyword_only": lambda m, c: m.poly(c([1, 1]), mode="b"),
    "all": lambda m, c: m.poly(c(1), 5, mode="c", flag=True),
    "by_name": lambda m, c: m.poly(x=c([1, 1])),
    "nested": lambda m, c: m.nested({"a": c([1, 1])}, [c([2, 2]), c(3)]),
    "static": lambda m, c: m.count(),
    "static_given": lambda m, c: m.count(5),
    "static_by_name": lambda m, c: m.count(n=5),
    "add": lambda m, c: m.add(c(1)),
    "assign": lambda m, c: (m.assign(c(9)), m.rate.numpy()),
}
REFUSED_CALLS = {
    "shape": lambda m, c: m.poly(c([1, 1, 1, 1])),
    "value": lambda m, c: m.poly(c([1, 1]), mode="z"),
    "too_many": lambda m, c: m.poly(c(1), 2, 3, 4),
    "unknown": lambda m, c: m.poly(c(1), other=2),
    "missing": lambda m, c: m.nested({"a": c([1, 1])}),
    "never_traced": lambda m, c: m.never(c(1)),
}


def trace_all(module: Any, c: Any) -> None:
    module.poly(c([1, 1]))
    module.poly(c([1, 1, 1]), scale=2)
    module.poly(c([1, 1]), mode="b")
    module.poly(c(1), 5, mode="c", flag=True)
    module.nested({"a": c([1, 1])}, [c([2, 2]), c(3)])
    module.count()
    module.count(5)
    module.add(c(0))
    module.assign(c(2))


class TheirFunctions(tf.Module):
    """The same model in TensorFlow."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = tf.Variable(2.0, name="rate")

    @tf.function
    def poly(self, x, scale=1, *, mode="a", flag=False):
        return {"r": x * self.rate * scale + (1 if mode == "a" else 2), "n": None}

    @tf.function
    def nested(self, d, pair):
        return [d["a"] + pair[0], (pair[1], {"z": d["a"]})]

    @tf.function
    def count(self, n=3):
        return tf.range(n)

    @tf.function
    def never(self, x):
        return x

    @tf.function
    def add(self, x):
        self.rate.assign_add(x)
        return self.rate.read_value()

    @tf.function
    def assign(self, x):
        self.rate.assign(x)


def their_constant(value: Any) -> Any:
    return tf.constant(value, tf.float32)


def our_constant(value: Any) -> Any:
    return jnp.asarray(value, jnp.float32)


@pytest.fixture(scope="module")
def function_models(tmp_path_factory):
    """Directories with the model as savax wrote it, as TensorFlow did, and written again."""
    directory = tmp_path_factory.mktemp("functions")
    ours, theirs = Functions(), TheirFunctions()
    trace_all(ours, our_constant)
    trace_all(theirs, their_constant)
    sv.saved_model.save(ours, directory / "savax")
    tf.saved_model.save(theirs, str(directory / "tensorflow"))
    for writer in ("savax", "tensorflow"):
        sv.saved_model.save(sv.saved_model.load(directory / writer), directory / f"{writer}_again")
    return directory


WRITERS = ("savax", "tensorflow", "savax_again", "tensorflow_again")


def plain(value: Any) -> Any:
    leaves = tf.nest.map_structure(lambda x: x if x is None else np.asarray(x).tolist(), value)
    return leaves if not isinstance(leaves, tuple) else list(leaves)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("writer", WRITERS)
def test_calls_of_loaded_functions(writer, call, function_models) -> None:
    original = Functions()
    trace_all(original, our_constant)
    want = plain(CALLS[call](original, our_constant))
    path = str(function_models / writer)
    assert plain(CALLS[call](sv.saved_model.load(path), our_constant)) == want
    assert plain(CALLS[call](tf.saved_model.load(path), their_constant)) == want


@pytest.mark.parametrize("writer", WRITERS)
def test_calls_that_no_trace_fits_are_refused(writer, function_models) -> None:
    path = str(function_models / writer)
    ours, theirs = sv.saved_model.load(path), tf.saved_model.load(path)
    for name, call in REFUSED_CALLS.items():
        with pytest.raises((ValueError, TypeError)) as their_error:
            call(theirs, their_constant)
        with pytest.raises(SignatureMismatchError):
            call(ours, our_constant)
        assert issubclass(SignatureMismatchError, their_error.type), name


@pytest.mark.parametrize("writer", WRITERS)
def test_python_values_stand_for_tensors(writer, function_models) -> None:
    for t in (tf, sv):
        model = t.saved_model.load(str(function_models / writer))
        assert np.asarray(model.poly([1.0, 2.0])["r"]).tolist() == [3, 5]
        assert float(model.poly(1.0, 5, mode="c", flag=True)["r"]) == 12
        assert float(model.add(2)) == 4


def test_parameters_survive(function_models) -> None:
    for writer in WRITERS:
        spec = sv.saved_model.load(function_models / writer).poly.function_spec
        assert spec.args == ("x", "scale")
        assert spec.defaults == (1,)
        assert dict(spec.kwonlydefaults) == {"mode": "a", "flag": False}
        assert spec.input_signature is None


def test_concrete_functions_as_attributes(tmp_path) -> None:
    module = sv.Module()
    f = sv.function(lambda x, n=2: {"y": x * n})
    module.doubled = f.get_concrete_function(sv.TensorSpec([None], sv.float32))
    theirs, ours = both(module, tmp_path / "m")
    assert theirs.doubled(tf.constant([1.0]))["y"].numpy() == [2]
    assert ours.doubled(np.ones(1, np.float32))["y"].tolist() == [2]
    assert list(ours.signatures) == ["serving_default"]


@pytest.mark.parametrize("wish", [None, True, False])
def test_jit_compile(wish, tmp_path) -> None:
    for t, name in ((tf, "theirs"), (sv, "ours")):
        module = t.Module()
        spec = [t.TensorSpec([], t.float32)]
        module.f = t.function(lambda x: x + 1, input_signature=spec, jit_compile=wish)
        t.saved_model.save(module, str(tmp_path / name))
    found = []
    for name in ("theirs", "ours"):
        data = (tmp_path / name / "saved_model.pb").read_bytes()
        graph = parse(SavedModel, data, "").meta_graphs[0]
        function = next(n for n in graph.object_graph_def.nodes if n.HasField("function")).function
        definitions = {f.signature.name: f for f in graph.graph_def.library.function}
        attrs = definitions[function.concrete_functions[0]].attr
        kept = {key: attrs[key].b for key in ("_XlaMustCompile", "_noinline") if key in attrs}
        found.append((kept, function.function_spec.jit_compile))
        assert sv.saved_model.load(tmp_path / name).f.function_spec.jit_compile is wish
        assert tf.saved_model.load(str(tmp_path / name)).f(tf.constant(1.0)) == 2
    assert found[0] == found[1]


def test_large_captured_arrays_are_stored_once(tmp_path) -> None:
    big = np.arange(150 * 150, dtype=np.float32).reshape(150, 150)
    module = sv.Module()
    for name in ("f", "g"):
        spec = sv.TensorSpec([None, 150], sv.float32)
        setattr(module, name, sv.function(lambda x: x @ big, input_signature=[spec]))
    theirs, ours = both(module, tmp_path / "m")
    x = np.ones((2, 150), np.float32)
    for model in (theirs, ours):
        np.testing.assert_allclose(model.f(x), x @ big, rtol=1e-5)
    assert os.path.getsize(tmp_path / "m" / "saved_model.pb") < 2 * big.nbytes
    sv.saved_model.save(ours, tmp_path / "again")
    np.testing.assert_allclose(tf.saved_model.load(str(tmp_path / "again")).g(x), x @ big, 1e-5)


def make_file(path: Any, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def test_assets(tmp_path) -> None:
    module = sv.Module()
    for name, text in {"a": "one", "b": "two", "c": "one", "d": "three"}.items():
        path = make_file(tmp_path / name / "vocab.txt", text)
        setattr(module, name, sv.saved_model.Asset(path))
    module.same = sv.saved_model.Asset(module.b.asset_path)
    theirs, ours = both(module, tmp_path / "m")
    want = {"a": "one", "b": "two", "c": "one", "d": "three", "same": "two"}
    names = ["vocab.txt", "vocab.txt_1", "vocab.txt_2"]
    assert sorted(os.listdir(tmp_path / "m" / "assets")) == names
    sv.saved_model.save(ours, tmp_path / "again")
    sv.saved_model.save(sv.saved_model.load(tmp_path / "m"), tmp_path / "m")  # onto itself
    for directory in ("m", "again"):
        ours = sv.saved_model.load(tmp_path / directory)
        theirs = tf.saved_model.load(str(tmp_path / directory))
        for name, text in want.items():
            path = getattr(ours, name).asset_path
            assert os.path.dirname(path) == str(tmp_path / directory / "assets")
            with open(path) as file:
                assert file.read() == text
            with open(getattr(theirs, name).asset_path.numpy()) as file:
                assert file.read() == text


def test_assets_are_named_as_tensorflow_names_them(tmp_path) -> None:
    ours, theirs = sv.Module(), tf.Module()
    files = {"a/v": "1", "b/v": "2", "c/v_1": "3", "d/v": "4", "e/v": "2"}
    for i, (name, text) in enumerate(files.items()):
        path = make_file(tmp_path / name, text)
        setattr(ours, f"asset{i}", sv.saved_model.Asset(path))
        setattr(theirs, f"asset{i}", tf.saved_model.Asset(path))
    sv.saved_model.save(ours, tmp_path / "ours")
    tf.saved_model.save(theirs, str(tmp_path / "theirs"))
    found = [
        {name: (tmp_path / which / "assets" / name).read_text() for name in os.listdir(
            tmp_path / which / "assets")}
        for which in ("ours", "theirs")
    ]  # fmt: skip
    assert sorted(found[0].values()) == sorted(found[1].values())
    assert found[0].keys() == found[1].keys()


def test_missing_assets_are_all_named(tmp_path) -> None:
    module = sv.Module()
    module.first = sv.saved_model.Asset(tmp_path / "nowhere.txt")
    module.inner = sv.Module()
    module.inner.second = sv.saved_model.Asset(tmp_path)
    with pytest.raises(NotFoundError) as error:
        sv.saved_model.save(module, tmp_path / "m")
    assert "root.first" in str(error.value)
    assert "root.inner.second" in str(error.value)
    assert not (tmp_path / "m").exists()


def test_an_asset_that_a_tensorflow_function_reads(tmp_path) -> None:
    module = tf.Module()
    module.file = tf.saved_model.Asset(make_file(tmp_path / "x.txt", "hello"))
    module.f = tf.function(lambda: tf.io.read_file(module.file.asset_path), input_signature=[])
    tf.saved_model.save(module, str(tmp_path / "m"))
    sv.saved_model.save(sv.saved_model.load(tmp_path / "m"), tmp_path / "again")
    shutil.rmtree(tmp_path / "m")
    assert tf.saved_model.load(str(tmp_path / "again")).f().numpy() == b"hello"
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        found = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "again"))
        output = found.signature_def["serving_default"].outputs["output_0"].name
        assert session.run(output) == b"hello"


def test_nodes_are_of_the_kinds_that_tensorflow_writes(function_models) -> None:
    kinds = []
    for writer in ("savax", "tensorflow"):
        data = (function_models / writer / "saved_model.pb").read_bytes()
        graph = parse(SavedModel, data, "").meta_graphs[0].object_graph_def
        kinds.append(collections.Counter(node.WhichOneof("kind") for node in graph.nodes))
    # TensorFlow traces functions again, with a trace for each signature; constants may differ.
    for counter in kinds:
        del counter["constant"]
    assert kinds[0] == kinds[1]
