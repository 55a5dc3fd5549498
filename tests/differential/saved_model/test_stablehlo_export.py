"""Functions that are saved as StableHLO modules: TensorFlow computes what JAX computes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import savax  # noqa: E402
from savax.errors import InvalidArgumentError, UnsupportedError  # noqa: E402
from savax.protos import SavedModel  # noqa: E402
from savax.saved_model import SaveOptions, load, save  # noqa: E402
from savax.saved_model.cli import main  # noqa: E402
from tests.tensorflow_c_api import CApiModel  # noqa: E402

pytestmark = pytest.mark.tf

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
CPU = savax.StableHLO(platforms=["cpu"])


class _Model(savax.Module):
    """Reads and assigns Variables, one of them in a loop, and has a large hidden constant."""

    def __init__(self):
        self.w = savax.Variable(np.arange(6, dtype=np.float32).reshape(3, 2) / 10, name="w")
        self.steps = savax.Variable(np.float32(0), name="steps")
        self._table = np.random.default_rng(0).normal(size=(3, 20000)).astype(np.float32)

    @savax.function(input_signature=[savax.TensorSpec(["b", 3])], lowering="stablehlo")
    def serve(self, x):
        def body(_, total):
            self.steps.assign_add(1.0)
            return total + jnp.float32(1)

        three = jax.lax.fori_loop(0, 3, body, jnp.float32(0))
        return {
            "flat": jnp.tanh(x @ self.w).reshape(-1),
            "order": jnp.argsort(x, axis=-1),
            "total": jnp.sum((x @ self._table) ** 2) * 1e-3 + three * x.shape[0],
        }


def _loss(x, w, table):
    return jnp.tanh(x @ w).sum() + 2 * jnp.sum((x @ table) ** 2) * 1e-3


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("stablehlo") / "model")
    model = _Model()
    save(model, directory, signatures=model.serve)
    return model, directory


def _modules(directory):
    """Returns the XlaCallModule nodes of a model by the names of their functions."""
    with open(f"{directory}/saved_model.pb", "rb") as file:
        proto = SavedModel.FromString(file.read())
    return {
        function.signature.name: node
        for function in proto.meta_graphs[0].graph_def.library.function
        for node in function.node_def
        if node.op == "XlaCallModule"
    }


def _check(found, model, x):
    expected = model.serve(x)
    assert {name: value.dtype for name, value in found.items()} == {
        name: value.dtype for name, value in expected.items()
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_tensorflow_runs_the_module_at_any_batch(exported) -> None:
    model, directory = exported
    loaded = tf.saved_model.load(directory)
    for number, x in enumerate((X, X[:2], X[:0]), start=1):
        found = loaded.serve(tf.constant(x))
        _check({name: value.numpy() for name, value in found.items()}, model, x)
        assert loaded.steps.numpy() == 3 * number
    (node,) = [node for name, node in _modules(directory).items() if "serve" in name]
    assert list(node.attr["platforms"].list.s) == [b"CPU", b"CUDA", b"TPU"]


def test_concrete_functions_and_the_command_line_tell_the_modules(exported, capsys) -> None:
    model, directory = exported
    (ours,) = model.serve.get_concrete_function().compiled_modules()
    (theirs,) = load(directory).serve.concrete_functions[0].compiled_modules()
    for module in (ours, theirs):
        assert (module.node, module.platforms) == ("serve", ("cpu", "cuda", "tpu"))
        assert module.stablehlo_version == "1.0.0"
    assert load(directory).signatures["serving_default"].compiled_modules() == (theirs,)
    assert main(["show", directory]) == 0
    assert "compiled module 'serve' for cpu, cuda, tpu, StableHLO 1.0.0" in capsys.readouterr().out


def test_sessions_and_the_c_api_run_the_module(exported) -> None:
    model, directory = exported
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], directory)
        signature = graph.signature_def["serving_default"]
        outputs = {name: info.name for name, info in signature.outputs.items()}
        _check(session.run(outputs, {signature.inputs["x"].name: X}), model, X)
    _check(CApiModel(directory).run({"x": X}), model, X)


def test_tensorflow_differentiates_the_module_as_jax_does(exported) -> None:
    model, directory = exported
    assert any("module_gradient" in name for name in _modules(directory))
    loaded = tf.saved_model.load(directory)
    with tf.GradientTape() as tape:
        x = tf.constant(X)
        tape.watch(x)
        found = loaded.serve(x)
        loss = tf.reduce_sum(found["flat"]) + 2 * found["total"]
    expected = jax.grad(_loss, (0, 1))(X, np.asarray(model.w), model._table)
    for have, want in zip(tape.gradient(loss, [x, loaded.w]), expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)


def test_savax_runs_and_differentiates_its_own_module(exported) -> None:
    model, directory = exported
    loaded = load(directory)
    for x in (X, X[:0]):
        _check({name: np.asarray(value) for name, value in loaded.serve(x).items()}, model, x)
    assert loaded.steps.numpy() == 6

    def loss(x):
        found = loaded.serve(x)
        return found["flat"].sum() + 2 * found["total"]

    (of_x,), of_w = savax.grad(loss, variables=[loaded.w], argnums=(0,))(X)
    expected = jax.grad(_loss, (0, 1))(X, np.asarray(model.w), model._table)
    np.testing.assert_allclose(of_x, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_w[0], expected[1], rtol=1e-4, atol=1e-5)


def _saved(tmp_path, fn, spec, options=None, **wishes):
    module = savax.Module()
    module.f = savax.function(fn, input_signature=[spec], **wishes)
    save(module, str(tmp_path / "m"), options=options)
    return str(tmp_path / "m")


SPEC = savax.TensorSpec([None, 3])


@pytest.mark.parametrize(
    ("wishes", "options"),
    [
        ({"lowering": savax.StableHLO(platforms=["cpu"], gradients=False)}, None),
        ({"lowering": CPU}, SaveOptions(experimental_custom_gradients=False)),
    ],
)
def test_tensorflow_refuses_derivatives_that_werent_wanted(tmp_path, wishes, options) -> None:
    loaded = tf.saved_model.load(_saved(tmp_path, jnp.tanh, SPEC, options, **wishes))
    x = tf.constant(X)
    np.testing.assert_allclose(loaded.f(x), np.tanh(X), rtol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(x)
        with pytest.raises(LookupError, match="XlaCallModule"):
            tape.gradient(loaded.f(x), x)


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """Returns the directory of a model with second derivatives, and its function in JAX."""
    module = savax.Module()
    module.w = savax.Variable(np.array([0.5, -1.5, 2.0], np.float32), name="w")

    @jax.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (5 * g * x**2,))  # 5, as a sign of itself

    def function(x, w):
        return jnp.sin(cube(x) * w) @ w

    module.f = savax.function(
        lambda x: function(x, module.w.value),
        input_signature=[SPEC],
        lowering=savax.StableHLO(platforms=["cpu"], gradients=2),
    )
    directory = str(tmp_path_factory.mktemp("twice") / "model")
    save(module, directory)
    return directory, function


def _penalty(function):
    """Returns a function with the squared gradients of a function's sum."""

    def penalty(x, w):
        of_x, of_w = jax.grad(lambda x, w: function(x, w).sum(), (0, 1))(x, w)
        return (of_x**2).sum() + (of_w**2).sum()

    return penalty


