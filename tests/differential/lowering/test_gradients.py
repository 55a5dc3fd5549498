"""TensorFlow differentiates what savax wrote as JAX differentiates the program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import savax  # noqa: E402
from savax.saved_model import load, save  # noqa: E402
from tests.gradient_programs import PROGRAMS, X, own_exponential, pair  # noqa: E402

pytestmark = pytest.mark.tf

# Those whose gradient is a function of the model, so that savax has to find it when it loads.
REGISTERED = (
    *("custom_jvp", "custom_root", "custom_vjp_that_calls_itself", "solve_by_products"),
    *("solve_one_matrix_for_many", "solve_positive", "special_at_zero"),
)


def _exported(programs):
    module = savax.Module()
    for name, (fn, *args) in programs.items():
        specs = [savax.TensorSpec(np.shape(arg), np.asarray(arg).dtype.name) for arg in args]
        setattr(module, name, _function(fn, specs))
    return module


def _function(fn, specs):
    def program(*args):
        return jax.tree.leaves(fn(*args))

    return savax.function(program, input_signature=specs)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("gradients") / "model")
    save(_exported(PROGRAMS), path)
    return path


@pytest.fixture(scope="module")
def in_tensorflow(directory):
    return tf.saved_model.load(directory)


@pytest.fixture(scope="module")
def again(directory):
    return load(directory)


def _floats(args):
    return [i for i, arg in enumerate(args) if np.asarray(arg).dtype.kind == "f"]


def _jax_gradients(fn, args):
    def loss(*args):
        leaves = [x for x in jax.tree.leaves(fn(*args)) if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum((i + 1) * jnp.sin(x).sum() for i, x in enumerate(leaves))

    arrays = [jnp.asarray(arg) for arg in args]
    return [np.asarray(g) for g in jax.jit(jax.grad(loss, argnums=_floats(args)))(*arrays)]


def _tensorflow_gradients(fn, args):
    tensors = [tf.constant(arg) for arg in args]
    wanted = [tensors[i] for i in _floats(args)]
    with tf.GradientTape() as tape:
        tape.watch(wanted)
        leaves = [x for x in tf.nest.flatten(fn(*tensors)) if x.dtype.is_floating]
        loss = tf.add_n([(i + 1) * tf.reduce_sum(tf.sin(x)) for i, x in enumerate(leaves)])
    found = tape.gradient(loss, wanted, unconnected_gradients="zero")
    return [tf.convert_to_tensor(gradient).numpy() for gradient in found]


def _assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        scale = np.abs(b).max() or 1
        np.testing.assert_allclose(a / scale, b / scale, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("name", PROGRAMS)
def test_tensorflow_has_the_gradients_of_jax(in_tensorflow, name):
    fn, *args = PROGRAMS[name]
    found = _tensorflow_gradients(getattr(in_tensorflow, name), args)
    _assert_close(found, _jax_gradients(fn, args))


@pytest.mark.parametrize("name", REGISTERED)
def test_what_savax_loads_has_them_too(again, name):
    fn, *args = PROGRAMS[name]
    _assert_close(_jax_gradients(getattr(again, name), args), _jax_gradients(fn, args))


def _second_derivative(fn):
    x = tf.constant(X)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tf.reduce_sum(fn(x) ** 2)
        first = inner.gradient(y, x)
        loss = tf.reduce_sum(tf.sin(first))
    return outer.gradient(loss, x)


def test_two_derivatives_are_saved_and_a_third_is_refused(tmp_path):
    def fn(x):
        return own_exponential(x) * x

    def first(x):
        return jax.grad(lambda x: (fn(x) ** 2).sum())(x)

    save(_exported({"f": (fn, X)}), tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    expected = jax.grad(lambda x: jnp.sin(first(x)).sum())(X)
    f = loaded.f
    np.testing.assert_allclose(_second_derivative(lambda x: f(x)[0]), expected, rtol=1e-4)

    def once(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = f(x)[0]
        return tape.gradient(y, x)

    with pytest.raises(LookupError, match="holds 2 derivatives"):
        _second_derivative(once)


def test_a_derivative_of_ones_own_in_a_loop_is_refused_by_tensorflow(tmp_path):
    def fn(x):
        return jax.lax.scan(lambda c, row: (pair(c, row)[0], c), jnp.ones(5), x)

    save(_exported({"f": (fn, X)}), tmp_path / "model")
    f = tf.saved_model.load(str(tmp_path / "model")).f
    np.testing.assert_allclose(f(X)[0], fn(X)[0], rtol=1e-5)
    with pytest.raises(TypeError, match="out of scope"):
        _tensorflow_gradients(f, [X])
    _assert_close(_jax_gradients(load(tmp_path / "model").f, [X]), _jax_gradients(fn, [X]))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_activations_are_ops_and_pass_nan(tmp_path, dtype):
    x = jnp.array([np.nan, -1, 0, 3, 7, np.inf, -np.inf], dtype)

    def fn(x):
        return jax.nn.relu(x), jax.nn.relu6(x)

    save(_exported({"f": (fn, x)}), tmp_path / "model")
    for have, want in zip(tf.saved_model.load(str(tmp_path / "model")).f(x), fn(x), strict=True):
        np.testing.assert_array_equal(np.float32(have), np.float32(want))
    with open(tmp_path / "model/saved_model.pb", "rb") as file:
        library = savax.protos.SavedModel.FromString(file.read()).meta_graphs[0].graph_def.library
    ops = {node.op for function in library.function for node in function.node_def}
    assert {"Relu", "Relu6"} <= ops
    assert not {"Maximum", "IdentityN"} & ops


def test_a_function_of_ones_own_named_as_an_activation_keeps_its_derivative(tmp_path):
    @jax.custom_jvp
    def relu(x):
        return jnp.maximum(x, 0.0)

    relu.defjvp(lambda primals, tangents: (relu(*primals), tangents[0] * 3))
    save(_exported({"f": (relu, X)}), tmp_path / "model")
    f = tf.saved_model.load(str(tmp_path / "model")).f
    _assert_close(_tensorflow_gradients(f, [X]), [3 * np.cos(np.maximum(X, 0))])