@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "graph"])
def test_tensorflow_differentiates_a_module_twice(twice, in_graph) -> None:
    directory, function = twice
    loaded = tf.saved_model.load(directory)

    def gradients(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                total = tf.reduce_sum(loaded.f(x))
            of_x, of_w = inner.gradient(total, [x, loaded.w])
            penalty = tf.reduce_sum(of_x**2) + tf.reduce_sum(of_w**2)
        return of_x, of_w, *outer.gradient(penalty, [x, loaded.w])

    found = (tf.function(gradients) if in_graph else gradients)(tf.constant(X))
    w = loaded.w.numpy()
    first = jax.grad(lambda x, w: function(x, w).sum(), (0, 1))(X, w)
    second = jax.grad(_penalty(function), (0, 1))(X, w)
    for have, want in zip(found, [*first, *second], strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)


def test_savax_differentiates_its_module_twice(twice) -> None:
    directory, function = twice
    loaded = load(directory)
    w = loaded.w.numpy()
    found = jax.grad(lambda x: (jax.grad(lambda x: loaded.f(x).sum())(x) ** 2).sum())(X)
    want = jax.grad(lambda x: (jax.grad(lambda x: function(x, w).sum())(x) ** 2).sum())(X)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


def test_tensorflow_refuses_a_derivative_too_many(twice) -> None:
    loaded = tf.saved_model.load(twice[0])

    def differentiated(function):
        def derivative(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return tape.gradient(y, x)

        return derivative

    x = tf.constant(X)
    second = differentiated(differentiated(loaded.f))
    assert second(x).shape == x.shape
    with pytest.raises(LookupError, match="XlaCallModule"):
        differentiated(second)(x)


def test_functions_choose_and_the_save_decides_for_the_others(tmp_path) -> None:
    module = savax.Module()
    module.a = savax.function(jnp.tanh, input_signature=[SPEC])
    module.b = savax.function(lambda x: x * 2, input_signature=[SPEC], lowering="ops")
    save(module, str(tmp_path / "m"), options=SaveOptions(lowering=CPU))
    (name,) = [name for name in _modules(tmp_path / "m") if "gradient" not in name]
    assert "tanh" in name
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_allclose(loaded.a(X), np.tanh(X), rtol=1e-6)
    np.testing.assert_allclose(loaded.b(X), X * 2)
    assert module.b.get_concrete_function().compiled_modules() == ()


def test_modules_are_written_in_the_version_that_is_wanted(tmp_path) -> None:
    old = savax.StableHLO(platforms=["cpu"], version="0.14.0", gradients=False)
    directory = _saved(tmp_path, lambda x: jnp.sort(x) + x.shape[0], SPEC, lowering=old)
    (node,) = _modules(directory).values()
    assert b"StableHLO_v0.14.0" in node.attr["module"].s
    assert node.attr["version"].i == 8  # what TensorFlow 2.15 reads
    found = tf.saved_model.load(directory).f(tf.constant(X))
    np.testing.assert_allclose(found, np.sort(X) + 4, rtol=1e-6)
    with pytest.raises(UnsupportedError, match=r"gradient can't .* 0\.14\.0.*gradients=False"):
        _saved(
            tmp_path / "top_k",
            lambda x: jax.lax.top_k(x, 2),
            SPEC,
            lowering=savax.StableHLO(version="0.14.0"),
        )
    with pytest.raises(UnsupportedError, match=r"can't be written in StableHLO 99\.0\.0"):
        _saved(tmp_path, jnp.tanh, SPEC, lowering=savax.StableHLO(version="99.0.0"))


def test_dtypes_stay(tmp_path) -> None:
    dtypes = [savax.as_dtype(d) for d in ("float64", "int64", "bfloat16", "bool", "complex64")]
    values = [np.array([[1, 0, 3]]).astype(dtype.numpy_dtype) for dtype in dtypes]

    def flipped(*values):
        return [jnp.flip(x, 1) for x in values], values[1].sum()

    module = savax.Module()
    with jax.enable_x64(True):
        module.f = savax.function(
            flipped, [savax.TensorSpec([None, 3], d) for d in dtypes], lowering=CPU
        )
        save(module, str(tmp_path / "m"))
        expected = jax.tree.leaves(flipped(*map(jnp.asarray, values)))
    found = tf.nest.flatten(tf.saved_model.load(str(tmp_path / "m")).f(*map(tf.constant, values)))
    again = jax.tree.leaves(load(str(tmp_path / "m")).f(*values))
    for tensor, array, want in zip(found, again, expected, strict=True):
        assert tensor.dtype.as_numpy_dtype == array.dtype == want.dtype
        np.testing.assert_array_equal(tensor.numpy(), want)
        np.testing.assert_array_equal(array, want)


def test_operations_that_jax_writes_as_composites_run_at_any_batch(tmp_path) -> None:
    def fn(x):
        return jax.lax.top_k(x, 2), jax.lax.erf(x), jnp.arcsinh(x)

    directory = _saved(tmp_path, fn, SPEC, lowering=savax.StableHLO(gradients=False))
    found = tf.nest.flatten(tf.saved_model.load(directory).f(tf.constant(X)))
    for have, want in zip(found, jax.tree.leaves(fn(X)), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)


def test_loops_without_a_derivative_are_written(tmp_path) -> None:
    def doubled(x):
        return jax.lax.while_loop(lambda y: y.max() < 8, lambda y: 2 * y, x)

    loaded = tf.saved_model.load(_saved(tmp_path, doubled, SPEC, lowering=CPU))
    x = tf.constant(X)
    np.testing.assert_allclose(loaded.f(x), X * 8)
    with tf.GradientTape() as tape:
        tape.watch(x)
        with pytest.raises(LookupError, match="IdentityN"):
            tape.gradient(loaded.f(x), x)


def test_graphs_of_version_1_hold_modules() -> None:
    graph = savax.compat.v1.Graph()
    with graph.as_default():
        x = savax.compat.v1.placeholder("float32", [None, 3], name="x")
        y = graph.add(savax.function(jnp.tanh, lowering=CPU), x, name="y")
    definition = graph.as_graph_def()
    assert "XlaCallModule" in {node.op for node in definition.node}
    theirs = tf.compat.v1.GraphDef.FromString(definition.SerializeToString())
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(theirs, name="")
        with tf.compat.v1.Session(graph=imported) as session:
            found = session.run(y.name, {"x:0": X})
    np.testing.assert_allclose(found, np.tanh(X), rtol=1e-6)


def test_single_primitives_become_modules_where_that_is_allowed(tmp_path) -> None:
    def noisy(x):
        def step(carry, row):
            noise = jax.lax.rng_uniform(jnp.float32(2), jnp.float32(3), (3,))
            return carry + row.sum(), row + noise

        return jax.lax.scan(step, jnp.float32(0), x)

    spec = savax.TensorSpec([None, 3])
    with pytest.raises(UnsupportedError, match="rng_uniform"):
        _saved(tmp_path, noisy, spec)
    directory = _saved(tmp_path, noisy, spec, SaveOptions(fallback=CPU))
    (node,) = _modules(directory).values()
    assert "rng_uniform" in node.name
    for function in (tf.saved_model.load(directory).f, load(directory).f):
        total, rows = function(tf.constant(X) if function.__module__ is None else X)
        np.testing.assert_allclose(total, X.sum(), atol=1e-6)
        noise = np.asarray(rows) - X
        assert ((noise >= 2) & (noise < 3)).all()
        assert len(np.unique(noise)) > 6


def test_exports_are_equal_and_hold_no_paths(tmp_path) -> None:
    found = []
    for name in ("a", "b"):
        directory = _saved(tmp_path / name, lambda x: jnp.tanh(x) @ x.T, SPEC, lowering="stablehlo")
        with open(f"{directory}/saved_model.pb", "rb") as file:
            found.append(file.read())
    assert found[0] == found[1]
    assert __file__.encode() not in found[0]


@pytest.mark.parametrize(
    ("fn", "spec", "message"),
    [
        (lambda x: jnp.linalg.cholesky(x @ x.T), [3, 3], "lapack_spotrf_ffi"),
        (
            lambda x: jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(x.shape, x.dtype), x),
            [3],
            "can't be exported as StableHLO: .*callback",
        ),
        (lambda x: x * 2, None, "arguments of known rank"),
    ],
)
def test_functions_that_have_no_module_are_refused_before_anything_is_written(
    tmp_path, fn, spec, message
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        _saved(tmp_path, fn, savax.TensorSpec(spec), lowering=CPU)
    assert list(tmp_path.iterdir()) == []


def test_strings_have_no_module(tmp_path) -> None:
    with pytest.raises(UnsupportedError, match="handles strings"):
        _saved(tmp_path, savax.strings.length, savax.TensorSpec([None], "string"), lowering=CPU)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: savax.StableHLO(platforms="cpu"), "a list of names"),
        (lambda: savax.StableHLO(platforms=["gpu"]), "platforms are some of cpu, cuda, rocm, tpu"),
        (lambda: savax.StableHLO(platforms=[]), "platforms are some of"),
        (lambda: savax.StableHLO(version="1.2"), "three numbers"),
        (lambda: savax.StableHLO(gradients=3), "a number from 0 to 2"),
        (lambda: savax.StableHLO(gradients="two"), "a number from 0 to 2"),
        (lambda: savax.function(lowering="hlo"), "lowering is 'ops', 'stablehlo' or"),
        (lambda: savax.function(fallback=True), "fallback is 'refuse', 'stablehlo' or"),
        (lambda: SaveOptions(lowering="xla"), "lowering is 'ops', 'stablehlo' or"),
        (lambda: SaveOptions(fallback="ops"), "fallback is 'refuse', 'stablehlo' or"),
    ],
)
def test_other_wishes_are_refused(make, message) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        make()
